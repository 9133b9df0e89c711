//! Units of domains with a cap: paying from the budget, and waiting for the next.
//!
//! All budgets are replenished at the same moments. A unit is parked by the CPU that finds no
//! budget for it; one CPU of the group keeps the time for all that are parked.

use super::{Group, Hints, Place};
use crate::base::Nanos;
use crate::sched::Unit;
use crate::sched::budget::Budget;
use crate::sched::rules::Rules;
use crate::sched::unit::UNCOUNTED;

impl Group {
    /// Takes time for a unit that is to run; `false` when its domain has none left.
    pub(super) fn fund(&mut self, unit: Unit, now: Nanos, rules: &Rules) -> bool {
        let data = self.known_mut(unit);
        let Some(budget) = rules.budget(data.budget) else {
            return true;
        };
        data.held = budget.take(now, rules.period);
        data.held != 0
    }

    /// Gives back what a unit that ran has not used.
    pub(super) fn refund(&mut self, unit: Unit, rules: &Rules) {
        let data = self.known_mut(unit);
        let left = core::mem::take(&mut data.held);
        if left != 0
            && left != UNCOUNTED
            && let Some(budget) = rules.budget(data.budget)
        {
            budget.give_back(left);
        }
    }

    /// Has a unit wait for its budget; it is in no list, and counts as load so far.
    pub(super) fn park(&mut self, unit: Unit, now: Nanos, rules: &Rules) {
        self.account(unit, now);
        let data = self.known_mut(unit);
        data.place = Place::Parked;
        self.load -= u64::from(data.weight);
        self.list(unit, now, rules);
    }

    fn list(&mut self, unit: Unit, now: Nanos, rules: &Rules) {
        self.parked.push(unit);
        self.unpark_at = self.unpark_at.min(rules.next_period(now));
    }

    /// Parks a unit that wakes where no CPU need look at it for that: another keeps the time
    /// already, and none holds its state.
    pub(super) fn park_early(&mut self, unit: Unit, now: Nanos, rules: &Rules) -> bool {
        let keeper = self.keeper;
        let data = self.known_mut(unit);
        let early = data.resident.is_none() && keeper.is_some();
        let poor = |budget: &Budget| !budget.has_some(now, rules.period);
        if !early || !rules.budget(data.budget).is_some_and(poor) {
            return false;
        }
        data.place = Place::Parked;
        self.list(unit, now, rules);
        true
    }

    /// Takes a unit off the list of those that are parked.
    pub(super) fn unlist(&mut self, unit: Unit) {
        if let Some(at) = self.parked.iter().position(|&other| other == unit) {
            self.parked.remove(at);
            self.due -= usize::from(at < self.due);
        }
    }

    /// Whether budgets were replenished and units are to be looked at for that.
    pub(in super::super) fn has_due(&mut self, now: Nanos, rules: &Rules) -> bool {
        if now >= self.unpark_at {
            self.due = self.parked.len();
            self.unpark_at = rules.next_period(now);
        }
        self.due > 0
    }

    /// Lets the next unit compete again whose budget was replenished. It needs a CPU then.
    pub(in super::super) fn unpark_one(
        &mut self,
        now: Nanos,
        rules: &Rules,
        hints: &Hints,
    ) -> Option<Unit> {
        while self.has_due(now, rules) {
            let unit = self.parked.remove(0);
            self.due -= 1;
            let budget = rules.budget(self.known(unit).budget);
            if budget.is_none_or(|budget| budget.has_some(now, rules.period)) {
                self.compete(unit, now);
                self.publish(hints);
                return Some(unit);
            }
            self.parked.push(unit);
        }
        None
    }

    /// When the CPU asks again, given when it would: sooner if it keeps the time for units that
    /// are parked, and at once if some are still to be looked at.
    pub(in super::super) fn keep_time(
        &mut self,
        local: u32,
        now: Nanos,
        run_for: Option<Nanos>,
    ) -> Option<Nanos> {
        if self.parked.is_empty() {
            self.unpark_at = Nanos::MAX;
            self.keeper = None;
            return run_for;
        }
        let online = self.online >> local & 1 == 1;
        if !online || self.keeper.is_some_and(|keeper| keeper != local) {
            return run_for;
        }
        self.keeper = Some(local);
        let at = if self.due > 0 { now } else { self.unpark_at };
        let left = at.saturating_sub(now);
        let cpu = &mut self.cpus[local as usize];
        cpu.resched_at = cpu.resched_at.min(at);
        Some(run_for.map_or(left, |time| time.min(left)))
    }

    /// The CPU that must ask, for none keeps the time for units that are parked.
    pub(in super::super) fn lacks_keeper(&self) -> Option<u32> {
        let lacks = !self.parked.is_empty() && self.keeper.is_none() && self.online != 0;
        lacks.then_some(self.online.trailing_zeros())
    }
}
