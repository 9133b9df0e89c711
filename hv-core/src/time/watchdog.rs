//! The watchdogs of a domain (`SCHEDOP_watchdog`): whoever sets one feeds it, or the domain goes down.
//!
//! A pure state machine like [`super::vtimer`]; the earliest deadline is kept among the timers of the domain's first
//! vCPU.

use xen_abi::errno::Errno;

use crate::base::Nanos;

/// Watchdogs that a domain can have at once.
pub const COUNT: usize = 2;
/// Nanoseconds of a second.
const SECOND: Nanos = 1_000_000_000;

/// The deadlines of those that are in use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watchdogs {
    deadlines: [Option<Nanos>; COUNT],
}

impl Watchdogs {
    /// None in use.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            deadlines: [None; COUNT],
        }
    }

    /// Makes a watchdog (`id` 0), feeds one, or stops one (`timeout` 0, in seconds). Returns the number of a new one,
    /// otherwise 0.
    ///
    /// # Errors
    /// `EINVAL` for a number that is not in use, and for a new one without a timeout; `ENOSPC`.
    pub fn set(&mut self, id: u32, timeout: u32, now: Nanos) -> Result<u32, Errno> {
        let deadline = (timeout != 0).then(|| now.saturating_add(Nanos::from(timeout) * SECOND));
        if id == 0 {
            if deadline.is_none() {
                return Err(Errno::EINVAL);
            }
            let free = self.deadlines.iter().position(Option::is_none);
            let free = free.ok_or(Errno::ENOSPC)?;
            self.deadlines[free] = deadline;
            return Ok(free as u32 + 1);
        }
        match self.deadlines.get_mut(id as usize - 1) {
            Some(slot @ Some(_)) => *slot = deadline,
            _ => return Err(Errno::EINVAL),
        }
        Ok(0)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.deadlines.iter().flatten().min().copied()
    }

    /// Whether one was not fed in time.
    #[must_use]
    pub fn is_hungry(&self, now: Nanos) -> bool {
        self.next_deadline().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_can_be_set_fed_and_stopped() {
        let mut dogs = Watchdogs::new();
        assert_eq!(dogs.set(1, 5, 0), Err(Errno::EINVAL), "not set");
        assert_eq!(dogs.set(0, 0, 0), Err(Errno::EINVAL));
        assert_eq!(dogs.set(0, 5, 0), Ok(1));
        assert_eq!(dogs.set(0, 3, 0), Ok(2));
        assert_eq!(dogs.set(0, 3, 0), Err(Errno::ENOSPC));
        assert_eq!(dogs.next_deadline(), Some(3 * SECOND));
        assert_eq!(dogs.set(2, 9, SECOND), Ok(0));
        assert_eq!(dogs.next_deadline(), Some(5 * SECOND));
        assert!(!dogs.is_hungry(5 * SECOND - 1) && dogs.is_hungry(5 * SECOND));
        for id in [3, 4, u32::MAX] {
            assert_eq!(dogs.set(id, 1, 0), Err(Errno::EINVAL));
        }
        assert_eq!(dogs.set(1, 0, 0), Ok(0));
        assert_eq!(dogs.set(1, 0, 0), Err(Errno::EINVAL), "stopped");
        assert_eq!(dogs.set(2, 0, 0), Ok(0));
        assert_eq!(dogs.next_deadline(), None);
        assert_eq!(dogs.set(0, u32::MAX, u64::MAX), Ok(1));
    }
}
