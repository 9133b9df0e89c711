//! Event channels (event_channel.h): sub-operations with their arguments, the two-level layout's
//! size, the FIFO layout's event words and control block.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Connect to a port another domain left unbound; [`EvtchnBindInterdomain`] (event_channel.h).
pub const EVTCHNOP_bind_interdomain: u32 = 0;
/// Bind a virtual interrupt; [`EvtchnBindVirq`] (event_channel.h).
pub const EVTCHNOP_bind_virq: u32 = 1;
/// Bind a physical interrupt; [`EvtchnBindPirq`] (event_channel.h).
pub const EVTCHNOP_bind_pirq: u32 = 2;
/// Close a port; [`EvtchnClose`] (event_channel.h).
pub const EVTCHNOP_close: u32 = 3;
/// Signal the other end of a port; [`EvtchnSend`] (event_channel.h).
pub const EVTCHNOP_send: u32 = 4;
/// Ask what a port is; [`EvtchnStatus`] (event_channel.h).
pub const EVTCHNOP_status: u32 = 5;
/// Make a port another domain may connect to; [`EvtchnAllocUnbound`] (event_channel.h).
pub const EVTCHNOP_alloc_unbound: u32 = 6;
/// Make a port that signals a vCPU of the caller; [`EvtchnBindIpi`] (event_channel.h).
pub const EVTCHNOP_bind_ipi: u32 = 7;
/// Choose the vCPU a port notifies; [`EvtchnBindVcpu`] (event_channel.h).
pub const EVTCHNOP_bind_vcpu: u32 = 8;
/// Unmask a port and deliver what waits; [`EvtchnUnmask`] (event_channel.h).
pub const EVTCHNOP_unmask: u32 = 9;
/// Close all ports of a domain; [`EvtchnReset`] (event_channel.h).
pub const EVTCHNOP_reset: u32 = 10;
/// Start the FIFO layout on a vCPU; [`EvtchnInitControl`] (event_channel.h).
pub const EVTCHNOP_init_control: u32 = 11;
/// Add a page of event words; [`EvtchnExpandArray`] (event_channel.h).
pub const EVTCHNOP_expand_array: u32 = 12;
/// Set a port's priority (FIFO); [`EvtchnSetPriority`] (event_channel.h).
pub const EVTCHNOP_set_priority: u32 = 13;
/// Port status: free (event_channel.h).
pub const EVTCHNSTAT_closed: u32 = 0;
/// Port status: waits for another domain (event_channel.h).
pub const EVTCHNSTAT_unbound: u32 = 1;
/// Port status: connected to another port (event_channel.h).
pub const EVTCHNSTAT_interdomain: u32 = 2;
/// Port status: physical interrupt (event_channel.h).
pub const EVTCHNSTAT_pirq: u32 = 3;
/// Port status: virtual interrupt (event_channel.h).
pub const EVTCHNSTAT_virq: u32 = 4;
/// Port status: inter-processor signal (event_channel.h).
pub const EVTCHNSTAT_ipi: u32 = 5;
/// Flag of [`EvtchnBindPirq`]: the line may be shared (event_channel.h).
pub const BIND_PIRQ__WILL_SHARE: u32 = 1;
/// Number of ports of the two-level layout (event_channel.h).
pub const EVTCHN_2L_NR_CHANNELS: u32 = 4096;
/// Highest priority (event_channel.h).
pub const EVTCHN_FIFO_PRIORITY_MAX: u32 = 0;
/// Priority of a new port (event_channel.h).
pub const EVTCHN_FIFO_PRIORITY_DEFAULT: u32 = 7;
/// Lowest priority (event_channel.h).
pub const EVTCHN_FIFO_PRIORITY_MIN: u32 = 15;
/// Number of queues per vCPU (event_channel.h).
pub const EVTCHN_FIFO_MAX_QUEUES: u32 = 16;
/// Bit number in an event word: pending (event_channel.h).
pub const EVTCHN_FIFO_PENDING: u32 = 31;
/// Bit number in an event word: masked (event_channel.h).
pub const EVTCHN_FIFO_MASKED: u32 = 30;
/// Bit number in an event word: on a queue (event_channel.h).
pub const EVTCHN_FIFO_LINKED: u32 = 29;
/// Bit number in an event word: being changed (event_channel.h).
pub const EVTCHN_FIFO_BUSY: u32 = 28;
/// Width of the link in an event word (event_channel.h).
pub const EVTCHN_FIFO_LINK_BITS: u32 = 17;
/// Mask of the link in an event word (event_channel.h).
pub const EVTCHN_FIFO_LINK_MASK: u32 = 131_071;
/// Number of ports of the FIFO layout (event_channel.h).
pub const EVTCHN_FIFO_NR_CHANNELS: u32 = 131_072;

/// Number of a port (event_channel.h, `evtchn_port_t`).
pub type EvtchnPort = u32;

/// Argument of [`EVTCHNOP_alloc_unbound`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnAllocUnbound {
    /// Domain that gets the port; may be `DOMID_SELF`.
    pub dom: u16,
    /// Domain that may connect.
    pub remote_dom: u16,
    /// Out: the new port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_bind_interdomain`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnBindInterdomain {
    /// Domain to connect to.
    pub remote_dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Its unbound port.
    pub remote_port: u32,
    /// Out: the caller's new port.
    pub local_port: u32,
}

/// Argument of [`EVTCHNOP_bind_virq`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnBindVirq {
    /// `VIRQ_*`.
    pub virq: u32,
    /// vCPU to notify; 0 for a global one.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_bind_pirq`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnBindPirq {
    /// Physical interrupt of the domain.
    pub pirq: u32,
    /// `BIND_PIRQ__*`.
    pub flags: u32,
    /// Out: the new port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_bind_ipi`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnBindIpi {
    /// vCPU to notify.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_close`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnClose {
    /// Port to close.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_send`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnSend {
    /// Local port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_status`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnStatus {
    /// Domain asked about.
    pub dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Port asked about.
    pub port: u32,
    /// Out: `EVTCHNSTAT_*`.
    pub status: u32,
    /// Out: vCPU the port notifies.
    pub vcpu: u32,
    /// Out, by status: [`EvtchnStatusUnbound`], [`EvtchnStatusInterdomain`], or the interrupt's
    /// number in the first word.
    pub u: [u32; 2],
}

/// [`EvtchnStatus::u`] of an unbound port (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnStatusUnbound {
    /// Domain that may connect.
    pub dom: u16,
}

/// [`EvtchnStatus::u`] of a connected port (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnStatusInterdomain {
    /// Domain at the other end.
    pub dom: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Port at the other end.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_bind_vcpu`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnBindVcpu {
    /// Port.
    pub port: u32,
    /// vCPU to notify from now on.
    pub vcpu: u32,
}

/// Argument of [`EVTCHNOP_unmask`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnUnmask {
    /// Port.
    pub port: u32,
}

/// Argument of [`EVTCHNOP_reset`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnReset {
    /// Domain; may be `DOMID_SELF`.
    pub dom: u16,
}

/// Argument of [`EVTCHNOP_init_control`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnInitControl {
    /// Frame of the control block.
    pub control_gfn: u64,
    /// Its offset in the frame.
    pub offset: u32,
    /// vCPU it belongs to.
    pub vcpu: u32,
    /// Out: width of links, [`EVTCHN_FIFO_LINK_BITS`].
    pub link_bits: u8,
    /// Padding; zero.
    pub _pad: [u8; 7],
}

/// Argument of [`EVTCHNOP_expand_array`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnExpandArray {
    /// Frame with more event words.
    pub array_gfn: u64,
}

/// Argument of [`EVTCHNOP_set_priority`] (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnSetPriority {
    /// Port.
    pub port: u32,
    /// 0 (highest) to 15.
    pub priority: u32,
}

/// A vCPU's queues (FIFO), shared live with the guest (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnFifoControlBlock {
    /// Bit n: queue n has something.
    pub ready: u32,
    /// Reserved; zero.
    pub _rsvd: u32,
    /// First port of each queue.
    pub head: [u32; 16],
}

/// Argument of the old form of the hypercall (event_channel.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct EvtchnOp {
    /// Sub-operation.
    pub cmd: u32,
    /// Its argument.
    pub u: [u32; 6],
}
