//! How a vCPU starts: INIT, and the start-up message that follows it.

use super::lapic::apic_id;
use super::processor::{Processor, Segment, SegmentName, attribute};
use super::state::{HvmState, RESET_XCR0};
use crate::pv::frame::{GuestFrame, rflags};
use crate::pv::state::{FpuLine, reset_fpu};

/// Processor signature that RDX holds after INIT: family 6, as good as any (Intel SDM vol. 3, 10.1.1).
const SIGNATURE: u64 = 0x600;
/// The pages that a start-up message can name.
const PAGE_SHIFT: u32 = 12;

/// Resets a vCPU as INIT does; it then waits for a start-up message, unless it is the first. CR0's caching bits, the FPU and
/// MSRs other than EFER stay in hardware; here the FPU is reset too, which nobody can rely upon.
pub fn init(state: &mut HvmState, regs: &mut GuestFrame) {
    state.processor.reset();
    state.lapic.init();
    state.debug = [0; 4];
    state.xcr0 = RESET_XCR0;
    state.fpu.fill(FpuLine([0; 64]));
    reset_fpu(&mut state.fpu);
    state.nmi_pending = false;
    state.waits_for_start = !state.is_first();
    *regs = GuestFrame {
        rip: 0xfff0,
        rdx: SIGNATURE,
        rflags: rflags::FIXED,
        ..GuestFrame::default()
    };
}

/// Starts a vCPU that waits for it, in real mode at a page below 1 MiB.
pub fn at_page(state: &mut HvmState, regs: &mut GuestFrame, page: u8) {
    let code = Segment {
        selector: u16::from(page) << 8,
        attributes: 0x1b | attribute::P,
        limit: 0xffff,
        base: u64::from(page) << PAGE_SHIFT,
    };
    state.processor.set_segment(SegmentName::Cs, code);
    regs.rip = 0;
    state.waits_for_start = false;
}

impl HvmState {
    /// Whether this is the vCPU that starts without being told to.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.lapic.id() == apic_id(0)
    }
}
