//! Everything that a vCPU in a container is while it does not run, beside what its control block holds.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use crate::base::Mfn;
use crate::mm::pins::OwedPuts;
use crate::pv::frame::GuestFrame;
use crate::pv::state::{FpuLine, StateBox, filled, reset_fpu};

/// State of a vCPU in a container at rest.
pub struct HvmState {
    /// General registers; those that the control block holds too (rax, rip, rsp, rflags) are as of the last exit.
    pub regs: GuestFrame,
    /// The page of its control block (VMCB or VMCS), which holds the rest of the processor's state.
    pub block: Mfn,
    /// DR0 to DR3.
    pub debug: [u64; 4],
    /// XCR0.
    pub xcr0: u64,
    /// References whose dropping was interrupted.
    pub owed_puts: OwedPuts,
    /// FPU image; its length is fixed by the machine.
    pub fpu: Vec<FpuLine>,
}

/// XCR0 after a reset: the x87 alone (AMD APM vol. 2, 14.1.3).
pub const RESET_XCR0: u64 = 1;

impl HvmState {
    /// A vCPU as a reset leaves it, with a control block that the caller has made; `fpu_lines` 64-byte lines of FPU image.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn at_reset(block: Mfn, fpu_lines: usize) -> Result<StateBox<Self>, Errno> {
        let mut fpu = filled(FpuLine([0; 64]), fpu_lines)?;
        reset_fpu(&mut fpu);
        StateBox::new(Self {
            regs: GuestFrame::default(),
            block,
            debug: [0; 4],
            xcr0: RESET_XCR0,
            owed_puts: OwedPuts::new(),
            fpu,
        })
    }
}
