//! Calibration against simulated hardware on a host that preempts.

use core::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::*;
use crate::time::reference::{HpetWidth, PmWidth};

const MS: Nanos = 1_000_000;

/// A machine whose time passes by reading its counters.
struct Machine {
    ps: Cell<u64>,
    tsc_hz: u64,
    read_ns: u64,
    /// Preempted once in so many readings, for up to so many nanoseconds.
    preempt: (u64, u64),
    random: RefCell<u64>,
}

impl Machine {
    fn new(tsc_hz: u64, read_ns: u64, preempt: (u64, u64), seed: u64) -> Self {
        Self {
            ps: Cell::new(seed % 1_000_000_007),
            tsc_hz,
            read_ns,
            preempt,
            random: RefCell::new(seed | 1),
        }
    }

    fn roll(&self, bound: u64) -> u64 {
        let mut x = self.random.borrow_mut();
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        (*x >> 11) % bound.max(1)
    }

    fn pass(&self, ns: u64) {
        let jitter = self.roll(ns * 1000 / 4 + 1);
        let mut ps = ns * 1000 + jitter;
        if self.preempt.0 != 0 && self.roll(self.preempt.0) == 0 {
            ps += self.roll(self.preempt.1 * 1000);
        }
        self.ps.set(self.ps.get() + ps);
    }

    fn ticks(&self, hz: f64) -> u64 {
        (self.ps.get() as f64 * hz / 1e12) as u64
    }

    fn tsc(&self) -> u64 {
        self.pass(15);
        let ticks = u128::from(self.ps.get()) * u128::from(self.tsc_hz) / 1_000_000_000_000;
        (ticks as u64).wrapping_sub(1_000_000)
    }
}

/// A counter of the machine.
struct Chip<'a> {
    machine: &'a Machine,
    hz: f64,
    down: bool,
}

impl Counter for Chip<'_> {
    fn read(&self) -> u64 {
        self.machine.pass(self.machine.read_ns / 2);
        let ticks = self.machine.ticks(self.hz);
        self.machine.pass(self.machine.read_ns / 2);
        if self.down {
            ticks.wrapping_neg()
        } else {
            ticks
        }
    }
}

fn references(machine: &Machine) -> [Reference<Chip<'_>>; 3] {
    let chip = |hz, down| Chip { machine, hz, down };
    [
        Reference::hpet(
            chip(1e15 / 69_841_279.0, false),
            69_841_279,
            HpetWidth::Bits32,
        )
        .unwrap(),
        Reference::pm_timer(chip(3_579_545.0, false), PmWidth::Bits24),
        Reference::pit(chip(14_318_180.0 / 12.0, true)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn precise_on_a_quiet_machine(hz in 800_000_000..6_000_000_000_u64, seed: u64) {
        let machine = Machine::new(hz, 800, (0, 0), seed);
        for reference in references(&machine) {
            let found = calibrate(|| machine.tsc(), &reference, 10 * MS).unwrap();
            prop_assert!(agree(found, hz, 10), "{}: {found} for {hz}", reference.name());
        }
    }

    #[test]
    fn precise_on_a_host_that_preempts(hz in 800_000_000..6_000_000_000_u64, seed: u64) {
        // A pause of up to 2 ms in one of 3000 readings, in the midst of anything.
        let machine = Machine::new(hz, 2_500, (3_000, 2_000_000), seed);
        for reference in references(&machine) {
            let found = calibrate(|| machine.tsc(), &reference, 10 * MS).unwrap();
            prop_assert!(agree(found, hz, 20), "{}: {found} for {hz}", reference.name());
        }
    }

    /// Pauses longer than the PIT's turn: either right or refused, never wrong.
    #[test]
    fn a_lost_turn_is_noticed(hz in 800_000_000..6_000_000_000_u64, seed: u64) {
        let machine = Machine::new(hz, 2_500, (20_000, 150_000_000), seed);
        for reference in references(&machine) {
            if let Ok(found) = calibrate(|| machine.tsc(), &reference, 50 * MS) {
                prop_assert!(agree(found, hz, 200), "{}: {found} for {hz}", reference.name());
            }
        }
    }
}

#[test]
fn a_host_that_gives_the_cpu_in_pieces_is_measured_for_longer() {
    let mut noisy = 0;
    for seed in 1..40 {
        // Runs for some 2 ms, then pauses for up to 12 ms.
        let machine = || Machine::new(2_300_000_000, 2_500, (1_600, 12_000_000), seed * 7919);
        for index in 0..3 {
            let short = machine();
            let first = calibrate(|| short.tsc(), &references(&short)[index], 10 * MS);
            noisy += u32::from(first == Err(CalibrationError::TooNoisy));
            let long = machine();
            let reference = &references(&long)[index];
            let found = calibrate_patiently(|| long.tsc(), reference).unwrap();
            assert!(
                agree(found, 2_300_000_000, 500),
                "{}: {found}",
                reference.name()
            );
        }
    }
    assert!(noisy > 10, "ten milliseconds were enough, but for {noisy}");
}

#[test]
fn takes_the_time_it_was_given() {
    let machine = Machine::new(2_000_000_000, 1_000, (0, 0), 9);
    for reference in references(&machine) {
        let before = machine.ps.get();
        calibrate(|| machine.tsc(), &reference, 30 * MS).unwrap();
        let ns = (machine.ps.get() - before) / 1000;
        assert!((29 * MS..33 * MS).contains(&ns), "{ns}");
    }
}

struct Dead;

impl Counter for Dead {
    fn read(&self) -> u64 {
        0xffff
    }
}

#[test]
fn dead_counters_are_refused() {
    let machine = Machine::new(2_000_000_000, 1_000, (0, 0), 9);
    let dead = Reference::pm_timer(Dead, PmWidth::Bits24);
    let result = calibrate(|| machine.tsc(), &dead, 20 * MS);
    assert_eq!(result, Err(CalibrationError::ReferenceStuck));
    let [_, pm, _] = references(&machine);
    assert_eq!(
        calibrate(|| 77, &pm, 20 * MS),
        Err(CalibrationError::TscStuck)
    );
}

#[test]
fn implausible_rates_and_intervals_are_refused() {
    let machine = Machine::new(50_000_000, 1_000, (0, 0), 9);
    let [_, pm, _] = references(&machine);
    let result = calibrate(|| machine.tsc(), &pm, 20 * MS);
    assert!(
        matches!(result, Err(CalibrationError::Implausible(_))),
        "{result:?}"
    );
    for interval in [0, MS - 1, 201 * MS, u64::MAX] {
        let result = calibrate(|| machine.tsc(), &pm, interval);
        assert_eq!(result, Err(CalibrationError::BadInterval));
    }
}

#[test]
fn agreement_is_relative() {
    assert!(agree(1_000_000, 1_000_010, 10));
    assert!(!agree(1_000_000, 1_000_012, 10));
    assert!(agree(0, 0, 0));
}
