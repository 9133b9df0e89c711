//! Arguments that concern CPU features (sysctl.h): what guests may be shown.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::arch_x86::{CpuidLeaf, MsrEntry};

/// Feature set: the hardware's (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_raw: u32 = 0;
/// Feature set: the hypervisor's (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_host: u32 = 1;
/// Feature set: default of PV guests (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_pv: u32 = 2;
/// Feature set: default of HVM guests (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_hvm: u32 = 3;
/// Feature set: most a PV guest can have (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_pv_max: u32 = 4;
/// Feature set: most an HVM guest can have (sysctl.h).
pub const XEN_SYSCTL_cpu_featureset_hvm_max: u32 = 5;
/// Policy: the hardware's (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_raw: u32 = 0;
/// Policy: the hypervisor's (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_host: u32 = 1;
/// Policy: most a PV guest can have (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_pv_max: u32 = 2;
/// Policy: most an HVM guest can have (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_hvm_max: u32 = 3;
/// Policy: default of PV guests (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_pv_default: u32 = 4;
/// Policy: default of HVM guests (sysctl.h).
pub const XEN_SYSCTL_cpu_policy_hvm_default: u32 = 5;

/// Levelling: CPUID can be made to fault (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_faulting: u32 = 0x1;
/// Levelling: leaf 1 ECX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_ecx: u32 = 0x2;
/// Levelling: leaf 1 EDX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_edx: u32 = 0x4;
/// Levelling: leaf 0x8000_0001 ECX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_extd_ecx: u32 = 0x8;
/// Levelling: leaf 0x8000_0001 EDX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_extd_edx: u32 = 0x10;
/// Levelling: leaf 0xd, sub-leaf 1, EAX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_xsave_eax: u32 = 0x20;
/// Levelling: leaf 6 ECX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_thermal_ecx: u32 = 0x40;
/// Levelling: leaf 7 EAX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_l7s0_eax: u32 = 0x80;
/// Levelling: leaf 7 EBX (sysctl.h).
pub const XEN_SYSCTL_CPU_LEVELCAP_l7s0_ebx: u32 = 0x100;

/// Argument of `XEN_SYSCTL_get_cpu_levelling_caps` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuLevellingCaps {
    /// Out: `XEN_SYSCTL_CPU_LEVELCAP_*`.
    pub caps: u32,
}

/// Argument of `XEN_SYSCTL_get_cpu_featureset` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuFeatureset {
    /// `XEN_SYSCTL_cpu_featureset_*`.
    pub index: u32,
    /// In: room; out: words there are or were written.
    pub nr_features: u32,
    /// Words; null asks for the number.
    pub features: GuestHandle<u32>,
}

/// Argument of `XEN_SYSCTL_get_cpu_policy` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlCpuPolicy {
    /// `XEN_SYSCTL_cpu_policy_*`.
    pub index: u32,
    /// In: room; out: leaves there are or were written.
    pub nr_leaves: u32,
    /// In: room; out: registers there are or were written.
    pub nr_msrs: u32,
    /// Reserved; zero.
    pub _rsvd: u32,
    /// CPUID leaves; null asks for the number.
    pub leaves: GuestHandle<CpuidLeaf>,
    /// Registers; null asks for the number.
    pub msrs: GuestHandle<MsrEntry>,
}

/// Cache monitoring: number of ids (sysctl.h).
pub const XEN_SYSCTL_PSR_CMT_get_total_rmid: u32 = 0;
/// Cache monitoring: scale of the counters (sysctl.h).
pub const XEN_SYSCTL_PSR_CMT_get_l3_upscaling_factor: u32 = 1;
/// Cache monitoring: size of the cache in KiB (sysctl.h).
pub const XEN_SYSCTL_PSR_CMT_get_l3_cache_size: u32 = 2;
/// Cache monitoring: is it on? (sysctl.h).
pub const XEN_SYSCTL_PSR_CMT_enabled: u32 = 3;
/// Cache monitoring: which events? (sysctl.h).
pub const XEN_SYSCTL_PSR_CMT_get_l3_event_mask: u32 = 4;
/// Cache allocation: level 3 (sysctl.h).
pub const XEN_SYSCTL_PSR_get_l3_info: u32 = 0;
/// Cache allocation: level 2 (sysctl.h).
pub const XEN_SYSCTL_PSR_get_l2_info: u32 = 1;
/// Cache allocation: memory bandwidth (sysctl.h).
pub const XEN_SYSCTL_PSR_get_mba_info: u32 = 2;

/// Argument of `XEN_SYSCTL_psr_cmt_op` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlPsrCmtOp {
    /// `XEN_SYSCTL_PSR_CMT_*`.
    pub cmd: u32,
    /// Zero.
    pub flags: u32,
    /// Out: value; in, for the cache size: CPU.
    pub u: u64,
}

/// Argument of `XEN_SYSCTL_psr_alloc` (sysctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SysctlPsrAlloc {
    /// `XEN_SYSCTL_PSR_*`.
    pub cmd: u32,
    /// Socket.
    pub target: u32,
    /// Out: width or maximum, number of classes, flags.
    pub u: [u32; 3],
}
