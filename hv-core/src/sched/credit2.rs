//! The credit2 policy over all groups of CPUs: locks, homes, and what crosses groups.
//!
//! The methods of [`Scheduler`] speak of CPUs, all else in here of seats ([`super::seats`]).
//! Each group has one lock; a unit's state lives in the group that is its home (`homes`). Lock
//! order: `topology`, `params`, then groups by ascending index. A unit changes its home
//! when an idle CPU takes it over, when loads are balanced, or when its affinity leaves no other
//! choice.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use xen_abi::domctl::XEN_SCHEDULER_CREDIT2;
use xen_abi::errno::Errno;
use xen_abi::sysctl::{XEN_SYSCTL_SCHED_RATELIMIT_MAX, XEN_SYSCTL_SCHED_RATELIMIT_MIN};

use super::affinity::Affinity;
use super::budget::Budget;
use super::cpuset::CpuSet;
use super::credit::{BALANCE_PERIOD, DEFAULT_WEIGHT};
use super::group::{Group, Hints};
use super::placement::running_outside;
use super::rules::Rules;
use super::seats::{Position, Seats, reserved};
use super::unit::{Place, UNCOUNTED, UnitCell, UnitData, UnitInfo, Wish};
use super::{Decision, Params, Scheduler, Unit, dump};
use crate::base::lock::{Mutex, MutexGuard, rank};
use crate::base::{CpuId, DomId, Nanos, VcpuId};
use crate::boot::cmdline::Credit2Options;

/// `homes` entry of a unit that does not exist.
pub(super) const NOWHERE: u16 = u16::MAX;

/// The first number that no unit has.
///
/// # Errors
/// `ENOSPC`.
pub(super) fn free_number(homes: &[AtomicU16]) -> Result<Unit, Errno> {
    let unused = |home: &AtomicU16| home.load(Ordering::Acquire) == NOWHERE;
    let at = homes.iter().position(unused).ok_or(Errno::ENOSPC)?;
    Ok(Unit(at as u32))
}

/// Groups of CPUs as they are numbered, with one run queue each, and how many units there can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// CPUs that may ever exist, at most [`super::MAX_CPUS`].
    pub max_cpus: u32,
    /// CPUs in a group: a power of two, at most 64. Neighbours should share a cache.
    pub group_width: u32,
    /// Units that may exist at a time; each costs 16 bytes in every group.
    pub max_units: u32,
}

/// A group with its lock and what is readable without.
pub(super) struct Bay {
    pub(super) hints: Hints,
    pub(super) group: Mutex<Group>,
}

/// The credit2 scheduler.
pub struct Credit2 {
    pub(super) seats: Seats,
    pub(super) bays: Vec<Bay>,
    /// Home group of each unit. Changes only under the locks of both groups.
    pub(super) homes: Vec<AtomicU16>,
    /// Domains whose parameters were set.
    params: Mutex<Vec<Entry>>,
    /// Seats of CPUs in service.
    topology: Mutex<CpuSet>,
    pub(super) rules: Rules,
}

/// A domain's parameters.
struct Entry {
    dom: DomId,
    params: Params,
    /// Its budget, if it has a cap.
    budget: Option<u16>,
}

/// What a domain has whose parameters nobody set.
const USUAL: Params = Params {
    weight: DEFAULT_WEIGHT,
    cap: 0,
};

impl Credit2 {
    /// A scheduler without CPUs in service and without units, with the usual settings.
    ///
    /// # Errors
    /// `EINVAL` for a layout outside the bounds that [`Layout`] names, `ENOMEM`.
    pub fn new(layout: Layout) -> Result<Self, Errno> {
        let seats = Seats::even(layout.max_cpus, layout.group_width)?;
        Self::seated(seats, layout.max_units, &Credit2Options::default())
    }

    /// The same with run queues as `options` wants them for so many CPUs at these positions, for
    /// up to `max_units` units.
    ///
    /// # Errors
    /// `EINVAL` without CPUs, with more than [`super::MAX_CPUS`], or for run queues of no CPU or
    /// more than 64, `ENOMEM`.
    pub fn for_machine(
        cpus: u32,
        position: &dyn Fn(CpuId) -> Position,
        max_units: u32,
        options: &Credit2Options,
    ) -> Result<Self, Errno> {
        let most = options.max_cpus_runqueue.unsigned_abs();
        let seats = Seats::by_position(cpus, position, options.run_queue, most)?;
        Self::seated(seats, max_units, options)
    }

    fn seated(seats: Seats, max_units: u32, options: &Credit2Options) -> Result<Self, Errno> {
        if max_units == 0 {
            return Err(Errno::EINVAL);
        }
        // A number for each, and one for a domain without units.
        let count = max_units.min(u32::from(u16::MAX)) as usize;
        let mut budgets = reserved(count)?;
        budgets.resize_with(count, Budget::default);
        let rules = Rules::new(options, budgets);
        let mut bays = reserved(seats.groups())?;
        for index in 0..seats.groups() {
            bays.push(Bay {
                hints: Hints::default(),
                group: Mutex::numbered(
                    rank::SCHED_GROUP,
                    index as u32,
                    Group::new(seats.range(index), max_units as usize, &rules)?,
                ),
            });
        }
        let mut homes = reserved(max_units as usize)?;
        homes.resize_with(max_units as usize, || AtomicU16::new(NOWHERE));
        Ok(Self {
            seats,
            bays,
            homes,
            params: Mutex::new(rank::SCHED_PARAMS, Vec::new()),
            topology: Mutex::new(rank::SCHED_TOPOLOGY, CpuSet::EMPTY),
            rules,
        })
    }

    /// Locks the unit's home.
    pub(super) fn lock_home(&self, unit: Unit) -> Option<(usize, MutexGuard<'_, Group>)> {
        loop {
            let home = self.homes.get(unit.index())?.load(Ordering::Acquire);
            let group = self.bays.get(usize::from(home))?.group.lock();
            if group.unit(unit).is_some() {
                return Some((usize::from(home), group));
            }
        }
    }

    /// A domain's parameters and its budget.
    fn known_of(table: &[Entry], dom: DomId) -> (Params, Option<u16>) {
        let entry = table.iter().find(|entry| entry.dom == dom);
        entry.map_or((USUAL, None), |entry| (entry.params, entry.budget))
    }

    /// Takes in a unit that is asleep under a number that nobody has. Its affinity is of CPUs.
    pub(super) fn attach(&self, unit: Unit, cell: UnitCell) {
        self.settle(&self.topology.lock(), unit, cell);
    }

    fn settle(&self, topology: &CpuSet, unit: Unit, mut cell: UnitCell) {
        let params = self.params.lock();
        let (known, budget) = Self::known_of(&params, cell.dom);
        cell.affinity = self.seats.affinity_in_seats(&cell.affinity);
        cell.weight = known.weight;
        cell.budget = budget;
        self.rules.change_user(None, budget);
        // Until it is known better.
        cell.load.value = self.rules.scale.steady(known.weight.into());
        cell.load.at = self.latest();
        cell.refresh_affinity(topology);
        let home = self.best_home(&cell, cell.load.at).unwrap_or(0);
        let bay = &self.bays[home];
        let mut group = bay.group.lock();
        group.adopt(unit, cell, &bay.hints);
        self.homes[unit.index()].store(home as u16, Ordering::Release);
    }

    /// Gives up a unit.
    ///
    /// # Errors
    /// Those of [`Scheduler::remove`].
    pub(super) fn detach(&self, unit: Unit) -> Result<UnitCell, Errno> {
        let (home, mut group) = self.lock_home(unit).ok_or(Errno::ENOENT)?;
        let data = group.unit(unit).ok_or(Errno::ENOENT)?;
        if data.place != Place::Asleep || data.resident.is_some() {
            return Err(Errno::EBUSY);
        }
        self.homes[unit.index()].store(NOWHERE, Ordering::Release);
        let mut cell = group
            .release(unit, &self.bays[home].hints)
            .ok_or(Errno::ENOENT)?;
        drop(group);
        self.rules.change_user(cell.budget.take(), None);
        Ok(cell)
    }

    /// Takes a CPU out of service, be it the last one.
    ///
    /// # Errors
    /// `ENOENT` when it is not in service.
    pub(super) fn withdraw(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        let (seat, (index, local)) = self.seats.find(cpu).ok_or(Errno::ENOENT)?;
        let mut topology = self.topology.lock();
        if !topology.contains(seat) {
            return Err(Errno::ENOENT);
        }
        topology.remove(seat);
        let bay = &self.bays[index];
        bay.group.lock().set_online(local, false, &bay.hints);
        let mut kicks = self.refresh(&topology, now);
        // So that it gives up what it runs and saves what it holds.
        kicks.insert(seat);
        if let Some(keeper) = bay.group.lock().lacks_keeper() {
            kicks.insert(self.seats.range(index).0 + keeper);
        }
        Ok(self.seats.cpus(&kicks))
    }

    /// Whether a CPU that is out of service has given up what it ran and saved what it held.
    pub(super) fn is_drained(&self, cpu: CpuId) -> bool {
        let Some((_, (index, local))) = self.seats.find(cpu) else {
            return true;
        };
        let group = self.bays[index].group.lock();
        group
            .cpu(local)
            .is_none_or(|cpu| cpu.current.is_none() && cpu.loaded.is_none())
    }

    /// Forgets what was set, for another pool.
    pub(super) fn reset(&self) {
        for entry in self.params.lock().drain(..) {
            self.rules.change_user(entry.budget, None);
        }
        self.rules.reset();
    }

    /// Groups for the dump: what `read` makes of each, under its lock.
    pub(super) fn with_group<R>(&self, index: usize, read: impl FnOnce(&Group) -> R) -> Option<R> {
        self.bays.get(index).map(|bay| read(&bay.group.lock()))
    }

    /// The CPU on a seat, for who asks.
    fn told(&self, seat: Option<CpuId>) -> Option<CpuId> {
        seat.map(|seat| self.seats.cpu(seat))
    }

    /// What `schedule` decides, with seats for CPUs.
    fn decide(&self, seat: CpuId, (own, local): (usize, u32), now: Nanos) -> Decision {
        let bay = &self.bays[own];
        let in_service = || bay.hints.online() >> local & 1 == 1;
        let mut group = bay.group.lock();
        let was_idle = group.cpu(local).is_none_or(|cpu| cpu.current.is_none());
        let expired = group.has_expired(local, now);
        let look = core::mem::take(&mut group.look_again);
        let due = group.has_due(now, &self.rules);
        let first = due
            .then(|| group.unpark_one(now, &self.rules, &bay.hints))
            .flatten();
        let mut decision = loop {
            let mut decision = group.pick(local, now, &self.rules, &bay.hints);
            if !due {
                decision.run_for = group.keep_time(local, now, decision.run_for);
            }
            if expired && !look && !due && decision.next.is_some() {
                decision.kick = group.call_lone(local);
            }
            drop(group);
            let settled = decision.next.is_some() || self.bays.len() == 1 || !in_service();
            if settled || !self.steal(own, seat, local) {
                break decision;
            }
            group = bay.group.lock();
        };
        let look = look || (was_idle && decision.next.is_some());
        if due {
            self.serve_due((own, local), (first, look), now, &mut decision);
        } else if look {
            decision.kick = self.find_missed(now);
        }
        if decision.kick.is_none() && bay.hints.waiting() > 0 && self.bays.len() > 1 {
            decision.kick = self.spread(own, now);
        }
        decision
    }

    /// Balances if it is time to; returns the CPU to kick. Where something was to be moved the next
    /// decision looks again, for the others wait.
    fn spread(&self, own: usize, now: Nanos) -> Option<CpuId> {
        let bay = &self.bays[own];
        let next = bay.hints.next_balance.load(Ordering::Relaxed);
        if now < next {
            return None;
        }
        let moved = self.balance(own, now);
        if moved.is_none() {
            let next = now.saturating_add(BALANCE_PERIOD);
            bay.hints.next_balance.store(next, Ordering::Relaxed);
        }
        moved.flatten()
    }

    /// Numbers that units can have.
    pub(super) fn unit_numbers(&self) -> impl Iterator<Item = Unit> {
        (0..self.homes.len() as u32).map(Unit)
    }
}

impl Scheduler for Credit2 {
    fn id(&self) -> u32 {
        XEN_SCHEDULER_CREDIT2
    }

    fn name(&self) -> &'static str {
        "credit2"
    }

    fn insert(&self, dom: DomId, vcpu: VcpuId, affinity: &Affinity) -> Result<Unit, Errno> {
        let topology = self.topology.lock();
        let unit = free_number(&self.homes)?;
        let cell = UnitCell::try_new(UnitData::new(dom, vcpu, DEFAULT_WEIGHT, affinity))?;
        self.settle(&topology, unit, cell);
        Ok(unit)
    }

    fn remove(&self, unit: Unit) -> Result<(), Errno> {
        self.detach(unit).map(drop)
    }

    fn wake(&self, unit: Unit, now: Nanos) -> Option<CpuId> {
        let (home, mut group) = self.lock_home(unit)?;
        let data = group.unit_mut(unit)?;
        data.wish = Wish::Run;
        if data.place != Place::Asleep {
            return None;
        }
        group.wake(unit, now, &self.rules, &self.bays[home].hints);
        let data = group.unit(unit)?;
        if data.resident.is_some() || group.can_serve(data) {
            return self.told(self.find_cpu(home, group, unit, now));
        }
        drop(group);
        self.told(self.place(unit, now))
    }

    fn sleep(&self, unit: Unit) -> Option<CpuId> {
        let (home, mut group) = self.lock_home(unit)?;
        let data = group.unit_mut(unit)?;
        data.wish = Wish::Sleep;
        match data.place {
            Place::Asleep => None,
            Place::Queued | Place::Parked => {
                group.put_to_sleep(unit, &self.bays[home].hints);
                None
            }
            Place::Running(cpu) => {
                group.mark_kicked(cpu);
                self.told(Some(cpu))
            }
        }
    }

    fn yield_unit(&self, unit: Unit) {
        if let Some((_, mut group)) = self.lock_home(unit)
            && let Some(data) = group.unit_mut(unit)
        {
            data.yielding = matches!(data.place, Place::Running(_));
        }
    }

    fn schedule(&self, cpu: CpuId, now: Nanos) -> Decision {
        let Some((seat, place)) = self.seats.find(cpu) else {
            return Decision::IDLE;
        };
        let mut decision = self.decide(seat, place, now);
        decision.kick = self.told(decision.kick);
        decision
    }

    fn context_saved(&self, cpu: CpuId, unit: Unit, now: Nanos) -> Option<CpuId> {
        let (seat, (own, local)) = self.seats.find(cpu)?;
        let mut group = self.bays[own].group.lock();
        if let Some(cpu) = group.cpu_mut(local)
            && cpu.loaded == Some(unit)
            && cpu.current != Some(unit)
        {
            cpu.loaded = None;
        }
        if group.unit(unit).is_none() {
            drop(group);
            group = self.lock_home(unit)?.1;
        }
        let data = group.unit_mut(unit)?;
        if data.resident != Some(seat) || matches!(data.place, Place::Running(_)) {
            return None;
        }
        data.resident = None;
        data.unload = false;
        let waits = data.place == Place::Queued;
        drop(group);
        self.told(if waits { self.place(unit, now) } else { None })
    }

    fn unload(&self, unit: Unit) -> Option<CpuId> {
        let (_, mut group) = self.lock_home(unit)?;
        let data = group.unit_mut(unit)?;
        let holder = data.resident?;
        data.unload = true;
        self.told(Some(holder))
    }

    fn set_affinity(
        &self,
        unit: Unit,
        affinity: &Affinity,
        now: Nanos,
    ) -> Result<Option<CpuId>, Errno> {
        let affinity = &self.seats.affinity_in_seats(affinity);
        let topology = self.topology.lock();
        if affinity.hard.intersection(&topology).is_empty() {
            return Err(Errno::EINVAL);
        }
        let (_, mut group) = self.lock_home(unit).ok_or(Errno::ENOENT)?;
        group.refresh_affinity(unit, Some(affinity), &topology);
        let data = group.unit(unit).ok_or(Errno::ENOENT)?;
        if let Some(cpu) = running_outside(data) {
            group.mark_kicked(cpu);
            return Ok(self.told(Some(cpu)));
        }
        drop(group);
        Ok(self.told(self.place(unit, now)))
    }

    fn affinity(&self, unit: Unit) -> Option<Affinity> {
        let (_, group) = self.lock_home(unit)?;
        let Affinity { hard, soft } = group.unit(unit)?.affinity;
        Some(Affinity {
            hard: self.seats.cpus(&hard),
            soft: self.seats.cpus(&soft),
        })
    }

    fn add_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        let (seat, (index, local)) = self.seats.find(cpu).ok_or(Errno::EINVAL)?;
        let mut topology = self.topology.lock();
        if topology.contains(seat) {
            return Err(Errno::EEXIST);
        }
        topology.insert(seat);
        let bay = &self.bays[index];
        bay.group.lock().set_online(local, true, &bay.hints);
        let mut kicks = self.refresh(&topology, now);
        // It has yet to ask for the first time, and is not marked idle until then.
        kicks.insert(seat);
        Ok(self.seats.cpus(&kicks))
    }

    fn remove_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        if self.online() == CpuSet::single(cpu) {
            return Err(Errno::EBUSY);
        }
        self.withdraw(cpu, now)
    }

    fn online(&self) -> CpuSet {
        self.seats.cpus(&self.topology.lock())
    }

    fn set_params(&self, dom: DomId, params: Params) -> Result<CpuSet, Errno> {
        let mut table = self.params.lock();
        let at = table.iter().position(|entry| entry.dom == dom);
        table.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        let old = at.and_then(|at| table[at].budget);
        let budget = self.rules.set_cap(old, params.cap).ok_or(Errno::ENOMEM)?;
        let usual = Entry {
            dom,
            params: USUAL,
            budget,
        };
        let mut entry = at.map_or(usual, |at| table.swap_remove(at));
        (entry.params.cap, entry.budget) = (params.cap, budget);
        if params.weight != 0 {
            entry.params.weight = params.weight;
        }
        let weight = entry.params.weight;
        table.push(entry);
        let mut kicks = CpuSet::EMPTY;
        for unit in self.unit_numbers() {
            if let Some((home, mut group)) = self.lock_home(unit)
                && let Some(data) = group.unit_mut(unit)
                && data.dom == dom
            {
                self.rules.change_user(data.budget, budget);
                if data.budget != budget {
                    (data.budget, data.held) = (budget, UNCOUNTED);
                }
                if let Place::Running(seat) = data.place {
                    group.mark_kicked(seat);
                    kicks.insert(seat);
                }
                group.set_weight(unit, weight, &self.bays[home].hints);
            }
        }
        Ok(self.seats.cpus(&kicks))
    }

    fn params(&self, dom: DomId) -> Params {
        Self::known_of(&self.params.lock(), dom).0
    }

    fn forget_domain(&self, dom: DomId) {
        let mut table = self.params.lock();
        if let Some(at) = table.iter().position(|entry| entry.dom == dom) {
            self.rules.set_cap(table.swap_remove(at).budget, 0);
        }
    }

    fn ratelimit_us(&self) -> u32 {
        self.rules.ratelimit_us.load(Ordering::Relaxed)
    }

    fn set_ratelimit_us(&self, us: u32) -> Result<(), Errno> {
        let bounds = XEN_SYSCTL_SCHED_RATELIMIT_MIN..=XEN_SYSCTL_SCHED_RATELIMIT_MAX;
        if us != 0 && !bounds.contains(&us) {
            log::info!("a rate limit of {us} us is not 0 or {bounds:?}");
            return Err(Errno::EINVAL);
        }
        self.rules.ratelimit_us.store(us, Ordering::Relaxed);
        Ok(())
    }

    fn info(&self, unit: Unit) -> Option<UnitInfo> {
        let (home, group) = self.lock_home(unit)?;
        let mut info = group.unit(unit)?.info(home as u16);
        info.last_cpu = self.seats.cpu(info.last_cpu);
        info.resident = self.told(info.resident);
        if let Place::Running(seat) = info.place {
            info.place = Place::Running(self.seats.cpu(seat));
        }
        Some(info)
    }

    fn dump(&self, now: Nanos, out: &mut dyn fmt::Write) -> fmt::Result {
        dump::write(self, self.bays.len(), now, out)
    }
}
