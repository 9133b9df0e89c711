//! Run queues by topology, and the settings that a boot chooses.

use proptest::prelude::*;

use super::super::sim::{Habit, MS, Sim, US};
use super::super::{Affinity, Credit2, Params, Place, Position, Scheduler};
use super::{any_unit, from_mask};
use crate::boot::cmdline::{Credit2Options, RunQueueBy};

/// A machine of two sockets whose CPUs are numbered by turns, with two threads in a core.
fn machine(cpus: u32, options: &Credit2Options, seed: u64) -> Sim {
    let position = |cpu| Position {
        socket: cpu % 2,
        core: cpu / 4,
    };
    let sched = Credit2::for_machine(cpus, &position, 256, options).unwrap();
    Sim::with(sched, cpus, seed)
}

#[test]
fn run_queues_are_arranged_as_asked() {
    use RunQueueBy::{All, Core, Cpu, Node, Socket};
    for (run_queue, most, queues) in [
        (Cpu, 16, 8),
        (Core, 16, 4),
        (Socket, 16, 2),
        (Node, 16, 1),
        (All, 16, 1),
        (All, 4, 2),
        (Socket, 3, 4),
    ] {
        let options = Credit2Options {
            run_queue,
            max_cpus_runqueue: most,
            ..Credit2Options::default()
        };
        let sim = machine(8, &options, 1);
        let mut text = String::new();
        sim.sched.dump(0, &mut text).unwrap();
        let found = text
            .lines()
            .filter(|line| line.starts_with("queue "))
            .count();
        assert_eq!(found, queues, "{run_queue:?}, {most}: {text}");
    }
}

#[test]
fn cpus_keep_their_numbers_whatever_their_seats() {
    let mut sim = machine(8, &Credit2Options::default(), 5);
    for cpu in 0..8 {
        sim.add(cpu as u16, Affinity::pinned(cpu), Habit::Hog);
    }
    sim.run_until(20 * MS);
    let mut text = String::new();
    sim.sched.dump(sim.now, &mut text).unwrap();
    let order: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("  cpu "))
        .map(|line| line.chars().next().unwrap())
        .collect();
    assert_eq!(order, ['0', '2', '4', '6', '1', '3', '5', '7']);
    for cpu in 0..8 {
        let unit = sim.units[cpu as usize].unit;
        let info = sim.sched.info(unit).unwrap();
        assert_eq!(info.place, Place::Running(cpu));
        assert_eq!((info.last_cpu, info.resident), (cpu, Some(cpu)));
        assert_eq!(sim.sched.affinity(unit), Some(Affinity::pinned(cpu)));
        assert!(
            text.contains(&format!("  cpu {cpu}: runs d{cpu}v{cpu}")),
            "{text}"
        );
        assert_eq!(sim.sched.unload(unit), Some(cpu));
        assert_eq!(sim.sched.sleep(unit), Some(cpu));
    }
    let _ = sim.sched.remove_cpu(3, sim.now).unwrap();
    assert_eq!(sim.sched.online().to_string(), "0-2,4-7");
}

#[test]
fn the_period_of_caps_and_the_rate_limit_are_chosen_at_boot() {
    let options = Credit2Options {
        cap_period_ms: 20,
        ratelimit_us: 300,
        ..Credit2Options::default()
    };
    let mut sim = machine(1, &options, 5);
    sim.run_until(MS);
    assert_eq!(sim.sched.ratelimit_us(), 300);
    let cap = Params { weight: 0, cap: 10 };
    sim.set_params(1, cap);
    let unit = sim.sched.insert(1, 0, &Affinity::ANY).unwrap();
    let _ = sim.sched.wake(unit, MS);
    // Nobody waits: it is asked when the rate limit ends, then when its budget does.
    assert_eq!(sim.sched.schedule(0, MS).run_for, Some(300 * US));
    let later = sim.sched.schedule(0, MS + 300 * US);
    assert_eq!(later.run_for, Some(1_700 * US));
    assert_eq!(sim.sched.schedule(0, 3 * MS).run_for, Some(17 * MS));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// What the simulated machine asserts holds for any arrangement.
    #[test]
    fn any_arrangement_keeps_the_invariants(
        (cpus, units) in (1..9_u32).prop_flat_map(|cpus| (
            Just(cpus),
            prop::collection::vec(any_unit(cpus), 1..14),
        )),
        run_queue in prop::sample::select(vec![RunQueueBy::Core, RunQueueBy::Socket]),
        max_cpus_runqueue in 1..5,
        seed: u64,
    ) {
        let options = Credit2Options {
            run_queue,
            max_cpus_runqueue,
            load_window_shift: 22,
            ..Credit2Options::default()
        };
        let mut sim = machine(cpus, &options, seed);
        for (dom, (habit, hard, soft, share)) in units.iter().enumerate() {
            let cap = if dom % 3 == 0 { 30 } else { 0 };
            sim.set_params(dom as u16, Params { weight: *share, cap });
            let affinity = Affinity { hard: from_mask(*hard), soft: from_mask(*soft) };
            sim.add(dom as u16, affinity, *habit);
        }
        for _ in 0..120 {
            let step = 1 + sim.dice.roll(6_000 * US);
            sim.run_until(sim.now + step);
            let index = sim.dice.roll(units.len() as u64) as usize;
            match sim.dice.roll(8) {
                0 => sim.pause(index),
                1 | 2 => sim.unpause(index),
                3 => {
                    let mask = 1 + sim.dice.roll((1 << cpus) - 1);
                    let soft = sim.units[index].affinity.soft;
                    sim.set_affinity(index, Affinity { hard: from_mask(mask), soft });
                }
                4 => {
                    let cpu = sim.dice.roll(u64::from(cpus)) as u32;
                    sim.set_online(cpu, false);
                }
                5 => {
                    for cpu in 0..cpus {
                        sim.set_online(cpu, true);
                    }
                }
                _ => {}
            }
        }
        for index in 0..units.len() {
            sim.unpause(index);
        }
        let before: Vec<_> = sim.units.iter().map(|unit| unit.ran).collect();
        sim.run_until(sim.now + 2_000 * MS);
        for (index, unit) in sim.units.iter().enumerate() {
            let place = sim.sched.info(unit.unit).unwrap().place;
            let runs = unit.ran > before[index] || matches!(place, Place::Running(_));
            prop_assert!(runs, "unit {index} never ran: {place:?}");
        }
    }
}
