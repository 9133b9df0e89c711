//! The simulated machine itself: that its habits are what they say, and one seed one course.

use crate::sched::Affinity;
use crate::sched::sim::{Habit, MS, Sim, US};

#[test]
fn a_gang_goes_from_barrier_to_barrier_together() {
    let mut sim = Sim::new(4, 4, 3);
    for _ in 0..4 {
        let run = 500 * US;
        sim.add(1, Affinity::ANY, Habit::Gang { gang: 0, run });
    }
    sim.run_until(1_000 * MS);
    // From barrier to barrier one works for the longest of four times, the others wait for it.
    for share in sim.shares() {
        assert!((0.5..0.75).contains(&share), "{share}");
    }
}

#[test]
fn of_a_pair_one_runs_at_a_time() {
    let mut sim = Sim::new(2, 2, 3);
    for peer in [1, 0] {
        let run = 50 * US;
        sim.add(1, Affinity::ANY, Habit::Rally { peer, run });
    }
    sim.run_until(100 * MS);
    let shares = sim.shares();
    assert!((shares[0] - shares[1]).abs() < 0.1, "{shares:?}");
    let sum = shares[0] + shares[1];
    assert!((0.9..1.05).contains(&sum), "{shares:?}");
}

#[test]
fn one_seed_has_one_course_of_events() {
    let course = |seed| {
        let mut sim = Sim::new(3, 4, seed);
        sim.record_spans();
        for dom in 0..5 {
            sim.add(dom, Affinity::ANY, Habit::Hog);
            let (run, pause) = (200 * US, MS);
            sim.add(dom, Affinity::ANY, Habit::Bursts { run, pause });
        }
        sim.run_until(50 * MS);
        sim.take_spans()
    };
    assert_eq!(course(1), course(1));
    assert_ne!(course(1), course(7));
}
