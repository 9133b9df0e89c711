//! One port: what it is bound to, whom it notifies.

use alloc::sync::Arc;
use core::num::NonZeroU8;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

use xen_abi::event_channel::{EVTCHN_FIFO_MAX_QUEUES, EVTCHN_FIFO_PRIORITY_DEFAULT};

use super::PortNumber;
use super::host::Consumer;
use crate::base::lock::{Mutex, rank};
use crate::base::{DomId, VcpuId};

/// What a port is bound to.
pub(super) enum Binding<D> {
    /// Not in use.
    Free,
    /// Port 0, which is never given out.
    Reserved,
    /// Waiting for `remote` to bind.
    Unbound { remote: DomId },
    /// Connected to `port` of `peer`. The reference lives until either end closes, so a domain
    /// that dies must be torn down.
    Interdomain { peer: Arc<D>, port: PortNumber },
    /// A physical interrupt, numbered by the domain.
    Pirq { pirq: u32 },
    /// A virtual interrupt, listed at vCPU `home`.
    Virq { virq: u32, home: VcpuId },
    /// From one vCPU of the domain to another.
    Ipi,
}

/// One of the FIFO queues of a domain; in the 2-level ABI only the vCPU matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueId {
    /// Whose queue.
    pub vcpu: VcpuId,
    /// 0 (highest) to 15; stored as an index below `EVTCHN_FIFO_MAX_QUEUES`.
    priority: u8,
}

impl QueueId {
    /// Where a fresh port notifies: vCPU 0, default priority.
    pub const DEFAULT: Self = Self {
        vcpu: 0,
        priority: EVTCHN_FIFO_PRIORITY_DEFAULT as u8,
    };

    /// Index of the queue inside its vCPU.
    pub const fn priority(self) -> usize {
        self.priority as usize
    }

    /// The queue of the same vCPU with another priority, or nothing when there is none.
    pub const fn with_priority(self, priority: u32) -> Option<Self> {
        if priority >= EVTCHN_FIFO_MAX_QUEUES {
            return None;
        }
        Some(Self {
            vcpu: self.vcpu,
            priority: priority as u8,
        })
    }

    /// The queue of the same priority at another vCPU.
    pub const fn with_vcpu(self, vcpu: VcpuId) -> Self {
        Self {
            vcpu,
            priority: self.priority,
        }
    }

    const fn pack(self) -> u32 {
        self.vcpu << 4 | self.priority as u32
    }

    const fn unpack(bits: u32) -> Self {
        Self {
            vcpu: bits >> 4,
            priority: (bits & 0xf) as u8,
        }
    }
}

/// A port of a domain.
///
/// What a sender in another domain needs is atomic, so that it never takes a lock of this port.
pub(super) struct Port<D> {
    /// Changed with the ledger of every concerned domain held as well.
    pub binding: Mutex<Binding<D>>,
    /// Where the next event goes.
    target: AtomicU32,
    /// The queue this port was last linked on; changed with the queues of both vCPUs locked.
    last: AtomicU32,
    /// An event came before the guest gave memory for this port's event word.
    pub deferred: AtomicBool,
    /// The hypervisor's consumer, 0 for the guest.
    consumer: AtomicU8,
}

impl<D> Port<D> {
    /// A free port.
    pub const fn new() -> Self {
        Self {
            binding: Mutex::new(rank::BINDING, Binding::Free),
            target: AtomicU32::new(QueueId::DEFAULT.pack()),
            last: AtomicU32::new(QueueId::DEFAULT.pack()),
            deferred: AtomicBool::new(false),
            consumer: AtomicU8::new(0),
        }
    }

    /// Where the next event goes.
    pub fn target(&self) -> QueueId {
        QueueId::unpack(self.target.load(Ordering::Acquire))
    }

    /// Changes where the next event goes; the caller holds the binding.
    pub fn set_target(&self, queue: QueueId) {
        self.target.store(queue.pack(), Ordering::Release);
    }

    /// The queue this port was last linked on.
    pub fn last(&self) -> QueueId {
        QueueId::unpack(self.last.load(Ordering::Acquire))
    }

    /// Notes the queue it is linked on; the caller holds the queues of the old and the new vCPU.
    pub fn set_last(&self, queue: QueueId) {
        self.last.store(queue.pack(), Ordering::Release);
    }

    /// The hypervisor's consumer, if the guest's end of this port is ours.
    pub fn consumer(&self) -> Option<Consumer> {
        NonZeroU8::new(self.consumer.load(Ordering::Acquire)).map(Consumer)
    }

    /// Sets or clears the hypervisor's consumer.
    pub fn set_consumer(&self, consumer: Option<Consumer>) {
        let raw = consumer.map_or(0, |Consumer(c)| c.get());
        self.consumer.store(raw, Ordering::Release);
    }

    /// The domain at the other end.
    pub fn peer(&self) -> Option<Arc<D>> {
        match &*self.binding.lock() {
            Binding::Interdomain { peer, .. } => Some(peer.clone()),
            _ => None,
        }
    }
}
