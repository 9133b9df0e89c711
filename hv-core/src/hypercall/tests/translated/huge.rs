//! Memory that comes in 1 GiB.

use super::*;
use crate::domain::Step;
use crate::domain::translated::Growing;
use crate::hypercall::Outcome;

/// 1 GiB in pages, and where the domain gets it.
const GIB: u64 = 1 << 18;
/// The pages that come at once.
const PART: u64 = 512;

/// A machine with 1 GiB of pages, and a domain that may have it beside its 8.
fn world() -> World {
    let w = World::on(Fixture::with_gib_pages());
    w.target.max_pages.store(GIB + 8, Ordering::Relaxed);
    w
}

/// A request for one extent of 1 GiB, at most so many calls long; `None` if it was not over then.
fn ask(w: &mut World, first: u64, calls: u32) -> Option<u64> {
    w.f.put(LIST, &first);
    let request = MemoryReservation {
        extent_start: GuestHandle::new(LIST),
        nr_extents: 1,
        extent_order: 18,
        domid: TARGET,
        ..MemoryReservation::default()
    };
    w.f.put(GUEST, &request);
    let mut args = [XENMEM_populate_physmap.into(), GUEST, 0, 0, 0, 0];
    for _ in 0..calls {
        match w.f.call_once(__HYPERVISOR_memory_op, args).unwrap() {
            Outcome::Return(done) => return Some(done),
            Outcome::Restart(again) => args = again,
            other => panic!("{other:?}"),
        }
    }
    None
}

/// The end, which other work interrupts now and then.
fn end(w: World) {
    w.f.host.preempt_every(100);
    w.end();
}

fn free(w: &World) -> u64 {
    w.f.machine.free_pages()
}

#[test]
fn a_gib_is_one_mapping_however_often_it_is_interrupted() {
    for (patience, restarts) in [(1, 511), (3, 170)] {
        let mut w = world();
        w.f.host.preempt_every(patience);
        let before = free(&w);
        assert_eq!(w.populate(GIB, 1, 18), 1);
        assert_eq!(w.f.restarts, restarts);
        assert_eq!((w.has(), free(&w)), (GIB + 8, before - GIB));
        let mapping = w.map().mapping(Gfn(GIB));
        assert_eq!((mapping.order, mapping.kind), (18, P2mKind::Ram));
        assert_eq!(w.map().max_gfn(), 2 * GIB - 1);
        for gfn in [GIB, GIB + 513, 2 * GIB - 1] {
            let page = w.frame(gfn);
            assert_eq!(page.0 - mapping.mfn.0, gfn - GIB);
            assert_eq!(w.f.machine.m2p(page), gfn);
        }
        assert!(!w.map().has_retired(), "the table is free for others");
        end(w);
    }
}

#[test]
fn death_in_the_middle_leaves_nothing() {
    for calls in [1, 2, 100, 511] {
        let mut w = world();
        w.f.host.preempt_every(1);
        let before = free(&w);
        assert_eq!(ask(&mut w, GIB, calls), None);
        assert_eq!((w.has(), free(&w)), (GIB + 8, before - GIB));
        let mapping = w.map().mapping(Gfn(GIB));
        assert_eq!((mapping.order, mapping.kind), (9, P2mKind::Ram));
        let next = GIB + u64::from(calls) * PART;
        assert!(w.at(next - 1).is_some() && w.at(next).is_none());
        end(w);
    }
}

#[test]
fn who_comes_late_gives_the_rest_back() {
    let mut w = world();
    let before = free(&w);
    let domain = w.target.clone();
    let mut asked = 0;
    // The domain dies while the third part comes, as if by another CPU.
    w.f.host.meanwhile(Some(Box::new(move || {
        asked += 1;
        if asked == 3 {
            domain.begin_to_die();
            let map = domain.translated.as_ref().unwrap();
            while map.tear_down(1) == Step::More {}
            domain.abandon_growing();
        }
        asked == 3
    })));
    assert_eq!(ask(&mut w, GIB, 1), None);
    w.f.host.meanwhile(None);
    // What had come fell with the map, and the domain owns it until its end goes on; nobody owns the rest.
    assert_eq!(w.has(), 8 + 3 * PART);
    assert!(free(&w) >= before - 3 * PART);
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    end(w);
}

#[test]
fn one_that_dies_between_two_parts_gets_no_more() {
    let mut w = world();
    let before = free(&w);
    let domain = w.target.clone();
    let mut asked = 0;
    w.f.host.meanwhile(Some(Box::new(move || {
        asked += 1;
        if asked == 3 {
            domain.begin_to_die();
        }
        false
    })));
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    w.f.host.meanwhile(None);
    assert_eq!((w.has(), free(&w)), (8 + 3 * PART, before - 3 * PART));
    end(w);
}

#[test]
fn another_extent_takes_its_place() {
    let mut w = world();
    w.f.host.preempt_every(1);
    let before = free(&w);
    assert_eq!(ask(&mut w, GIB, 3), None);
    // What is left of the block is free again, but no block of 1 GiB any more.
    assert_eq!(ask(&mut w, 2 * GIB, 1), Some(0));
    assert_eq!((w.has(), free(&w)), (8 + 3 * PART, before - 3 * PART));
    // The first one ends where it is.
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    assert_eq!((w.has(), free(&w)), (8 + 3 * PART, before - 3 * PART));
    assert!((0..3).all(|n| w.map().mapping(Gfn(GIB + n * PART)).order == 9));
    assert_eq!(w.at(GIB + 3 * PART), None);
    // Smaller ones are what a tool asks for then.
    w.f.host.preempt_every(u32::MAX);
    assert_eq!(w.populate(GIB + 3 * PART, 509, 9), 509);
    assert_eq!(w.has(), 8 + GIB);
    end(w);
}

#[test]
fn of_two_that_are_interrupted_one_is_kept() {
    let mut w = world();
    w.f.host.preempt_every(1);
    let before = free(&w);
    assert_eq!(ask(&mut w, GIB, 2), None);
    let first = w.map().take_growing().unwrap();
    assert_eq!((first.gfn(), first.left()), (Gfn(GIB), GIB - 2 * PART));
    // One for other frames, of which nothing is left.
    let mut second = Growing::new(Gfn(2 * GIB), Mfn(0), 0);
    while second.next().is_some() {
        second.pass();
    }
    w.target.keep_growing(first);
    assert_eq!((w.has(), free(&w)), (8 + GIB, before - GIB));
    w.target.keep_growing(second);
    assert_eq!((w.has(), free(&w)), (8 + 2 * PART, before - 2 * PART));
    assert_eq!(w.map().take_growing().unwrap().gfn(), Gfn(2 * GIB));
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    end(w);
}

#[test]
fn a_claim_is_used_up_and_what_is_given_back_is_claimed_again() {
    let mut w = world();
    w.f.host.preempt_every(1);
    w.target.claim_pages(GIB - 600).unwrap();
    let claims = |w: &World| {
        let own = w.target.claim.load(Ordering::Relaxed);
        assert_eq!(w.f.machine.claimed(), own);
        own
    };
    // Nobody else gets what is claimed.
    let before = (free(&w), claims(&w));
    assert_eq!(before.1, GIB - 608);
    assert_eq!(ask(&mut w, GIB, 2), None);
    assert_eq!(claims(&w), 0);
    w.target.abandon_growing();
    assert_eq!(
        (free(&w), claims(&w)),
        (before.0 - 2 * PART, before.1 - 2 * PART)
    );
    end(w);

    let mut w = world();
    w.f.host.preempt_every(1);
    w.target.claim_pages(GIB + 8).unwrap();
    assert_eq!(ask(&mut w, GIB, 512), Some(1));
    assert_eq!(claims(&w), 0);
    end(w);

    // A dying one claims nothing.
    let mut w = world();
    w.f.host.preempt_every(1);
    w.target.claim_pages(GIB + 8).unwrap();
    assert_eq!(ask(&mut w, GIB, 2), None);
    let machine = w.f.machine;
    end(w);
    assert_eq!(machine.claimed(), 0);
}

#[test]
fn what_cannot_be_had_changes_nothing() {
    let mut w = world();
    w.target.claim_pages(100).unwrap();
    let before = (w.has(), free(&w), w.f.machine.claimed());
    let limit = w.map().limit();
    // Not aligned, beyond the end, where something is.
    for first in [GIB + 1, GIB + PART, limit, u64::MAX - GIB + 1, 0] {
        assert_eq!(ask(&mut w, first, 1), Some(0), "{first:#x}");
    }
    for order in (10..18).chain([19, 27, 63]) {
        assert_eq!(w.populate(GIB, 1, order), 0, "{order}");
    }
    assert_eq!(w.decrease(GIB, 1, 18), 0);
    // More than it may have.
    w.target.max_pages.store(GIB + 7, Ordering::Relaxed);
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    w.target.max_pages.store(GIB + 8, Ordering::Relaxed);
    // By itself.
    w.by_target();
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    w.by_control();
    assert_eq!((w.has(), free(&w), w.f.machine.claimed()), before);
    // No such block is free.
    assert_eq!(w.populate(GIB, 1, 9), 1);
    assert_eq!(ask(&mut w, 2 * GIB, 1), Some(0));
    assert_eq!((w.has(), w.f.machine.claimed()), (8 + PART, 0));
    // Some domain's frames are not translated.
    w.f.add(2);
    let request = MemoryReservation {
        extent_start: GuestHandle::new(LIST),
        nr_extents: 1,
        extent_order: 18,
        domid: 2,
        ..MemoryReservation::default()
    };
    assert_eq!(w.memory(XENMEM_populate_physmap, &request), Ok(0));
    plain(&mut w.f, abi::XEN_DOMCTL_destroydomain, 2).unwrap();
    end(w);
}

#[test]
fn without_a_page_for_a_table_nothing_is_mapped() {
    let mut w = world();
    let used = w.map().pool().used;
    assert_eq!(w.map().set_pool(used, u64::MAX), Ok(Step::Done));
    let before = (w.has(), free(&w));
    assert_eq!(ask(&mut w, GIB, 1), Some(0));
    assert_eq!((w.has(), free(&w)), before);
    end(w);
}

#[test]
fn parts_of_it_go_as_the_guest_wants() {
    let mut w = world();
    assert_eq!(w.populate(GIB, 1, 18), 1);
    let before = free(&w);
    let (first, page) = (w.frame(GIB), w.frame(GIB + 5));
    let is = |w: &World, gfn: u64| w.map().mapping(Gfn(gfn)).order;
    // A page of it to elsewhere, which splits it twice, and another in its place.
    w.by_target();
    assert_eq!(w.add(XENMAPSPACE_gmfn, GIB + 5, 0x100), Ok(0));
    assert_eq!((w.frame(0x100), w.at(GIB + 5)), (page, None));
    assert_eq!(w.add(XENMAPSPACE_shared_info, 0, GIB + 5), Ok(0));
    assert_eq!([GIB, GIB + PART].map(|gfn| is(&w, gfn)), [0, 9]);
    assert_eq!((w.frame(GIB + 6).0, w.has()), (first.0 + 6, GIB + 8));
    // A balloon.
    assert_eq!(w.decrease(GIB + PART + 1, 3, 0), 3);
    assert_eq!(w.decrease(GIB + 2 * PART, 10, 9), 10);
    assert_eq!((w.has(), free(&w)), (GIB + 5 - 5120, before + 3 + 5120));
    assert_eq!(w.populate(GIB + 2 * PART, 10, 9), 10);
    w.by_control();
    assert_eq!(w.at(GIB + 6).unwrap().1, P2mKind::Ram);
    end(w);
}

#[test]
fn all_of_it_is_given_back_by_smaller_extents() {
    let mut w = world();
    assert_eq!(w.populate(GIB, 1, 18), 1);
    let before = free(&w);
    w.by_target();
    assert_eq!(w.decrease(GIB, 512, 9), 512);
    assert_eq!((w.has(), free(&w)), (8, before + GIB));
    w.by_control();
    assert_eq!(w.map().mapping(Gfn(GIB)).order, 18, "a hole");
    assert_eq!(w.populate(GIB, 1, 18), 1);
    end(w);
}

#[test]
fn the_end_needs_no_page_for_a_table() {
    let mut w = world();
    assert_eq!(w.populate(GIB, 1, 18), 1);
    let used = w.map().pool().used;
    assert_eq!(w.map().set_pool(used, u64::MAX), Ok(Step::Done));
    assert_eq!(w.decrease(GIB + 7, 1, 0), 0, "no page to split it");
    assert_eq!(w.has(), GIB + 8);
    end(w);
}
