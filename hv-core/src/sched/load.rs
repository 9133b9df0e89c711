//! How much work there is, averaged over time: what placement and balancing go by.
//!
//! The load of a unit is its weight while it runs or waits for a CPU, else 0; that of a group is
//! the sum. Of a difference that lasts for the time `dt`, the average takes over the part that
//! `dt` is of a window; after a whole window nothing is left of what was before.

use super::credit::DEFAULT_WEIGHT;
use crate::base::Nanos;

/// How averages are kept, and which differences matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    /// The window in nanoseconds, as a power of two.
    pub window: u32,
    /// Bits of the fraction.
    pub precision: u32,
    /// Tolerated difference where each CPU has work, as a power of two of one unit's load.
    pub over: i32,
    /// The same where some have none.
    pub under: i32,
}

impl Scale {
    /// The average of what has always been `load`.
    pub(super) fn steady(&self, load: u64) -> u64 {
        load << self.precision
    }

    /// A load to an eighth of one unit's: enough to tell who has less.
    pub(super) fn roughly(&self, load: u64) -> u64 {
        load / self.steady(DEFAULT_WEIGHT.into()).div_ceil(8)
    }

    /// By how much the load of another group's CPUs, `theirs` each, must exceed the own.
    pub(super) fn tolerance(&self, theirs: u64) -> u64 {
        let one = self.steady(DEFAULT_WEIGHT.into());
        let power = if theirs < one { self.under } else { self.over };
        if power < 0 {
            one >> power.unsigned_abs()
        } else {
            one << power
        }
    }
}

/// A load, averaged.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Average {
    /// In units of weight, with a fraction.
    pub value: u64,
    /// Up to when.
    pub at: Nanos,
}

impl Average {
    /// Takes in that the load was `load` from `at` until `now`.
    pub(super) fn advance(&mut self, now: Nanos, load: u64, scale: &Scale) {
        let elapsed = now.saturating_sub(self.at);
        if elapsed == 0 {
            return;
        }
        let target = scale.steady(load);
        if elapsed >> scale.window != 0 {
            (self.value, self.at) = (target, now);
            return;
        }
        let distance = target.abs_diff(self.value);
        if distance == 0 {
            self.at = self.at.max(now);
            return;
        }
        let product = u128::from(distance) * u128::from(elapsed);
        let step = (product >> scale.window) as u64;
        // Many short times add up: none is forgotten for being too short.
        if step == 0 {
            return;
        }
        self.at = self.at.max(now);
        if target > self.value {
            self.value += step;
        } else {
            self.value -= step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALE: Scale = Scale {
        window: 30,
        precision: 18,
        over: -3,
        under: 0,
    };

    #[test]
    fn an_average_follows_the_load_within_a_window() {
        let mut average = Average::default();
        average.advance(1 << 29, 256, &SCALE);
        assert_eq!(average.value, 128 << 18);
        average.advance(3 << 28, 0, &SCALE);
        assert_eq!(average.value, 96 << 18);
        average.advance(1 << 28, 1000, &SCALE);
        assert_eq!(
            (average.value, average.at),
            (96 << 18, 3 << 28),
            "an older clock"
        );
        average.advance(7 << 28, 512, &SCALE);
        assert_eq!(average.value, SCALE.steady(512), "after a whole window");
    }

    #[test]
    fn half_the_time_is_half_the_load_whatever_the_step() {
        for (step, precision) in [(1_000, 18), (50_000, 18), (1_000_000, 18), (1_000_000, 8)] {
            let scale = Scale { precision, ..SCALE };
            let mut average = Average::default();
            for turn in 1..=(6_000_000_000 / step) {
                average.advance(turn * step, 256 * (turn % 2), &scale);
            }
            let load = average.value >> precision;
            assert!((120..=136).contains(&load), "{step}, {precision}: {load}");
        }
    }

    #[test]
    fn the_largest_loads_fit() {
        let scale = Scale {
            window: 40,
            precision: 28,
            over: 16,
            under: 16,
        };
        let mut average = Average::default();
        let most = 65_535 * 1024;
        average.advance(u64::MAX, most, &scale);
        average.advance(u64::MAX, 0, &scale);
        assert_eq!(average.value, scale.steady(most));
        assert!(scale.tolerance(0) < u64::MAX / 2);
    }

    #[test]
    fn tolerances_are_powers_of_two_of_one_unit() {
        let one = SCALE.steady(256);
        assert_eq!(SCALE.tolerance(one - 1), one);
        assert_eq!(SCALE.tolerance(one), one / 8);
    }
}
