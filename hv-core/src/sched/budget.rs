//! The time that a capped domain may run: a budget for each period, shared by its units.
//!
//! Units of one domain are at home in different groups, under different locks, so a budget is one
//! atomic word: what is left, and the period up to which it was replenished. Whoever looks in a
//! later period replenishes; no timer is needed for that, only for units that wait for it
//! ([`super::group`] parks them). A unit takes a part of the budget before it runs, never beyond
//! the end of the period, and gives back what it did not use. So in no period a domain runs for
//! longer than its quota, but for [`MIN_TAKE`] and what a CPU comes late to end a slice, and
//! both are debts that the next period pays first.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::credit::MIN_SLICE;
use crate::base::Nanos;

/// The shortest time worth a change of context (50 us); a budget that has less left gives this.
pub(super) const MIN_TAKE: Nanos = 50_000;

/// Bits of the word that count periods; the others, signed, are nanoseconds.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;
/// Clocks of CPUs differ by less than this many periods: an older look is not a wrap of the count.
const SKEW: u64 = 16;
/// Bound of what the word holds (146 minutes): far above any quota.
const MAX_LEVEL: i64 = (1 << (63 - COUNT_BITS)) - 1;

/// The budget of one domain, or of none.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// Nanoseconds for each period; 0 is no limit.
    quota: AtomicU64,
    /// What is left and the number of the period, packed.
    state: AtomicU64,
    /// The domain's entry in the table of parameters, and its units.
    users: AtomicU32,
}

impl Budget {
    /// Begins to be a domain's.
    pub(super) fn claim(&self, quota: Nanos) {
        self.users.store(1, Ordering::Relaxed);
        self.quota.store(quota, Ordering::Relaxed);
        self.state.store(pack((quota as i64, 0)), Ordering::Relaxed);
    }

    /// Changes the quota: from the next period on, but that a lower one bounds what is left.
    pub(super) fn set_quota(&self, quota: Nanos) {
        self.quota.store(quota, Ordering::Relaxed);
        self.change(&mut |level, count| (level.min(quota as i64), count));
    }

    pub(super) fn is_free(&self) -> bool {
        self.users.load(Ordering::Relaxed) == 0
    }

    pub(super) fn add_user(&self) {
        self.users.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_user(&self) {
        self.users.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes time to run from `now` on. 0: there is none before the next period.
    pub(super) fn take(&self, now: Nanos, period: Nanos) -> Nanos {
        let quota = self.quota.load(Ordering::Relaxed);
        let units = self.users.load(Ordering::Relaxed).saturating_sub(1).max(1);
        // Each its part, so that none takes what all are to have.
        let part = (quota / u64::from(units)).max(MIN_SLICE);
        let part = part.min(period - now % period);
        let mut taken = 0;
        self.change(&mut |level, count| {
            let (level, count) = replenished((level, count), now / period, quota);
            taken = match u64::try_from(level) {
                Ok(left) if left > 0 => part.min(left.max(MIN_TAKE)),
                _ => 0,
            };
            (level - taken as i64, count)
        });
        taken
    }

    /// Whether a unit could run now.
    pub(super) fn has_some(&self, now: Nanos, period: Nanos) -> bool {
        let quota = self.quota.load(Ordering::Relaxed);
        let state = unpack(self.state.load(Ordering::Relaxed));
        replenished(state, now / period, quota).0 > 0
    }

    /// Takes back what a unit did not use.
    pub(super) fn give_back(&self, time: Nanos) {
        let quota = self.quota.load(Ordering::Relaxed);
        self.change(&mut |level, count| ((level + time as i64).min(quota as i64), count));
    }

    /// A unit ran for longer than it had taken.
    pub(super) fn overrun(&self, time: Nanos) {
        let time = i64::try_from(time).unwrap_or(MAX_LEVEL).min(MAX_LEVEL);
        self.change(&mut |level, count| (level - time, count));
    }

    #[inline(never)]
    fn change(&self, step: &mut dyn FnMut(i64, u64) -> (i64, u64)) {
        let _always = self
            .state
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| {
                let (level, count) = unpack(state);
                Some(pack(step(level, count)))
            });
    }
}

/// The state in period `number`, which may be the one it is for already.
fn replenished((level, count): (i64, u64), number: u64, quota: Nanos) -> (i64, u64) {
    let passed = number.wrapping_sub(count) & COUNT_MASK;
    if passed == 0 || passed > COUNT_MASK - SKEW {
        return (level, count);
    }
    let quota = quota as i64;
    // Neither factor is above 2^40; what was left is not kept beyond the quota.
    let level = level.saturating_add(quota.saturating_mul(passed as i64));
    (level.min(quota), number & COUNT_MASK)
}

fn pack((level, count): (i64, u64)) -> u64 {
    (level.clamp(-MAX_LEVEL, MAX_LEVEL) as u64) << COUNT_BITS | count
}

fn unpack(state: u64) -> (i64, u64) {
    (state as i64 >> COUNT_BITS, state & COUNT_MASK)
}

/// What `cap` percent of a CPU are in a period.
pub(super) fn quota(cap: u16, period: Nanos) -> Nanos {
    u64::from(cap) * period / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Nanos = 10_000_000;

    fn budget(cap: u16, units: u32) -> Budget {
        let budget = Budget::default();
        budget.claim(quota(cap, PERIOD));
        for _ in 0..units {
            budget.add_user();
        }
        budget
    }

    #[test]
    fn what_is_taken_never_exceeds_the_quota_nor_the_period() {
        let budget = budget(25, 1);
        assert_eq!(budget.take(PERIOD, PERIOD), 2_500_000);
        assert_eq!(budget.take(PERIOD + 1, PERIOD), 0);
        assert!(!budget.has_some(2 * PERIOD - 1, PERIOD));
        assert!(budget.has_some(2 * PERIOD, PERIOD));
        assert_eq!(budget.take(3 * PERIOD - 1_000, PERIOD), 1_000);
        assert_eq!(budget.take(3 * PERIOD, PERIOD), 2_500_000);
    }

    #[test]
    fn debts_are_paid_first_and_leftovers_kept_up_to_the_quota() {
        let budget = budget(25, 1);
        budget.give_back(budget.take(PERIOD, PERIOD));
        assert_eq!(budget.take(9 * PERIOD, PERIOD), 2_500_000);
        budget.overrun(6_000_000);
        assert!(!budget.has_some(10 * PERIOD, PERIOD));
        assert!(!budget.has_some(11 * PERIOD, PERIOD));
        assert_eq!(budget.take(12 * PERIOD, PERIOD), 1_500_000);
    }

    #[test]
    fn units_share_a_quota_and_the_last_crumb_is_worth_a_run() {
        let budget = budget(40, 4);
        let parts: Vec<_> = (0..5).map(|_| budget.take(PERIOD, PERIOD)).collect();
        assert_eq!(parts, [1_000_000, 1_000_000, 1_000_000, 1_000_000, 0]);
        budget.give_back(7);
        assert_eq!(budget.take(PERIOD, PERIOD), MIN_TAKE);
        assert!(!budget.has_some(PERIOD, PERIOD));
    }

    #[test]
    fn an_older_clock_changes_nothing_and_a_long_sleep_replenishes() {
        let budget = budget(50, 1);
        assert_eq!(budget.take(5 * PERIOD, PERIOD), 5_000_000);
        assert_eq!(budget.take(4 * PERIOD, PERIOD), 0);
        assert!(!budget.has_some(5 * PERIOD, PERIOD));
        // One for which the count has come round to the same number takes one period more.
        for periods in [1, 1 << 19, (1 << 20) - 20, (1 << 20) + 1, (1 << 30) + 1] {
            assert!(budget.has_some((5 + periods) * PERIOD, PERIOD), "{periods}");
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let budget = Budget::default();
        let period = 1_000_000_000;
        budget.claim(quota(u16::MAX, period));
        budget.overrun(u64::MAX);
        budget.overrun(u64::MAX);
        assert!(!budget.has_some(period, period));
        assert!(budget.has_some(20 * period, period));
        assert!(budget.take(20 * period, period) > 0);
    }
}
