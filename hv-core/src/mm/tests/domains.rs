//! Two domains at once: a guest (`DOM`), which dies at some moment, and a control domain (`OTHER`), which maps the guest's
//! pages, updates and pins its tables and grants it pages. After every act the same judge as in `model` recounts all.

use super::checker::check_with;
use super::machine::*;
use crate::base::{DomId, Mfn, PhysAddr};
use crate::mm::entries::{Pages, Whose, drop_l1};
use crate::mm::pins::*;
use crate::mm::refs::*;
use crate::mm::update::*;
use crate::mm::*;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

/// Frames of each domain at first: the guest's come first.
const EACH: u64 = 8;
const FRAMES: u64 = 2 * EACH;
const SLOTS: [u64; 4] = [0, 1, 256, 511];

#[derive(Clone, Copy, Debug)]
enum Act {
    Poke(DomId, u64, usize, u64),
    Update(Whose, u64, usize, u64),
    Pin(DomId, DomId, u64, u8),
    Unpin(DomId, DomId, u64),
    Root(DomId, u64),
    /// The control domain grants a frame, and the guest maps it in a table of its.
    Grant(u64, usize, u64, bool),
    Ungrant(u64, usize),
    /// A page that nobody uses goes from one to the other.
    Transfer(DomId, u64),
    Balloon(DomId, u64),
    Reassign(usize),
    Cache(DomId),
    Preempt(u64),
    FinishOwed(DomId),
    /// The guest begins to die (seldom), or goes on with it.
    Die(u8),
}

fn entry() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![
        6 => Just(P | RW | US),
        3 => Just(P | US),
        6 => Just(0_u64),
    ];
    (page(), flags).prop_map(|(target, flags)| pte(target, flags))
}

/// A frame, most often an L1 table of the first chains.
fn table() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..FRAMES, 2 => Just(3), 3 => Just(EACH + 3)]
}

/// A frame, most often one that is nothing in particular, so that it is mapped by one and made a table by the other.
fn page() -> impl Strategy<Value = u64> {
    prop_oneof![2 => 0..FRAMES, 4 => 5..EACH, 2 => EACH + 5..FRAMES]
}

/// Who acts on whose tables: a guest on its own only.
fn pair() -> impl Strategy<Value = (DomId, DomId)> {
    prop_oneof![
        2 => Just((DOM, DOM)),
        1 => Just((OTHER, OTHER)),
        2 => Just((OTHER, DOM)),
    ]
}

fn whose() -> impl Strategy<Value = Whose> {
    (pair(), any::<bool>()).prop_map(|((by, table_owner), foreign)| Whose {
        by,
        table_owner,
        pages: Pages::Of(if by == OTHER && foreign {
            DOM
        } else {
            table_owner
        }),
    })
}

fn act() -> impl Strategy<Value = Act> {
    let (f, t) = (page, table);
    let slot = || prop_oneof![6 => Just(0), 3 => Just(1), 1 => Just(256), 1 => Just(511_usize)];
    let dom = || prop_oneof![2 => Just(DOM), 1 => Just(OTHER)];
    prop_oneof![
        5 => (dom(), f(), slot(), entry()).prop_map(|(d, f, s, e)| Act::Poke(d, f, s, e)),
        12 => (whose(), t(), slot(), entry()).prop_map(|(w, f, s, e)| Act::Update(w, f, s, e)),
        6 => (pair(), f(), prop_oneof![3 => Just(1), 1 => 2..5_u8]).prop_map(|((by, of), f, l)| Act::Pin(by, of, f, l)),
        3 => (pair(), f()).prop_map(|((by, of), f)| Act::Unpin(by, of, f)),
        2 => (dom(), 0..FRAMES).prop_map(|(d, f)| Act::Root(d, f)),
        4 => (t(), slot(), f(), any::<bool>()).prop_map(|(t, s, f, w)| Act::Grant(t, s, f, w)),
        2 => (t(), slot()).prop_map(|(t, s)| Act::Ungrant(t, s)),
        2 => (dom(), f()).prop_map(|(d, f)| Act::Transfer(d, f)),
        1 => (dom(), f()).prop_map(|(d, f)| Act::Balloon(d, f)),
        1 => any::<usize>().prop_map(Act::Reassign),
        5 => dom().prop_map(Act::Cache),
        2 => prop_oneof![Just(0), Just(!0), any::<u64>()].prop_map(Act::Preempt),
        2 => dom().prop_map(Act::FinishOwed),
        1 => any::<u8>().prop_map(Act::Die),
    ]
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Runs,
    Dies,
}

struct World {
    m: Fake,
    /// Of DOM and OTHER, as everything below.
    owed: [OwedPuts; 2],
    roots: [Roots; 2],
    guest: Life,
}

fn place(id: DomId) -> usize {
    usize::from(id) - 1
}

impl World {
    /// Both have a chain of tables.
    fn new() -> Self {
        let m = Fake::new(FRAMES as usize);
        for (owner, first) in [(DOM, 0), (OTHER, EACH)] {
            for n in 0..EACH {
                m.give(first + n, owner);
            }
            for (table, slot) in [(0, 0), (0, 511), (1, 0), (2, 0)] {
                m.poke(first + table, slot, pte(first + table + 1, P | RW | US));
            }
            m.poke(first + 3, 0, pte(first + 4, P | RW | US));
            m.poke(first + 3, 1, pte(first + 5, P | US));
            let pinned = pin(&m, owner, Mfn(first), Level::L4, &mut OwedPuts::new());
            pinned.unwrap();
        }
        Self {
            m,
            owed: Default::default(),
            roots: Default::default(),
            guest: Life::Runs,
        }
    }

    fn apply(&mut self, act: Act) {
        let m = &self.m;
        let dead = self.guest == Life::Dies;
        match act {
            Act::Poke(by, ..) | Act::Cache(by) | Act::FinishOwed(by) | Act::Root(by, _)
                if dead && by == DOM => {}
            Act::Update(whose, ..) if dead && whose.by == DOM => {}
            Act::Pin(by, of, ..) if dead && (by == DOM || of == DOM) => {}
            Act::Unpin(DOM, ..) | Act::Grant(..) | Act::Ungrant(..) | Act::Balloon(DOM, _)
                if dead => {}
            Act::Transfer(..) if dead => {}
            Act::Poke(by, frame, slot, entry) => self.store(by, frame, slot, entry),
            Act::Update(whose, frame, slot, entry) => {
                let owed = &mut self.owed[place(whose.by)];
                let mut held = None;
                let at = PhysAddr((frame << 12) | (slot as u64 * 8));
                let _ = mmu_update(m, &whose, &mut held, at, entry, Keep::Nothing, owed);
                let _ = end_batch(m, &mut held, owed);
            }
            Act::Pin(by, of, frame, level) => {
                let level = [Level::L1, Level::L2, Level::L3, Level::L4][usize::from(level) - 1];
                let _ = pin(m, of, Mfn(frame), level, &mut self.owed[place(by)]);
            }
            Act::Unpin(by, of, frame) => {
                let _ = unpin(m, of, Mfn(frame), &mut self.owed[place(by)]);
            }
            Act::Root(by, frame) => self.change_root(by, frame),
            Act::Grant(table, slot, frame, write) => self.grant(table, slot, frame, write),
            Act::Ungrant(table, slot) => self.ungrant(table, slot),
            Act::Transfer(from, frame) => self.transfer(from, frame),
            Act::Balloon(by, frame) => drop(relinquish_page(m, Mfn(frame), by)),
            Act::Reassign(nth) => self.reassign(nth),
            Act::Cache(by) => self.cache(by),
            Act::Preempt(pattern) => m.preempt.store(pattern, Ordering::Relaxed),
            Act::FinishOwed(by) => drop(self.owed[place(by)].finish(m)),
            Act::Die(chance) if dead || chance < 32 => drop(self.die()),
            Act::Die(_) => {}
        }
    }

    /// A domain stores where it has a writable mapping, or could have one.
    fn store(&self, by: DomId, frame: u64, slot: usize, entry: u64) {
        let m = &self.m;
        let reached = m.cpus[place(by)].lock().unwrap().writable.contains(&frame);
        let got = get_page_and_type(m, Mfn(frame), by, PageType::Writable, Reach::Owner).is_ok();
        if reached || got {
            m.poke(frame, slot, entry);
        }
        if got {
            put_writable(m, Mfn(frame));
        }
    }

    fn change_root(&mut self, by: DomId, frame: u64) {
        let (roots, owed) = (&mut self.roots[place(by)], &mut self.owed[place(by)]);
        let new = Some(Mfn(frame));
        let Ok(Some(old)) = set_base(&self.m, by, roots, RootKind::Kernel, new, owed) else {
            return;
        };
        self.m.cpus[place(by)].lock().unwrap().tables.clear();
        let _ = drop_root(&self.m, old, owed);
    }

    fn grant(&mut self, table: u64, slot: usize, frame: u64, write: bool) {
        let (m, owed) = (&self.m, &mut self.owed[place(DOM)]);
        let taken = if write {
            get_page_and_type(m, Mfn(frame), OTHER, PageType::Writable, Reach::Foreign).is_ok()
        } else {
            get_page(m, Mfn(frame), Owner::Domain(OTHER)).is_ok()
        };
        if !taken {
            return;
        }
        let entry = Pte(pte(frame, P | US | if write { RW } else { 0 }));
        let entered = hold_l1(m, Mfn(table), DOM, owed).and_then(|hold| {
            let entered = granted::enter(m, &hold, slot, entry);
            let _later = release_table(m, hold, owed);
            entered
        });
        if entered.is_err() {
            drop_l1(m, entry);
        }
    }

    /// As the grant layer does it: out of the table, flushed, and only then let go.
    fn ungrant(&mut self, table: u64, slot: usize) {
        let (m, owed) = (&self.m, &mut self.owed[place(DOM)]);
        let taken = hold_l1(m, Mfn(table), DOM, owed).and_then(|hold| {
            let taken = granted::take(m, &hold, slot);
            let _later = release_table(m, hold, owed);
            taken
        });
        if let Ok(entry) = taken {
            m.flush_cpu(place(DOM));
            drop_l1(m, entry);
        }
    }

    fn transfer(&self, from: DomId, frame: u64) {
        let to = if from == DOM { OTHER } else { DOM };
        if self.m.f(frame).steal(from).is_ok() {
            self.m.f(frame).set_stamp(self.m.tlb_clock());
            self.m.gone_from(frame, from);
            self.m.hand_out(frame, to);
        }
    }

    /// The allocator gives a frame to the control domain.
    fn reassign(&self, nth: usize) {
        let frame = {
            let mut released = self.m.released.lock().unwrap();
            match released.len() {
                0 => return,
                count => released.swap_remove(nth % count),
            }
        };
        self.m.hand_out(frame, OTHER);
    }

    /// A CPU of the domain caches all that it can reach.
    fn cache(&self, by: DomId) {
        let mut cpu = self.m.cpus[place(by)].lock().unwrap();
        if let Some(root) = self.roots[place(by)].kernel {
            cpu.tables.insert((root.0, 4));
        }
        for level in (1..=4_u8).rev() {
            let tables: Vec<u64> = cpu
                .tables
                .iter()
                .filter(|t| t.1 == level)
                .map(|t| t.0)
                .collect();
            for (table, slot) in tables.iter().flat_map(|t| SLOTS.map(|s| (*t, s))) {
                let entry = self.m.peek(table, slot as usize);
                let target = entry >> 12 & 0xff_ffff_ffff;
                if entry & P == 0 || (level == 4 && slot == 256) || target >= FRAMES {
                    continue;
                }
                if level > 1 {
                    cpu.tables.insert((target, level - 1));
                    continue;
                }
                cpu.readable.insert(target);
                if entry & RW != 0 {
                    cpu.writable.insert(target);
                }
            }
        }
    }

    /// Goes on with the end of the guest.
    fn die(&mut self) -> PtResult {
        let at = place(DOM);
        let holdings = self.m.holdings_of(DOM);
        if self.guest == Life::Runs {
            self.guest = Life::Dies;
            holdings.close();
            // Its CPU loads something else.
            self.m.flush_cpu(at);
        }
        self.owed[at].finish(&self.m)?;
        clear_roots(&self.m, &mut self.roots[at], &mut self.owed[at])?;
        self.m.holdings_of(DOM).relinquish_all(&self.m)
    }

    fn check(&self) {
        let owed = self.owed.iter().flat_map(OwedPuts::pending);
        let roots = self.roots.iter().filter_map(|r| r.kernel);
        let held: Vec<u64> = owed.chain(roots).map(|m| m.0).collect();
        check_with(&self.m, &held, &[]);
    }

    /// The guest dies, then the control domain; nothing may be left.
    fn tear_down(mut self) {
        while self.die().is_err() {}
        self.check();
        // What the guest still owns is in the control domain's hands.
        let at = place(OTHER);
        let (roots, owed) = (&mut self.roots[at], &mut self.owed[at]);
        while owed.finish(&self.m).is_err() {}
        let _later = clear_roots(&self.m, roots, owed);
        while owed.finish(&self.m).is_err() {}
        self.m.flush_cpu(at);
        let others = self.m.holdings_of(OTHER);
        others.close();
        while others.relinquish_all(&self.m).is_err() {}
        self.check();
        for id in [DOM, OTHER] {
            assert_eq!(self.m.holdings_of(id).frames(), 0, "frames of d{id}");
        }
        // Both were told of, unless they had nothing when they began to die.
        let mut gone = self.m.gone.lock().unwrap().clone();
        gone.dedup();
        assert!(gone.len() <= 2 && gone.iter().all(|id| [DOM, OTHER].contains(id)));
        assert_eq!(self.m.released.lock().unwrap().len() as u64, FRAMES);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn two_domains_and_the_end_of_one_keep_the_rule(
        pattern in any::<u64>(),
        acts in prop::collection::vec(act(), 1..200),
    ) {
        let mut world = World::new();
        world.change_root(DOM, 0);
        world.change_root(OTHER, EACH);
        world.m.preempt.store(pattern, Ordering::Relaxed);
        for act in acts {
            world.apply(act);
            world.check();
        }
        world.tear_down();
    }
}
