//! Changes to the tree. Each takes the pages that it needs before it changes anything.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use super::format::Slot;
use super::{Frames, Inventory, P2mKind, Place, Radix, level_of, order_of, pages_of};
use crate::base::{Gfn, Mfn};
use crate::mm::pte::{ENTRIES, Level};

/// Whether entries made by grants may be taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grants {
    /// They stay: whoever mapped them unmaps them.
    Stay,
    /// They go like all others.
    Go,
}

/// What an entry was before a change took it out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Former {
    /// Nothing.
    Hole,
    /// A mapping: the first guest frame, the first page, their number, and what they were.
    Pages {
        /// First guest frame.
        gfn: Gfn,
        /// First page.
        mfn: Mfn,
        /// Number of pages.
        pages: u64,
        /// What they were.
        kind: P2mKind,
    },
    /// A table of 512 pages with its entries, which are the record of what was mapped from `gfn` on. The page is the pool's: after
    /// a flush it is for [`Pool::give_back`](super::Pool::give_back).
    Table {
        /// First guest frame.
        gfn: Gfn,
        /// The table.
        table: Mfn,
    },
}

impl Former {
    /// Takes the first pages off a mapping, at most so many, until a hole is left. What is no mapping goes whole.
    pub const fn cut(&mut self, most: u64) -> Self {
        let whole = *self;
        let Self::Pages {
            gfn,
            mfn,
            pages,
            kind,
        } = whole
        else {
            *self = Self::Hole;
            return whole;
        };
        if pages <= most {
            *self = Self::Hole;
            return whole;
        }
        *self = Self::Pages {
            gfn: Gfn(gfn.0 + most),
            mfn: Mfn(mfn.0 + most),
            pages: pages - most,
            kind,
        };
        Self::Pages {
            gfn,
            mfn,
            pages: most,
            kind,
        }
    }
}

/// One step of taking out a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Taken {
    /// Guest frames passed.
    pub passed: u64,
    /// What was there.
    pub former: Former,
}

impl Radix {
    /// Checks that a range exists and lies as an entry of this order needs it.
    fn check(&self, gfn: Gfn, order: u32) -> Result<Level, Errno> {
        let level = level_of(order).ok_or(Errno::EINVAL)?;
        let pages = pages_of(level);
        let end = gfn.0.checked_add(pages).ok_or(Errno::EINVAL)?;
        if !gfn.0.is_multiple_of(pages) || end > self.limit {
            return Err(Errno::EINVAL);
        }
        Ok(level)
    }

    /// Maps `1 << order` pages from `mfn` on at `gfn`; where the kind has no pages, `mfn` is 0. The caller owns what it gets back, and flushes
    /// unless that is a hole, which stands also for frames without pages.
    ///
    /// # Errors
    /// `EINVAL` for what is beyond the limit or not aligned, and where a grant is mapped; `EEXIST` where 1 GiB is to replace a table or RAM;
    /// `ENOMEM` when the pool has too few pages. Nothing is changed then.
    pub fn set<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        (gfn, order): (Gfn, u32),
        mfn: Mfn,
        kind: P2mKind,
    ) -> Result<Former, Errno> {
        let level = self.check(gfn, order)?;
        if kind == P2mKind::Hole || !mfn.0.is_multiple_of(1 << order) {
            return Err(Errno::EINVAL);
        }
        self.may_replace(m, gfn, level)?;
        let place = self.open(m, inventory, gfn, level)?;
        let former = self.exchange(m, inventory, &place, gfn, |f| f.leaf(level, mfn, kind));
        inventory.add(kind, pages_of(level));
        Ok(former)
    }

    /// Refuses to replace what has to stay.
    fn may_replace<F: Frames + ?Sized>(&self, m: &F, gfn: Gfn, level: Level) -> Result<(), Errno> {
        let grant = match self.at(m, gfn, level).content {
            Slot::Hole => false,
            Slot::Leaf(_, kind) if goes_in_parts(level, kind) => return Err(Errno::EEXIST),
            Slot::Leaf(_, kind) => kind.is_grant(),
            Slot::Table(table) if level == Level::L2 => self.has_grants(m, table),
            Slot::Table(_) => return Err(Errno::EEXIST),
        };
        if grant { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// The mappings of a table of the lowest level: index, page (0 where there is none) and kind.
    pub fn entries<F: Frames + ?Sized>(
        &self,
        m: &F,
        table: Mfn,
    ) -> impl Iterator<Item = (u64, Mfn, P2mKind)> {
        let format = self.format;
        (0..).zip(m.table(table)).filter_map(move |(index, word)| {
            match format.decode(Level::L1, word.load(Ordering::Acquire)) {
                Slot::Leaf(mfn, kind) => Some((index, mfn, kind)),
                Slot::Hole | Slot::Table(_) => None,
            }
        })
    }

    fn has_grants<F: Frames + ?Sized>(&self, m: &F, table: Mfn) -> bool {
        self.entries(m, table).any(|(_, _, kind)| kind.is_grant())
    }

    /// Stores a word at a place; what was there leaves the counts and becomes the caller's.
    fn exchange<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        place: &Place<'_>,
        gfn: Gfn,
        new: impl FnOnce(super::Format) -> u64,
    ) -> Former {
        let old = place.word.swap(new(self.format), Ordering::AcqRel);
        match self.format.decode(place.level, old) {
            Slot::Hole => Former::Hole,
            Slot::Leaf(mfn, kind) => {
                let pages = pages_of(place.level);
                inventory.subtract(kind, pages);
                if !kind.has_page() {
                    return Former::Hole;
                }
                let gfn = Gfn(gfn.0 & !(pages - 1));
                Former::Pages {
                    gfn,
                    mfn,
                    pages,
                    kind,
                }
            }
            Slot::Table(table) => {
                self.unlink();
                for (_, _, kind) in self.entries(m, table) {
                    inventory.subtract(kind, 1);
                }
                Former::Table { gfn, table }
            }
        }
    }

    /// Makes the way down to the entry for `gfn` at this level, through holes and larger mappings.
    fn open<'a, F: Frames + ?Sized>(
        &self,
        m: &'a F,
        inventory: &mut Inventory,
        gfn: Gfn,
        to: Level,
    ) -> Result<Place<'a>, Errno> {
        let end = self.at(m, gfn, to).level;
        if inventory.pool.free() < end as u64 - to as u64 {
            return Err(Errno::ENOMEM);
        }
        loop {
            let place = self.at(m, gfn, to);
            if place.level <= to {
                return Ok(place);
            }
            let table = inventory.pool.take(m).ok_or(Errno::ENOMEM)?;
            self.hang_below(m, &place, table);
        }
    }

    /// Hangs a zeroed table below an entry, with the same translations in it as that gave.
    fn hang_below<F: Frames + ?Sized>(&self, m: &F, place: &Place<'_>, table: Mfn) {
        if let (Slot::Leaf(first, kind), Some(below)) = (place.content, place.level.below()) {
            for (index, word) in (0..).zip(m.table(table)) {
                let page = Mfn(first.0 + index * pages_of(below));
                // Of a kind that has no pages, the number is not used.
                let entry = self.format.leaf(below, page, kind);
                word.store(entry, Ordering::Relaxed);
            }
        }
        place
            .word
            .store(self.format.table(table), Ordering::Release);
    }

    /// Splits what covers `gfn` until an entry covers `1 << order` pages. A hole stays one.
    ///
    /// # Errors
    /// `EINVAL` beyond the limit, `ENOMEM` when the pool has too few pages; nothing is changed then.
    pub fn split<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        gfn: Gfn,
        order: u32,
    ) -> Result<(), Errno> {
        let level = level_of(order).ok_or(Errno::EINVAL)?;
        if gfn.0 >= self.limit {
            return Err(Errno::EINVAL);
        }
        if matches!(self.at(m, gfn, level).content, Slot::Leaf(..)) {
            self.open(m, inventory, gfn, level)?;
        }
        Ok(())
    }

    /// Takes out what is at the beginning of a range: an entry, or a table of 512 pages at once; 1 GiB of RAM goes by the 2 MiB. To be
    /// called on until the range is passed; then the caller flushes.
    ///
    /// # Errors
    /// `EINVAL` beyond the limit, for an empty range, and at a grant that stays; `ENOMEM` when a mapping has to be split for which the pool has no pages.
    /// Nothing is changed then.
    pub fn take<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        (gfn, pages): (Gfn, u64),
        grants: Grants,
    ) -> Result<Taken, Errno> {
        let end = gfn.0.checked_add(pages).ok_or(Errno::EINVAL)?;
        if pages == 0 || end > self.limit {
            return Err(Errno::EINVAL);
        }
        loop {
            let place = self.whole_table(m, gfn, pages, grants);
            let size = pages_of(place.level);
            let offset = gfn.0 & (size - 1);
            match place.content {
                Slot::Hole => {
                    return Ok(Taken {
                        passed: pages.min(size - offset),
                        former: Former::Hole,
                    });
                }
                Slot::Leaf(_, kind) if kind.is_grant() && grants == Grants::Stay => {
                    return Err(Errno::EINVAL);
                }
                Slot::Leaf(_, kind)
                    if offset != 0 || pages < size || goes_in_parts(place.level, kind) =>
                {
                    let below = place.level.below().ok_or(Errno::EINVAL)?;
                    self.split(m, inventory, gfn, order_of(below))?;
                }
                Slot::Leaf(..) | Slot::Table(_) => {
                    let former = self.exchange(m, inventory, &place, gfn, |_| 0);
                    self.prune(m, inventory, gfn);
                    return Ok(Taken {
                        passed: size,
                        former,
                    });
                }
            }
        }
    }

    /// Takes out the whole mapping that covers `gfn`, however large it is: that needs no page of the pool. The caller lets go of its pages a
    /// part at a time ([`Former::cut`]).
    pub fn take_whole<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        gfn: Gfn,
    ) -> Former {
        if gfn.0 >= self.limit {
            return Former::Hole;
        }
        let place = self.at(m, gfn, Level::L1);
        if !matches!(place.content, Slot::Leaf(..)) {
            return Former::Hole;
        }
        let former = self.exchange(m, inventory, &place, gfn, |_| 0);
        self.prune(m, inventory, gfn);
        former
    }

    /// The place of the entry for `gfn`, or of the table that has it, where that can go whole.
    fn whole_table<'a, F: Frames + ?Sized>(
        &self,
        m: &'a F,
        gfn: Gfn,
        pages: u64,
        grants: Grants,
    ) -> Place<'a> {
        let size = pages_of(Level::L2);
        if gfn.0.is_multiple_of(size) && pages >= size {
            let place = self.at(m, gfn, Level::L2);
            if let Slot::Table(table) = place.content
                && (grants == Grants::Go || !self.has_grants(m, table))
            {
                return place;
            }
        }
        self.at(m, gfn, Level::L1)
    }

    /// Unlinks and retires the tables on the way to `gfn` that have become empty, from below.
    fn prune<F: Frames + ?Sized>(&self, m: &F, inventory: &mut Inventory, gfn: Gfn) {
        for level in [Level::L2, Level::L3, Level::L4] {
            let place = self.at(m, gfn, level);
            match place.content {
                Slot::Table(table) if is_empty(m, table) => {
                    place.word.store(0, Ordering::Release);
                    self.unlink();
                    inventory.pool.retire(m, table);
                }
                Slot::Table(_) => return,
                Slot::Hole | Slot::Leaf(..) => {}
            }
        }
    }

    /// Gives the whole entry that covers `gfn` another kind. The caller flushes where that allows less. Tables, and what has no pages or
    /// would have none, stay as they are.
    pub fn set_kind<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        gfn: Gfn,
        kind: P2mKind,
    ) {
        if gfn.0 >= self.limit || !kind.has_page() {
            return;
        }
        let place = self.at(m, gfn, Level::L1);
        if let Slot::Leaf(first, before) = place.content
            && before.has_page()
        {
            let word = self.format.leaf(place.level, first, kind);
            place.word.store(word, Ordering::Release);
            inventory.subtract(before, pages_of(place.level));
            inventory.add(kind, pages_of(place.level));
        }
    }

    /// Makes one mapping of the 512 that are below the entry of `1 << order` pages (9 or 18) for `gfn`, if they are of one kind and
    /// their pages follow each other, from a multiple of their number on. The table is retired.
    pub fn merge<F: Frames + ?Sized>(
        &self,
        m: &F,
        inventory: &mut Inventory,
        gfn: Gfn,
        order: u32,
    ) -> bool {
        let Some(level @ (Level::L2 | Level::L3)) = level_of(order) else {
            return false;
        };
        if gfn.0 >= self.limit {
            return false;
        }
        let place = self.at(m, gfn, level);
        let (Slot::Table(table), Some(below)) = (place.content, place.level.below()) else {
            return false;
        };
        if place.level != level {
            return false;
        }
        let decoded = |word: &core::sync::atomic::AtomicU64| {
            self.format.decode(below, word.load(Ordering::Acquire))
        };
        let words = m.table(table);
        let Slot::Leaf(first, kind) = decoded(&words[0]) else {
            return false;
        };
        let step = pages_of(below);
        let in_row = |(index, word)| {
            let page = Mfn(first.0.wrapping_add(step.wrapping_mul(index)));
            decoded(word) == Slot::Leaf(page, kind)
        };
        let aligned = first.0.is_multiple_of(pages_of(level));
        // What has to go one by one stays so.
        if !aligned || kind.is_grant() || kind.is_foreign() || !(0..).zip(words).all(in_row) {
            return false;
        }
        let word = self.format.leaf(level, first, kind);
        place.word.store(word, Ordering::Release);
        self.unlink();
        inventory.pool.retire(m, table);
        true
    }
}

/// Whether a table has no entries.
fn is_empty<F: Frames + ?Sized>(m: &F, table: Mfn) -> bool {
    let words: &[_; ENTRIES] = m.table(table);
    words.iter().all(|w| w.load(Ordering::Relaxed) == 0)
}

/// Whether a mapping is of too many pages that hold something to let go of them at once.
fn goes_in_parts(level: Level, kind: P2mKind) -> bool {
    level > Level::L2 && kind.is_ram()
}
