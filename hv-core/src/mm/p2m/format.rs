//! One entry as the processor reads it.

use super::P2mKind;
use crate::base::Mfn;
use crate::mm::pte::Level;

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Nothing.
    Hole,
    /// A mapping; the first page and the kind of all. The page is 0 for a kind that has none.
    Leaf(Mfn, P2mKind),
    /// A table of the level below.
    Table(Mfn),
}

/// Which processor's tables. Chosen at boot, by the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// AMD's nested paging: long-mode page tables whose every access is one of user mode (AMD APM vol. 2, 15.25.5).
    Npt,
}

/// Bits of an entry (AMD APM vol. 2, 5.3).
mod npt {
    pub const PRESENT: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const USER: u64 = 1 << 2;
    /// PWT and PCD: entry 3 of the host's PAT, which is uncached after reset and stays so.
    pub const UNCACHED: u64 = 1 << 3 | 1 << 4;
    /// Accessed and dirty. Set from the start: the processor need not do it, and nobody looks.
    pub const USED: u64 = 1 << 5 | 1 << 6;
    /// The entry is a mapping although its level is above the lowest.
    pub const LARGE: u64 = 1 << 7;
    pub const NO_EXECUTE: u64 = 1 << 63;
    /// Bits 51..12.
    pub const FRAME: u64 = 0x000f_ffff_ffff_f000;
    /// Bits 55..52, which the processor ignores, as it does all bits of an entry that is not present: the kind.
    pub const KIND_SHIFT: u32 = 52;
    pub const KIND: u64 = 0xf << KIND_SHIFT;
}

impl Format {
    /// An entry that maps `pages_of(level)` pages from `first` on, a multiple of their number.
    #[must_use]
    pub const fn leaf(self, level: Level, first: Mfn, kind: P2mKind) -> u64 {
        match self {
            Self::Npt => npt_leaf(level, first, kind),
        }
    }

    /// An entry that leads to a table.
    #[must_use]
    pub const fn table(self, table: Mfn) -> u64 {
        match self {
            Self::Npt => {
                (table.0 << 12) & npt::FRAME | npt::PRESENT | npt::WRITE | npt::USER | npt::USED
            }
        }
    }

    /// What an entry of this level is.
    #[must_use]
    pub const fn decode(self, level: Level, word: u64) -> Slot {
        match self {
            Self::Npt => npt_decode(level, word),
        }
    }
}

const fn npt_leaf(level: Level, first: Mfn, kind: P2mKind) -> u64 {
    let rights = match kind {
        P2mKind::Hole => return 0,
        // Nothing else, so that the entry is the same at each level, and is not present.
        P2mKind::OnDemand => return (kind as u64) << npt::KIND_SHIFT,
        P2mKind::Ram => npt::WRITE,
        P2mKind::RamReadOnly | P2mKind::RamLogDirty => 0,
        P2mKind::Mmio => npt::WRITE | npt::UNCACHED | npt::NO_EXECUTE,
        P2mKind::GrantWrite | P2mKind::ForeignWrite => npt::WRITE | npt::NO_EXECUTE,
        P2mKind::GrantRead | P2mKind::ForeignRead => npt::NO_EXECUTE,
    };
    let size = match level {
        Level::L1 => 0,
        Level::L2 | Level::L3 | Level::L4 => npt::LARGE,
    };
    let always = npt::PRESENT | npt::USER | npt::USED;
    (first.0 << 12) & npt::FRAME | (kind as u64) << npt::KIND_SHIFT | always | rights | size
}

const fn npt_decode(level: Level, word: u64) -> Slot {
    let kind = P2mKind::from_number((word & npt::KIND) >> npt::KIND_SHIFT);
    if word & npt::PRESENT == 0 {
        return match kind {
            P2mKind::OnDemand => Slot::Leaf(Mfn(0), kind),
            _ => Slot::Hole,
        };
    }
    let frame = Mfn((word & npt::FRAME) >> 12);
    match level {
        Level::L2 | Level::L3 | Level::L4 if word & npt::LARGE == 0 => Slot::Table(frame),
        _ => Slot::Leaf(frame, kind),
    }
}
