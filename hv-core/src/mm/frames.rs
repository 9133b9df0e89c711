//! The frame table: one entry for each 4 KiB page of RAM, and its general references.
//!
//! A general reference keeps a frame with its owner: the owner changes only while there is none. Who
//! may look at a frame's contents, or maps it read-only, holds a general reference; who uses it as
//! something (writable, a table, descriptors) holds a type reference (`types`), and the type
//! references of a frame together hold one general reference. The owner itself holds one for as long
//! as the page is allocated to it.
//!
//! A table that is all zeros describes frames that are free.

use super::types::{TypeState, TypeWord};
use crate::base::{DomId, Mfn};
use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

/// Who owns a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The allocator.
    Free,
    /// The hypervisor.
    Xen,
    /// Nobody: the address is no RAM (a hole, device memory) or not ours to give.
    Io,
    /// A domain.
    Domain(DomId),
}

impl core::fmt::Display for Owner {
    /// Domains as messages begin with them.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Domain(id) => write!(f, "d{id}"),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Owner {
    /// Set for domains, whose numbers are below it.
    const DOMAIN: u16 = 1 << 15;

    const fn encode(self) -> u16 {
        match self {
            Self::Free => 0,
            Self::Xen => 1,
            Self::Io => 2,
            Self::Domain(id) => Self::DOMAIN | id,
        }
    }

    const fn decode(word: u16) -> Self {
        match word {
            0 => Self::Free,
            1 => Self::Xen,
            w if w & Self::DOMAIN != 0 => Self::Domain(w & !Self::DOMAIN),
            _ => Self::Io,
        }
    }
}

/// How a domain has a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Its own, in its account.
    Own,
    /// A page of ours that it is shown (shared info, grant table): in nobody's account.
    Lent,
}

/// Why a general reference was not given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefError {
    /// No such RAM.
    NotRam,
    /// Nobody holds it: it is free or on its way there.
    Unreferenced,
    /// It belongs to somebody else.
    WrongOwner,
    /// The count is full.
    Full,
    /// Somebody else still uses it (for changes of the owner).
    InUse,
    /// The domain that is to have it is dying.
    Closed,
}

/// Outcome of dropping a general reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(super) enum Dropped {
    /// Others remain.
    Alive,
    /// That was the last: the caller stamps the frame and gives it back to the allocator.
    Last,
}

/// General references: 56 bits, of which a guest can never fill a part.
const COUNT: u64 = (1 << 56) - 1;
/// The page is lent; kept until the frame is free.
const LENT: u64 = 1 << 62;
/// The owner's own reference is among them.
const ALLOCATED: u64 = 1 << 63;

/// The state of one frame.
#[derive(Default)]
#[repr(C, align(32))]
pub struct Frame {
    refs: AtomicU64,
    pub(super) ty: TypeWord,
    owner: AtomicU16,
    progress: AtomicU16,
    stamp: AtomicU32,
    /// Neighbours in the owner's list (`holdings`).
    pub(super) links: Links,
}

/// Two frame numbers, plus one each; zero: none.
#[derive(Default)]
pub(super) struct Links {
    pub(super) before: AtomicU32,
    pub(super) after: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 32);

impl Frame {
    /// A frame in the allocator's hands.
    #[must_use]
    pub const fn free() -> Self {
        Self {
            refs: AtomicU64::new(0),
            ty: TypeWord::new(),
            owner: AtomicU16::new(Owner::Free.encode()),
            progress: AtomicU16::new(0),
            stamp: AtomicU32::new(0),
            links: Links {
                before: AtomicU32::new(0),
                after: AtomicU32::new(0),
            },
        }
    }

    /// Who owns it. Stable while the caller holds a reference.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner::decode(self.owner.load(Ordering::Acquire))
    }

    /// Whether a domain owns it; as [`Self::owner`].
    #[inline(always)]
    #[must_use]
    pub fn belongs_to(&self, id: DomId) -> bool {
        self.owner.load(Ordering::Acquire) == Owner::Domain(id).encode()
    }

    /// Whether it is nobody's; as [`Self::owner`].
    #[inline(always)]
    #[must_use]
    pub fn is_io(&self) -> bool {
        self.owner.load(Ordering::Acquire) == Owner::Io.encode()
    }

    /// General references now (a snapshot, for checks and reports).
    #[must_use]
    pub fn references(&self) -> u64 {
        self.refs.load(Ordering::Acquire) & COUNT
    }

    /// Whether the owner's own reference is still there.
    #[must_use]
    pub fn is_allocated(&self) -> bool {
        self.refs.load(Ordering::Acquire) & ALLOCATED != 0
    }

    /// The type word now (a snapshot).
    #[must_use]
    pub fn type_state(&self) -> TypeState {
        self.ty.state()
    }

    /// TLB clock of the last unmap, or of the moment the frame was given back.
    #[must_use]
    pub fn stamp(&self) -> u32 {
        self.stamp.load(Ordering::Acquire)
    }

    /// Notes that mappings made up to `clock` may still be cached.
    pub fn set_stamp(&self, clock: u32) {
        self.stamp.store(clock, Ordering::Release);
    }

    /// Progress of interrupted work; meaningful to who holds the type word's claim.
    pub(super) fn progress(&self) -> u16 {
        self.progress.load(Ordering::Relaxed)
    }

    pub(super) fn set_progress(&self, progress: u16) {
        self.progress.store(progress, Ordering::Relaxed);
    }

    /// How the domain that owns it has it; as [`Self::owner`].
    #[must_use]
    pub fn standing(&self) -> Standing {
        if self.refs.load(Ordering::Acquire) & LENT == 0 {
            Standing::Own
        } else {
            Standing::Lent
        }
    }

    /// Takes a general reference if `owner` owns the frame. On [`GetError::Stray`] the caller holds
    /// a reference to somebody else's frame and must drop it like any other.
    #[inline]
    pub(super) fn get(&self, owner: Owner) -> Result<(), GetError> {
        let mut cur = self.refs.load(Ordering::Relaxed);
        loop {
            match cur & COUNT {
                0 => return Err(GetError::Refused(RefError::Unreferenced)),
                COUNT => return Err(GetError::Refused(RefError::Full)),
                _ => {}
            }
            match self
                .refs
                .compare_exchange_weak(cur, cur + 1, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => cur = now,
            }
        }
        // Only the reference keeps the owner as it is; before, it could have changed under us.
        if self.owner.load(Ordering::Acquire) == owner.encode() {
            Ok(())
        } else {
            Err(GetError::Stray)
        }
    }

    /// Drops a general reference that the caller holds.
    #[inline]
    pub(super) fn put(&self) -> Dropped {
        let before = self.refs.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before & COUNT != 0, "a reference was dropped twice");
        if before & COUNT == 1 {
            Dropped::Last
        } else {
            Dropped::Alive
        }
    }

    /// Gives a free frame to an owner, with the owner's own reference and no type.
    ///
    /// The allocator calls this after every CPU whose TLB may hold older mappings (by the frame's
    /// stamp) was flushed. Errors: [`RefError::InUse`] unless the frame is free.
    pub fn assign(&self, owner: Owner) -> Result<(), RefError> {
        self.settle(owner, Standing::Own)
    }

    /// As [`Self::assign`], with the standing that the owner has.
    pub(super) fn settle(&self, owner: Owner, standing: Standing) -> Result<(), RefError> {
        let taken = self.owner.compare_exchange(
            Owner::Free.encode(),
            owner.encode(),
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if taken.is_err() || self.references() != 0 {
            return Err(RefError::InUse);
        }
        self.ty.reset();
        self.set_progress(0);
        let lent = match standing {
            Standing::Own => 0,
            Standing::Lent => LENT,
        };
        self.refs.store(ALLOCATED | lent | 1, Ordering::Release);
        Ok(())
    }

    /// Marks a frame that is no RAM, at boot. Errors: [`RefError::InUse`] unless the frame is free.
    pub fn mark_io(&self) -> Result<(), RefError> {
        let free = Owner::Free.encode();
        self.owner
            .compare_exchange(
                free,
                Owner::Io.encode(),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .map(drop)
            .map_err(|_| RefError::InUse)
    }

    /// Returns a frame without references to the allocator's state. Call it from
    /// [`PtMachine::release`](super::PtMachine::release), after the contents were dealt with.
    ///
    /// Errors: [`RefError::InUse`] while there are references, or where it is free already.
    pub fn free_up(&self) -> Result<(), RefError> {
        if self.references() != 0 || self.owner() == Owner::Free {
            return Err(RefError::InUse);
        }
        self.ty.reset();
        self.refs.store(0, Ordering::Relaxed);
        self.owner.store(Owner::Free.encode(), Ordering::Release);
        Ok(())
    }

    /// Takes the owner's own reference away from it, once: the caller then holds it and drops it
    /// (`put_page`). False: it was gone already.
    #[must_use]
    pub fn take_allocation(&self) -> bool {
        self.refs.fetch_and(!ALLOCATED, Ordering::AcqRel) & ALLOCATED != 0
    }

    /// Takes a frame from its owner where the owner's own reference is the only one (exchange,
    /// transfer). On success nobody references the frame and the caller decides who gets it:
    /// stamp it, then [`Self::free_up`] and [`Self::assign`] under the allocator's rules.
    ///
    /// Errors: [`RefError::InUse`], [`RefError::WrongOwner`].
    pub fn steal(&self, owner: DomId) -> Result<(), RefError> {
        let sole = ALLOCATED | 1;
        if self.owner() != Owner::Domain(owner) {
            return Err(RefError::WrongOwner);
        }
        self.refs
            .compare_exchange(sole, 0, Ordering::AcqRel, Ordering::Acquire)
            .map_err(|_| RefError::InUse)?;
        // Now that nobody can change it, look again.
        if self.owner() == Owner::Domain(owner) {
            return Ok(());
        }
        self.refs.store(sole, Ordering::Release);
        Err(RefError::WrongOwner)
    }
}

/// Outcome of [`Frame::get`] other than a reference.
pub(super) enum GetError {
    /// No reference was taken.
    Refused(RefError),
    /// A reference to a frame of another owner was taken and must be dropped.
    Stray,
}

/// The frame entries of the machine, by frame number from 0.
#[derive(Clone, Copy)]
pub struct FrameTable<'a> {
    frames: &'a [Frame],
}

impl<'a> FrameTable<'a> {
    /// A table whose first entry is machine frame 0.
    #[must_use]
    pub const fn new(frames: &'a [Frame]) -> Self {
        Self { frames }
    }

    /// The entry of a frame; `None` beyond RAM.
    #[inline]
    #[must_use]
    pub fn get(&self, mfn: Mfn) -> Option<&'a Frame> {
        self.frames.get(usize::try_from(mfn.0).ok()?)
    }

    /// Number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
