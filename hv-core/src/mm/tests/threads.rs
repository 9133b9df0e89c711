//! Real threads on one machine: what they do is random, what is left must add up.

use super::checker::check;
use super::machine::*;
use crate::base::{Mfn, PhysAddr};
use crate::mm::entries::Whose;
use crate::mm::pins::*;
use crate::mm::refs::*;
use crate::mm::update::*;
use crate::mm::*;

/// A small generator of its own, so that both threads are reproducible (not so their interleaving).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One guest CPU: pins, unpins, updates entries, and stores into pages while it has them writable.
fn guest(m: &Fake, seed: u64, rounds: u32) {
    let mut dice = Dice(seed);
    let mut owed = OwedPuts::new();
    let own = Whose::own(DOM);
    for _ in 0..rounds {
        let frame = dice.roll(8);
        let entry = pte(
            dice.roll(8),
            [P | RW | US, P | US, 0][dice.roll(3) as usize],
        );
        match dice.roll(6) {
            0 => {
                let level = [Level::L1, Level::L2, Level::L3, Level::L4][dice.roll(4) as usize];
                let _ = pin(m, DOM, Mfn(frame), level, &mut owed);
            }
            1 => drop(unpin(m, DOM, Mfn(frame), &mut owed)),
            2 | 3 => {
                let mut held = None;
                let at = PhysAddr((frame << 12) | (dice.roll(4) * 8));
                let _ = mmu_update(
                    m,
                    &own,
                    &mut held,
                    at,
                    entry,
                    Keep::AccessedDirty,
                    &mut owed,
                );
                let _ = end_batch(m, &mut held, &mut owed);
            }
            4 => {
                if get_page_and_type(m, Mfn(frame), DOM, PageType::Writable, Reach::Owner).is_ok() {
                    let state = m.f(frame).type_state();
                    assert!(state.page_type() == PageType::Writable && state.count() > 0);
                    m.poke(frame, dice.roll(4) as usize, entry);
                    put_writable(m, Mfn(frame));
                }
            }
            _ => {
                // Whoever holds a table knows that nobody writes it: what is read stays a valid entry.
                if let Ok(hold) = hold_table(m, Mfn(frame), DOM, &mut owed) {
                    let e = read_entry(m, &hold, dice.roll(4) as usize).unwrap();
                    assert_eq!(Pte(e).forbidden_bits(hold.level()) & P, 0);
                    assert!(
                        e & (P | US) != P,
                        "a present entry of a live table is adjusted"
                    );
                    let _ = release_table(m, hold, &mut owed);
                }
            }
        }
    }
    while owed.finish(m).is_err() {}
}

#[test]
fn two_threads_leave_counts_that_add_up() {
    for seed in 0..8 {
        let m = Fake::with_domain(8);
        if seed % 2 == 1 {
            m.preempt
                .store(0x1111_0101_0011_1000, core::sync::atomic::Ordering::Relaxed);
        }
        std::thread::scope(|s| {
            s.spawn(|| guest(&m, seed * 2 + 1, 20_000));
            s.spawn(|| guest(&m, seed * 2 + 2, 20_000));
        });
        check(&m, &[]);
        for n in 0..8 {
            while relinquish(&m, DOM, Mfn(n)).is_err() {}
        }
        check(&m, &[]);
        assert!(m.frames.iter().all(|f| f.owner() == Owner::Free));
    }
}

/// A tool that maps pages of the domain, and for a while gives it back what was freed.
fn tool(m: &Fake, seed: u64) {
    let mut dice = Dice(seed);
    let mut held = vec![];
    for _ in 0..4000 {
        let frame = dice.roll(16);
        match dice.roll(5) {
            0 | 1 if get_page(m, Mfn(frame), Owner::Domain(DOM)).is_ok() => held.push(frame),
            2 if !held.is_empty() => {
                let at = dice.roll(held.len() as u64) as usize;
                put_page(m, Mfn(held.swap_remove(at)));
            }
            3 => drop(relinquish_page(m, Mfn(frame), DOM)),
            _ => {
                let freed = m.released.lock().unwrap().pop();
                let enter = |n| m.holdings_of(DOM).enter(m, Mfn(n), Standing::Own);
                if let Some(n) = freed
                    && let Err(why) = enter(n)
                {
                    assert_eq!(why, RefError::Closed);
                    m.released.lock().unwrap().push(n);
                }
            }
        }
    }
    held.into_iter().for_each(|frame| put_page(m, Mfn(frame)));
}

#[test]
fn a_domain_dies_while_its_pages_come_and_go() {
    for seed in 1..=8 {
        // One page beyond those that come and go: a domain that lives has its shared info.
        let m = Fake::with_domain(17);
        let holdings = m.holdings_of(DOM);
        get_page(&m, Mfn(16), Owner::Domain(DOM)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| tool(&m, seed));
            scope.spawn(|| tool(&m, seed << 20));
            for _ in 0..seed * 200 {
                holdings.for_first(&m, usize::MAX, |mfn| assert!(mfn.0 < 17));
            }
            holdings.close();
            while holdings.relinquish_all(&m).is_err() {}
            put_page(&m, Mfn(16));
        });
        assert_eq!(holdings.frames(), 0);
        // Told once, by whoever was the last.
        assert_eq!(*m.gone.lock().unwrap(), [DOM]);
        let mut freed = m.released.lock().unwrap().clone();
        freed.sort_unstable();
        assert!(freed.into_iter().eq(0..17));
        check(&m, &[]);
    }
}
