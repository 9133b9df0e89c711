//! Promises and what is set aside for them.

use core::sync::atomic::Ordering;

use proptest::prelude::*;
use xen_abi::errno::Errno;

use super::super::tests::machine::{Bank, OWN};
use super::super::tests::{end, map, settle};
use super::super::{After, Removed, Step, Translated};
use super::*;
use crate::domain::Machine;

/// A map with frames 0 to 7 and 512 to 1023 promised, and so many pages set aside.
fn promised(bank: &'static Bank, cached: u64) -> Translated {
    let map = map(bank, 12);
    for gfn in 0..8 {
        map.promise(Gfn(gfn), 0).unwrap();
    }
    map.promise(Gfn(512), 9).unwrap();
    for page in 0..cached {
        map.set_aside(Mfn(OWN + page)).unwrap();
    }
    map
}

const fn size(promised: u64, cached: u64) -> DemandSize {
    DemandSize { promised, cached }
}

#[test]
fn a_target_says_how_much_is_set_aside() {
    // Before the domain has anything: all of it.
    assert_eq!(goal(0, size(0, 0), 100), Some(100));
    assert_eq!(goal(40, size(0, 40), 100), Some(100));
    assert_eq!(goal(100, size(200, 100), 100), Some(100));
    assert_eq!(goal(100, size(200, 100), 150), Some(150));
    // Nothing is promised any more: the balloon does it.
    assert_eq!(goal(100, size(0, 0), 150), None);
    assert_eq!(goal(100, size(0, 10), 150), None);
    // Less than it has is for the balloon as well.
    assert_eq!(goal(100, size(200, 40), 99), None);
    // As much as is missing, but not more than is promised.
    assert_eq!(goal(100, size(200, 40), 130), Some(70));
    assert_eq!(goal(100, size(50, 40), 130), Some(50));
    assert_eq!(goal(100, size(20, 40), 100), Some(20));
}

proptest! {
    #[test]
    fn a_target_is_never_exceeded(
        populated in 0..1u64 << 40, cached in 0..1u64 << 40, promised in 0..1u64 << 40, target in any::<u64>(),
    ) {
        if let Some(goal) = goal(populated + cached, size(promised, cached), target) {
            prop_assert!(populated + goal <= target);
            prop_assert!(populated == 0 || goal <= promised);
            prop_assert!(goal >= cached || goal == promised);
        }
        // An account that has not caught up.
        let _any = super::goal(populated, size(promised, cached), target);
    }
}

#[test]
fn a_promise_is_kept_at_the_first_touch() {
    let bank = Bank::new();
    let map = promised(bank, 3);
    assert_eq!(map.demand(), size(520, 3));
    assert_eq!(map.max_gfn(), 1023);
    for gfn in [3, 600] {
        let page = Mfn(OWN + map.demand().cached - 1);
        bank.words(page)[511].store(5, Ordering::Relaxed);
        assert_eq!(
            (map.lookup(Gfn(gfn)), map.is_promised(Gfn(gfn))),
            (None, true)
        );
        assert!(map.hold(Gfn(gfn), gfn == 3).is_some());
        assert_eq!(map.lookup(Gfn(gfn)), Some((page, P2mKind::Ram)));
        assert_eq!(bank.words(page)[511].load(Ordering::Relaxed), 0, "empty");
        assert_eq!((bank.refs(page.0), bank.m2p(page)), ((1, 0), gfn));
    }
    assert_eq!(map.demand(), size(518, 1));
    // What has its page, and what never was promised.
    assert_eq!((map.fill(Gfn(3)), map.fill(Gfn(9))), (Ok(()), Ok(())));
    assert_eq!(map.hold_own(Gfn(7)), Ok(Mfn(OWN)));
    bank.drop_writable(Mfn(OWN));
    assert_eq!(map.fill(Gfn(6)), Err(Lack::Page));
    assert!(map.hold(Gfn(6), false).is_none() && !map.is_starved());
    assert_eq!(map.hold_own(Gfn(6)), Err(Errno::EINVAL));
    assert!(map.is_starved());
    assert_eq!(map.demand(), size(517, 0));
    end(&map);
    bank.assert_all_back();
    assert_eq!(map.fill(Gfn(6)), Ok(()), "nothing is promised any more");
}

#[test]
fn without_tables_there_is_no_page() {
    let bank = Bank::new();
    let map = map(bank, 3);
    map.promise(Gfn(0), 18).unwrap();
    map.set_aside(Mfn(OWN)).unwrap();
    assert_eq!(map.fill(Gfn(5)), Err(Lack::Table));
    assert_eq!((map.demand(), bank.refs(OWN)), (size(1 << 18, 1), (0, 0)));
    // The list itself takes one, and gives it back.
    assert_eq!(map.set_pool(4, 9), Ok(Step::Done));
    assert_eq!(map.fill(Gfn(5)), Ok(()));
    assert_eq!(map.take_aside(), None);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn only_holes_can_be_promised() {
    let bank = Bank::new();
    let map = promised(bank, 1);
    let mut removed = Removed::new();
    map.fill(Gfn(700)).unwrap();
    map.add_ram(Gfn(1 << 18), Mfn(OWN + 1), 0, &mut removed)
        .unwrap();
    for (gfn, order, why) in [
        (700, 0, Errno::EBUSY),
        (512, 9, Errno::EBUSY),
        (0, 18, Errno::EEXIST),
        (1 << 18, 9, Errno::EBUSY),
        (1 << 18, 18, Errno::EEXIST),
        (1, 9, Errno::EINVAL),
        (0, 5, Errno::EINVAL),
        (map.limit(), 0, Errno::EINVAL),
        (u64::MAX, 0, Errno::EINVAL),
        (u64::MAX << 18, 18, Errno::EINVAL),
    ] {
        assert_eq!(map.promise(Gfn(gfn), order), Err(why), "{gfn:#x} {order}");
    }
    assert_eq!(map.demand(), size(519, 0));
    // Promises again and more: one entry instead of a table, which is used again after a flush.
    assert_eq!(map.pool().used, 7);
    map.promise(Gfn(0), 9).unwrap();
    assert!(map.has_retired());
    assert_eq!(
        (map.mapping(Gfn(3)).order, map.demand()),
        (9, size(1023, 0))
    );
    settle(&map, &mut removed, After::Keep);
    assert_eq!(map.pool().used, 6);
    end(&map);
    bank.assert_all_back();
    assert_eq!(map.promise(Gfn(0), 0), Err(Errno::ESRCH));
    assert_eq!(map.set_aside(Mfn(OWN)), Err(Errno::ESRCH));
}

#[test]
fn what_comes_back_is_set_aside_while_it_is_wanted() {
    let bank = Bank::new();
    let map = promised(bank, 8);
    let mut removed = Removed::new();
    for gfn in 0..8 {
        map.fill(Gfn(gfn)).unwrap();
    }
    // Somebody else has one of them.
    let other = map.hold(Gfn(0), false).unwrap();
    map.remove(Gfn(0), 3, &mut removed).unwrap();
    assert_eq!(settle(&map, &mut removed, After::Refill), 1);
    assert_eq!(bank.relinquished(), [other.mfn().0]);
    drop(other);
    assert_eq!(map.demand(), size(512, 2));
    // What is promised is backed after this.
    assert_eq!(map.remove(Gfn(512), 509, &mut removed), Ok(509));
    assert!(removed.is_empty(), "promises hold nothing");
    map.remove(Gfn(3), 5, &mut removed).unwrap();
    assert_eq!(settle(&map, &mut removed, After::Refill), 4);
    assert_eq!(map.demand(), size(3, 3));
    assert_eq!(map.take_surplus(), None);
    assert_eq!(map.remove(Gfn(1021), 1, &mut removed), Ok(1));
    assert!(map.take_surplus().is_some());
    assert_eq!((map.take_surplus(), map.demand()), (None, size(2, 2)));
    end(&map);
    bank.assert_all_back();
}

#[test]
fn the_list_is_longer_than_a_page() {
    let bank = Bank::new();
    let map = map(bank, 6);
    let used = |map: &Translated| map.pool().used;
    for page in 0..1100 {
        map.set_aside(Mfn(OWN + page)).unwrap();
    }
    assert_eq!((used(&map), map.demand().cached), (4, 1100));
    for page in (500..1100).rev() {
        assert_eq!(map.take_aside(), Some(Mfn(OWN + page)));
    }
    assert_eq!(used(&map), 2);
    for page in 500..1800 {
        map.set_aside(Mfn(OWN + page)).unwrap();
    }
    assert_eq!(used(&map), 5);
    for page in (0..1800).rev() {
        assert_eq!(map.take_aside(), Some(Mfn(OWN + page)));
    }
    assert_eq!((used(&map), map.take_aside()), (1, None));
    // Without room for the list the page stays where it was.
    assert_eq!(map.set_pool(1, 9), Ok(Step::Done));
    assert_eq!(map.set_aside(Mfn(OWN)), Err(Errno::ENOMEM));
    assert_eq!(map.set_pool(4, 9), Ok(Step::Done));
    for page in 0..1100 {
        map.set_aside(Mfn(OWN + page)).unwrap();
    }
    end(&map);
    bank.assert_all_back();
}

#[test]
fn a_page_that_comes_while_writes_are_logged_was_written() {
    let bank = Bank::new();
    let map = promised(bank, 2);
    while map.set_log(true, 8).unwrap() == Step::More {}
    let mut bits = [0; 128];
    assert_eq!(map.log_read(Gfn(0), &mut bits, true), 0, "promises are not");
    map.fill(Gfn(600)).unwrap();
    assert_eq!(map.log_read(Gfn(0), &mut bits, true), 1);
    assert_eq!(bits[600 / 8], 1 << (600 % 8));
    while map.set_log(false, 8).unwrap() == Step::More {}
    assert_eq!(map.lookup(Gfn(600)).unwrap().1, P2mKind::Ram);
    assert_eq!(map.demand(), size(519, 1));
    end(&map);
    bank.assert_all_back();
}
