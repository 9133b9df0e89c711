//! Arguments that concern a domain's memory (domctl.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::memory::Vmemrange;

/// Lowest bit of a frame's type (domctl.h).
pub const XEN_DOMCTL_PFINFO_LTAB_SHIFT: u32 = 0x1c;
/// Frame type: ordinary (domctl.h).
pub const XEN_DOMCTL_PFINFO_NOTAB: u32 = 0x0;
/// Frame type: level-1 table (domctl.h).
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 0x1000_0000;
/// Frame type: level-2 table (domctl.h).
pub const XEN_DOMCTL_PFINFO_L2TAB: u32 = 0x2000_0000;
/// Frame type: level-3 table (domctl.h).
pub const XEN_DOMCTL_PFINFO_L3TAB: u32 = 0x3000_0000;
/// Frame type: level-4 table (domctl.h).
pub const XEN_DOMCTL_PFINFO_L4TAB: u32 = 0x4000_0000;
/// Mask of the table level (domctl.h).
pub const XEN_DOMCTL_PFINFO_LTABTYPE_MASK: u32 = 0x7000_0000;
/// Flag: the table is pinned (domctl.h).
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 0x8000_0000;
/// Frame type: no such frame (domctl.h).
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf000_0000;
/// Frame type: no contents, only allocated (domctl.h).
pub const XEN_DOMCTL_PFINFO_XALLOC: u32 = 0xe000_0000;
/// Frame type: broken (domctl.h).
pub const XEN_DOMCTL_PFINFO_BROKEN: u32 = 0xd000_0000;
/// Mask of the frame type (domctl.h).
pub const XEN_DOMCTL_PFINFO_LTAB_MASK: u32 = 0xf000_0000;

/// Shadow operation: stop (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_OFF: u32 = 0;
/// Shadow operation: start in a mode (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_ENABLE: u32 = 32;
/// Shadow operation: read the dirty bitmap and clear it (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_CLEAN: u32 = 11;
/// Shadow operation: read the dirty bitmap (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_PEEK: u32 = 12;
/// Shadow operation: get the memory for tables in MiB (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION: u32 = 30;
/// Shadow operation: set the memory for tables in MiB (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION: u32 = 31;
/// Shadow operation: start for tests (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_ENABLE_TEST: u32 = 1;
/// Shadow operation: start dirty logging (domctl.h).
pub const XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY: u32 = 2;
/// Shadow mode: the guest manages no table uses (domctl.h).
pub const XEN_DOMCTL_SHADOW_ENABLE_REFCOUNT: u32 = 2;
/// Shadow mode: dirty logging (domctl.h).
pub const XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY: u32 = 4;
/// Shadow mode: translate guest frames (domctl.h).
pub const XEN_DOMCTL_SHADOW_ENABLE_TRANSLATE: u32 = 8;
/// Shadow mode: no hole in the guest's address space (domctl.h).
pub const XEN_DOMCTL_SHADOW_ENABLE_EXTERNAL: u32 = 16;
/// Bitmap flag: last round (domctl.h).
pub const XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL: u32 = 1;
/// Map (domctl.h).
pub const DPCI_ADD_MAPPING: u32 = 1;
/// Unmap (domctl.h).
pub const DPCI_REMOVE_MAPPING: u32 = 0;

/// Argument of `XEN_DOMCTL_max_mem` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlMaxMem {
    /// Most memory in KiB.
    pub max_memkb: u64,
}

/// Argument of `XEN_DOMCTL_getpageframeinfo3` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGetPageFrameInfo3 {
    /// Number of frames.
    pub num: u64,
    /// In: guest frames; out: `XEN_DOMCTL_PFINFO_*`.
    pub array: GuestHandle<u64>,
}

/// Statistics of dirty logging (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlShadowOpStats {
    /// Faults taken.
    pub fault_count: u32,
    /// Frames dirtied.
    pub dirty_count: u32,
}

/// Argument of `XEN_DOMCTL_shadow_op` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlShadowOp {
    /// `XEN_DOMCTL_SHADOW_OP_*`.
    pub op: u32,
    /// Mode or bitmap flags.
    pub mode: u32,
    /// Memory for tables in MiB.
    pub mb: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// The bitmap.
    pub dirty_bitmap: GuestHandle<u8>,
    /// In: its bits; out: bits written.
    pub pages: u64,
    /// Out: statistics.
    pub stats: DomctlShadowOpStats,
}

/// Argument of `XEN_DOMCTL_iomem_permission` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlIomemPermission {
    /// First machine frame.
    pub first_mfn: u64,
    /// Number of frames.
    pub nr_mfns: u64,
    /// Non-zero: permit.
    pub allow_access: u8,
    /// Padding.
    pub _pad0: [u8; 7],
}

/// Argument of `XEN_DOMCTL_memory_mapping` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlMemoryMapping {
    /// First guest frame.
    pub first_gfn: u64,
    /// First machine frame.
    pub first_mfn: u64,
    /// Number of frames.
    pub nr_mfns: u64,
    /// `DPCI_*_MAPPING`.
    pub add_mapping: u32,
    /// Padding; zero.
    pub padding: u32,
}

/// Argument of `XEN_DOMCTL_get_paging_mempool_size` and `XEN_DOMCTL_set_paging_mempool_size`
/// (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlPagingMempool {
    /// Size in bytes.
    pub size: u64,
}

/// Argument of `XEN_DOMCTL_setvnumainfo` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVnuma {
    /// Number of nodes.
    pub nr_vnodes: u32,
    /// Number of memory ranges.
    pub nr_vmemranges: u32,
    /// Number of vCPUs.
    pub nr_vcpus: u32,
    /// Padding; zero.
    pub pad: u32,
    /// Distances, `nr_vnodes` squared.
    pub vdistance: GuestHandle<u32>,
    /// Node of each vCPU.
    pub vcpu_to_vnode: GuestHandle<u32>,
    /// Physical node of each node.
    pub vnode_to_pnode: GuestHandle<u32>,
    /// Memory ranges.
    pub vmemrange: GuestHandle<Vmemrange>,
}

/// Argument of `XEN_DOMCTL_gdbsx_guestmemio` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGdbsxMemio {
    /// Optional level-3 entry to start from.
    pub pgd3val: u64,
    /// Guest virtual address.
    pub gva: u64,
    /// Virtual address of the caller's buffer.
    pub uva: u64,
    /// Number of bytes.
    pub len: u32,
    /// Non-zero: write to the guest.
    pub gwr: u8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// Out: bytes not copied.
    pub remain: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}
