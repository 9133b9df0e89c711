//! The type word of a frame: the only writer of the state that carries PV security.
//!
//! A frame has one type at a time. Its word holds the type, a count of references to it *as that
//! type*, and flags. The rule this module enforces: **a frame is never writable-mapped, in a page
//! table or in any TLB, and a page table (or descriptor page) at once.** Every writable mapping holds
//! a `Writable` reference, every use as a table holds a reference of that level, and a word can
//! only take references of one type.
//!
//! # States
//! | state | count | flags | meaning |
//! | --- | --- | --- | --- |
//! | Idle(T) | 0 | - | nobody uses it as anything; T is remembered for what TLBs may still hold |
//! | Busy(T) | 1 or 2 | BUSY | one CPU owns the word: it flushes, checks or takes apart |
//! | Held(T) | n >= 1 | VALIDATED | in use as T |
//! | Partial(T) | 1 | PARTIAL | checking was interrupted; the frame itself owns the count, progress in `progress` |
//! | Owned(T) | 1 | PARTIAL, OWNED | taking apart was interrupted; who asked for it owns the count and comes back |
//!
//! # Transitions
//! | from | event | to |
//! | --- | --- | --- |
//! | Idle(Writable or None) | join Writable | Held(Writable), count 1 |
//! | Idle(S) | join T | Busy(T), count 1; the claimer flushes stale TLBs (unless S is None or T), then checks |
//! | Held(T) | join T | Held(T), count + 1 |
//! | Held(T) | join S | refused |
//! | Partial(T) | join T | Busy(T), count 1; goes on where checking stopped |
//! | Owned(T) | join T | Busy(T), count 2; checks again what was taken apart |
//! | Busy(T) | join T, or anything while T is Writable | contended: the caller spins for a while, then restarts |
//! | Busy(T) | join S, T a table or descriptors | refused |
//! | Busy(T) | all is valid | Held(T) |
//! | Busy(T) | preempted while checking | Partial(T), or Owned(T) where it came from there |
//! | Busy(T) | a check failed, undone | Idle(T), or Owned(T) where it came from there |
//! | Held(T), n > 1 | leave | Held(T), count - 1 |
//! | Held(T), n = 1 | leave | Busy(T): takes apart, stamps the frame, then Idle(T) |
//! | Busy(T) | preempted while taking apart | Owned(T) |
//! | Owned(T) | leave | Busy(T): goes on taking apart |
//! | Held(T) | pin / unpin | PINNED set / cleared; the pin owns one count |
//!
//! The last leave passes through Busy so that the TLB stamp is stored while nobody can join: were it
//! stored before an ordinary decrement, a join and leave in between could leave a newer writable TLB
//! entry behind an older stamp. A type change installs the new type *before* it flushes, so that no new
//! mapping of the old type can appear between flush and check.
//!
//! All references of a type together hold one general reference (`frames`): the one that the
//! first join brought along. It is dropped when the word returns to Idle.

use super::pte::Level;
use core::sync::atomic::{AtomicU64, Ordering};

/// What a frame is used as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PageType {
    /// Never used since it got its owner.
    None = 0,
    /// Mapped writable, or written by the hypervisor on somebody's behalf.
    Writable = 1,
    /// Level 1 page table.
    L1 = 2,
    /// Level 2 page table.
    L2 = 3,
    /// Level 3 page table.
    L3 = 4,
    /// Level 4 page table.
    L4 = 5,
    /// Segment descriptors, part of a GDT or LDT.
    SegDesc = 6,
}

impl PageType {
    /// The type of a table of this level.
    #[must_use]
    pub const fn of_table(level: Level) -> Self {
        match level {
            Level::L1 => Self::L1,
            Level::L2 => Self::L2,
            Level::L3 => Self::L3,
            Level::L4 => Self::L4,
        }
    }

    /// The level, where this is a page table.
    #[must_use]
    pub const fn level(self) -> Option<Level> {
        match self {
            Self::None | Self::Writable | Self::SegDesc => None,
            Self::L1 => Some(Level::L1),
            Self::L2 => Some(Level::L2),
            Self::L3 => Some(Level::L3),
            Self::L4 => Some(Level::L4),
        }
    }

    const fn bits(self) -> u64 {
        (self as u64) << TYPE_SHIFT
    }

    const fn from_bits(word: u64) -> Self {
        match (word & TYPE) >> TYPE_SHIFT {
            1 => Self::Writable,
            2 => Self::L1,
            3 => Self::L2,
            4 => Self::L3,
            5 => Self::L4,
            6 => Self::SegDesc,
            _ => Self::None,
        }
    }
}

/// Whose TLBs can hold a mapping made with this reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// Only CPUs that run the frame's owner.
    Owner,
    /// Also CPUs that run other domains (foreign and grant mappings).
    Foreign,
}

/// References of one type; 44 bits, and a join that would fill them fails.
const COUNT: u64 = (1 << 44) - 1;
const TYPE_SHIFT: u32 = 48;
const TYPE: u64 = 7 << TYPE_SHIFT;
/// There was a writable mapping other than write-back: caches and memory may differ.
const INCOHERENT: u64 = 1 << 57;
/// Some CPU outside the owner's may have cached a mapping of the current type.
const FOREIGN: u64 = 1 << 58;
const PARTIAL: u64 = 1 << 59;
const OWNED: u64 = 1 << 60;
const BUSY: u64 = 1 << 61;
const PINNED: u64 = 1 << 62;
const VALIDATED: u64 = 1 << 63;

/// A value of the type word, taken at one moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypeState(u64);

impl TypeState {
    /// The type, also of an idle frame (what it was last).
    #[must_use]
    pub const fn page_type(self) -> PageType {
        PageType::from_bits(self.0)
    }

    /// References as that type.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.0 & COUNT
    }

    /// In use as its type, checks done.
    #[must_use]
    pub const fn is_validated(self) -> bool {
        self.0 & VALIDATED != 0
    }

    /// Pinned by the guest.
    #[must_use]
    pub const fn is_pinned(self) -> bool {
        self.0 & PINNED != 0
    }

    /// One CPU is at work on it.
    #[must_use]
    pub const fn is_busy(self) -> bool {
        self.0 & BUSY != 0
    }

    /// Work on it was interrupted and nobody but the frame owns the count.
    #[must_use]
    pub const fn is_orphan(self) -> bool {
        self.0 & (PARTIAL | OWNED) == PARTIAL
    }

    /// Taking it apart was interrupted; who asked for that owns the count.
    #[must_use]
    pub const fn is_owned_partial(self) -> bool {
        self.0 & (PARTIAL | OWNED) == PARTIAL | OWNED
    }

    /// A table of this state, where it is one in use.
    #[must_use]
    pub const fn live_level(self) -> Option<Level> {
        if self.is_validated() {
            self.page_type().level()
        } else {
            None
        }
    }
}

impl core::fmt::Debug for TypeState {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} x{}", self.page_type(), self.count())?;
        for (bit, name) in [
            (INCOHERENT, " incoherent"),
            (FOREIGN, " foreign"),
            (PARTIAL, " partial"),
            (OWNED, " owned"),
            (BUSY, " busy"),
            (PINNED, " pinned"),
            (VALIDATED, " valid"),
        ] {
            if self.0 & bit != 0 {
                f.write_str(name)?;
            }
        }
        Ok(())
    }
}

/// Exclusive ownership of a word in state Busy; ends in one of [`TypeWord`]'s `finish` functions.
#[must_use]
pub(super) struct Claim {
    /// The count includes one that an interrupted put owns (came from Owned by a join).
    borrowed: bool,
}

impl Claim {
    /// Whether an interrupted put still owns a count, so that a failure may not go to Idle.
    pub(super) const fn is_borrowed(&self) -> bool {
        self.borrowed
    }
}

/// Outcome of [`TypeWord::join`].
pub(super) enum Join {
    /// Counted; others held it already, so the general reference is there.
    Shared,
    /// Counted as the first; the caller's general reference now belongs to the type.
    First,
    /// Ours to flush and check. `from` is what it was, `foreign` whether other domains' CPUs may
    /// hold mappings of that, `incoherent` whether it was written past the caches.
    Opened {
        claim: Claim,
        from: PageType,
        foreign: bool,
        incoherent: bool,
    },
    /// Ours to continue; progress is in the frame's `progress`.
    Resumed { claim: Claim },
    /// Another CPU is at work.
    Contended,
    /// In use as this type.
    Refused(PageType),
    /// The count is full.
    Full,
}

/// Outcome of [`TypeWord::leave`] and [`TypeWord::unpin`].
pub(super) enum Leave {
    /// Not the last.
    Left,
    /// The last: ours to take apart, from the start or (`resumed`) where it stopped.
    Closing { claim: Claim, resumed: bool },
    /// Another CPU is at work.
    Contended,
    /// There is no such reference (a pin that is not set).
    Missing,
}

/// The word itself. All changes of a frame's type go through here.
#[derive(Default)]
#[repr(transparent)]
pub(super) struct TypeWord(AtomicU64);

impl TypeWord {
    /// A word of state Idle(None).
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    pub(super) fn state(&self) -> TypeState {
        TypeState(self.0.load(Ordering::Acquire))
    }

    /// Compare-and-swap that reports what it found.
    #[inline(always)]
    fn replace(&self, from: u64, to: u64) -> Result<(), u64> {
        self.0
            .compare_exchange_weak(from, to, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
    }

    /// Back to Idle(None) for a new owner, who may get it with its contents: that it was written past the caches
    /// counts until it is written back. Only for a frame that nobody references.
    pub(super) fn reset(&self) {
        self.0.fetch_and(INCOHERENT, Ordering::AcqRel);
    }

    /// Adds a reference where the word is Held(`want`) already; the fast half of [`Self::join`].
    #[inline(always)]
    pub(super) fn join_held(&self, want: PageType, reach: Reach) -> bool {
        let mut cur = self.0.load(Ordering::Acquire);
        while cur & (VALIDATED | TYPE) == VALIDATED | want.bits() && cur & COUNT != COUNT {
            match self.replace(cur, (cur + 1) | foreign_bit(reach)) {
                Ok(()) => return true,
                Err(now) => cur = now,
            }
        }
        false
    }

    /// The frame is mapped writable other than write-back. The caller holds a `Writable` reference.
    pub(super) fn mark_incoherent(&self) {
        self.0.fetch_or(INCOHERENT, Ordering::AcqRel);
    }

    /// Adds the first reference as `Writable` where that needs no claim; a fast part of [`Self::join`].
    #[inline(always)]
    pub(super) fn open_writable(&self, reach: Reach) -> bool {
        let cur = self.0.load(Ordering::Acquire);
        let from = PageType::from_bits(cur);
        if cur & (COUNT | BUSY) != 0 || !matches!(from, PageType::Writable | PageType::None) {
            return false;
        }
        let (next, _first) = plan_open(cur, from, PageType::Writable, foreign_bit(reach));
        self.replace(cur, next).is_ok()
    }

    /// Drops a reference that is not the last; the fast half of [`Self::leave`].
    #[inline(always)]
    pub(super) fn leave_shared(&self) -> bool {
        let mut cur = self.0.load(Ordering::Acquire);
        while cur & BUSY == 0 && cur & COUNT > 1 {
            match self.replace(cur, cur - 1) {
                Ok(()) => return true,
                Err(now) => cur = now,
            }
        }
        false
    }

    /// Adds a reference as `want` (not `None`); the caller holds a general reference.
    pub(super) fn join(&self, want: PageType, reach: Reach) -> Join {
        let mut cur = self.0.load(Ordering::Acquire);
        loop {
            let (next, done) = match plan_join(cur, want, foreign_bit(reach)) {
                Ok(step) => step,
                Err(refusal) => return refusal,
            };
            match self.replace(cur, next) {
                Ok(()) => return done,
                Err(now) => cur = now,
            }
        }
    }

    /// Drops one reference that the caller holds.
    #[inline]
    pub(super) fn leave(&self) -> Leave {
        let mut cur = self.0.load(Ordering::Acquire);
        loop {
            if cur & BUSY != 0 {
                return Leave::Contended;
            }
            let (next, done) = match cur & COUNT {
                0 => return Leave::Missing,
                1 => plan_close(cur),
                _ => (cur - 1, Leave::Left),
            };
            match self.replace(cur, next) {
                Ok(()) => return done,
                Err(now) => cur = now,
            }
        }
    }

    /// Sets the pin, which takes over the type reference that the caller holds. False: pinned already.
    pub(super) fn pin(&self) -> bool {
        self.0.fetch_or(PINNED, Ordering::AcqRel) & PINNED == 0
    }

    /// Drops the pin's reference. PINNED stays set while the last one is taken apart, so that an
    /// interrupted unpin can be asked for again.
    pub(super) fn unpin(&self) -> Leave {
        let mut cur = self.0.load(Ordering::Acquire);
        loop {
            if cur & PINNED == 0 {
                return Leave::Missing;
            }
            if cur & BUSY != 0 {
                return Leave::Contended;
            }
            let (next, done) = if cur & COUNT > 1 {
                ((cur - 1) & !PINNED, Leave::Left)
            } else {
                plan_close(cur)
            };
            match self.replace(cur, next) {
                Ok(()) => return done,
                Err(now) => cur = now,
            }
        }
    }

    /// Takes an orphaned Partial to undo it (domain teardown). `None`: it is not one.
    pub(super) fn adopt_orphan(&self) -> Option<Claim> {
        let cur = self.0.load(Ordering::Acquire);
        if !TypeState(cur).is_orphan() {
            return None;
        }
        self.0
            .compare_exchange(
                cur,
                cur & !PARTIAL | BUSY,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .ok()
            .map(|_| Claim { borrowed: false })
    }

    /// Busy to Held: everything was checked.
    pub(super) fn finish_valid(&self, claim: Claim) {
        // Both counts of a borrowed claim stand: the interrupted put and the new reference.
        let Claim { borrowed: _ } = claim;
        let cur = self.0.load(Ordering::Relaxed);
        self.0.store(cur & !BUSY | VALIDATED, Ordering::Release);
    }

    /// Busy to Partial (or back to Owned): a join was interrupted or, for a borrowed claim, failed.
    pub(super) fn finish_suspended(&self, claim: Claim) {
        let cur = self.0.load(Ordering::Relaxed);
        let next = if claim.borrowed {
            (cur - 1) | OWNED
        } else {
            cur
        };
        self.0.store(next & !BUSY | PARTIAL, Ordering::Release);
    }

    /// Busy to Owned: taking apart was interrupted, the caller of leave keeps its count.
    pub(super) fn finish_interrupted(&self, claim: Claim) {
        let Claim { borrowed: _ } = claim;
        let cur = self.0.load(Ordering::Relaxed);
        self.0
            .store(cur & !BUSY | PARTIAL | OWNED, Ordering::Release);
    }

    /// Busy to Idle: nothing is left. The frame's stamp must have been stored before.
    pub(super) fn finish_idle(&self, claim: Claim) {
        let Claim { borrowed: _ } = claim;
        let cur = self.0.load(Ordering::Relaxed);
        self.0
            .store(cur & (TYPE | FOREIGN | INCOHERENT), Ordering::Release);
    }
}

const fn foreign_bit(reach: Reach) -> u64 {
    match reach {
        Reach::Owner => 0,
        Reach::Foreign => FOREIGN,
    }
}

/// The word after a join and what that means, or why there is none.
#[inline]
fn plan_join(cur: u64, want: PageType, foreign: u64) -> Result<(u64, Join), Join> {
    let from = PageType::from_bits(cur);
    if cur & BUSY != 0 {
        // A table that is being checked may (wrongly) lead to a writable mapping of itself: to wait
        // for the claim would be to wait for ourselves. A writable claim waits for nobody.
        let may_wait = from == want || from == PageType::Writable;
        return Err(if may_wait {
            Join::Contended
        } else {
            Join::Refused(from)
        });
    }
    if cur & COUNT == 0 {
        return Ok(plan_open(cur, from, want, foreign));
    }
    if from != want {
        return Err(Join::Refused(from));
    }
    if cur & PARTIAL != 0 {
        let borrowed = cur & OWNED != 0;
        let next = (cur & !(PARTIAL | OWNED) | BUSY | foreign) + u64::from(borrowed);
        return Ok((
            next,
            Join::Resumed {
                claim: Claim { borrowed },
            },
        ));
    }
    if cur & COUNT == COUNT {
        return Err(Join::Full);
    }
    Ok(((cur + 1) | foreign, Join::Shared))
}

/// The first reference of an idle word.
#[inline(always)]
fn plan_open(cur: u64, from: PageType, want: PageType, foreign: u64) -> (u64, Join) {
    // What other domains' CPUs may have cached stays of interest while the type does not change.
    let kept = if from == want { cur & FOREIGN } else { 0 };
    let open = want.bits() | foreign | kept | 1;
    // No check and nothing stale: a first or renewed writable mapping needs no claim.
    if want == PageType::Writable && matches!(from, PageType::Writable | PageType::None) {
        return (open | cur & INCOHERENT | VALIDATED, Join::First);
    }
    let claim = Claim { borrowed: false };
    (
        open | BUSY,
        Join::Opened {
            claim,
            from,
            foreign: cur & FOREIGN != 0,
            incoherent: cur & INCOHERENT != 0,
        },
    )
}

/// The last reference goes: the word becomes Busy in our hands.
fn plan_close(cur: u64) -> (u64, Leave) {
    let next = cur & !(VALIDATED | PARTIAL | OWNED) | BUSY;
    (
        next,
        Leave::Closing {
            claim: Claim { borrowed: false },
            resumed: cur & PARTIAL != 0,
        },
    )
}
