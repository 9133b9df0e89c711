//! Which page tables the start of day needs, and in which frames they lie.
//!
//! A table is known by its level and its index: a level-n table covers a fixed slice of the 48-bit
//! address space, and the index counts those slices. Two areas hold tables: the initial mapping's,
//! inside that mapping, and those that only the p2m list at its own address needs.

use core::ops::Range;

use super::{ENTRIES, PAGE_SHIFT};

/// Bits of an entry: present, writable, user, accessed, dirty (AMD APM volume 2, 5.4).
pub mod entry_flags {
    /// Present.
    pub const PRESENT: u64 = 1;
    /// Writable.
    pub const WRITABLE: u64 = 1 << 1;
    /// Accessible at CPL 3, where PV kernels run.
    pub const USER: u64 = 1 << 2;
    /// Accessed.
    pub const ACCESSED: u64 = 1 << 5;
    /// Written to.
    pub const DIRTY: u64 = 1 << 6;

    /// Entries that point to tables and to pages the kernel may write.
    pub const READ_WRITE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
    /// Entries that map page tables.
    pub const READ_ONLY: u64 = PRESENT | USER | ACCESSED | DIRTY;
}

/// Level of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Entries map pages.
    L1 = 1,
    /// Entries point to level-1 tables.
    L2 = 2,
    /// Entries point to level-2 tables.
    L3 = 3,
    /// The root.
    L4 = 4,
}

impl Level {
    /// From the root down.
    pub const ALL: [Self; 4] = [Self::L4, Self::L3, Self::L2, Self::L1];

    /// The level that entries of this level's tables point to.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::L4 => Some(Self::L3),
            Self::L3 => Some(Self::L2),
            Self::L2 => Some(Self::L1),
            Self::L1 => None,
        }
    }

    /// Index of the page at `address`, counted like tables.
    pub(super) const fn first_page(address: u64) -> u64 {
        (address & ((1 << 48) - 1)) >> PAGE_SHIFT
    }

    /// Index of the table of this level that translates `address`.
    pub(super) const fn table_index(self, address: u64) -> u64 {
        let low48 = address & ((1 << 48) - 1);
        low48 >> (PAGE_SHIFT + 9 * self as u32)
    }
}

/// Tables of one level with successive indices, in successive frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of the first table.
    pub first: u64,
    /// Number of tables.
    pub count: u64,
    /// Pseudo-physical frame of the first table.
    pub pfn: u64,
}

impl Span {
    const fn end(&self) -> u64 {
        self.first + self.count
    }

    const fn contains(&self, index: u64) -> bool {
        index >= self.first && index < self.end()
    }

    /// The frame of table `index`.
    fn frame(&self, index: u64) -> Option<u64> {
        self.contains(index)
            .then(|| self.pfn + (index - self.first))
    }

    /// The tables of `level` that cover the bytes `first..=last`; frames are not yet given.
    fn covering(level: Level, first: u64, last: u64) -> Self {
        let start = level.table_index(first);
        Self {
            first: start,
            count: level.table_index(last) - start + 1,
            pfn: 0,
        }
    }

    /// Drops tables that `other` has too. The address ranges behind the two spans do not overlap,
    /// so they can only share a table at an end of this span.
    fn without(mut self, other: &Self) -> Self {
        while self.count > 0 && other.contains(self.first) {
            self.first += 1;
            self.count -= 1;
        }
        while self.count > 0 && other.contains(self.end() - 1) {
            self.count -= 1;
        }
        self
    }
}

/// Frames that hold tables of one level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFrames {
    /// Their level.
    pub level: Level,
    /// Their pseudo-physical frames.
    pub pfns: Range<u64>,
}

/// All page tables of the start of day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The initial mapping's, from level 4 down; contiguous, the root first.
    pub main: [Span; 4],
    /// Those for the p2m list alone, from level 4 down; the first is always empty.
    pub p2m: [Span; 4],
}

impl Tables {
    /// Tables for the bytes `first..=last`, in frames from `pfn` on.
    pub(super) fn for_mapping(first: u64, last: u64, pfn: u64) -> Self {
        let main = Level::ALL.map(|level| Span::covering(level, first, last));
        Self {
            main: place(main, pfn),
            p2m: [Span::default(); 4],
        }
    }

    /// Adds the tables that the bytes `first..=last` need beyond those there are, from `pfn` on.
    pub(super) fn add_p2m(&mut self, first: u64, last: u64, pfn: u64) {
        let mut spans = Level::ALL.map(|level| Span::covering(level, first, last));
        for (span, main) in spans.iter_mut().zip(&self.main) {
            *span = span.without(main);
        }
        self.p2m = place(spans, pfn);
    }

    /// Number of tables of the initial mapping.
    #[must_use]
    pub fn main_count(&self) -> u64 {
        self.main.iter().map(|span| span.count).sum()
    }

    /// Number of tables for the p2m list alone.
    #[must_use]
    pub fn p2m_count(&self) -> u64 {
        self.p2m.iter().map(|span| span.count).sum()
    }

    /// Frames of all tables with their levels, from level 4 down.
    pub fn frames(&self) -> impl Iterator<Item = TableFrames> + '_ {
        let spans = Level::ALL.into_iter().zip(self.main.iter().zip(&self.p2m));
        spans.flat_map(|(level, (main, p2m))| {
            [main, p2m]
                .into_iter()
                .filter(|span| span.count > 0)
                .map(move |span| TableFrames {
                    level,
                    pfns: span.pfn..span.pfn + span.count,
                })
        })
    }

    /// Tables of one level, those of the initial mapping first.
    pub(super) fn spans(&self, level: Level) -> [Span; 2] {
        let at = 4 - level as usize;
        [self.main[at], self.p2m[at]]
    }

    /// The frame of table `index` of `level`.
    pub(super) fn frame(&self, level: Level, index: u64) -> Option<u64> {
        self.spans(level).iter().find_map(|span| span.frame(index))
    }

    /// Whether a frame holds a table.
    #[must_use]
    pub fn contains(&self, pfn: u64) -> bool {
        self.main
            .iter()
            .chain(&self.p2m)
            .any(|span| pfn >= span.pfn && pfn - span.pfn < span.count)
    }
}

/// Gives successive frames to the spans.
fn place(mut spans: [Span; 4], mut pfn: u64) -> [Span; 4] {
    for span in &mut spans {
        span.pfn = pfn;
        pfn += span.count;
    }
    spans
}

/// Position in its table of the entry that leads to table (or page) `index` of the level below.
pub(super) const fn slot(index: u64) -> usize {
    (index % ENTRIES) as usize
}
