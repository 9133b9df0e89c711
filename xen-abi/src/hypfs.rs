//! The hypervisor's tree of parameters, hypercall `hypfs_op` (hypfs.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of the interface (hypfs.h).
pub const XEN_HYPFS_VERSION: u32 = 1;
/// Returns the version; no arguments (hypfs.h).
pub const XEN_HYPFS_OP_get_version: u32 = 0;
/// Read an entry: path, its length, buffer, its length (hypfs.h).
pub const XEN_HYPFS_OP_read: u32 = 1;
/// Write an entry: path, its length, buffer, its length (hypfs.h).
pub const XEN_HYPFS_OP_write_contents: u32 = 2;
/// Longest path in bytes (hypfs.h).
pub const XEN_HYPFS_MAX_PATHLEN: u32 = 1024;

/// Entry type: directory (hypfs.h).
pub const XEN_HYPFS_TYPE_DIR: u8 = 0;
/// Entry type: bytes (hypfs.h).
pub const XEN_HYPFS_TYPE_BLOB: u8 = 1;
/// Entry type: string (hypfs.h).
pub const XEN_HYPFS_TYPE_STRING: u8 = 2;
/// Entry type: unsigned number (hypfs.h).
pub const XEN_HYPFS_TYPE_UINT: u8 = 3;
/// Entry type: signed number (hypfs.h).
pub const XEN_HYPFS_TYPE_INT: u8 = 4;
/// Entry type: truth value (hypfs.h).
pub const XEN_HYPFS_TYPE_BOOL: u8 = 5;
/// Encoding: as it is (hypfs.h).
pub const XEN_HYPFS_ENC_PLAIN: u8 = 0;
/// Encoding: compressed by gzip (hypfs.h).
pub const XEN_HYPFS_ENC_GZIP: u8 = 1;

/// Header of what a read returns (hypfs.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HypfsDirentry {
    /// `XEN_HYPFS_TYPE_*`.
    pub r#type: u8,
    /// `XEN_HYPFS_ENC_*`.
    pub encoding: u8,
    /// Padding; zero.
    pub pad: u16,
    /// Size in bytes of the contents.
    pub content_len: u32,
    /// Most bytes a write may have; 0 read-only.
    pub max_write_len: u32,
}

/// One entry of a directory's contents; its zero-terminated name begins at the padding (hypfs.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HypfsDirlistentry {
    /// Entry.
    pub e: HypfsDirentry,
    /// Offset from this to the next entry; 0 at the last.
    pub off_next: u16,
    /// Padding.
    pub _pad0: [u8; 2],
}
