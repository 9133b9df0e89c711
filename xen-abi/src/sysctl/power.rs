//! Arguments that concern power management (sysctl.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Statistics: mask of the category (sysctl.h).
pub const PMSTAT_CATEGORY_MASK: u32 = 0xf0;
/// Statistics: category of performance states (sysctl.h).
pub const PMSTAT_PX: u32 = 0x10;
/// Statistics: category of idle states (sysctl.h).
pub const PMSTAT_CX: u32 = 0x20;
/// Statistics: number of performance states (sysctl.h).
pub const PMSTAT_get_max_px: u32 = 0x11;
/// Statistics: performance states (sysctl.h).
pub const PMSTAT_get_pxstat: u32 = 0x12;
/// Statistics: clear those of performance states (sysctl.h).
pub const PMSTAT_reset_pxstat: u32 = 0x13;
/// Statistics: number of idle states (sysctl.h).
pub const PMSTAT_get_max_cx: u32 = 0x21;
/// Statistics: idle states (sysctl.h).
pub const PMSTAT_get_cxstat: u32 = 0x22;
/// Statistics: clear those of idle states (sysctl.h).
pub const PMSTAT_reset_cxstat: u32 = 0x23;
/// Hotplug: take on-line (sysctl.h).
pub const XEN_SYSCTL_CPU_HOTPLUG_ONLINE: u32 = 0x0;
/// Hotplug: take off-line (sysctl.h).
pub const XEN_SYSCTL_CPU_HOTPLUG_OFFLINE: u32 = 0x1;
/// Hotplug: take all sibling threads on-line (sysctl.h).
pub const XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE: u32 = 0x2;
/// Hotplug: take all sibling threads off-line (sysctl.h).
pub const XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE: u32 = 0x3;
/// Power operation: mask of the category (sysctl.h).
pub const PM_PARA_CATEGORY_MASK: u32 = 0xf0;
/// Power operation: category of frequency scaling (sysctl.h).
pub const CPUFREQ_PARA: u32 = 0x10;
/// Power operation: get frequency parameters (sysctl.h).
pub const GET_CPUFREQ_PARA: u32 = 0x11;
/// Power operation: set the governor (sysctl.h).
pub const SET_CPUFREQ_GOV: u32 = 0x12;
/// Power operation: set a frequency parameter (sysctl.h).
pub const SET_CPUFREQ_PARA: u32 = 0x13;
/// Power operation: get the average frequency (sysctl.h).
pub const GET_CPUFREQ_AVGFREQ: u32 = 0x14;
/// Power operation: let the scheduler save power (sysctl.h).
pub const XEN_SYSCTL_pm_op_set_sched_opt_smt: u32 = 0x21;
/// Power operation: get the deepest idle state (sysctl.h).
pub const XEN_SYSCTL_pm_op_get_max_cstate: u32 = 0x22;
/// No limit of idle states (sysctl.h).
pub const XEN_SYSCTL_CX_UNLIMITED: u32 = 0xffff_ffff;
/// Power operation: set the deepest idle state (sysctl.h).
pub const XEN_SYSCTL_pm_op_set_max_cstate: u32 = 0x23;
/// Power operation: removed (sysctl.h).
pub const XEN_SYSCTL_pm_op_set_vcpu_migration_delay: u32 = 0x24;
/// Power operation: removed (sysctl.h).
pub const XEN_SYSCTL_pm_op_get_vcpu_migration_delay: u32 = 0x25;
/// Power operation: allow turbo frequencies (sysctl.h).
pub const XEN_SYSCTL_pm_op_enable_turbo: u32 = 0x26;
/// Power operation: forbid turbo frequencies (sysctl.h).
pub const XEN_SYSCTL_pm_op_disable_turbo: u32 = 0x27;

/// Argument of `XEN_SYSCTL_get_pmstat` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlGetPmstat {
    /// `PMSTAT_*`.
    pub r#type: u32,
    /// CPU.
    pub cpuid: u32,
    /// Statistics, by type.
    pub u: [u64; 7],
}

/// [`SysctlGetPmstat::u`] for idle states (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PmCxStat {
    /// Number of states, C0 included.
    pub nr: u32,
    /// The last state.
    pub last: u32,
    /// Nanoseconds idle since boot.
    pub idle_time: u64,
    /// How often each state was entered.
    pub triggers: GuestHandle<u64>,
    /// Nanoseconds in each state.
    pub residencies: GuestHandle<u64>,
    /// Room in `pc`.
    pub nr_pc: u32,
    /// Room in `cc`.
    pub nr_cc: u32,
    /// Hardware's residencies of packages.
    pub pc: GuestHandle<u64>,
    /// Hardware's residencies of cores.
    pub cc: GuestHandle<u64>,
}

/// Argument of `XEN_SYSCTL_cpu_hotplug` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuHotplug {
    /// CPU.
    pub cpu: u32,
    /// `XEN_SYSCTL_CPU_HOTPLUG_*`.
    pub op: u32,
}

/// Argument of `XEN_SYSCTL_pm_op` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlPmOp {
    /// Power operation.
    pub cmd: u32,
    /// CPU.
    pub cpuid: u32,
    /// Argument of the operation.
    pub u: [u64; 15],
}
