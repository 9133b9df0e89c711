//! A domain made of ordinary memory, and the tests over it.

mod fifo;
mod guest;
mod model;
mod operations;
mod threads;

use core::num::NonZeroU8;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex as StdMutex};

use xen_abi::errno::Errno;

use super::*;
use crate::base::{DomId, Mfn, VcpuId};

/// Pages a fake domain has, numbered from `FIRST_GFN`.
const PAGES: usize = 16;
/// First guest frame of a fake domain.
const FIRST_GFN: u64 = 100;

/// What the fake domain was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Kick(VcpuId),
    WakePoller(VcpuId),
    Consume(u8, VcpuId, PortNumber),
    BindPirq(u32, VcpuId),
    UnbindPirq(u32),
    RoutePirq(u32, VcpuId),
}

/// A domain made of ordinary memory.
struct Fake {
    id: DomId,
    layout: Layout,
    vcpus: u32,
    pending: [AtomicU64; 64],
    mask: [AtomicU64; 64],
    info: Vec<[AtomicU64; 2]>,
    pages: Vec<[AtomicU32; 1024]>,
    taken: StdMutex<BTreeMap<u64, u32>>,
    told: StdMutex<Vec<Told>>,
    /// The interrupt layer refuses this one.
    refused_pirq: u32,
    events: Events<Self>,
}

impl Fake {
    fn new(id: DomId, vcpus: u32) -> Arc<Self> {
        Self::with_limits(
            id,
            Layout::Bits64,
            Limits {
                vcpus,
                max_port: u32::MAX,
                pirqs: 32,
            },
        )
    }

    fn with_limits(id: DomId, layout: Layout, limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            id,
            layout,
            vcpus: limits.vcpus,
            pending: [const { AtomicU64::new(0) }; 64],
            mask: [const { AtomicU64::new(0) }; 64],
            info: (0..limits.vcpus)
                .map(|_| [AtomicU64::new(0), AtomicU64::new(0)])
                .collect(),
            pages: (0..PAGES)
                .map(|_| [const { AtomicU32::new(0) }; 1024])
                .collect(),
            taken: StdMutex::new(BTreeMap::new()),
            told: StdMutex::new(Vec::new()),
            refused_pirq: 31,
            events: Events::new(id, limits).expect("memory"),
        })
    }

    fn tell(&self, what: Told) {
        self.told.lock().unwrap().push(what);
    }

    /// What the domain was told since the last look.
    fn news(&self) -> Vec<Told> {
        core::mem::take(&mut *self.told.lock().unwrap())
    }

    /// References to pages that are out.
    fn pages_out(&self) -> u32 {
        self.taken.lock().unwrap().values().sum()
    }

    fn set_masked(&self, port: PortNumber) {
        self.mask[port as usize / 64].fetch_or(1 << (port % 64), Ordering::SeqCst);
    }

    /// The guest side of the 2-level form: takes the pending, unmasked ports selected at a vCPU.
    fn take_two_level(&self, vcpu: VcpuId) -> Vec<PortNumber> {
        let mut ports = Vec::new();
        let info = &self.info[vcpu as usize];
        if info[0].fetch_and(!0xff, Ordering::SeqCst) & 0xff == 0 {
            return ports;
        }
        let (selected, words) = match self.layout {
            Layout::Bits64 => (info[1].swap(0, Ordering::SeqCst), 64),
            Layout::Bits32 => (info[0].fetch_and(0xffff_ffff, Ordering::SeqCst) >> 32, 32),
        };
        for port in 0..self.layout.two_level_ports() {
            let bit = 1 << (port % 64);
            let (pending, mask) = (
                &self.pending[port as usize / 64],
                &self.mask[port as usize / 64],
            );
            if selected & 1 << (port / words) != 0
                && mask.load(Ordering::SeqCst) & bit == 0
                && pending.fetch_and(!bit, Ordering::SeqCst) & bit != 0
            {
                ports.push(port);
            }
        }
        ports
    }
}

impl EventHost for Fake {
    fn id(&self) -> DomId {
        self.id
    }
    fn events(&self) -> &Events<Self> {
        &self.events
    }
    fn layout(&self) -> Layout {
        self.layout
    }
    fn vcpu_exists(&self, vcpu: VcpuId) -> bool {
        vcpu < self.vcpus
    }
    fn pending_word(&self, index: usize) -> &AtomicU64 {
        &self.pending[index]
    }
    fn mask_word(&self, index: usize) -> &AtomicU64 {
        &self.mask[index]
    }
    fn vcpu_info(&self, vcpu: VcpuId) -> Option<&[AtomicU64; 2]> {
        self.info.get(vcpu as usize)
    }
    fn take_page(&self, gfn: u64) -> Result<Mfn, Errno> {
        if !(FIRST_GFN..FIRST_GFN + PAGES as u64).contains(&gfn) {
            return Err(Errno::EINVAL);
        }
        *self.taken.lock().unwrap().entry(gfn).or_default() += 1;
        Ok(Mfn(gfn - FIRST_GFN))
    }
    fn release_page(&self, page: Mfn) {
        let mut taken = self.taken.lock().unwrap();
        let count = taken.get_mut(&(page.0 + FIRST_GFN)).expect("was taken");
        *count = count.checked_sub(1).expect("was taken");
    }
    fn page(&self, page: Mfn) -> &[AtomicU32; 1024] {
        &self.pages[page.0 as usize]
    }
    fn kick(&self, vcpu: VcpuId) {
        self.tell(Told::Kick(vcpu));
    }
    fn wake_poller(&self, vcpu: VcpuId) {
        self.tell(Told::WakePoller(vcpu));
    }
    fn consume(&self, consumer: Consumer, vcpu: VcpuId, port: PortNumber) {
        self.tell(Told::Consume(consumer.0.get(), vcpu, port));
    }
    fn bind_pirq(&self, pirq: u32, _: PirqSharing, vcpu: VcpuId) -> Result<(), Errno> {
        if pirq == self.refused_pirq {
            return Err(Errno::EPERM);
        }
        self.tell(Told::BindPirq(pirq, vcpu));
        Ok(())
    }
    fn unbind_pirq(&self, pirq: u32) {
        self.tell(Told::UnbindPirq(pirq));
    }
    fn route_pirq(&self, pirq: u32, vcpu: VcpuId) {
        self.tell(Told::RoutePirq(pirq, vcpu));
    }
}

/// The hypervisor's consumer number `n`.
fn consumer(n: u8) -> Consumer {
    Consumer(NonZeroU8::new(n).expect("not zero"))
}

/// Tears a domain down, so that its peers let go of it.
fn destroy(d: &Fake) {
    while teardown(d) == Progress::More {}
}
