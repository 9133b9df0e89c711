//! Non-maskable interrupts, hypercall `nmi_op` (nmi.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Register an entry point; [`NmiCallback`] (nmi.h).
pub const XENNMI_register_callback: u32 = 0;
/// Remove it; no argument (nmi.h).
pub const XENNMI_unregister_callback: u32 = 1;

/// Reason: I/O channel check (nmi.h).
pub const XEN_NMIREASON_io_error: u64 = 1;
/// Reason: PCI system error (nmi.h).
pub const XEN_NMIREASON_pci_serr: u64 = 2;
/// Reason: unknown (nmi.h).
pub const XEN_NMIREASON_unknown: u64 = 4;

/// Argument of [`XENNMI_register_callback`] (nmi.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct NmiCallback {
    /// Entry point.
    pub handler_address: u64,
    /// Padding; zero.
    pub pad: u64,
}
