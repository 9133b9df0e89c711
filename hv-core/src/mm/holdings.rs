//! The frames of one domain: a list through the frame table, and their number.
//!
//! A page that a domain gets (`Machine::assign`, `Machine::share_with`) enters here and leaves when its
//! last reference goes ([`PtMachine::release`]) or when it is stolen. So the frames counted here are exactly those whose
//! entry names the domain, also those that it has given up and others still map: while there is one, the domain's number may
//! not be given to another. The list has the pages of its own account; lent ones are only counted.
//!
//! # The end of a domain
//! 1. [`Holdings::close`]: no page enters any more.
//! 2. [`Holdings::relinquish_all`], until it is through: pins go, then the owner's references. What nobody else uses is free then.
//! 3. Whoever drops the last reference to the last frame is told so by [`Holdings::leave`]. Until then the domain is a zombie.

use super::frames::{Frame, Owner, RefError, Standing};
use super::pins::relinquish;
use super::{PtMachine, PtResult, Stop};
use crate::base::lock::{Mutex, rank};
use crate::base::{DomId, Mfn};
use core::sync::atomic::{AtomicU64, Ordering};

/// A frame in a list: its number plus one; zero for none.
type Link = u32;

const fn link(mfn: Mfn) -> Link {
    // Frames with an entry lie in the direct map, far below 2^32.
    mfn.0 as u32 + 1
}

fn linked(link: Link) -> Option<Mfn> {
    link.checked_sub(1).map(|n| Mfn(n.into()))
}

/// What the lock guards: this, and the links in the frames' entries.
struct List {
    first: Link,
    /// Where `relinquish_all` goes on.
    cursor: Link,
    closed: bool,
}

/// The frames of one domain.
pub struct Holdings {
    id: DomId,
    list: Mutex<List>,
    frames: AtomicU64,
}

impl Holdings {
    /// Those of a new domain.
    #[must_use]
    pub const fn new(id: DomId) -> Self {
        let list = List {
            first: 0,
            cursor: 0,
            closed: false,
        };
        Self {
            id,
            list: Mutex::new(rank::HOLDINGS, list),
            frames: AtomicU64::new(0),
        }
    }

    /// Whose they are.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.id
    }

    /// Frames that name the domain as their owner.
    #[must_use]
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Acquire)
    }

    /// Gives a free frame to the domain; see [`Frame::assign`] for what comes before.
    ///
    /// # Errors
    /// [`RefError::Closed`] for a domain that is dying, [`RefError::InUse`] for a frame that is not free,
    /// [`RefError::NotRam`].
    pub fn enter<M: PtMachine>(&self, m: &M, mfn: Mfn, standing: Standing) -> Result<(), RefError> {
        let frame = m.frame(mfn).ok_or(RefError::NotRam)?;
        let mut list = self.list.lock();
        if list.closed {
            return Err(RefError::Closed);
        }
        frame.settle(Owner::Domain(self.id), standing)?;
        self.frames.fetch_add(1, Ordering::AcqRel);
        if standing == Standing::Own {
            let second = core::mem::replace(&mut list.first, link(mfn));
            frame.links.before.store(0, Ordering::Relaxed);
            frame.links.after.store(second, Ordering::Relaxed);
            if let Some(next) = linked(second).and_then(|n| m.frame(n)) {
                next.links.before.store(link(mfn), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Takes a frame of the domain that nobody references out of the list, before it is free
    /// (`Frame::free_up`) or somebody else's. [`Self::leave`] follows when that is done.
    pub fn unlink<M: PtMachine>(&self, m: &M, mfn: Mfn) -> Standing {
        let Some(frame) = m.frame(mfn) else {
            return Standing::Lent;
        };
        let standing = frame.standing();
        if standing == Standing::Own {
            self.take_out(m, mfn, frame);
        }
        standing
    }

    fn take_out<M: PtMachine>(&self, m: &M, mfn: Mfn, frame: &Frame) {
        let mut list = self.list.lock();
        let before = frame.links.before.swap(0, Ordering::Relaxed);
        let after = frame.links.after.swap(0, Ordering::Relaxed);
        match linked(before).and_then(|n| m.frame(n)) {
            Some(previous) => previous.links.after.store(after, Ordering::Relaxed),
            None if list.first == link(mfn) => list.first = after,
            // It never was in the list.
            None => return,
        }
        if let Some(next) = linked(after).and_then(|n| m.frame(n)) {
            next.links.before.store(before, Ordering::Relaxed);
        }
        if list.cursor == link(mfn) {
            list.cursor = after;
        }
    }

    /// Notes that a frame taken out is no longer the domain's. `true`: it was the last of a domain that is
    /// closed, which is no more than its name now.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.frames.fetch_sub(1, Ordering::AcqRel) == 1 && self.list.lock().closed
    }

    /// From now on the domain gets no page. Calling it again changes nothing.
    pub fn close(&self) {
        let mut list = self.list.lock();
        if !list.closed {
            list.closed = true;
            list.cursor = list.first;
        }
    }

    /// Takes all pages from a domain that is closed; to be called again on Restart, until it is through. Its
    /// vCPUs' roots, descriptor pages and owed puts are gone before.
    ///
    /// No error but [`Stop::Restart`].
    pub fn relinquish_all<M: PtMachine>(&self, m: &M) -> PtResult {
        loop {
            let Some(mfn) = linked(self.list.lock().cursor) else {
                return Ok(());
            };
            relinquish(m, self.id, mfn)?;
            self.pass(m, mfn);
            if m.preempt_pending() {
                return Err(Stop::Restart);
            }
        }
    }

    /// Moves the cursor on from a frame that others keep; one that was freed has moved it already.
    fn pass<M: PtMachine>(&self, m: &M, mfn: Mfn) {
        let mut list = self.list.lock();
        if list.cursor == link(mfn)
            && let Some(frame) = m.frame(mfn)
        {
            list.cursor = frame.links.after.load(Ordering::Relaxed);
        }
    }

    /// The first `most` frames of the domain's own, for checks and reports: `what` is called for each, under the list's lock.
    pub fn for_first<M: PtMachine>(&self, m: &M, most: usize, mut what: impl FnMut(Mfn)) {
        let list = self.list.lock();
        let mut at = list.first;
        for _ in 0..most {
            let Some(mfn) = linked(at) else { return };
            what(mfn);
            at = m
                .frame(mfn)
                .map_or(0, |f| f.links.after.load(Ordering::Relaxed));
        }
    }
}
