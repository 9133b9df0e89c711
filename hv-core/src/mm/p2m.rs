//! Tables that translate guest frames for the processor (nested paging): what a guest without page-table
//! privileges of its own calls physical memory.
//!
//! - [`format`]: how one entry is written for the processor, of either vendor.
//! - [`pool`]: the pages that tables are made of, set aside for one domain.
//! - [`change`]: setting, clearing, splitting and merging entries.
//!
//! A radix tree of four levels with 512 entries each; an entry of the lowest three levels maps a page of 4 KiB,
//! 2 MiB or 1 GiB. The tree is the only record: the kind of each page ([`P2mKind`]) is kept in bits of the entry that the
//! processor ignores, and what follows from the kind (may the guest write?) in those that it obeys.
//!
//! # Who may do what at the same time
//! Changes need [`Inventory`], of which there is one for each tree, under its owner's lock. Look-ups need nothing. They read entries
//! while others change them, and the processor sets bits in them. What makes that safe:
//! - an entry is complete before it is stored, in one store; a table is filled before it is linked;
//! - a table that was unlinked is counted ([`Radix::unlink`]) before its page is used for anything else, and a look-up goes on from an
//!   entry only if nothing was unlinked since it began. So what it follows was in the tree a moment ago. Otherwise it
//!   begins again ([`Moved`]).
//!
//! # TLBs
//! The processor may keep walking into a table that was unlinked, and use entries that are gone, until the owner has flushed.
//! Tables wait for that as *retired* ones in the pool. Entries that were not present are never cached, and an entry
//! that allows more than before needs no flush: the processor walks again before it reports a fault.

pub mod change;
pub mod format;
pub mod pool;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicU64, Ordering};

use super::pte::{ENTRIES, Level};
use crate::base::{Gfn, Mfn};

pub use change::{Former, Grants, Taken};
pub use format::{Format, Slot, eptp};
pub use pool::Pool;

/// What stands behind a guest frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum P2mKind {
    /// Nothing: the guest's accesses are device accesses.
    Hole = 0,
    /// RAM of the domain's own, or a page lent to it. While written pages are logged: it was written.
    Ram = 1,
    /// RAM to which the guest's stores do nothing.
    RamReadOnly = 2,
    /// RAM that was not written since the log of written pages was read; the first store faults.
    RamLogDirty = 3,
    /// Registers of a device, uncached.
    Mmio = 4,
    /// A page mapped writable by a grant.
    GrantWrite = 5,
    /// A page mapped read-only by a grant.
    GrantRead = 6,
    /// A page of another domain, writable.
    ForeignWrite = 7,
    /// A page of another domain, read-only.
    ForeignRead = 8,
    /// RAM that the domain was promised: a page comes with the first touch, and until then there is none.
    OnDemand = 9,
}

/// Number of kinds.
pub const KINDS: usize = 10;

impl P2mKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Ram,
            2 => Self::RamReadOnly,
            3 => Self::RamLogDirty,
            4 => Self::Mmio,
            5 => Self::GrantWrite,
            6 => Self::GrantRead,
            7 => Self::ForeignWrite,
            8 => Self::ForeignRead,
            9 => Self::OnDemand,
            _ => Self::Hole,
        }
    }

    /// Whether it is memory of the domain's own (or lent to it).
    #[must_use]
    pub const fn is_ram(self) -> bool {
        matches!(self, Self::Ram | Self::RamReadOnly | Self::RamLogDirty)
    }

    /// Whether a grant mapped it: such an entry goes when the grant is unmapped, and in no other way.
    #[must_use]
    pub const fn is_grant(self) -> bool {
        matches!(self, Self::GrantWrite | Self::GrantRead)
    }

    /// Whether it is another domain's page, mapped by right of control.
    #[must_use]
    pub const fn is_foreign(self) -> bool {
        matches!(self, Self::ForeignWrite | Self::ForeignRead)
    }

    /// Whether the guest's stores reach what is there.
    #[must_use]
    pub const fn may_write(self) -> bool {
        matches!(
            self,
            Self::Ram | Self::Mmio | Self::GrantWrite | Self::ForeignWrite
        )
    }

    /// Whether the guest may execute what is there: only what is its own.
    #[must_use]
    pub const fn may_execute(self) -> bool {
        self.is_ram()
    }

    /// Whether there is a page at all, of whomever, or of a device.
    #[must_use]
    pub const fn has_page(self) -> bool {
        !matches!(self, Self::Hole | Self::OnDemand)
    }

    /// Whether there is a page of memory, of whomever.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        self.has_page() && !matches!(self, Self::Mmio)
    }
}

/// What a look-up finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The page behind the guest frame that was asked about; [`Mfn::INVALID`] where there is none.
    pub mfn: Mfn,
    /// What it is.
    pub kind: P2mKind,
    /// log2 of the pages that the entry covers, which begin at a multiple of their number: 0, 9, 18, and 27 for large holes.
    pub order: u32,
}

impl Mapping {
    /// Nothing, in a range of this order.
    #[must_use]
    pub const fn hole(order: u32) -> Self {
        Self {
            mfn: Mfn::INVALID,
            kind: P2mKind::Hole,
            order,
        }
    }

    /// The first guest frame behind the entry that covers `gfn`.
    #[must_use]
    pub const fn next(&self, gfn: Gfn) -> Gfn {
        Gfn((gfn.0 | ((1 << self.order) - 1)).saturating_add(1))
    }
}

/// The memory in which tables are.
pub trait Frames {
    /// A table's entries. Called for pages of the pool, and for a moment for what was one.
    fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES];
}

/// A table was unlinked during a look-up, which knows nothing now: ask again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved;

/// Of one tree, what there is once: the pages for its tables and the number of pages of each kind. Who has it alone may change the tree.
pub struct Inventory {
    /// Pages for tables.
    pub pool: Pool,
    counts: [u64; KINDS],
}

impl Inventory {
    /// With these pages, for an empty tree.
    #[must_use]
    pub const fn new(pool: Pool) -> Self {
        Self {
            pool,
            counts: [0; KINDS],
        }
    }

    /// Guest frames of this kind; nothing for [`P2mKind::Hole`].
    #[must_use]
    pub fn count(&self, kind: P2mKind) -> u64 {
        self.counts.get(kind as usize).copied().unwrap_or(0)
    }

    fn add(&mut self, kind: P2mKind, pages: u64) {
        if let Some(count) = self.counts.get_mut(kind as usize)
            && kind != P2mKind::Hole
        {
            *count += pages;
        }
    }

    fn subtract(&mut self, kind: P2mKind, pages: u64) {
        if let Some(count) = self.counts.get_mut(kind as usize)
            && kind != P2mKind::Hole
        {
            debug_assert!(*count >= pages, "more pages of a kind went than came");
            *count = count.saturating_sub(pages);
        }
    }
}

/// Pages that an entry of this level covers.
#[must_use]
pub const fn pages_of(level: Level) -> u64 {
    1 << order_of(level)
}

/// log2 of the pages that an entry of this level covers.
#[must_use]
pub const fn order_of(level: Level) -> u32 {
    9 * (level as u32 - 1)
}

/// The level whose entries cover `1 << order` pages, where they can be mappings.
#[must_use]
pub const fn level_of(order: u32) -> Option<Level> {
    match order {
        0 => Some(Level::L1),
        9 => Some(Level::L2),
        18 => Some(Level::L3),
        _ => None,
    }
}

/// Set in the count of unlinked tables when there is no tree any more.
const OVER: u64 = 1 << 63;

/// The tree of one domain.
pub struct Radix {
    format: Format,
    root: Mfn,
    limit: u64,
    /// Counts tables taken out of the tree; [`OVER`] when the root has gone.
    unlinked: AtomicU64,
}

/// Where a look-up has ended: at a mapping, a hole, or an entry of the level that was wanted.
pub(super) struct Place<'a> {
    pub(super) word: &'a AtomicU64,
    pub(super) level: Level,
    pub(super) content: Slot,
}

impl Radix {
    /// An empty tree whose root, all zeroes, is a page of its pool. `limit` is the first guest frame number that does not exist.
    #[must_use]
    pub const fn new(format: Format, root: Mfn, limit: u64) -> Self {
        // Four levels of 512 entries.
        let most = 1 << 36;
        Self {
            format,
            root,
            limit: if limit < most { limit } else { most },
            unlinked: AtomicU64::new(0),
        }
    }

    /// How its entries are written.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The table of the highest level.
    #[must_use]
    pub const fn root(&self) -> Mfn {
        self.root
    }

    /// The first guest frame number that does not exist.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// What stands behind a guest frame, at this moment. Needs no lock.
    ///
    /// # Errors
    /// [`Moved`]: something else was going on.
    pub fn lookup<F: Frames + ?Sized>(&self, m: &F, gfn: Gfn) -> Result<Mapping, Moved> {
        if gfn.0 >= self.limit {
            return Ok(Mapping::hole(0));
        }
        let before = self.unlinked.load(Ordering::Acquire);
        // Seen in the same load: one that begins later does not touch the root.
        if before & OVER != 0 {
            return Ok(Mapping::hole(0));
        }
        let same = || self.unlinked.load(Ordering::Acquire) == before;
        let place = self.descend(m, gfn, Level::L1, same).ok_or(Moved)?;
        Ok(mapping(&place, gfn))
    }

    /// As [`Self::lookup`] for who can change the tree.
    #[must_use]
    pub fn see<F: Frames + ?Sized>(&self, m: &F, _: &Inventory, gfn: Gfn) -> Mapping {
        if gfn.0 >= self.limit || self.is_over() {
            return Mapping::hole(0);
        }
        mapping(&self.at(m, gfn, Level::L1), gfn)
    }

    /// The entry for `gfn` at level `to`, or above where the way down ends before. For who can change the tree.
    pub(super) fn at<'a, F: Frames + ?Sized>(&self, m: &'a F, gfn: Gfn, to: Level) -> Place<'a> {
        loop {
            if let Some(place) = self.descend(m, gfn, to, || true) {
                return place;
            }
        }
    }

    /// Walks down while `valid` says so after each entry read.
    fn descend<'a, F: Frames + ?Sized>(
        &self,
        m: &'a F,
        gfn: Gfn,
        to: Level,
        valid: impl Fn() -> bool,
    ) -> Option<Place<'a>> {
        let (mut table, mut level) = (self.root, Level::L4);
        loop {
            let word = m.table(table).get(slot(level, gfn))?;
            let content = self.format.decode(level, word.load(Ordering::Acquire));
            if !valid() {
                return None;
            }
            match (content, level.below()) {
                (Slot::Table(next), Some(below)) if level > to => {
                    (table, level) = (next, below);
                }
                _ => {
                    return Some(Place {
                        word,
                        level,
                        content,
                    });
                }
            }
        }
    }

    /// Notes that a table was taken out of the tree: look-ups that may be in it begin again. To be called before its page is used otherwise.
    pub fn unlink(&self) {
        self.unlinked.fetch_add(1, Ordering::SeqCst);
    }

    /// Ends the tree, which is empty: look-ups find nothing from now on, and the root's page may be used otherwise. Nobody changes it any more.
    pub fn end(&self) {
        self.unlinked.fetch_or(OVER, Ordering::SeqCst);
    }

    /// Whether the tree has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.unlinked.load(Ordering::SeqCst) & OVER != 0
    }
}

/// Index of the entry for a guest frame.
const fn slot(level: Level, gfn: Gfn) -> usize {
    level.slot(gfn.0 << 12)
}

fn mapping(place: &Place<'_>, gfn: Gfn) -> Mapping {
    let order = order_of(place.level);
    match place.content {
        Slot::Leaf(first, kind) => Mapping {
            mfn: if kind.has_page() {
                Mfn(first.0 + (gfn.0 & ((1 << order) - 1)))
            } else {
                Mfn::INVALID
            },
            kind,
            order,
        },
        Slot::Hole | Slot::Table(_) => Mapping::hole(order),
    }
}
