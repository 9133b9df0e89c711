//! Operations on a vCPU of the calling domain, hypercall `vcpu_op` (vcpu.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Give the vCPU its first state; [`crate::arch_x86::VcpuGuestContext`] (vcpu.h).
pub const VCPUOP_initialise: u32 = 0;
/// Let it run; no argument (vcpu.h).
pub const VCPUOP_up: u32 = 1;
/// Stop it; no argument (vcpu.h).
pub const VCPUOP_down: u32 = 2;
/// Returns 1 if it may run; no argument (vcpu.h).
pub const VCPUOP_is_up: u32 = 3;
/// Writes a [`VcpuRunstateInfo`] (vcpu.h).
pub const VCPUOP_get_runstate_info: u32 = 4;
/// Keep a copy of the run state there; [`VcpuRegisterRunstateMemoryArea`] (vcpu.h).
pub const VCPUOP_register_runstate_memory_area: u32 = 5;
/// Start the periodic timer; [`VcpuSetPeriodicTimer`] (vcpu.h).
pub const VCPUOP_set_periodic_timer: u32 = 6;
/// Stop the periodic timer; no argument (vcpu.h).
pub const VCPUOP_stop_periodic_timer: u32 = 7;
/// Arm the one-shot timer; [`VcpuSetSingleshotTimer`] (vcpu.h).
pub const VCPUOP_set_singleshot_timer: u32 = 8;
/// Stop the one-shot timer; no argument (vcpu.h).
pub const VCPUOP_stop_singleshot_timer: u32 = 9;
/// Move the vCPU's shared state; [`VcpuRegisterVcpuInfo`] (vcpu.h).
pub const VCPUOP_register_vcpu_info: u32 = 10;
/// Send it an NMI; no argument (vcpu.h).
pub const VCPUOP_send_nmi: u32 = 11;
/// Ask for the ids of the CPU it is pinned to; [`VcpuGetPhysid`] (vcpu.h).
pub const VCPUOP_get_physid: u32 = 12;
/// Keep a copy of the clock there; [`VcpuRegisterTimeMemoryArea`] (vcpu.h).
pub const VCPUOP_register_vcpu_time_memory_area: u32 = 13;
/// State: runs on a CPU (vcpu.h).
pub const RUNSTATE_running: u32 = 0;
/// State: waits for a CPU (vcpu.h).
pub const RUNSTATE_runnable: u32 = 1;
/// State: waits for an event (vcpu.h).
pub const RUNSTATE_blocked: u32 = 2;
/// State: is down (vcpu.h).
pub const RUNSTATE_offline: u32 = 3;
/// Flag of [`VcpuSetSingleshotTimer`]: fail with `ETIME` if the time has passed (vcpu.h).
pub const VCPU_SSHOTTMR_future: u32 = 1;

/// Bit of [`VcpuRunstateInfo::state_entry_time`]: an update is under way (vcpu.h).
pub const XEN_RUNSTATE_UPDATE: u64 = 0x8000_0000_0000_0000;

/// How a vCPU has spent its time (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuRunstateInfo {
    /// `RUNSTATE_*`.
    pub state: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// System time in nanoseconds at which the state was entered.
    pub state_entry_time: u64,
    /// Nanoseconds spent in each state.
    pub time: [u64; 4],
}

/// Argument of [`VCPUOP_register_runstate_memory_area`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuRegisterRunstateMemoryArea {
    /// Guest virtual address of a [`VcpuRunstateInfo`].
    pub addr: u64,
}

/// Argument of [`VCPUOP_set_periodic_timer`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuSetPeriodicTimer {
    /// Period in nanoseconds.
    pub period_ns: u64,
}

/// Argument of [`VCPUOP_set_singleshot_timer`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuSetSingleshotTimer {
    /// System time in nanoseconds.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_*`.
    pub flags: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`VCPUOP_register_vcpu_info`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuRegisterVcpuInfo {
    /// Frame (a machine frame for PV guests).
    pub mfn: u64,
    /// Offset in it; the structure must not cross its end.
    pub offset: u32,
    /// Reserved; zero.
    pub rsvd: u32,
}

/// Argument of [`VCPUOP_get_physid`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuGetPhysid {
    /// Out: APIC id in the low half, ACPI id in the high half.
    pub phys_id: u64,
}

/// Argument of [`VCPUOP_register_vcpu_time_memory_area`] (vcpu.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuRegisterTimeMemoryArea {
    /// Guest virtual address of a [`crate::xen::VcpuTimeInfo`].
    pub addr: u64,
}
