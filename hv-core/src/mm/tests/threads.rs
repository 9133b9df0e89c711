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
