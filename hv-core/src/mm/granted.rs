//! L1 entries that map pages by a grant.
//!
//! The grant layer takes the reference of such an entry before it is made and drops it after a TLB
//! flush, so these two functions exchange entries without touching the count of the page they map.
//! An entry that the guest itself changes meanwhile gives its reference up like any other.

use super::entries::drop_l1;
use super::pte::{Level, Pte};
use super::update::{Hold, Swap};
use super::{PtMachine, PtResult, Refusal, Stop};
use core::sync::atomic::Ordering;

/// Times an entry may change under our hands before the caller has to try again.
const RACES: u32 = 64;

/// Puts a present entry into a held L1 table. The reference that it needs, general or, if it allows
/// writes, as writable memory, is the caller's and becomes the entry's; that of the entry which was
/// there is dropped.
///
/// Errors: Invalid where `hold` is no L1 table or has no such slot; nothing changed then.
pub fn enter<M: PtMachine>(m: &M, hold: &Hold, slot: usize, new: Pte) -> PtResult {
    let old = exchange(m, hold, slot, new, |_| true)?;
    drop_l1(m, old);
    Ok(())
}

/// Replaces the entry that maps `gone`'s frame with `gone`'s rights in a held L1 table. The
/// reference of the old entry becomes the caller's, that of `instead` (if present) the entry's.
///
/// Errors: Invalid where the slot holds another mapping; nothing changed then.
pub fn replace<M: PtMachine>(m: &M, hold: &Hold, slot: usize, gone: Pte, instead: Pte) -> PtResult {
    let maps_it = |seen: Pte| {
        seen.is_present() && seen.mfn() == gone.mfn() && seen.is_writable() == gone.is_writable()
    };
    exchange(m, hold, slot, instead, maps_it).map(drop)
}

/// Takes an entry out of a held L1 table, whatever it is; its reference becomes the caller's.
///
/// Errors: Invalid where `hold` is no L1 table or has no such slot.
pub fn take<M: PtMachine>(m: &M, hold: &Hold, slot: usize) -> PtResult<Pte> {
    exchange(m, hold, slot, Pte(0), |_| true)
}

/// Swaps an entry that `fits`; returns the old one.
fn exchange<M: PtMachine>(
    m: &M,
    hold: &Hold,
    slot: usize,
    new: Pte,
    fits: impl Fn(Pte) -> bool,
) -> PtResult<Pte> {
    let invalid = Stop::Refused(Refusal::Invalid);
    if hold.level() != Level::L1 {
        return Err(invalid);
    }
    let new = new.adjusted(Level::L1, m.globals());
    let word = m.table(hold.mfn()).get(slot).ok_or(invalid)?;
    for _ in 0..RACES {
        let seen = Pte(word.load(Ordering::Acquire));
        if !fits(seen) {
            return Err(invalid);
        }
        let swap = match word.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Swap::Done,
            Err(_) => Swap::Raced,
        };
        if swap == Swap::Done {
            return Ok(seen);
        }
    }
    Err(Stop::Restart)
}
