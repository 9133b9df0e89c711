//! The serial line's input, and reports that interrupt handlers left.

use core::sync::atomic::Ordering;

use super::{percpu, serial};

/// Takes what has come in.
pub fn poll() {
    while let Some(byte) = serial::read() {
        let _ = byte;
    }
}

/// Says what interrupt handlers could only note.
pub fn reports() {
    let remote = &percpu::this().remote;
    let errors = remote.apic_errors.swap(0, Ordering::Relaxed);
    if errors != 0 {
        log::warn!("local APIC error {errors:#x}");
    }
    let nmi = remote.nmi_reason.swap(0, Ordering::Relaxed);
    if nmi != 0 {
        log::warn!("NMI, reason port {:#x}, at {:#x}", nmi & 0xff, remote.nmi_rip.load(Ordering::Relaxed));
    }
    poll();
}
