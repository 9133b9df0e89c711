//! What decisions cost does not grow with units that do not matter.

use super::super::sim::{Habit, MS, Sim};
use super::super::{Affinity, Scheduler};

/// Units looked at for each decision.
fn looks(sim: &mut Sim, periods: u64) -> f64 {
    let (before, decisions) = (sim.looks(), sim.decisions);
    sim.run_until(sim.now + periods * MS);
    (sim.looks() - before) as f64 / (sim.decisions - decisions) as f64
}

#[test]
fn cpus_do_not_look_through_what_is_pinned_elsewhere() {
    let cost = |pinned| {
        let mut sim = Sim::new(2, 2, 5);
        for dom in 0..pinned {
            sim.add(dom, Affinity::pinned(0), Habit::Hog);
        }
        for dom in 0..2 {
            sim.add(dom, Affinity::pinned(1), Habit::Hog);
        }
        looks(&mut sim, 500)
    };
    // Four times as many: two steps more to find a place among them.
    let (few, many) = (cost(50), cost(200));
    assert!(many < few + 30.0, "{few}, {many}");
}

#[test]
fn a_long_queue_costs_no_more_than_a_short_one() {
    let cost = |units| {
        let mut sim = Sim::new(4, 4, 5);
        for dom in 0..units {
            sim.add(dom, Affinity::ANY, Habit::Hog);
        }
        looks(&mut sim, 500)
    };
    let (few, many) = (cost(10), cost(200));
    assert!(many < few * 2.0 + 8.0, "{few}, {many}");
}

#[test]
fn idle_cpus_are_found_for_pinned_units_behind_many_others() {
    let mut sim = Sim::new(2, 2, 5);
    for dom in 0..50 {
        sim.add(dom, Affinity::pinned(0), Habit::Hog);
    }
    sim.run_until(50 * MS);
    let late = sim.add(99, Affinity::pinned(1), Habit::Hog);
    sim.run_until(100 * MS);
    assert!(sim.units[late].on.is_some_and(|(cpu, _)| cpu == 1));
    sim.set_affinity(late, Affinity::pinned(0));
    sim.run_until(200 * MS);
    sim.set_affinity(late, Affinity::ANY);
    sim.run_until(201 * MS);
    let info = sim.sched.info(sim.units[late].unit).unwrap();
    assert_eq!(info.last_cpu, 1);
}
