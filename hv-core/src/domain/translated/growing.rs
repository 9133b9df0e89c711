//! 1 GiB of memory that a domain is given 2 MiB at a time, so that other work may come in between.
//!
//! The block is taken from the allocator whole, as it is, and charged to the domain at once. What is zeroed, given to the domain and mapped
//! counts as its memory like any other from then on; the end makes one mapping of it ([`Translated::join`]). The rest belongs to the [`Growing`],
//! which has a place in the domain's map while the request is interrupted, and is given back whole:
//! - when the domain dies;
//! - when another request for 1 GiB comes, or is interrupted as well: there is one place.
//!
//! Whether there are such mappings, and how one goes at the end, stands here too.

use core::sync::atomic::Ordering;

use super::{Former, HUGE, Inner, LARGE, Removed, Translated};
use crate::base::{Gfn, Mfn};
use crate::domain::Domain;

/// A block that becomes a domain's memory. To be gone through, kept ([`Domain::keep_growing`]) or given back ([`Domain::give_back`]); dropped
/// otherwise, its pages are lost.
#[derive(Debug)]
#[must_use = "it has pages"]
pub struct Growing {
    gfn: Gfn,
    block: Mfn,
    /// Pages that were given to the domain.
    passed: u64,
    /// Pages of the rest that the domain had claimed.
    claimed: u64,
}

impl Growing {
    /// A block of 1 GiB for guest frames from `gfn` on, of which the domain had claimed `claimed` pages.
    pub const fn new(gfn: Gfn, block: Mfn, claimed: u64) -> Self {
        Self {
            gfn,
            block,
            passed: 0,
            claimed,
        }
    }

    /// The first guest frame of all.
    #[must_use]
    pub const fn gfn(&self) -> Gfn {
        self.gfn
    }

    /// The first guest frame and the first page of the next 2 MiB; nothing when all were given to the domain.
    #[must_use]
    pub fn next(&self) -> Option<(Gfn, Mfn)> {
        let place = (
            Gfn(self.gfn.0 + self.passed),
            Mfn(self.block.0 + self.passed),
        );
        (self.left() > 0).then_some(place)
    }

    /// The next 2 MiB are somebody else's from now on.
    pub fn pass(&mut self) {
        let pages = self.left().min(1 << LARGE);
        self.passed += pages;
        self.claimed = self.claimed.saturating_sub(pages);
    }

    /// Pages of the rest.
    #[must_use]
    pub const fn left(&self) -> u64 {
        (1 << HUGE) - self.passed
    }
}

impl Translated {
    /// Lets RAM be mapped by the GiB: the processors have such entries.
    pub const fn allow_gib_pages(&mut self) {
        self.gib_pages = true;
    }

    /// Whether RAM may be mapped by the GiB.
    #[must_use]
    pub const fn has_gib_pages(&self) -> bool {
        self.gib_pages
    }

    /// Makes one mapping of the 1 GiB of RAM around a guest frame, if it can be one. The caller flushes
    /// ([`Domain::flush_translations`]): a table is retired.
    pub fn join(&self, gfn: Gfn) {
        if let Ok(mut inner) = self.open()
            && self.gib_pages
        {
            self.map.merge(&self.ram, &mut inner.inventory, gfn, HUGE);
        }
    }

    /// Takes out 1 GiB of RAM, for which the pool has perhaps no table to split it, and lets go of its pages by the 2 MiB. `false`: there is
    /// none here.
    pub(super) fn end_huge(&self, inner: &mut Inner, removed: &mut Removed) -> bool {
        let (at, inventory) = (Gfn(inner.ended), &mut inner.inventory);
        let found = self.map.see(&self.ram, inventory, at);
        if inner.falling == Former::Hole && found.order > LARGE && found.kind.is_ram() {
            inner.falling = self.map.take_whole(&self.ram, inventory, at);
            inner.ended = found.next(at).0;
        }
        let part = inner.falling.cut(1 << LARGE);
        self.note_removed(part, removed);
        part != Former::Hole
    }

    /// What a request has left when it was interrupted.
    pub fn take_growing(&self) -> Option<Growing> {
        self.inner.lock().growing.take()
    }

    /// Leaves it for a request that goes on; what comes back has no place any more.
    fn put_growing(&self, growing: Growing) -> Option<Growing> {
        match self.open() {
            Ok(mut inner) => inner.growing.replace(growing),
            Err(_) => Some(growing),
        }
    }
}

impl Domain {
    /// Keeps it for the request when that goes on.
    pub fn keep_growing(&self, growing: Growing) {
        let homeless = match &self.translated {
            Some(map) => map.put_growing(growing),
            None => Some(growing),
        };
        if let Some(homeless) = homeless {
            self.give_back(homeless);
        }
    }

    /// Gives up what a request has left. Of a domain whose map has ended nothing is left after this.
    pub fn abandon_growing(&self) {
        if let Some(left) = self.translated.as_ref().and_then(Translated::take_growing) {
            self.give_back(left);
        }
    }

    /// Gives the rest back: nobody has seen it.
    pub fn give_back(&self, growing: Growing) {
        let left = growing.left();
        let first = Mfn(growing.block.0 + growing.passed);
        self.machine.free_block(first, left, growing.claimed);
        self.pages.fetch_sub(left, Ordering::Relaxed);
        self.put_back_claim(growing.claimed);
    }
}
