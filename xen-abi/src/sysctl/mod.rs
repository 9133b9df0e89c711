//! Control of the machine, hypercall `sysctl` (sysctl.h): the header of every request, the operation
//! numbers, console, debug keys and the list of domains; the other arguments are in the
//! submodules and re-exported here.
//!
//! The interface belongs to one release of Xen at a time: a request with another
//! `interface_version` is answered with `EACCES`. The layouts here are those of version 0x15
//! (Xen 4.17).
#![allow(non_upper_case_globals)] // the ABI's own spelling

mod machine;
mod policy;
mod power;
mod scheduling;

pub use machine::*;
pub use policy::*;
pub use power::*;
pub use scheduling::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::domctl::DomctlGetDomainInfo;
use crate::xen::XenctlBitmap;

/// Version of these layouts (sysctl.h).
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

/// A request (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Sysctl {
    /// `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// [`XEN_SYSCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Argument, by operation.
    pub u: [u64; 16],
}

/// Read the hypervisor's console ring; [`SysctlReadConsole`] (sysctl.h).
pub const XEN_SYSCTL_readconsole: u32 = 1;
/// Control the trace buffers; [`SysctlTbufOp`] (sysctl.h).
pub const XEN_SYSCTL_tbuf_op: u32 = 2;
/// Describe the machine; [`SysctlPhysInfo`] (sysctl.h).
pub const XEN_SYSCTL_physinfo: u32 = 3;
/// Which scheduler runs? [`SysctlSchedId`] (sysctl.h).
pub const XEN_SYSCTL_sched_id: u32 = 4;
/// Performance counters of the hypervisor (sysctl.h).
pub const XEN_SYSCTL_perfc_op: u32 = 5;
/// List domains; [`SysctlGetDomainInfoList`] (sysctl.h).
pub const XEN_SYSCTL_getdomaininfolist: u32 = 6;
/// Press debug keys; [`SysctlDebugKeys`] (sysctl.h).
pub const XEN_SYSCTL_debug_keys: u32 = 7;
/// Idle time of the CPUs; [`SysctlGetCpuInfo`] (sysctl.h).
pub const XEN_SYSCTL_getcpuinfo: u32 = 8;
/// Free memory in a region; [`SysctlAvailHeap`] (sysctl.h).
pub const XEN_SYSCTL_availheap: u32 = 9;
/// Power statistics of a CPU; [`SysctlGetPmstat`] (sysctl.h).
pub const XEN_SYSCTL_get_pmstat: u32 = 10;
/// Take a CPU on- or off-line; [`SysctlCpuHotplug`] (sysctl.h).
pub const XEN_SYSCTL_cpu_hotplug: u32 = 11;
/// Power management; [`SysctlPmOp`] (sysctl.h).
pub const XEN_SYSCTL_pm_op: u32 = 12;
/// Take frames off-line (sysctl.h).
pub const XEN_SYSCTL_page_offline_op: u32 = 14;
/// Lock profile (sysctl.h).
pub const XEN_SYSCTL_lockprof_op: u32 = 15;
/// Topology of the CPUs; [`SysctlCpuTopoInfo`] (sysctl.h).
pub const XEN_SYSCTL_cputopoinfo: u32 = 16;
/// NUMA nodes; [`SysctlNumaInfo`] (sysctl.h).
pub const XEN_SYSCTL_numainfo: u32 = 17;
/// CPU pools; [`SysctlCpuPoolOp`] (sysctl.h).
pub const XEN_SYSCTL_cpupool_op: u32 = 18;
/// Parameters of a scheduler; [`SysctlSchedulerOp`] (sysctl.h).
pub const XEN_SYSCTL_scheduler_op: u32 = 19;
/// Code coverage (sysctl.h).
pub const XEN_SYSCTL_coverage_op: u32 = 20;
/// Cache monitoring; [`SysctlPsrCmtOp`] (sysctl.h).
pub const XEN_SYSCTL_psr_cmt_op: u32 = 21;
/// NUMA nodes of PCI devices; [`SysctlPciTopoInfo`] (sysctl.h).
pub const XEN_SYSCTL_pcitopoinfo: u32 = 22;
/// Cache allocation; [`SysctlPsrAlloc`] (sysctl.h).
pub const XEN_SYSCTL_psr_alloc: u32 = 23;
/// What CPUID masking can do; [`SysctlCpuLevellingCaps`] (sysctl.h).
pub const XEN_SYSCTL_get_cpu_levelling_caps: u32 = 25;
/// Feature words; [`SysctlCpuFeatureset`] (sysctl.h).
pub const XEN_SYSCTL_get_cpu_featureset: u32 = 26;
/// Live patching (sysctl.h).
pub const XEN_SYSCTL_livepatch_op: u32 = 27;
/// CPUID and MSR policies; [`SysctlCpuPolicy`] (sysctl.h).
pub const XEN_SYSCTL_get_cpu_policy: u32 = 29;

/// Argument of [`XEN_SYSCTL_readconsole`] (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlReadConsole {
    /// Non-zero: empty the ring afterwards.
    pub clear: u8,
    /// Non-zero: begin at `index`.
    pub incremental: u8,
    /// Padding; zero.
    pub pad0: u8,
    /// Padding; zero.
    pub pad1: u8,
    /// In: where to begin; out: where the text ended.
    pub index: u32,
    /// Buffer.
    pub buffer: GuestHandle<u8>,
    /// In: its size; out: bytes written.
    pub count: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`XEN_SYSCTL_tbuf_op`] (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlTbufOp {
    /// `XEN_SYSCTL_TBUFOP_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// CPUs to trace.
    pub cpu_mask: XenctlBitmap,
    /// Events to trace.
    pub evt_mask: u32,
    /// Padding.
    pub _pad1: [u8; 4],
    /// Out: machine frame of the buffers.
    pub buffer_mfn: u64,
    /// In and out: size of the buffers.
    pub size: u32,
    /// Padding.
    pub _pad2: [u8; 4],
}

/// Trace: where are the buffers? (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_get_info: u32 = 0;
/// Trace: choose CPUs (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_set_cpu_mask: u32 = 1;
/// Trace: choose events (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_set_evt_mask: u32 = 2;
/// Trace: set the size (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_set_size: u32 = 3;
/// Trace: start (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_enable: u32 = 4;
/// Trace: stop (sysctl.h).
pub const XEN_SYSCTL_TBUFOP_disable: u32 = 5;

/// Argument of [`XEN_SYSCTL_getdomaininfolist`] (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlGetDomainInfoList {
    /// Lowest id of interest.
    pub first_domain: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Room in the array.
    pub max_domains: u32,
    /// Array.
    pub buffer: GuestHandle<DomctlGetDomainInfo>,
    /// Out: elements written.
    pub num_domains: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}

/// Argument of [`XEN_SYSCTL_debug_keys`] (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlDebugKeys {
    /// Characters.
    pub keys: GuestHandle<u8>,
    /// Number of characters.
    pub nr_keys: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}
