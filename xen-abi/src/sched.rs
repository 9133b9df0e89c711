//! Scheduling, hypercall `sched_op` (sched.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Give up the CPU; no argument (sched.h).
pub const SCHEDOP_yield: u32 = 0;
/// Sleep until an event arrives, unmasking events first; no argument (sched.h).
pub const SCHEDOP_block: u32 = 1;
/// Stop the domain; [`SchedShutdown`] (sched.h).
pub const SCHEDOP_shutdown: u32 = 2;
/// Sleep until one of some ports is pending; [`SchedPoll`] (sched.h).
pub const SCHEDOP_poll: u32 = 3;
/// Stop another domain; [`SchedRemoteShutdown`] (sched.h).
pub const SCHEDOP_remote_shutdown: u32 = 4;
/// Note the reason for a later shutdown; [`SchedShutdown`] (sched.h).
pub const SCHEDOP_shutdown_code: u32 = 5;
/// Set, feed or stop a watchdog; [`SchedWatchdog`] (sched.h).
pub const SCHEDOP_watchdog: u32 = 6;
/// Pin the vCPU for a while; [`SchedPinOverride`] (sched.h).
pub const SCHEDOP_pin_override: u32 = 7;
/// Reason: ended normally; clean up (sched.h).
pub const SHUTDOWN_poweroff: u32 = 0;
/// Reason: start the domain anew (sched.h).
pub const SHUTDOWN_reboot: u32 = 1;
/// Reason: save the domain (sched.h).
pub const SHUTDOWN_suspend: u32 = 2;
/// Reason: the guest crashed (sched.h).
pub const SHUTDOWN_crash: u32 = 3;
/// Reason: the watchdog was not fed (sched.h).
pub const SHUTDOWN_watchdog: u32 = 4;
/// Reason: reset the domain's Xen state, keep its memory (sched.h).
pub const SHUTDOWN_soft_reset: u32 = 5;
/// Highest reason (sched.h).
pub const SHUTDOWN_MAX: u32 = 5;

/// Argument of [`SCHEDOP_shutdown`] and [`SCHEDOP_shutdown_code`] (sched.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedShutdown {
    /// `SHUTDOWN_*`.
    pub reason: u32,
}

/// Argument of [`SCHEDOP_poll`] (sched.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedPoll {
    /// Array of ports.
    pub ports: GuestHandle<u32>,
    /// Its length.
    pub nr_ports: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// System time in nanoseconds at which to wake; 0 never.
    pub timeout: u64,
}

/// Argument of [`SCHEDOP_remote_shutdown`] (sched.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedRemoteShutdown {
    /// Domain to stop.
    pub domain_id: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// `SHUTDOWN_*`.
    pub reason: u32,
}

/// Argument of [`SCHEDOP_watchdog`] (sched.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedWatchdog {
    /// 0: make a new one; otherwise which.
    pub id: u32,
    /// Seconds from now; 0 stops it.
    pub timeout: u32,
}

/// Argument of [`SCHEDOP_pin_override`] (sched.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct SchedPinOverride {
    /// Physical CPU; negative ends the override.
    pub pcpu: i32,
}
