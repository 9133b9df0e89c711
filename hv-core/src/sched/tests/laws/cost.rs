//! What a decision costs as units grow in number: in looks at units' data, not in time.

use super::*;

/// Looks for each decision, wake-up and sleep when `count` units are runnable or sleep on and off.
fn looks(count: u32, habit: fn(u32) -> Habit, time: Nanos) -> f64 {
    let layout = Layout {
        max_cpus: 4,
        group_width: 4,
        max_units: count,
    };
    let mut sim = Sim::with_layout(layout, 1, 1021);
    for index in 0..count {
        sim.add(index as u16, Affinity::ANY, habit(index));
    }
    sim.run_until(time / 10);
    let before = (sim.looks(), sim.decisions + sim.changes);
    sim.run_until(time);
    let calls = sim.decisions + sim.changes - before.1;
    (sim.looks() - before.0) as f64 / calls as f64
}

/// Asserts that four times as many units cost only a few looks more.
fn assert_logarithmic(habit: fn(u32) -> Habit, step: f64) {
    let costs: Vec<f64> = [16, 64, 256, 1024]
        .into_iter()
        .map(|count| looks(count, habit, 8 * MS * Nanos::from(count)))
        .collect();
    for pair in costs.windows(2) {
        assert!(pair[1] - pair[0] <= step, "{costs:?}");
    }
}

#[test]
fn hogs_cost_the_logarithm_of_their_number() {
    assert_logarithmic(|_| Habit::Hog, 8.0);
}

#[test]
fn hogs_and_sleepers_cost_the_logarithm_of_their_number() {
    let mix = |index| match index % 2 {
        0 => Habit::Hog,
        _ => Habit::Bursts {
            run: 100 * US,
            pause: 100 * MS,
        },
    };
    assert_logarithmic(mix, 8.0);
}
