//! Version queries, hypercall `xen_version` (version.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handle::zero_default;

/// Returns major << 16 | minor; no argument (version.h).
pub const XENVER_version: u32 = 0;
/// Writes [`XEN_EXTRAVERSION_LEN`] characters (version.h).
pub const XENVER_extraversion: u32 = 1;
/// Writes a [`CompileInfo`] (version.h).
pub const XENVER_compile_info: u32 = 2;
/// Writes [`XEN_CAPABILITIES_INFO_LEN`] characters (version.h).
pub const XENVER_capabilities: u32 = 3;
/// Writes [`XEN_CHANGESET_INFO_LEN`] characters (version.h).
pub const XENVER_changeset: u32 = 4;
/// Writes a [`PlatformParameters`] (version.h).
pub const XENVER_platform_parameters: u32 = 5;
/// Reads and writes a [`FeatureInfo`] (version.h).
pub const XENVER_get_features: u32 = 6;
/// Returns the page size; no argument (version.h).
pub const XENVER_pagesize: u32 = 7;
/// Writes the 16 bytes of the caller's UUID (version.h).
pub const XENVER_guest_handle: u32 = 8;
/// Writes [`XEN_COMMANDLINE_LEN`] characters of the hypervisor's command line (version.h).
pub const XENVER_commandline: u32 = 9;
/// Reads and writes a [`BuildId`] and what follows it; returns the length (version.h).
pub const XENVER_build_id: u32 = 10;

/// Size in bytes of the third part of the version (version.h).
pub const XEN_EXTRAVERSION_LEN: usize = 16;
/// Size in bytes of the capabilities string (version.h).
pub const XEN_CAPABILITIES_INFO_LEN: usize = 1024;
/// Size in bytes of the change-set string (version.h).
pub const XEN_CHANGESET_INFO_LEN: usize = 64;
/// Size in bytes of the command line (`xen_commandline_t`) (version.h).
pub const XEN_COMMANDLINE_LEN: usize = 1024;

/// How the hypervisor was built; zero-terminated strings (version.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct CompileInfo {
    /// Compiler.
    pub compiler: [u8; 64],
    /// Who.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}

zero_default!(CompileInfo);

/// Where the hypervisor's hole begins (version.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PlatformParameters {
    /// First virtual address of the hole.
    pub virt_start: u64,
}

/// One word of features (version.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct FeatureInfo {
    /// In: which word.
    pub submap_idx: u32,
    /// Out: bitmap of `XENFEAT_*`.
    pub submap: u32,
}

/// Header of the build id; `len` bytes follow (version.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct BuildId {
    /// In: size in bytes of what follows.
    pub len: u32,
}
