//! What units do with their time.

use super::Dice;
use crate::base::Nanos;

/// What a unit does with its time. "About" is anything up to twice as much, evenly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Habit {
    /// Always runs.
    Hog,
    /// Runs for about `run`, then sleeps for about `pause`.
    Bursts {
        /// Time on a CPU.
        run: Nanos,
        /// Time asleep.
        pause: Nanos,
    },
    /// Runs for about `run`, then sleeps until all of its gang have done so.
    Gang {
        /// Which gang.
        gang: usize,
        /// Time on a CPU from one barrier to the next.
        run: Nanos,
    },
    /// Runs for about `run`, wakes its peer and sleeps until the peer does the same.
    Rally {
        /// Index of the other one, whose peer is this one.
        peer: usize,
        /// Time on a CPU for each turn.
        run: Nanos,
    },
    /// Wants all it can get, and sleeps just before its CPU would ask the scheduler again.
    Dodger {
        /// How long before.
        margin: Nanos,
        /// How long it sleeps.
        pause: Nanos,
    },
    /// Wants all it can get, and is never runnable when a clock ticks.
    TickDodger {
        /// Time between two ticks.
        period: Nanos,
        /// How long before a tick it sleeps, and how long after it wakes.
        margin: Nanos,
    },
}

impl Habit {
    /// Whether it would use a whole CPU (but for what its tricks cost).
    #[must_use]
    pub const fn is_greedy(&self) -> bool {
        matches!(
            self,
            Self::Hog | Self::Dodger { .. } | Self::TickDodger { .. }
        )
    }

    /// How long it will run after it has been woken, without regard to what its CPU does.
    pub(super) fn burst(&self, dice: &mut Dice) -> Nanos {
        match *self {
            Self::Bursts { run, .. } | Self::Gang { run, .. } | Self::Rally { run, .. } => {
                1 + dice.roll(2 * run)
            }
            Self::Hog | Self::Dodger { .. } | Self::TickDodger { .. } => Nanos::MAX,
        }
    }

    /// When it goes to sleep however little it ran, given that it woke at `now`.
    pub(super) fn bedtime(&self, now: Nanos) -> Option<Nanos> {
        match *self {
            Self::TickDodger { period, margin } => {
                Some((now + margin) / period * period + period - margin)
            }
            _ => None,
        }
    }

    /// When it wakes by itself, given that it goes to sleep at `now`.
    pub(super) fn alarm(&self, now: Nanos, dice: &mut Dice) -> Option<Nanos> {
        match *self {
            Self::Bursts { pause, .. } => Some(now + 1 + dice.roll(2 * pause)),
            Self::Dodger { pause, .. } => Some(now + pause.max(1)),
            Self::TickDodger { period, margin } => {
                Some((now + margin) / period * period + margin.max(1))
            }
            Self::Hog | Self::Gang { .. } | Self::Rally { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_dodges_ticks_sleeps_across_each() {
        let habit = Habit::TickDodger {
            period: 1000,
            margin: 10,
        };
        let mut dice = Dice::new(1);
        assert_eq!(habit.bedtime(500), Some(990));
        assert_eq!(habit.alarm(990, &mut dice), Some(1010));
        assert_eq!(habit.bedtime(1010), Some(1990));
    }
}
