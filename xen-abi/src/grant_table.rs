//! Grant tables (grant_table.h): entry layouts of both versions and the sub-operations.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Index of a grant entry (grant_table.h, `grant_ref_t`).
pub type GrantRef = u32;
/// Names a mapping made through a grant (grant_table.h, `grant_handle_t`).
pub type GrantHandle = u32;
/// Word of the status array of version 2 (grant_table.h, `grant_status_t`).
pub type GrantStatus = u16;

/// Map granted frames; [`GnttabMapGrantRef`] (grant_table.h).
pub const GNTTABOP_map_grant_ref: u32 = 0;
/// Undo mappings; [`GnttabUnmapGrantRef`] (grant_table.h).
pub const GNTTABOP_unmap_grant_ref: u32 = 1;
/// Size the table and list its frames; [`GnttabSetupTable`] (grant_table.h).
pub const GNTTABOP_setup_table: u32 = 2;
/// Print a table for debugging; [`GnttabDumpTable`] (grant_table.h).
pub const GNTTABOP_dump_table: u32 = 3;
/// Give a frame away; [`GnttabTransfer`] (grant_table.h).
pub const GNTTABOP_transfer: u32 = 4;
/// Copy bytes between frames; [`GnttabCopy`] (grant_table.h).
pub const GNTTABOP_copy: u32 = 5;
/// Ask for the table's size; [`GnttabQuerySize`] (grant_table.h).
pub const GNTTABOP_query_size: u32 = 6;
/// Unmap and put another entry in place; [`GnttabUnmapAndReplace`] (grant_table.h).
pub const GNTTABOP_unmap_and_replace: u32 = 7;
/// Choose the entry layout; [`GnttabSetVersion`] (grant_table.h).
pub const GNTTABOP_set_version: u32 = 8;
/// List the status frames (version 2); [`GnttabGetStatusFrames`] (grant_table.h).
pub const GNTTABOP_get_status_frames: u32 = 9;
/// Ask for the entry layout; [`GnttabGetVersion`] (grant_table.h).
pub const GNTTABOP_get_version: u32 = 10;
/// Exchange two entries; [`GnttabSwapGrantRef`] (grant_table.h).
pub const GNTTABOP_swap_grant_ref: u32 = 11;
/// Clean or invalidate caches of a granted page; [`GnttabCacheFlush`] (grant_table.h).
pub const GNTTABOP_cache_flush: u32 = 12;
/// Number of entries at the start reserved for tools (grant_table.h).
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Reserved entry of the console page (grant_table.h).
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// Reserved entry of the xenstore page (grant_table.h).
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;

/// Entry type: grants nothing (grant_table.h).
pub const GTF_invalid: u16 = 0x0;
/// Entry type: `domid` may map or copy the frame (grant_table.h).
pub const GTF_permit_access: u16 = 0x1;
/// Entry type: `domid` may transfer a frame here (grant_table.h).
pub const GTF_accept_transfer: u16 = 0x2;
/// Entry type: stands for an entry of a third domain (version 2) (grant_table.h).
pub const GTF_transitive: u16 = 0x3;
/// Mask of the entry type (grant_table.h).
pub const GTF_type_mask: u16 = 0x3;
/// Flag: read-only (grant_table.h).
pub const GTF_readonly: u16 = 0x4;
/// Flag set by the hypervisor: mapped or pinned for reading (grant_table.h).
pub const GTF_reading: u16 = 0x8;
/// Flag set by the hypervisor: mapped or pinned for writing (grant_table.h).
pub const GTF_writing: u16 = 0x10;
/// Flag: cache attribute PWT for mappings (grant_table.h).
pub const GTF_PWT: u16 = 0x20;
/// Flag: cache attribute PCD for mappings (grant_table.h).
pub const GTF_PCD: u16 = 0x40;
/// Flag: cache attribute PAT for mappings (grant_table.h).
pub const GTF_PAT: u16 = 0x80;
/// Flag: only part of the frame is granted (version 2) (grant_table.h).
pub const GTF_sub_page: u16 = 0x100;
/// Transfer flag: the hypervisor has begun (grant_table.h).
pub const GTF_transfer_committed: u16 = 0x4;
/// Transfer flag: the hypervisor has finished (grant_table.h).
pub const GTF_transfer_completed: u16 = 0x8;

/// Mapping flag: for devices (grant_table.h).
pub const GNTMAP_device_map: u32 = 0x1;
/// Mapping flag: for CPUs (grant_table.h).
pub const GNTMAP_host_map: u32 = 0x2;
/// Mapping flag: read-only (grant_table.h).
pub const GNTMAP_readonly: u32 = 0x4;
/// Mapping flag: user mode may use it too (grant_table.h).
pub const GNTMAP_application_map: u32 = 0x8;
/// Mapping flag: `host_addr` is the machine address of the entry to write (grant_table.h).
pub const GNTMAP_contains_pte: u32 = 0x10;
/// Lowest bit of [`GNTMAP_guest_avail_mask`] (grant_table.h).
pub const _GNTMAP_guest_avail0: u32 = 0x10;
/// Mapping flags: bits to set among the entry's available ones (grant_table.h).
pub const GNTMAP_guest_avail_mask: u32 = 0xffff_0000;

/// Copy flag: the source is a grant reference (grant_table.h).
pub const GNTCOPY_source_gref: u16 = 1;
/// Copy flag: the destination is a grant reference (grant_table.h).
pub const GNTCOPY_dest_gref: u16 = 2;

/// Cache flush: write back (grant_table.h).
pub const GNTTAB_CACHE_CLEAN: u32 = 0x1;
/// Cache flush: drop (grant_table.h).
pub const GNTTAB_CACHE_INVAL: u32 = 0x2;
/// Cache flush: `a` is a grant reference (grant_table.h).
pub const GNTTAB_CACHE_SOURCE_GREF: u32 = 0x8000_0000;

/// Status: done (grant_table.h).
pub const GNTST_okay: i16 = 0;
/// Status: failed for some other reason (grant_table.h).
pub const GNTST_general_error: i16 = -1;
/// Status: no such domain (grant_table.h).
pub const GNTST_bad_domain: i16 = -2;
/// Status: no such grant, or not of that kind (grant_table.h).
pub const GNTST_bad_gntref: i16 = -3;
/// Status: no such handle, or not of that kind (grant_table.h).
pub const GNTST_bad_handle: i16 = -4;
/// Status: wrong virtual address to map at (grant_table.h).
pub const GNTST_bad_virt_addr: i16 = -5;
/// Status: wrong device address to unmap (grant_table.h).
pub const GNTST_bad_dev_addr: i16 = -6;
/// Status: no room in the I/O MMU (grant_table.h).
pub const GNTST_no_device_space: i16 = -7;
/// Status: not allowed (grant_table.h).
pub const GNTST_permission_denied: i16 = -8;
/// Status: frame not usable for this (grant_table.h).
pub const GNTST_bad_page: i16 = -9;
/// Status: copy crosses a page boundary (grant_table.h).
pub const GNTST_bad_copy_arg: i16 = -10;
/// Status: frame number too large to transfer (grant_table.h).
pub const GNTST_address_too_big: i16 = -11;
/// Status: not now; try again (grant_table.h).
pub const GNTST_eagain: i16 = -12;
/// Status: out of handles or similar (grant_table.h).
pub const GNTST_no_space: i16 = -13;

/// Entry of version 1, shared live with the guest: `flags` and `domid` change as one word
/// (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GrantEntryV1 {
    /// `GTF_*`.
    pub flags: u16,
    /// Domain that is granted something.
    pub domid: u16,
    /// Guest frame granted.
    pub frame: u32,
}

/// First word of every entry (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GrantEntryHeader {
    /// `GTF_*`.
    pub flags: u16,
    /// Domain that is granted something.
    pub domid: u16,
}

/// Entry of version 2, whole frame (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GrantEntryV2FullPage {
    /// Flags and domain.
    pub hdr: GrantEntryHeader,
    /// Padding; zero.
    pub pad0: u32,
    /// Guest frame granted.
    pub frame: u64,
}

/// Entry of version 2, part of a frame (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GrantEntryV2SubPage {
    /// Flags and domain.
    pub hdr: GrantEntryHeader,
    /// First byte.
    pub page_off: u16,
    /// Number of bytes.
    pub length: u16,
    /// Guest frame granted.
    pub frame: u64,
}

/// Entry of version 2, standing for another domain's entry (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GrantEntryV2Transitive {
    /// Flags and domain.
    pub hdr: GrantEntryHeader,
    /// The other domain.
    pub trans_domid: u16,
    /// Padding; zero.
    pub pad0: u16,
    /// Its entry.
    pub gref: u32,
}

/// Argument of [`GNTTABOP_map_grant_ref`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabMapGrantRef {
    /// Where to map: virtual address, or machine address of an entry.
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
    /// Entry.
    pub r#ref: u32,
    /// Domain whose entry it is.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: name of the mapping.
    pub handle: u32,
    /// Out: bus address.
    pub dev_bus_addr: u64,
}

/// Argument of [`GNTTABOP_unmap_grant_ref`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabUnmapGrantRef {
    /// Where it is mapped; 0 ignored.
    pub host_addr: u64,
    /// Bus address; 0 ignored.
    pub dev_bus_addr: u64,
    /// Mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// Argument of [`GNTTABOP_setup_table`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabSetupTable {
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Number of frames wanted.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u8; 6],
    /// Array for that many frame numbers.
    pub frame_list: GuestHandle<u64>,
}

/// Argument of [`GNTTABOP_dump_table`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabDumpTable {
    /// Domain.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
}

/// Argument of [`GNTTABOP_transfer`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabTransfer {
    /// Frame to give away.
    pub mfn: u64,
    /// Domain that gets it.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Its entry that accepts it.
    pub r#ref: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u8; 6],
}

/// One end of a copy (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabCopyPtr {
    /// Grant reference (low 32 bits) or frame number.
    pub u: u64,
    /// Domain it belongs to.
    pub domid: u16,
    /// Offset in the frame.
    pub offset: u16,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`GNTTABOP_copy`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabCopy {
    /// From.
    pub source: GnttabCopyPtr,
    /// To.
    pub dest: GnttabCopyPtr,
    /// Number of bytes.
    pub len: u16,
    /// `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// Argument of [`GNTTABOP_query_size`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabQuerySize {
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Out: frames in use.
    pub nr_frames: u32,
    /// Out: frames allowed.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u8; 2],
}

/// Argument of [`GNTTABOP_unmap_and_replace`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabUnmapAndReplace {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Address whose mapping is moved here.
    pub new_addr: u64,
    /// Mapping.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// Argument of [`GNTTABOP_set_version`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabSetVersion {
    /// In: wanted; out: in effect.
    pub version: u32,
}

/// Argument of [`GNTTABOP_get_status_frames`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabGetStatusFrames {
    /// Length of the array.
    pub nr_frames: u32,
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Array for that many frame numbers.
    pub frame_list: GuestHandle<u64>,
}

/// Argument of [`GNTTABOP_get_version`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabGetVersion {
    /// Domain.
    pub dom: u16,
    /// Padding; zero.
    pub pad: u16,
    /// Out: 1 or 2.
    pub version: u32,
}

/// Argument of [`GNTTABOP_swap_grant_ref`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabSwapGrantRef {
    /// One entry.
    pub ref_a: u32,
    /// The other entry.
    pub ref_b: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// Argument of [`GNTTABOP_cache_flush`] (grant_table.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabCacheFlush {
    /// Bus address or grant reference.
    pub a: u64,
    /// Offset in the frame.
    pub offset: u16,
    /// Number of bytes.
    pub length: u16,
    /// `GNTTAB_CACHE_*`.
    pub op: u32,
}
