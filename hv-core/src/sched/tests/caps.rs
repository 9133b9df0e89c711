//! Caps: no domain runs for longer than it may, nor for less while it could.

use proptest::prelude::*;

use super::super::budget::MIN_TAKE;
use super::super::sim::{Habit, MS, Sim, US};
use super::super::{Affinity, CpuSet, Params, Place, Scheduler};
use super::{from_mask, weight};
use crate::base::{DomId, Nanos};

const PERIOD: Nanos = 10 * MS;
/// How late a simulated CPU may ask: it saves a unit first.
const LATE: Nanos = 20 * US;

fn cap(cap: u16) -> Params {
    Params { weight: 256, cap }
}

/// Domain 1 with as many hogs and this cap.
fn capped(cpus: u32, width: u32, hogs: usize, percent: u16) -> Sim {
    let mut sim = Sim::new(cpus, width, 7);
    sim.set_params(1, cap(percent));
    for _ in 0..hogs {
        sim.add(1, Affinity::ANY, Habit::Hog);
    }
    sim
}

/// What a domain's units ran so far.
fn ran(sim: &Sim, dom: DomId) -> Nanos {
    let of_dom = |unit: &&super::super::sim::SimUnit| {
        let info = sim.sched.info(unit.unit);
        info.is_some_and(|info| info.dom == dom)
    };
    let ran = |unit: &super::super::sim::SimUnit| {
        unit.ran + unit.on.map_or(0, |(_, since)| sim.now - since)
    };
    sim.units.iter().filter(of_dom).map(ran).sum()
}

/// Runs for whole periods; in none does domain `dom` run for longer than `percent` allow, by more
/// than the shortest slice and what CPUs come late. Returns its share of one CPU.
fn run_periods(sim: &mut Sim, dom: DomId, percent: u16, periods: u64) -> f64 {
    sim.run_until(sim.now.next_multiple_of(PERIOD));
    let first = ran(sim, dom);
    let mut before = first;
    for _ in 0..periods {
        sim.run_until(sim.now + PERIOD);
        let after = ran(sim, dom);
        let most = u64::from(percent) * PERIOD / 100 + MIN_TAKE + 8 * LATE;
        assert!(
            after - before <= most,
            "{} in one period at {}",
            after - before,
            sim.now
        );
        before = after;
    }
    (before - first) as f64 / (periods * PERIOD) as f64
}

fn assert_share(share: f64, percent: u16) {
    let wanted = f64::from(percent) / 100.0;
    assert!(
        (share - wanted).abs() <= wanted * 0.01,
        "{share}, not {wanted}"
    );
}

#[test]
fn a_lone_hog_gets_its_cap_and_the_machine_idles_meanwhile() {
    for percent in [1, 10, 25, 50, 99] {
        let mut sim = capped(2, 8, 1, percent);
        assert_share(run_periods(&mut sim, 1, percent, 200), percent);
    }
}

#[test]
fn a_cap_holds_beside_hogs_without_and_they_get_the_rest() {
    for (cpus, width, hogs) in [(1, 8, 1), (2, 8, 2), (4, 2, 4), (4, 1, 4)] {
        let mut sim = capped(cpus, width, 1, 25);
        for _ in 0..hogs {
            sim.add(2, Affinity::ANY, Habit::Hog);
        }
        assert_share(run_periods(&mut sim, 1, 25, 400), 25);
        let rest = ran(&sim, 2) as f64 / sim.now as f64;
        assert!(rest > f64::from(cpus) - 0.27, "{rest} of {cpus} CPUs");
    }
}

#[test]
fn several_units_share_a_cap_above_one_cpu_in_all_groups() {
    for width in [1, 2, 8] {
        let mut sim = capped(4, width, 4, 150);
        assert_share(run_periods(&mut sim, 1, 150, 200), 150);
        for (index, share) in sim.shares().iter().enumerate() {
            assert!((0.33..0.42).contains(share), "unit {index} got {share}");
        }
    }
}

#[test]
fn a_small_cap_of_many_units_is_kept_and_shared() {
    let mut sim = capped(2, 8, 12, 20);
    assert_share(run_periods(&mut sim, 1, 20, 600), 20);
    for (index, share) in sim.shares().iter().enumerate() {
        assert!(*share > 0.008, "unit {index} got {share}");
    }
}

#[test]
fn the_rate_limit_does_not_override_a_cap() {
    let mut sim = capped(1, 8, 1, 25);
    sim.sched.set_ratelimit_us(100_000).unwrap();
    sim.add(2, Affinity::ANY, Habit::Hog);
    let share = run_periods(&mut sim, 1, 25, 400);
    assert!(share <= 0.2501, "{share}");
}

#[test]
fn two_caps_are_kept_at_once() {
    let mut sim = capped(2, 8, 2, 70);
    sim.set_params(2, cap(30));
    for _ in 0..2 {
        sim.add(2, Affinity::ANY, Habit::Hog);
    }
    assert_share(run_periods(&mut sim, 1, 70, 300), 70);
    assert_share(run_periods(&mut sim, 2, 30, 300), 30);
}

#[test]
fn a_cap_can_be_raised_and_taken_away_while_units_wait_for_it() {
    let mut sim = capped(1, 8, 1, 10);
    sim.run_until(5 * PERIOD + 5 * MS);
    assert_eq!(
        sim.sched.info(sim.units[0].unit).unwrap().place,
        Place::Parked
    );
    sim.set_params(1, cap(50));
    assert_eq!(sim.sched.params(1), cap(50));
    assert_share(run_periods(&mut sim, 1, 50, 100), 50);
    sim.run_until(sim.now + 8 * MS);
    sim.set_params(1, cap(0));
    assert_share(run_periods(&mut sim, 1, 100, 100), 100);
    // A cap on one that runs takes hold when its slice ends, and the excess is paid for.
    sim.run_until(sim.now + 3 * MS);
    sim.set_params(1, cap(20));
    sim.run_until(sim.now + 10 * PERIOD);
    assert_share(run_periods(&mut sim, 1, 20, 100), 20);
}

#[test]
fn budgets_outlive_the_cpu_that_keeps_the_time() {
    for width in [1, 2, 8] {
        let mut sim = capped(3, width, 2, 60);
        sim.run_until(3 * PERIOD + 9 * MS);
        for cpu in [0, 1] {
            sim.set_online(cpu, false);
            assert_share(run_periods(&mut sim, 1, 60, 100), 60);
            sim.run_until(sim.now + 9 * MS);
        }
        sim.set_online(0, true);
        sim.set_online(2, false);
        assert_share(run_periods(&mut sim, 1, 60, 100), 60);
    }
}

#[test]
fn parked_units_follow_their_affinity() {
    let mut sim = capped(4, 2, 1, 10);
    sim.run_until(4 * PERIOD + 5 * MS);
    assert_eq!(
        sim.sched.info(sim.units[0].unit).unwrap().place,
        Place::Parked
    );
    for cpu in [3, 0, 2, 1] {
        sim.set_affinity(0, Affinity::pinned(cpu));
        assert_share(run_periods(&mut sim, 1, 10, 50), 10);
        let info = sim.sched.info(sim.units[0].unit).unwrap();
        assert_eq!(info.last_cpu, cpu);
        sim.run_until(sim.now + 5 * MS);
    }
}

#[test]
fn a_parked_unit_can_sleep_wake_and_be_removed() {
    let mut sim = capped(1, 8, 1, 10);
    sim.run_until(5 * MS);
    let unit = sim.units[0].unit;
    let place = |sim: &Sim| sim.sched.info(unit).unwrap().place;
    assert_eq!(place(&sim), Place::Parked);
    sim.pause(0);
    assert_eq!(place(&sim), Place::Asleep);
    sim.unpause(0);
    sim.run_until(6 * MS);
    assert_eq!(place(&sim), Place::Parked, "sleep does not help");
    sim.run_until(PERIOD);
    assert_eq!(place(&sim), Place::Running(0));
    sim.run_until(15 * MS);
    sim.pause(0);
    sim.run_until(3 * PERIOD);
    sim.sched.remove(unit).unwrap();
    sim.sched.forget_domain(1);
    assert_eq!(sim.sched.params(1), weight(256));
}

#[test]
fn budgets_are_used_again() {
    let sim = Sim::new(1, 8, 1);
    let sched = &sim.sched;
    for round in 0..3 {
        for dom in 0..256 {
            sched.set_params(dom, cap(10)).unwrap();
        }
        assert!(sched.set_params(256, cap(10)).is_err(), "round {round}");
        assert_eq!(sched.params(256), weight(256));
        let unit = sched.insert(9, 0, &Affinity::ANY).unwrap();
        sched.forget_domain(9);
        assert!(sched.set_params(256, cap(10)).is_err(), "its unit has it");
        sched.remove(unit).unwrap();
        sched.set_params(256, cap(10)).unwrap();
        for dom in 0..257 {
            sched.forget_domain(dom);
        }
    }
}

#[test]
fn an_idle_cpu_keeps_the_time_and_only_one_does() {
    let sim = {
        let mut sim = Sim::new(2, 8, 5);
        sim.run_until(MS);
        sim
    };
    let sched = &sim.sched;
    sched.set_params(1, cap(10)).unwrap();
    let unit = sched.insert(1, 0, &Affinity::ANY).unwrap();
    let cpu = sched.wake(unit, 2 * MS).unwrap();
    let decision = sched.schedule(cpu, 2 * MS);
    assert_eq!((decision.next, decision.run_for), (Some(unit), Some(MS)));
    let decision = sched.schedule(cpu, 3 * MS);
    assert_eq!(
        (decision.next, decision.save, decision.run_for),
        (None, Some(unit), Some(7 * MS))
    );
    assert_eq!(sched.context_saved(cpu, unit, 3 * MS), None);
    assert_eq!(sched.schedule(1 - cpu, 4 * MS).run_for, None);
    // It sleeps and wakes while it is parked: nobody need look.
    let _ = sched.sleep(unit);
    assert_eq!(sched.schedule(cpu, 5 * MS).run_for, None);
    assert_eq!(sched.wake(unit, 5 * MS), Some(cpu));
    assert_eq!(sched.schedule(cpu, 5 * MS).run_for, Some(5 * MS));
    let _ = sched.sleep(unit);
    assert_eq!(sched.wake(unit, 6 * MS), None);
    let decision = sched.schedule(cpu, 10 * MS);
    assert_eq!((decision.next, decision.run_for), (Some(unit), Some(MS)));
}

#[test]
fn a_cpu_with_more_to_tell_than_one_asks_again() {
    let mut sim = Sim::new(3, 4, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let add = |dom, cpus: &[u32], percent| {
        sched.set_params(dom, cap(percent)).unwrap();
        let hard = cpus.iter().copied().collect();
        let soft = CpuSet::ALL;
        sched.insert(dom, 0, &Affinity { hard, soft }).unwrap()
    };
    let runs = |cpu, unit, at| {
        assert_eq!(sched.wake(unit, at), Some(cpu));
        assert_eq!(sched.schedule(cpu, at).next, Some(unit));
    };
    let leaves = |cpu, unit, at| {
        let decision = sched.schedule(cpu, at);
        assert_eq!((decision.next, decision.save), (None, Some(unit)));
        assert_eq!(sched.context_saved(cpu, unit, at), None);
    };
    let (far, near) = (add(1, &[1], 10), add(2, &[0], 10));
    let (roamer, pinned) = (add(3, &[0, 2], 0), add(4, &[0], 0));
    runs(0, roamer, MS);
    let _ = sched.sleep(roamer);
    let _ = sched.unload(roamer);
    leaves(0, roamer, 2 * MS);
    // CPU 0 keeps the time for both; the unit for CPU 1 is the first.
    runs(0, near, 2 * MS);
    runs(1, far, 2 * MS);
    leaves(0, near, 3 * MS);
    leaves(1, far, 3 * MS);
    let _ = sched.sleep(near);
    assert_eq!(sched.wake(near, 4 * MS), None);
    // At the new period CPU 0 takes one unit, has another for CPU 1, and sends for a third.
    assert_eq!(sched.wake(roamer, PERIOD), Some(0));
    assert_eq!(sched.wake(pinned, PERIOD), None);
    let decision = sched.schedule(0, PERIOD);
    assert_eq!((decision.next, decision.kick), (Some(pinned), Some(1)));
    assert_eq!(decision.run_for, Some(0));
    let decision = sched.schedule(0, PERIOD);
    assert_eq!((decision.next, decision.kick), (Some(pinned), Some(2)));
    assert_eq!(sched.schedule(1, PERIOD).next, Some(far));
    assert_eq!(sched.schedule(2, PERIOD).next, Some(roamer));
}

#[test]
fn a_new_period_reaches_every_cpu_one_by_one() {
    let mut sim = Sim::new(4, 4, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let units = [0, 1, 2, 3].map(|cpu: u32| {
        let dom = cpu as DomId;
        sched.set_params(dom, cap(10)).unwrap();
        let unit = sched.insert(dom, 0, &Affinity::pinned(cpu)).unwrap();
        assert_eq!(sched.wake(unit, MS), Some(cpu));
        assert_eq!(sched.schedule(cpu, MS).next, Some(unit));
        unit
    });
    for (cpu, unit) in (0..).zip(units) {
        assert_eq!(sched.schedule(cpu, 2 * MS).save, Some(unit));
        assert_eq!(sched.context_saved(cpu, unit, 2 * MS), None);
    }
    for (cpu, run_for) in [(1, 0), (2, 0), (3, MS)] {
        let decision = sched.schedule(0, PERIOD);
        assert_eq!(decision.next, Some(units[0]));
        assert_eq!(
            (decision.kick, decision.run_for),
            (Some(cpu), Some(run_for))
        );
    }
    for cpu in 1..4_u32 {
        let decision = sched.schedule(cpu, PERIOD);
        assert_eq!(decision.next, Some(units[cpu as usize]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever units do, no domain runs in a period for longer than its cap allows; hogs that
    /// nothing else hinders get all of it.
    #[test]
    fn no_domain_exceeds_its_cap(
        (cpus, width) in (1..6_u32, 0..4_u32),
        caps in prop::collection::vec((1..300_u16, 1..5_usize, 0..3_u8), 1..4),
        seed: u64,
    ) {
        let mut sim = Sim::new(cpus, 1 << width, seed);
        for (dom, &(percent, units, kind)) in caps.iter().enumerate() {
            sim.set_params(dom as u16, cap(percent));
            for _ in 0..units {
                let habit = match kind {
                    0 => Habit::Hog,
                    1 => Habit::Bursts { run: 3 * MS, pause: MS },
                    _ => Habit::Bursts { run: 100 * US, pause: 50 * US },
                };
                let mask = 1 + sim.dice.roll((1 << cpus) - 1);
                let hard = if kind == 0 { CpuSet::ALL } else { from_mask(mask) };
                sim.add(dom as u16, Affinity { hard, soft: CpuSet::ALL }, habit);
            }
        }
        let mut before = vec![0; caps.len()];
        for period in 1..200_u64 {
            sim.run_until(period * PERIOD);
            for (dom, &(percent, ..)) in caps.iter().enumerate() {
                let after = ran(&sim, dom as u16);
                let most = u64::from(percent) * PERIOD / 100 + MIN_TAKE + 8 * LATE;
                prop_assert!(
                    after - before[dom] <= most,
                    "domain {dom}: {} in period {period}", after - before[dom]
                );
                before[dom] = after;
            }
        }
        let units: usize = caps.iter().map(|&(_, units, _)| units).sum();
        for (dom, &(percent, units_of_dom, kind)) in caps.iter().enumerate() {
            let share = before[dom] as f64 / (199 * PERIOD) as f64;
            let wanted = f64::from(percent).min(100.0 * units_of_dom as f64) / 100.0;
            if units <= cpus as usize && kind == 0 && caps.iter().all(|&(.., kind)| kind == 0) {
                prop_assert!((share - wanted).abs() <= wanted * 0.01 + 0.002, "{share} not {wanted}");
            }
        }
    }
}
