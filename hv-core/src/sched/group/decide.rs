//! A group's decision: whom a CPU runs, and for how long.

use core::sync::atomic::Ordering;

use super::{Group, Hints};
use crate::base::{CpuId, Nanos};
use crate::sched::credit::{self, MAX_SLICE, MIN_SLICE};
use crate::sched::rules::Rules;
use crate::sched::unit::{Place, UnitData, Wish};
use crate::sched::{Decision, Unit};

impl Group {
    /// What the CPU does next; an idle answer leaves it marked as idle.
    pub(in super::super) fn pick(
        &mut self,
        local: u32,
        now: Nanos,
        rules: &Rules,
        hints: &Hints,
    ) -> Decision {
        let at = local as usize;
        let bit = 1_u64 << local;
        let cpu_id = self.base + local;
        let online = self.online & bit != 0;
        self.average.advance(now, self.load, &self.scale);
        self.charge(at, now, rules);
        self.cpus[at].kicked = false;
        if hints.idle.load(Ordering::Relaxed) & bit != 0 {
            hints.idle.fetch_and(!bit, Ordering::SeqCst);
        }
        let prev = self.cpus[at].current;
        if let Some(unit) = prev {
            self.refund(unit, rules);
        }
        let stay = prev.filter(|&unit| {
            let data = self.known(unit);
            online && data.wish == Wish::Run && data.effective.contains(cpu_id)
        });
        let next = self.choose_funded(at, stay, now, rules, online);
        if let Some(unit) = next {
            let credit = self.known(unit).credit;
            if credit <= 0 {
                self.reset(credit::grants_needed(credit), now, rules);
            }
        }
        let mut migrated = false;
        if next != prev {
            if let Some(unit) = next {
                self.dequeue(unit);
            }
            if let Some(unit) = prev {
                self.put_back(unit, cpu_id, now, rules);
            }
            if let Some(unit) = next {
                migrated = self.start(unit, at, cpu_id, now);
            }
            self.cpus[at].current = next;
        } else if let Some(unit) = next {
            self.known_mut(unit).yielding = false;
        }
        self.cpus[at].rate = self.max_weight;
        self.publish(hints);
        let save = self.settle_loaded(at, next, online);
        let run_for = next.and_then(|unit| self.slice(at, cpu_id, unit, now, rules.limit()));
        let end = run_for.map_or(Nanos::MAX, |time| now.saturating_add(time));
        self.cpus[at].resched_at = end;
        self.lone &= !bit;
        if next.is_some() && run_for.is_none() {
            self.lone |= bit;
        }
        if next.is_none() && online {
            hints.idle.fetch_or(bit, Ordering::SeqCst);
        }
        Decision {
            next,
            run_for,
            save,
            migrated,
            kick: None,
        }
    }

    /// Whom to run, with time taken from its budget; those that find none are parked.
    fn choose_funded(
        &mut self,
        at: usize,
        mut stay: Option<Unit>,
        now: Nanos,
        rules: &Rules,
        online: bool,
    ) -> Option<Unit> {
        loop {
            let unit = self.choose(at, stay, now, rules.limit(), online)?;
            if self.fund(unit, now, rules) {
                return Some(unit);
            }
            if stay == Some(unit) {
                // It is listed when it leaves the CPU.
                self.account(unit, now);
                self.known_mut(unit).place = Place::Parked;
                stay = None;
            } else {
                self.dequeue(unit);
                self.park(unit, now, rules);
            }
        }
    }

    /// Whom to run: `stay` (the one that runs, if it can go on) or the best that waits.
    fn choose(
        &self,
        at: usize,
        stay: Option<Unit>,
        now: Nanos,
        limit: Nanos,
        online: bool,
    ) -> Option<Unit> {
        if self.queue.is_empty() || !online {
            return stay;
        }
        let cpu = &self.cpus[at];
        let best = || self.best_for(self.base + at as CpuId, cpu.loaded);
        let Some(unit) = stay else {
            return best().map(|best| best.unit);
        };
        let data = self.known(unit);
        if !data.yielding && now.saturating_sub(cpu.since) < limit {
            return stay;
        }
        match best() {
            Some(best) if data.yielding || best.score > data.credit => Some(best.unit),
            _ => stay,
        }
    }

    /// Ends a unit's run: back to the queue, or to sleep.
    fn put_back(&mut self, unit: Unit, cpu: CpuId, now: Nanos, rules: &Rules) {
        let data = self.known_mut(unit);
        data.yielding = false;
        data.last_cpu = Some(cpu);
        match data.wish {
            Wish::Run if data.place == Place::Parked => self.park(unit, now, rules),
            Wish::Run => {
                data.place = Place::Queued;
                self.enqueue(unit);
            }
            Wish::Sleep => {
                self.account(unit, now);
                let data = self.known_mut(unit);
                data.place = Place::Asleep;
                let weight = u64::from(data.weight);
                self.load -= weight;
            }
        }
    }

    /// Starts a unit; returns whether it comes from another CPU.
    fn start(&mut self, unit: Unit, at: usize, cpu_id: CpuId, now: Nanos) -> bool {
        let data = self.known_mut(unit);
        let migrated = data.last_cpu.is_some_and(|last| last != cpu_id);
        data.place = Place::Running(cpu_id);
        data.last_cpu = Some(cpu_id);
        data.resident = Some(cpu_id);
        data.unload = false;
        let cpu = &mut self.cpus[at];
        cpu.charged = cpu.charged.max(now);
        cpu.since = now;
        migrated
    }

    /// Records whose state the CPU holds from now on; returns whose must be saved first.
    fn settle_loaded(&mut self, at: usize, next: Option<Unit>, online: bool) -> Option<Unit> {
        let loaded = self.cpus[at].loaded;
        if next.is_some() {
            self.cpus[at].loaded = next;
            return loaded.filter(|_| loaded != next);
        }
        let wanted = |data: &UnitData| data.place != Place::Asleep || data.unload || !online;
        loaded.filter(|&unit| self.unit(unit).is_none_or(wanted))
    }

    /// How long the unit runs: until it would fall behind the best that waits, or has used what it
    /// took from its budget; without end if there is neither.
    fn slice(&self, at: usize, cpu: CpuId, unit: Unit, now: Nanos, limit: Nanos) -> Option<Nanos> {
        let turn = self.turn(at, cpu, unit, now, limit);
        let data = self.known(unit);
        let paid = data.budget.map(|_| data.held);
        turn.into_iter().chain(paid).min()
    }

    /// How long the unit runs before it would fall behind the best that waits. If none does: until
    /// the rate limit ends, so that whoever wakes before need not disturb the CPU; then without end.
    fn turn(&self, at: usize, cpu: CpuId, unit: Unit, now: Nanos, limit: Nanos) -> Option<Nanos> {
        let protected = limit.saturating_sub(now.saturating_sub(self.cpus[at].since));
        // One whose state is not saved yet will be by the time the slice ends.
        let Some(rival) = self.best_of(cpu, None) else {
            return (protected > 0).then_some(protected);
        };
        let data = self.known(unit);
        let lead = data.credit.saturating_sub(rival.score);
        if lead < 0 && protected > 0 {
            // Only the rate limit keeps the rival waiting.
            return Some(protected);
        }
        let behind = credit::time_to_burn(lead, data.weight, self.max_weight);
        Some(behind.clamp(MIN_SLICE, MAX_SLICE).max(protected))
    }

    /// Whether the CPU asks because a unit's slice has ended.
    pub(in super::super) fn has_expired(&self, local: u32, now: Nanos) -> bool {
        self.cpu(local)
            .is_some_and(|cpu| cpu.current.is_some() && now >= cpu.resched_at)
    }

    /// A CPU to kick because it has no end to its slice, though one waits that it could run: the
    /// best of those that wait for the CPU at hand, which has found so at the end of a slice. For
    /// waits that are shorter nobody is disturbed.
    pub(in super::super) fn call_lone(&mut self, local: u32) -> Option<CpuId> {
        if self.lone == 0 {
            return None;
        }
        let rival = self.best_of(self.base + local, None)?.unit;
        let effective = &self.known(rival).effective;
        let width = self.cpus.len() as u32;
        let bits = effective.bits(self.base, width) & self.online & self.lone;
        let free = |&at: &u32| bits >> at & 1 == 1 && !self.cpus[at as usize].kicked;
        let found = (0..width).find(free)?;
        self.cpus[found as usize].kicked = true;
        Some(self.base + found)
    }
}
