//! One entry as the processor reads it.
//!
//! The formats of both vendors agree on where an entry has its page (bits 51..12), on the bit of large mappings, and on
//! bits that they ignore. An entry that allows anything has bit 0 in both. They differ in what else says what is allowed.

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
    /// Intel's extended page tables (Intel SDM vol. 3, 29.3.2).
    Ept,
}

/// The entry is a mapping although its level is above the lowest.
const LARGE: u64 = 1 << 7;
/// Bits 51..12.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
/// Bits 55..52, which both processors ignore, as they do all bits of an entry that is not present: the kind.
const KIND_SHIFT: u32 = 52;
const KIND: u64 = 0xf << KIND_SHIFT;
/// Of an entry that is present: NPT's own bit, and EPT's right to read. Nothing may be written or executed here that
/// cannot be read, which EPT would take for a mistake.
const PRESENT: u64 = 1 << 0;

/// Bits of one format only (AMD APM vol. 2, 5.3).
mod npt {
    use super::{P2mKind, PRESENT};

    const WRITE: u64 = 1 << 1;
    const USER: u64 = 1 << 2;
    /// PWT and PCD: entry 3 of the host's PAT, which is uncached after reset and stays so.
    const UNCACHED: u64 = 1 << 3 | 1 << 4;
    /// Accessed and dirty. Set from the start: the processor need not do it, and nobody looks.
    const USED: u64 = 1 << 5 | 1 << 6;
    const NO_EXECUTE: u64 = 1 << 63;

    pub const TABLE: u64 = PRESENT | WRITE | USER | USED;

    pub const fn leaf(kind: P2mKind) -> u64 {
        let write = if kind.may_write() { WRITE } else { 0 };
        let execute = if kind.may_execute() { 0 } else { NO_EXECUTE };
        let memory = if kind.is_memory() { 0 } else { UNCACHED };
        PRESENT | USER | USED | write | execute | memory
    }
}

/// Bits of one format only (Intel SDM vol. 3, 29.3.2). Some that look free are not, where a feature is on that we leave off:
/// 10, 57, 58, 60, 61 and 63.
mod ept {
    use super::{P2mKind, PRESENT};

    const WRITE: u64 = 1 << 1;
    const EXECUTE: u64 = 1 << 2;
    /// The memory type, in the numbers of the MTRRs, is in bits 5..3 of a mapping: write-back; uncached is 0.
    const WRITE_BACK: u64 = super::WRITE_BACK << 3;
    /// What the guest's page tables and PAT say of caching counts for nothing, as the host's PAT is in force.
    const IGNORE_PAT: u64 = 1 << 6;
    /// Accessed and dirty. Nobody looks; a table has the first only.
    const ACCESSED: u64 = 1 << 8;
    const DIRTY: u64 = 1 << 9;

    pub const TABLE: u64 = PRESENT | WRITE | EXECUTE | ACCESSED;

    pub const fn leaf(kind: P2mKind) -> u64 {
        let write = if kind.may_write() { WRITE } else { 0 };
        let execute = if kind.may_execute() { EXECUTE } else { 0 };
        let memory = if kind.is_memory() { WRITE_BACK } else { 0 };
        PRESENT | IGNORE_PAT | ACCESSED | DIRTY | write | execute | memory
    }
}

/// The number of write-back memory in EPT (Intel SDM vol. 3, 29.3.7).
const WRITE_BACK: u64 = 6;

/// The pointer to a tree of format [`Format::Ept`], for a VMCS (Intel SDM vol. 3, 25.6.11): the tables are in write-back memory, a
/// walk has four steps, and accessed and dirty bits are not kept.
#[must_use]
pub const fn eptp(root: Mfn) -> u64 {
    /// One less than the steps of a walk.
    const STEPS: u64 = 3 << 3;
    root.0 << 12 & FRAME | STEPS | WRITE_BACK
}

impl Format {
    /// An entry that maps `pages_of(level)` pages from `first` on, a multiple of their number.
    #[must_use]
    pub const fn leaf(self, level: Level, first: Mfn, kind: P2mKind) -> u64 {
        let about = (kind as u64) << KIND_SHIFT;
        if !kind.has_page() {
            // Nothing else, so that the entry is the same at each level, and is not present.
            return about;
        }
        let size = match level {
            Level::L1 => 0,
            Level::L2 | Level::L3 | Level::L4 => LARGE,
        };
        let rights = match self {
            Self::Npt => npt::leaf(kind),
            Self::Ept => ept::leaf(kind),
        };
        first.0 << 12 & FRAME | about | size | rights
    }

    /// An entry that leads to a table.
    #[must_use]
    pub const fn table(self, table: Mfn) -> u64 {
        let bits = match self {
            Self::Npt => npt::TABLE,
            Self::Ept => ept::TABLE,
        };
        table.0 << 12 & FRAME | bits
    }

    /// What an entry of this level is.
    #[must_use]
    pub const fn decode(self, level: Level, word: u64) -> Slot {
        let kind = P2mKind::from_number((word & KIND) >> KIND_SHIFT);
        if word & PRESENT == 0 {
            return match kind {
                P2mKind::OnDemand => Slot::Leaf(Mfn(0), kind),
                _ => Slot::Hole,
            };
        }
        let frame = Mfn((word & FRAME) >> 12);
        match level {
            Level::L2 | Level::L3 | Level::L4 if word & LARGE == 0 => Slot::Table(frame),
            _ => Slot::Leaf(frame, kind),
        }
    }
}
