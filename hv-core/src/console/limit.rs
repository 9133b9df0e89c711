//! A token bucket: bounds how often something may happen without forbidding short bursts.

use crate::base::Nanos;

/// Answer of [`TokenBucket::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Go ahead. `suppressed` counts the refusals since the last time something passed.
    Pass {
        /// Refusals since the previous pass.
        suppressed: u32,
    },
    /// Too often: do nothing. The refusal is counted.
    Refuse,
}

/// Up to `burst` events at once, then one event for each `interval`.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    burst: u32,
    interval: Nanos,
    tokens: u32,
    /// Time up to which tokens have been credited.
    credited: Nanos,
    suppressed: u32,
}

impl TokenBucket {
    /// A full bucket of `burst` tokens (at least one) which gains one token each `interval`
    /// nanoseconds. An interval of 0 refills at once, so nothing is ever refused.
    #[must_use]
    pub const fn new(burst: u32, interval: Nanos) -> Self {
        let burst = if burst == 0 { 1 } else { burst };
        Self {
            burst,
            interval,
            tokens: burst,
            credited: 0,
            suppressed: 0,
        }
    }

    /// Takes a token at time `now`. A clock that steps back credits nothing.
    pub const fn take(&mut self, now: Nanos) -> Verdict {
        self.credit(now);
        if self.tokens == 0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return Verdict::Refuse;
        }
        self.tokens -= 1;
        let suppressed = self.suppressed;
        self.suppressed = 0;
        Verdict::Pass { suppressed }
    }

    const fn credit(&mut self, now: Nanos) {
        if self.interval == 0 {
            self.tokens = self.burst;
            return;
        }
        let elapsed = now.saturating_sub(self.credited);
        let earned = elapsed / self.interval;
        let missing = (self.burst - self.tokens) as u64;
        if earned >= missing {
            self.tokens = self.burst;
            // A full bucket gains nothing: the time spent full must not count later.
            if elapsed > 0 {
                self.credited = now;
            }
        } else {
            self.tokens += earned as u32;
            self.credited += earned * self.interval;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(b: &mut TokenBucket, now: Nanos) -> bool {
        matches!(b.take(now), Verdict::Pass { .. })
    }

    #[test]
    fn burst_then_one_for_each_interval() {
        let mut b = TokenBucket::new(3, 100);
        assert_eq!((0..5).filter(|_| passes(&mut b, 0)).count(), 3);
        assert!(!passes(&mut b, 99));
        assert!(passes(&mut b, 100));
        assert!(!passes(&mut b, 150));
        assert!(passes(&mut b, 200));
    }

    #[test]
    fn suppressed_events_are_reported_once() {
        let mut b = TokenBucket::new(1, 100);
        assert_eq!(b.take(0), Verdict::Pass { suppressed: 0 });
        assert_eq!(b.take(1), Verdict::Refuse);
        assert_eq!(b.take(2), Verdict::Refuse);
        assert_eq!(b.take(500), Verdict::Pass { suppressed: 2 });
        assert_eq!(b.take(1000), Verdict::Pass { suppressed: 0 });
    }

    #[test]
    fn idle_time_earns_no_more_than_the_burst() {
        let mut b = TokenBucket::new(2, 10);
        assert_eq!((0..9).filter(|_| passes(&mut b, 1_000_000)).count(), 2);
    }

    #[test]
    fn clock_going_back_is_harmless() {
        let mut b = TokenBucket::new(1, 10);
        assert!(passes(&mut b, 1000));
        assert!(!passes(&mut b, 5));
        assert!(passes(&mut b, 1010));
    }

    #[test]
    fn no_interval_means_no_limit() {
        let mut b = TokenBucket::new(1, 0);
        assert!((0..100).all(|_| passes(&mut b, 7)));
    }
}
