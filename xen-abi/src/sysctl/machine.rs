//! Arguments that describe the machine (sysctl.h): capabilities, memory, CPUs, NUMA, PCI.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::physdev::PhysdevPciDevice;

/// Capability: HVM guests (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_hvm: u32 = 0x1;
/// Capability: PV guests (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_pv: u32 = 0x2;
/// Capability: device assignment through an I/O MMU (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_directio: u32 = 0x4;
/// Capability: nested paging (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_hap: u32 = 0x8;
/// Capability: shadow paging (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_shadow: u32 = 0x10;
/// Capability: nested tables shared with the I/O MMU (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_iommu_hap_pt_share: u32 = 0x20;
/// Capability: tracing of vCPUs (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_vmtrace: u32 = 0x40;
/// Capability: virtual performance counters (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_vpmu: u32 = 0x80;
/// Capability: grant tables of version 1 (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_gnttab_v1: u32 = 0x100;
/// Capability: grant tables of version 2 (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_gnttab_v2: u32 = 0x200;
/// Highest capability (sysctl.h).
pub const XEN_SYSCTL_PHYSCAP_MAX: u32 = 0x200;
/// No such core (sysctl.h).
pub const XEN_INVALID_CORE_ID: u32 = 0xffff_ffff;
/// No such socket (sysctl.h).
pub const XEN_INVALID_SOCKET_ID: u32 = 0xffff_ffff;
/// No such node (sysctl.h).
pub const XEN_INVALID_NODE_ID: u32 = 0xffff_ffff;
/// No such PCI device (sysctl.h).
pub const XEN_INVALID_DEV: u32 = 0xffff_fffe;
/// Distance unknown (sysctl.h).
pub const XEN_INVALID_NODE_DIST: u32 = 0xffff_ffff;

/// [`SysctlMeminfo::memsize`] of a node that is not there (sysctl.h): as `XEN_INVALID_MEM_SZ`, which
/// has 32 bits and is zero-extended into the 64-bit field.
pub const XEN_INVALID_MEM_SZ: u64 = 0xffff_ffff;

/// Argument of `XEN_SYSCTL_physinfo` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlPhysInfo {
    /// Threads per core.
    pub threads_per_core: u32,
    /// Cores per socket.
    pub cores_per_socket: u32,
    /// CPUs on-line.
    pub nr_cpus: u32,
    /// Highest CPU id possible.
    pub max_cpu_id: u32,
    /// NUMA nodes on-line.
    pub nr_nodes: u32,
    /// Highest node id possible.
    pub max_node_id: u32,
    /// TSC frequency in kHz.
    pub cpu_khz: u32,
    /// `XEN_SYSCTL_PHYSCAP_*`.
    pub capabilities: u32,
    /// Capabilities of the architecture; none on x86.
    pub arch_capabilities: u32,
    /// Padding; zero.
    pub pad: u32,
    /// Pages of memory.
    pub total_pages: u64,
    /// Pages free.
    pub free_pages: u64,
    /// Pages to be zeroed.
    pub scrub_pages: u64,
    /// Pages claimed.
    pub outstanding_pages: u64,
    /// Highest machine frame possible.
    pub max_mfn: u64,
    /// Feature words of CPUID.
    pub hw_cap: [u32; 8],
}

/// One CPU's idle time (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuInfo {
    /// Nanoseconds idle.
    pub idletime: u64,
}

/// Argument of `XEN_SYSCTL_getcpuinfo` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlGetCpuInfo {
    /// Room in the array.
    pub max_cpus: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array.
    pub info: GuestHandle<SysctlCpuInfo>,
    /// Out: elements written.
    pub nr_cpus: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}

/// Argument of `XEN_SYSCTL_availheap` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlAvailHeap {
    /// Least address width in bits; 0 any.
    pub min_bitwidth: u32,
    /// Greatest address width in bits; 0 any.
    pub max_bitwidth: u32,
    /// Node; -1 for all.
    pub node: i32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Out: free bytes.
    pub avail_bytes: u64,
}

/// Where a CPU sits (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuTopo {
    /// Core.
    pub core: u32,
    /// Socket.
    pub socket: u32,
    /// Node.
    pub node: u32,
}

/// Argument of `XEN_SYSCTL_cputopoinfo` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuTopoInfo {
    /// In: room; out: elements there are or were written.
    pub num_cpus: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array; null asks for the number.
    pub cputopo: GuestHandle<SysctlCpuTopo>,
}

/// Memory of a node (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlMeminfo {
    /// Size in bytes.
    pub memsize: u64,
    /// Free bytes.
    pub memfree: u64,
}

/// Argument of `XEN_SYSCTL_numainfo` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlNumaInfo {
    /// In: room; out: elements there are or were written.
    pub num_nodes: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Memory of each node.
    pub meminfo: GuestHandle<SysctlMeminfo>,
    /// Distances, row by row.
    pub distance: GuestHandle<u32>,
}

/// Argument of `XEN_SYSCTL_pcitopoinfo` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlPciTopoInfo {
    /// In: length of the arrays; out: elements done.
    pub num_devs: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Devices asked about.
    pub devs: GuestHandle<PhysdevPciDevice>,
    /// Out: their nodes.
    pub nodes: GuestHandle<u32>,
}
