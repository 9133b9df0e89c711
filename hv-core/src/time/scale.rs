//! TSC to nanoseconds and back, with the fixed-point factors of `vcpu_time_info` (xen.h).
//!
//! The hypervisor computes its own time with the very factors it gives to guests, so the two never
//! differ by rounding.

use crate::base::Nanos;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Factors for one TSC rate: `ns = ((ticks << shift) * mul) >> 32`, a negative shift being one to
/// the right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TscScale {
    mul: u32,
    shift: i8,
}

impl TscScale {
    /// Factors for a TSC of `hz` ticks per second; none unless it is between 1 kHz and 1 THz.
    #[must_use]
    pub fn from_hz(hz: u64) -> Option<Self> {
        if !(1_000..=1_000_000_000_000).contains(&hz) {
            return None;
        }
        // ratio = ns per tick = mul / 2^32 * 2^shift, with mul in 2^31..2^32 for precision.
        let mut shift = 0_i8;
        let (mut nanos, mut ticks) = (u128::from(NANOS_PER_SECOND), u128::from(hz));
        while nanos >= ticks {
            ticks <<= 1;
            shift += 1;
        }
        while nanos * 2 < ticks {
            nanos <<= 1;
            shift -= 1;
        }
        let mul = ((nanos << 32) + ticks / 2) / ticks;
        // Rounding may reach 1.0, which the next shift represents.
        match u32::try_from(mul) {
            Ok(mul) => Some(Self { mul, shift }),
            Err(_) => Some(Self {
                mul: 1 << 31,
                shift: shift + 1,
            }),
        }
    }

    /// Factors for a TSC of `khz` thousand ticks per second.
    #[must_use]
    pub fn from_khz(khz: u32) -> Option<Self> {
        Self::from_hz(u64::from(khz) * 1000)
    }

    /// `tsc_to_system_mul` of `vcpu_time_info`.
    #[must_use]
    pub const fn mul(self) -> u32 {
        self.mul
    }

    /// `tsc_shift` of `vcpu_time_info`.
    #[must_use]
    pub const fn shift(self) -> i8 {
        self.shift
    }

    /// Nanoseconds in `ticks`, rounded down as guests round; `u64::MAX` when they do not fit.
    #[must_use]
    pub fn ticks_to_ns(self, ticks: u64) -> Nanos {
        let shifted = if self.shift < 0 {
            u128::from(ticks >> self.shift.unsigned_abs())
        } else {
            u128::from(ticks) << self.shift
        };
        let ns = (shifted * u128::from(self.mul)) >> 32;
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// The fewest ticks that last at least `ns`; `u64::MAX` when they do not fit.
    #[must_use]
    pub fn ns_to_ticks(self, ns: Nanos) -> u64 {
        let shifted = (u128::from(ns) << 32).div_ceil(u128::from(self.mul));
        let ticks = if self.shift < 0 {
            shifted << self.shift.unsigned_abs()
        } else {
            shifted.div_ceil(1 << self.shift)
        };
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// System time as a function of the TSC: a point both pass through, and the rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// TSC at the reference point.
    pub tsc: u64,
    /// System time at the reference point.
    pub ns: Nanos,
    /// Rate from there on.
    pub scale: TscScale,
}

impl Clock {
    /// A clock that shows 0 at `tsc`.
    #[must_use]
    pub const fn starting_at(tsc: u64, scale: TscScale) -> Self {
        Self { tsc, ns: 0, scale }
    }

    /// System time at `tsc`. A TSC from before the reference point (read just before another CPU
    /// moved it) gives the reference point itself.
    #[must_use]
    pub fn at(&self, tsc: u64) -> Nanos {
        let elapsed = self.scale.ticks_to_ns(tsc.saturating_sub(self.tsc));
        self.ns.saturating_add(elapsed)
    }

    /// The first TSC value at which system time is at least `ns`: what to program as a deadline.
    #[must_use]
    pub fn tsc_at(&self, ns: Nanos) -> u64 {
        let ticks = self.scale.ns_to_ticks(ns.saturating_sub(self.ns));
        self.tsc.saturating_add(ticks)
    }

    /// The same time line with a new reference point at `tsc`, from where `scale` holds.
    #[must_use]
    pub fn rebased(&self, tsc: u64, scale: TscScale) -> Self {
        Self {
            tsc: tsc.max(self.tsc),
            ns: self.at(tsc),
            scale,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn well_known_rates() {
        let ghz = TscScale::from_hz(1_000_000_000).unwrap();
        assert_eq!((ghz.mul(), ghz.shift()), (1 << 31, 1));
        let two = TscScale::from_khz(2_000_000).unwrap();
        assert_eq!((two.mul(), two.shift()), (1 << 31, 0));
        assert_eq!(two.ticks_to_ns(2_000_000_000), 1_000_000_000);
        assert_eq!(TscScale::from_hz(0), None);
        assert_eq!(TscScale::from_hz(u64::MAX), None);
    }

    #[test]
    fn a_clock_answers_for_the_past_with_its_reference_point() {
        let scale = TscScale::from_khz(2_000_000).unwrap();
        let clock = Clock {
            tsc: 1000,
            ns: 77,
            scale,
        };
        assert_eq!(clock.at(0), 77);
        assert_eq!(clock.tsc_at(0), 1000);
        assert_eq!(clock.at(3000), 1077);
        assert_eq!(clock.tsc_at(u64::MAX), u64::MAX);
    }

    proptest! {
        #[test]
        fn factors_are_normalised_and_precise(hz in 1_000..=1_000_000_000_000_u64) {
            let scale = TscScale::from_hz(hz).unwrap();
            prop_assert!(scale.mul() >= 1 << 31);
            // One hour of ticks is one hour, to a part in 10^9.
            let hour = 3_600 * NANOS_PER_SECOND;
            let error = scale.ticks_to_ns(hz * 3_600).abs_diff(hour);
            prop_assert!(error <= hour / 1_000_000_000 + 2_000_000, "{error}");
            // What a guest derives from the factors (xen.h).
            let derived = ((u128::from(NANOS_PER_SECOND) << 32) / u128::from(scale.mul())) as f64
                / f64::from(scale.shift()).exp2();
            prop_assert!((derived / hz as f64 - 1.0).abs() < 1e-8);
        }

        #[test]
        fn conversion_never_runs_backwards(hz in 1_000..=20_000_000_000_u64, a: u64, b: u64) {
            let scale = TscScale::from_hz(hz).unwrap();
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(scale.ticks_to_ns(low) <= scale.ticks_to_ns(high));
            prop_assert!(scale.ns_to_ticks(low) <= scale.ns_to_ticks(high));
        }

        #[test]
        fn a_deadline_in_ticks_is_never_early_and_hardly_late(
            hz in 100_000_000..=20_000_000_000_u64,
            ns in 0..(1_u64 << 55),
        ) {
            let scale = TscScale::from_hz(hz).unwrap();
            let ticks = scale.ns_to_ticks(ns);
            prop_assert!(scale.ticks_to_ns(ticks) >= ns);
            let slack = 1 << scale.shift().min(0).unsigned_abs();
            if ticks > slack {
                prop_assert!(scale.ticks_to_ns(ticks - slack) <= ns);
            }
        }

        #[test]
        fn rebasing_keeps_the_time_line(
            hz in 100_000_000..=10_000_000_000_u64,
            first in 0..1_u64 << 50,
            then in 0..1_u64 << 50,
        ) {
            let scale = TscScale::from_hz(hz).unwrap();
            let clock = Clock::starting_at(5, scale);
            let moved = clock.rebased(first, scale);
            prop_assert_eq!(moved.at(moved.tsc), clock.at(first));
            let at = moved.tsc + then;
            prop_assert!(moved.at(at).abs_diff(clock.at(at)) <= 2);
        }
    }
}
