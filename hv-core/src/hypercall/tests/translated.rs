//! Calls on and by domains whose guest frames are translated.

mod demand;
mod foreign;
mod grants;
mod hostile;
mod huge;
mod life;
mod memory;
mod paging;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use xen_abi::GuestHandle;
use xen_abi::domctl as abi;
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_memory_op;
use xen_abi::memory::*;
use zerocopy::{Immutable, IntoBytes};

use super::domctl::plain;
use crate::base::{Gfn, Mfn};
use crate::domain::{Domain, Machine, Translated};
use crate::hypercall::testing::{Fixture, GUEST};
use crate::mm::p2m::P2mKind;

/// Where lists are.
const LIST: u64 = GUEST + 0x1000;
const SECOND: u64 = GUEST + 0x2000;
const THIRD: u64 = GUEST + 0x3000;
/// The translated domain.
const TARGET: u16 = 1;

/// dom0 makes the calls; d1 is translated and has pages at guest frames 0 to 7.
struct World {
    f: Fixture,
    target: Arc<Domain>,
    /// Free pages before there was the domain.
    free: u64,
}

impl World {
    fn new() -> Self {
        Self::on(Fixture::control())
    }

    fn on(f: Fixture) -> Self {
        let free = f.machine.free_pages();
        let target = f.add_translated(TARGET);
        let mut w = Self { f, target, free };
        assert_eq!(w.populate(0, 8, 0), 8);
        w
    }

    fn map(&self) -> &Translated {
        self.target.translated.as_ref().unwrap()
    }

    /// What is behind a guest frame.
    fn at(&self, gfn: u64) -> Option<(Mfn, P2mKind)> {
        self.map().lookup(Gfn(gfn))
    }

    fn frame(&self, gfn: u64) -> Mfn {
        self.at(gfn).expect("something is mapped there").0
    }

    fn has(&self) -> u64 {
        self.target.pages.load(Ordering::Relaxed)
    }

    fn references(&self, mfn: Mfn) -> u64 {
        self.f.machine.frame_of(mfn).references()
    }

    /// From now on the domain itself makes the calls.
    fn by_target(&mut self) {
        self.f.caller = self.target.clone();
    }

    fn by_control(&mut self) {
        self.f.caller = self.f.hv.domain(0).unwrap();
    }

    fn memory<T: IntoBytes + Immutable>(&mut self, cmd: u32, value: &T) -> Result<u64, Errno> {
        self.f.put(GUEST, value);
        self.f.call(__HYPERVISOR_memory_op, &[cmd.into(), GUEST])
    }

    /// A reservation call over guest frames one after the other; returns how many extents were done.
    fn reserve(&mut self, cmd: u32, first: u64, extents: u64, order: u32) -> u64 {
        for n in 0..extents {
            self.f.put(LIST + 8 * n, &(first + (n << order)));
        }
        let request = MemoryReservation {
            extent_start: GuestHandle::new(LIST),
            nr_extents: extents,
            extent_order: order,
            domid: TARGET,
            ..MemoryReservation::default()
        };
        self.memory(cmd, &request).unwrap()
    }

    fn populate(&mut self, first: u64, extents: u64, order: u32) -> u64 {
        self.reserve(XENMEM_populate_physmap, first, extents, order)
    }

    fn decrease(&mut self, first: u64, extents: u64, order: u32) -> u64 {
        self.reserve(XENMEM_decrease_reservation, first, extents, order)
    }

    fn add(&mut self, space: u32, idx: u64, gpfn: u64) -> Result<u64, Errno> {
        let request = AddToPhysmap {
            domid: TARGET,
            size: 0,
            space,
            idx,
            gpfn,
        };
        self.memory(XENMEM_add_to_physmap, &request)
    }

    /// The end: the domain leaves nothing.
    fn end(mut self) {
        self.by_control();
        plain(&mut self.f, abi::XEN_DOMCTL_destroydomain, TARGET).unwrap();
        let (f, free) = (&mut self.f, self.free);
        drop(self.target);
        f.hv.forget_dead();
        assert!(f.hv.domain(TARGET).is_none(), "a frame is kept");
        assert_eq!(f.machine.free_pages(), free);
    }
}
