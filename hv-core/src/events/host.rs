//! What event channels need of the domain they belong to.

use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, AtomicU64};

use xen_abi::errno::Errno;

use super::{Events, PortNumber};
use crate::base::{DomId, Mfn, VcpuId};

/// How a guest's kernel lays out `shared_info` and `vcpu_info` (`xen.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Words of 64 bits: 4096 channels in the 2-level ABI.
    Bits64,
    /// Words of 32 bits: 1024 channels in the 2-level ABI.
    Bits32,
}

impl Layout {
    /// Number of channels in the 2-level ABI (`EVTCHN_2L_NR_CHANNELS`).
    #[must_use]
    pub const fn two_level_ports(self) -> u32 {
        match self {
            Self::Bits64 => 64 * 64,
            Self::Bits32 => 32 * 32,
        }
    }
}

/// Whether other domains may bind the same physical interrupt (`BIND_PIRQ__WILL_SHARE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PirqSharing {
    /// This domain alone.
    Exclusive,
    /// Others as well.
    Shared,
}

/// Which part of the hypervisor listens at a port whose guest end is ours.
///
/// The values belong to the host: this module only hands them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer(pub NonZeroU8);

/// A domain as event channels see it.
///
/// The words are memory shared with a running guest: they may change at any time.
pub trait EventHost: Sized + Send + Sync + 'static {
    /// The domain's identifier.
    fn id(&self) -> DomId;

    /// The domain's event channels.
    fn events(&self) -> &Events<Self>;

    /// The layout the guest uses for its shared areas.
    fn layout(&self) -> Layout;

    /// Whether the vCPU was created.
    fn vcpu_exists(&self, vcpu: VcpuId) -> bool;

    /// 64 bits of `shared_info.evtchn_pending`, from port `64 * index`.
    ///
    /// `index` is below `layout().two_level_ports() / 64`.
    fn pending_word(&self, index: usize) -> &AtomicU64;

    /// 64 bits of `shared_info.evtchn_mask`, from port `64 * index`; `index` as above.
    fn mask_word(&self, index: usize) -> &AtomicU64;

    /// The first 16 bytes of the vCPU's `vcpu_info`, or nothing while it has none.
    ///
    /// Byte 0 is `evtchn_upcall_pending`, byte 1 `evtchn_upcall_mask`; `evtchn_pending_sel` is
    /// the second word in the 64-bit layout, the upper half of the first in the 32-bit one. The
    /// area must be aligned to 8 bytes.
    fn vcpu_info(&self, vcpu: VcpuId) -> Option<&[AtomicU64; 2]>;

    /// Takes a reference to a guest page as writable memory, for a FIFO control block or part of
    /// the event array. `gfn` is as the guest named it: a machine frame in a PV guest.
    ///
    /// # Errors
    ///
    /// `EINVAL` when the guest has no such writable page.
    fn take_page(&self, gfn: u64) -> Result<Mfn, Errno>;

    /// Gives back what [`take_page`](Self::take_page) took.
    fn release_page(&self, page: Mfn);

    /// The words of a page that is currently taken.
    fn page(&self, page: Mfn) -> &[AtomicU32; 1024];

    /// An upcall became due: wake the vCPU when it is blocked, interrupt it when it runs elsewhere.
    fn kick(&self, vcpu: VcpuId);

    /// A port that the vCPU polls became pending: let it go on, upcalls masked or not.
    fn wake_poller(&self, vcpu: VcpuId);

    /// An event arrived at a port whose consumer is the hypervisor.
    fn consume(&self, consumer: Consumer, vcpu: VcpuId, port: PortNumber);

    /// Starts delivery of a physical interrupt to this domain, first to `vcpu`.
    ///
    /// # Errors
    ///
    /// `EPERM` when the domain may not have it, `EBUSY` when it is taken, or the interrupt layer's.
    fn bind_pirq(&self, pirq: u32, sharing: PirqSharing, vcpu: VcpuId) -> Result<(), Errno>;

    /// Ends what [`bind_pirq`](Self::bind_pirq) started.
    fn unbind_pirq(&self, pirq: u32);

    /// The port of a bound physical interrupt now notifies `vcpu`.
    fn route_pirq(&self, pirq: u32, vcpu: VcpuId);
}
