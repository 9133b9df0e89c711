//! What is counted, and what would be fair.

use alloc::vec;
use alloc::vec::Vec;

/// Steps that a power of two is divided into: values are kept to about 3 percent.
const STEPS: usize = 32;

/// How often which value was seen, in bounded memory.
#[derive(Clone, Debug)]
pub struct Histogram {
    slots: Vec<u64>,
    count: u64,
    sum: u128,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        let octaves = u64::BITS as usize - STEPS.trailing_zeros() as usize;
        Self {
            slots: vec![0; (octaves + 1) * STEPS],
            count: 0,
            sum: 0,
            max: 0,
        }
    }
}

impl Histogram {
    /// By how much a value is shifted to fit below twice the number of steps.
    fn shift(value: u64) -> u32 {
        let bits = u64::BITS - value.leading_zeros();
        bits.saturating_sub(STEPS.trailing_zeros() + 1)
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        let shift = Self::shift(value);
        self.slots[shift as usize * STEPS + (value >> shift) as usize] += 1;
        self.count += 1;
        self.sum += u128::from(value);
        self.max = self.max.max(value);
    }

    /// How many values were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The largest value.
    #[must_use]
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// The mean; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.sum as f64 / self.count.max(1) as f64
    }

    /// The value that `per_mille` of all do not exceed, rounded up to a step.
    #[must_use]
    pub fn quantile(&self, per_mille: u64) -> u64 {
        let wanted = (self.count * per_mille).div_ceil(1000);
        let mut seen = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            seen += slot;
            if seen >= wanted && *slot > 0 {
                let shift = (index / STEPS).saturating_sub(1);
                let top = (((index - shift * STEPS) as u128 + 1) << shift) - 1;
                return self.max.min(top as u64);
            }
        }
        self.max
    }
}

/// What the scheduler's calls cost on the host, when a clock is given.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    /// Nanoseconds of each `schedule`.
    pub decisions: Histogram,
    /// Nanoseconds of each other call.
    pub others: Histogram,
}

/// The shares of a CPU that units of these weights deserve when `cpus` CPUs are left to those who
/// always run: in proportion to weight, but never more than one CPU each.
#[must_use]
pub fn shares_of(weights: &[u16], cpus: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| core::cmp::Reverse(weights[index]));
    let mut sum: f64 = weights.iter().copied().map(f64::from).sum();
    let mut left = cpus;
    let mut shares = vec![0.0; weights.len()];
    for index in order {
        let weight = f64::from(weights[index]);
        let share = (left * weight / sum).min(1.0);
        shares[index] = share;
        if share >= 1.0 {
            left -= 1.0;
            sum -= weight;
        }
    }
    shares
}

/// As [`shares_of`], of whole CPUs.
#[must_use]
pub fn fair_shares(weights: &[u16], cpus: u32) -> Vec<f64> {
    shares_of(weights, f64::from(cpus))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_a_step() {
        let mut histogram = Histogram::default();
        for value in 1..=10_000 {
            histogram.record(value);
        }
        assert_eq!((histogram.count(), histogram.max()), (10_000, 10_000));
        for (per_mille, exact) in [(1, 10), (500, 5_000), (990, 9_900), (999, 9_990)] {
            let found = histogram.quantile(per_mille);
            assert!(
                found >= exact && found <= exact + exact / 30 + 1,
                "{found} {exact}"
            );
        }
        assert_eq!(histogram.quantile(1000), 10_000);
        histogram.record(u64::MAX);
        assert_eq!(histogram.quantile(1000), u64::MAX);
        assert_eq!(Histogram::default().quantile(500), 0);
    }

    #[test]
    fn who_deserves_more_than_a_cpu_gets_one_and_the_rest_is_divided() {
        assert_eq!(fair_shares(&[256, 65535, 256], 2), [0.5, 1.0, 0.5]);
        assert_eq!(fair_shares(&[1, 3], 1), [0.25, 0.75]);
        assert_eq!(fair_shares(&[5, 7], 4), [1.0, 1.0]);
        assert_eq!(shares_of(&[1, 1], 0.5), [0.25, 0.25]);
    }
}
