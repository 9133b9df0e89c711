//! A CPU that only one unit wants is left in peace, and nobody loses by it.

use super::super::sim::{Habit, MS, Sim, US};
use super::super::{Affinity, CpuSet, Credit2, Layout, Params, Scheduler};
use super::weight;
use crate::base::Nanos;

/// An hour.
const LONG: Nanos = 3_600_000 * MS;

/// Two CPUs with a hog each, which have run for long.
fn pair() -> Sim {
    let mut sim = Sim::new(2, 2, 5);
    for dom in 0..2 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(LONG);
    sim
}

/// The policy alone, its CPUs out of service.
fn policy(max_cpus: u32, group_width: u32, max_units: u32) -> Credit2 {
    Credit2::new(Layout {
        max_cpus,
        group_width,
        max_units,
    })
    .unwrap()
}

/// What each unit ran from now on, as a share of the time.
fn shares_of(sim: &mut Sim, time: Nanos) -> Vec<f64> {
    let all = 0..sim.units.len();
    let before: Vec<Nanos> = all.clone().map(|index| sim.ran(index)).collect();
    sim.run_until(sim.now + time);
    let ran = all.map(|index| (sim.ran(index) - before[index]) as f64 / time as f64);
    ran.collect()
}

fn assert_all_near(shares: &[f64], wanted: f64) {
    let near = |share: &f64| (share - wanted).abs() <= 0.02;
    assert!(shares.iter().all(near), "{shares:?}, not {wanted}");
}

#[test]
fn one_unit_on_each_cpu_needs_no_decisions() {
    let mut sim = Sim::new(8, 4, 5);
    for dom in 0..8 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    // Others of the group share a CPU: that is not the business of those.
    for cpu in [0, 0, 1, 1] {
        sim.add(9, Affinity::pinned(cpu), Habit::Hog);
    }
    sim.run_until(1_000 * MS);
    for index in 0..4 {
        sim.pause(8 + index);
    }
    sim.run_until(1_100 * MS);
    let before = sim.decisions;
    sim.run_until(LONG);
    assert_eq!(sim.decisions, before);
    for index in 0..8 {
        assert!(sim.units[index].on.is_some());
    }
}

#[test]
fn what_waits_for_another_cpu_is_no_reason_to_ask() {
    let mut sim = Sim::new(2, 2, 5);
    let lone = sim.add(0, Affinity::pinned(0), Habit::Hog);
    for dom in 1..3 {
        sim.add(dom, Affinity::pinned(1), Habit::Hog);
    }
    sim.run_until(100 * MS);
    let since = sim.units[lone].on;
    let shares = shares_of(&mut sim, 10_000 * MS);
    assert_eq!(sim.units[lone].on, since);
    assert_all_near(&shares[1..], 0.5);
}

#[test]
fn all_that_is_shared_with_a_newcomer_is_shared_at_once() {
    let mut sim = pair();
    sim.add(2, Affinity::ANY, Habit::Hog);
    sim.run_until(sim.now + 20 * MS);
    let shares = shares_of(&mut sim, 500 * MS);
    assert_all_near(&shares, 2.0 / 3.0);
    for index in 0..3 {
        let waited = sim.longest_wait(index);
        assert!(waited <= 25 * MS, "unit {index} waited {waited}");
    }
}

#[test]
fn all_cpus_hear_of_one_that_waits() {
    let mut sim = Sim::new(16, 16, 5);
    for dom in 0..16 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(LONG);
    for dom in 0..8 {
        sim.add(100 + dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(sim.now + 50 * MS);
    let shares = shares_of(&mut sim, 1_000 * MS);
    assert_all_near(&shares, 16.0 / 24.0);
}

#[test]
fn short_visits_disturb_one_cpu_only() {
    let mut sim = Sim::new(16, 16, 5);
    for dom in 0..16 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    let (run, pause) = (50 * US, 20 * MS);
    sim.add(20, Affinity::ANY, Habit::Bursts { run, pause });
    sim.run_until(1_000 * MS);
    let (decisions, changes) = (sim.decisions, sim.changes);
    sim.run_until(11_000 * MS);
    // It wakes and sleeps: it comes, it goes, and its CPU and the displaced one ask again.
    let each = (sim.decisions - decisions) as f64 / ((sim.changes - changes) as f64 / 2.0);
    assert!(each <= 5.0, "{each} decisions for each visit");
}

#[test]
fn who_wakes_while_the_rate_limit_holds_disturbs_nobody() {
    let sched = policy(1, 1, 2);
    let limit = Nanos::from(sched.ratelimit_us()) * US;
    let _ = sched.add_cpu(0, 0).unwrap();
    let _ = sched.schedule(0, 0);
    let insert = |dom| sched.insert(dom, 0, &Affinity::ANY).unwrap();
    let (runs, wakes) = (insert(1), insert(2));
    assert_eq!(sched.wake(runs, 0), Some(0));
    assert_eq!(sched.schedule(0, 0).run_for, Some(limit));
    assert_eq!(sched.wake(wakes, limit / 2), None, "it asks soon enough");
    // Alone once more, it is asked one last time.
    assert_eq!(sched.sleep(wakes), None);
    assert_eq!(sched.schedule(0, limit).run_for, None);
    assert_eq!(sched.wake(wakes, 2 * limit), Some(0), "it would never ask");
}

#[test]
fn one_that_was_alone_is_not_behind_for_it() {
    let mut sim = Sim::new(2, 2, 5);
    let lone = sim.add(0, Affinity::pinned(0), Habit::Hog);
    // These two have credit granted again and again.
    for dom in 1..3 {
        sim.add(dom, Affinity::pinned(1), Habit::Hog);
    }
    sim.run_until(100_000 * MS);
    let late = sim.add(3, Affinity::pinned(0), Habit::Hog);
    sim.run_until(sim.now + 30 * MS);
    let shares = shares_of(&mut sim, 1_000 * MS);
    assert_all_near(&shares, 0.5);
    for index in [lone, late] {
        let waited = sim.longest_wait(index);
        assert!(waited <= 25 * MS, "unit {index} waited {waited}");
    }
}

#[test]
fn a_lone_unit_with_a_cap_stops_when_its_budget_ends() {
    let mut sim = pair();
    sim.set_params(0, Params { weight: 0, cap: 30 });
    sim.run_until(sim.now + 20 * MS);
    let shares = shares_of(&mut sim, 1_000 * MS);
    assert!((shares[0] - 0.3).abs() <= 0.01, "{shares:?}");
    sim.set_params(0, weight(256));
    sim.run_until(sim.now + 20 * MS);
    let before = sim.decisions;
    assert_all_near(&shares_of(&mut sim, LONG), 1.0);
    assert!(sim.decisions - before <= 2);
}

#[test]
fn groups_that_have_a_unit_for_each_cpu_take_part_in_balance() {
    let mut sim = Sim::new(8, 4, 5);
    for dom in 0..8 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(LONG);
    let here = Affinity {
        hard: (0..4).collect(),
        soft: CpuSet::ALL,
    };
    let first = sim.units.len();
    for dom in 0..8 {
        sim.add(100 + dom, here, Habit::Hog);
    }
    sim.run_until(sim.now + 3_000 * MS);
    for index in first..sim.units.len() {
        sim.set_affinity(index, Affinity::ANY);
    }
    sim.run_until(sim.now + 2_000 * MS);
    assert_all_near(&shares_of(&mut sim, 2_000 * MS), 0.5);
}

#[test]
fn a_slice_is_paid_at_the_rate_by_which_it_was_cut() {
    let bursts = Habit::Bursts {
        run: 801 * US,
        pause: 6_040 * US,
    };
    for seed in (1..20).map(|turn| turn * 7_919) {
        // One that is heavy comes and goes: while it is there, the light one pays seventyfold.
        let mut sim = Sim::new(2, 8, seed);
        sim.sched.set_ratelimit_us(0).unwrap();
        sim.set_params(0, weight(2747));
        sim.add(0, Affinity::ANY, bursts);
        for dom in 1..4 {
            sim.add(dom, Affinity::ANY, Habit::Hog);
        }
        sim.set_params(4, weight(39));
        let light = sim.add(4, Affinity::ANY, Habit::Hog);
        sim.run_until(2_000 * MS);
        let waited = sim.longest_wait(light);
        assert!(waited <= 60 * MS, "{waited} with seed {seed}");
    }
}

#[test]
fn who_is_sent_to_another_queue_is_not_forgotten_there() {
    let sched = policy(4, 2, 8);
    let insert = |dom, affinity| sched.insert(dom, 0, &affinity).unwrap();
    for cpu in 0..4 {
        let _ = sched.add_cpu(cpu, 0).unwrap();
        let _ = sched.schedule(cpu, 0);
    }
    // One for each CPU but 2.
    for cpu in [0, 1, 3] {
        let _ = sched.wake(insert(cpu as u16, Affinity::pinned(cpu)), 0);
        let decision = sched.schedule(cpu, 0);
        assert!(decision.next.is_some());
        assert_eq!(sched.schedule(cpu, 2 * MS).run_for, None);
    }
    let sent = insert(10, Affinity::pinned(0));
    let first_there = insert(11, Affinity::pinned(2));
    assert_eq!(sched.set_affinity(sent, &Affinity::ANY, 3 * MS), Ok(None));
    assert_eq!(sched.wake(sent, 3 * MS), Some(2));
    // Before CPU 2 hears of it another comes that only it can run.
    let _ = sched.wake(first_there, 3 * MS);
    let decision = sched.schedule(2, 3 * MS + US);
    assert!(decision.next.is_some());
    assert!(decision.run_for.is_some(), "one waits for it");
    let _ = sched.schedule(3, 3 * MS + US);
    let later = sched.schedule(2, 20 * MS);
    assert!(later.next != decision.next, "by turns");
}
