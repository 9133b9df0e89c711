//! Memory on demand: what is promised, what is set aside for it, and who gets a page when.

use xen_abi::domctl::*;
use xen_abi::grant_table as gt;
use xen_abi::hypercall::*;
use xen_abi::memory::*;
use xen_abi::xen::*;

use super::super::domctl::op;
use super::grants::grant;
use super::*;
use crate::domain::Step;
use crate::events::EventHost;
use crate::hypercall::testing::MAX_PAGES;

/// Tells of pages: all of the domain's, those set aside, guest frames promised.
type Told = (u64, u64, u64);

impl World {
    /// d1 with nothing but so many pages set aside, and guest frames 0 to 31 promised.
    fn on_demand(cached: u64) -> Self {
        let mut w = Self::new();
        assert_eq!(w.decrease(0, 8, 0), 8);
        assert_eq!(w.set_target(cached), Ok((cached, cached, 0)));
        assert_eq!(w.promise(0, 32, 0), 32);
        w
    }

    fn pod(&mut self, cmd: u32, target_pages: u64) -> Result<Told, Errno> {
        let request = PodTarget {
            target_pages,
            domid: TARGET,
            ..PodTarget::default()
        };
        self.memory(cmd, &request)?;
        let told: PodTarget = self.f.get(GUEST);
        Ok((told.tot_pages, told.pod_cache_pages, told.pod_entries))
    }

    fn set_target(&mut self, pages: u64) -> Result<Told, Errno> {
        self.pod(XENMEM_set_pod_target, pages)
    }

    fn told(&mut self) -> Told {
        self.pod(XENMEM_get_pod_target, 0).unwrap()
    }

    fn promise_to(&mut self, domid: u16, first: u64, extents: u64, order: u32) -> u64 {
        for n in 0..extents {
            self.f.put(LIST + 8 * n, &(first + (n << order)));
        }
        let request = MemoryReservation {
            extent_start: GuestHandle::new(LIST),
            nr_extents: extents,
            extent_order: order,
            mem_flags: XENMEMF_populate_on_demand,
            domid,
            ..MemoryReservation::default()
        };
        self.memory(XENMEM_populate_physmap, &request).unwrap()
    }

    pub fn promise(&mut self, first: u64, extents: u64, order: u32) -> u64 {
        self.promise_to(TARGET, first, extents, order)
    }

    /// The guest, or the hypervisor for it, reaches for a frame, and writes something there.
    fn touch(&self, gfn: u64) -> bool {
        let held = self.target.hold(Gfn(gfn), true);
        if let Some(held) = &held {
            held.words()[7].store(gfn + 1, Ordering::Relaxed);
        }
        held.is_some()
    }

    /// dom0 copies out of a frame that the guest grants it; the status.
    fn copy_out_of(&mut self, gfn: u64) -> i16 {
        grant(&self.target, 8, gfn, 0, 0);
        let own = self.f.machine.page_of(0);
        let end = |u, domid| gt::GnttabCopyPtr {
            u,
            domid,
            ..Default::default()
        };
        let op = gt::GnttabCopy {
            source: end(8, TARGET),
            dest: end(own.0, DOMID_SELF),
            len: 8,
            flags: gt::GNTCOPY_source_gref,
            ..Default::default()
        };
        self.free -= 1;
        self.grant_op(gt::GNTTABOP_copy, op).status
    }

    fn empty(&self, gfn: u64) {
        self.f.machine.words(self.frame(gfn))[7].store(0, Ordering::Relaxed);
    }
}

#[test]
fn a_domain_is_built_with_less_than_it_may_have() {
    for patience in [u32::MAX, 1, 3] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        w.decrease(0, 8, 0);
        let free = w.f.machine.free_pages();
        assert_eq!(w.set_target(20), Ok((20, 20, 0)));
        // Another page is for the list.
        assert_eq!(w.f.machine.free_pages(), free - 20);
        assert_eq!(w.set_target(12), Ok((20, 20, 0)), "less is for the balloon");
        assert_eq!(w.promise(0, 24, 0), 24);
        assert_eq!(w.promise(1 << 18, 1, 18), 1);
        assert_eq!(w.promise(512, 2, 9), 2);
        assert_eq!(w.promise(0x18, 1, 3), 1);
        let promised = 32 + 1024 + (1 << 18);
        assert_eq!(w.told(), (20, 20, promised));
        assert_eq!((w.at(0), w.has()), (None, 20));
        assert!(w.touch(3) && w.touch(1 << 18 | 5));
        assert_eq!(w.told(), (20, 18, promised - 2));
        // More is set aside, as much as it takes; what was set aside is no new page.
        assert_eq!(w.set_target(30), Ok((30, 28, promised - 2)));
        assert_eq!(w.set_target(MAX_PAGES + 1), Err(Errno::EINVAL));
        assert_eq!(w.f.machine.free_pages(), free - 30);
        w.end();
    }
}

#[test]
fn who_has_its_memory_has_no_target() {
    let mut w = World::new();
    assert_eq!(w.set_target(5), Ok((8, 0, 0)));
    assert_eq!(w.set_target(20), Ok((8, 0, 0)));
    assert_eq!(w.told(), (8, 0, 0));
    w.end();
}

#[test]
fn only_toolstacks_promise() {
    let mut w = World::new();
    assert_eq!(w.promise_to(0, 0x100, 1, 0), 0);
    assert_eq!(w.promise_to(DOMID_SELF, 0x100, 1, 0), 0);
    w.f.add(2);
    assert_eq!(w.promise_to(2, 0x100, 1, 0), 0);
    // Something is there; a large extent that is none; too large; beyond the end.
    let limit = w.map().limit();
    for (first, order) in [(7, 0), (0, 9), (0x201, 10), (0, 19), (limit, 0)] {
        assert_eq!(w.promise(first, 1, order), 0, "{first:#x}");
    }
    assert_eq!(w.told(), (8, 0, 0));
    w.by_target();
    assert_eq!(w.promise_to(DOMID_SELF, 0x100, 1, 0), 0);
    for cmd in [XENMEM_get_pod_target, XENMEM_set_pod_target] {
        assert_eq!(w.pod(cmd, 4), Err(Errno::EPERM));
    }
    w.by_control();
    let of_pv = PodTarget {
        domid: 2,
        ..PodTarget::default()
    };
    let refused = w.memory(XENMEM_set_pod_target, &of_pv);
    assert_eq!(refused, Err(Errno::EINVAL));
}

#[test]
fn what_memory_there_is_not_is_not_set_aside() {
    let mut w = World::new();
    w.decrease(0, 8, 0);
    let free = w.f.machine.free_pages();
    // dom0 takes all but three.
    let taken: Vec<_> = (3..free)
        .map(|_| w.f.machine.alloc_page().unwrap())
        .collect();
    assert_eq!(w.set_target(MAX_PAGES), Err(Errno::ENOMEM));
    assert_eq!((w.f.machine.free_pages(), w.told()), (0, (3, 3, 0)));
    for page in taken {
        w.f.machine.free_page(page);
    }
    w.end();
}

#[test]
fn a_page_comes_with_whoever_names_the_frame() {
    let mut w = World::on_demand(16);
    let told = |w: &mut World, used: u64| assert_eq!(w.told(), (16, 16 - used, 32 - used));
    // A page table of dom0.
    let table = w.f.machine.page_of(0).0;
    let pin = MmuextOp {
        cmd: MMUEXT_PIN_L1_TABLE,
        arg1: table,
        ..MmuextOp::default()
    };
    w.f.put(GUEST, &pin);
    let args = [GUEST, 1, 0, DOMID_SELF.into()];
    w.f.call(__HYPERVISOR_mmuext_op, &args).unwrap();
    let update = |w: &mut World, ptr, val| {
        w.f.put(GUEST, &MmuUpdate { ptr, val });
        let args = [GUEST, 1, 0, TARGET.into()];
        w.f.call(__HYPERVISOR_mmu_update, &args)
    };
    assert_eq!(update(&mut w, table << 12, 1 << 12 | 7), Ok(0));
    told(&mut w, 1);
    let entry = w.f.machine.words(Mfn(table))[0].load(Ordering::Relaxed);
    assert_eq!(entry >> 12 & 0xff_ffff, w.frame(1).0);
    update(&mut w, table << 12, 0).unwrap();
    // Its move.
    assert_eq!(w.add(XENMAPSPACE_gmfn, 2, 0x100), Ok(0));
    told(&mut w, 2);
    assert!(w.at(2).is_none() && !w.map().is_promised(Gfn(2)));
    // What the hypervisor keeps of it.
    let kept = w.target.take_page(3).unwrap();
    assert_eq!(kept, w.frame(3));
    told(&mut w, 3);
    w.target.release_page(kept);
    // A grant.
    assert_eq!(w.copy_out_of(4), gt::GNTST_okay);
    told(&mut w, 4);
    // What it is, is told without one.
    w.f.put(LIST, &[4u64, 5]);
    let types = DomctlGetPageFrameInfo3 {
        num: 2,
        array: GuestHandle::new(LIST),
    };
    op(&mut w.f, XEN_DOMCTL_getpageframeinfo3, TARGET, types).unwrap();
    let (ram, none) = (XEN_DOMCTL_PFINFO_NOTAB, XEN_DOMCTL_PFINFO_XTAB);
    assert_eq!(w.f.get::<[u64; 2]>(LIST), [ram.into(), none.into()]);
    told(&mut w, 4);
    assert!(!w.map().is_starved());
}

#[test]
fn a_broken_promise_is_the_domains_end() {
    let mut w = World::on_demand(2);
    assert!(w.touch(0) && w.touch(1));
    assert_eq!(w.told(), (2, 0, 30));
    // It has written to both.
    let mut tries = 0;
    while w.target.populate(Gfn(2)) == Err(Errno::EAGAIN) {
        tries += 1;
        assert!(tries < 10);
    }
    assert!(w.map().is_starved());
    assert!(!w.touch(2) && w.touch(1));
    w.end();
}

#[test]
fn who_cannot_wait_breaks_a_promise_too() {
    let w = World::on_demand(1);
    assert!(w.touch(0));
    assert_eq!(w.target.take_page(9), Err(Errno::EINVAL));
    assert!(w.map().is_starved());
    w.end();
    let mut w = World::on_demand(1);
    assert!(w.touch(0));
    assert_eq!(w.copy_out_of(9), gt::GNTST_bad_page);
    assert!(w.map().is_starved());
    w.end();
}

#[test]
fn empty_pages_are_taken_back() {
    let mut w = World::on_demand(12);
    assert!((0..12).all(|gfn| w.touch(gfn)));
    for gfn in [2, 3, 5] {
        w.empty(gfn);
    }
    // Somebody has one of them.
    let target = w.target.clone();
    let used = target.hold(Gfn(3), false).unwrap();
    let free = w.f.machine.free_pages();
    assert!(w.touch(20));
    // The last came first, and one that is in use stays.
    assert_eq!(w.told(), (12, 1, 21));
    for gfn in [2, 5] {
        assert!(w.map().is_promised(Gfn(gfn)));
    }
    for gfn in [0, 1, 4, 6, 7, 8, 9, 10, 11, 20] {
        let page = w.f.machine.words(w.frame(gfn));
        assert_eq!(page[7].load(Ordering::Relaxed), gfn + 1);
        assert_eq!(w.at(gfn).unwrap().1, P2mKind::Ram);
    }
    assert_eq!(w.at(3), Some((used.mfn(), P2mKind::Ram)));
    drop(used);
    assert!(w.touch(2) && w.touch(21));
    assert!(w.map().is_promised(Gfn(3)) && w.map().is_promised(Gfn(5)));
    assert_eq!((w.told(), w.f.machine.free_pages()), ((12, 0, 20), free));
    assert!(!w.touch(22) && w.map().is_starved());
    w.end();
}

#[test]
fn a_few_pages_are_kept_for_who_cannot_wait() {
    let mut w = World::on_demand(10);
    assert!((0..6).all(|gfn| w.touch(gfn)));
    w.empty(3);
    assert_eq!(w.target.populate(Gfn(6)), Ok(()));
    assert_eq!(w.told(), (10, 4, 26));
    assert!(w.map().is_promised(Gfn(3)));
    // What got its page a moment ago is not taken back, though it is empty.
    w.empty(4);
    w.empty(5);
    assert_eq!(w.target.populate(Gfn(7)), Ok(()));
    assert_eq!(w.told(), (10, 4, 26));
    assert!(!w.map().is_promised(Gfn(6)) && w.map().is_promised(Gfn(4)));
    w.end();
}

#[test]
fn nothing_is_taken_back_while_writes_are_logged() {
    let mut w = World::on_demand(2);
    assert!(w.touch(0) && w.touch(1));
    w.empty(1);
    while w.map().set_log(true, 64).unwrap() == Step::More {}
    assert!(!w.touch(2) && w.map().is_starved());
    assert_eq!(w.told(), (2, 0, 30));
    w.end();
}

#[test]
fn the_balloon_gives_back_what_was_promised_too_much() {
    for patience in [u32::MAX, 1, 3] {
        let mut w = World::on_demand(16);
        w.f.host.preempt_every(patience);
        let free = w.f.machine.free_pages();
        assert!((0..10).all(|gfn| w.touch(gfn)));
        // Untouched: the promises go. Touched: the pages stand for others.
        assert_eq!(w.decrease(20, 4, 0), 4);
        assert_eq!(w.told(), (16, 6, 18));
        assert_eq!(w.decrease(0, 4, 0), 4);
        assert_eq!(w.told(), (16, 10, 18));
        assert_eq!(w.decrease(24, 8, 0), 8);
        assert_eq!(w.told(), (16, 10, 10));
        assert_eq!(w.f.machine.free_pages(), free);
        // Now as much is set aside as is promised: the domain becomes smaller.
        assert_eq!(w.decrease(4, 2, 0), 2);
        assert_eq!(w.told(), (14, 10, 10));
        assert_eq!(w.decrease(16, 1, 2), 1);
        assert_eq!(w.told(), (10, 6, 6));
        assert_eq!(w.f.machine.free_pages(), free + 6);
        // A hole in the middle ends it, and what came before counts.
        assert_eq!(w.decrease(14, 1, 2), 0);
        assert_eq!(w.told(), (8, 4, 4));
        // It grows as others do.
        assert_eq!(w.populate(0, 4, 0), 4);
        assert_eq!(w.told(), (12, 4, 4));
        assert!((6..14).all(|gfn| w.touch(gfn)));
        assert_eq!((w.told(), w.set_target(20)), ((12, 0, 0), Ok((12, 0, 0))));
        w.end();
    }
}

#[test]
fn a_part_of_a_large_promise_goes() {
    let mut w = World::on_demand(8);
    assert_eq!(w.promise(1 << 18, 1, 18), 1);
    let used = w.map().pool().used;
    assert_eq!(w.decrease((1 << 18) + 512, 1, 9), 1);
    assert_eq!(w.decrease((1 << 18) + 7, 3, 0), 3);
    assert_eq!(w.told(), (8, 8, 32 + (1 << 18) - 515));
    // Tables that are empty are used again.
    for gfn in (1 << 18)..(1 << 18) + 512 {
        w.decrease(gfn, 1, 0);
    }
    assert_eq!(w.map().pool().used, used + 1);
    w.end();
}

#[test]
fn a_promise_can_be_replaced() {
    let mut w = World::on_demand(8);
    assert_eq!(w.add(XENMAPSPACE_shared_info, 0, 3), Ok(0));
    assert_eq!(w.populate(4, 1, 0), 1);
    assert_eq!(w.told(), (9, 8, 30));
    let gone = RemoveFromPhysmap {
        domid: TARGET,
        gpfn: 5,
        ..Default::default()
    };
    assert_eq!(w.memory(XENMEM_remove_from_physmap, &gone), Ok(0));
    assert_eq!(w.told(), (9, 8, 29));
    let again = w.memory(XENMEM_remove_from_physmap, &gone);
    assert_eq!(again, Err(Errno::ENOENT));
    w.end();
}

#[test]
fn the_end_takes_what_is_set_aside() {
    for patience in [1, 2, 5] {
        let mut w = World::on_demand(20);
        w.promise(1 << 18, 1, 18);
        assert!(w.touch(5) && w.touch(1 << 18));
        w.f.host.preempt_every(patience);
        w.end();
    }
}
