//! Virtual performance counters, hypercall `xenpmu_op` (pmu.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major version of the interface (pmu.h).
pub const XENPMU_VER_MAJ: u32 = 0;
/// Minor version of the interface (pmu.h).
pub const XENPMU_VER_MIN: u32 = 1;
/// Read the mode and the version (pmu.h).
pub const XENPMU_mode_get: u32 = 0;
/// Set the mode (pmu.h).
pub const XENPMU_mode_set: u32 = 1;
/// Read the features (pmu.h).
pub const XENPMU_feature_get: u32 = 2;
/// Set the features (pmu.h).
pub const XENPMU_feature_set: u32 = 3;
/// Start on a vCPU (pmu.h).
pub const XENPMU_init: u32 = 4;
/// Stop on a vCPU (pmu.h).
pub const XENPMU_finish: u32 = 5;
/// Load the local vector table entry from the shared page (pmu.h).
pub const XENPMU_lvtpc_set: u32 = 6;
/// Load the counters from the shared page (pmu.h).
pub const XENPMU_flush: u32 = 7;

/// Mode: off (pmu.h).
pub const XENPMU_MODE_OFF: u64 = 0;
/// Mode: a domain profiles itself (pmu.h).
pub const XENPMU_MODE_SELF: u64 = 1;
/// Mode: the first domain profiles the hypervisor too (pmu.h).
pub const XENPMU_MODE_HV: u64 = 2;
/// Mode: the first domain profiles everything (pmu.h).
pub const XENPMU_MODE_ALL: u64 = 4;
/// Feature: branch trace store (pmu.h).
pub const XENPMU_FEATURE_INTEL_BTS: u64 = 1;
/// Feature: only three basic counters (pmu.h).
pub const XENPMU_FEATURE_IPC_ONLY: u64 = 2;
/// Feature: only architectural counters (pmu.h).
pub const XENPMU_FEATURE_ARCH_ONLY: u64 = 4;

/// Version of the interface (pmu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PmuVersion {
    /// Major.
    pub maj: u32,
    /// Minor.
    pub min: u32,
}

/// Argument of all sub-operations (pmu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PmuParams {
    /// In and out: version.
    pub version: PmuVersion,
    /// In and out: value.
    pub val: u64,
    /// In: vCPU.
    pub vcpu: u32,
    /// Padding; zero.
    pub pad: u32,
}
