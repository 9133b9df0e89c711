//! What is wrong with a table; each warning prints as one sentence.

use alloc::vec::Vec;
use core::fmt;

use crate::base::PhysAddr;

/// The four characters that name a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature(
    /// The characters, in the order of memory.
    pub [u8; 4],
);

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text(&self.0).fmt(f)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Characters of a fixed field; what is not printable shows as a question mark, zeros at the end
/// as nothing. Keeps width and alignment.
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self
            .0
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |at| at + 1);
        let mut text = arrayvec::ArrayString::<16>::new();
        for &byte in &self.0[..end] {
            let shown = if byte == b' ' || byte.is_ascii_graphic() {
                char::from(byte)
            } else {
                '?'
            };
            if text.try_push(shown).is_err() {
                break;
            }
        }
        f.pad(&text)
    }
}

/// Something wrong with the firmware's tables, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcpiWarning {
    /// No root pointer at this address.
    NoRootPointer(PhysAddr),
    /// The root pointer's extended part does not check; its first part is used.
    BadExtendedRootPointer,
    /// The root pointer names no list of tables.
    NoTableList,
    /// The table at this address cannot be read; skipped.
    Unmapped(PhysAddr),
    /// Where this table should be there is another; skipped.
    WrongSignature {
        /// Where.
        address: PhysAddr,
        /// What should be there.
        expected: Signature,
        /// What is there.
        found: Signature,
    },
    /// A list of tables names a list of tables; skipped.
    NestedList(PhysAddr),
    /// The same address is listed twice; taken once.
    Repeated(PhysAddr),
    /// A table claims a length that it cannot have; skipped.
    BadLength {
        /// The table.
        table: Signature,
        /// What it claims, in bytes.
        length: u32,
    },
    /// The bytes of a table do not add up to 0; skipped.
    BadChecksum(Signature),
    /// More tables of this kind than one; the first is used.
    SecondTable(Signature),
    /// An entry claims a length that it cannot have. Where its true end is unknown, the rest of
    /// the table is skipped too.
    BadEntry {
        /// The table.
        table: Signature,
        /// Offset of the entry in the table.
        offset: usize,
        /// Type of the entry.
        kind: u8,
        /// Its length as claimed, in bytes.
        length: usize,
    },
    /// An entry whose content makes no sense; skipped.
    Nonsense {
        /// The table.
        table: Signature,
        /// Offset of the entry in the table.
        offset: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// So many warnings followed that were not kept.
    More(usize),
    /// More entries than are taken; the rest are skipped.
    TooMany {
        /// The table.
        table: Signature,
        /// Of what.
        what: &'static str,
        /// How many are taken.
        limit: usize,
    },
}

impl fmt::Display for AcpiWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ACPI: ")?;
        match *self {
            Self::NoRootPointer(at) => write!(f, "there is no valid root pointer at {at:#x}"),
            Self::BadExtendedRootPointer => f.write_str(
                "the extended part of the root pointer has a wrong checksum or length and is ignored",
            ),
            Self::NoTableList => f.write_str("the root pointer leads to no list of tables"),
            Self::Unmapped(at) => write!(f, "the table at {at:#x} cannot be read and is skipped"),
            Self::WrongSignature {
                address,
                expected,
                found,
            } => write!(
                f,
                "at {address:#x} there is a table {found} where {expected} should be; it is skipped"
            ),
            Self::NestedList(at) => {
                write!(f, "the list of tables names another list at {at:#x}, which is skipped")
            }
            Self::Repeated(at) => write!(f, "the table at {at:#x} is listed twice and taken once"),
            Self::BadLength { table, length } => {
                write!(f, "table {table} cannot be {length:#x} bytes long and is skipped")
            }
            Self::BadChecksum(table) => {
                write!(f, "table {table} has a wrong checksum and is skipped")
            }
            Self::SecondTable(table) => {
                write!(f, "there is more than one table {table}; the first is used")
            }
            Self::BadEntry {
                table,
                offset,
                kind,
                length,
            } => write!(
                f,
                "in table {table} the entry at {offset:#x} of type {kind} cannot be {length} bytes long and is skipped"
            ),
            Self::Nonsense {
                table,
                offset,
                what,
            } => write!(f, "in table {table} the entry at {offset:#x} is skipped: {what}"),
            Self::More(count) => write!(f, "{count} more parts of the tables are skipped"),
            Self::TooMany { table, what, limit } => {
                write!(f, "table {table} has more than {limit} {what}; the rest are ignored")
            }
        }
    }
}

/// Most warnings kept: a hostile table can hold millions of broken entries.
const MAX_WARNINGS: usize = 64;

/// Warnings being gathered, up to a bound.
#[derive(Default)]
pub(super) struct Warnings {
    list: Vec<AcpiWarning>,
    dropped: usize,
}

impl Warnings {
    /// Adds a warning.
    pub(super) fn push(&mut self, warning: AcpiWarning) {
        if self.list.len() < MAX_WARNINGS {
            self.list.push(warning);
        } else {
            self.dropped += 1;
        }
    }

    /// Adds a warning that is said once only.
    pub(super) fn push_once(&mut self, warning: AcpiWarning) {
        if !self.list.contains(&warning) {
            self.push(warning);
        }
    }

    /// The warnings, ended by a count of those that were dropped.
    pub(super) fn into_list(mut self) -> Vec<AcpiWarning> {
        if self.dropped > 0 {
            self.list.push(AcpiWarning::More(self.dropped));
        }
        self.list
    }
}
