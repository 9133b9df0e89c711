//! Pools of CPUs: each has a policy of its own, and each domain runs in one of them.
//!
//! [`Pools`] is the scheduler that the run loop knows: it passes each call on to the policy that the CPU or the unit
//! belongs to. Numbers of units are the same in all policies. Two maps are read without a lock: whom a CPU asks, and
//! where a unit is. What changes them happens under one lock, `registry`, which no decision takes.
//!
//! A CPU that leaves a pool is out of service there at once, and goes on asking that pool's policy, which has it give up
//! what it runs and save what it holds. Only then can another pool have it. A unit moves while it is asleep with its
//! state saved; a wake-up that comes in between is lost, so whoever moves it wakes it afterwards.
//!
//! The policy of a pool that ends is kept for the next one: a CPU may be just about to ask it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU16, Ordering};

use spin::Once;
use xen_abi::errno::Errno;

use super::affinity::Affinity;
use super::cpuset::CpuSet;
use super::credit::DEFAULT_WEIGHT;
use super::credit2::{Credit2, Layout, NOWHERE, free_number};
use super::seats::reserved;
use super::unit::{UnitCell, UnitData, UnitInfo};
use super::{Decision, Params, Scheduler, Unit};
use crate::base::lock::{Mutex, rank};
use crate::base::{CpuId, DomId, Nanos, VcpuId};

#[cfg(test)]
mod tests;

/// A pool's number.
pub type PoolId = u32;

/// Pools that there can be beside pool 0, beyond one for each CPU.
const SPARE: usize = 8;

/// No pool has this number: it asks for any.
const NO_POOL: PoolId = PoolId::MAX;

struct Registry {
    /// By slot. Slot 0 is pool 0's, which never ends.
    pools: Vec<PoolId>,
    /// Domains that are in another pool than that.
    elsewhere: Vec<(DomId, PoolId)>,
    /// CPUs in service, in a pool or free.
    online: CpuSet,
}

impl Registry {
    fn slot(&self, id: PoolId) -> Result<u16, Errno> {
        let mut pools = self.pools.iter();
        let found = pools.position(|pool| *pool == id && id != NO_POOL);
        found.map(|slot| slot as u16).ok_or(Errno::ENOENT)
    }

    fn place(&self, dom: DomId) -> Option<usize> {
        self.elsewhere.iter().position(|(id, _)| *id == dom)
    }

    fn pool_of(&self, dom: DomId) -> PoolId {
        self.place(dom).map_or(0, |at| self.elsewhere[at].1)
    }

    fn slot_of(&self, dom: DomId) -> u16 {
        self.slot(self.pool_of(dom)).unwrap_or(0)
    }

    fn has_domains(&self, id: PoolId) -> bool {
        id == 0 || self.elsewhere.iter().any(|(_, pool)| *pool == id)
    }
}

/// How a policy for another pool is made: without CPUs, and with room for the same ones and the same units in all.
pub type Maker = Box<dyn Fn() -> Result<Credit2, Errno> + Send + Sync>;

/// The pools of CPUs and the scheduler over all of them.
pub struct Pools {
    make: Maker,
    /// The policy of pool 0, slot 0.
    first: Credit2,
    /// Those of the slots from 1 on, made when first needed.
    others: Vec<Once<Credit2>>,
    /// The slot of the policy that each CPU asks.
    cpus: Vec<AtomicU16>,
    /// The slot of the policy that each unit is known to.
    units: Vec<AtomicU16>,
    registry: Mutex<Registry>,
}

fn places(count: u32, value: u16) -> Result<Vec<AtomicU16>, Errno> {
    let mut places = reserved(count as usize)?;
    places.resize_with(count as usize, || AtomicU16::new(value));
    Ok(places)
}

impl Pools {
    /// Pool 0, without CPUs.
    ///
    /// # Errors
    /// Those of [`Credit2::new`].
    pub fn new(layout: Layout) -> Result<Self, Errno> {
        let Layout {
            max_cpus,
            max_units,
            ..
        } = layout;
        let make = Box::new(move || Credit2::new(layout));
        Self::made_by(make, max_cpus, max_units)
    }

    /// The same with policies that `make` makes, for so many CPUs and units.
    ///
    /// # Errors
    /// Those of `make`, `ENOMEM`.
    pub fn made_by(make: Maker, max_cpus: u32, max_units: u32) -> Result<Self, Errno> {
        let first = make()?;
        let more = max_cpus as usize + SPARE;
        let mut others = reserved(more)?;
        others.resize_with(more, Once::new);
        let mut pools = reserved(1 + more)?;
        pools.resize(1 + more, NO_POOL);
        pools[0] = 0;
        let registry = Registry {
            pools,
            elsewhere: Vec::new(),
            online: CpuSet::EMPTY,
        };
        Ok(Self {
            make,
            first,
            others,
            cpus: places(max_cpus, 0)?,
            units: places(max_units, NOWHERE)?,
            registry: Mutex::new(rank::SCHED_POOLS, registry),
        })
    }

    /// The policy in a slot; that of pool 0 for a unit that is nowhere, which no policy knows.
    #[inline(never)]
    fn in_slot(&self, slot: u16) -> &Credit2 {
        let other = usize::from(slot).checked_sub(1);
        let made = other.and_then(|at| self.others.get(at)?.get());
        made.unwrap_or(&self.first)
    }

    /// The policy that a CPU asks; any, if there is no such CPU.
    fn asked_by(&self, cpu: CpuId) -> &Credit2 {
        let slot = self.cpus.get(cpu as usize);
        self.in_slot(slot.map_or(0, |slot| slot.load(Ordering::Acquire)))
    }

    /// Does something with a unit where it is.
    fn at_home<R>(&self, unit: Unit, call: impl Fn(&Credit2) -> Option<R>) -> Option<R> {
        let place = self.units.get(unit.index())?;
        loop {
            let slot = place.load(Ordering::Acquire);
            let done = call(self.in_slot(slot));
            // One that is moved meanwhile was perhaps not there any more.
            if done.is_some() || place.load(Ordering::Acquire) == slot {
                return done;
            }
        }
    }

    fn has_units(&self, slot: u16) -> bool {
        let there = |place: &AtomicU16| place.load(Ordering::Acquire) == slot;
        self.units.iter().any(there)
    }

    /// Makes a pool without CPUs, with the number `asked` for or the lowest that is free. Returns its number.
    ///
    /// # Errors
    /// `EEXIST`, `ENOMEM`.
    pub fn create(&self, asked: Option<PoolId>) -> Result<PoolId, Errno> {
        let mut registry = self.registry.lock();
        let lowest = || (0..NO_POOL).find(|id| registry.slot(*id).is_err());
        let id = asked.or_else(lowest).ok_or(Errno::ENOMEM)?;
        if registry.slot(id).is_ok() {
            return Err(Errno::EEXIST);
        }
        // Those that were made are the first ones.
        let slot = registry.pools.iter().position(|pool| *pool == NO_POOL);
        let slot = slot.ok_or(Errno::ENOMEM)?;
        self.others[slot - 1].try_call_once(|| (self.make)())?;
        registry.pools[slot] = id;
        Ok(id)
    }

    /// Ends a pool.
    ///
    /// # Errors
    /// `ENOENT`; `EBUSY` while it has CPUs or domains.
    pub fn destroy(&self, id: PoolId) -> Result<(), Errno> {
        let mut registry = self.registry.lock();
        let slot = registry.slot(id)?;
        let policy = self.in_slot(slot);
        if registry.has_domains(id) || self.has_units(slot) || !policy.online().is_empty() {
            return Err(Errno::EBUSY);
        }
        policy.reset();
        registry.pools[usize::from(slot)] = NO_POOL;
        Ok(())
    }

    /// The first pool whose number is at least `id`, and its policy.
    #[must_use]
    pub fn pool_from(&self, id: PoolId) -> Option<(PoolId, &impl Scheduler)> {
        let registry = self.registry.lock();
        let pools = registry.pools.iter().copied().zip(0..);
        let (pool, slot) = pools.filter(|(pool, _)| *pool >= id).min()?;
        (pool != NO_POOL).then(|| (pool, self.in_slot(slot)))
    }

    /// A pool's policy.
    #[must_use]
    pub fn policy(&self, id: PoolId) -> Option<&impl Scheduler> {
        let slot = self.registry.lock().slot(id).ok()?;
        Some(self.in_slot(slot))
    }

    /// CPUs that are in service and in no pool.
    #[must_use]
    pub fn free_cpus(&self) -> CpuSet {
        self.free_among(&self.registry.lock())
    }

    fn free_among(&self, registry: &Registry) -> CpuSet {
        let mut free = registry.online;
        for slot in 0..registry.pools.len() {
            let taken = self.in_slot(slot as u16).online();
            taken.iter().for_each(|cpu| free.remove(cpu));
        }
        free
    }

    /// Gives a free CPU to a pool. Returns the CPUs that must ask again; nothing while this one is still about to leave
    /// the pool that it was in: call again.
    ///
    /// # Errors
    /// `ENOENT` for an unknown pool, `ENODEV` for a CPU that is not free.
    pub fn give_cpu(&self, id: PoolId, cpu: CpuId, now: Nanos) -> Result<Option<CpuSet>, Errno> {
        let registry = self.registry.lock();
        if !self.free_among(&registry).contains(cpu) {
            return Err(Errno::ENODEV);
        }
        let slot = registry.slot(id)?;
        if !self.asked_by(cpu).is_drained(cpu) {
            return Ok(None);
        }
        self.enter(slot, cpu, now).map(Some)
    }

    fn enter(&self, slot: u16, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        let place = self.cpus.get(cpu as usize).ok_or(Errno::EINVAL)?;
        // Until it is in service there, the policy has nothing for it.
        place.store(slot, Ordering::Release);
        self.in_slot(slot).add_cpu(cpu, now)
    }

    /// Takes a CPU from a pool. Returns the CPUs that must ask again.
    ///
    /// # Errors
    /// `ENOENT` for an unknown pool, `EADDRNOTAVAIL` for a CPU that is not in it, `EBUSY` for the last one of a pool
    /// with domains.
    pub fn take_cpu(&self, id: PoolId, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        self.leave(&self.registry.lock(), id, cpu, now)
    }

    fn leave(
        &self,
        registry: &Registry,
        id: PoolId,
        cpu: CpuId,
        now: Nanos,
    ) -> Result<CpuSet, Errno> {
        let slot = registry.slot(id)?;
        let policy = self.in_slot(slot);
        let cpus = policy.online();
        if !cpus.contains(cpu) {
            return Err(Errno::EADDRNOTAVAIL);
        }
        if cpus.len() == 1 && (registry.has_domains(id) || self.has_units(slot)) {
            return Err(Errno::EBUSY);
        }
        policy.withdraw(cpu, now)
    }

    /// Lets a unit run on all CPUs that was to run on `cpu` and has none left in its pool. Nothing: it was not so. Returns
    /// the CPU that must ask again.
    pub fn free_from(&self, unit: Unit, cpu: CpuId, now: Nanos) -> Option<Option<CpuId>> {
        // Nobody gives it other CPUs meanwhile.
        let _registry = self.registry.lock();
        let place = self.units.get(unit.index())?;
        let policy = self.in_slot(place.load(Ordering::Acquire));
        let before = policy.affinity(unit)?;
        let left = before.hard.intersection(&policy.online());
        if !before.hard.contains(cpu) || !left.is_empty() {
            return None;
        }
        let hard = CpuSet::ALL;
        let anywhere = Affinity { hard, ..before };
        policy.set_affinity(unit, &anywhere, now).ok()
    }

    /// A domain's pool.
    #[must_use]
    pub fn pool_of(&self, dom: DomId) -> PoolId {
        self.registry.lock().pool_of(dom)
    }

    fn policy_of(&self, dom: DomId) -> &Credit2 {
        let slot = self.registry.lock().slot_of(dom);
        self.in_slot(slot)
    }

    /// The CPUs of a domain's pool.
    #[must_use]
    pub fn cpus_of(&self, dom: DomId) -> CpuSet {
        self.policy_of(dom).online()
    }

    /// Puts a domain into a pool: its units that are made from now on. Those that it has are to be moved. In another
    /// pool than before it has no parameters.
    ///
    /// # Errors
    /// `ENOENT` for an unknown pool, `ENODEV` for one without CPUs, `ENOMEM`.
    pub fn assign(&self, dom: DomId, id: PoolId) -> Result<(), Errno> {
        let mut registry = self.registry.lock();
        let slot = registry.slot(id)?;
        if self.in_slot(slot).online().is_empty() {
            return Err(Errno::ENODEV);
        }
        let before = registry.slot_of(dom);
        match (registry.place(dom), id) {
            (Some(at), 0) => {
                registry.elsewhere.swap_remove(at);
            }
            (Some(at), _) => registry.elsewhere[at].1 = id,
            (None, 0) => {}
            (None, _) => {
                let room = registry.elsewhere.try_reserve(1);
                room.map_err(|_| Errno::ENOMEM)?;
                registry.elsewhere.push((dom, id));
            }
        }
        // If it comes back one day, it does so with the usual ones.
        if before != slot {
            self.in_slot(before).forget_domain(dom);
        }
        Ok(())
    }

    /// Whether a unit is in its domain's pool.
    #[must_use]
    pub fn is_home(&self, unit: Unit) -> bool {
        let registry = self.registry.lock();
        self.at_home(unit, |policy| {
            let info = policy.info(unit)?;
            let home = self.in_slot(registry.slot_of(info.dom));
            Some(core::ptr::eq(home, policy))
        })
        .unwrap_or(true)
    }

    /// Moves a unit to its domain's pool, where it may run on all CPUs. It is to be woken afterwards.
    ///
    /// # Errors
    /// `EBUSY` unless it is asleep with its state saved, `ENOENT` when it is not known.
    pub fn move_unit(&self, unit: Unit) -> Result<(), Errno> {
        let registry = self.registry.lock();
        let place = self.units.get(unit.index()).ok_or(Errno::ENOENT)?;
        let from = place.load(Ordering::Acquire);
        let old = self.in_slot(from);
        let UnitInfo { dom, vcpu, .. } = old.info(unit).ok_or(Errno::ENOENT)?;
        let to = registry.slot_of(dom);
        if to == from {
            return Ok(());
        }
        let mut cell: UnitCell = old.detach(unit)?;
        *cell = UnitData::new(dom, vcpu, DEFAULT_WEIGHT, &Affinity::ANY);
        self.in_slot(to).attach(unit, cell);
        place.store(to, Ordering::Release);
        Ok(())
    }
}

impl Scheduler for Pools {
    fn id(&self) -> u32 {
        self.first.id()
    }

    fn name(&self) -> &'static str {
        self.first.name()
    }

    fn insert(&self, dom: DomId, vcpu: VcpuId, affinity: &Affinity) -> Result<Unit, Errno> {
        let registry = self.registry.lock();
        let unit = free_number(&self.units)?;
        let cell = UnitCell::try_new(UnitData::new(dom, vcpu, DEFAULT_WEIGHT, affinity))?;
        let slot = registry.slot_of(dom);
        self.in_slot(slot).attach(unit, cell);
        self.units[unit.index()].store(slot, Ordering::Release);
        Ok(unit)
    }

    fn remove(&self, unit: Unit) -> Result<(), Errno> {
        let _registry = self.registry.lock();
        let place = self.units.get(unit.index()).ok_or(Errno::ENOENT)?;
        let policy = self.in_slot(place.load(Ordering::Acquire));
        policy.remove(unit)?;
        place.store(NOWHERE, Ordering::Release);
        Ok(())
    }

    fn wake(&self, unit: Unit, now: Nanos) -> Option<CpuId> {
        self.at_home(unit, |policy| policy.wake(unit, now))
    }

    fn sleep(&self, unit: Unit) -> Option<CpuId> {
        self.at_home(unit, |policy| policy.sleep(unit))
    }

    fn yield_unit(&self, unit: Unit) {
        self.at_home(unit, |policy| {
            policy.yield_unit(unit);
            Some(())
        });
    }

    fn schedule(&self, cpu: CpuId, now: Nanos) -> Decision {
        self.asked_by(cpu).schedule(cpu, now)
    }

    fn context_saved(&self, cpu: CpuId, unit: Unit, now: Nanos) -> Option<CpuId> {
        self.asked_by(cpu).context_saved(cpu, unit, now)
    }

    fn unload(&self, unit: Unit) -> Option<CpuId> {
        self.at_home(unit, |policy| policy.unload(unit))
    }

    fn set_affinity(
        &self,
        unit: Unit,
        affinity: &Affinity,
        now: Nanos,
    ) -> Result<Option<CpuId>, Errno> {
        // The unit stays where it is meanwhile.
        let _registry = self.registry.lock();
        let place = self.units.get(unit.index()).ok_or(Errno::ENOENT)?;
        let policy = self.in_slot(place.load(Ordering::Acquire));
        policy.set_affinity(unit, affinity, now)
    }

    fn affinity(&self, unit: Unit) -> Option<Affinity> {
        self.at_home(unit, |policy| policy.affinity(unit))
    }

    /// Into pool 0.
    fn add_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        let mut registry = self.registry.lock();
        if registry.online.contains(cpu) {
            return Err(Errno::EEXIST);
        }
        let kicks = self.enter(0, cpu, now)?;
        registry.online.insert(cpu);
        Ok(kicks)
    }

    /// Those of pool 0, and no others: `ENODEV`.
    fn remove_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno> {
        let mut registry = self.registry.lock();
        if !registry.online.contains(cpu) {
            return Err(Errno::ENOENT);
        }
        if !self.first.online().contains(cpu) {
            return Err(Errno::ENODEV);
        }
        let kicks = self.leave(&registry, 0, cpu, now)?;
        registry.online.remove(cpu);
        Ok(kicks)
    }

    /// CPUs of all pools and those that are free.
    fn online(&self) -> CpuSet {
        self.registry.lock().online
    }

    fn set_params(&self, dom: DomId, params: Params) -> Result<CpuSet, Errno> {
        self.policy_of(dom).set_params(dom, params)
    }

    fn params(&self, dom: DomId) -> Params {
        self.policy_of(dom).params(dom)
    }

    /// A domain that has no units any more counts in pool 0.
    fn forget_domain(&self, dom: DomId) {
        let mut registry = self.registry.lock();
        self.in_slot(registry.slot_of(dom)).forget_domain(dom);
        registry.elsewhere.retain(|(id, _)| *id != dom);
    }

    fn ratelimit_us(&self) -> u32 {
        self.first.ratelimit_us()
    }

    fn set_ratelimit_us(&self, us: u32) -> Result<(), Errno> {
        self.first.set_ratelimit_us(us)
    }

    fn info(&self, unit: Unit) -> Option<UnitInfo> {
        self.at_home(unit, |policy| policy.info(unit))
    }

    fn dump(&self, now: Nanos, out: &mut dyn fmt::Write) -> fmt::Result {
        let mut next = Some(0);
        while let Some((id, policy)) = next.and_then(|id| self.pool_from(id)) {
            writeln!(out, "pool {id}:")?;
            policy.dump(now, out)?;
            next = id.checked_add(1);
        }
        writeln!(out, "free CPUs: {}", self.free_cpus())
    }
}
