//! Tables as such: header, length, checksum (ACPI specification, 5.2.6).

use alloc::vec::Vec;
use core::fmt;

use super::warning::{AcpiWarning, Signature, Text, Warnings};
use crate::base::PhysAddr;
use crate::boot::phys::{Fields, PhysMem};

/// Bytes of the header that all tables but the FACS begin with.
pub(super) const HEADER_LEN: usize = 36;
/// Largest table taken; the largest real ones, DSDTs, have a few MiB.
pub(super) const MAX_TABLE_LEN: u32 = 16 << 20;
/// The firmware control structure, which has a header and no checksum of its own.
pub(super) const FACS: Signature = Signature(*b"FACS");
const FACS_MIN_LEN: u32 = 64;

/// One table, for the boot log and for those who look for a table by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Its name.
    pub signature: Signature,
    /// Where it is.
    pub address: PhysAddr,
    /// Its length in bytes, header included.
    pub length: u32,
    /// Who made it; `None` for a FACS, which does not say.
    pub origin: Option<Origin>,
}

/// What a table's header says about its maker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Revision of the table's layout.
    pub revision: u8,
    /// The maker of the machine.
    pub oem: [u8; 6],
    /// The maker's name of the table.
    pub oem_table: [u8; 8],
    /// The maker's revision.
    pub oem_revision: u32,
    /// The tool that made it.
    pub creator: [u8; 4],
    /// The tool's revision.
    pub creator_revision: u32,
}

impl fmt::Display for TableSummary {
    /// As the boot log has it: `FACP 9FFE19DF, 0074 (r1 BOCHS  BXPC            1 BXPC        1)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            signature,
            address,
            length,
            ..
        } = self;
        write!(f, "{signature} {:08X}, {length:04X}", address.0)?;
        if let Some(origin) = self.origin {
            write!(
                f,
                " (r{} {:<6} {:<8} {:8X} {:<4} {:8X})",
                origin.revision,
                Text(&origin.oem),
                Text(&origin.oem_table),
                origin.oem_revision,
                Text(&origin.creator),
                origin.creator_revision
            )?;
        }
        Ok(())
    }
}

/// A table whose length and checksum are right.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) summary: TableSummary,
    /// All its bytes, header included: offsets are those of the specification.
    pub(super) fields: Fields<'a>,
}

impl<'a> Table<'a> {
    /// Reads and checks the table at `at`.
    pub(super) fn read<M: PhysMem + ?Sized>(mem: &'a M, at: PhysAddr) -> Result<Self, AcpiWarning> {
        let unmapped = AcpiWarning::Unmapped(at);
        let head = Fields(mem.read(at, 8).ok_or(unmapped)?);
        let signature = Signature(head.array(0).ok_or(unmapped)?);
        let length = head.u32(4).ok_or(unmapped)?;
        let least = match signature {
            FACS => FACS_MIN_LEN,
            _ => HEADER_LEN as u32,
        };
        if !(least..=MAX_TABLE_LEN).contains(&length) {
            return Err(AcpiWarning::BadLength {
                table: signature,
                length,
            });
        }
        let bytes = mem.read(at, length as usize).ok_or(unmapped)?;
        if signature != FACS && !sums_to_zero(bytes) {
            return Err(AcpiWarning::BadChecksum(signature));
        }
        let fields = Fields(bytes);
        let origin = || {
            Some(Origin {
                revision: fields.u8(8)?,
                oem: fields.array(10)?,
                oem_table: fields.array(16)?,
                oem_revision: fields.u32(24)?,
                creator: fields.array(28)?,
                creator_revision: fields.u32(32)?,
            })
        };
        Ok(Self {
            summary: TableSummary {
                signature,
                address: at,
                length,
                origin: (signature != FACS).then(origin).flatten(),
            },
            fields,
        })
    }

    /// Its name.
    pub(super) fn signature(&self) -> Signature {
        self.summary.signature
    }

    /// The warning that the table is too short for its kind.
    pub(super) fn too_short(&self) -> AcpiWarning {
        AcpiWarning::BadLength {
            table: self.signature(),
            length: self.summary.length,
        }
    }

    /// The warning that the entry at `offset` makes no sense.
    pub(super) fn nonsense(&self, offset: usize, what: &'static str) -> AcpiWarning {
        AcpiWarning::Nonsense {
            table: self.signature(),
            offset,
            what,
        }
    }

    /// The entries from `offset` on, each beginning with a byte of type and one of length. Entries
    /// that are shorter than these two bytes or reach over the table's end finish the walk with a
    /// warning.
    pub(super) fn entries(
        &self,
        mut offset: usize,
    ) -> impl Iterator<Item = Result<Entry<'a>, AcpiWarning>> + use<'a> {
        let table = self.signature();
        let all = self.fields.0;
        core::iter::from_fn(move || {
            let rest = all.get(offset..).filter(|rest| !rest.is_empty())?;
            let kind = rest[0];
            let length = rest.get(1).map_or(0, |&length| usize::from(length));
            let bytes = rest.get(..length).filter(|bytes| bytes.len() >= 2);
            let at = offset;
            let Some(bytes) = bytes else {
                offset = all.len();
                return Some(Err(AcpiWarning::BadEntry {
                    table,
                    offset: at,
                    kind,
                    length,
                }));
            };
            offset += length;
            Some(Ok(Entry {
                offset: at,
                kind,
                fields: Fields(bytes),
            }))
        })
    }

    /// The warning that an entry has a length that its type cannot have.
    pub(super) fn bad_entry(&self, entry: &Entry<'_>) -> AcpiWarning {
        AcpiWarning::BadEntry {
            table: self.signature(),
            offset: entry.offset,
            kind: entry.kind,
            length: entry.fields.0.len(),
        }
    }
}

/// One entry of a table of entries.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Where in the table.
    pub(super) offset: usize,
    /// Its type.
    pub(super) kind: u8,
    /// Its bytes, from the type on.
    pub(super) fields: Fields<'a>,
}

/// Whether the bytes add up to 0, as those of a good table do.
pub(super) fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Adds to a list up to a limit; says once when there is more.
pub(super) fn push_bounded<T>(
    list: &mut Vec<T>,
    item: T,
    limit: usize,
    warnings: &mut Warnings,
    too_many: AcpiWarning,
) {
    if list.len() < limit {
        list.push(item);
    } else {
        warnings.push_once(too_many);
    }
}
