//! A map over a machine that counts references: what entries hold, and what is left at the end.

mod gib;
pub(super) mod machine;
mod model;

use xen_abi::errno::Errno;

use super::*;
use machine::{Bank, OTHER, OWN};

const ME: DomId = 1;
const PEER: DomId = 2;

pub(super) fn map(bank: &'static Bank, pool: u64) -> Translated {
    map_of(Format::Npt, bank, pool)
}

fn map_of(format: Format, bank: &'static Bank, pool: u64) -> Translated {
    Translated::new(ME, bank, format, ADDRESS_BITS, pool).unwrap()
}

/// What `Domain::settle_map` does after its flush.
pub(super) fn settle(map: &Translated, removed: &mut Removed, after: After) -> u64 {
    let covered = map.inner.lock().inventory.pool.before_flush();
    map.inner
        .lock()
        .inventory
        .pool
        .after_flush(&map.ram, covered);
    core::mem::take(removed).finish(map, after)
}

pub(super) fn end(map: &Translated) {
    for _ in 0..1000 {
        if map.tear_down(1) == Step::Done {
            return;
        }
    }
    panic!("the end does not come");
}

#[test]
fn an_entry_holds_its_page_until_it_is_settled() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(5), Mfn(OWN), 0, &mut removed).unwrap();
    assert!(removed.is_empty());
    assert_eq!(bank.refs(OWN), (1, 0));
    assert_eq!(map.lookup(Gfn(5)), Some((Mfn(OWN), P2mKind::Ram)));
    assert_eq!(map.gfn_of(Mfn(OWN)), Some(Gfn(5)));
    assert_eq!(map.max_gfn(), 5);
    assert_eq!(map.remove(Gfn(0), 16, &mut removed), Ok(16));
    assert_eq!(map.lookup(Gfn(5)), None);
    assert_eq!(map.gfn_of(Mfn(OWN)), None);
    assert_eq!(bank.refs(OWN), (1, 0), "a TLB may still have it");
    assert_eq!(settle(&map, &mut removed, After::Relinquish), 1);
    assert_eq!(bank.refs(OWN), (0, 0));
    assert_eq!(bank.relinquished(), [OWN]);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn what_replaces_an_entry_gets_back_what_was_there() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(512), Mfn(OWN + 512), 9, &mut removed)
        .unwrap();
    assert_eq!(bank.refs(OWN + 1023), (1, 0));
    map.add_ram(Gfn(513), Mfn(OWN), 0, &mut removed).unwrap();
    let gone = Former::Pages {
        gfn: Gfn(513),
        mfn: Mfn(OWN + 513),
        pages: 1,
        kind: P2mKind::Ram,
    };
    assert_eq!(removed.formers(), [gone]);
    settle(&map, &mut removed, After::Keep);
    assert_eq!(bank.refs(OWN + 513), (0, 0));
    // One large mapping for all that is there: the table with the entries is what comes back.
    map.add_ram(Gfn(512), Mfn(OWN + 1024), 9, &mut removed)
        .unwrap();
    assert!(matches!(removed.formers(), [Former::Table { .. }]));
    assert_eq!(bank.refs(OWN + 512), (1, 0));
    settle(&map, &mut removed, After::Keep);
    assert_eq!(bank.refs(OWN + 512), (0, 0));
    assert_eq!(bank.refs(OWN), (0, 0));
    assert_eq!(map.count(P2mKind::Ram), 512);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn pages_of_others_cannot_be_ram() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    // Of the last range, only the first pages are the domain's.
    for (mfn, order) in [
        (OTHER, 0),
        (u64::MAX, 0),
        (u64::MAX - 511, 9),
        (OTHER - 8, 9),
    ] {
        let added = map.add_ram(Gfn(0), Mfn(mfn), order, &mut removed);
        assert_eq!(added, Err(Errno::EINVAL));
    }
    assert_eq!(
        map.add_ram(Gfn(1), Mfn(OWN), 9, &mut removed),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        map.add_ram(Gfn(0), Mfn(OWN), 18, &mut removed),
        Err(Errno::EINVAL)
    );
    let beyond = Gfn(map.limit());
    assert_eq!(
        map.add_ram(beyond, Mfn(OWN), 0, &mut removed),
        Err(Errno::EINVAL)
    );
    assert_eq!(bank.refs(OTHER - 8), (0, 0), "nothing is taken for nothing");
    assert_eq!(bank.refs(OWN), (0, 0));
    end(&map);
    bank.assert_all_back();
}

#[test]
fn grants_go_by_themselves() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_grant(Gfn(3), Mfn(OTHER), true, &mut removed)
        .unwrap();
    assert_eq!(bank.refs(OTHER), (0, 0), "the pin holds it");
    assert_eq!(
        map.add_ram(Gfn(3), Mfn(OWN), 0, &mut removed),
        Err(Errno::EINVAL)
    );
    assert_eq!(bank.refs(OWN), (0, 0));
    assert_eq!(map.remove(Gfn(3), 1, &mut removed), Err(Errno::EINVAL));
    assert_eq!(map.remove(Gfn(0), 1024, &mut removed), Ok(3));
    let wrong = map.remove_grant(Gfn(3), Mfn(OTHER + 1), &mut removed);
    assert_eq!(wrong, Err(Errno::EINVAL));
    map.remove_grant(Gfn(3), Mfn(OTHER), &mut removed).unwrap();
    assert!(!removed.is_empty(), "a flush is needed");
    settle(&map, &mut removed, After::Keep);
    assert_eq!(
        map.remove_grant(Gfn(3), Mfn(OTHER), &mut removed),
        Err(Errno::EINVAL)
    );
    end(&map);
    bank.assert_all_back();
}

#[test]
fn a_held_page_stays_whatever_becomes_of_the_entry() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(1), Mfn(OWN), 0, &mut removed).unwrap();
    map.add_foreign(Gfn(2), Mfn(OTHER), PEER, false, &mut removed)
        .unwrap();
    map.add_mmio(Gfn(3), Mfn(7), 0, &mut removed).unwrap();
    let read = map.hold(Gfn(1), false).unwrap();
    let write = map.hold(Gfn(1), true).unwrap();
    assert_eq!(bank.refs(OWN), (2, 1));
    assert!(map.hold(Gfn(2), true).is_none(), "read-only");
    let foreign = map.hold(Gfn(2), false).unwrap();
    assert_eq!(bank.refs(OTHER), (0, 2));
    assert!(map.hold(Gfn(3), false).is_none(), "registers are no memory");
    assert!(map.hold(Gfn(4), false).is_none());
    assert_eq!(map.hold_own(Gfn(2)), Err(Errno::EINVAL));
    assert_eq!(map.hold_own(Gfn(1)), Ok(Mfn(OWN)));
    map.remove(Gfn(0), 16, &mut removed).unwrap();
    settle(&map, &mut removed, After::Keep);
    assert_eq!(bank.refs(OWN), (2, 1));
    drop((read, write, foreign));
    assert_eq!(bank.refs(OWN), (1, 0), "what was kept");
    bank.drop_writable(Mfn(OWN));
    map.set_kind(Gfn(1), P2mKind::Ram).unwrap_err();
    end(&map);
    bank.assert_all_back();
}

#[test]
fn a_page_that_came_since_the_log_began_counts_as_written_however_often_it_is_turned_on() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 0, &mut removed).unwrap();
    assert_eq!(map.set_log(true, 100), Ok(Step::Done));
    map.add_ram(Gfn(1024), Mfn(OWN + 1), 0, &mut removed)
        .unwrap();
    assert_eq!(map.set_log(true, 100), Ok(Step::Done));
    let mut bits = [0; 1];
    assert_eq!(map.log_read(Gfn(1024), &mut bits, true), 1);
    assert_eq!(bits, [1]);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn a_word_is_read_without_a_reference() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(1), Mfn(OWN), 0, &mut removed).unwrap();
    map.add_mmio(Gfn(3), Mfn(7), 0, &mut removed).unwrap();
    let word = bank.words(Mfn(OWN))[511].load(Ordering::Relaxed);
    let peeked = [1, 3, 4].map(|gfn| map.peek(Gfn(gfn), 511));
    assert_eq!(peeked, [Some(word), None, None]);
    assert_eq!(map.peek(Gfn(1), 512), None, "not in the page");
    assert_eq!(bank.refs(OWN), (1, 0));
    map.remove(Gfn(0), 16, &mut removed).unwrap();
    settle(&map, &mut removed, After::Keep);
    assert_eq!(map.peek(Gfn(1), 511), None);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn read_only_ram_is_not_written() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 9, &mut removed).unwrap();
    map.set_kind(Gfn(7), P2mKind::RamReadOnly).unwrap();
    assert!(map.hold(Gfn(7), true).is_none());
    assert!(map.hold(Gfn(7), false).is_some());
    assert!(map.hold(Gfn(8), true).is_some());
    assert_eq!(map.count(P2mKind::RamReadOnly), 1);
    assert_eq!(map.set_kind(Gfn(7), P2mKind::Mmio), Err(Errno::EINVAL));
    end(&map);
    bank.assert_all_back();
}

fn read_log(map: &Translated, first: u64, bytes: usize, clean: bool) -> Vec<u64> {
    let mut bits = vec![0xff; bytes];
    let count = map.log_read(Gfn(first), &mut bits, clean);
    let set = |i: &u64| bits[(i / 8) as usize] & 1 << (i % 8) != 0;
    let list: Vec<u64> = (0..bytes as u64 * 8)
        .filter(set)
        .map(|i| first + i)
        .collect();
    assert_eq!(list.len() as u64, count);
    list
}

#[test]
fn written_pages_are_logged() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 9, &mut removed).unwrap();
    map.add_ram(Gfn(600), Mfn(OWN + 600), 0, &mut removed)
        .unwrap();
    assert_eq!(map.set_log(true, 1), Ok(Step::More));
    assert_eq!(map.set_log(true, 1000), Ok(Step::Done));
    assert!(map.log_enabled());
    assert_eq!(
        map.mapping(Gfn(0)).order,
        9,
        "not split before the first store"
    );
    assert_eq!(read_log(&map, 0, 128, false), []);
    assert!(map.log_write(Gfn(9)));
    assert!(!map.log_write(Gfn(9)), "writable now");
    assert!(!map.log_write(Gfn(512)), "no page");
    let held = map.hold(Gfn(600), true).unwrap();
    map.add_ram(Gfn(700), Mfn(OWN + 700), 0, &mut removed)
        .unwrap();
    assert_eq!(read_log(&map, 0, 128, false), [9, 600, 700]);
    assert_eq!(read_log(&map, 8, 1, true), [9]);
    assert_eq!(read_log(&map, 0, 128, true), [600, 700]);
    assert_eq!(read_log(&map, 0, 128, true), []);
    drop(held);
    assert_eq!(
        read_log(&map, 0, 128, true),
        [600],
        "perhaps written after it was read"
    );
    while map.set_log(false, 3).unwrap() == Step::More {}
    assert_eq!(map.mapping(Gfn(9)).order, 9, "one mapping again");
    assert_eq!(map.count(P2mKind::RamLogDirty), 0);
    assert!(map.hold(Gfn(600), true).is_some());
    end(&map);
    bank.assert_all_back();
}

#[test]
fn without_pages_for_tables_more_counts_as_written() {
    let bank = Bank::new();
    let map = map(bank, 3);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 9, &mut removed).unwrap();
    while map.set_log(true, 8).unwrap() == Step::More {}
    assert!(map.log_write(Gfn(9)));
    let all: Vec<u64> = (0..512).collect();
    assert_eq!(read_log(&map, 0, 64, true), all);
    assert!(map.log_write(Gfn(9)));
    // Half of it can be reported, but not noted as clean.
    assert_eq!(read_log(&map, 0, 32, true).len(), 256);
    assert_eq!(read_log(&map, 0, 64, false), all);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn the_pool_grows_and_shrinks() {
    let bank = Bank::new();
    let map = map(bank, 4);
    let mut removed = Removed::new();
    assert_eq!(map.pool(), PoolSize { pages: 4, used: 1 });
    assert_eq!(map.set_pool(10, 3), Ok(Step::More));
    assert_eq!(map.set_pool(10, 3), Ok(Step::Done));
    map.add_ram(Gfn(0), Mfn(OWN), 0, &mut removed).unwrap();
    assert_eq!(map.pool(), PoolSize { pages: 10, used: 4 });
    assert_eq!(map.set_pool(2, 100), Err(Errno::ENOMEM));
    assert_eq!(map.pool().pages, 4, "tables in use stay");
    map.remove(Gfn(0), 1, &mut removed).unwrap();
    assert_eq!(map.pool().used, 4);
    settle(&map, &mut removed, After::Keep);
    assert_eq!(map.pool().used, 1);
    assert_eq!(map.set_pool(u64::MAX, u64::MAX), Err(Errno::ENOMEM));
    end(&map);
    bank.assert_all_back();
    assert_eq!(map.set_pool(9, 9), Err(Errno::ESRCH));
    bank.assert_all_back();
}

#[test]
fn after_its_end_there_is_nothing() {
    let bank = Bank::new();
    let map = map(bank, 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 9, &mut removed).unwrap();
    map.add_grant(Gfn(600), Mfn(OTHER), true, &mut removed)
        .unwrap();
    end(&map);
    bank.assert_all_back();
    assert_eq!(map.lookup(Gfn(0)), None);
    assert!(map.hold(Gfn(0), false).is_none());
    assert_eq!(
        map.add_ram(Gfn(0), Mfn(OWN), 0, &mut removed),
        Err(Errno::ESRCH)
    );
    assert_eq!(map.remove(Gfn(0), 1, &mut removed), Err(Errno::ESRCH));
    assert_eq!(
        map.remove_grant(Gfn(600), Mfn(OTHER), &mut removed),
        Err(Errno::EINVAL)
    );
    assert_eq!(map.set_log(true, 1), Err(Errno::ESRCH));
    assert_eq!(map.tear_down(1), Step::Done);
    bank.assert_all_back();
}

#[test]
#[should_panic(expected = "references of a map's entries were lost")]
#[cfg(debug_assertions)]
fn what_was_removed_must_be_settled() {
    let map = map(Bank::new(), 8);
    let mut removed = Removed::new();
    map.add_ram(Gfn(0), Mfn(OWN), 0, &mut removed).unwrap();
    map.remove(Gfn(0), 1, &mut removed).unwrap();
    drop(removed);
}

#[test]
fn no_map_without_memory() {
    let bank = Bank::new();
    let new = |bits, pages| Translated::new(ME, bank, Format::Ept, bits, pages).err();
    assert_eq!(new(ADDRESS_BITS, 1 << 20), Some(Errno::ENOMEM));
    assert_eq!(new(31, 8), Some(Errno::EINVAL));
    assert_eq!(new(49, 8), Some(Errno::EINVAL));
    bank.assert_all_back();
}

/// Tables come and go, their pages are used otherwise, and look-ups without a lock never see what is in them then.
#[test]
fn look_ups_are_not_led_astray() {
    let bank = Bank::new();
    let map = map(bank, 12);
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let mut at = 0;
                while !over.load(Ordering::Relaxed) {
                    at = (at + 7) % 2048;
                    if let Some((mfn, kind)) = map.lookup(Gfn(at)) {
                        assert_eq!((mfn.0, kind), (OWN + at, P2mKind::Ram));
                    }
                    if let Some(held) = map.hold(Gfn(at), true) {
                        assert_eq!(held.mfn().0, OWN + at);
                    }
                }
            });
        }
        let mut removed = Removed::new();
        for round in 0..400 {
            let gfn = 512 * (round % 4);
            let page = Mfn(OWN + gfn);
            map.add_ram(Gfn(gfn), page, 9, &mut removed).unwrap();
            settle(&map, &mut removed, After::Keep);
            // A split, and then a table with 511 entries goes.
            map.remove(Gfn(gfn + 5), 1, &mut removed).unwrap();
            settle(&map, &mut removed, After::Keep);
            assert_eq!(map.remove(Gfn(gfn), 512, &mut removed), Ok(512));
            settle(&map, &mut removed, After::Keep);
            // Its page goes to somebody who fills it with ones.
            let _shrunk = map.set_pool(5, 20);
            assert_eq!(map.set_pool(12, 20), Ok(Step::Done));
        }
        over.store(true, Ordering::Relaxed);
    });
    end(&map);
    bank.assert_all_back();
}
