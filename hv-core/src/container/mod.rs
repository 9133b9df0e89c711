//! Running a vCPU in a hardware container: what it is given before each entry, and what is done about each exit.
//!
//! The CPU that runs the vCPU owns its state. Others reach it by its letters ([`crate::hvm::inbox`]), its events, what it
//! is owed ([`crate::domain::Owed`]) and pauses; each of them interrupts the CPU, so that the guest leaves and
//! [`prepare`] looks again.
//!
//! An exit is handled in three steps: what the guest was in the middle of taking is put back, what it did is done or
//! answered ([`handle`]), and the next entry is prepared.

mod calls;
mod cpuid;
mod exits;
mod instructions;
mod interrupts;
mod memory;
mod msr;
mod processor;
mod room;
#[cfg(test)]
mod tests;

use crate::domain::ShutdownReason;
use crate::hvm::processor::Processor;
use crate::hvm::state::HvmState;
use crate::hypercall::{Ctx, Host};

pub use cpuid::follow_policy;
pub use exits::handle;
pub use interrupts::prepare;
pub use memory::{Memory, Space};
pub use room::Room;

/// The surroundings of a vCPU in a container.
pub type Cell<'a, H> = Ctx<'a, H, &'a mut HvmState>;

/// Whether the guest can be entered.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    /// Yes, at once.
    Enter,
    /// There is something else to be done first.
    Look,
}

/// The domain breaks what we can do for it: it goes down as crashed, after the reason was logged.
fn crash<H: Host + Room>(cx: &mut Cell<'_, H>) {
    go_down(cx, xen_abi::sched::SHUTDOWN_crash);
    cx.state.processor.complete_frame(cx.regs);
    log::error!(
        "d{}v{}: crashed in its container: cr0 {:#x} cr2 {:#x} cr3 {:#x} cr4 {:#x} efer {:#x}",
        cx.domain.id,
        cx.vcpu.id,
        cx.register(crate::hvm::processor::Register::Cr0),
        cx.register(crate::hvm::processor::Register::Cr2),
        cx.register(crate::hvm::processor::Register::Cr3),
        cx.register(crate::hvm::processor::Register::Cr4),
        cx.register(crate::hvm::processor::Register::Efer),
    );
    cx.regs.log();
}

/// The domain goes down, for a reason of xen/sched.h.
fn go_down<H: Host + Room>(cx: &Cell<'_, H>, reason: u32) {
    cx.hv.shut_down(cx.domain, ShutdownReason(reason));
    cx.host.reschedule_here();
}
