//! Random changes against a map of pages: whatever is done, each page has the references of its entries and of those who hold it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::super::demand::Lack;
use super::machine::{CONTENTS, COUNT};
use super::*;

/// Guest frames in play.
const GFNS: u64 = 2048;

#[derive(Clone, Debug)]
enum Op {
    Ram(u64, u64, bool),
    Foreign(u64, u64, bool),
    Grant(u64, u64, bool),
    Ungrant(u64),
    Mmio(u64, bool),
    Remove(u64, u64, bool),
    Kind(u64, bool),
    Hold(u64, bool),
    LetGo,
    Log(bool),
    Store(u64),
    Read(u64, usize, bool),
    Pool(u64),
    Promise(u64, bool),
    SetAside(u64),
    TakeAside,
}

fn op() -> impl Strategy<Value = Op> {
    let gfn = || prop_oneof![0..6u64, 508..516u64, 1020..1030u64, 0..GFNS];
    let page = || prop_oneof![0..4u64, 510..514u64];
    let pages = prop_oneof![Just(1u64), Just(3), Just(512), Just(700), Just(GFNS)];
    let yes = any::<bool>;
    prop_oneof![
        6 => (gfn(), page(), yes()).prop_map(|(g, p, l)| Op::Ram(g, p, l)),
        2 => (gfn(), page(), yes()).prop_map(|(g, p, w)| Op::Foreign(g, p, w)),
        2 => (gfn(), page(), yes()).prop_map(|(g, p, w)| Op::Grant(g, p, w)),
        2 => gfn().prop_map(Op::Ungrant),
        1 => (gfn(), yes()).prop_map(|(g, l)| Op::Mmio(g, l)),
        3 => (gfn(), pages, yes()).prop_map(|(g, p, r)| Op::Remove(g, p, r)),
        1 => (gfn(), yes()).prop_map(|(g, r)| Op::Kind(g, r)),
        3 => (gfn(), yes()).prop_map(|(g, w)| Op::Hold(g, w)),
        2 => Just(Op::LetGo),
        2 => yes().prop_map(Op::Log),
        4 => gfn().prop_map(Op::Store),
        2 => (gfn(), 1..200usize, yes()).prop_map(|(g, b, c)| Op::Read(g, b, c)),
        1 => (2..30u64).prop_map(Op::Pool),
        3 => (gfn(), yes()).prop_map(|(g, l)| Op::Promise(g, l)),
        2 => (0..CONTENTS).prop_map(Op::SetAside),
        1 => Just(Op::TakeAside),
    ]
}

struct Model<'a> {
    bank: &'static Bank,
    map: &'a Translated,
    /// What is mapped; of RAM only whether it is read-only.
    entries: BTreeMap<u64, (u64, P2mKind)>,
    /// Stored to since the log was read.
    written: BTreeSet<u64>,
    held: Vec<HeldPage<'a>>,
    /// Set aside, the last added at the end.
    aside: Vec<u64>,
    removed: Removed,
}

/// RAM is RAM, logged or not.
fn plain(kind: P2mKind) -> P2mKind {
    match kind {
        P2mKind::RamLogDirty => P2mKind::Ram,
        other => other,
    }
}

impl Model<'_> {
    fn settle(&mut self, after: After) {
        // Until now nothing was dropped of what entries held.
        let held = self.removed.formers().len();
        settle(self.map, &mut self.removed, after);
        assert!(held <= 16 && self.removed.is_empty());
    }

    fn put(&mut self, done: Result<(), Errno>, (gfn, pages): (u64, u64), mfn: u64, kind: P2mKind) {
        let grants = (gfn..gfn + pages).any(|g| {
            self.entries
                .get(&g)
                .is_some_and(|(_, kind)| kind.is_grant())
        });
        match done {
            Ok(()) => {
                assert!(!grants);
                for page in 0..pages {
                    self.entries.insert(gfn + page, (mfn + page, kind));
                    self.written.insert(gfn + page);
                }
            }
            Err(Errno::ENOMEM) => {}
            Err(why) => assert!(grants && why == Errno::EINVAL, "{why}"),
        }
        self.settle(After::Keep);
    }

    fn run(&mut self, op: &Op) {
        let drops = self.bank.drops.load(Ordering::Relaxed);
        let unchanged = |model: &Self| {
            assert_eq!(
                model.bank.drops.load(Ordering::Relaxed),
                drops,
                "before the flush"
            );
        };
        match *op {
            Op::Ram(gfn, page, large) => {
                let order = if large { 9 } else { 0 };
                let gfn = gfn & !((1 << order) - 1);
                // Beside each other in both, so that they merge again.
                let mfn = OWN + (gfn + (page << order)) % COUNT;
                let done = self
                    .map
                    .add_ram(Gfn(gfn), Mfn(mfn), order, &mut self.removed);
                if done.is_ok() {
                    unchanged(self);
                }
                self.put(done, (gfn, 1 << order), mfn, P2mKind::Ram);
            }
            Op::Foreign(gfn, page, write) => {
                let mfn = OTHER + page;
                let done = self
                    .map
                    .add_foreign(Gfn(gfn), Mfn(mfn), PEER, write, &mut self.removed);
                let kind = match write {
                    true => P2mKind::ForeignWrite,
                    false => P2mKind::ForeignRead,
                };
                self.put(done, (gfn, 1), mfn, kind);
            }
            Op::Grant(gfn, page, write) => {
                let mfn = OTHER + page;
                let done = self
                    .map
                    .add_grant(Gfn(gfn), Mfn(mfn), write, &mut self.removed);
                let kind = match write {
                    true => P2mKind::GrantWrite,
                    false => P2mKind::GrantRead,
                };
                self.put(done, (gfn, 1), mfn, kind);
            }
            Op::Ungrant(gfn) => {
                let entry = self.entries.get(&gfn).copied();
                let mfn = entry.map_or(OTHER, |(mfn, _)| mfn);
                let done = self.map.remove_grant(Gfn(gfn), Mfn(mfn), &mut self.removed);
                assert_eq!(done.is_ok(), entry.is_some_and(|(_, kind)| kind.is_grant()));
                if done.is_ok() {
                    self.entries.remove(&gfn);
                    self.settle(After::Keep);
                }
            }
            Op::Mmio(gfn, large) => {
                let order = if large { 9 } else { 0 };
                let gfn = gfn & !((1 << order) - 1);
                let mfn = (1 << 20) + gfn;
                let done = self
                    .map
                    .add_mmio(Gfn(gfn), Mfn(mfn), order, &mut self.removed);
                self.put(done, (gfn, 1 << order), mfn, P2mKind::Mmio);
            }
            Op::Remove(gfn, pages, relinquish) => self.remove(gfn, pages, relinquish),
            Op::Kind(gfn, read_only) => {
                let kind = if read_only {
                    P2mKind::RamReadOnly
                } else {
                    P2mKind::Ram
                };
                if self.map.set_kind(Gfn(gfn), kind).is_ok() {
                    let entry = self.entries.get_mut(&gfn).unwrap();
                    assert!(entry.1.is_ram());
                    entry.1 = kind;
                    self.written.insert(gfn);
                }
            }
            Op::Hold(gfn, write) => {
                self.touch(gfn);
                let held = self.map.hold(Gfn(gfn), write);
                let may = self
                    .entries
                    .get(&gfn)
                    .filter(|(_, kind)| kind.is_memory() && (!write || kind.may_write()));
                assert_eq!(held.as_ref().map(|h| h.mfn().0), may.map(|(mfn, _)| *mfn));
                if held.is_some() && write {
                    self.written.insert(gfn);
                }
                self.held.extend(held);
            }
            Op::LetGo => {
                if !self.held.is_empty() {
                    let held = self.held.remove(0);
                    let (gfn, write) = (held.gfn().0, held.is_writable());
                    drop(held);
                    if write {
                        self.written.insert(gfn);
                    }
                }
            }
            Op::Log(on) => {
                if on && !self.map.log_enabled() {
                    self.written.clear();
                }
                while self.map.set_log(on, 100).unwrap() == Step::More {}
            }
            Op::Store(gfn) => {
                let before = self.map.mapping(Gfn(gfn)).kind;
                assert_eq!(self.map.log_write(Gfn(gfn)), before == P2mKind::RamLogDirty);
                self.written.insert(gfn);
            }
            Op::Read(first, bytes, clean) => {
                let read = read_log(self.map, first, bytes, clean);
                if self.map.log_enabled() {
                    self.compare_log(first, bytes as u64 * 8, clean, &read);
                }
            }
            Op::Promise(gfn, large) => self.promise(gfn, if large { 9 } else { 0 }),
            Op::SetAside(page) => {
                // A page that is in no use.
                let page = OWN + page;
                if self.bank.refs(page) == (0, 0)
                    && !self.aside.contains(&page)
                    && self.map.set_aside(Mfn(page)).is_ok()
                {
                    self.aside.push(page);
                }
            }
            Op::TakeAside => assert_eq!(self.map.take_aside(), self.aside.pop().map(Mfn)),
            Op::Pool(pages) => {
                let done = self.map.set_pool(pages, u64::MAX);
                let is = self.map.pool();
                assert!(is.pages == pages || (done == Err(Errno::ENOMEM) && is.used > pages));
            }
        }
    }

    fn is_promised(&self, gfn: u64) -> bool {
        self.entries
            .get(&gfn)
            .is_some_and(|(_, kind)| *kind == P2mKind::OnDemand)
    }

    fn promise(&mut self, gfn: u64, order: u32) {
        let gfn = gfn & !((1 << order) - 1);
        let range = gfn..gfn + (1 << order);
        let free = |gfn: u64| !self.entries.contains_key(&gfn) || self.is_promised(gfn);
        let free = range.clone().all(free);
        match self.map.promise(Gfn(gfn), order) {
            Ok(()) => {
                assert!(free);
                for gfn in range {
                    self.entries
                        .insert(gfn, (Mfn::INVALID.0, P2mKind::OnDemand));
                }
            }
            Err(Errno::ENOMEM) => {}
            Err(why) => assert!(!free && why == Errno::EBUSY, "{why}"),
        }
    }

    /// A promised frame gets the page that was set aside last.
    fn touch(&mut self, gfn: u64) {
        let was = self.is_promised(gfn);
        match self.map.fill(Gfn(gfn)) {
            Ok(()) if was => {
                let page = self.aside.pop().unwrap();
                assert_eq!(self.bank.m2p(Mfn(page)), gfn);
                self.entries.insert(gfn, (page, P2mKind::Ram));
                self.written.insert(gfn);
            }
            Ok(()) => {}
            Err(Lack::Page) => assert!(was && self.aside.is_empty()),
            Err(why) => assert!(was && why == Lack::Table),
        }
    }

    fn remove(&mut self, from: u64, pages: u64, relinquish: bool) {
        let mut at = 0;
        while at < pages {
            let rest = pages - at;
            let drops = self.bank.drops.load(Ordering::Relaxed);
            let done = self.map.remove(Gfn(from + at), rest, &mut self.removed);
            assert_eq!(self.bank.drops.load(Ordering::Relaxed), drops);
            match done {
                Ok(passed) => {
                    assert!(passed > 0 && passed <= rest);
                    for gfn in from + at..from + at + passed {
                        let gone = self.entries.remove(&gfn);
                        assert!(gone.is_none_or(|(_, kind)| !kind.is_grant()));
                    }
                    at += passed;
                }
                Err(Errno::ENOMEM) => break,
                Err(Errno::EINVAL) => {
                    assert!(self.entries[&(from + at)].1.is_grant());
                    at += 1;
                }
                Err(other) => panic!("{other}"),
            }
            self.settle(if relinquish {
                After::Relinquish
            } else {
                After::Keep
            });
        }
    }

    /// What was stored to is in the log, and nothing is that is not writable RAM.
    fn compare_log(&mut self, first: u64, count: u64, clean: bool, read: &[u64]) {
        let read: BTreeSet<u64> = read.iter().copied().collect();
        for gfn in first..first + count {
            let ram = self
                .entries
                .get(&gfn)
                .is_some_and(|(_, k)| *k == P2mKind::Ram);
            if ram && self.written.contains(&gfn) {
                assert!(read.contains(&gfn), "gfn {gfn:#x} was written");
            }
            assert!(ram || !read.contains(&gfn));
            if clean {
                self.written.remove(&gfn);
            }
        }
    }

    fn check(&self) {
        let mut refs = BTreeMap::<u64, (i64, i64)>::new();
        for (mfn, kind) in self.entries.values() {
            let count = refs.entry(*mfn).or_default();
            match kind {
                P2mKind::ForeignRead => count.1 += 1,
                P2mKind::ForeignWrite | P2mKind::Ram | P2mKind::RamReadOnly => count.0 += 1,
                _ => {}
            }
        }
        for held in &self.held {
            let count = refs.entry(held.mfn().0).or_default();
            if held.is_writable() {
                count.0 += 1;
            } else {
                count.1 += 1;
            }
        }
        for mfn in OWN..OTHER + COUNT {
            let expected = refs.get(&mfn).copied().unwrap_or_default();
            assert_eq!(self.bank.refs(mfn), expected, "page {mfn:#x}");
        }
        let size = self.map.demand();
        assert_eq!(size.cached, self.aside.len() as u64);
        assert_eq!(size.promised, self.map.count(P2mKind::OnDemand));
        for gfn in 0..GFNS + 600 {
            assert_eq!(self.map.is_promised(Gfn(gfn)), self.is_promised(gfn));
            let found = self.map.lookup(Gfn(gfn)).map(|(m, k)| (m.0, plain(k)));
            let page = self.entries.get(&gfn).filter(|(_, kind)| kind.has_page());
            assert_eq!(found, page.copied(), "gfn {gfn:#x}");
        }
        let ram = self.entries.values().filter(|(_, k)| k.is_ram()).count() as u64;
        let kinds = [P2mKind::Ram, P2mKind::RamReadOnly, P2mKind::RamLogDirty];
        assert_eq!(kinds.map(|k| self.map.count(k)).iter().sum::<u64>(), ram);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn references_are_those_of_the_entries(
        format in proptest::sample::select(&[Format::Npt, Format::Ept]),
        pool in 4..12u64,
        ops in proptest::collection::vec(op(), 1..50),
    ) {
        let bank = Bank::new();
        let map = map_of(format, bank, pool);
        let mut model = Model {
            bank,
            map: &map,
            entries: BTreeMap::new(),
            written: BTreeSet::new(),
            held: Vec::new(),
            aside: Vec::new(),
            removed: Removed::new(),
        };
        for op in &ops {
            model.run(op);
            model.check();
        }
        model.held.clear();
        end(&map);
        bank.assert_all_back();
    }
}
