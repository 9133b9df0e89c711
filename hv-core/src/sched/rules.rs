//! What all groups decide by, besides their own state.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use super::budget::{Budget, quota};
use super::load::Scale;
use crate::base::Nanos;
use crate::boot::cmdline::Credit2Options;

/// Settings and budgets; all groups refer to one.
pub(super) struct Rules {
    /// The shortest time a unit runs before another may preempt it.
    pub ratelimit_us: AtomicU32,
    /// What that was at first.
    first_ratelimit_us: u32,
    /// How often budgets are replenished.
    pub period: Nanos,
    /// Advantage in credit that a unit needs to be taken over from another CPU: caches are warm
    /// there.
    pub resistance: i64,
    /// How loads are averaged and compared.
    pub scale: Scale,
    /// By the number that units have as `budget`.
    budgets: Vec<Budget>,
}

impl Rules {
    pub(super) fn new(options: &Credit2Options, budgets: Vec<Budget>) -> Self {
        let ratelimit_us = options.ratelimit_us.unsigned_abs();
        Self {
            ratelimit_us: AtomicU32::new(ratelimit_us),
            first_ratelimit_us: ratelimit_us,
            period: u64::from(options.cap_period_ms.unsigned_abs()) * 1_000_000,
            resistance: i64::from(options.migrate_resist) * 1000,
            scale: Scale {
                window: options.load_window_shift.unsigned_abs(),
                precision: options.load_precision_shift.unsigned_abs(),
                over: options.balance_over,
                under: options.balance_under,
            },
            budgets,
        }
    }

    /// Settings as they were at first.
    pub(super) fn reset(&self) {
        self.ratelimit_us
            .store(self.first_ratelimit_us, Ordering::Relaxed);
    }

    pub(super) fn limit(&self) -> Nanos {
        u64::from(self.ratelimit_us.load(Ordering::Relaxed)) * 1000
    }

    /// The budget of a unit, if its domain has a cap.
    pub(super) fn budget(&self, number: Option<u16>) -> Option<&Budget> {
        self.budgets.get(usize::from(number?))
    }

    /// When budgets are replenished next.
    pub(super) fn next_period(&self, now: Nanos) -> Nanos {
        (now - now % self.period).saturating_add(self.period)
    }

    /// Changes the budget of a domain whose present one, if any, is `number`; 0 is no cap. The
    /// caller holds the lock of the parameters. `None`: there is no budget left.
    pub(super) fn set_cap(&self, number: Option<u16>, cap: u16) -> Option<Option<u16>> {
        let quota = quota(cap, self.period);
        match (self.budget(number), cap) {
            (None, 0) => Some(None),
            (Some(budget), 0) => {
                budget.drop_user();
                Some(None)
            }
            (Some(budget), _) => {
                budget.set_quota(quota);
                Some(number)
            }
            (None, _) => {
                let free = self.budgets.iter().position(Budget::is_free)?;
                self.budgets[free].claim(quota);
                Some(Some(free as u16))
            }
        }
    }

    /// Counts a unit as a user of its new budget and no longer of its old one.
    pub(super) fn change_user(&self, old: Option<u16>, new: Option<u16>) {
        if let Some(budget) = self.budget(new) {
            budget.add_user();
        }
        if let Some(budget) = self.budget(old) {
            budget.drop_user();
        }
    }
}
