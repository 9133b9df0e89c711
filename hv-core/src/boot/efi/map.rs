//! EFI's memory map (UEFI 2.10, 7.2.3, GetMemoryMap).

use alloc::vec::Vec;
use core::fmt;

use crate::base::{PAGE_SIZE, PhysAddr};
use crate::boot::memmap::{MemRegion, RegionKind};
use crate::boot::phys::Fields;

/// Kinds of memory.
#[allow(missing_docs, reason = "named as in the specification")]
pub mod kind {
    pub const LOADER_CODE: u32 = 1;
    pub const LOADER_DATA: u32 = 2;
    pub const BOOT_CODE: u32 = 3;
    pub const BOOT_DATA: u32 = 4;
    pub const RUNTIME_CODE: u32 = 5;
    pub const RUNTIME_DATA: u32 = 6;
    pub const CONVENTIONAL: u32 = 7;
    pub const UNUSABLE: u32 = 8;
    pub const ACPI_RECLAIM: u32 = 9;
    pub const ACPI_NVS: u32 = 10;
    pub const PERSISTENT: u32 = 14;
}

/// Bits of a region's attributes.
#[allow(missing_docs, reason = "named as in the specification")]
pub mod attribute {
    pub const WT: u64 = 1 << 2;
    pub const WB: u64 = 1 << 3;
    pub const XP: u64 = 1 << 14;
    pub const RO: u64 = 1 << 17;
    /// Specific purpose: not for everybody's use.
    pub const SP: u64 = 1 << 18;
    pub const RUNTIME: u64 = 1 << 63;
}

/// The only version of a descriptor that there has been.
const VERSION: u32 = 1;
/// Bytes of a descriptor's fields, and most that a larger one may have.
const FIELDS: usize = 40;
const LARGEST: usize = 1024;
/// Most descriptors taken.
const MAX_REGIONS: usize = 4096;

/// One entry of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiRegion {
    /// What it is: [`kind`] and more.
    pub kind: u32,
    /// First byte.
    pub base: PhysAddr,
    /// Length in bytes; saturates.
    pub len: u64,
    /// [`attribute`] and more.
    pub attributes: u64,
}

/// Why a map cannot be used. Prints as a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EfiMapError {
    /// The descriptors have another version than 1.
    Version(u32),
    /// Bytes of a descriptor: too few or absurd.
    Size(u32),
    /// More descriptors than are taken.
    TooMany(usize),
}

impl fmt::Display for EfiMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(number) => write!(
                f,
                "the EFI memory map has descriptors of version {number}, not {VERSION}"
            ),
            Self::Size(size) => write!(
                f,
                "the EFI memory map has descriptors of {size} bytes; {FIELDS} to {LARGEST} make sense"
            ),
            Self::TooMany(count) => write!(
                f,
                "the EFI memory map has {count} entries, where {MAX_REGIONS} is the limit"
            ),
        }
    }
}

impl EfiRegion {
    /// Takes the descriptors in `bytes`, each of `size` bytes.
    ///
    /// # Errors
    /// [`EfiMapError`] in words.
    pub fn parse_all(bytes: &[u8], size: u32, version: u32) -> Result<Vec<Self>, EfiMapError> {
        let step = size as usize;
        if version != VERSION {
            return Err(EfiMapError::Version(version));
        }
        if !(FIELDS..=LARGEST).contains(&step) {
            return Err(EfiMapError::Size(size));
        }
        let count = bytes.len() / step;
        if count > MAX_REGIONS {
            return Err(EfiMapError::TooMany(count));
        }
        Ok(bytes
            .chunks_exact(step)
            .filter_map(|one| Self::parse(Fields(one)))
            .collect())
    }

    /// One descriptor; a length that wraps around saturates.
    pub(super) fn parse(fields: Fields<'_>) -> Option<Self> {
        Some(Self {
            kind: fields.u32(0)?,
            base: PhysAddr(fields.u64(8)?),
            len: fields.u64(24)?.saturating_mul(PAGE_SIZE as u64),
            attributes: fields.u64(32)?,
        })
    }

    /// First byte behind it; saturates.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.base.0.saturating_add(self.len)
    }

    /// Whether all of `len` bytes from `at` on lie in it.
    #[must_use]
    pub fn holds(&self, at: u64, len: u64) -> bool {
        at >= self.base.0 && at.checked_add(len).is_some_and(|end| end <= self.end())
    }

    /// Whether the runtime services need it.
    #[must_use]
    pub const fn is_runtime(&self) -> bool {
        self.attributes & attribute::RUNTIME != 0
    }

    /// What it is to us and to dom0 now that the boot services have ended (UEFI 2.10, table 7.6).
    #[must_use]
    pub fn region(&self) -> MemRegion {
        let general = self.attributes & (attribute::WB | attribute::SP) == attribute::WB;
        let kind = match self.kind {
            kind::LOADER_CODE
            | kind::LOADER_DATA
            | kind::BOOT_CODE
            | kind::BOOT_DATA
            | kind::CONVENTIONAL
                if general && !self.is_runtime() =>
            {
                RegionKind::Usable
            }
            kind::UNUSABLE => RegionKind::Unusable,
            kind::ACPI_RECLAIM => RegionKind::AcpiTables,
            kind::ACPI_NVS => RegionKind::AcpiNvs,
            kind::PERSISTENT => RegionKind::Persistent,
            _ => RegionKind::Reserved,
        };
        MemRegion {
            base: self.base,
            len: self.len,
            kind,
        }
    }
}
