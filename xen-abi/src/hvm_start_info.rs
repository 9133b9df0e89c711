//! Start of day of a PVH guest (arch-x86/hvm/start_info.h): the structure in `ebx` at entry.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Value of [`HvmStartInfo::magic`] (arch-x86/hvm/start_info.h).
pub const XEN_HVM_START_MAGIC_VALUE: u32 = 0x336e_c578;

/// Usable memory (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_RAM: u32 = 1;
/// Reserved (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_RESERVED: u32 = 2;
/// ACPI tables, reclaimable (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_ACPI: u32 = 3;
/// ACPI non-volatile storage (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_NVS: u32 = 4;
/// Memory with errors (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_UNUSABLE: u32 = 5;
/// Memory not enabled (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_DISABLED: u32 = 6;
/// Persistent memory (arch-x86/hvm/start_info.h).
pub const XEN_HVM_MEMMAP_TYPE_PMEM: u32 = 7;

/// What a PVH kernel is told when it starts; physical addresses, 0 means absent
/// (arch-x86/hvm/start_info.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmStartInfo {
    /// [`XEN_HVM_START_MAGIC_VALUE`].
    pub magic: u32,
    /// 0, or 1 with a memory map.
    pub version: u32,
    /// `SIF_*`.
    pub flags: u32,
    /// Number of modules.
    pub nr_modules: u32,
    /// Address of the [`HvmModlistEntry`] array.
    pub modlist_paddr: u64,
    /// Address of the zero-terminated command line.
    pub cmdline_paddr: u64,
    /// Address of the ACPI root pointer.
    pub rsdp_paddr: u64,
    /// Address of the [`HvmMemmapTableEntry`] array; version 1.
    pub memmap_paddr: u64,
    /// Number of its entries; version 1.
    pub memmap_entries: u32,
    /// Reserved; zero.
    pub reserved: u32,
}

/// One boot module (arch-x86/hvm/start_info.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmModlistEntry {
    /// Address.
    pub paddr: u64,
    /// Size in bytes.
    pub size: u64,
    /// Address of its zero-terminated command line.
    pub cmdline_paddr: u64,
    /// Reserved; zero.
    pub reserved: u64,
}

/// One range of the memory map (arch-x86/hvm/start_info.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmMemmapTableEntry {
    /// Start.
    pub addr: u64,
    /// Size in bytes.
    pub size: u64,
    /// `XEN_HVM_MEMMAP_TYPE_*`.
    pub r#type: u32,
    /// Reserved; zero.
    pub reserved: u32,
}
