//! What came of it.

use alloc::vec::Vec;

use super::Sim;
use crate::base::Nanos;

impl Sim {
    /// Time that a unit ran, with the stretch that is under way.
    #[must_use]
    pub fn ran(&self, index: usize) -> Nanos {
        let unit = &self.units[index];
        unit.ran + unit.on.map_or(0, |(_, since)| self.now - since)
    }

    /// The longest wait of a unit for a CPU, with one that is under way.
    #[must_use]
    pub fn longest_wait(&self, index: usize) -> Nanos {
        let unit = &self.units[index];
        let waits = if unit.waits() {
            self.now - unit.waits_since
        } else {
            0
        };
        unit.worst_wait.max(waits)
    }

    /// Run times of all units as shares of a CPU.
    #[must_use]
    pub fn shares(&self) -> Vec<f64> {
        let total = self.now as f64;
        (0..self.units.len())
            .map(|index| self.ran(index) as f64 / total)
            .collect()
    }

    /// How often the scheduler looked at a unit's data so far: a measure of its work that does
    /// not depend on the host.
    #[must_use]
    pub fn looks(&self) -> u64 {
        self.units
            .iter()
            .filter_map(|unit| {
                let (_, group) = self.sched.lock_home(unit.unit)?;
                group.unit(unit.unit).map(|data| data.looks.get())
            })
            .sum()
    }
}
