//! Structures as 32-bit code has them, where they differ from those of 64-bit code: pointers, frame numbers and other C
//! `long` are words of 32 bits. Named as the wide ones, which say more.
//!
//! `tests/layout` compares them with the C headers as `cc -m32` sees them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Extents to add, remove or populate ([`crate::memory::MemoryReservation`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Reservation {
    /// Array of extent start frames.
    pub extent_start: u32,
    /// Number of extents.
    pub nr_extents: u32,
    /// Binary logarithm of an extent's pages.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// A frame to be placed ([`crate::memory::AddToPhysmap`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AddToPhysmap {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Number of pages, for ranges.
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Index in the space.
    pub idx: u32,
    /// Where it goes.
    pub gpfn: u32,
}

/// A memory map's buffer ([`crate::memory::MemoryMap`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemoryMap {
    /// In: room; out: entries.
    pub nr_entries: u32,
    /// Array of `E820Entry`.
    pub buffer: u32,
}

/// A map for a domain ([`crate::memory::ForeignMemoryMap`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ForeignMemoryMap {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// The map.
    pub map: MemoryMap,
}

/// Frames of the table ([`crate::grant_table::GnttabSetupTable`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabSetupTable {
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Wanted number of frames.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u8; 2],
    /// Out: array of words.
    pub frame_list: u32,
}

/// Frames of status words ([`crate::grant_table::GnttabGetStatusFrames`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabGetStatusFrames {
    /// Wanted number of frames.
    pub nr_frames: u32,
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: array of 64-bit numbers.
    pub frame_list: u32,
}

/// A frame that is given away ([`crate::grant_table::GnttabTransfer`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabTransfer {
    /// Frame to give away.
    pub mfn: u32,
    /// Domain that gets it.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Its entry that accepts it.
    pub r#ref: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u8; 2],
}

/// One side of a copy ([`crate::grant_table::GnttabCopyPtr`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct GnttabCopyPtr {
    /// Entry, or frame.
    pub u: u32,
    /// Its domain.
    pub domid: u16,
    /// First byte.
    pub offset: u16,
}

/// A copy ([`crate::grant_table::GnttabCopy`]).
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

/// Ports to wait for ([`crate::sched::SchedPoll`]).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedPoll {
    /// Array of ports.
    pub ports: u32,
    /// Number of ports.
    pub nr_ports: u32,
    /// Time limit in ns, its lower half first: 32-bit code aligns it as a word.
    pub timeout: [u32; 2],
}
