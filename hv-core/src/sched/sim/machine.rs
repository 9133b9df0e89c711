//! The CPUs, the units, and the course of events.

use alloc::vec;
use alloc::vec::Vec;

use super::agenda::{Agenda, Target};
use super::check::Checks;
use super::habit::Habit;
use super::stats::{Costs, Histogram};
use super::{Dice, KICK, MS, SAVE};
use crate::base::{CpuId, DomId, Nanos};
use crate::sched::{Affinity, CpuSet, Credit2, Decision, Layout, Params, Scheduler, Unit};

mod results;

/// A unit of the machine.
#[derive(Debug)]
pub struct SimUnit {
    /// What the scheduler calls it.
    pub unit: Unit,
    /// Its domain.
    pub dom: DomId,
    /// Where it may run.
    pub affinity: Affinity,
    /// What it does.
    pub habit: Habit,
    /// Time it ran, without the stretch that is under way.
    pub ran: Nanos,
    /// Longest wait for a CPU so far.
    pub worst_wait: Nanos,
    /// Whether it has something to do.
    pub runnable: bool,
    /// CPU that runs it, and since which decision.
    pub on: Option<(usize, Nanos)>,
    /// When it last took over a CPU from another unit or from none.
    pub started: Nanos,
    /// CPU that holds its state.
    pub(super) loaded_on: Option<usize>,
    /// Since when it waits beside an idle CPU.
    pub(super) passed_over_since: Option<Nanos>,
    paused: bool,
    waits_since: Nanos,
    /// It has been woken and did not run since.
    woken: bool,
    /// Time on a CPU until its burst ends.
    left: Nanos,
    /// When its burst ends however little it ran.
    bedtime: Option<Nanos>,
    wake_at: Option<Nanos>,
}

impl SimUnit {
    pub(super) const fn waits(&self) -> bool {
        self.runnable && self.on.is_none()
    }
}

#[derive(Default, Clone, Debug)]
pub(super) struct SimCpu {
    pub current: Option<usize>,
    pub loaded: Option<usize>,
    pub deadline: Option<Nanos>,
    pub kick_at: Option<Nanos>,
    pub save: Option<(usize, Nanos)>,
    pub online: bool,
}

/// The units of a gang, and how many of them are at the barrier.
#[derive(Default, Debug)]
struct Gang {
    members: Vec<usize>,
    arrived: usize,
}

/// A unit's time on a CPU without a break.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where.
    pub cpu: usize,
    /// Index of the unit.
    pub unit: usize,
    /// When it started.
    pub from: Nanos,
    /// When it stopped.
    pub to: Nanos,
}

/// The machine.
pub struct Sim {
    /// The scheduler at work.
    pub sched: Credit2,
    /// The time.
    pub now: Nanos,
    /// The units, in the order in which they were added.
    pub units: Vec<SimUnit>,
    /// Decide whatever is left to chance.
    pub dice: Dice,
    /// Units that were started on another CPU than the last time.
    pub migrations: u64,
    /// Units that were started where another one's state, or none, was loaded.
    pub switches: u64,
    /// Calls of `schedule`.
    pub decisions: u64,
    /// Calls of `wake` and `sleep`.
    pub changes: u64,
    /// How long units that were woken waited until they ran.
    pub latency: Histogram,
    /// A clock of the host in nanoseconds, to measure what calls cost. Decides nothing.
    pub clock: Option<fn() -> u64>,
    /// What calls cost.
    pub costs: Costs,
    pub(super) checks: Checks,
    pub(super) cpus: Vec<SimCpu>,
    pub(super) online: CpuSet,
    gangs: Vec<Gang>,
    /// Index of the unit that the scheduler knows by the number.
    by_number: Vec<usize>,
    agenda: Agenda,
    /// Who ran where, when it is wanted.
    spans: Option<Vec<Span>>,
}

impl Sim {
    /// A small machine of which every step is checked.
    ///
    /// # Panics
    /// When the scheduler refuses the layout.
    #[must_use]
    pub fn new(cpus: u32, group_width: u32, seed: u64) -> Self {
        let layout = Layout {
            max_cpus: cpus,
            group_width,
            max_units: 256,
        };
        Self::with_layout(layout, seed, 1)
    }

    /// A machine with all CPUs of the layout on line. What is cheap to check is checked always,
    /// the rest after each `check_every` events.
    ///
    /// # Panics
    /// When the scheduler refuses the layout.
    #[must_use]
    pub fn with_layout(layout: Layout, seed: u64, check_every: u32) -> Self {
        let sched = Credit2::new(layout).expect("the layout is within its bounds");
        let mut sim = Self::with(sched, layout.max_cpus, seed);
        sim.checks = Checks::new(check_every);
        sim
    }

    /// A machine of so many CPUs that has this scheduler, and of which every step is checked.
    #[must_use]
    pub fn with(sched: Credit2, cpus: u32, seed: u64) -> Self {
        let by_number = vec![usize::MAX; sched.unit_numbers().count()];
        let mut sim = Self {
            sched,
            now: 0,
            units: Vec::new(),
            dice: Dice::new(seed),
            migrations: 0,
            switches: 0,
            decisions: 0,
            changes: 0,
            latency: Histogram::default(),
            clock: None,
            costs: Costs::default(),
            checks: Checks::new(1),
            cpus: vec![SimCpu::default(); cpus as usize],
            online: CpuSet::EMPTY,
            gangs: Vec::new(),
            by_number,
            agenda: Agenda::default(),
            spans: None,
        };
        for cpu in 0..cpus {
            sim.set_online(cpu, true);
        }
        sim
    }

    /// Adds a unit, which wakes within the first millisecond; returns its index.
    ///
    /// # Panics
    /// When the scheduler refuses it.
    pub fn add(&mut self, dom: DomId, affinity: Affinity, habit: Habit) -> usize {
        let index = self.units.len();
        let unit = self.sched.insert(dom, index as u32, &affinity).unwrap();
        self.by_number[unit.index()] = index;
        if let Habit::Gang { gang, .. } = habit {
            if self.gangs.len() <= gang {
                self.gangs.resize_with(gang + 1, Gang::default);
            }
            self.gangs[gang].members.push(index);
        }
        let wakes = !matches!(habit, Habit::Rally { peer, .. } if peer < index);
        let at = self.now + self.dice.roll(MS);
        self.units.push(SimUnit {
            unit,
            dom,
            affinity,
            habit,
            ran: 0,
            worst_wait: 0,
            runnable: false,
            on: None,
            started: 0,
            loaded_on: None,
            passed_over_since: None,
            paused: false,
            waits_since: 0,
            woken: false,
            left: 0,
            bedtime: None,
            wake_at: wakes.then_some(at),
        });
        self.note_unit(index);
        index
    }

    /// Takes a CPU in or out of service, unless the scheduler refuses.
    pub fn set_online(&mut self, cpu: CpuId, online: bool) {
        let kicks = if online {
            self.sched.add_cpu(cpu, self.now)
        } else {
            self.sched.remove_cpu(cpu, self.now)
        };
        if let Ok(kicks) = kicks {
            self.cpus[cpu as usize].online = online;
            if online {
                self.online.insert(cpu);
            } else {
                self.online.remove(cpu);
            }
            for cpu in kicks.iter() {
                self.kick(Some(cpu));
            }
        }
    }

    /// Changes a unit's affinity, unless the scheduler refuses.
    pub fn set_affinity(&mut self, index: usize, affinity: Affinity) {
        let unit = self.units[index].unit;
        if let Ok(kick) = self.sched.set_affinity(unit, &affinity, self.now) {
            self.units[index].affinity = affinity;
            self.kick(kick);
        }
    }

    /// Changes a domain's parameters.
    ///
    /// # Panics
    /// When the scheduler refuses them.
    pub fn set_params(&mut self, dom: DomId, params: Params) {
        let kicks = self.sched.set_params(dom, params).unwrap();
        for cpu in kicks.iter() {
            self.kick(Some(cpu));
        }
    }

    /// Keeps who runs where from now on; see [`Sim::take_spans`].
    pub fn record_spans(&mut self) {
        self.spans.get_or_insert_default();
    }

    /// Who ran where since the last call. A stretch that is under way comes when it ends.
    pub fn take_spans(&mut self) -> Vec<Span> {
        self.spans.as_mut().map(core::mem::take).unwrap_or_default()
    }

    fn kick(&mut self, cpu: Option<CpuId>) {
        if let Some(cpu) = cpu {
            let at = self.now + self.dice.roll(KICK);
            let slot = &mut self.cpus[cpu as usize].kick_at;
            *slot = Some(slot.map_or(at, |old| old.min(at)));
            self.note_cpu(cpu as usize);
        }
    }

    /// Calls the scheduler with an eye on the clock.
    fn call<R>(&mut self, what: impl FnOnce(&Credit2) -> R) -> (R, Option<u64>) {
        let begin = self.clock.map(|clock| clock());
        let result = what(&self.sched);
        let cost = begin.zip(self.clock).map(|(begin, clock)| clock() - begin);
        (result, cost)
    }

    /// Calls the scheduler for something that is not a decision; whom it names is kicked.
    fn tell(&mut self, what: impl FnOnce(&Credit2) -> Option<CpuId>) {
        let (kick, cost) = self.call(what);
        if let Some(cost) = cost {
            self.costs.others.record(cost);
        }
        self.kick(kick);
    }

    /// Gives the unit something to do, unless it is paused.
    pub fn wake(&mut self, index: usize) {
        let now = self.now;
        let unit = &mut self.units[index];
        unit.wake_at = None;
        if unit.runnable || unit.paused {
            return;
        }
        unit.runnable = true;
        unit.waits_since = now;
        unit.woken = unit.on.is_none();
        unit.left = unit.habit.burst(&mut self.dice);
        unit.bedtime = unit.habit.bedtime(now);
        let unit = unit.unit;
        self.changes += 1;
        self.tell(|sched| sched.wake(unit, now));
        self.note_unit(index);
    }

    /// Takes what the unit has to do away.
    pub fn sleep(&mut self, index: usize) {
        let unit = &mut self.units[index];
        unit.runnable = false;
        unit.wake_at = unit.habit.alarm(self.now, &mut self.dice);
        let unit = unit.unit;
        self.changes += 1;
        self.tell(|sched| sched.sleep(unit));
        self.note_unit(index);
    }

    /// Puts the unit to sleep for good.
    pub fn pause(&mut self, index: usize) {
        self.units[index].paused = true;
        self.sleep(index);
    }

    /// Ends a pause.
    pub fn unpause(&mut self, index: usize) {
        self.units[index].paused = false;
        self.wake(index);
    }

    /// A unit has done what it woke for.
    fn finish_burst(&mut self, index: usize) {
        match self.units[index].habit {
            Habit::Gang { gang, .. } => self.reach_barrier(gang, index),
            Habit::Rally { peer, .. } => {
                self.wake(peer);
                self.sleep(index);
            }
            _ => self.sleep(index),
        }
    }

    /// The last of a gang goes on at once and wakes the others.
    fn reach_barrier(&mut self, gang: usize, index: usize) {
        let Gang { members, arrived } = &mut self.gangs[gang];
        *arrived += 1;
        if *arrived < members.len() {
            return self.sleep(index);
        }
        *arrived = 0;
        let members = members.clone();
        for member in members {
            if member != index {
                self.wake(member);
            }
        }
        let unit = &mut self.units[index];
        unit.left = unit.habit.burst(&mut self.dice);
        if let Some((_, since)) = unit.on {
            unit.left += self.now - since;
        }
        self.note_unit(index);
    }

    /// What the unit ran comes off its burst.
    fn spend(&mut self, index: usize) {
        let unit = &mut self.units[index];
        if let Some((_, since)) = unit.on
            && unit.left != Nanos::MAX
        {
            unit.left = unit.left.saturating_sub(self.now - since).max(1);
        }
    }

    /// Stops what the CPU runs.
    fn stop(&mut self, cpu: usize) {
        let now = self.now;
        let Some(prev) = self.cpus[cpu].current.take() else {
            return;
        };
        self.spend(prev);
        let unit = &mut self.units[prev];
        let (_, from) = unit.on.take().unwrap();
        unit.ran += now - from;
        unit.waits_since = now;
        if let Some(spans) = &mut self.spans
            && now > from
        {
            spans.push(Span {
                cpu,
                unit: prev,
                from,
                to: now,
            });
        }
    }

    fn schedule(&mut self, cpu: usize) {
        let now = self.now;
        self.cpus[cpu].kick_at = None;
        let prev = self.cpus[cpu].current;
        self.stop(cpu);
        let (decision, cost) = self.call(|sched| sched.schedule(cpu as u32, now));
        if let Some(cost) = cost {
            self.costs.decisions.record(cost);
        }
        self.decisions += 1;
        self.kick(decision.kick);
        self.begin_save(cpu, &decision);
        self.cpus[cpu].deadline = decision.run_for.map(|time| now + time);
        match decision.next {
            Some(next) => {
                let next = self.index_of(next);
                if prev != Some(next) {
                    self.units[next].started = now;
                }
                self.start(cpu, next, decision.migrated);
            }
            None => self.idle(cpu),
        }
        // Its end depends on what the CPU does.
        if let Some(prev) = prev {
            self.note_unit(prev);
        }
    }

    fn begin_save(&mut self, cpu: usize, decision: &Decision) {
        if let Some(unit) = decision.save {
            let index = self.index_of(unit);
            assert_eq!(self.cpus[cpu].loaded, Some(index), "saves what is loaded");
            self.cpus[cpu].save = Some((index, self.now + self.dice.roll(SAVE)));
            self.cpus[cpu].loaded = None;
        }
    }

    /// The CPU has nothing to run; some CPUs save what they hold at once.
    fn idle(&mut self, cpu: usize) {
        let eager = self.dice.roll(2) == 0;
        if let Some(index) = self.cpus[cpu].loaded.filter(|_| eager) {
            self.cpus[cpu].loaded = None;
            self.cpus[cpu].save = Some((index, self.now));
        }
    }

    fn start(&mut self, cpu: usize, index: usize, migrated: bool) {
        let now = self.now;
        assert!(self.cpus[cpu].online, "offline CPUs run nothing");
        let loaded = self.cpus[cpu].loaded.replace(index);
        assert!(loaded.is_none() || loaded == Some(index), "state was lost");
        let unit = &mut self.units[index];
        let effective = unit.affinity.effective(&self.online);
        assert!(unit.runnable, "runs a unit that sleeps");
        assert!(unit.on.is_none(), "runs on two CPUs");
        assert!(effective.contains(cpu as u32), "outside hard affinity");
        assert!(
            unit.loaded_on.is_none_or(|holder| holder == cpu),
            "state is still loaded elsewhere"
        );
        unit.loaded_on = Some(cpu);
        unit.on = Some((cpu, now));
        let waited = now - unit.waits_since;
        unit.worst_wait = unit.worst_wait.max(waited);
        if core::mem::take(&mut unit.woken) {
            self.latency.record(waited);
        }
        self.cpus[cpu].current = Some(index);
        self.migrations += u64::from(migrated);
        self.switches += u64::from(loaded.is_none());
        self.note_unit(index);
    }

    fn index_of(&self, unit: Unit) -> usize {
        self.by_number[unit.index()]
    }

    fn finish_save(&mut self, cpu: usize) {
        if let Some((index, _)) = self.cpus[cpu].save.take() {
            self.units[index].loaded_on = None;
            let (unit, now) = (self.units[index].unit, self.now);
            self.tell(|sched| sched.context_saved(cpu as u32, unit, now));
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
        unit.wake_at.into_iter().chain(self.burst_end(unit)).min()
    }

    fn burst_end(&self, unit: &SimUnit) -> Option<Nanos> {
        if !unit.runnable {
            return None;
        }
        if unit.bedtime.is_some() {
            return unit.bedtime;
        }
        let (cpu, since) = unit.on?;
        if let Habit::Dodger { margin, .. } = unit.habit {
            let deadline = self.cpus[cpu].deadline?;
            return Some(deadline.saturating_sub(margin).max(since + 1));
        }
        since.checked_add(unit.left)
    }

    fn note_cpu(&mut self, cpu: usize) {
        if let Some(at) = self.cpu_event(cpu) {
            self.agenda.note(Target::Cpu(cpu), at);
        }
    }

    fn note_unit(&mut self, index: usize) {
        if let Some(at) = self.unit_event(index) {
            self.agenda.note(Target::Unit(index), at);
        }
    }

    /// Runs until `end`, checking the invariants.
    pub fn run_until(&mut self, end: Nanos) {
        while let Some((at, target)) = self.agenda.next(end) {
            let due = match target {
                Target::Cpu(cpu) => self.cpu_event(cpu),
                Target::Unit(index) => self.unit_event(index),
            };
            if due.is_some_and(|due| due <= at) {
                self.now = self.now.max(at);
                self.happen(target);
                self.check();
            }
            match target {
                Target::Cpu(cpu) => self.note_cpu(cpu),
                Target::Unit(index) => self.note_unit(index),
            }
        }
        self.now = end;
    }

    fn happen(&mut self, target: Target) {
        match target {
            Target::Cpu(cpu) if self.cpus[cpu].save.is_some() => self.finish_save(cpu),
            Target::Cpu(cpu) => self.schedule(cpu),
            Target::Unit(index) if self.units[index].wake_at.is_some_and(|at| at <= self.now) => {
                self.wake(index);
            }
            Target::Unit(index) => self.finish_burst(index),
        }
    }
}
