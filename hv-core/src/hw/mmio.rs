//! Which frames outside RAM dom0 may map: all but the registers that the hypervisor drives; those with PCI
//! configuration space and MSI-X tables only to read.

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{Mfn, PhysAddr};
use hv_core::mm::IoAccess;

/// Frames that stay ours, and whether they may be read.
static OURS: Mutex<[Option<(u64, IoAccess)>; 32]> = Mutex::new(rank::REGISTER_PAGES, [None; 32]);

/// Keeps the frame of `address` to ourselves.
pub fn reserve(address: PhysAddr, dom0: IoAccess) {
    let mut ours = OURS.lock();
    let frame = address.mfn().0;
    if ours.iter().flatten().any(|(f, _)| *f == frame) {
        return;
    }
    match ours.iter_mut().find(|slot| slot.is_none()) {
        Some(slot) => *slot = Some((frame, dom0)),
        None => log::error!("too many register pages of our own: dom0 can reach {address:?}"),
    }
}

/// What dom0 may do with a frame that is no RAM.
pub fn dom0_access(mfn: Mfn) -> IoAccess {
    match ours(mfn) {
        IoAccess::Full if super::devices::is_guarded(mfn) => IoAccess::ReadOnly,
        access => access,
    }
}

/// What dom0 may do with it as far as our own registers and the firmware's memory are concerned.
pub fn ours(mfn: Mfn) -> IoAccess {
    let ours = OURS.lock();
    let register = ours.iter().flatten().find(|(f, _)| *f == mfn.0);
    match register {
        Some((_, access)) => *access,
        None if super::efi::keeps(mfn) => IoAccess::ReadOnly,
        None => IoAccess::Full,
    }
}
