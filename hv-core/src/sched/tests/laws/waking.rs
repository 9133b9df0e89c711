//! How long a unit that wakes waits behind those that run.

use super::*;

/// A sleeper among hogs of equal weight, woken by hand.
struct Bedroom {
    sim: Sim,
    hogs: usize,
    limit: Nanos,
}

/// A burst that the test starts: after it the unit sleeps until it is woken.
fn nap(run: Nanos) -> Habit {
    let pause = 1_000_000 * MS;
    Habit::Bursts { run, pause }
}

impl Bedroom {
    fn new(cpus: u32, hogs: usize, limit_us: u32, seed: u64) -> Self {
        let mut sim = Sim::new(cpus, 8, seed);
        sim.sched.set_ratelimit_us(limit_us).unwrap();
        for dom in 0..hogs {
            sim.add(dom as u16, Affinity::ANY, Habit::Hog);
        }
        let limit = u64::from(limit_us) * US;
        Self { sim, hogs, limit }
    }

    /// Credit that a hog has left at this moment; all have the same weight.
    fn left(&self, index: usize) -> i64 {
        let unit = &self.sim.units[index];
        let owed = unit.on.map_or(0, |(_, since)| self.sim.now - since);
        self.sim.sched.info(unit.unit).unwrap().credit - owed as i64
    }

    /// The hog that runs and has the least credit left, and the end of its time under the rate
    /// limit.
    fn victim(&self) -> (i64, Nanos) {
        let running = (0..self.hogs).filter(|&hog| self.sim.units[hog].on.is_some());
        running
            .map(|hog| (self.left(hog), self.sim.units[hog].started + self.limit))
            .min()
            .unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// One that wakes with clearly more credit than the hog has left waits until the rate limit
    /// lets go of that hog, and for one switch. With as much credit it waits for the shortest
    /// slice and the lead that a hog keeps at least; with less, for what it is behind in addition.
    #[test]
    fn a_sleeper_waits_for_the_rate_limit_and_a_switch(
        limit in prop_oneof![Just(1000_u32), Just(0), 100..3000_u32],
        run in 1..800_u64,
        pauses in prop::collection::vec(0..20_000_u64, 60),
        seed: u64,
    ) {
        let mut room = Bedroom::new(1, 1, limit, seed);
        let sleeper = room.sim.add(9, Affinity::ANY, nap(run * US));
        room.sim.run_until(10 * MS);
        for pause in pauses {
            while room.sim.units[sleeper].runnable || room.sim.units[0].on.is_none() {
                room.sim.run_until(room.sim.now + 10 * US);
            }
            room.sim.run_until(room.sim.now + 50 * US + pause * US);
            let (left, protected) = room.victim();
            let now = room.sim.now;
            room.sim.wake(sleeper);
            let unit = room.sim.units[sleeper].unit;
            let credit = room.sim.sched.info(unit).unwrap().credit;
            let free = protected.max(now);
            let lead = left + WAKE_RESISTANCE - credit;
            let bound = if lead < 0 {
                free
            } else {
                free.max(now + lead as u64 + MIN_SLICE)
            };
            while room.sim.units[sleeper].runnable && room.sim.units[sleeper].on.is_none() {
                room.sim.run_until(room.sim.now + US);
                prop_assert!(room.sim.now <= bound + SWITCH + US,
                    "woke at {now} with a lead of {lead} against it, {} after the bound of {}",
                    room.sim.now - bound, bound - now);
            }
        }
    }

    /// Of many that wake at once with more credit than the hogs, the last waits for one rate limit,
    /// and for a burst and a switch of each of those that come before it. A hog that waits with as
    /// much credit, because it has not run since a reset, comes first, for a rate limit.
    #[test]
    fn many_sleepers_wait_for_the_rate_limit_and_each_other(
        cpus in 1..4_u32,
        count in 1..20_usize,
        run in 1..200_u64,
        seed: u64,
    ) {
        let mut room = Bedroom::new(cpus, 2 * cpus as usize, 1000, seed);
        let sleepers: Vec<_> = (0..count)
            .map(|dom| room.sim.add(100 + dom as u16, Affinity::ANY, nap(run * US)))
            .collect();
        room.sim.run_until(100 * MS);
        for _ in 0..20 {
            let gap = 25 * MS + room.sim.dice.roll(20 * MS);
            room.sim.run_until(room.sim.now + gap);
            let least = sleepers.iter().map(|&sleeper| room.left(sleeper)).min().unwrap();
            let before = (0..room.hogs)
                .filter(|&hog| room.sim.units[hog].on.is_none() && room.left(hog) >= least)
                .count() as u64;
            for &sleeper in &sleepers {
                prop_assert!(!room.sim.units[sleeper].runnable);
                room.sim.units[sleeper].worst_wait = 0;
                room.sim.wake(sleeper);
            }
            room.sim.run_until(room.sim.now + 25 * MS);
            let bound = many(count as u64, run * US, room.limit) + before * (room.limit + SWITCH);
            for &sleeper in &sleepers {
                let waited = room.sim.longest_wait(sleeper);
                prop_assert!(waited <= bound, "{waited} of {bound}");
            }
        }
    }
}

/// The bound for `count` sleepers with bursts below `2 * run`.
fn many(count: u64, run: Nanos, limit: Nanos) -> Nanos {
    let first = limit.max(WAKE_RESISTANCE as u64 + MIN_SLICE);
    first + SWITCH + (count - 1) * (2 * run + SWITCH)
}
