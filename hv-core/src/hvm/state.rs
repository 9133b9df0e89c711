//! Everything that a vCPU in a container is while it does not run. The CPU that runs it takes it out of the vCPU and owns
//! it until it saves.

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use super::block::Block;
use super::lapic::Lapic;
use super::msr::Msrs;
use super::processor::{Processor, Register};
use super::walk::PagingMode;
use crate::cpuid::xstate::{FpuLine, reset_fpu};
use crate::mm::pins::OwedPuts;
use crate::pv::frame::{GuestFrame, rflags};
use crate::pv::state::{StateBox, filled};
use crate::time::Clock;

/// State of a vCPU in a container at rest.
pub struct HvmState {
    /// General registers, rip, rsp and rflags. Segments are the processor's.
    pub regs: GuestFrame,
    /// The rest of its processor's state.
    pub processor: Block,
    /// Its local APIC.
    pub lapic: Lapic,
    /// Its MSRs that the processor does not hold.
    pub msrs: Msrs,
    /// DR0 to DR3.
    pub debug: [u64; 4],
    /// They are in the CPU, and DR7 is as the guest has it.
    pub debug_loaded: bool,
    /// XCR0.
    pub xcr0: u64,
    /// Bits of a physical address, and whether there are pages of 1 GiB, as its CPUID says. Set when the vCPU is loaded.
    pub physical: (u8, bool),
    /// A non-maskable interrupt waits.
    pub nmi_pending: bool,
    /// INIT has reset it, and it waits for a start-up message.
    pub waits_for_start: bool,
    /// Its TSC as a function of system time. Made when the vCPU is loaded.
    pub clock: Option<Clock>,
    /// References whose dropping was interrupted.
    pub owed_puts: OwedPuts,
    /// FPU image; its length is fixed by the machine.
    pub fpu: Vec<FpuLine>,
}

/// XCR0 after a reset: the x87 alone (AMD APM vol. 2, 14.1.3).
pub const RESET_XCR0: u64 = 1;

impl HvmState {
    /// A vCPU as a reset leaves it, that is not running; `fpu_lines` 64-byte lines of FPU image.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn at_reset(
        processor: impl Into<Block>,
        lapic: Lapic,
        fpu_lines: usize,
    ) -> Result<StateBox<Self>, Errno> {
        let mut fpu = filled(FpuLine([0; 64]), fpu_lines)?;
        reset_fpu(&mut fpu);
        StateBox::new(Self {
            regs: GuestFrame {
                rip: 0xfff0,
                rflags: rflags::FIXED,
                ..GuestFrame::default()
            },
            processor: processor.into(),
            lapic,
            msrs: Msrs::default(),
            debug: [0; 4],
            debug_loaded: false,
            xcr0: RESET_XCR0,
            physical: (32, false),
            nmi_pending: false,
            waits_for_start: true,
            clock: None,
            owed_puts: OwedPuts::new(),
            fpu,
        })
    }

    /// How linear addresses are translated now; `rflags` are those of the frame.
    #[must_use]
    pub fn paging(&self, rflags: u64) -> PagingMode {
        PagingMode {
            cr0: self.processor.read(Register::Cr0),
            cr3: self.processor.read(Register::Cr3),
            cr4: self.processor.read(Register::Cr4),
            efer: self.processor.read(Register::Efer),
            rflags,
            pkru: 0,
            address_bits: self.physical.0,
            gigabyte_pages: self.physical.1,
        }
    }
}
