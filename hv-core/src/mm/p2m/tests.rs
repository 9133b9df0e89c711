//! The tree against a map of ranges, seen through a walk of its own as the processor does it.

mod formats;
mod parts;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;
use xen_abi::errno::Errno;

use super::*;
use crate::mm::pte::ENTRIES;
use formats::{Access, Read, of_kind};

/// Pages of memory; the tables are among them.
const PAGES: usize = 48;
/// Guest-physical addresses have 40 bits.
const LIMIT: u64 = 1 << 28;

struct Memory(Vec<[AtomicU64; ENTRIES]>);

impl Frames for Memory {
    fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES] {
        &self.0[mfn.0 as usize]
    }
}

impl Memory {
    fn new() -> Self {
        let page = || std::array::from_fn(|_| AtomicU64::new(0x5555));
        Self((0..PAGES).map(|_| page()).collect())
    }
}

/// What the processor finds: the page and what it may do with it.
fn walk(format: Format, m: &Memory, root: Mfn, gfn: u64) -> Option<(u64, Access)> {
    let mut table = root.0;
    for shift in [27, 18, 9, 0] {
        let entry = m.0[table as usize][(gfn >> shift & 511) as usize].load(Ordering::Relaxed);
        match formats::read(format, shift, entry) {
            Read::Nothing => return None,
            Read::Table(next) => table = next,
            Read::Page(first, access) => {
                let inside = gfn & ((1 << shift) - 1);
                return Some((first + inside, access));
            }
        }
    }
    unreachable!()
}

/// Tables in the tree, the root among them.
fn tables(m: &Memory, table: u64, level: u32) -> u64 {
    let below = m.0[table as usize].iter().filter_map(|word| {
        let entry = word.load(Ordering::Relaxed);
        let leads_on = level > 1 && entry & 1 != 0 && entry & 1 << 7 == 0;
        leads_on.then(|| tables(m, entry >> 12 & 0xff_ffff_ffff, level - 1))
    });
    1 + below.sum::<u64>()
}

/// Ranges by their first guest frame: pages, first page, kind.
#[derive(Clone, Default, Debug, PartialEq)]
struct Model(BTreeMap<u64, (u64, u64, P2mKind)>);

impl Model {
    fn get(&self, gfn: u64) -> Option<(u64, P2mKind)> {
        let (start, (pages, mfn, kind)) = self.0.range(..=gfn).next_back()?;
        let page = if kind.has_page() {
            mfn + gfn - start
        } else {
            Mfn::INVALID.0
        };
        (gfn - start < *pages).then_some((page, *kind))
    }

    /// Takes a range out; what was in it.
    fn punch(&mut self, from: u64, pages: u64) -> Vec<(u64, u64, u64, P2mKind)> {
        let end = from + pages;
        let mut out = Vec::new();
        for (start, (count, mfn, kind)) in std::mem::take(&mut self.0) {
            let last = start + count;
            let (low, high) = (start.max(from), last.min(end));
            if low >= high {
                self.0.insert(start, (count, mfn, kind));
                continue;
            }
            if start < low {
                self.0.insert(start, (low - start, mfn, kind));
            }
            if high < last {
                self.0.insert(high, (last - high, mfn + high - start, kind));
            }
            out.push((low, high - low, mfn + low - start, kind));
        }
        out
    }

    fn put(&mut self, gfn: u64, pages: u64, mfn: u64, kind: P2mKind) {
        self.punch(gfn, pages);
        self.0.insert(gfn, (pages, mfn, kind));
    }

    fn has_grant(&self, gfn: u64, pages: u64) -> bool {
        self.clone()
            .punch(gfn, pages)
            .iter()
            .any(|(.., kind)| kind.is_grant())
    }

    fn count(&self, kind: P2mKind) -> u64 {
        let of_kind = self.0.values().filter(|(.., k)| *k == kind);
        of_kind.map(|(pages, ..)| pages).sum()
    }
}

struct Bench {
    m: Memory,
    radix: Radix,
    inventory: Inventory,
    model: Model,
}

impl Bench {
    fn new(format: Format, pages: u64) -> Self {
        let m = Memory::new();
        let mut pool = Pool::new();
        for page in 1..=pages {
            pool.grow(&m, Mfn(page));
        }
        let root = pool.take(&m).unwrap();
        Self {
            radix: Radix::new(format, root, LIMIT),
            m,
            inventory: Inventory::new(pool),
            model: Model::default(),
        }
    }

    /// What a change took out, as pages; tables go back at once, as after a flush.
    fn pages_of(&mut self, former: Former) -> Vec<(u64, u64, P2mKind)> {
        match former {
            Former::Hole => Vec::new(),
            Former::Pages {
                gfn,
                mfn,
                pages,
                kind,
            } => {
                let ends = [0, pages - 1];
                let mut list: Vec<_> = ends.iter().map(|i| (gfn.0 + i, mfn.0 + i, kind)).collect();
                list.dedup();
                list
            }
            Former::Table { gfn, table } => {
                let list = self
                    .radix
                    .entries(&self.m, table)
                    .map(|(index, mfn, kind)| {
                        let page = if kind.has_page() { mfn } else { Mfn::INVALID };
                        (gfn.0 + index, page.0, kind)
                    })
                    .collect();
                self.inventory.pool.give_back(&self.m, table);
                list
            }
        }
    }

    fn check(&self) {
        let format = self.radix.format();
        for gfn in corners() {
            let expected = self.model.get(gfn);
            let seen = self.radix.lookup(&self.m, Gfn(gfn)).unwrap();
            match expected {
                Some((mfn, kind)) => {
                    assert_eq!((seen.mfn.0, seen.kind), (mfn, kind), "gfn {gfn:#x}");
                    let found = walk(format, &self.m, self.radix.root(), gfn);
                    let present = kind.has_page().then(|| (mfn, of_kind(kind)));
                    assert_eq!(found, present, "gfn {gfn:#x}");
                }
                None => {
                    assert_eq!(seen.kind, P2mKind::Hole, "gfn {gfn:#x}");
                    assert_eq!(walk(format, &self.m, self.radix.root(), gfn), None);
                }
            }
        }
        for number in 1..KINDS as u64 {
            let kind = P2mKind::from_number(number);
            assert_eq!(self.inventory.count(kind), self.model.count(kind));
        }
        let pool = &self.inventory.pool;
        let linked = tables(&self.m, self.radix.root().0, 4);
        assert_eq!(pool.pages(), pool.free() + pool.retired() + linked);
    }

    fn flush(&mut self) {
        let covered = self.inventory.pool.before_flush();
        self.inventory.pool.after_flush(&self.m, covered);
    }

    fn run(&mut self, op: &Op) {
        let before = self.model.clone();
        let free = self.inventory.pool.free();
        let outcome = self.step(op);
        match outcome {
            Ok(()) => {}
            Err(why) => {
                assert_eq!(self.model, before);
                match why {
                    Errno::ENOMEM => assert!(free < 3, "there was room"),
                    Errno::EINVAL | Errno::EEXIST => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        self.check();
    }

    fn step(&mut self, op: &Op) -> Result<(), Errno> {
        let (m, inventory) = (&self.m, &mut self.inventory);
        match *op {
            Op::Set(gfn, order, far, kind) => {
                let pages = 1u64 << order;
                let gfn = gfn & !(pages - 1);
                // Pages mostly follow each other, so that mappings can be merged.
                let mfn = match kind.has_page() {
                    true => gfn + (far << 18) + (1 << 30),
                    false => 0,
                };
                let set = self
                    .radix
                    .set(m, inventory, (Gfn(gfn), order), Mfn(mfn), kind);
                let refused = self.model.has_grant(gfn, pages);
                match set {
                    Ok(former) => {
                        assert!(!refused, "a grant was replaced");
                        let out = self.pages_of(former);
                        for (gfn, mfn, kind) in &out {
                            assert_eq!(self.model.get(*gfn), Some((*mfn, *kind)));
                        }
                        self.model.put(gfn, pages, mfn, kind);
                        Ok(())
                    }
                    Err(why) => {
                        assert_eq!(why == Errno::EINVAL, refused && why != Errno::EEXIST);
                        assert!(order == 18 || why != Errno::EEXIST);
                        Err(why)
                    }
                }
            }
            Op::Take(gfn, pages, grants) => self.take_range(gfn, pages, grants),
            Op::TakeWhole(gfn) => {
                self.take_whole(gfn);
                Ok(())
            }
            Op::Kind(gfn, kind) => {
                let found = self.radix.see(m, inventory, Gfn(gfn));
                self.radix.set_kind(m, inventory, Gfn(gfn), kind);
                if found.kind.has_page() && kind.has_page() {
                    let pages = 1u64 << found.order;
                    let start = gfn & !(pages - 1);
                    let first = found.mfn.0 - (gfn - start);
                    self.model.put(start, pages, first, kind);
                }
                Ok(())
            }
            Op::Split(gfn, order) => {
                self.radix.split(m, inventory, Gfn(gfn), order)?;
                let found = self.radix.see(m, inventory, Gfn(gfn));
                assert!(found.kind == P2mKind::Hole || found.order <= order);
                Ok(())
            }
            Op::Merge(gfn, order) => {
                if self.radix.merge(m, inventory, Gfn(gfn), order) {
                    let found = self.radix.see(m, inventory, Gfn(gfn));
                    assert_eq!(found.order, order);
                }
                Ok(())
            }
            Op::Flush => {
                self.flush();
                Ok(())
            }
        }
    }

    /// Needs no page of the pool, and comes back in parts.
    fn take_whole(&mut self, gfn: u64) {
        let before = self.radix.see(&self.m, &self.inventory, Gfn(gfn));
        let mut former = self
            .radix
            .take_whole(&self.m, &mut self.inventory, Gfn(gfn));
        if !before.kind.has_page() {
            assert_eq!(former, Former::Hole);
            let start = gfn & !((1 << before.order) - 1);
            self.model.punch(start, 1 << before.order);
            return;
        }
        loop {
            match former.cut(512) {
                Former::Pages {
                    gfn,
                    mfn,
                    pages,
                    kind,
                } => {
                    assert!(pages <= 512);
                    assert_eq!(self.model.get(gfn.0), Some((mfn.0, kind)));
                    self.model.punch(gfn.0, pages);
                }
                other => {
                    assert_eq!(other, Former::Hole);
                    break;
                }
            }
        }
    }

    /// Takes out everything, as the end of a domain does.
    fn end(&mut self) {
        let mut at = Gfn(0);
        while at.0 < LIMIT {
            let found = self.radix.see(&self.m, &self.inventory, at);
            if found.order == 18 {
                self.take_whole(at.0);
            }
            at = found.next(at);
        }
        self.take_range(0, LIMIT, Grants::Go).unwrap();
    }

    fn take_range(&mut self, from: u64, pages: u64, grants: Grants) -> Result<(), Errno> {
        let pages = pages.min(LIMIT - from);
        let mut at = 0;
        while at < pages {
            let range = (Gfn(from + at), pages - at);
            let before = self.model.clone();
            match self.radix.take(&self.m, &mut self.inventory, range, grants) {
                Ok(taken) => {
                    assert!(taken.passed > 0 && taken.passed <= pages - at);
                    let out = self.model.punch(from + at, taken.passed);
                    assert!(grants == Grants::Go || out.iter().all(|(.., k)| !k.is_grant()));
                    let count: u64 = out.iter().map(|(_, pages, ..)| pages).sum();
                    let whole =
                        matches!(taken.former, Former::Pages { pages, .. } if pages == count);
                    let in_parts = |former| !matches!(former, Former::Pages { pages, kind, .. } if pages > 512 && kind.is_ram());
                    assert!(in_parts(taken.former), "more than is let go of at once");
                    let list = self.pages_of(taken.former);
                    // Of frames without pages nothing comes back.
                    let promised = out.iter().all(|(.., kind)| !kind.has_page());
                    assert!(whole || promised || list.len() as u64 == count);
                    for (gfn, mfn, kind) in list {
                        assert_eq!(before.get(gfn), Some((mfn, kind)));
                    }
                    at += taken.passed;
                }
                Err(Errno::EINVAL) => {
                    let kind = self.model.get(from + at).map(|(_, kind)| kind);
                    assert!(grants == Grants::Stay && kind.is_some_and(P2mKind::is_grant));
                    return Ok(());
                }
                // What was taken up to here stays taken.
                Err(Errno::ENOMEM) => {
                    assert!(self.inventory.pool.free() < 2);
                    return Ok(());
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Op {
    Set(u64, u32, u64, P2mKind),
    Take(u64, u64, Grants),
    TakeWhole(u64),
    Kind(u64, P2mKind),
    Split(u64, u32),
    Merge(u64, u32),
    Flush,
}

/// Guest frames at which something begins or ends.
fn corners() -> Vec<u64> {
    let mut list = Vec::new();
    for base in [0, 1 << 18, 3 << 18, 1 << 27, LIMIT - (1 << 18)] {
        for large in [0, 1, 511] {
            for small in [0, 1, 255, 511] {
                list.push(base + large * 512 + small);
            }
        }
    }
    list
}

fn kind() -> impl Strategy<Value = P2mKind> {
    let grants = prop_oneof![Just(P2mKind::GrantWrite), Just(P2mKind::GrantRead)];
    prop_oneof![
        8 => Just(P2mKind::Ram),
        2 => Just(P2mKind::RamReadOnly),
        2 => Just(P2mKind::RamLogDirty),
        1 => Just(P2mKind::Mmio),
        1 => grants,
        1 => Just(P2mKind::ForeignWrite),
        1 => Just(P2mKind::ForeignRead),
        4 => Just(P2mKind::OnDemand),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let gfn = || proptest::sample::select(corners());
    let order = || prop_oneof![4 => Just(0u32), 4 => Just(9), 2 => Just(18)];
    let grants = || prop_oneof![3 => Just(Grants::Stay), 1 => Just(Grants::Go)];
    let pages = prop_oneof![
        Just(1u64),
        Just(2),
        Just(511),
        Just(512),
        Just(513),
        Just(1024),
        Just(1 << 18)
    ];
    prop_oneof![
        6 => (gfn(), order(), 0..2u64, kind()).prop_map(|(g, o, f, k)| Op::Set(g, o, f, k)),
        3 => (gfn(), pages, grants()).prop_map(|(g, p, s)| Op::Take(g, p, s)),
        1 => gfn().prop_map(Op::TakeWhole),
        1 => (gfn(), kind()).prop_map(|(g, k)| Op::Kind(g, k)),
        2 => (gfn(), order()).prop_map(|(g, o)| Op::Split(g, o)),
        2 => (gfn(), prop_oneof![Just(9u32), Just(18)]).prop_map(|(g, o)| Op::Merge(g, o)),
        1 => Just(Op::Flush),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_tree_is_the_map(
        format in formats::any(),
        pages in 2..40u64,
        ops in proptest::collection::vec(op(), 1..60),
    ) {
        let mut bench = Bench::new(format, pages);
        for op in &ops {
            bench.run(op);
        }
        bench.flush();
        bench.end();
        bench.flush();
        bench.check();
        prop_assert!(bench.model.0.is_empty());
        prop_assert_eq!(bench.inventory.pool.free(), pages - 1, "only the root is left");
    }
}

/// What is split is the same mapping, and can be made one again.
#[test]
fn split_and_merge_change_nothing() {
    let mut bench = Bench::new(Format::Npt, 8);
    bench.run(&Op::Set(1 << 18, 18, 0, P2mKind::Ram));
    assert_eq!(bench.inventory.pool.free(), 6);
    bench.run(&Op::Split(1 << 18, 0));
    assert_eq!(bench.inventory.pool.free(), 4);
    let found = bench.radix.lookup(&bench.m, Gfn((1 << 18) + 5)).unwrap();
    assert_eq!(found.order, 0);
    assert!(
        !bench
            .radix
            .merge(&bench.m, &mut bench.inventory, Gfn(1 << 18), 18)
    );
    bench.run(&Op::Merge(1 << 18, 9));
    bench.run(&Op::Merge(1 << 18, 18));
    let found = bench.radix.lookup(&bench.m, Gfn((1 << 18) + 5)).unwrap();
    assert_eq!(found.order, 18);
    assert_eq!(
        bench.inventory.pool.retired(),
        2,
        "not used again before a flush"
    );
    assert_eq!(bench.inventory.pool.free(), 4);
    bench.flush();
    assert_eq!(bench.inventory.pool.free(), 6);
}

/// What is promised has no page and costs no table, however much it is; a part of it that gets one splits it.
#[test]
fn a_promise_is_an_entry_at_any_level() {
    let mut bench = Bench::new(Format::Npt, 8);
    for (gfn, order) in [(3, 0), (512, 9), (1 << 18, 18)] {
        bench.run(&Op::Set(gfn, order, 0, P2mKind::OnDemand));
        let found = bench.radix.lookup(&bench.m, Gfn(gfn)).unwrap();
        let promised = Mapping {
            mfn: Mfn::INVALID,
            kind: P2mKind::OnDemand,
            order,
        };
        assert_eq!(found, promised);
    }
    let count = |bench: &Bench| bench.inventory.count(P2mKind::OnDemand);
    assert_eq!(count(&bench), 1 + 512 + (1 << 18));
    assert_eq!(bench.inventory.pool.free(), 4);
    bench.run(&Op::Set((1 << 18) + 513, 0, 0, P2mKind::Ram));
    assert_eq!(count(&bench), 512 + (1 << 18));
    assert_eq!(bench.inventory.pool.free(), 2);
    for (gfn, order) in [((1 << 18) + 512, 0), (1 << 18, 9), (1 << 18 | 1 << 17, 9)] {
        let found = bench.radix.lookup(&bench.m, Gfn(gfn)).unwrap();
        assert_eq!((found.kind, found.order), (P2mKind::OnDemand, order));
    }
    // It is not made into something that would have a page.
    bench.run(&Op::Kind(3, P2mKind::Ram));
    bench.run(&Op::Kind((1 << 18) + 513, P2mKind::OnDemand));
    // Nothing comes back of it.
    bench.run(&Op::Take(1 << 18, 1 << 18, Grants::Stay));
    bench.flush();
    assert_eq!(count(&bench), 513);
    assert_eq!(bench.inventory.pool.free(), 4);
}

/// Where the pool is too small, nothing is begun.
#[test]
fn a_small_pool_leaves_things_as_they_are() {
    let mut bench = Bench::new(Format::Npt, 3);
    let set = |bench: &mut Bench, gfn, order| {
        let at = (Gfn(gfn), order);
        bench
            .radix
            .set(&bench.m, &mut bench.inventory, at, Mfn(gfn), P2mKind::Ram)
    };
    assert_eq!(set(&mut bench, 0, 0), Err(Errno::ENOMEM));
    assert_eq!(bench.inventory.pool.free(), 2);
    assert_eq!(set(&mut bench, 0, 9), Ok(Former::Hole));
    assert_eq!(
        set(&mut bench, 3, 0),
        Err(Errno::ENOMEM),
        "a split needs a table"
    );
    let take = (Gfn(3), 1);
    let taken = bench
        .radix
        .take(&bench.m, &mut bench.inventory, take, Grants::Stay);
    assert_eq!(taken, Err(Errno::ENOMEM));
    assert_eq!(bench.inventory.count(P2mKind::Ram), 512);
}

#[test]
fn what_does_not_exist_is_refused() {
    let mut bench = Bench::new(Format::Npt, 8);
    let mut set = |gfn, order, mfn, kind| {
        bench.radix.set(
            &bench.m,
            &mut bench.inventory,
            (Gfn(gfn), order),
            Mfn(mfn),
            kind,
        )
    };
    assert_eq!(set(LIMIT, 0, 1, P2mKind::Ram), Err(Errno::EINVAL));
    assert_eq!(set(u64::MAX, 0, 1, P2mKind::Ram), Err(Errno::EINVAL));
    assert_eq!(set(1, 9, 512, P2mKind::Ram), Err(Errno::EINVAL));
    assert_eq!(set(512, 9, 1, P2mKind::Ram), Err(Errno::EINVAL));
    assert_eq!(set(0, 1, 0, P2mKind::Ram), Err(Errno::EINVAL));
    assert_eq!(set(0, 0, 1, P2mKind::Hole), Err(Errno::EINVAL));
    let mut take = |gfn, pages| {
        bench.radix.take(
            &bench.m,
            &mut bench.inventory,
            (Gfn(gfn), pages),
            Grants::Go,
        )
    };
    assert_eq!(take(LIMIT - 1, 2), Err(Errno::EINVAL));
    assert_eq!(take(u64::MAX, 2), Err(Errno::EINVAL));
    assert_eq!(take(0, 0), Err(Errno::EINVAL));
    assert_eq!(
        bench.radix.lookup(&bench.m, Gfn(u64::MAX)).unwrap().kind,
        P2mKind::Hole
    );
}

/// A look-up that was overtaken says so.
#[test]
fn a_look_up_notices_that_a_table_went() {
    let mut bench = Bench::new(Format::Npt, 8);
    bench.run(&Op::Set(5, 0, 0, P2mKind::Ram));
    let place = bench.radix.descend(&bench.m, Gfn(5), Level::L1, || {
        bench.radix.unlink();
        false
    });
    assert!(place.is_none());
    assert!(bench.radix.lookup(&bench.m, Gfn(5)).is_ok());
}
