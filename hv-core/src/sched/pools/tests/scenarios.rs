//! What the model does not come to by chance.

use super::*;

#[test]
fn what_is_set_for_a_pool_is_not_there_for_the_next() {
    let mut world = World::new();
    assert_eq!(world.pools.create(Some(7)), Ok(7));
    world.ids.insert(7);
    let limit = |id| world.pools.policy(id).map(Scheduler::ratelimit_us);
    world
        .pools
        .policy(7)
        .unwrap()
        .set_ratelimit_us(500)
        .unwrap();
    assert_eq!(
        (limit(0), limit(7), limit(1)),
        (Some(1000), Some(500), None)
    );
    world.pools.destroy(7).unwrap();
    assert_eq!(world.pools.create(None), Ok(1));
    assert_eq!(
        world.pools.policy(1).map(Scheduler::ratelimit_us),
        Some(1000)
    );
    world.ids = BTreeSet::from([0, 1]);

    // A domain's weight is that of its pool.
    for step in [Step::Take(0, 5), Step::Give(1, 5), Step::NewDomain(1, 1, 1)] {
        world.go(&step);
    }
    let heavy = Params {
        weight: 900,
        cap: 0,
    };
    world.pools.set_params(1, heavy).unwrap();
    assert_eq!(world.pools.params(1), heavy);
    let unit = world.units_of(1)[0].unit;
    assert_eq!(world.pools.info(unit).unwrap().weight, 900);
    world.go(&Step::Move(1, 0));
    assert_eq!(world.pools.params(1).weight, DEFAULT_WEIGHT);
    assert_eq!(world.pools.info(unit).unwrap().weight, DEFAULT_WEIGHT);
    world.go(&Step::Move(1, 1));
    assert_eq!(world.pools.info(unit).unwrap().weight, DEFAULT_WEIGHT);
    world.check();
}

#[test]
fn there_are_so_many_pools_and_no_more() {
    let mut world = World::new();
    for _ in 0..CPUS as usize + SPARE {
        world.go(&Step::Create(None));
    }
    assert_eq!(world.pools.create(Some(100)), Err(Errno::ENOMEM));
    world.go(&Step::Destroy(3));
    assert_eq!(world.pools.create(Some(u32::MAX - 1)), Ok(u32::MAX - 1));
    let first = |id| world.pools.pool_from(id).map(|(id, _)| id);
    assert_eq!(first(100), Some(u32::MAX - 1));
    assert_eq!(first(u32::MAX), None);
}

#[test]
fn units_lose_a_cpu_that_left_and_no_other() {
    let world = World::new();
    let unit = world.units[0].unit;
    let affinity = |cpus: &[CpuId]| Affinity {
        hard: cpus.iter().copied().collect(),
        soft: CpuSet::single(2),
    };
    let pools = &world.pools;
    for (cpus, left) in [(&[4_u32, 5][..], &[4_u32, 5][..]), (&[5], &[])] {
        let _cpu = pools.set_affinity(unit, &affinity(cpus), 0).unwrap();
        let _cpus = pools.take_cpu(0, 5, 0).unwrap();
        assert_eq!(pools.free_from(unit, 3, 0), None, "it is not of them");
        assert_eq!(pools.free_from(unit, 5, 0).is_some(), left.is_empty());
        let now = pools.affinity(unit).unwrap();
        let anywhere = Affinity {
            hard: CpuSet::ALL,
            ..affinity(&[])
        };
        let kept = if left.is_empty() {
            anywhere
        } else {
            affinity(left)
        };
        assert_eq!(now, kept);
        let _ = pools.schedule(5, 0);
        assert!(pools.give_cpu(0, 5, 0).unwrap().is_some());
    }
}

/// CPUs of two pools ask on threads of their own, while a domain of one unit moves to and fro and is woken by a third.
#[test]
fn a_wake_up_is_not_lost_by_a_move() {
    const NOBODY: u32 = u32::MAX;
    let pools = Pools::new(layout()).unwrap();
    for cpu in 0..2 {
        let _ = pools.add_cpu(cpu, 0).unwrap();
    }
    assert_eq!(pools.create(Some(1)), Ok(1));
    let _ = pools.take_cpu(0, 1, 0).unwrap();
    assert!(pools.give_cpu(1, 1, 0).unwrap().is_some());
    let unit = pools.insert(1, 0, &Affinity::ANY).unwrap();
    let (over, paused, holder) = (
        AtomicBool::new(false),
        AtomicBool::new(false),
        AtomicU32::new(NOBODY),
    );
    let runs = [AtomicU32::new(0), AtomicU32::new(0)];
    let cpu_loop = |cpu: CpuId| {
        let mut loaded = false;
        while !over.load(Ordering::SeqCst) {
            let decision = pools.schedule(cpu, 0);
            if decision.save.is_some() {
                assert!(core::mem::take(&mut loaded));
                holder.store(NOBODY, Ordering::SeqCst);
                let _ = pools.context_saved(cpu, unit, 0);
            }
            if decision.next.is_none() {
                thread::yield_now();
                continue;
            }
            if !loaded {
                let before = holder.swap(cpu, Ordering::SeqCst);
                assert_eq!(before, NOBODY, "two CPUs hold it");
                loaded = true;
            }
            if paused.load(Ordering::SeqCst) {
                let _ = pools.sleep(unit);
            } else {
                runs[cpu as usize].fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| cpu_loop(0));
        scope.spawn(|| cpu_loop(1));
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                if !paused.load(Ordering::SeqCst) {
                    let _ = pools.wake(unit, 0);
                }
                thread::yield_now();
            }
        });
        for round in 1..=400_u32 {
            pools.assign(1, round % 2).unwrap();
            paused.store(true, Ordering::SeqCst);
            while pools.move_unit(unit) == Err(Errno::EBUSY) {
                let _ = (pools.sleep(unit), pools.unload(unit));
                thread::yield_now();
            }
            assert!(pools.is_home(unit));
            paused.store(false, Ordering::SeqCst);
            let _ = pools.wake(unit, 0);
            let ran = &runs[round as usize % 2];
            let before = ran.load(Ordering::SeqCst);
            while ran.load(Ordering::SeqCst) == before {
                thread::yield_now();
            }
        }
        over.store(true, Ordering::SeqCst);
    });
}
