//! Entries of memory maps as the BIOS call 0xE820 lays them out: the format of the buffers of
//! `XENMEM_memory_map` and its like (memory.h refers to it; the public headers have no type).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One range of a memory map: 20 bytes, packed, as BIOS call 0xE820 returns it.
#[repr(C, packed)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct E820Entry {
    /// First address.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// `E820_*`.
    pub r#type: u32,
}

/// Usable memory.
pub const E820_RAM: u32 = 1;
/// Reserved.
pub const E820_RESERVED: u32 = 2;
/// ACPI tables, reclaimable.
pub const E820_ACPI: u32 = 3;
/// ACPI non-volatile storage.
pub const E820_NVS: u32 = 4;
/// Memory with errors.
pub const E820_UNUSABLE: u32 = 5;
