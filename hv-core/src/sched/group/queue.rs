//! A group's queue: its order, and who of it suits a CPU.

use super::{Candidate, Group};
use crate::base::{CpuId, Nanos};
use crate::sched::Unit;
use crate::sched::affinity::Affinity;
use crate::sched::cpuset::CpuSet;
use crate::sched::unit::Place;

impl Group {
    /// Where in the queue a unit stands by its part and credit: behind all that are better.
    pub(super) fn key(&self, unit: Unit) -> (u8, i64) {
        let data = self.known(unit);
        (data.part, data.credit)
    }

    pub(super) fn first_at(&self, key: (u8, i64)) -> usize {
        self.queue.partition_point(|&other| self.key(other) < key)
    }

    /// A part of the queue, best last.
    pub(super) fn part(&self, part: u8) -> &[Unit] {
        let end = |unit: Option<&Unit>| unit.map_or(part, |&unit| self.known(unit).part);
        let (first, last) = (end(self.queue.first()), end(self.queue.last()));
        if last < part || part < first {
            return &[];
        }
        let from = if first == part {
            0
        } else {
            self.first_at((part, i64::MIN))
        };
        let to = if last == part {
            self.queue.len()
        } else {
            self.first_at((part + 1, i64::MIN))
        };
        &self.queue[from..to]
    }

    pub(super) fn enqueue(&mut self, unit: Unit) {
        let (base, width) = (self.base, self.cpus.len() as u32);
        let data = self.known_mut(unit);
        let place = data.pin.and_then(|cpu| cpu.checked_sub(base));
        data.part = place
            .filter(|&place| place < width)
            .map_or(0, |place| place as u8 + 1);
        let weight = data.weight;
        self.max_weight = self.max_weight.max(weight);
        self.queue.insert(self.first_at(self.key(unit)), unit);
    }

    pub(super) fn dequeue(&mut self, unit: Unit) {
        let (part, credit) = self.key(unit);
        let from = self.first_at((part, credit));
        let to = self.first_at((part, credit.saturating_add(1)));
        // The best is the last of its equals.
        let found = self.queue[from..to]
            .iter()
            .rposition(|&other| other == unit);
        if let Some(offset) = found {
            self.queue.remove(from + offset);
        }
    }

    /// Recomputes where a unit may run, with another affinity if one is given.
    pub(in super::super) fn refresh_affinity(
        &mut self,
        unit: Unit,
        affinity: Option<&Affinity>,
        online: &CpuSet,
    ) {
        let queued = self.unit(unit).map(|data| data.place) == Some(Place::Queued);
        if queued {
            self.dequeue(unit);
        }
        if let Some(data) = self.unit_mut(unit) {
            data.affinity = affinity.copied().unwrap_or(data.affinity);
            data.refresh_affinity(online);
        }
        if queued {
            self.enqueue(unit);
        }
    }

    /// The best unit in the queue for `cpu`, which may be another group's: among those that it
    /// could load now (it holds the state of the given one), or among all that may run there.
    pub(super) fn best_of(&self, cpu: CpuId, loaded: Option<Option<Unit>>) -> Option<Candidate> {
        // Most often nothing waits, or nothing that is pinned.
        let last = self.known(*self.queue.last()?).part;
        let place = cpu.wrapping_sub(self.base);
        let parts = [0, place.saturating_add(1)];
        let count = 1 + usize::from(last != 0 && place < self.cpus.len() as u32);
        let mut best: Option<Candidate> = None;
        for part in &parts[..count] {
            for &unit in self.part(*part as u8).iter().rev() {
                let data = self.known(unit);
                // Scores never exceed credit, and credit only falls from here on.
                if best.is_some_and(|best| data.credit <= best.score) {
                    break;
                }
                let may_load = loaded.is_none_or(|loaded| data.may_load(unit, cpu, loaded));
                if !may_load || !data.effective.contains(cpu) {
                    continue;
                }
                let score = data.score(cpu, self.resistance);
                if best.is_none_or(|best| score > best.score) {
                    best = Some(Candidate { unit, score });
                }
            }
        }
        best
    }

    /// Units that wait and may run on several CPUs, best first.
    pub(in super::super) fn roaming(&self) -> impl Iterator<Item = Unit> + '_ {
        self.part(0).iter().rev().copied()
    }

    /// Whether a unit waits that only the CPU at a place may run and that it could load.
    pub(in super::super) fn has_pinned(&self, place: u32) -> bool {
        let mut pinned = self.part(place as u8 + 1).iter().rev();
        pinned.any(|&unit| self.known(unit).resident.is_none())
    }

    /// The best unit in the queue that `cpu`, which holds the state of `loaded`, can start now.
    /// The CPU may be one of another group.
    pub(in super::super) fn best_for(&self, cpu: CpuId, loaded: Option<Unit>) -> Option<Candidate> {
        self.best_of(cpu, Some(loaded))
    }

    /// The best waiting unit that another group's CPUs could take over for balance, and its load.
    /// The group has its seats in this range, and these of them are in service. One that prefers
    /// those CPUs comes before one that does not.
    pub(in super::super) fn best_to_move(
        &mut self,
        (base, width, online): (CpuId, u32, u64),
        now: Nanos,
    ) -> Option<(Unit, u64)> {
        self.average.advance(now, self.load, &self.scale);
        let has = |set: &CpuSet| set.bits(base, width) & online != 0;
        let mut second = None;
        let first = self.roaming().find(|&unit| {
            let data = self.known(unit);
            let can = data.resident.is_none() && now >= data.settled_at && has(&data.effective);
            if can && !has(&data.preferred) {
                second.get_or_insert(unit);
            }
            can && has(&data.preferred)
        });
        let found = first.or(second)?;
        Some((found, self.account(found, now)))
    }
}
