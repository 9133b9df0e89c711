//! The page in which a domain sees which of its PIRQs want `PHYSDEVOP_eoi` (`physdev.h`,
//! PHYSDEVOP_pirq_eoi_gmfn_v1 and _v2): one bit for each PIRQ.
//!
//! `Domain::pirq_eoi_page` holds the frame number, a bit that says that there is one, and what the end
//! of an interrupt does beyond.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use super::routing::Trigger;
use crate::base::Mfn;
use crate::domain::Domain;

/// The domain has given a page.
const PRESENT: u64 = 1 << 63;
/// `PHYSDEVOP_eoi` unmasks the port.
const UNMASKS: u64 = 1 << 62;

/// Bits in the page.
const BITS: u32 = 4096 * 8;

/// What `PHYSDEVOP_eoi` does to the interrupt's port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AtEnd {
    /// Unmask it (version 1).
    Unmask,
    /// Leave it (version 2, and without a page).
    Leave,
}

/// Takes the page that a domain gives.
///
/// # Errors
/// `EBUSY` when it has given one, or what `take_writable` says of the page.
pub(super) fn register(domain: &Domain, page: Mfn, at_end: AtEnd) -> Result<(), Errno> {
    if page.0 >= UNMASKS {
        return Err(Errno::EINVAL);
    }
    domain.machine.take_writable(page, domain.id)?;
    let unmasks = match at_end {
        AtEnd::Unmask => UNMASKS,
        AtEnd::Leave => 0,
    };
    let taken = domain.pirq_eoi_page.compare_exchange(
        0,
        page.0 | PRESENT | unmasks,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    if taken.is_err() {
        domain.machine.drop_writable(page);
        return Err(Errno::EBUSY);
    }
    Ok(())
}

/// Gives the page back.
pub(super) fn release(domain: &Domain) {
    if let Some(page) = frame(domain.pirq_eoi_page.swap(0, Ordering::SeqCst)) {
        domain.machine.drop_writable(page);
    }
}

/// What the end of an interrupt does to its port.
pub(super) fn at_end(domain: &Domain) -> AtEnd {
    if domain.pirq_eoi_page.load(Ordering::SeqCst) & UNMASKS != 0 {
        AtEnd::Unmask
    } else {
        AtEnd::Leave
    }
}

/// Writes the bit of a PIRQ: only level interrupts want an end.
pub(super) fn mark(domain: &Domain, pirq: u32, trigger: Trigger) {
    let Some(page) = frame(domain.pirq_eoi_page.load(Ordering::SeqCst)) else {
        return;
    };
    if pirq >= BITS {
        return;
    }
    let word = &domain.machine.words(page)[pirq as usize / 64];
    let bit = 1 << (pirq % 64);
    match trigger {
        Trigger::Level => word.fetch_or(bit, Ordering::SeqCst),
        Trigger::Edge => word.fetch_and(!bit, Ordering::SeqCst),
    };
}

/// The frame in the packed word.
fn frame(packed: u64) -> Option<Mfn> {
    (packed & PRESENT != 0).then_some(Mfn(packed & !(PRESENT | UNMASKS)))
}
