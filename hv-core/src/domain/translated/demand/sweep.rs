//! Pages of a guest that are all zero stand for promises as well: each becomes one, and is set aside.
//!
//! # Why nothing that is written is lost
//! 1. A page that looks empty is made read-only for the guest ([`P2mKind::RamLogDirty`], whose first store makes it [`P2mKind::Ram`] again),
//!    and the TLBs are flushed.
//! 2. Nobody but its entry has a reference: who wrote through one of the hypervisor's has finished. Then it is looked at in full.
//! 3. Under the map's lock, if it is still read-only, the entry becomes a promise. Who took a reference before that is seen now, and
//!    the entry is put back before anybody can fill it; who takes one later sees the promise when it looks again.
//! 4. The TLBs are flushed, and the page is set aside.
//!
//! Frames that got their pages a moment ago are passed over: an instruction that needs two of them would wait for ever while each took
//! the other's.
//!
//! While written pages are logged there is no sweep: what was sent of such a page would have to be sent again.

use arrayvec::ArrayVec;
use core::sync::atomic::{Ordering, fence};

use super::super::{After, Removed, Translated};
use super::{DemandSize, RESERVE};
use crate::base::{Gfn, Mfn};
use crate::domain::Domain;
use crate::mm::p2m::P2mKind;

/// Pages reclaimed at once; a [`Removed`] has room for them.
const MOST: usize = 16;
/// Entries and holes passed in one sweep.
const STEPS: u32 = 512;

/// A page that looks empty, and where it is mapped.
type Candidate = (Gfn, Mfn);

/// How far the sweeps have come.
pub(in crate::domain::translated) struct Round {
    /// The first guest frame that was not looked at.
    at: u64,
    /// Guest frames passed since a page was found.
    in_vain: u64,
}

impl Round {
    pub(super) const fn new() -> Self {
        Self { at: 0, in_vain: 0 }
    }
}

impl Domain {
    /// Looks for empty pages, in a bounded part of the map, if few are set aside and more is promised. `true`: all of the map was
    /// seen since one was found.
    pub(super) fn sweep(&self) -> bool {
        let Some(map) = &self.translated else {
            return true;
        };
        if map.log_enabled() {
            return true;
        }
        let has_enough = || {
            let DemandSize { promised, cached } = map.demand();
            cached > RESERVE || cached >= promised
        };
        if has_enough() {
            return false;
        }
        let mut round = map.demand.round.lock();
        if has_enough() {
            return false;
        }
        let found = map.protect_empty(&mut round);
        if !found.is_empty() {
            self.flush_translations();
        }
        let mut removed = Removed::new();
        for candidate in found {
            map.unback(candidate, &mut removed);
        }
        if !removed.is_empty() {
            round.in_vain = 0;
        }
        self.settle_map(&mut removed, After::Refill);
        let all_seen = round.in_vain > map.max_gfn();
        if all_seen {
            round.in_vain = 0;
        }
        all_seen
    }
}

impl Translated {
    /// Goes on with the round; what it returns is read-only for the guest from the next flush on.
    fn protect_empty(&self, round: &mut Round) -> ArrayVec<Candidate, MOST> {
        let mut found = ArrayVec::new();
        for _ in 0..STEPS {
            if round.at > self.max_gfn() {
                round.at = 0;
            }
            let at = Gfn(round.at);
            let mapping = self.mapping(at);
            round.at = match mapping.kind {
                P2mKind::Ram => at.0 + 1,
                _ => mapping.next(at).0,
            };
            round.in_vain = round.in_vain.saturating_add(round.at - at.0);
            let candidate = (at, mapping.mfn);
            if mapping.kind == P2mKind::Ram
                && !self.demand.is_recent(at)
                && self.is_unused(candidate)
                && self.protect(candidate)
            {
                found.push(candidate);
                if found.is_full() {
                    break;
                }
            }
        }
        found
    }

    /// Whether only its entry uses the page, and it is empty: looked at in this order.
    fn is_unused(&self, (_, page): Candidate) -> bool {
        self.machine().users(page, self.id) == Some(1) && {
            fence(Ordering::SeqCst);
            let mut words = self.machine().words(page).iter();
            words.all(|word| word.load(Ordering::Relaxed) == 0)
        }
    }

    fn protect(&self, (gfn, page): Candidate) -> bool {
        let Ok(mut inner) = self.open() else {
            return false;
        };
        let logs = inner.log.is_on();
        let inventory = &mut inner.inventory;
        let found = self.map.see(&self.ram, inventory, gfn);
        if logs || (found.mfn, found.kind) != (page, P2mKind::Ram) {
            return false;
        }
        if self.map.split(&self.ram, inventory, gfn, 0).is_err() {
            return false;
        }
        let kind = P2mKind::RamLogDirty;
        self.map.set_kind(&self.ram, inventory, gfn, kind);
        true
    }

    /// Makes a promise of the entry of a page that is read-only since before a flush, if it is empty; else it is as before.
    fn unback(&self, candidate: Candidate, removed: &mut Removed) {
        let (gfn, page) = candidate;
        let unused = self.is_unused(candidate);
        let Ok(mut inner) = self.open() else { return };
        let logs = inner.log.is_on();
        let inventory = &mut inner.inventory;
        let found = self.map.see(&self.ram, inventory, gfn);
        // Written since, or about to be; or logged, and its kind means something else.
        if logs || (found.mfn, found.kind) != (page, P2mKind::RamLogDirty) {
            return;
        }
        let (map, ram, place) = (&self.map, &self.ram, (gfn, 0));
        if !unused {
            return map.set_kind(ram, inventory, gfn, P2mKind::Ram);
        }
        let Ok(former) = map.set(ram, inventory, place, Mfn(0), P2mKind::OnDemand) else {
            return;
        };
        fence(Ordering::SeqCst);
        if self.machine().users(page, self.id) != Some(1)
            && map.set(ram, inventory, place, page, P2mKind::Ram).is_ok()
        {
            return;
        }
        self.note_removed(former, removed);
    }
}
