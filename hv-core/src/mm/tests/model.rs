//! Random interleavings of everything a guest can do to page tables, judged by recounting.
//!
//! Frames and slots are few, so that operations meet. The CPUs of the machine cache every mapping they can reach
//! from the roots, at random moments, and keep it until they are flushed; nothing flushes them but the
//! type changes under test. Interrupted calls are repeated later, mixed with others, or forgotten.

use super::checker::check_with;
use super::machine::*;
use crate::base::{GuestVa, Mfn, PhysAddr};
use crate::mm::entries::{Pages, Whose};
use crate::mm::pins::*;
use crate::mm::refs::*;
use crate::mm::update::*;
use crate::mm::*;
use proptest::prelude::*;
use std::sync::atomic::Ordering;

const FRAMES: u64 = 14;
/// Slots in use; those of the hypervisor and its neighbours among them.
const SLOTS: [u64; 6] = [0, 1, 255, 256, 271, 511];

#[derive(Clone, Debug)]
enum Act {
    /// A store of the guest into a page it has mapped writable (or could have).
    Poke {
        frame: u64,
        slot: usize,
        entry: u64,
    },
    Update {
        frame: u64,
        slot: usize,
        entry: u64,
        keep: bool,
    },
    UpdateForeign {
        slot: usize,
        target: u64,
        flags: u64,
    },
    Va {
        slot: u64,
        entry: u64,
    },
    Pin {
        frame: u64,
        level: u8,
    },
    Unpin {
        frame: u64,
    },
    Root {
        frame: u64,
        user: bool,
    },
    ClearUser,
    Get {
        frame: u64,
        ty: u8,
    },
    PutType {
        nth: usize,
    },
    GetPage {
        frame: u64,
    },
    PutPage {
        nth: usize,
    },
    Free {
        frame: u64,
    },
    Reassign {
        nth: usize,
    },
    Cache {
        cpu: usize,
    },
    Flush {
        cpu: usize,
    },
    Preempt {
        pattern: u64,
    },
    FinishOwed,
}

fn entry() -> impl Strategy<Value = u64> {
    let flags = prop_oneof![
        6 => Just(P | RW | US),
        3 => Just(P | US),
        2 => Just(P | RW),
        1 => Just(P | RW | 1 << 7),
        1 => Just(P | RW | US | Pte::GLOBAL),
        1 => Just(P | Pte::GLOBAL),
        1 => Just(P | 1 << 4),
        2 => Just(0_u64),
        1 => Just(RW),
    ];
    let target = prop_oneof![20 => 0..FRAMES, 1 => IO_BASE..IO_BASE + 3, 1 => Just(99_u64), 1 => Just(0xff_ffff_ffff)];
    (target, flags).prop_map(|(t, f)| pte(t, f))
}

fn slot() -> impl Strategy<Value = usize> {
    (0..SLOTS.len()).prop_map(|i| SLOTS[i] as usize)
}

fn act() -> impl Strategy<Value = Act> {
    let f = || 0..FRAMES;
    prop_oneof![
        6 => (f(), slot(), entry()).prop_map(|(frame, slot, entry)| Act::Poke { frame, slot, entry }),
        8 => (f(), slot(), entry(), any::<bool>())
            .prop_map(|(frame, slot, entry, keep)| Act::Update { frame, slot, entry, keep }),
        2 => (slot(), f(), 0..4_u64).prop_map(|(slot, target, b)| Act::UpdateForeign { slot, target, flags: b }),
        2 => (0..2_u64, entry()).prop_map(|(slot, entry)| Act::Va { slot, entry }),
        5 => (f(), 1..5_u8).prop_map(|(frame, level)| Act::Pin { frame, level }),
        3 => f().prop_map(|frame| Act::Unpin { frame }),
        2 => (f(), any::<bool>()).prop_map(|(frame, user)| Act::Root { frame, user }),
        1 => Just(Act::ClearUser),
        2 => (f(), 1..7_u8).prop_map(|(frame, ty)| Act::Get { frame, ty }),
        2 => any::<usize>().prop_map(|nth| Act::PutType { nth }),
        1 => f().prop_map(|frame| Act::GetPage { frame }),
        1 => any::<usize>().prop_map(|nth| Act::PutPage { nth }),
        1 => f().prop_map(|frame| Act::Free { frame }),
        1 => any::<usize>().prop_map(|nth| Act::Reassign { nth }),
        4 => (0..2_usize).prop_map(|cpu| Act::Cache { cpu }),
        1 => (0..2_usize).prop_map(|cpu| Act::Flush { cpu }),
        2 => prop_oneof![Just(0), Just(!0), any::<u64>()].prop_map(|pattern| Act::Preempt { pattern }),
        2 => Just(Act::FinishOwed),
    ]
}

fn globals() -> impl Strategy<Value = Globals> {
    prop_oneof![Just(Globals::UserMappings), Just(Globals::Nothing)]
}

/// The machine, one vCPU and the references the test itself holds.
struct World {
    m: Fake,
    owed: OwedPuts,
    roots: Roots,
    types: Vec<u64>,
    pages: Vec<u64>,
}

/// L1 table of the other domain, which may map the first one's pages.
const THEIR_L1: u64 = FRAMES;

impl World {
    /// A chain of tables, of which the guest's later stores make anything.
    fn new(globals: Globals) -> Self {
        let m = Fake::with_domain(FRAMES as usize + 1);
        m.no_globals
            .store(globals == Globals::Nothing, Ordering::Relaxed);
        m.take_away(THEIR_L1, DOM);
        m.give(THEIR_L1, OTHER);
        pin(&m, OTHER, Mfn(THEIR_L1), Level::L1, &mut OwedPuts::new()).unwrap();
        for (table, slot) in [(0, 0), (0, 511), (1, 0), (1, 255), (2, 0), (2, 1), (2, 256)] {
            m.poke(table, slot, pte(table + 1, P | RW | US));
        }
        for slot in [0, 1, 271] {
            m.poke(3, slot, pte(4 + slot as u64 % 5, P | RW | US));
        }
        Self {
            m,
            owed: OwedPuts::new(),
            roots: Roots::default(),
            types: vec![],
            pages: vec![],
        }
    }

    fn apply(&mut self, act: &Act) {
        let m = &self.m;
        let (own, owed) = (Whose::own(DOM), &mut self.owed);
        match *act {
            Act::Poke { frame, slot, entry } => self.guest_store(frame, slot, entry),
            Act::Update {
                frame,
                slot,
                entry,
                keep,
            } => {
                let keep = if keep {
                    Keep::AccessedDirty
                } else {
                    Keep::Nothing
                };
                let mut held = None;
                let at = PhysAddr((frame << 12) | (slot as u64 * 8));
                let _ = mmu_update(m, &own, &mut held, at, entry, keep, owed);
                let _ = end_batch(m, &mut held, owed);
            }
            Act::UpdateForeign {
                slot,
                target,
                flags,
            } => {
                let theirs = Whose {
                    by: OTHER,
                    table_owner: OTHER,
                    pages: Pages::Of(DOM),
                };
                let at = PhysAddr((THEIR_L1 << 12) | (slot as u64 * 8));
                let mut held = None;
                let _ = mmu_update(
                    m,
                    &theirs,
                    &mut held,
                    at,
                    pte(target, flags),
                    Keep::Nothing,
                    owed,
                );
                let _ = end_batch(m, &mut held, owed);
            }
            Act::Va { slot, entry } => {
                if let Some(root) = self.roots.kernel {
                    let _ = update_va_mapping(m, &own, root, GuestVa(slot << 12), entry, owed);
                }
            }
            Act::Pin { frame, level } => {
                let level = [Level::L1, Level::L2, Level::L3, Level::L4][level as usize - 1];
                let _ = pin(m, DOM, Mfn(frame), level, owed);
            }
            Act::Unpin { frame } => drop(unpin(m, DOM, Mfn(frame), owed)),
            Act::Root { frame, user } => {
                let kind = if user {
                    RootKind::User
                } else {
                    RootKind::Kernel
                };
                self.change_root(kind, Some(Mfn(frame)));
            }
            Act::ClearUser => self.change_root(RootKind::User, None),
            Act::Get { frame, ty } => {
                let types = [
                    PageType::Writable,
                    PageType::L1,
                    PageType::L2,
                    PageType::L3,
                    PageType::L4,
                    PageType::SegDesc,
                ];
                if get_page_and_type(m, Mfn(frame), DOM, types[ty as usize - 1], Reach::Owner)
                    .is_ok()
                {
                    self.types.push(frame);
                }
            }
            Act::PutType { nth } if !self.types.is_empty() => {
                let frame = self.types.swap_remove(nth % self.types.len());
                if put_page_and_type(m, Mfn(frame)).is_err() {
                    self.types.push(frame);
                }
            }
            Act::GetPage { frame } => {
                if get_page(m, Mfn(frame), Owner::Domain(DOM)).is_ok() {
                    self.pages.push(frame);
                }
            }
            Act::PutPage { nth } if !self.pages.is_empty() => {
                put_page(m, Mfn(self.pages.swap_remove(nth % self.pages.len())));
            }
            Act::Free { frame } => self.free(frame),
            Act::Reassign { nth } => self.reassign(nth),
            Act::Cache { cpu } => self.cache(cpu),
            Act::Flush { cpu } => m.flush_cpu(cpu),
            Act::Preempt { pattern } => m.preempt.store(pattern, Ordering::Relaxed),
            Act::FinishOwed => drop(owed.finish(m)),
            Act::PutType { .. } | Act::PutPage { .. } => {}
        }
    }

    /// The guest can store into any page some CPU of its has cached writable, or that is mapped
    /// writable, or that nothing prevents it from mapping writable.
    fn guest_store(&self, frame: u64, slot: usize, entry: u64) {
        let reached = self.m.cpus[0].lock().unwrap().writable.contains(&frame);
        let got =
            get_page_and_type(&self.m, Mfn(frame), DOM, PageType::Writable, Reach::Owner).is_ok();
        if reached || got {
            self.m.poke(frame, slot, entry);
        }
        if got {
            put_writable(&self.m, Mfn(frame));
        }
    }

    fn change_root(&mut self, kind: RootKind, new: Option<Mfn>) {
        let Ok(Some(old)) = set_base(&self.m, DOM, &mut self.roots, kind, new, &mut self.owed)
        else {
            return;
        };
        if self.m.globals() == Globals::Nothing {
            // The load of CR3, after which nothing is left.
            self.m.flush_cpu(0);
        } else {
            // It keeps global entries but no tables of the old root.
            self.m.cpus[0].lock().unwrap().tables.clear();
        }
        let _ = drop_root(&self.m, old, &mut self.owed);
    }

    fn free(&self, frame: u64) {
        let owner_is_ours = self.m.f(frame).owner() == Owner::Domain(DOM);
        if owner_is_ours && self.m.f(frame).take_allocation() {
            put_page(&self.m, Mfn(frame));
        }
    }

    /// The allocator hands a released frame out again, flushing by its stamp first.
    fn reassign(&self, nth: usize) {
        let mut released = self.m.released.lock().unwrap();
        if released.is_empty() {
            return;
        }
        let at = nth % released.len();
        let frame = released.swap_remove(at);
        self.m.hand_out(frame, DOM);
    }

    /// A CPU of the domain caches all it can reach: by its roots, and by tables cached before.
    fn cache(&self, index: usize) {
        let mut cpu = self.m.cpus[index].lock().unwrap();
        if index == 1 {
            cpu.tables.insert((THEIR_L1, 1));
        } else {
            for root in [self.roots.kernel, self.roots.user].into_iter().flatten() {
                cpu.tables.insert((root.0, 4));
            }
        }
        for level in (1..=4).rev() {
            let tables: Vec<u64> = cpu
                .tables
                .iter()
                .filter(|t| t.1 == level)
                .map(|t| t.0)
                .collect();
            for (table, slot) in tables.iter().flat_map(|t| SLOTS.map(|s| (*t, s))) {
                let entry = self.m.peek(table, slot as usize);
                let target = entry >> 12 & 0xff_ffff_ffff;
                let ours = level == 4 && (256..272).contains(&slot);
                if entry & P == 0 || ours || target > FRAMES {
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

    fn check(&self) {
        let mut held = self.types.clone();
        held.extend(self.owed.pending().map(|m| m.0));
        held.extend(
            [self.roots.kernel, self.roots.user]
                .into_iter()
                .flatten()
                .map(|m| m.0),
        );
        check_with(&self.m, &held, &self.pages);
    }

    /// Everything is given back, and nothing may be left.
    fn tear_down(mut self) {
        for cpu in 0..2 {
            self.m.flush_cpu(cpu);
        }
        let cleared = clear_roots(&self.m, &mut self.roots, &mut self.owed);
        assert_eq!(
            (cleared.is_ok(), self.roots),
            (self.owed.is_empty(), Roots::default())
        );
        while self.owed.finish(&self.m).is_err() {}
        for frame in self.types.drain(..) {
            while put_page_and_type(&self.m, Mfn(frame)).is_err() {}
        }
        for frame in self.pages.drain(..) {
            put_page(&self.m, Mfn(frame));
        }
        while unpin(&self.m, OTHER, Mfn(THEIR_L1), &mut self.owed).is_err() {}
        let holdings = self.m.holdings_of(DOM);
        holdings.close();
        while holdings.relinquish_all(&self.m).is_err() {}
        self.check();
        // Unless it had given everything away before.
        let last_words = *self.m.gone.lock().unwrap() == [DOM];
        assert!(last_words || self.m.released.lock().unwrap().len() as u64 == FRAMES);
        for frame in 0..FRAMES {
            assert_eq!(
                self.m.f(frame).owner(),
                Owner::Free,
                "frame {frame} is left over"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn random_interleavings_keep_the_rule(
        globals in globals(),
        acts in prop::collection::vec(act(), 1..160),
    ) {
        let mut world = World::new(globals);
        for act in &acts {
            world.apply(act);
            world.check();
        }
        world.tear_down();
    }

    #[test]
    fn random_interleavings_on_a_live_root_keep_the_rule(
        pattern in any::<u64>(),
        globals in globals(),
        acts in prop::collection::vec(act(), 1..160),
    ) {
        let mut world = World::new(globals);
        world.change_root(RootKind::Kernel, Some(Mfn(0)));
        world.m.preempt.store(pattern, Ordering::Relaxed);
        for act in &acts {
            world.apply(act);
            world.check();
        }
        world.tear_down();
    }
}
