//! Whether the time-stamp counters of two CPUs agree, as far as anybody can tell.
//!
//! Both CPUs, in turns that nobody arranges, look at the latest reading that either has published and
//! then read their own counter. A counter that shows less than what was published before it was read
//! is behind, for certain; by how much at least is the result. Nothing waits for anything, so the
//! measurement ends even where the other CPU has stopped.

use core::sync::atomic::{AtomicU64, Ordering};

/// A measurement between two CPUs.
#[derive(Debug, Default)]
pub struct WarpMeter {
    latest: AtomicU64,
    worst: AtomicU64,
}

impl WarpMeter {
    /// Nothing measured.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            latest: AtomicU64::new(0),
            worst: AtomicU64::new(0),
        }
    }

    /// One CPU's part; both take part at about the same time. `counter` reads its counter, and not
    /// before what the program did before has been done.
    pub fn measure(&self, rounds: u32, counter: impl Fn() -> u64) {
        for _ in 0..rounds {
            let published = self.latest.load(Ordering::SeqCst);
            let now = counter();
            if let Some(behind) = published.checked_sub(now).filter(|ticks| *ticks != 0) {
                self.worst.fetch_max(behind, Ordering::Relaxed);
            }
            self.latest.fetch_max(now, Ordering::SeqCst);
        }
    }

    /// By how many ticks one counter was seen to be behind the other; 0: they agree.
    pub fn worst(&self) -> u64 {
        self.worst.load(Ordering::Relaxed)
    }

    /// Forgets what was measured, for the next CPU.
    pub fn reset(&self) {
        self.latest.store(0, Ordering::Relaxed);
        self.worst.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn counters_that_agree_are_never_blamed() {
        let (meter, both) = (WarpMeter::new(), Barrier::new(2));
        let ticks = AtomicU64::new(1_000);
        std::thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    both.wait();
                    meter.measure(100_000, || ticks.fetch_add(1, Ordering::SeqCst));
                });
            }
        });
        assert_eq!(meter.worst(), 0);
    }

    #[test]
    fn a_difference_is_found_whoever_is_behind_and_never_exaggerated() {
        let ticks = AtomicU64::new(1_000);
        let counter = |ahead: u64| ticks.fetch_add(1, Ordering::SeqCst) + ahead;
        for turns in [[0, 50, 0], [50, 0, 50]] {
            let meter = WarpMeter::new();
            for ahead in turns {
                meter.measure(10, || counter(ahead));
            }
            assert!((1..50).contains(&meter.worst()), "{}", meter.worst());
        }
    }

    #[test]
    fn one_cpu_alone_comes_to_an_end() {
        let meter = WarpMeter::new();
        let ticks = AtomicU64::new(0);
        meter.measure(100, || ticks.fetch_add(3, Ordering::SeqCst));
        assert_eq!(meter.worst(), 0);
        meter.measure(1, || 5);
        assert_eq!(meter.worst(), 297 - 5);
        meter.reset();
        meter.measure(1, || 5);
        assert_eq!(meter.worst(), 0);
    }
}
