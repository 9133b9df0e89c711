//! A machine in a nutshell for the tests: CPUs that obey the scheduler under a simulated clock,
//! units with simple habits, and the invariants checked after every event.

use super::{Affinity, CpuSet, Credit2, Layout, Place, Scheduler, Unit, UnitInfo};
use crate::base::{CpuId, DomId, Nanos};

pub const US: Nanos = 1_000;
pub const MS: Nanos = 1_000_000;

/// A small generator (xorshift): the seed decides everything.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % bound
    }
}

/// What a unit does with its time.
#[derive(Clone, Copy, Debug)]
pub enum Habit {
    /// Always runs.
    Hog,
    /// Runs for about `run`, then sleeps for about `pause`.
    Bursts { run: Nanos, pause: Nanos },
}

pub struct SimUnit {
    pub unit: Unit,
    pub affinity: Affinity,
    pub habit: Habit,
    pub ran: Nanos,
    /// Longest wait for a CPU so far.
    pub worst_wait: Nanos,
    pub runnable: bool,
    paused: bool,
    waits_since: Nanos,
    left: Nanos,
    wake_at: Option<Nanos>,
    /// CPU that runs it, and since when.
    pub on: Option<(usize, Nanos)>,
    loaded_on: Option<usize>,
}

#[derive(Default, Clone)]
struct SimCpu {
    current: Option<usize>,
    loaded: Option<usize>,
    deadline: Option<Nanos>,
    kick_at: Option<Nanos>,
    save: Option<(usize, Nanos)>,
    online: bool,
}

pub struct Sim {
    pub sched: Credit2,
    pub now: Nanos,
    pub units: Vec<SimUnit>,
    pub dice: Dice,
    pub migrations: u64,
    pub decisions: u64,
    cpus: Vec<SimCpu>,
}

impl Sim {
    pub fn new(cpus: u32, group_width: u32, seed: u64) -> Self {
        let layout = Layout {
            max_cpus: cpus,
            group_width,
            max_units: 256,
        };
        let mut sim = Self {
            sched: Credit2::new(layout).unwrap(),
            now: 0,
            units: Vec::new(),
            dice: Dice::new(seed),
            migrations: 0,
            decisions: 0,
            cpus: vec![SimCpu::default(); cpus as usize],
        };
        for cpu in 0..cpus {
            sim.set_online(cpu, true);
        }
        sim
    }

    pub fn add(&mut self, dom: DomId, affinity: Affinity, habit: Habit) -> usize {
        let index = self.units.len();
        let unit = self.sched.insert(dom, index as u32, &affinity).unwrap();
        let wake_at = Some(self.now + self.dice.roll(MS));
        self.units.push(SimUnit {
            unit,
            affinity,
            habit,
            ran: 0,
            worst_wait: 0,
            runnable: false,
            paused: false,
            waits_since: 0,
            left: 0,
            wake_at,
            on: None,
            loaded_on: None,
        });
        index
    }

    pub fn set_online(&mut self, cpu: CpuId, online: bool) {
        let kicks = if online {
            self.sched.add_cpu(cpu, self.now)
        } else {
            self.sched.remove_cpu(cpu, self.now)
        };
        if let Ok(kicks) = kicks {
            self.cpus[cpu as usize].online = online;
            for cpu in kicks.iter() {
                self.kick(Some(cpu));
            }
        }
    }

    pub fn set_affinity(&mut self, index: usize, affinity: Affinity) {
        let unit = self.units[index].unit;
        if let Ok(kick) = self.sched.set_affinity(unit, &affinity, self.now) {
            self.units[index].affinity = affinity;
            self.kick(kick);
        }
    }

    fn online(&self) -> CpuSet {
        (0..self.cpus.len() as u32)
            .filter(|&cpu| self.cpus[cpu as usize].online)
            .collect()
    }

    fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(cpu) = cpu {
            let at = self.now + self.dice.roll(3 * US);
            let slot = &mut self.cpus[cpu as usize].kick_at;
            *slot = Some(slot.map_or(at, |old| old.min(at)));
        }
    }

    pub fn wake(&mut self, index: usize) {
        let unit = &mut self.units[index];
        unit.wake_at = None;
        if unit.runnable || unit.paused {
            return;
        }
        unit.runnable = true;
        unit.waits_since = self.now;
        unit.left = match unit.habit {
            Habit::Bursts { run, .. } => 1 + self.dice.roll(2 * run),
            Habit::Hog => u64::MAX,
        };
        let kick = self.sched.wake(unit.unit, self.now);
        self.kick(kick);
    }

    pub fn sleep(&mut self, index: usize) {
        let unit = &mut self.units[index];
        unit.runnable = false;
        if let Habit::Bursts { pause, .. } = unit.habit {
            unit.wake_at = Some(self.now + 1 + self.dice.roll(2 * pause));
        }
        let kick = self.sched.sleep(unit.unit);
        self.kick(kick);
    }

    pub fn pause(&mut self, index: usize) {
        self.units[index].paused = true;
        self.sleep(index);
    }

    pub fn unpause(&mut self, index: usize) {
        self.units[index].paused = false;
        self.wake(index);
    }

    fn schedule(&mut self, cpu: usize) {
        let now = self.now;
        self.cpus[cpu].kick_at = None;
        if let Some(prev) = self.cpus[cpu].current.take() {
            let unit = &mut self.units[prev];
            unit.ran += now - unit.on.take().unwrap().1;
            unit.waits_since = now;
        }
        let decision = self.sched.schedule(cpu as u32, now);
        self.decisions += 1;
        self.kick(decision.kick);
        if let Some(unit) = decision.save {
            let index = self.index_of(unit);
            assert_eq!(self.cpus[cpu].loaded, Some(index), "saves what is loaded");
            self.cpus[cpu].save = Some((index, now + self.dice.roll(20 * US)));
            self.cpus[cpu].loaded = None;
        }
        self.cpus[cpu].deadline = decision.run_for.map(|time| now + time);
        let Some(next) = decision.next else {
            let eager = self.dice.roll(2) == 0;
            if let Some(index) = self.cpus[cpu].loaded.filter(|_| eager) {
                self.cpus[cpu].loaded = None;
                self.cpus[cpu].save = Some((index, now));
            }
            return;
        };
        self.migrations += u64::from(decision.migrated);
        let index = self.index_of(next);
        assert!(self.cpus[cpu].online, "offline CPUs run nothing");
        let loaded = self.cpus[cpu].loaded.replace(index);
        assert!(loaded.is_none() || loaded == Some(index), "state was lost");
        let effective = self.units[index].affinity.effective(&self.online());
        let unit = &mut self.units[index];
        assert!(unit.runnable, "runs a unit that sleeps");
        assert!(unit.on.is_none(), "runs on two CPUs");
        assert!(effective.contains(cpu as u32), "outside hard affinity");
        assert!(
            unit.loaded_on.is_none_or(|holder| holder == cpu),
            "state is still loaded elsewhere"
        );
        unit.loaded_on = Some(cpu);
        unit.on = Some((cpu, now));
        unit.worst_wait = unit.worst_wait.max(now - unit.waits_since);
        self.cpus[cpu].current = Some(index);
    }

    fn index_of(&self, unit: Unit) -> usize {
        self.units.iter().position(|u| u.unit == unit).unwrap()
    }

    fn finish_save(&mut self, cpu: usize) {
        if let Some((index, _)) = self.cpus[cpu].save.take() {
            self.units[index].loaded_on = None;
            let unit = self.units[index].unit;
            let kick = self.sched.context_saved(cpu as u32, unit, self.now);
            self.kick(kick);
        }
    }

    /// When CPU `cpu` has something to do.
    fn cpu_event(&self, cpu: usize) -> Option<Nanos> {
        let cpu = &self.cpus[cpu];
        match cpu.save {
            Some((_, at)) => Some(at),
            None => cpu.kick_at.into_iter().chain(cpu.deadline).min(),
        }
    }

    fn unit_event(&self, index: usize) -> Option<Nanos> {
        let unit = &self.units[index];
        let burst_ends = unit
            .on
            .filter(|_| unit.runnable)
            .map(|(_, since)| since.saturating_add(unit.left));
        unit.wake_at.into_iter().chain(burst_ends).min()
    }

    /// Runs until `end`, checking the invariants after each event.
    pub fn run_until(&mut self, end: Nanos) {
        loop {
            let cpu = (0..self.cpus.len())
                .filter_map(|cpu| Some((self.cpu_event(cpu)?, cpu)))
                .min();
            let unit = (0..self.units.len())
                .filter_map(|index| Some((self.unit_event(index)?, index)))
                .min();
            let (at, is_cpu) = match (cpu, unit) {
                (Some((c, _)), Some((u, _))) => (c.min(u), c <= u),
                (Some((c, _)), None) => (c, true),
                (None, Some((u, _))) => (u, false),
                (None, None) => (u64::MAX, false),
            };
            if at > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(at);
            if let Some((_, cpu)) = cpu.filter(|_| is_cpu) {
                if self.cpus[cpu].save.is_some() {
                    self.finish_save(cpu);
                } else {
                    self.spend(cpu);
                    self.schedule(cpu);
                }
            } else if let Some((_, index)) = unit {
                if self.units[index].wake_at.is_some_and(|at| at <= self.now) {
                    self.wake(index);
                } else {
                    self.units[index].left = u64::MAX;
                    self.sleep(index);
                }
            }
            self.check_work_conservation();
        }
    }

    /// What the unit on a CPU ran comes off its burst.
    fn spend(&mut self, cpu: usize) {
        if let Some(index) = self.cpus[cpu].current {
            let unit = &mut self.units[index];
            if let Some((_, since)) = unit.on
                && unit.left != u64::MAX
            {
                unit.left = unit.left.saturating_sub(self.now - since).max(1);
            }
        }
    }

    /// No CPU idles while a unit waits that it could start now, unless a CPU that can start the
    /// unit is on its way to the scheduler.
    fn check_work_conservation(&self) {
        let online = self.online();
        for (index, unit) in self.units.iter().enumerate() {
            let parked = |info: UnitInfo| info.place == Place::Parked;
            if !unit.runnable || unit.on.is_some() || self.sched.info(unit.unit).is_some_and(parked)
            {
                continue;
            }
            let effective = unit.affinity.effective(&online);
            let can_start = |id: usize| {
                let cpu = &self.cpus[id];
                let loadable = unit.loaded_on.is_none_or(|holder| holder == id);
                cpu.online && effective.contains(id as u32) && loadable
            };
            let on_its_way = |cpu: &SimCpu| cpu.kick_at.is_some() || cpu.save.is_some();
            let all = || 0..self.cpus.len();
            let is_idle = |id: usize| self.cpus[id].current.is_none();
            let covered = all().any(|id| can_start(id) && on_its_way(&self.cpus[id]))
                || unit.loaded_on.is_some_and(|id| on_its_way(&self.cpus[id]));
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

    /// Run times including the stretch that is under way.
    pub fn shares(&self) -> Vec<f64> {
        let total = self.now as f64;
        let ran = |u: &SimUnit| u.ran + u.on.map_or(0, |(_, since)| self.now - since);
        self.units.iter().map(|u| ran(u) as f64 / total).collect()
    }
}

/// The shares that hogs of these weights deserve on `cpus` CPUs: in proportion to weight, but
/// never more than one CPU each.
pub fn fair_shares(weights: &[u16], cpus: u32) -> Vec<f64> {
    let mut shares = vec![0.0; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).collect();
    let mut left = f64::from(cpus);
    loop {
        let sum: f64 = open.iter().map(|&i| f64::from(weights[i])).sum();
        let capped: Vec<usize> = open
            .iter()
            .copied()
            .filter(|&i| f64::from(weights[i]) * left >= sum)
            .collect();
        if capped.is_empty() || open.is_empty() {
            for &i in &open {
                shares[i] = left * f64::from(weights[i]) / sum;
            }
            return shares;
        }
        for i in capped {
            shares[i] = 1.0;
            left -= 1.0;
            open.retain(|&o| o != i);
        }
    }
}
