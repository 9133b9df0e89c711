//! Arguments that concern scheduling (domctl.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::xen::XenctlBitmap;

/// Scheduler: credit (domctl.h).
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Scheduler: credit2 (domctl.h).
pub const XEN_SCHEDULER_CREDIT2: u32 = 6;
/// Scheduler: ARINC 653 (domctl.h).
pub const XEN_SCHEDULER_ARINC653: u32 = 7;
/// Scheduler: real-time deferrable server (domctl.h).
pub const XEN_SCHEDULER_RTDS: u32 = 8;
/// Scheduler: one vCPU per CPU (domctl.h).
pub const XEN_SCHEDULER_NULL: u32 = 9;
/// Set the parameters of all vCPUs (domctl.h).
pub const XEN_DOMCTL_SCHEDOP_putinfo: u32 = 0;
/// Get the domain's parameters (domctl.h).
pub const XEN_DOMCTL_SCHEDOP_getinfo: u32 = 1;
/// Set the parameters of some vCPUs (domctl.h).
pub const XEN_DOMCTL_SCHEDOP_putvcpuinfo: u32 = 2;
/// Get the parameters of some vCPUs (domctl.h).
pub const XEN_DOMCTL_SCHEDOP_getvcpuinfo: u32 = 3;
/// Flag: may use time beyond its budget (domctl.h).
pub const XEN_DOMCTL_SCHEDRT_extra: u32 = 1;

/// Parameters of the credit scheduler (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedCredit {
    /// Share of CPU time relative to others; 256 by default.
    pub weight: u16,
    /// Most CPU time in percent; 0 no limit.
    pub cap: u16,
}

/// Parameters of the credit2 scheduler (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedCredit2 {
    /// Share of CPU time relative to others; 256 by default.
    pub weight: u16,
    /// Most CPU time in percent; 0 no limit.
    pub cap: u16,
}

/// Parameters of the real-time scheduler (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedRtds {
    /// Period in microseconds.
    pub period: u32,
    /// Time per period in microseconds.
    pub budget: u32,
    /// `XEN_DOMCTL_SCHEDRT_*`.
    pub flags: u32,
}

/// Parameters of one vCPU (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedparamVcpu {
    /// Parameters of the scheduler in use.
    pub u: [u32; 3],
    /// vCPU.
    pub vcpuid: u32,
}

/// Argument of `XEN_DOMCTL_scheduler_op` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedulerOp {
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Parameters of the scheduler, or a [`DomctlSchedulerVcpus`].
    pub u: [u64; 2],
}

/// [`DomctlSchedulerOp::u`] of the operations on some vCPUs (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSchedulerVcpus {
    /// Array of parameters.
    pub vcpus: GuestHandle<DomctlSchedparamVcpu>,
    /// In: length; out: elements done.
    pub nr_vcpus: u32,
    /// Padding; zero.
    pub padding: u32,
}

/// Argument of `XEN_DOMCTL_setnodeaffinity` and `XEN_DOMCTL_getnodeaffinity` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlNodeAffinity {
    /// NUMA nodes.
    pub nodemap: XenctlBitmap,
}
