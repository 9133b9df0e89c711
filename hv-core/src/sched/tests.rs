//! The policy under the simulated machine.

mod caps;
mod cost;
mod loads;
mod lone;
mod queues;

use proptest::prelude::*;
use xen_abi::errno::Errno;

use super::sim::{Habit, MS, Sim, US, fair_shares};
use super::{Affinity, CpuSet, Credit2, Layout, Params, Place, Scheduler};

mod laws;
mod machines;

fn weight(weight: u16) -> Params {
    Params { weight, cap: 0 }
}

/// Hogs of these weights; returns what each got and what it deserves.
fn contest(weights: &[u16], cpus: u32, width: u32, seed: u64) -> Vec<(f64, f64)> {
    let mut sim = Sim::new(cpus, width, seed);
    for (dom, &share) in weights.iter().enumerate() {
        sim.set_params(dom as u16, weight(share));
        sim.add(dom as u16, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(4_000 * MS);
    let fair = fair_shares(weights, cpus);
    sim.shares().into_iter().zip(fair).collect()
}

fn assert_fair(results: &[(f64, f64)], tolerance: f64) {
    for (index, (got, fair)) in results.iter().enumerate() {
        assert!(
            (got - fair).abs() <= tolerance * fair + 0.001,
            "unit {index}: got {got:.4}, deserves {fair:.4}; all {results:.3?}"
        );
    }
}

#[test]
fn equal_hogs_share_evenly() {
    for (units, cpus) in [(2, 1), (3, 2), (5, 4), (9, 4), (17, 8)] {
        assert_fair(&contest(&vec![256; units], cpus, 8, 7), 0.02);
    }
}

#[test]
fn weights_divide_one_cpu() {
    assert_fair(&contest(&[256, 512, 1024], 1, 8, 1), 0.02);
    assert_fair(&contest(&[1, 10, 100], 1, 8, 1), 0.05);
}

#[test]
fn a_heavy_hog_never_gets_more_than_a_cpu_and_the_rest_is_shared_fairly() {
    assert_fair(&contest(&[65535, 256, 256], 2, 8, 1), 0.03);
    assert_fair(&contest(&[256, 512, 1024], 2, 8, 1), 0.03);
}

#[test]
fn hogs_are_spread_over_groups() {
    // 6 hogs on 2 groups of 2 CPUs.
    assert_fair(&contest(&[256; 6], 4, 2, 3), 0.15);
    assert_fair(&contest(&[256; 4], 4, 1, 3), 0.02);
}

#[test]
fn a_waking_unit_preempts_a_hog_soon_and_the_hog_does_not_starve() {
    let mut sim = Sim::new(1, 8, 5);
    sim.add(1, Affinity::ANY, Habit::Hog);
    let bursts = Habit::Bursts {
        run: 100 * US,
        pause: 5 * MS,
    };
    sim.add(2, Affinity::ANY, bursts);
    sim.run_until(2_000 * MS);
    assert!(
        sim.units[1].worst_wait <= 1600 * US,
        "{}",
        sim.units[1].worst_wait
    );
    assert!(sim.units[0].worst_wait <= 2 * MS);
}

#[test]
fn the_rate_limit_can_be_switched_off() {
    let mut sim = Sim::new(1, 8, 5);
    sim.sched.set_ratelimit_us(0).unwrap();
    sim.add(1, Affinity::ANY, Habit::Hog);
    let bursts = Habit::Bursts {
        run: 50 * US,
        pause: 10 * MS,
    };
    sim.add(2, Affinity::ANY, bursts);
    sim.run_until(2_000 * MS);
    assert!(
        sim.units[1].worst_wait <= 1600 * US,
        "{}",
        sim.units[1].worst_wait
    );
}

#[test]
fn units_stay_where_their_caches_are() {
    let mut sim = Sim::new(4, 8, 5);
    for dom in 0..4 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.run_until(1_000 * MS);
    assert!(sim.migrations <= 2, "{} migrations", sim.migrations);
}

#[test]
fn soft_affinity_is_kept_while_there_is_room() {
    let mut sim = Sim::new(4, 2, 5);
    let affinity = Affinity {
        hard: CpuSet::ALL,
        soft: CpuSet::single(3),
    };
    let bursts = Habit::Bursts {
        run: 100 * US,
        pause: MS,
    };
    sim.add(1, affinity, bursts);
    sim.run_until(10 * MS);
    for _ in 0..100 {
        sim.run_until(sim.now + 137 * US);
        if let Some((cpu, _)) = sim.units[0].on {
            assert_eq!(cpu, 3);
        }
    }
    assert_eq!(sim.sched.info(sim.units[0].unit).unwrap().last_cpu, 3);
}

#[test]
fn offline_cpus_hand_over_what_they_have() {
    let mut sim = Sim::new(4, 2, 5);
    for dom in 0..6 {
        sim.add(dom, Affinity::ANY, Habit::Hog);
    }
    sim.add(9, Affinity::pinned(1), Habit::Hog);
    sim.run_until(50 * MS);
    sim.set_online(0, false);
    sim.set_online(1, false);
    sim.run_until(100 * MS);
    let before = sim.shares();
    sim.run_until(200 * MS);
    // The pinned one runs too although its only CPU is gone.
    for (index, share) in sim.shares().iter().enumerate() {
        assert!(share > &(before[index] / 2.0), "unit {index} starves");
    }
    sim.set_online(1, true);
    sim.run_until(300 * MS);
    let pinned = &sim.units[6];
    assert_eq!(sim.sched.info(pinned.unit).unwrap().last_cpu, 1);
}

#[test]
fn the_last_cpu_stays() {
    let sim = Sim::new(1, 8, 5);
    assert_eq!(sim.sched.remove_cpu(0, 0), Err(Errno::EBUSY));
    assert_eq!(sim.sched.remove_cpu(7, 0), Err(Errno::ENOENT));
    assert_eq!(sim.sched.add_cpu(0, 0), Err(Errno::EEXIST));
    assert_eq!(sim.sched.add_cpu(600, 0), Err(Errno::EINVAL));
}

#[test]
fn parameters_are_checked() {
    let sim = Sim::new(1, 8, 5);
    let sched = &sim.sched;
    assert_eq!(sched.params(3), weight(256));
    sched.set_params(3, weight(512)).unwrap();
    sched.set_params(3, weight(0)).unwrap();
    assert_eq!(sched.params(3), weight(512));
    let unit = sched.insert(3, 0, &Affinity::ANY).unwrap();
    assert_eq!(sched.info(unit).unwrap().weight, 512);
    sched.set_params(3, weight(100)).unwrap();
    assert_eq!(sched.info(unit).unwrap().weight, 100);
    sched.forget_domain(3);
    assert_eq!(sched.params(3), weight(256));
    for (us, result) in [
        (0, Ok(())),
        (99, Err(Errno::EINVAL)),
        (100, Ok(())),
        (500_000, Ok(())),
        (500_001, Err(Errno::EINVAL)),
    ] {
        assert_eq!(sched.set_ratelimit_us(us), result);
    }
    assert_eq!(sched.ratelimit_us(), 500_000);
}

#[test]
fn a_lone_unit_wakes_on_its_idle_cpu_and_needs_no_reload() {
    let mut sim = Sim::new(2, 8, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let unit = sched.insert(1, 0, &Affinity::ANY).unwrap();
    let cpu = sched.wake(unit, MS).unwrap();
    let decision = sched.schedule(cpu, MS);
    assert_eq!((decision.next, decision.save), (Some(unit), None));
    assert_eq!(sched.sleep(unit), Some(cpu));
    let decision = sched.schedule(cpu, 2 * MS);
    assert_eq!(
        (decision.next, decision.save, decision.run_for),
        (None, None, None)
    );
    assert_eq!(sched.wake(unit, 3 * MS), Some(cpu));
    assert_eq!(sched.wake(unit, 3 * MS), None);
    let decision = sched.schedule(cpu, 3 * MS);
    assert_eq!((decision.next, decision.save), (Some(unit), None));
}

#[test]
fn state_left_on_an_idle_cpu_is_saved_before_it_moves_or_is_removed() {
    let mut sim = Sim::new(2, 8, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let unit = sched.insert(1, 0, &Affinity::pinned(0)).unwrap();
    assert_eq!(sched.wake(unit, MS), Some(0));
    assert_eq!(sched.schedule(0, MS).next, Some(unit));
    assert_eq!(sched.remove(unit), Err(Errno::EBUSY));
    let _ = sched.sleep(unit);
    assert_eq!(sched.schedule(0, MS).save, None);
    sched.set_affinity(unit, &Affinity::pinned(1), MS).unwrap();
    assert_eq!(sched.wake(unit, MS), Some(0), "the holder must save it");
    assert_eq!(sched.schedule(1, MS).next, None);
    assert_eq!(sched.schedule(0, MS).save, Some(unit));
    assert_eq!(sched.context_saved(0, unit, MS), Some(1));
    let decision = sched.schedule(1, MS);
    assert!(decision.migrated);
    assert_eq!(decision.next, Some(unit));
    let _ = sched.sleep(unit);
    assert_eq!(sched.schedule(1, MS).save, None);
    assert_eq!(sched.remove(unit), Err(Errno::EBUSY));
    assert_eq!(sched.unload(unit), Some(1));
    assert_eq!(sched.schedule(1, MS).save, Some(unit));
    assert_eq!(sched.context_saved(1, unit, MS), None);
    assert_eq!(sched.unload(unit), None);
    assert_eq!(sched.remove(unit), Ok(()));
    assert_eq!(sched.remove(unit), Err(Errno::ENOENT));
    assert_eq!(sched.wake(unit, MS), None);
}

#[test]
fn a_unit_that_yields_lets_the_other_run() {
    let mut sim = Sim::new(1, 8, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let first = sched.insert(1, 0, &Affinity::ANY).unwrap();
    let second = sched.insert(2, 0, &Affinity::ANY).unwrap();
    let _ = sched.wake(first, MS);
    assert_eq!(sched.schedule(0, MS).next, Some(first));
    sched.yield_unit(first);
    assert_eq!(sched.schedule(0, MS).next, Some(first), "nobody else");
    let _ = sched.wake(second, MS);
    let decision = sched.schedule(0, MS);
    assert_eq!(decision.next, Some(first), "equal credit does not preempt");
    assert!(
        decision.run_for <= Some(2 * MS),
        "but it gets its turn soon"
    );
    sched.yield_unit(first);
    let decision = sched.schedule(0, MS);
    assert_eq!((decision.next, decision.save), (Some(second), Some(first)));
}

#[test]
fn a_unit_whose_cpu_took_another_gets_a_second_kick() {
    let mut sim = Sim::new(2, 2, 5);
    sim.run_until(MS);
    let sched = &sim.sched;
    let roamer = sched.insert(1, 0, &Affinity::ANY).unwrap();
    let pinned = sched.insert(2, 0, &Affinity::pinned(0)).unwrap();
    assert_eq!(sched.wake(roamer, MS), Some(0));
    assert_eq!(sched.schedule(0, MS).next, Some(roamer));
    let _ = sched.sleep(roamer);
    let _ = sched.schedule(0, 3 * MS);
    let _ = sched.context_saved(0, roamer, 3 * MS);
    assert_eq!(sched.wake(roamer, 3 * MS), Some(0));
    assert_eq!(sched.wake(pinned, 3 * MS), None);
    let decision = sched.schedule(0, 3 * MS);
    assert_eq!((decision.next, decision.kick), (Some(pinned), Some(1)));
    assert_eq!(sched.schedule(1, 3 * MS).next, Some(roamer));
}

#[test]
fn the_table_of_units_is_bounded_and_reused() {
    let layout = Layout {
        max_cpus: 2,
        group_width: 2,
        max_units: 2,
    };
    let sched = Credit2::new(layout).unwrap();
    let _ = sched.add_cpu(0, 0).unwrap();
    let first = sched.insert(1, 0, &Affinity::ANY).unwrap();
    let _second = sched.insert(1, 1, &Affinity::ANY).unwrap();
    assert_eq!(sched.insert(1, 2, &Affinity::ANY), Err(Errno::ENOSPC));
    sched.remove(first).unwrap();
    assert_eq!(sched.insert(1, 2, &Affinity::ANY), Ok(first));
    for bad in [
        Layout {
            group_width: 3,
            ..layout
        },
        Layout {
            group_width: 128,
            ..layout
        },
        Layout {
            max_cpus: 0,
            ..layout
        },
        Layout {
            max_cpus: 513,
            ..layout
        },
        Layout {
            max_units: 0,
            ..layout
        },
    ] {
        assert_eq!(Credit2::new(bad).err(), Some(Errno::EINVAL));
    }
}

#[test]
fn dump_names_cpus_and_units() {
    let mut sim = Sim::new(2, 1, 5);
    sim.add(3, Affinity::pinned(1), Habit::Hog);
    sim.run_until(10 * MS);
    let mut text = String::new();
    sim.sched.dump(sim.now, &mut text).unwrap();
    assert!(text.contains("cpu 1: runs d3v0"), "{text}");
    assert!(text.contains("cpu 0: idle"), "{text}");
    assert!(text.contains("hard 1, soft all"), "{text}");
}

#[test]
fn threads_that_wake_and_schedule_at_once_keep_the_invariants() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let layout = Layout {
        max_cpus: 4,
        group_width: 2,
        max_units: 16,
    };
    let sched = Credit2::new(layout).unwrap();
    for cpu in 0..4 {
        let _ = sched.add_cpu(cpu, 0).unwrap();
    }
    let units: Vec<_> = (0..12)
        .map(|dom| sched.insert(dom, 0, &Affinity::ANY).unwrap())
        .collect();
    let busy: Vec<AtomicBool> = (0..16).map(|_| AtomicBool::new(false)).collect();
    std::thread::scope(|scope| {
        for cpu in 0..4_u32 {
            let (sched, units, busy) = (&sched, &units, &busy);
            scope.spawn(move || {
                let mut loaded: Option<super::Unit> = None;
                for step in 0..20_000_u64 {
                    let now = step * 100 * US;
                    let decision = sched.schedule(cpu, now);
                    if let Some(unit) = decision.save {
                        assert_eq!(loaded.take(), Some(unit));
                        busy[unit.index()].store(false, Ordering::SeqCst);
                        let _ = sched.context_saved(cpu, unit, now);
                    }
                    if let Some(unit) = decision.next
                        && loaded != Some(unit)
                    {
                        assert!(!busy[unit.index()].swap(true, Ordering::SeqCst));
                        loaded = Some(unit);
                    }
                    let other = units[(step as usize * 7 + cpu as usize) % units.len()];
                    if step % 3 == 0 {
                        let _ = sched.sleep(other);
                    } else {
                        let _ = sched.wake(other, now);
                    }
                }
            });
        }
    });
    for unit in units {
        assert!(sched.info(unit).is_some());
    }
}

/// A unit's habit and affinity drawn at random.
fn any_unit(cpus: u32) -> impl Strategy<Value = (Habit, u64, u64, u16)> {
    let habit = prop_oneof![
        Just(Habit::Hog),
        (10..5_000_u64, 10..20_000_u64).prop_map(|(run, pause)| Habit::Bursts {
            run: run * US,
            pause: pause * US
        }),
    ];
    let all = (1_u64 << cpus) - 1;
    let mask = prop_oneof![Just(u64::MAX), 1..=all];
    let weight = prop_oneof![Just(256_u16), 64..2048_u16];
    (habit, mask.clone(), mask, weight)
}

fn from_mask(mask: u64) -> CpuSet {
    CpuSet::from_bytes(&mask.to_le_bytes(), 64)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the units do, what `Sim` asserts holds and nobody starves.
    #[test]
    fn random_machines_keep_the_invariants(
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
        for _ in 0..150 {
            let step = 1 + sim.dice.roll(8 * MS);
            sim.run_until(sim.now + step);
            let index = sim.dice.roll(units.len() as u64) as usize;
            match sim.dice.roll(10) {
                0 => sim.pause(index),
                1..=3 => sim.unpause(index),
                4 => {
                    let mask = 1 + sim.dice.roll((1 << cpus) - 1);
                    let soft = sim.units[index].affinity.soft;
                    sim.set_affinity(index, Affinity { hard: from_mask(mask), soft });
                }
                5 => {
                    let cpu = sim.dice.roll(u64::from(cpus)) as u32;
                    sim.set_online(cpu, false);
                }
                6 => {
                    for cpu in 0..cpus {
                        sim.set_online(cpu, true);
                    }
                }
                7 => sim.sched.yield_unit(sim.units[index].unit),
                _ => {}
            }
        }
        // From here on everybody has a fair chance: all must run.
        for cpu in 0..cpus {
            sim.set_online(cpu, true);
        }
        for index in 0..units.len() {
            sim.unpause(index);
        }
        let before: Vec<_> = sim.units.iter().map(|unit| unit.ran).collect();
        sim.run_until(sim.now + 4_000 * MS);
        for (index, unit) in sim.units.iter().enumerate() {
            let place = sim.sched.info(unit.unit).unwrap().place;
            let runs = unit.ran > before[index] || matches!(place, Place::Running(_));
            prop_assert!(runs, "unit {index} never ran: {place:?}");
        }
    }

    /// CPU hogs get what their weights promise.
    #[test]
    fn hogs_are_served_fairly(
        cpus in 1..6_u32,
        weights in prop::collection::vec(128..1024_u16, 2..12),
        seed: u64,
    ) {
        let results = contest(&weights, cpus, 8, seed);
        assert_fair(&results, 0.05);
    }
}
