//! Sub-operations of hypercall `kexec_op` (kexec.h): numbers, and the argument of the range query.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Start a loaded image (kexec.h).
pub const KEXEC_CMD_kexec: u32 = 0;
/// Load an image, old form (kexec.h).
pub const KEXEC_CMD_kexec_load_v1: u32 = 1;
/// Unload an image, old form (kexec.h).
pub const KEXEC_CMD_kexec_unload_v1: u32 = 2;
/// Ask for an address range; [`KexecRange`] (kexec.h).
pub const KEXEC_CMD_kexec_get_range: u32 = 3;
/// Load an image (kexec.h).
pub const KEXEC_CMD_kexec_load: u32 = 4;
/// Unload an image (kexec.h).
pub const KEXEC_CMD_kexec_unload: u32 = 5;
/// Ask whether an image is loaded (kexec.h).
pub const KEXEC_CMD_kexec_status: u32 = 6;

/// Range: memory kept for the crash kernel (kexec.h).
pub const KEXEC_RANGE_MA_CRASH: i32 = 0;
/// Range: the hypervisor (kexec.h).
pub const KEXEC_RANGE_MA_XEN: i32 = 1;
/// Range: crash note of a CPU (kexec.h).
pub const KEXEC_RANGE_MA_CPU: i32 = 2;
/// Range: the hypervisor's heap (kexec.h).
pub const KEXEC_RANGE_MA_XENHEAP: i32 = 3;
/// Range: obsolete (kexec.h).
pub const KEXEC_RANGE_MA_BOOT_PARAM: i32 = 4;
/// Range: EFI memory map (kexec.h).
pub const KEXEC_RANGE_MA_EFI_MEMMAP: i32 = 5;
/// Range: description for dump tools (kexec.h).
pub const KEXEC_RANGE_MA_VMCOREINFO: i32 = 6;

/// Image: ordinary (kexec.h).
pub const KEXEC_TYPE_DEFAULT: u8 = 0;
/// Image: for crashes (kexec.h).
pub const KEXEC_TYPE_CRASH: u8 = 1;

/// Argument of [`KEXEC_CMD_kexec_get_range`] (kexec.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct KexecRange {
    /// `KEXEC_RANGE_*`.
    pub range: i32,
    /// CPU, for its note.
    pub nr: i32,
    /// Out: size in bytes.
    pub size: u64,
    /// Out: machine address.
    pub start: u64,
}
