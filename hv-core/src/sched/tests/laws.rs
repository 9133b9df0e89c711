//! What the policy promises, with bounds. ARCHITECTURE.md has the table.

use proptest::prelude::*;

use super::{any_unit, from_mask, weight};
use crate::base::Nanos;
use crate::boot::cmdline::Credit2Options;
use crate::sched::credit::{CEILING, MIN_SLICE, WAKE_RESISTANCE};
use crate::sched::sim::{Habit, KICK, MS, SAVE, Sim, US, fair_shares};
use crate::sched::{Affinity, Layout, Scheduler};

mod cost;
mod waking;

/// From the time at which a CPU should change to a unit until it does: it is told, and may be
/// saving the state of another one.
const SWITCH: Nanos = KICK + SAVE;

/// A sleep of any length but for good, or none.
fn any_habit() -> impl Strategy<Value = Habit> {
    prop_oneof![
        2 => Just(Habit::Hog),
        1 => (10..5_000_u64, 10..20_000_u64).prop_map(|(run, pause)| Habit::Bursts {
            run: run * US,
            pause: pause * US
        }),
    ]
}

fn any_adversary() -> impl Strategy<Value = Habit> {
    prop_oneof![
        (1..400_u64, 1..400_u64).prop_map(|(margin, pause)| Habit::Dodger {
            margin: margin * US,
            pause: pause * US
        }),
        (1..20_u64, 1..400_u64).prop_map(|(period, margin)| Habit::TickDodger {
            period: period * MS,
            margin: margin * US
        }),
    ]
}

/// The longest wait of a unit of weight `own` among `others` (weight, and whether it never
/// sleeps) on `cpus` CPUs with one queue.
///
/// A unit stops when it is behind the best that waits, which takes it no longer than the rate
/// limit or the shortest slice: so it waits with that much less credit than the best. The others
/// have at most `CEILING`, and come first until they are behind it, each by one shortest slice at
/// most, and a switch of context. A reset changes no difference but in its favour.
fn longest_wait(own: u16, others: &[(u16, bool)], cpus: u32, limit: Nanos) -> Nanos {
    let slice = limit.max(MIN_SLICE) as f64;
    let constant = others.iter().filter(|(_, constant)| *constant);
    // Credit burns at the rate of the heaviest unit that competes, which may be asleep later.
    let low = constant
        .map(|(weight, _)| *weight)
        .max()
        .unwrap_or(own)
        .max(own);
    let high = others
        .iter()
        .map(|(weight, _)| *weight)
        .max()
        .unwrap_or(own)
        .max(own);
    let resistance = i64::from(Credit2Options::default().migrate_resist) * US as i64;
    let behind = (CEILING + resistance) as f64 + slice * f64::from(high) / f64::from(own);
    let each = |(weight, _): &(u16, bool)| {
        let time = f64::from(*weight) / f64::from(low);
        behind * time.min(1.0) + slice + SWITCH as f64
    };
    let work: f64 = others.iter().map(each).sum();
    // The quarter is measured and not derived.
    (1.25 * (work / f64::from(cpus) + slice)) as Nanos + SWITCH
}

fn habit_and_weight() -> impl Strategy<Value = (Habit, u16)> {
    let weight = prop_oneof![Just(256_u16), 16..4096_u16];
    (any_habit(), weight)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// No unit waits beside an idle CPU on which it may run for longer than it takes to save its
    /// state elsewhere and to tell the CPU.
    #[test]
    fn no_cpu_idles_beside_a_unit_that_waits(
        (cpus, width, units) in (1..8_u32, 0..4_u32).prop_flat_map(|(cpus, width)| (
            Just(cpus),
            Just(1 << width),
            prop::collection::vec(any_unit(cpus), 1..14),
        )),
        seed: u64,
    ) {
        let mut sim = Sim::new(cpus, width, seed);
        for (dom, (habit, hard, soft, share)) in units.iter().enumerate() {
            sim.set_params(dom as u16, weight(*share));
            let affinity = Affinity { hard: from_mask(*hard), soft: from_mask(*soft) };
            sim.add(dom as u16, affinity, *habit);
        }
        // Until all CPUs are in service, which takes one kick.
        sim.run_until(800 * MS);
        let worst = sim.worst_wait_beside_idle();
        prop_assert!(worst <= BESIDE_IDLE, "{worst}");
    }

    /// Those who always run and share a queue get what their weights say in ten seconds, to one
    /// percent; to one slice where that is more.
    #[test]
    fn weights_are_kept_to_one_percent(
        (cpus, weights) in (1..6_u32).prop_flat_map(|cpus| (
            Just(cpus),
            prop::collection::vec(16..4096_u16, 2..cpus as usize + 8),
        )),
        seed: u64,
    ) {
        for (index, (got, fair)) in ten_seconds(cpus, &weights, seed).iter().enumerate() {
            let allowed = (fair * 0.01).max(SLICE_OF_TEN_SECONDS);
            prop_assert!((got - fair).abs() <= allowed, "unit {index}: {got:.5}, not {fair:.5}");
        }
    }

    /// Nobody waits for longer than follows from the number and the weights of the others.
    #[test]
    fn nobody_starves(
        cpus in 1..5_u32,
        units in prop::collection::vec(habit_and_weight(), 2..12),
        limit in prop_oneof![Just(1000_u32), Just(0), 100..5000_u32],
        seed: u64,
    ) {
        let mut sim = Sim::new(cpus, 8, seed);
        sim.sched.set_ratelimit_us(limit).unwrap();
        for (dom, (habit, share)) in units.iter().enumerate() {
            sim.set_params(dom as u16, weight(*share));
            sim.add(dom as u16, Affinity::ANY, *habit);
        }
        sim.run_until(4_000 * MS);
        for (index, (_, own)) in units.iter().enumerate() {
            let others: Vec<_> = (units.iter().enumerate())
                .filter(|(other, _)| *other != index)
                .map(|(_, (habit, share))| (*share, *habit == Habit::Hog))
                .collect();
            let bound = longest_wait(*own, &others, cpus, u64::from(limit) * US);
            let waited = sim.longest_wait(index);
            prop_assert!(waited <= bound, "unit {index} waited {waited}, bound {bound}");
        }
    }

    /// To sleep at the right moments brings nobody more than one percent above its share.
    #[test]
    fn who_dodges_accounting_gains_nothing(
        cpus in 1..4_u32,
        hogs in 1..6_usize,
        adversaries in prop::collection::vec(any_adversary(), 1..4),
        seed: u64,
    ) {
        let mut sim = Sim::new(cpus, 8, seed);
        for dom in 0..hogs {
            sim.add(dom as u16, Affinity::ANY, Habit::Hog);
        }
        for (dom, habit) in adversaries.iter().enumerate() {
            sim.add((hogs + dom) as u16, Affinity::ANY, *habit);
        }
        sim.run_until(10_000 * MS);
        // What one adversary leaves by sleeping too long is everybody's: hogs tell what is fair.
        let shares = sim.shares();
        let fair = shares[..hogs].iter().sum::<f64>() / hogs as f64;
        for (index, got) in shares.iter().enumerate().skip(hogs) {
            prop_assert!(got / fair <= 1.01, "unit {index} got {got:.5}, hogs {fair:.5}");
        }
    }
}

/// Its state is saved, then a CPU is told; and another one when that has taken another unit.
const BESIDE_IDLE: Nanos = SAVE + 2 * KICK;
/// A time slice of 1 ms, the rate limit, as a share: nobody can stop in the middle of it.
const SLICE_OF_TEN_SECONDS: f64 = 1e-4;

/// What hogs of these weights got in ten seconds, and what they deserve.
fn ten_seconds(cpus: u32, weights: &[u16], seed: u64) -> Vec<(f64, f64)> {
    let mut sim = Sim::new(cpus, 8, seed);
    for (dom, share) in weights.iter().enumerate() {
        sim.set_params(dom as u16, weight(*share));
        sim.add(dom as u16, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(MS);
    let before: Vec<_> = (0..weights.len()).map(|index| sim.ran(index)).collect();
    sim.run_until(10_001 * MS);
    let got = (0..weights.len()).map(|index| (sim.ran(index) - before[index]) as f64 / 1e10);
    got.zip(fair_shares(weights, cpus)).collect()
}

/// Units that deserve nearly a CPU each are ahead of each other by turns, by more than a
/// millisecond or two: a reset must not take that from them, for the light ones would have it.
#[test]
fn units_that_deserve_nearly_a_cpu_lose_nothing_at_resets() {
    for seed in 1..4 {
        for (got, fair) in ten_seconds(4, &[797, 1419, 1129, 168, 634], seed) {
            assert!(
                (got - fair).abs() <= 0.003 * fair,
                "{got:.5}, not {fair:.5}"
            );
        }
    }
}
