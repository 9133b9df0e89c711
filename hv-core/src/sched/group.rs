//! A group of CPUs that share one run queue: the policy itself.
//!
//! Plain logic on `&mut self`; [`super::credit2`] holds one lock around each group and does what
//! concerns several. The queue is sorted by credit, best last, first come first served among
//! equals; units that are pinned to a CPU have a part of it for themselves. A reset gives credit
//! to all that compete, which keeps that order; units that sleep catch up when they wake (`epoch`).

mod decide;
mod parking;
mod queue;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::Unit;
use super::credit::{self, CEILING, GRANT, MIN_SLICE, SOFT_RESISTANCE, WAKE_RESISTANCE};
use super::load::{Average, Scale};
use super::rules::Rules;
use super::seats::reserved;
use super::unit::{Place, UNCOUNTED, UnitCell, UnitData};
use crate::base::{CpuId, Nanos};

/// What others may know of a group without its lock.
///
/// `idle` and `waiting` form a handshake: who queues a unit publishes `waiting` before it looks
/// for idle CPUs, and a CPU that finds nothing sets its `idle` bit before it looks at the
/// `waiting` of other groups; one of the two sees the other. Hence sequential consistency.
#[derive(Debug, Default)]
pub(super) struct Hints {
    /// CPUs that idle and that nobody has kicked yet.
    idle: AtomicU64,
    /// Units in the queue.
    waiting: AtomicU32,
    /// Average load up to `at`, and the momentary one from then on. Read one by one: a value that
    /// is a step older than the others is as good.
    average: AtomicU64,
    at: AtomicU64,
    load: AtomicU64,
    /// Units at home here.
    members: AtomicU32,
    /// CPUs in service.
    online: AtomicU64,
    /// When to compare the load with other groups again.
    pub next_balance: AtomicU64,
}

impl Hints {
    /// Takes one idle CPU out of `bits`, `first` if possible.
    pub(super) fn claim_idle(&self, bits: u64, first: Option<u32>) -> Option<u32> {
        loop {
            let idle = self.idle.load(Ordering::SeqCst) & bits;
            if idle == 0 {
                return None;
            }
            let pick = first
                .filter(|&cpu| idle >> cpu & 1 == 1)
                .unwrap_or(idle.trailing_zeros());
            let bit = 1 << pick;
            if self.idle.fetch_and(!bit, Ordering::SeqCst) & bit != 0 {
                return Some(pick);
            }
        }
    }

    /// Whether a CPU idles that nobody has kicked.
    pub(super) fn has_idle(&self) -> bool {
        self.idle.load(Ordering::SeqCst) != 0
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Average load up to `now`, though nothing may have changed for long.
    pub(super) fn load(&self, now: Nanos, scale: &Scale) -> u64 {
        let mut average = Average {
            value: self.average.load(Ordering::Relaxed),
            at: self.known_until(),
        };
        average.advance(now, self.load.load(Ordering::Relaxed), scale);
        average.value
    }

    /// Up to when the average load is known.
    pub(super) fn known_until(&self) -> Nanos {
        self.at.load(Ordering::Relaxed)
    }

    /// How many CPUs are in service, at least 1.
    pub(super) fn cpus(&self) -> u64 {
        u64::from(self.online().count_ones().max(1))
    }

    /// Average load of each CPU in service.
    #[inline(never)]
    pub(super) fn load_of_each(&self, now: Nanos, scale: &Scale) -> u64 {
        self.load(now, scale) / self.cpus()
    }

    /// Units at home here in hundredths for each CPU in service.
    pub(super) fn members_of_each(&self) -> u64 {
        u64::from(self.members.load(Ordering::Relaxed)) * 100 / self.cpus()
    }

    /// Whether one of these CPUs idles that nobody has kicked.
    pub(super) fn idle_in(&self, bits: u64) -> bool {
        self.idle.load(Ordering::SeqCst) & bits != 0
    }

    pub(super) fn online(&self) -> u64 {
        self.online.load(Ordering::Relaxed)
    }
}

/// One CPU of a group.
#[derive(Debug, Default, Clone)]
pub(super) struct Cpu {
    pub current: Option<Unit>,
    /// Whose state is loaded; outlives `current` while the CPU idles.
    pub loaded: Option<Unit>,
    /// Until when `current` has paid.
    charged: Nanos,
    /// Since when `current` runs without a break.
    since: Nanos,
    /// When the CPU asks again by itself; the end of time if it does not.
    resched_at: Nanos,
    /// The weight that burns credit at the rate of time: as when it last asked, for its slice was
    /// cut by it.
    rate: u16,
    /// It was told to ask again and has not yet.
    kicked: bool,
}

/// A unit in the queue that could be chosen.
#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub unit: Unit,
    score: i64,
}

/// CPUs with one run queue, and the units at home there.
#[derive(Debug)]
pub(super) struct Group {
    base: CpuId,
    cpus: Vec<Cpu>,
    /// Indexed by unit; those whose home this is.
    units: Vec<Option<UnitCell>>,
    /// Part 0 has those that several CPUs may run, part `n + 1` those that only place `n` may; each
    /// ascends by credit. So no CPU looks through what others are to run. Its capacity is that of
    /// `units`.
    queue: Vec<Unit>,
    /// Those that wait for their budgets, first come first; its capacity is that of `units`.
    parked: Vec<Unit>,
    /// So many at the front are to be looked at now: their budgets were replenished.
    due: usize,
    /// When all of `parked` are due again; the end of time while there are none.
    unpark_at: Nanos,
    /// The CPU that asks again at `unpark_at`.
    keeper: Option<u32>,
    /// The next decision is to look for CPUs that idle while a unit waits.
    pub look_again: bool,
    online: u64,
    /// CPUs that run a unit until something happens, for no other waited when they asked.
    lone: u64,
    /// Sum of the weights of what runs or waits.
    load: u64,
    average: Average,
    /// Advantage that a unit needs to change its CPU.
    resistance: i64,
    scale: Scale,
    /// Heaviest unit that competes: the one that burns credit at the rate of time.
    max_weight: u16,
    /// Grants given so far.
    epoch: u64,
}

impl Group {
    /// A group of `width` CPUs (at most 64) from `base` on, all out of service.
    pub(super) fn new(
        (base, width): (CpuId, u32),
        max_units: usize,
        rules: &Rules,
    ) -> Result<Self, Errno> {
        let mut cpus = reserved(width as usize)?;
        cpus.resize(width as usize, Cpu::default());
        let mut units = reserved(max_units)?;
        units.resize_with(max_units, || None);
        Ok(Self {
            base,
            cpus,
            units,
            queue: reserved(max_units)?,
            parked: reserved(max_units)?,
            due: 0,
            unpark_at: Nanos::MAX,
            keeper: None,
            look_again: false,
            online: 0,
            lone: 0,
            load: 0,
            average: Average::default(),
            resistance: rules.resistance,
            scale: rules.scale,
            max_weight: 1,
            epoch: 0,
        })
    }

    pub(super) fn unit(&self, unit: Unit) -> Option<&UnitData> {
        self.units.get(unit.index())?.as_deref()
    }

    pub(super) fn unit_mut(&mut self, unit: Unit) -> Option<&mut UnitData> {
        self.units.get_mut(unit.index())?.as_deref_mut()
    }

    pub(super) fn cpu(&self, local: u32) -> Option<&Cpu> {
        self.cpus.get(local as usize)
    }

    pub(super) fn cpu_mut(&mut self, local: u32) -> Option<&mut Cpu> {
        self.cpus.get_mut(local as usize)
    }

    /// How many units wait.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Heaviest weight that competes, and grants so far: for the dump.
    pub(super) fn scale(&self) -> (u16, u64) {
        (self.max_weight, self.epoch)
    }

    /// The units of this home whose place is known to be in a list or on a CPU must be here.
    fn known(&self, unit: Unit) -> &UnitData {
        self.unit(unit).expect("units in queues are at home there")
    }

    fn known_mut(&mut self, unit: Unit) -> &mut UnitData {
        self.unit_mut(unit)
            .expect("units in queues are at home there")
    }

    fn publish(&self, hints: &Hints) {
        hints.average.store(self.average.value, Ordering::Relaxed);
        hints.at.store(self.average.at, Ordering::Relaxed);
        hints.load.store(self.load, Ordering::Relaxed);
        let waiting = self.queue.len() as u32;
        if hints.waiting.load(Ordering::Relaxed) != waiting {
            hints.waiting.store(waiting, Ordering::SeqCst);
        }
    }

    /// Takes a CPU in or out of service.
    pub(super) fn set_online(&mut self, local: u32, online: bool, hints: &Hints) {
        let bit = 1 << local;
        self.online = if online {
            self.online | bit
        } else {
            self.online & !bit
        };
        if self.keeper == Some(local) {
            self.keeper = None;
        }
        hints.idle.fetch_and(!bit, Ordering::SeqCst);
        hints.online.store(self.online, Ordering::Relaxed);
    }

    /// Whether a CPU in service here may run the unit.
    pub(super) fn can_serve(&self, data: &UnitData) -> bool {
        data.effective.bits(self.base, self.cpus.len() as u32) & self.online != 0
    }

    /// Takes in a unit that is asleep or waits.
    pub(super) fn adopt(&mut self, unit: Unit, mut cell: UnitCell, hints: &Hints) {
        cell.epoch = self.epoch;
        let load = cell.load;
        self.average.advance(load.at, self.load, &self.scale);
        self.average.value += load.value;
        cell.load.at = load.at.max(self.average.at);
        hints.members.fetch_add(1, Ordering::Relaxed);
        let (place, weight) = (cell.place, cell.weight);
        self.units[unit.index()] = Some(cell);
        if place == Place::Queued {
            self.load += u64::from(weight);
            self.enqueue(unit);
        }
        self.publish(hints);
    }

    /// Gives up a unit unless it runs. One that is parked may have to be parked again elsewhere.
    pub(super) fn release(&mut self, unit: Unit, hints: &Hints) -> Option<UnitCell> {
        self.catch_up(unit);
        if matches!(self.unit(unit)?.place, Place::Running(_)) {
            return None;
        }
        let load = self.account(unit, self.average.at);
        self.average.value = self.average.value.saturating_sub(load);
        match self.known(unit).place {
            Place::Queued => {
                self.load -= u64::from(self.known(unit).weight);
                self.dequeue(unit);
            }
            Place::Parked => {
                self.unlist(unit);
                self.known_mut(unit).place = Place::Queued;
            }
            Place::Asleep | Place::Running(_) => {}
        }
        hints.members.fetch_sub(1, Ordering::Relaxed);
        self.publish(hints);
        self.units.get_mut(unit.index())?.take()
    }

    /// Brings a unit's average load up to `now`, before what it does changes; returns it.
    fn account(&mut self, unit: Unit, now: Nanos) -> u64 {
        let scale = self.scale;
        let data = self.known_mut(unit);
        data.load.advance(now, data.demand(), &scale);
        data.load.value
    }

    pub(super) fn set_weight(&mut self, unit: Unit, weight: u16, hints: &Hints) {
        let Some(data) = self.unit_mut(unit) else {
            return;
        };
        let old = core::mem::replace(&mut data.weight, weight);
        if data.competes() {
            self.load = self.load - u64::from(old) + u64::from(weight);
            self.max_weight = self.max_weight.max(weight);
            self.publish(hints);
        }
    }

    /// Grants what a unit missed while it slept.
    fn catch_up(&mut self, unit: Unit) {
        let epoch = self.epoch;
        if let Some(data) = self.unit_mut(unit)
            && data.epoch != epoch
        {
            data.credit = credit::granted(data.credit, epoch - data.epoch, GRANT);
            data.epoch = epoch;
        }
    }

    /// Puts a sleeping unit into the queue, or to those that wait for their budgets.
    pub(super) fn wake(&mut self, unit: Unit, now: Nanos, rules: &Rules, hints: &Hints) {
        self.average.advance(now, self.load, &self.scale);
        if !self.park_early(unit, now, rules) {
            self.compete(unit, now);
            self.publish(hints);
        }
    }

    /// Puts a unit that slept or was parked into the queue.
    fn compete(&mut self, unit: Unit, now: Nanos) {
        self.catch_up(unit);
        self.account(unit, now);
        let data = self.known_mut(unit);
        data.place = Place::Queued;
        let weight = u64::from(data.weight);
        self.load += weight;
        self.enqueue(unit);
    }

    /// Takes a waiting or parked unit out of its list to sleep.
    pub(super) fn put_to_sleep(&mut self, unit: Unit, hints: &Hints) {
        // When it is is not told.
        self.account(unit, self.average.at);
        if self.known(unit).place == Place::Parked {
            self.unlist(unit);
        } else {
            self.dequeue(unit);
            self.load -= u64::from(self.known(unit).weight);
        }
        self.known_mut(unit).place = Place::Asleep;
        self.publish(hints);
    }

    /// Marks the CPU as told to ask again.
    pub(super) fn mark_kicked(&mut self, cpu: CpuId) {
        if let Some(cpu) = cpu
            .checked_sub(self.base)
            .and_then(|local| self.cpu_mut(local))
        {
            cpu.kicked = true;
        }
    }

    /// The CPU to kick for a waiting unit: the one whose unit has the least credit left, if that
    /// is clearly less, or if it will be long before the CPU asks by itself. CPUs protected by the
    /// rate limit are told too unless they ask when that ends.
    pub(super) fn find_victim(&mut self, unit: Unit, now: Nanos, limit: Nanos) -> Option<CpuId> {
        let data = self.unit(unit)?;
        let width = self.cpus.len() as u32;
        let mut bits = data.effective.bits(self.base, width) & self.online;
        let mut least: Option<(i64, u32)> = None;
        while bits != 0 {
            let local = bits.trailing_zeros();
            bits &= bits - 1;
            let cpu = &self.cpus[local as usize];
            let Some(current) = cpu.current.filter(|_| !cpu.kicked) else {
                continue;
            };
            let mut left = self.left(local as usize, current, now);
            if !data.preferred.contains(self.base + local) {
                left += SOFT_RESISTANCE;
            }
            if least.is_none_or(|(lowest, _)| left < lowest) {
                least = Some((left, local));
            }
        }
        let (left, local) = least?;
        let cpu = &self.cpus[local as usize];
        let (weight, rate) = cpu
            .current
            .map_or((1, 1), |current| (self.known(current).weight, cpu.rate));
        let lead = left.saturating_add(WAKE_RESISTANCE) - data.credit;
        let mut turn = now;
        if lead >= 0 {
            // Its slice was cut without this rival in mind: cut it anew if that is worth it.
            let until_behind = credit::time_to_burn(lead, weight, rate);
            turn = turn.saturating_add(until_behind + MIN_SLICE);
        }
        let cpu = &mut self.cpus[local as usize];
        if cpu.resched_at <= turn.max(cpu.since.saturating_add(limit)) {
            return None;
        }
        cpu.kicked = true;
        Some(self.base + local)
    }

    /// Credit that the unit on a CPU has left. While none waited for that CPU it owes nobody: it does not fall below zero
    /// then.
    fn left(&self, local: usize, unit: Unit, now: Nanos) -> i64 {
        let cpu = &self.cpus[local];
        let elapsed = now.saturating_sub(cpu.charged);
        let data = self.known(unit);
        let cost = credit::burn(elapsed, data.weight, cpu.rate);
        let left = data.credit.saturating_sub(cost);
        if self.lone >> local & 1 == 1 {
            left.max(data.credit.min(0))
        } else {
            left
        }
    }

    /// Makes the unit on a CPU pay for its time.
    fn charge(&mut self, local: usize, now: Nanos, rules: &Rules) {
        let current = self.cpus[local].current;
        let left = current.map(|unit| (unit, self.left(local, unit, now)));
        let cpu = &mut self.cpus[local];
        let elapsed = now.saturating_sub(cpu.charged);
        cpu.charged = cpu.charged.max(now);
        if let Some((unit, left)) = left {
            let data = self.known_mut(unit);
            data.credit = left;
            if data.held != UNCOUNTED
                && let Some(budget) = rules.budget(data.budget)
            {
                if elapsed > data.held {
                    budget.overrun(elapsed - data.held);
                }
                data.held = data.held.saturating_sub(elapsed);
            }
        }
    }

    /// Gives `grants` to all that compete.
    fn reset(&mut self, grants: u64, now: Nanos, rules: &Rules) {
        for local in 0..self.cpus.len() {
            self.charge(local, now, rules);
        }
        self.epoch += grants;
        self.max_weight = 1;
        for index in 0..self.queue.len() {
            self.grant(self.queue[index], grants);
        }
        for local in 0..self.cpus.len() {
            if let Some(unit) = self.cpus[local].current {
                self.grant(unit, grants);
            }
        }
    }

    fn grant(&mut self, unit: Unit, grants: u64) {
        let epoch = self.epoch;
        let data = self.known_mut(unit);
        data.credit = credit::granted(data.credit, grants, CEILING);
        data.epoch = epoch;
        let weight = data.weight;
        self.max_weight = self.max_weight.max(weight);
    }
}
