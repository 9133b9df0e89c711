//! The 2-level form: a pending and a mask bit for each port in `shared_info`, and for each vCPU a
//! selector of the words to look at.
//!
//! Every function is called with the queues of some vCPU locked, which keeps the mode.

use core::sync::atomic::Ordering;

use super::PortNumber;
use super::host::{EventHost, Layout};
use super::raise::Raised;
use crate::base::VcpuId;

/// Word and bit of a port in the pending and mask arrays, if this form reaches it.
///
/// Both layouts number the bits of the arrays alike, as x86 is little-endian.
fn place<D: EventHost>(d: &D, port: PortNumber) -> Option<(usize, u64)> {
    (port < d.layout().two_level_ports()).then_some((port as usize / 64, 1 << (port % 64)))
}

/// Marks a port pending and, unless it is masked, selects it at `vcpu`.
pub(super) fn set_pending<D: EventHost>(d: &D, port: PortNumber, vcpu: VcpuId) -> Raised {
    let Some((word, bit)) = place(d, port) else {
        return Raised::NOTHING;
    };
    if d.pending_word(word).fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Raised::NOTHING;
    }
    let masked = d.mask_word(word).load(Ordering::SeqCst) & bit != 0;
    Raised {
        fresh: true,
        upcall: (!masked && select(d, port, vcpu)).then_some(vcpu),
    }
}

/// Clears a port's mask and, when it is pending, selects it at `vcpu`.
pub(super) fn unmask<D: EventHost>(d: &D, port: PortNumber, vcpu: VcpuId) -> Raised {
    let Some((word, bit)) = place(d, port) else {
        return Raised::NOTHING;
    };
    let was_masked = d.mask_word(word).fetch_and(!bit, Ordering::SeqCst) & bit != 0;
    let due = was_masked
        && d.pending_word(word).load(Ordering::SeqCst) & bit != 0
        && select(d, port, vcpu);
    Raised {
        fresh: false,
        upcall: due.then_some(vcpu),
    }
}

/// Sets the selector bit of a port; true when it was clear.
fn select<D: EventHost>(d: &D, port: PortNumber, vcpu: VcpuId) -> bool {
    let Some(info) = d.vcpu_info(vcpu) else {
        return false;
    };
    let (word, bit) = match d.layout() {
        Layout::Bits64 => (&info[1], 1 << (port / 64)),
        Layout::Bits32 => (&info[0], 1 << (32 + port / 32)),
    };
    word.fetch_or(bit, Ordering::SeqCst) & bit == 0
}

/// Sets every selector bit of a vCPU, so that the guest looks at all words.
pub(super) fn select_all<D: EventHost>(d: &D, vcpu: VcpuId) {
    let Some(info) = d.vcpu_info(vcpu) else {
        return;
    };
    match d.layout() {
        Layout::Bits64 => info[1].store(!0, Ordering::SeqCst),
        Layout::Bits32 => {
            info[0].fetch_or(!0 << 32, Ordering::SeqCst);
        }
    }
}

/// Clears every selector bit of a vCPU.
pub(super) fn select_none<D: EventHost>(d: &D, vcpu: VcpuId) {
    let Some(info) = d.vcpu_info(vcpu) else {
        return;
    };
    match d.layout() {
        Layout::Bits64 => info[1].store(0, Ordering::SeqCst),
        Layout::Bits32 => {
            info[0].fetch_and(!0 >> 32, Ordering::SeqCst);
        }
    }
}

/// Forgets that a port was pending.
pub(super) fn clear_pending<D: EventHost>(d: &D, port: PortNumber) {
    if let Some((word, bit)) = place(d, port) {
        d.pending_word(word).fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Whether a port is pending.
pub(super) fn is_pending<D: EventHost>(d: &D, port: PortNumber) -> bool {
    place(d, port).is_some_and(|(word, bit)| d.pending_word(word).load(Ordering::SeqCst) & bit != 0)
}

/// Whether a port is masked.
pub(super) fn is_masked<D: EventHost>(d: &D, port: PortNumber) -> bool {
    place(d, port).is_some_and(|(word, bit)| d.mask_word(word).load(Ordering::SeqCst) & bit != 0)
}
