//! A machine in a nutshell: CPUs that obey the scheduler under a simulated clock, and units with
//! simple habits. The tests check the invariants on it after every event; the program `sched-sim`
//! measures with it, up to 512 CPUs and thousands of units.
//!
//! One seed, one course of events: nothing here depends on the host's clock or on addresses.

mod agenda;
mod check;
mod habit;
mod machine;
mod stats;

pub use habit::Habit;
pub use machine::{Sim, SimUnit, Span};
pub use stats::{Costs, Histogram, fair_shares, shares_of};

use crate::base::Nanos;

/// A microsecond.
pub const US: Nanos = 1_000;
/// A millisecond.
pub const MS: Nanos = 1_000_000;
/// The longest time from a kick until the CPU asks.
pub const KICK: Nanos = 3 * US;
/// The longest time to save a unit's state.
pub const SAVE: Nanos = 20 * US;

/// A small generator (xorshift): the seed decides everything.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice of their own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `bound`.
    pub fn roll(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % bound
    }
}
