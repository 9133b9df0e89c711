//! What must hold after every event.

use super::machine::{Sim, SimCpu};
use crate::base::Nanos;
use crate::sched::{CpuSet, Credit2, Place, Scheduler, Unit};

/// How often to check, and what the checks found.
#[derive(Debug)]
pub(super) struct Checks {
    /// After every so many events.
    pub every: u32,
    events: u32,
    /// Units that wait beside an idle CPU now.
    passed_over: usize,
    /// Longest time for which one did.
    pub worst: Nanos,
}

impl Checks {
    pub(super) const fn new(every: u32) -> Self {
        Self {
            every,
            events: 0,
            passed_over: 0,
            worst: 0,
        }
    }
}

impl Sim {
    /// Looks at the whole machine when it is time to.
    pub(super) fn check(&mut self) {
        self.checks.events += 1;
        if self.checks.events < self.checks.every {
            return;
        }
        self.checks.events = 0;
        let idle: CpuSet = (0..self.cpus.len())
            .filter(|&cpu| self.cpus[cpu].current.is_none())
            .map(|cpu| cpu as u32)
            .collect();
        self.check_none_is_forgotten();
        if !idle.is_empty() {
            self.check_work_conservation(&idle);
        }
        if self.checks.every == 1 && !(idle.is_empty() && self.checks.passed_over == 0) {
            self.measure_waits_beside_idle_cpus(&idle);
        }
    }

    /// No CPU idles while a unit waits that it could start now, unless a CPU that can start the
    /// unit is on its way to the scheduler.
    fn check_work_conservation(&self, idle: &CpuSet) {
        for (index, unit) in self.units.iter().enumerate() {
            if !unit.waits() || is_parked(&self.sched, unit.unit) {
                continue;
            }
            let effective = unit.affinity.effective(&self.online);
            let can_start = |id: usize| {
                let cpu = &self.cpus[id];
                let loadable = unit.loaded_on.is_none_or(|holder| holder == id);
                cpu.online && effective.contains(id as u32) && loadable
            };
            let on_its_way = |cpu: &SimCpu| cpu.kick_at.is_some() || cpu.save.is_some();
            let all = || 0..self.cpus.len();
            // The one that keeps the time for parked units asks again at once while some are due, and kicks for one at
            // a time.
            let asks_now = |cpu: &SimCpu| cpu.deadline.is_some_and(|at| at <= self.now);
            let covered = all().any(|id| can_start(id) && on_its_way(&self.cpus[id]))
                || all().any(|id| asks_now(&self.cpus[id]))
                || unit.loaded_on.is_some_and(|id| on_its_way(&self.cpus[id]));
            let is_idle = |id: usize| idle.contains(id as u32);
            let missed = all().find(|&id| can_start(id) && is_idle(id) && !covered);
            assert_eq!(
                missed, None,
                "idles while unit {index} waits at {}",
                self.now
            );
            let stuck = unit.loaded_on.filter(|&id| is_idle(id) && !covered);
            assert_eq!(
                stuck, None,
                "keeps the state of unit {index} at {}",
                self.now
            );
        }
    }

    /// For each unit that waits there is a CPU that will ask, or one that saves its state.
    fn check_none_is_forgotten(&self) {
        let asks = |cpu: &SimCpu| {
            cpu.online && (cpu.kick_at.is_some() || cpu.deadline.is_some() || cpu.save.is_some())
        };
        let awake: CpuSet = (0..self.cpus.len())
            .filter(|&cpu| asks(&self.cpus[cpu]))
            .map(|cpu| cpu as u32)
            .collect();
        for (index, unit) in self.units.iter().enumerate() {
            if !unit.waits() {
                continue;
            }
            let effective = unit.affinity.effective(&self.online);
            let saved = unit.loaded_on.is_some_and(|holder| {
                let holder = &self.cpus[holder];
                holder.save.is_some() || holder.kick_at.is_some()
            });
            // To ask the scheduler counts as work of its own: last.
            let found = saved
                || !effective.intersection(&awake).is_empty()
                || is_parked(&self.sched, unit.unit);
            assert!(found, "nobody knows of unit {index} at {}", self.now);
        }
    }

    /// Keeps for how long units wait while a CPU on which they may run idles, for whatever reason.
    fn measure_waits_beside_idle_cpus(&mut self, idle: &CpuSet) {
        self.checks.passed_over = 0;
        let idle = idle.intersection(&self.online);
        for unit in &mut self.units {
            let effective = unit.affinity.effective(&self.online);
            let passed_over = unit.waits()
                && !effective.intersection(&idle).is_empty()
                && !is_parked(&self.sched, unit.unit);
            if let Some(since) = unit.passed_over_since {
                self.checks.worst = self.checks.worst.max(self.now - since);
            }
            unit.passed_over_since = match unit.passed_over_since {
                _ if !passed_over => None,
                None => Some(self.now),
                since => since,
            };
            self.checks.passed_over += usize::from(passed_over);
        }
    }

    /// The longest time for which a unit waited while a CPU idled on which it may run. Known only
    /// where every event is checked.
    #[must_use]
    pub const fn worst_wait_beside_idle(&self) -> Nanos {
        self.checks.worst
    }
}

/// Whether a unit waits for its domain's next budget, and not for a CPU.
fn is_parked(sched: &Credit2, unit: Unit) -> bool {
    sched
        .info(unit)
        .is_some_and(|info| info.place == Place::Parked)
}
