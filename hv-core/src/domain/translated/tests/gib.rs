//! Mappings of 1 GiB: they come of smaller ones, are split, logged, joined again, and go in parts.

use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::machine::GIB;
use super::*;

/// Pages that come at once.
const PART: u64 = 512;
/// A page that follows nothing.
const ODD: u64 = OWN + 7;

/// A map that may have such mappings.
fn map(bank: &'static Bank, pool: u64) -> Translated {
    let mut map = super::map(bank, pool);
    map.allow_gib_pages();
    map
}

/// Enters 2 MiB behind the guest frames that have the same numbers.
fn enter_part(map: &Translated, part: u64) -> Result<(), Errno> {
    let first = GIB + part * PART;
    let mut removed = Removed::new();
    let done = map.add_ram(Gfn(first), Mfn(first), LARGE, &mut removed);
    settle(map, &mut removed, After::Keep);
    done
}

fn enter_all(map: &Translated) {
    for part in 0..512 {
        enter_part(map, part).unwrap();
    }
    map.join(Gfn(GIB));
    flush(map);
}

fn flush(map: &Translated) {
    let pool = &mut map.inner.lock().inventory.pool;
    let covered = pool.before_flush();
    pool.after_flush(&map.ram, covered);
}

fn turn(map: &Translated, on: bool) {
    while map.set_log(on, 100).unwrap() == Step::More {}
    flush(map);
}

fn order(map: &Translated, gfn: u64) -> u32 {
    map.mapping(Gfn(gfn)).order
}

#[test]
fn only_where_the_machine_has_such_entries() {
    let bank = Bank::with_gib();
    let map = super::map(bank, 8);
    assert!(!map.has_gib_pages());
    enter_all(&map);
    turn(&map, true);
    turn(&map, false);
    assert_eq!(order(&map, GIB), 9);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn a_store_splits_what_is_logged_and_the_end_of_the_log_joins_it() {
    let bank = Bank::with_gib();
    let map = map(bank, 8);
    enter_all(&map);
    assert_eq!(order(&map, GIB), 18);
    let used = map.pool().used;
    turn(&map, true);
    assert_eq!(order(&map, GIB), 18, "not split before the first store");
    assert!(map.log_write(Gfn(GIB + 1000)));
    assert_eq!([GIB, GIB + 1000].map(|gfn| order(&map, gfn)), [9, 0]);
    assert_eq!(read_log(&map, GIB, 1024, true), [GIB + 1000]);
    assert_eq!(read_log(&map, GIB, 1024, false), []);
    assert_eq!(map.count(P2mKind::RamLogDirty), GIB);
    turn(&map, false);
    assert_eq!((order(&map, GIB), map.count(P2mKind::Ram)), (18, GIB));
    assert_eq!(map.pool().used, used);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn with_too_few_pages_for_tables_more_counts_as_written() {
    // With one table less, then with none.
    for (spare, split) in [(1, 9), (0, 18)] {
        let bank = Bank::with_gib();
        let map = map(bank, 8);
        enter_all(&map);
        let pages = map.pool().used + spare;
        assert_eq!(map.set_pool(pages, u64::MAX), Ok(Step::Done));
        turn(&map, true);
        assert!(map.log_write(Gfn(GIB + 1000)));
        assert_eq!(order(&map, GIB + 1000), split);
        assert_eq!(map.count(P2mKind::Ram), 1 << split);
        let read = read_log(&map, GIB + PART, 64, true);
        assert_eq!(read.len() as u64, PART);
        assert!(read.contains(&(GIB + 1000)));
        end(&map);
        bank.assert_all_back();
    }
}

#[test]
fn what_is_read_of_a_part_stays_written_beside_it() {
    let bank = Bank::with_gib();
    let map = map(bank, 8);
    turn(&map, true);
    // It comes while written pages are logged: all of it counts as written.
    enter_all(&map);
    assert_eq!(order(&map, GIB), 18);
    // From within one 2 MiB to within another.
    assert_eq!(read_log(&map, GIB + 256, 128, true).len(), 1024);
    assert_eq!(map.count(P2mKind::RamLogDirty), 1024);
    for (gfn, kind) in [
        (GIB + 255, P2mKind::Ram),
        (GIB + 256, P2mKind::RamLogDirty),
        (GIB + 1279, P2mKind::RamLogDirty),
        (GIB + 1280, P2mKind::Ram),
    ] {
        assert_eq!(map.lookup(Gfn(gfn)), Some((Mfn(gfn), kind)));
    }
    assert_eq!(read_log(&map, GIB, 64, false).len(), 256);
    turn(&map, false);
    assert_eq!(order(&map, GIB), 18);
    end(&map);
    bank.assert_all_back();
}

#[test]
fn the_end_lets_go_of_2_mib_at_a_time_without_a_page_for_a_table() {
    let bank = Bank::with_gib();
    let map = map(bank, 8);
    enter_all(&map);
    let pages = map.pool().used;
    assert_eq!(map.set_pool(pages, u64::MAX), Ok(Step::Done));
    let drops = || bank.drops.load(Ordering::Relaxed);
    let mut steps = 0;
    while drops() < GIB {
        let before = drops();
        assert_eq!(map.tear_down(1), Step::More);
        assert!(drops() - before <= PART);
        assert_eq!(map.lookup(Gfn(GIB)).is_some(), drops() == 0);
        steps += 1;
    }
    assert!(steps >= 512, "{steps}");
    end(&map);
    bank.assert_all_back();
}

#[derive(Clone, Debug)]
enum Op {
    Part(u64),
    All,
    Odd(u64),
    Remove(u64, u64, bool),
    Kind(u64, bool),
    Log(bool),
    Store(u64),
    Read(u64, usize, bool),
    Pool(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let part = || prop_oneof![0..3u64, Just(511)];
    let gfn = || prop_oneof![0..3u64, 500..520u64, Just(GIB - 1), 0..GIB];
    let pages = prop_oneof![Just(1u64), Just(512), Just(5000), Just(GIB)];
    let yes = any::<bool>;
    prop_oneof![
        1 => part().prop_map(Op::Part),
        4 => Just(Op::All),
        1 => gfn().prop_map(Op::Odd),
        1 => (gfn(), pages, yes()).prop_map(|(g, p, r)| Op::Remove(g, p, r)),
        1 => (gfn(), yes()).prop_map(|(g, r)| Op::Kind(g, r)),
        3 => yes().prop_map(Op::Log),
        4 => gfn().prop_map(Op::Store),
        2 => (gfn(), 1..400usize, yes()).prop_map(|(g, b, c)| Op::Read(g, b, c)),
        1 => (4..9u64).prop_map(Op::Pool),
    ]
}

/// What is behind each guest frame: the page, whether the guest may write, whether it has since the log was read.
type Entry = Option<(u64, bool, bool)>;

struct Model<'a> {
    map: &'a Translated,
    entries: Vec<Entry>,
}

impl Model<'_> {
    fn range(&mut self, first: u64, pages: u64) -> &mut [Entry] {
        &mut self.entries[first as usize..(first + pages) as usize]
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Part(part) => self.enter(part),
            Op::All => {
                for part in 0..512 {
                    let mut there = self.range(part * PART, PART).iter();
                    if there.any(Option::is_none) {
                        self.enter(part);
                    }
                }
                self.map.join(Gfn(GIB));
            }
            Op::Odd(gfn) => {
                let mut removed = Removed::new();
                let done = self.map.add_ram(Gfn(GIB + gfn), Mfn(ODD), 0, &mut removed);
                settle(self.map, &mut removed, After::Keep);
                match done {
                    Ok(()) => self.entries[gfn as usize] = Some((ODD, true, true)),
                    Err(why) => assert_eq!(why, Errno::ENOMEM),
                }
            }
            Op::Remove(gfn, pages, relinquish) => {
                let after = match relinquish {
                    true => After::Relinquish,
                    false => After::Keep,
                };
                self.remove(gfn, pages.min(GIB - gfn), after);
            }
            Op::Kind(gfn, read_only) => {
                let kind = match read_only {
                    true => P2mKind::RamReadOnly,
                    false => P2mKind::Ram,
                };
                if self.map.set_kind(Gfn(GIB + gfn), kind).is_ok() {
                    let entry = self.entries[gfn as usize].as_mut().unwrap();
                    (entry.1, entry.2) = (!read_only, true);
                }
            }
            Op::Log(on) => {
                let before = self.map.log_enabled();
                if on && !before {
                    let all = self.entries.iter_mut().flatten();
                    all.for_each(|entry| entry.2 = false);
                }
                turn(self.map, on);
                if !on && before {
                    let whole = (0..).zip(&self.entries);
                    let mut whole = whole.map(|(n, e)| e.is_some_and(|e| e.0 == GIB + n && e.1));
                    assert!(order(self.map, GIB) == 18 || !whole.all(|w| w));
                }
            }
            Op::Store(gfn) => {
                let before = self.map.mapping(Gfn(GIB + gfn)).kind;
                let logged = self.map.log_write(Gfn(GIB + gfn));
                assert_eq!(logged, before == P2mKind::RamLogDirty);
                if let Some(entry) = &mut self.entries[gfn as usize] {
                    entry.2 |= logged || before == P2mKind::Ram;
                }
            }
            Op::Read(first, bytes, clean) => self.read(first, bytes, clean),
            Op::Pool(pages) => {
                let _in_use = self.map.set_pool(pages, u64::MAX);
            }
        }
        flush(self.map);
    }

    fn enter(&mut self, part: u64) {
        match enter_part(self.map, part) {
            Ok(()) => {
                let first = part * PART;
                for (n, entry) in (first..).zip(self.range(first, PART)) {
                    *entry = Some((GIB + n, true, true));
                }
            }
            Err(why) => assert_eq!(why, Errno::ENOMEM),
        }
    }

    fn remove(&mut self, gfn: u64, pages: u64, after: After) {
        let mut removed = Removed::new();
        let mut at = 0;
        while at < pages {
            let first = Gfn(GIB + gfn + at);
            match self.map.remove(first, pages - at, &mut removed) {
                Ok(passed) => {
                    assert!(passed > 0 && passed <= pages - at);
                    self.range(gfn + at, passed).fill(None);
                    at += passed;
                }
                Err(why) => {
                    assert_eq!(why, Errno::ENOMEM);
                    break;
                }
            }
            settle(self.map, &mut removed, after);
        }
    }

    /// What was stored to is in the log, and nothing is that the guest cannot write.
    fn read(&mut self, first: u64, bytes: usize, clean: bool) {
        let read = read_log(self.map, GIB + first, bytes, clean);
        if !self.map.log_enabled() {
            return;
        }
        let pages = (bytes as u64 * 8).min(GIB - first);
        let mut listed = vec![false; pages as usize];
        read.iter()
            .for_each(|gfn| listed[(gfn - GIB - first) as usize] = true);
        for (entry, listed) in self.range(first, pages).iter_mut().zip(listed) {
            let Some((_, write, written)) = entry else {
                assert!(!listed);
                continue;
            };
            assert!(*write || !listed);
            assert!(listed || !*write || !*written, "it was written");
            *written &= !clean;
        }
    }

    fn check(&self) {
        let mut at = 0;
        let mut ram = 0;
        while at < GIB {
            let found = self.map.mapping(Gfn(GIB + at));
            let next = (found.next(Gfn(GIB + at)).0 - GIB).min(GIB);
            for (n, entry) in (0..).zip(&self.entries[at as usize..next as usize]) {
                let expected = entry.map(|(page, write, _)| (page, write));
                let write = found.kind != P2mKind::RamReadOnly;
                let is = found.kind.is_ram().then(|| (found.mfn.0 + n, write));
                assert_eq!(is, expected, "gfn {:#x}", at + n);
                ram += u64::from(is.is_some());
            }
            at = next;
        }
        let kinds = [P2mKind::Ram, P2mKind::RamReadOnly, P2mKind::RamLogDirty];
        assert_eq!(kinds.map(|k| self.map.count(k)).iter().sum::<u64>(), ram);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn it_is_what_its_parts_are(ops in proptest::collection::vec(op(), 4..24)) {
        let bank = Bank::with_gib();
        let map = map(bank, 8);
        let mut model = Model { map: &map, entries: vec![None; GIB as usize] };
        model.run(&Op::All);
        for op in &ops {
            model.run(op);
            model.check();
        }
        for entry in model.entries.iter().flatten().filter(|entry| entry.0 != ODD) {
            prop_assert_eq!(bank.refs(entry.0), (1, 0));
        }
        end(&map);
        bank.assert_all_back();
    }
}
