//! A domain whose memory is translated, with the real accounting of frames.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::base::{Gfn, Mfn};
use crate::domain::translated::{ADDRESS_BITS, After, DEFAULT_POOL};
use crate::domain::{Domain, DomainKind, Limits, Machine, Removed, Rights, Step, Translated};
use crate::hypercall::testing::{Fixture, MAX_PAGES};
use crate::mm::p2m::{Format, P2mKind};

const ID: u16 = 7;

fn domain(f: &Fixture) -> Arc<Domain> {
    let limits = Limits {
        vcpus: 1,
        max_pages: MAX_PAGES,
        max_port: 1023,
        pirqs: 16,
        grants: crate::grants::Limits::default(),
    };
    let mut domain = Domain::new(ID, DomainKind::Hvm, Rights::Guest, limits, f.hv.backing).unwrap();
    let map = Translated::new(ID, f.machine, Format::Ept, ADDRESS_BITS, DEFAULT_POOL);
    domain.translated = Some(map.unwrap());
    let domain = Arc::new(domain);
    f.hv.add(domain.clone()).unwrap();
    domain
}

fn flushes(f: &Fixture) -> u32 {
    f.machine.flushes.load(Ordering::Relaxed)
}

#[test]
fn a_page_that_is_given_up_is_free_after_the_flush() {
    let f = Fixture::control();
    let d = domain(&f);
    let map = d.translated.as_ref().unwrap();
    let page = f.machine.page_of(ID);
    let mut removed = Removed::new();
    map.add_ram(Gfn(9), page, 0, &mut removed).unwrap();
    assert_eq!(d.settle_map(&mut removed, After::Keep), 0);
    assert_eq!(
        (flushes(&f), map.generation()),
        (0, 1),
        "a hole needs no flush"
    );
    assert_eq!(d.pages.load(Ordering::Relaxed), 1);
    // The owner cannot give a page away that its guest reaches.
    assert!(f.machine.steal(page, &d.holdings).is_err());
    let free = f.machine.free_pages();
    map.remove(Gfn(9), 1, &mut removed).unwrap();
    assert_eq!(f.machine.free_pages(), free);
    assert_eq!(d.settle_map(&mut removed, After::Relinquish), 1);
    assert_eq!((flushes(&f), map.generation()), (1, 2));
    assert_eq!(f.machine.free_pages(), free + 1);
    assert_eq!(d.pages.load(Ordering::Relaxed), 0);
}

#[test]
fn a_lent_page_is_mapped_and_stays_ours() {
    let f = Fixture::control();
    let d = domain(&f);
    let map = d.translated.as_ref().unwrap();
    let mut removed = Removed::new();
    map.add_ram(Gfn(4), d.shared_info, 0, &mut removed).unwrap();
    assert_eq!(map.lookup(Gfn(4)), Some((d.shared_info, P2mKind::Ram)));
    map.remove(Gfn(4), 1, &mut removed).unwrap();
    assert_eq!(d.settle_map(&mut removed, After::Relinquish), 0);
    assert!(f.machine.take_writable(d.shared_info, ID).is_ok());
    f.machine.drop_writable(d.shared_info);
}

#[test]
fn a_foreign_page_stays_while_it_is_mapped() {
    let f = Fixture::control();
    let d = domain(&f);
    let map = d.translated.as_ref().unwrap();
    let page = f.machine.page_of(0);
    let mut removed = Removed::new();
    assert!(
        map.add_foreign(Gfn(1), page, ID, true, &mut removed)
            .is_err()
    );
    assert!(
        map.add_foreign(Gfn(1), Mfn(1 << 40), 0, true, &mut removed)
            .is_err()
    );
    map.add_foreign(Gfn(1), page, 0, true, &mut removed)
        .unwrap();
    map.add_foreign(Gfn(2), page, 0, false, &mut removed)
        .unwrap();
    let held = map.hold(Gfn(2), false).unwrap();
    f.machine.relinquish(page, 0).unwrap();
    assert_eq!(map.remove(Gfn(0), 8, &mut removed), Ok(8));
    d.settle_map(&mut removed, After::Relinquish);
    let free = f.machine.free_pages();
    drop(held);
    assert_eq!(f.machine.free_pages(), free + 1, "the last one who had it");
}

#[test]
fn everything_comes_back_at_the_end() {
    let f = Fixture::control();
    let before = f.machine.free_pages();
    let d = domain(&f);
    let map = d.translated.as_ref().unwrap();
    let mut removed = Removed::new();
    for gfn in [0, 1, 511, 512, 1 << 20, map.limit() - 1] {
        map.add_ram(Gfn(gfn), f.machine.page_of(ID), 0, &mut removed)
            .unwrap();
    }
    assert!(map.pool().used > 4);
    d.flush_translations();
    while map.tear_down(1) == Step::More {}
    d.holdings.close();
    d.holdings.relinquish_all(f.machine).unwrap();
    // Of the shared pages and the grant table, its own teardown takes care.
    let kept = d.holdings.frames();
    assert_eq!(f.machine.free_pages() + kept, before);
}
