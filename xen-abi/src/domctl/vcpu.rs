//! Arguments that concern one vCPU (domctl.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::arch_x86::VcpuGuestContext;
use crate::xen::XenctlBitmap;

/// Flag: where it may run (domctl.h).
pub const XEN_VCPUAFFINITY_HARD: u32 = 1;
/// Flag: where it prefers to run (domctl.h).
pub const XEN_VCPUAFFINITY_SOFT: u32 = 2;
/// Flag: undo an override by the guest (domctl.h).
pub const XEN_VCPUAFFINITY_FORCE: u32 = 4;
/// Trigger: NMI (domctl.h).
pub const XEN_DOMCTL_SENDTRIGGER_NMI: u32 = 0;
/// Trigger: reset (domctl.h).
pub const XEN_DOMCTL_SENDTRIGGER_RESET: u32 = 1;
/// Trigger: INIT (domctl.h).
pub const XEN_DOMCTL_SENDTRIGGER_INIT: u32 = 2;
/// Trigger: power button (domctl.h).
pub const XEN_DOMCTL_SENDTRIGGER_POWER: u32 = 3;
/// Trigger: sleep button (domctl.h).
pub const XEN_DOMCTL_SENDTRIGGER_SLEEP: u32 = 4;
/// Debug operation: stop single-stepping (domctl.h).
pub const XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_OFF: u32 = 0;
/// Debug operation: single-step (domctl.h).
pub const XEN_DOMCTL_DEBUG_OP_SINGLE_STEP_ON: u32 = 1;

/// Argument of `XEN_DOMCTL_setvcpucontext` and `XEN_DOMCTL_getvcpucontext` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVcpuContext {
    /// vCPU.
    pub vcpu: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Its state.
    pub ctxt: GuestHandle<VcpuGuestContext>,
}

/// Argument of `XEN_DOMCTL_getvcpuinfo` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGetVcpuInfo {
    /// vCPU.
    pub vcpu: u32,
    /// Out: non-zero if on-line.
    pub online: u8,
    /// Out: non-zero if it waits for an event.
    pub blocked: u8,
    /// Out: non-zero if it runs.
    pub running: u8,
    /// Padding.
    pub _pad0: [u8; 1],
    /// Out: CPU time used in nanoseconds.
    pub cpu_time: u64,
    /// Out: physical CPU it is on.
    pub cpu: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}

/// Argument of `XEN_DOMCTL_setvcpuaffinity` and `XEN_DOMCTL_getvcpuaffinity` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVcpuAffinity {
    /// vCPU.
    pub vcpu: u32,
    /// `XEN_VCPUAFFINITY_*`.
    pub flags: u32,
    /// CPUs it may run on; the effective set is written back.
    pub cpumap_hard: XenctlBitmap,
    /// CPUs it prefers; the effective set is written back.
    pub cpumap_soft: XenctlBitmap,
}

/// Argument of `XEN_DOMCTL_sendtrigger` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSendTrigger {
    /// `XEN_DOMCTL_SENDTRIGGER_*`.
    pub trigger: u32,
    /// vCPU.
    pub vcpu: u32,
}

/// Argument of `XEN_DOMCTL_set_ext_vcpucontext` and `XEN_DOMCTL_get_ext_vcpucontext` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlExtVcpuContext {
    /// vCPU.
    pub vcpu: u32,
    /// Size in bytes of what is valid.
    pub size: u32,
    /// Entry point of 32-bit `syscall`.
    pub syscall32_callback_eip: u64,
    /// Entry point of `sysenter`.
    pub sysenter_callback_eip: u64,
    /// Code selector of 32-bit `syscall`.
    pub syscall32_callback_cs: u16,
    /// Code selector of `sysenter`.
    pub sysenter_callback_cs: u16,
    /// Non-zero: 32-bit `syscall` masks events.
    pub syscall32_disables_events: u8,
    /// Non-zero: `sysenter` masks events.
    pub sysenter_disables_events: u8,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Virtual machine-check state: capabilities, CTL2 of banks 0 and 1, LMCE enable.
    pub vmce: [u64; 4],
}

/// Argument of `XEN_DOMCTL_debug_op` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlDebugOp {
    /// `XEN_DOMCTL_DEBUG_OP_*`.
    pub op: u32,
    /// vCPU.
    pub vcpu: u32,
}

/// Argument of `XEN_DOMCTL_setvcpuextstate` and `XEN_DOMCTL_getvcpuextstate` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVcpuExtState {
    /// vCPU.
    pub vcpu: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Features of the saved state, as in XCR0.
    pub xfeature_mask: u64,
    /// Size in bytes of the buffer.
    pub size: u64,
    /// The state.
    pub buffer: GuestHandle<u64>,
}

/// One register of a vCPU (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVcpuMsr {
    /// Register number.
    pub index: u32,
    /// Reserved; zero.
    pub reserved: u32,
    /// Value.
    pub value: u64,
}

/// Argument of `XEN_DOMCTL_get_vcpu_msrs` and `XEN_DOMCTL_set_vcpu_msrs` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlVcpuMsrs {
    /// vCPU.
    pub vcpu: u32,
    /// In: length; out: number, or index of the register at fault.
    pub msr_count: u32,
    /// Registers; null asks for the number.
    pub msrs: GuestHandle<DomctlVcpuMsr>,
}

/// Argument of the debugger's pause operations (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGdbsxPauseunpVcpu {
    /// vCPU.
    pub vcpu: u32,
}

/// Argument of `XEN_DOMCTL_gdbsx_domstatus` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGdbsxDomstatus {
    /// Out: non-zero if paused.
    pub paused: u8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// Out: vCPU with an event, or all ones.
    pub vcpu_id: u32,
    /// Out: its event.
    pub vcpu_ev: u32,
}
