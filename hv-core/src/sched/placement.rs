//! What crosses groups of CPUs: finding a CPU for a unit that waits, taking units over, moving
//! homes.

use core::sync::atomic::Ordering;

use super::cpuset::CpuSet;
use super::credit::SETTLE_TIME;
use super::credit2::Credit2;
use super::group::{Group, Hints};
use super::unit::{Place, UnitData};
use super::{Decision, Unit};
use crate::base::lock::MutexGuard;
use crate::base::{CpuId, Nanos};

impl Credit2 {
    /// Locks two different groups in the order that all use.
    fn lock_pair(&self, a: usize, b: usize) -> (MutexGuard<'_, Group>, MutexGuard<'_, Group>) {
        if a < b {
            let first = self.bays[a].group.lock();
            (first, self.bays[b].group.lock())
        } else {
            let first = self.bays[b].group.lock();
            (self.bays[a].group.lock(), first)
        }
    }

    /// Moves a unit that does not run between two locked groups.
    pub(super) fn transfer(
        &self,
        unit: Unit,
        from: &mut Group,
        to: &mut Group,
        indices: (usize, usize),
    ) {
        if let Some(cell) = from.release(unit, &self.bays[indices.0].hints) {
            self.homes[unit.index()].store(indices.1 as u16, Ordering::Release);
            to.adopt(unit, cell, &self.bays[indices.1].hints);
        }
    }

    /// The latest time that any group knows of.
    pub(super) fn latest(&self) -> Nanos {
        let times = self.bays.iter().map(|bay| bay.hints.known_until());
        times.max().unwrap_or(0)
    }

    /// The group with CPUs in service for the unit that has the least load for each of them; of
    /// those where it is about the same, the one that the fewest call their home.
    pub(super) fn best_home(&self, data: &UnitData, now: Nanos) -> Option<usize> {
        let candidates = self.bays.iter().enumerate().filter(|(index, bay)| {
            let (base, width) = self.seats.range(*index);
            data.effective.bits(base, width) & bay.hints.online() != 0
        });
        let scale = &self.rules.scale;
        let key = |hints: &Hints| {
            let load = scale.roughly(hints.load_of_each(now, scale));
            (load, hints.members_of_each())
        };
        candidates
            .min_by_key(|(_, bay)| key(&bay.hints))
            .map(|(index, _)| index)
    }

    /// Gives a unit that none of its home's CPUs can run another home. Returns whether there is
    /// one. A unit that runs is left alone: it is looked at again when its state is saved.
    fn rehome(&self, unit: Unit, now: Nanos) -> bool {
        let target = match self.lock_home(unit) {
            Some((home, group)) => {
                let data = group.unit(unit);
                data.and_then(|data| self.best_home(data, now))
                    .filter(|&target| target != home)
                    .map(|target| (home, target))
            }
            None => None,
        };
        let Some((home, target)) = target else {
            return false;
        };
        let (mut from, mut to) = self.lock_pair(home, target);
        if from.unit(unit).is_some() {
            self.transfer(unit, &mut from, &mut to, (home, target));
        }
        true
    }

    /// The CPU to kick for a unit that waits in `group` (number `home`). Afterwards one of the CPUs
    /// of the unit's home knows of it, or will when it asks, or saves its state: a CPU without a
    /// rival for what it runs may never ask by itself.
    pub(super) fn find_cpu(
        &self,
        home: usize,
        mut group: MutexGuard<'_, Group>,
        unit: Unit,
        now: Nanos,
    ) -> Option<CpuId> {
        let data = group.unit(unit)?;
        if data.place != Place::Queued {
            return None;
        }
        if let Some(holder) = data.resident {
            // Only that CPU can run the unit or save it; unless it idles it is about to save.
            let cpu = self.claim(holder);
            if cpu.is_some() {
                group.mark_kicked(holder);
            }
            return cpu;
        }
        let idle = self
            .claim_among(home, (data.last_cpu, now), &data.preferred)
            .or_else(|| self.claim_among(home, (data.last_cpu, now), &data.effective));
        let Some(cpu) = idle else {
            return group.find_victim(unit, now, self.rules.limit());
        };
        let (index, _) = self.seats.locate(cpu)?;
        if index != home {
            drop(group);
            let (mut from, mut to) = self.lock_pair(home, index);
            let waits = |data: &UnitData| data.place == Place::Queued && data.resident.is_none();
            if from.unit(unit).is_some_and(waits) {
                self.transfer(unit, &mut from, &mut to, (home, index));
            }
        }
        Some(cpu)
    }

    /// Whether any CPU idles that nobody has kicked.
    fn has_idle(&self) -> bool {
        self.bays.iter().any(|bay| bay.hints.has_idle())
    }

    /// Claims one CPU if it idles.
    fn claim(&self, cpu: CpuId) -> Option<CpuId> {
        let (index, local) = self.seats.locate(cpu)?;
        let claimed = self.bays[index].hints.claim_idle(1 << local, None);
        claimed.map(|_| cpu)
    }

    /// Claims an idle CPU of a set: the last one used, one in the home group, one in the group that
    /// has been loaded least.
    fn claim_among(
        &self,
        home: usize,
        (last, now): (Option<CpuId>, Nanos),
        set: &CpuSet,
    ) -> Option<CpuId> {
        // As on a machine that has work.
        if !self.has_idle() {
            return None;
        }
        let others = || (0..self.bays.len()).filter(|&index| index != home);
        let claim = |index: usize| self.claim_in(index, last, set);
        let least_loaded = || {
            let idle = |index: &usize| {
                let (base, width) = self.seats.range(*index);
                self.bays[*index].hints.idle_in(set.bits(base, width))
            };
            let load = |index: &usize| {
                let scale = &self.rules.scale;
                self.bays[*index].hints.load_of_each(now, scale)
            };
            others().filter(idle).min_by_key(load)
        };
        claim(home)
            .or_else(|| least_loaded().and_then(claim))
            // Somebody was faster there.
            .or_else(|| others().find_map(claim))
    }

    /// Claims an idle CPU of a set in one group.
    #[inline(never)]
    fn claim_in(&self, index: usize, last: Option<CpuId>, set: &CpuSet) -> Option<CpuId> {
        let (base, width) = self.seats.range(index);
        let first = last.and_then(|cpu| cpu.checked_sub(base));
        let bits = set.bits(base, width);
        let claimed = self.bays[index]
            .hints
            .claim_idle(bits, first.filter(|&local| local < width));
        claimed.map(|local| base + local)
    }

    /// Finds a CPU for a unit that may wait, after moving it to where it can be served.
    pub(super) fn place(&self, unit: Unit, now: Nanos) -> Option<CpuId> {
        loop {
            let (home, group) = self.lock_home(unit)?;
            let data = group.unit(unit)?;
            if !matches!(data.place, Place::Queued | Place::Parked) {
                return None;
            }
            if data.resident.is_some() || group.can_serve(data) {
                return self.find_cpu(home, group, unit, now);
            }
            drop(group);
            if !self.rehome(unit, now) {
                return None;
            }
        }
    }

    /// Kicks an idle CPU for a unit that waits: when a CPU that was kicked for it has taken
    /// another one instead. One for each decision suffices, for each takes one unit at most.
    pub(super) fn find_missed(&self, now: Nanos) -> Option<CpuId> {
        if !self.has_idle() {
            return None;
        }
        let busy = self.bays.iter().enumerate();
        busy.filter(|(_, bay)| bay.hints.waiting() > 0)
            .find_map(|(home, bay)| {
                let group = bay.group.lock();
                let for_roaming = group.roaming().find_map(|unit| {
                    let data = group.unit(unit).filter(|data| data.resident.is_none())?;
                    self.claim_among(home, (data.last_cpu, now), &data.effective)
                });
                for_roaming.or_else(|| {
                    let (base, width) = self.seats.range(home);
                    let wanted =
                        |&place: &u32| bay.hints.idle_in(1 << place) && group.has_pinned(place);
                    (0..width)
                        .filter(wanted)
                        .find_map(|place| self.claim(base + place))
                })
            })
    }

    /// Finds CPUs for units of group `own` whose budgets were replenished: for `first`, which was
    /// let go already, and for others until there is one to kick. Whoever keeps the time asks again
    /// for the rest, and this one if it was to `look` for CPUs that idle.
    pub(super) fn serve_due(
        &self,
        (own, local): (usize, u32),
        (first, look): (Option<Unit>, bool),
        now: Nanos,
        decision: &mut Decision,
    ) {
        let bay = &self.bays[own];
        let mut group = bay.group.lock();
        let mut next = first;
        while decision.kick.is_none() {
            let unit = next
                .take()
                .or_else(|| group.unpark_one(now, &self.rules, &bay.hints));
            let Some(unit) = unit else { break };
            if group.unit(unit).is_some_and(|data| !group.can_serve(data)) {
                drop(group);
                decision.kick = self.place(unit, now);
            } else {
                decision.kick = self.find_cpu(own, group, unit, now);
            }
            group = bay.group.lock();
        }
        decision.run_for = group.keep_time(local, now, decision.run_for);
        if look && self.has_idle() {
            if decision.kick.is_none() {
                drop(group);
                decision.kick = self.find_missed(now);
            } else {
                group.look_again = true;
                decision.run_for = Some(0);
            }
        }
    }

    /// Takes a waiting unit over from another group for a CPU that has none. Returns whether it
    /// is worth asking its own queue again.
    pub(super) fn steal(&self, own: usize, cpu: CpuId, local: u32) -> bool {
        let count = self.bays.len();
        for index in (1..count).map(|step| (own + step) % count) {
            if self.bays[index].hints.waiting() == 0 {
                continue;
            }
            let (mut theirs, mut ours) = self.lock_pair(index, own);
            let loaded = ours.cpu(local).and_then(|cpu| cpu.loaded);
            if ours.best_for(cpu, loaded).is_some() {
                return true;
            }
            if let Some(found) = theirs.best_for(cpu, loaded) {
                self.transfer(found.unit, &mut theirs, &mut ours, (index, own));
                return true;
            }
        }
        false
    }

    /// Gives a waiting unit of group `own` to the least loaded group that can use it, if the load of
    /// each CPU is clearly less there, and does not become the one that is more. Returns the CPU to
    /// kick; nothing when all is well.
    ///
    /// Who has too much gives, and nobody takes: a group where each CPU has just one unit need not
    /// look at the others from time to time.
    pub(super) fn balance(&self, own: usize, now: Nanos) -> Option<Option<CpuId>> {
        let scale = &self.rules.scale;
        let of_each = |index: usize| self.bays[index].hints.load_of_each(now, scale);
        let most = of_each(own);
        let tolerance = scale.tolerance(most);
        let mut before = None;
        loop {
            // The next by load: not all units may go to the first.
            let others = (0..self.bays.len())
                .filter(|&index| index != own && self.bays[index].hints.online() != 0)
                .map(|index| (of_each(index), index));
            let next = others.filter(|&other| Some(other) > before).min()?;
            if next.0.saturating_add(tolerance) > most {
                return None;
            }
            before = Some(next);
            let given = self.give((own, next.1), tolerance, now);
            if given.is_some() {
                return given;
            }
        }
    }

    /// Moves a waiting unit between two groups unless the second would then have more.
    fn give(
        &self,
        (from, to): (usize, usize),
        tolerance: u64,
        now: Nanos,
    ) -> Option<Option<CpuId>> {
        let (of_ours, of_theirs) = (&self.bays[from].hints, &self.bays[to].hints);
        let (base, width) = self.seats.range(to);
        let (mut ours, mut theirs) = self.lock_pair(from, to);
        let (unit, moved) = ours.best_to_move((base, width, of_theirs.online()), now)?;
        let scale = &self.rules.scale;
        let after_ours = of_ours.load(now, scale).saturating_sub(moved) / of_ours.cpus();
        let after_theirs = (of_theirs.load(now, scale) + moved) / of_theirs.cpus();
        // Less than what would have it moved back.
        if after_theirs >= after_ours.saturating_add(tolerance) {
            return None;
        }
        self.transfer(unit, &mut ours, &mut theirs, (from, to));
        theirs.unit_mut(unit)?.settled_at = now.saturating_add(SETTLE_TIME);
        drop(ours);
        Some(self.find_cpu(to, theirs, unit, now))
    }

    /// Applies a change of what is online to every unit; returns who must ask again for it.
    pub(super) fn refresh(&self, online: &CpuSet, now: Nanos) -> CpuSet {
        let mut kicks = CpuSet::EMPTY;
        for unit in (0..self.homes.len() as u32).map(Unit) {
            let running = self.lock_home(unit).and_then(|(_, mut group)| {
                group.refresh_affinity(unit, None, online);
                let cpu = running_outside(group.unit(unit)?)?;
                group.mark_kicked(cpu);
                Some(cpu)
            });
            if let Some(cpu) = running.or_else(|| self.place(unit, now)) {
                kicks.insert(cpu);
            }
        }
        kicks
    }
}

/// The CPU that runs the unit although it may not.
pub(super) fn running_outside(data: &UnitData) -> Option<CpuId> {
    match data.place {
        Place::Running(cpu) if !data.effective.contains(cpu) => Some(cpu),
        _ => None,
    }
}
