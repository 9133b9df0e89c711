//! Arguments that concern CPU pools and schedulers (sysctl.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::xen::XenctlBitmap;

/// Pool operation: make (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_CREATE: u32 = 1;
/// Pool operation: destroy (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_DESTROY: u32 = 2;
/// Pool operation: describe the first with at least this id (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// Pool operation: add a CPU (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_ADDCPU: u32 = 4;
/// Pool operation: remove a CPU (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_RMCPU: u32 = 5;
/// Pool operation: move a domain (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN: u32 = 6;
/// Pool operation: which CPUs are in no pool? (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// Any id, or any CPU (sysctl.h).
pub const XEN_SYSCTL_CPUPOOL_PAR_ANY: u32 = 4_294_967_295;
/// Scheduler operation: set (sysctl.h).
pub const XEN_SYSCTL_SCHEDOP_putinfo: u32 = 0;
/// Scheduler operation: get (sysctl.h).
pub const XEN_SYSCTL_SCHEDOP_getinfo: u32 = 1;
/// Longest rate limit in microseconds (sysctl.h).
pub const XEN_SYSCTL_SCHED_RATELIMIT_MAX: u32 = 500_000;
/// Shortest rate limit in microseconds, if not 0 (sysctl.h).
pub const XEN_SYSCTL_SCHED_RATELIMIT_MIN: u32 = 100;
/// Longest time slice in milliseconds (sysctl.h).
pub const XEN_SYSCTL_CSCHED_TSLICE_MAX: u32 = 1000;
/// Shortest time slice in milliseconds (sysctl.h).
pub const XEN_SYSCTL_CSCHED_TSLICE_MIN: u32 = 1;
/// Longest migration delay in microseconds (sysctl.h).
pub const XEN_SYSCTL_CSCHED_MGR_DLY_MAX_US: u32 = 100_000;

/// Argument of `XEN_SYSCTL_sched_id` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlSchedId {
    /// Out: `XEN_SCHEDULER_*`.
    pub sched_id: u32,
}

/// Argument of `XEN_SYSCTL_cpupool_op` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuPoolOp {
    /// `XEN_SYSCTL_CPUPOOL_OP_*`.
    pub op: u32,
    /// In: pool; out: its id.
    pub cpupool_id: u32,
    /// In: scheduler wanted; out: scheduler.
    pub sched_id: u32,
    /// Domain to move.
    pub domid: u32,
    /// CPU to add or remove.
    pub cpu: u32,
    /// Out: number of domains.
    pub n_dom: u32,
    /// Out: CPUs.
    pub cpumap: XenctlBitmap,
}

/// Parameters of the credit scheduler (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCreditSchedule {
    /// Time slice in milliseconds.
    pub tslice_ms: u32,
    /// Least time between switches in microseconds.
    pub ratelimit_us: u32,
    /// Time after which a vCPU's cache is cold, in microseconds.
    pub vcpu_migr_delay_us: u32,
}

/// Parameters of the credit2 scheduler (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCredit2Schedule {
    /// Least time between switches in microseconds.
    pub ratelimit_us: u32,
}

/// Argument of `XEN_SYSCTL_scheduler_op` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlSchedulerOp {
    /// Pool whose scheduler is meant.
    pub cpupool_id: u32,
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Parameters of the scheduler.
    pub u: [u64; 2],
}
