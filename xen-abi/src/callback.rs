//! Entry points of a PV kernel, hypercall `callback_op` (callback.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Register an entry point; [`CallbackRegister`] (callback.h).
pub const CALLBACKOP_register: u32 = 0;
/// Remove an entry point; [`CallbackUnregister`] (callback.h).
pub const CALLBACKOP_unregister: u32 = 1;

/// Entry for events (callback.h).
pub const CALLBACKTYPE_event: u16 = 0;
/// Entry when guest state cannot be loaded (callback.h).
pub const CALLBACKTYPE_failsafe: u16 = 1;
/// Entry of 64-bit `syscall` (callback.h).
pub const CALLBACKTYPE_syscall: u16 = 2;
/// Old number of the `sysenter` entry (callback.h).
pub const CALLBACKTYPE_sysenter_deprecated: u16 = 3;
/// Entry for non-maskable interrupts (callback.h).
pub const CALLBACKTYPE_nmi: u16 = 4;
/// Entry of `sysenter` (callback.h).
pub const CALLBACKTYPE_sysenter: u16 = 5;
/// Entry of 32-bit `syscall` (callback.h).
pub const CALLBACKTYPE_syscall32: u16 = 7;
/// Flag: mask events on entry (callback.h).
pub const CALLBACKF_mask_events: u16 = 1;

/// Argument of [`CALLBACKOP_register`] (callback.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CallbackRegister {
    /// `CALLBACKTYPE_*`.
    pub r#type: u16,
    /// `CALLBACKF_*`.
    pub flags: u16,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Entry point.
    pub address: u64,
}

/// Argument of [`CALLBACKOP_unregister`] (callback.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CallbackUnregister {
    /// `CALLBACKTYPE_*`.
    pub r#type: u16,
    /// Reserved; zero.
    pub _unused: u16,
}
