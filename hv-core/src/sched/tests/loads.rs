//! Average loads, balancing between groups, and what speaks against a move.

use super::super::sim::{Habit, MS, Sim, SimUnit};
use super::super::{Affinity, CpuSet, Credit2, Position, Scheduler};
use super::weight;
use crate::base::Nanos;
use crate::boot::cmdline::{Credit2Options, RunQueueBy};

/// One run queue for each CPU.
fn apart(options: &Credit2Options, cpus: u32) -> Credit2 {
    let position = |core| Position { socket: 0, core };
    let options = Credit2Options {
        run_queue: RunQueueBy::Cpu,
        ..options.clone()
    };
    Credit2::for_machine(cpus, &position, 64, &options).unwrap()
}

/// How many of the units are at home with each of two CPUs.
fn homes(sim: &Sim) -> [usize; 2] {
    [0, 1].map(|queue| {
        let at_home = |unit: &&SimUnit| sim.sched.info(unit.unit).unwrap().queue == queue;
        sim.units.iter().filter(at_home).count()
    })
}

/// A hog on CPU 0; on CPU 1 there are as many as asked for, which have slept for two seconds
/// before, and may run anywhere from then on.
fn crowd(options: &Credit2Options, hogs: usize) -> Sim {
    let mut sim = Sim::with(apart(options, 2), 2, 7);
    sim.add(0, Affinity::pinned(0), Habit::Hog);
    for _ in 0..hogs {
        let index = sim.add(1, Affinity::pinned(1), Habit::Hog);
        sim.pause(index);
    }
    sim.run_until(2_000 * MS);
    for index in 1..=hogs {
        sim.unpause(index);
    }
    sim.run_until(sim.now + 10 * MS);
    for index in 1..=hogs {
        sim.set_affinity(index, Affinity::ANY);
    }
    sim
}

#[test]
fn a_crowd_is_divided_once_it_has_lasted() {
    let mut sim = crowd(&Credit2Options::default(), 3);
    sim.run_until(sim.now + 200 * MS);
    assert_eq!(homes(&sim), [1, 3], "a short crowd stays together");
    sim.run_until(sim.now + 2_800 * MS);
    assert_eq!(homes(&sim), [2, 2]);
    let before = sim.migrations;
    sim.run_until(sim.now + 3_000 * MS);
    assert_eq!(sim.migrations, before, "and there it ends");
}

#[test]
fn the_window_says_how_long_a_crowd_must_last() {
    let options = Credit2Options {
        load_window_shift: 23,
        ..Credit2Options::default()
    };
    let mut sim = crowd(&options, 3);
    sim.run_until(sim.now + 100 * MS);
    assert_eq!(homes(&sim), [2, 2]);
}

#[test]
fn without_a_fraction_small_loads_are_all_or_nothing() {
    // 256 in fractions of the precision: a load is known to 1/256 of a vCPU at best.
    let load_after = |precision| {
        let options = Credit2Options {
            load_precision_shift: precision,
            balance_over: -16,
            ..Credit2Options::default()
        };
        apart(&options, 2).rules.scale.tolerance(u64::MAX)
    };
    assert_eq!(
        (load_after(18), load_after(8), load_after(0)),
        (1 << 10, 1, 0)
    );
}

#[test]
fn an_uneven_rest_stays_where_it_is() {
    let mut sim = crowd(&Credit2Options::default(), 4);
    sim.run_until(sim.now + 2_000 * MS);
    assert_eq!(homes(&sim), [2, 3]);
    let before = sim.migrations;
    sim.run_until(sim.now + 3_000 * MS);
    assert_eq!(sim.migrations, before);
}

#[test]
fn differences_up_to_the_tolerance_are_left() {
    let options = Credit2Options {
        balance_over: 2,
        ..Credit2Options::default()
    };
    let mut sim = crowd(&options, 3);
    sim.run_until(sim.now + 3_000 * MS);
    assert_eq!(homes(&sim), [1, 3]);
}

/// Where one unit of weight 64 on CPU 0 and three on CPU 1 are after a time, free to go: each load
/// is below that of one usual unit.
fn light(options: &Credit2Options) -> [usize; 2] {
    let mut sim = Sim::with(apart(options, 2), 2, 3);
    sim.set_params(1, weight(64));
    sim.add(1, Affinity::pinned(0), Habit::Hog);
    for _ in 0..3 {
        sim.add(1, Affinity::pinned(1), Habit::Hog);
    }
    sim.run_until(2_000 * MS);
    for index in 1..4 {
        sim.set_affinity(index, Affinity::ANY);
    }
    sim.run_until(sim.now + 1_000 * MS);
    homes(&sim)
}

#[test]
fn light_loads_have_a_tolerance_of_their_own() {
    let options = Credit2Options::default();
    assert_eq!(light(&options), [1, 3]);
    let options = Credit2Options {
        balance_under: -3,
        ..options
    };
    assert_eq!(light(&options), [2, 2]);
}

fn settle(sched: &Credit2, cpus: u32) {
    for cpu in 0..cpus {
        let _ = sched.add_cpu(cpu, 0).unwrap();
        assert_eq!(sched.schedule(cpu, 0).next, None);
    }
}

#[test]
fn new_units_are_spread_before_any_runs() {
    let sched = apart(&Credit2Options::default(), 3);
    settle(&sched, 3);
    let units: Vec<_> = (0..6)
        .map(|dom| sched.insert(dom, 0, &Affinity::ANY).unwrap())
        .collect();
    // Each wakes where it is at home, and no other keeps it from there.
    for (unit, cpu) in units.into_iter().zip([0, 1, 2, 0, 1, 2]) {
        assert_eq!(sched.wake(unit, 0), Some(cpu));
        assert_eq!(sched.schedule(cpu, 0).next, Some(unit));
        let _ = sched.sleep(unit);
        let _ = sched.unload(unit);
        let decision = sched.schedule(cpu, 0);
        assert_eq!(decision.save, Some(unit));
        let _ = sched.context_saved(cpu, unit, 0);
    }
}

#[test]
fn a_waking_unit_goes_where_it_has_been_quiet() {
    let mut sim = Sim::with(apart(&Credit2Options::default(), 4), 4, 7);
    // CPU 0 is taken; CPU 1 has worked much of late, CPU 3 little, CPU 2 most.
    sim.add(0, Affinity::pinned(0), Habit::Hog);
    for (cpu, run) in [(1, 5), (2, 9), (3, 1)] {
        let habit = Habit::Bursts {
            run: run * MS,
            pause: (10 - run) * MS,
        };
        sim.add(cpu as u16, Affinity::pinned(cpu), habit);
    }
    let waker = sim.add(9, Affinity::pinned(0), Habit::Hog);
    sim.pause(waker);
    sim.run_until(1_000 * MS);
    for index in 1..4 {
        sim.pause(index);
    }
    sim.run_until(sim.now + MS);
    sim.set_affinity(waker, Affinity::ANY);
    let unit = sim.units[waker].unit;
    assert_eq!(sim.sched.wake(unit, sim.now), Some(3));
}

#[test]
fn what_was_moved_for_balance_is_not_moved_back_at_once() {
    // Averages that forget at once, and weights that make now one CPU heavy, now the other.
    let options = Credit2Options {
        load_window_shift: 10,
        ..Credit2Options::default()
    };
    let mut sim = Sim::with(apart(&options, 2), 2, 7);
    for (dom, cpu) in [(0, 0), (1, 1)] {
        sim.add(dom, Affinity::pinned(cpu), Habit::Hog);
    }
    let roamer = sim.add(2, Affinity::ANY, Habit::Hog);
    let mut moves: Vec<Nanos> = Vec::new();
    let home = |sim: &Sim| sim.sched.info(sim.units[roamer].unit).unwrap().queue;
    for turn in 0..200_u16 {
        let heavy = turn % 2;
        sim.set_params(heavy, weight(2048));
        sim.set_params(1 - heavy, weight(256));
        for _ in 0..30 {
            let before = home(&sim);
            sim.run_until(sim.now + MS);
            if home(&sim) != before {
                moves.push(sim.now);
            }
        }
    }
    assert!(moves.len() > 10, "it is moved where it is better off");
    for pair in moves.windows(2) {
        assert!(pair[1] - pair[0] >= 99 * MS, "{pair:?}");
    }
}

#[test]
fn resistance_keeps_units_on_their_cpus() {
    let migrations = |migrate_resist| {
        let options = Credit2Options {
            migrate_resist,
            run_queue: RunQueueBy::All,
            ..Credit2Options::default()
        };
        let position = |_| Position { socket: 0, core: 0 };
        let sched = Credit2::for_machine(2, &position, 16, &options).unwrap();
        let mut sim = Sim::with(sched, 2, 7);
        for dom in 0..5 {
            sim.add(dom, Affinity::ANY, Habit::Hog);
        }
        sim.run_until(2_000 * MS);
        let fair = sim.shares().iter().all(|share| (0.3..0.5).contains(share));
        assert!(fair, "{:?}", sim.shares());
        sim.migrations
    };
    let (none, usual, strong) = (migrations(0), migrations(500), migrations(4_000));
    assert!(none > usual && usual > strong, "{none}, {usual}, {strong}");
}

#[test]
fn hard_affinity_outweighs_every_load() {
    let mut sim = crowd(&Credit2Options::default(), 4);
    for index in 1..=4 {
        sim.set_affinity(
            index,
            Affinity {
                hard: CpuSet::single(1),
                soft: CpuSet::ALL,
            },
        );
    }
    sim.run_until(sim.now + 2_000 * MS);
    assert_eq!(homes(&sim), [1, 4]);
}

/// 128 CPUs in eight groups.
fn large_machine(units: u32) -> Sim {
    let position = |cpu| Position {
        socket: cpu / 16,
        core: cpu / 2 % 8,
    };
    let sched = Credit2::for_machine(128, &position, units, &Credit2Options::default()).unwrap();
    Sim::with(sched, 128, 7)
}

/// Units at home with each of the eight groups.
fn homes_of_eight(sim: &Sim) -> [usize; 8] {
    let mut homes = [0; 8];
    for unit in &sim.units {
        homes[usize::from(sim.sched.info(unit.unit).unwrap().queue)] += 1;
    }
    homes
}

#[test]
fn who_is_made_before_any_runs_finds_all_groups() {
    let mut sim = large_machine(256);
    for dom in 0..256 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(500 * MS);
    let homes = homes_of_eight(&sim);
    assert!(
        homes.iter().all(|count| (31..=33).contains(count)),
        "{homes:?}"
    );
    for index in 0..sim.units.len() {
        let waited = sim.longest_wait(index);
        assert!(waited <= 12 * MS, "unit {index} waited {waited}");
    }
}

#[test]
fn sleepers_made_one_by_one_are_spread_though_none_weighs() {
    let mut sim = large_machine(64);
    for dom in 0..64 {
        let index = sim.add(dom, Affinity::ANY, Habit::Hog);
        sim.pause(index);
        // Longer than loads are remembered for.
        sim.run_until(sim.now + 2_000 * MS);
    }
    assert_eq!(homes_of_eight(&sim), [8; 8]);
}

#[test]
fn a_crowd_of_one_group_is_spread_within_half_a_second() {
    let mut sim = large_machine(256);
    let first: CpuSet = (0..16).collect();
    let there = Affinity {
        hard: first,
        soft: CpuSet::ALL,
    };
    for dom in 0..256 {
        sim.add(dom, there, Habit::Hog);
    }
    sim.run_until(20 * MS);
    assert_eq!(homes_of_eight(&sim)[0], 256);
    for index in 0..256 {
        sim.set_affinity(index, Affinity::ANY);
    }
    sim.run_until(sim.now + 500 * MS);
    let homes = homes_of_eight(&sim);
    assert!(
        homes.iter().all(|count| (30..=34).contains(count)),
        "{homes:?}"
    );
}

#[test]
fn an_average_goes_on_while_nothing_changes() {
    let mut sim = Sim::with(apart(&Credit2Options::default(), 3), 3, 7);
    // One that has run for long without a decision, and one that has slept as long.
    sim.add(0, Affinity::pinned(0), Habit::Hog);
    let quiet = sim.add(1, Affinity::pinned(1), Habit::Hog);
    sim.add(2, Affinity::pinned(2), Habit::Hog);
    sim.run_until(2_000 * MS);
    sim.pause(quiet);
    sim.run_until(4_000 * MS);
    let scale = sim.sched.rules.scale;
    let loads = [0, 1, 2].map(|queue| {
        let load = sim.sched.bays[queue].hints.load(sim.now, &scale);
        // In thousandths of one unit, rounded.
        (load as f64 * 1000.0 / scale.steady(256) as f64).round() as u32
    });
    assert_eq!(loads, [1000, 0, 1000]);
}

#[test]
fn groups_that_nobody_can_go_to_do_not_stop_balance() {
    let mut sim = Sim::with(apart(&Credit2Options::default(), 3), 3, 7);
    // CPU 2 is the idlest, and not for these.
    let two: CpuSet = (0..2).collect();
    let both = Affinity {
        hard: two,
        soft: CpuSet::ALL,
    };
    sim.add(0, Affinity::pinned(0), Habit::Hog);
    for _ in 0..3 {
        sim.add(1, Affinity::pinned(1), Habit::Hog);
    }
    sim.run_until(2_000 * MS);
    for index in 1..4 {
        sim.set_affinity(index, both);
    }
    sim.run_until(sim.now + 3_000 * MS);
    assert_eq!(homes(&sim), [2, 2]);
}
