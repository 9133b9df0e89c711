//! The TSC's rate, measured against a [`Reference`].
//!
//! Each sample brackets one reading of the reference by two of the TSC. A host that preempts us
//! inside a bracket makes it long, and long ones are dropped; preemption between samples does no
//! harm. A line is fitted through all good samples, which averages the reference's coarse ticks
//! away: within 10 ms even the PIT (838 ns per tick) gives a few parts in a million. Five windows
//! are fitted separately too, and must agree: that shows a counter that lost a turn or stopped.

use super::reference::{Counter, Reference};
use crate::base::Nanos;

/// Why there is no result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CalibrationError {
    /// The interval is outside 1 to 200 ms.
    BadInterval,
    /// The reference does not advance.
    ReferenceStuck,
    /// The TSC does not advance.
    TscStuck,
    /// Too few samples were undisturbed.
    TooNoisy,
    /// The windows disagree by more than a part in a thousand.
    Unstable,
    /// No CPU has such a rate (Hz).
    Implausible(u64),
}

/// TSC rates that are believed.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 100_000_000..=16_000_000_000;
/// Windows that are fitted separately.
const WINDOWS: usize = 5;
/// Undisturbed samples that a window needs.
const MIN_SAMPLES: u32 = 8;
/// Samples that a fit takes at most; bounds its sums.
const MAX_SAMPLES: u32 = 1 << 20;
/// Readings without progress after which the reference counts as stuck: at least 10 ms.
const STUCK_AFTER: u32 = 100_000;
/// Readings by which the length of an undisturbed one is found.
const PROBES: usize = 31;

/// One reading of the reference between two of the TSC.
struct Sample {
    count: u64,
    /// TSC half-way between the two.
    tsc: u64,
    /// TSC ticks between the two.
    latency: u64,
}

fn sample<C: Counter>(tsc: &mut impl FnMut() -> u64, reference: &Reference<C>) -> Sample {
    let before = tsc();
    let count = reference.read();
    let after = tsc();
    let latency = after.wrapping_sub(before);
    Sample {
        count,
        tsc: before.wrapping_add(latency / 2),
        latency,
    }
}

/// Sums for the least-squares line through points (reference ticks, TSC ticks).
#[derive(Clone, Copy, Default)]
struct Fit {
    samples: u32,
    x: i128,
    y: i128,
    xx: i128,
    xy: i128,
}

impl Fit {
    fn add(&mut self, x: u64, y: u64) {
        if self.samples < MAX_SAMPLES {
            let (x, y) = (i128::from(x), i128::from(y));
            self.samples += 1;
            self.x += x;
            self.y += y;
            self.xx += x * x;
            self.xy += x * y;
        }
    }

    /// TSC ticks per second: the slope, times the reference's rate.
    fn hz<C: Counter>(&self, reference: &Reference<C>) -> Option<u64> {
        if self.samples < MIN_SAMPLES {
            return None;
        }
        let n = i128::from(self.samples);
        let rise = n * self.xy - self.x * self.y;
        let run = n * self.xx - self.x * self.x;
        // 24 fraction bits: x < 2^26, y < 2^32 and n <= 2^20 keep the product below 2^127.
        let slope = rise.checked_mul(1 << 24)?.checked_div(run)?;
        let hz = reference.rate().scale(u128::try_from(slope).ok()?) >> 24;
        u64::try_from(hz).ok()
    }
}

/// TSC ticks per second, measured for `interval` nanoseconds (10 ms give about 1e-6 with an HPET or PM timer).
///
/// # Errors
/// See [`CalibrationError`]: try the next reference.
pub fn calibrate<C: Counter>(
    mut tsc: impl FnMut() -> u64,
    reference: &Reference<C>,
    interval: Nanos,
) -> Result<u64, CalibrationError> {
    if !(1_000_000..=200_000_000).contains(&interval) {
        return Err(CalibrationError::BadInterval);
    }
    let window = (reference.rate().ticks_in(interval) / WINDOWS as u64).max(1);
    let limit = good_latency(&mut tsc, reference);
    let start = sample(&mut tsc, reference);
    let mut whole = Fit::default();
    let mut windows = [Fit::default(); WINDOWS];
    let (mut last, mut elapsed, mut still) = (start.count, 0_u64, 0);
    loop {
        let now = sample(&mut tsc, reference);
        let step = reference.elapsed(last, now.count);
        if step == 0 || reference.looks_backwards(step) {
            still += 1;
            if still > STUCK_AFTER {
                return Err(CalibrationError::ReferenceStuck);
            }
        } else {
            still = 0;
            last = now.count;
            elapsed += step;
        }
        let index = (elapsed / window) as usize;
        let Some(fit) = windows.get_mut(index) else {
            break;
        };
        if now.latency <= limit && !reference.looks_backwards(step) {
            let ticks = now.tsc.wrapping_sub(start.tsc);
            // A leap beyond 200 ms at 16 GHz: a TSC that was written to. The windows will tell.
            if ticks < 1 << 32 {
                fit.add(elapsed, ticks);
                whole.add(elapsed, ticks);
            }
        }
    }
    conclude(reference, &whole, &windows)
}

/// For how long to measure, each in turn, on a machine that is itself given its CPU in pieces.
const INTERVALS: [Nanos; 3] = [10_000_000, 50_000_000, 200_000_000];

/// As [`calibrate`], for longer while what disturbs it is only noise.
///
/// # Errors
/// See [`CalibrationError`]: try the next reference.
pub fn calibrate_patiently<C: Counter>(
    mut tsc: impl FnMut() -> u64,
    reference: &Reference<C>,
) -> Result<u64, CalibrationError> {
    let mut result = Err(CalibrationError::BadInterval);
    for interval in INTERVALS {
        result = calibrate(&mut tsc, reference, interval);
        let noise = CalibrationError::TooNoisy;
        if result != Err(noise) && result != Err(CalibrationError::Unstable) {
            break;
        }
    }
    result
}

/// How long a reading may take to count as undisturbed, in TSC ticks.
fn good_latency<C: Counter>(tsc: &mut impl FnMut() -> u64, reference: &Reference<C>) -> u64 {
    let mut latencies = [0; PROBES];
    for latency in &mut latencies {
        *latency = sample(tsc, reference).latency;
    }
    latencies.sort_unstable();
    let (best, median) = (latencies[0], latencies[PROBES / 2]);
    best.saturating_mul(2)
        .max(median.saturating_add(median / 4))
}

/// The whole fit if the windows agree with it, else their median if they agree among themselves.
fn conclude<C: Counter>(
    reference: &Reference<C>,
    whole: &Fit,
    windows: &[Fit; WINDOWS],
) -> Result<u64, CalibrationError> {
    let mut rates = [0; WINDOWS];
    let mut valid = 0;
    for hz in windows.iter().filter_map(|fit| fit.hz(reference)) {
        rates[valid] = hz;
        valid += 1;
    }
    if valid <= WINDOWS / 2 {
        return Err(CalibrationError::TooNoisy);
    }
    let rates = &mut rates[..valid];
    rates.sort_unstable();
    let median = rates[valid / 2];
    if median == 0 {
        return Err(CalibrationError::TscStuck);
    }
    if !PLAUSIBLE_HZ.contains(&median) {
        return Err(CalibrationError::Implausible(median));
    }
    let agreeing = rates.iter().filter(|&&hz| agree(hz, median, 1_000)).count();
    if agreeing <= WINDOWS / 2 {
        return Err(CalibrationError::Unstable);
    }
    match whole.hz(reference) {
        Some(hz) if agree(hz, median, 100) => Ok(hz),
        _ => Ok(median),
    }
}

/// Whether two rates differ by at most `ppm` parts in a million: for cross-checking references,
/// or a measured rate with the one that CPUID leaf 0x15 states.
#[must_use]
pub fn agree(a: u64, b: u64, ppm: u32) -> bool {
    let allowed = u128::from(a.max(b)) * u128::from(ppm) / 1_000_000;
    u128::from(a.abs_diff(b)) <= allowed
}

#[cfg(test)]
mod tests;
