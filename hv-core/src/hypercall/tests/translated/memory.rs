//! memory_op.

use xen_abi::memory::*;
use xen_abi::xen::DOMID_SELF;

use super::*;
use crate::grants::FrameKind;
use crate::hypercall::testing::MAX_PAGES;

#[test]
fn memory_comes_and_goes_by_guest_frames() {
    for patience in [u32::MAX, 1, 3] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        let free = w.f.machine.free_pages();
        assert_eq!(w.has(), 8);
        assert_eq!(w.populate(0x40, 3, 3), 3);
        assert_eq!((w.has(), w.f.machine.free_pages()), (32, free - 24));
        for gfn in 0x40..0x58 {
            let (mfn, kind) = w.at(gfn).unwrap();
            assert_eq!((kind, w.f.machine.m2p(mfn)), (P2mKind::Ram, gfn));
            assert_eq!(w.f.get::<u64>(LIST), 0x40, "the list is left as it was");
        }
        assert_eq!(w.at(0x58), None);
        assert_eq!(w.decrease(0x42, 20, 0), 20);
        assert_eq!((w.has(), w.f.machine.free_pages()), (12, free - 4));
        for (gfn, there) in [(0x41, true), (0x42, false), (0x55, false), (0x56, true)] {
            assert_eq!(w.at(gfn).is_some(), there, "{gfn:#x}");
        }
        // A hole ends it, after what came before.
        assert_eq!(w.decrease(0x40, 8, 0), 2);
        assert_eq!(w.decrease(0x56, 1, 2), 0);
        w.end();
    }
}

#[test]
fn one_flush_is_for_many_pages() {
    let mut w = World::new();
    w.populate(0x40, 16, 0);
    let before = w.f.machine.flushes.load(Ordering::Relaxed);
    assert_eq!(w.decrease(0x40, 16, 0), 16);
    assert_eq!(w.f.machine.flushes.load(Ordering::Relaxed), before + 1);
    w.end();
}

#[test]
fn no_more_than_it_may_have() {
    let mut w = World::new();
    assert_eq!(w.populate(0x40, MAX_PAGES, 0), MAX_PAGES - 8);
    assert_eq!((w.has(), w.populate(0x1000, 1, 0)), (MAX_PAGES, 0));
    w.end();
}

#[test]
fn what_cannot_be_is_not_done() {
    let mut w = World::new();
    let free = w.f.machine.free_pages();
    let limit = w.map().limit();
    for first in [limit, limit - 1, u64::MAX, u64::MAX - 1] {
        assert_eq!((w.populate(first, 1, 1), w.decrease(first, 1, 1)), (0, 0));
    }
    assert_eq!(w.populate(limit - 2, 1, 1), 1);
    // Huge extents are for machines that have them.
    assert_eq!((w.populate(0, 1, 18), w.populate(0, 1, 63)), (0, 0));
    assert_eq!(w.reserve(XENMEM_increase_reservation, 0, 1, 0), 0);
    assert_eq!((w.has(), w.f.machine.free_pages()), (10, free - 2));
    w.end();
}

#[test]
fn a_pool_without_pages_gives_everything_back() {
    let mut w = World::new();
    // Each lies in tables of its own, until there are none.
    let mut done = 0;
    let free = loop {
        let free = w.f.machine.free_pages();
        if w.populate(done << 20 | 1 << 19, 1, 0) == 0 {
            assert_eq!(w.f.machine.free_pages(), free);
            break free;
        }
        done += 1;
    };
    assert!(done > 2, "{done}");
    assert_eq!((w.has(), w.populate(0x10, 1, 0)), (8 + done, 1));
    assert_eq!(w.f.machine.free_pages(), free - 1);
    w.end();
}

#[test]
fn what_is_replaced_stays_the_domains() {
    let mut w = World::new();
    let before = w.frame(3);
    assert_eq!(w.populate(3, 1, 0), 1);
    assert_ne!(w.frame(3), before);
    assert_eq!((w.has(), w.f.machine.m2p(before)), (9, u64::MAX));
    // The reference of the entry is gone, the owner's is not.
    assert_eq!(w.f.machine.frame_of(before).type_state().count(), 0);
    w.end();
}

#[test]
fn shared_pages_are_mapped_where_the_guest_wants_them() {
    let mut w = World::new();
    w.by_target();
    let shared = w.target.shared_info;
    let before = (w.has(), w.references(shared));
    assert_eq!(w.add(XENMAPSPACE_shared_info, 0, 0x100), Ok(0));
    assert_eq!(w.at(0x100), Some((shared, P2mKind::Ram)));
    // Again, then elsewhere, in the place of a page of its own, which is free then.
    assert_eq!(w.add(XENMAPSPACE_shared_info, 0, 0x100), Ok(0));
    assert_eq!(w.add(XENMAPSPACE_shared_info, 0, 5), Ok(0));
    assert_eq!((w.at(0x100), w.frame(5)), (None, shared));
    assert_eq!((w.has(), w.target.own_number(shared)), (7, 5));
    assert_eq!(w.add(XENMAPSPACE_shared_info, 1, 6), Err(Errno::EINVAL));
    let table = w.target.grants.frame(FrameKind::Shared, 0).unwrap();
    assert_eq!(w.add(XENMAPSPACE_grant_table, 0, 0x101), Ok(0));
    assert_eq!(w.frame(0x101), table);
    // It grows for one that there is not yet.
    assert_eq!(w.add(XENMAPSPACE_grant_table, 2, 0x102), Ok(0));
    assert_eq!(w.target.grants.query_size().frames, 3);
    for none in [64, 1 << 31, 1 << 31 | 1, u64::MAX, 1 << 32] {
        let refused = w.add(XENMAPSPACE_grant_table, none, 0x103);
        assert_eq!(refused, Err(Errno::EINVAL), "{none:#x}");
    }
    let gone = RemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn: 5,
        ..Default::default()
    };
    assert_eq!(w.memory(XENMEM_remove_from_physmap, &gone), Ok(0));
    assert_eq!(
        w.memory(XENMEM_remove_from_physmap, &gone),
        Err(Errno::ENOENT)
    );
    assert_eq!(w.references(shared), before.1);
    w.end();
}

#[test]
fn pages_are_moved() {
    let mut w = World::new();
    w.by_target();
    let (first, second) = (w.frame(1), w.frame(2));
    assert_eq!(w.add(XENMAPSPACE_gmfn, 1, 0x200), Ok(0));
    assert_eq!((w.at(1), w.frame(0x200)), (None, first));
    assert_eq!(w.f.machine.m2p(first), 0x200);
    // What is in the way is free then.
    assert_eq!(w.add(XENMAPSPACE_gmfn, 0x200, 2), Ok(0));
    assert_eq!((w.frame(2), w.has()), (first, 7));
    assert!(w.f.machine.frame_of(second).owner() != crate::mm::Owner::Domain(TARGET));
    assert_eq!(w.add(XENMAPSPACE_gmfn, 2, 2), Ok(0));
    let limit = w.map().limit();
    for (from, to) in [(1, 9), (2, limit), (2, u64::MAX), (u64::MAX, 2)] {
        assert_eq!(w.add(XENMAPSPACE_gmfn, from, to), Err(Errno::EINVAL));
    }
    assert_eq!((w.frame(2), w.has()), (first, 7));
    w.end();
}

#[test]
fn a_page_that_cannot_be_moved_stays() {
    let mut w = World::new();
    let page = w.frame(1);
    let mut far = 1 << 19;
    while w.populate(far, 1, 0) == 1 {
        far += 1 << 20;
    }
    assert_eq!(w.add(XENMAPSPACE_gmfn, 1, far), Err(Errno::ENOMEM));
    assert_eq!(w.frame(1), page);
    w.end();
}

#[test]
fn ranges_are_moved_bit_by_bit() {
    for patience in [u32::MAX, 1, 3] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        let frames: Vec<_> = (0..8).map(|gfn| w.frame(gfn)).collect();
        let mut request = AddToPhysmap {
            domid: TARGET,
            size: 8,
            space: XENMAPSPACE_gmfn_range,
            idx: 0,
            gpfn: 0x300,
        };
        assert_eq!(w.memory(XENMEM_add_to_physmap, &request), Ok(0));
        let moved: Vec<_> = (0..8).map(|gfn| w.frame(0x300 + gfn)).collect();
        assert_eq!(moved, frames);
        assert!((0..8).all(|gfn| w.at(gfn).is_none()));
        request.idx = u64::MAX - 3;
        let refused = w.memory(XENMEM_add_to_physmap, &request);
        assert_eq!(refused, Err(Errno::EOVERFLOW));
        w.end();
    }
}

#[test]
fn a_batch_has_an_error_for_each() {
    for patience in [u32::MAX, 1] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        let frame = w.frame(1);
        w.f.put(LIST, &[1u64, 0x77, 2, u64::MAX]);
        w.f.put(SECOND, &[0x20u64, 0x21, 0x22, 0x23]);
        let mut request = AddToPhysmapBatch {
            domid: TARGET,
            space: XENMAPSPACE_gmfn as u16,
            size: 4,
            u: 0,
            idxs: GuestHandle::new(LIST),
            gpfns: GuestHandle::new(SECOND),
            errs: GuestHandle::new(THIRD),
        };
        assert_eq!(w.memory(XENMEM_add_to_physmap_batch, &request), Ok(0));
        assert_eq!(w.f.get::<[i32; 4]>(THIRD), [0, -22, 0, -22]);
        assert_eq!((w.frame(0x20), w.at(0x21)), (frame, None));
        request.space = XENMAPSPACE_gmfn_range as u16;
        let refused = w.memory(XENMEM_add_to_physmap_batch, &request);
        assert_eq!(refused, Err(Errno::EOPNOTSUPP));
        w.end();
    }
}

#[test]
fn frames_of_others_need_rights() {
    let mut w = World::new();
    w.f.add_translated(2);
    w.f.put(LIST, &[1u64]);
    w.f.put(SECOND, &[0x20u64]);
    let request = AddToPhysmapBatch {
        domid: TARGET,
        space: XENMAPSPACE_gmfn_foreign as u16,
        size: 1,
        u: 2,
        idxs: GuestHandle::new(LIST),
        gpfns: GuestHandle::new(SECOND),
        errs: GuestHandle::new(THIRD),
    };
    assert_eq!(w.memory(XENMEM_add_to_physmap_batch, &request), Ok(0));
    assert_eq!(w.f.get::<i32>(THIRD), -1);
    let none = AddToPhysmapBatch { u: 9, ..request };
    let refused = w.memory(XENMEM_add_to_physmap_batch, &none);
    assert_eq!(refused, Err(Errno::ESRCH));
    assert_eq!(w.add(XENMAPSPACE_gmfn_foreign, 1, 0x20), Err(Errno::ENOSYS));
    assert_eq!(w.add(XENMAPSPACE_dev_mmio, 1, 0x20), Err(Errno::EINVAL));
    // Nor does it work on others.
    w.by_target();
    for domid in [0, 2] {
        let theirs = AddToPhysmap {
            domid,
            ..Default::default()
        };
        let refused = w.memory(XENMEM_add_to_physmap, &theirs);
        assert_eq!(refused, Err(Errno::EPERM));
    }
}

#[test]
fn questions_about_its_memory() {
    let mut w = World::new();
    let of = MemoryDomain { domid: TARGET };
    assert_eq!(w.memory(XENMEM_maximum_gpfn, &of), Ok(7));
    w.populate(0xfefff, 1, 0);
    assert_eq!(w.memory(XENMEM_maximum_gpfn, &of), Ok(0xfefff));
    w.decrease(0xfefff, 1, 0);
    assert_eq!(w.memory(XENMEM_maximum_gpfn, &of), Ok(0xfefff));
    assert_eq!(w.memory(XENMEM_current_reservation, &of), Ok(8));
    w.by_target();
    for cmd in [
        XENMEM_machphys_mapping,
        XENMEM_machphys_mfn_list,
        XENMEM_machine_memory_map,
    ] {
        assert_eq!(w.memory(cmd, &[0u64; 3]), Err(Errno::ENOSYS));
    }
    let exchange = MemoryExchange::default();
    let exchange = MemoryExchange {
        r#in: MemoryReservation {
            domid: DOMID_SELF,
            ..exchange.r#in
        },
        ..exchange
    };
    assert_eq!(w.memory(XENMEM_exchange, &exchange), Err(Errno::EOPNOTSUPP));
    w.end();
}
