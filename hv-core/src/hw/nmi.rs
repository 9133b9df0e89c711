//! NMIs: noted where they hit, told to dom0 by the run loop.
//!
//! The handler may run at any instruction, between the loading of the guest's registers and SYSRET too, and
//! on a stack that a second NMI would overwrite. So it does nothing that can fault, and nothing that takes a
//! lock: no other exception's IRET lets the next NMI in before its own. Only the watchdog's question is answered at once,
//! by a CPU that never goes on.

use core::sync::atomic::Ordering;

use hv_core::pv::frame::{GuestFrame, rflags};
use xen_abi::nmi::{XEN_NMIREASON_io_error, XEN_NMIREASON_pci_serr, XEN_NMIREASON_unknown};

use super::host::HV;
use super::percpu::{self, softirq};
use super::{apic, cpu, watchdog};

/// System control port B: who asked for an NMI, and how that is ended.
const REASON_PORT: u16 = 0x61;
/// PCI SERR, and the bit that clears it.
const SERR: (u32, u8) = (0x80, 0x04);
/// Channel check, and the bit that clears it.
const CHANNEL_CHECK: (u32, u8) = (0x40, 0x08);

/// An NMI hit a guest with these registers. NMIs are blocked until an IRET, and the guest may be left by none for a while.
pub fn from_guest(frame: &GuestFrame) {
    if !watchdog::answer(frame) {
        note(frame.rip);
    }
    cpu::unblock_nmis();
}

/// An NMI hit the hypervisor. With interrupts off that may be after its last look at owed work: an
/// interrupt to itself makes it look again, before the guest's first instruction or instead of the halt.
pub fn from_host(frame: &GuestFrame) {
    if watchdog::answer(frame) {
        return;
    }
    note(frame.rip);
    if frame.rflags & rflags::IF == 0 {
        apic::remind_self();
    }
}

fn note(rip: u64) {
    let reason = cpu::inb(REASON_PORT);
    let remote = &percpu::this().remote;
    remote
        .nmi_reason
        .fetch_or(0x100 | u32::from(reason), Ordering::Relaxed);
    remote.nmi_rip.store(rip, Ordering::Relaxed);
    remote.softirq.fetch_or(softirq::SERIAL, Ordering::Relaxed);
}

/// Tells of an NMI that came since: in words, and dom0, whose devices may have asked for it.
pub fn report() {
    let remote = &percpu::this().remote;
    let noted = remote.nmi_reason.swap(0, Ordering::Relaxed);
    if noted == 0 {
        return;
    }
    let at = remote.nmi_rip.load(Ordering::Relaxed);
    log::warn!("NMI, reason port {:#x}, at {at:#x}", noted & 0xff);
    let mut reason = 0;
    for ((bit, clear), name) in [
        (SERR, XEN_NMIREASON_pci_serr),
        (CHANNEL_CHECK, XEN_NMIREASON_io_error),
    ] {
        if noted & bit != 0 {
            reason |= name;
            // Also keeps it from asking again.
            cpu::outb(REASON_PORT, cpu::inb(REASON_PORT) & 0x0f | clear);
        }
    }
    if reason == 0 {
        reason = XEN_NMIREASON_unknown;
    }
    if let Some(dom0) = HV.get().and_then(|hv| hv.domain(0)) {
        dom0.report_nmi(reason);
    }
}
