//! Whether the CPUs are alive (`watchdog`): each is watched by another one.
//!
//! A CPU beats with each pass through its run loop in which it does something. One that sits in a guest has no reason
//! to, so who sees no beat asks for one first; asking makes a CPU come out of its guest. Only what is still
//! silent after that is stuck in the hypervisor. Looks are counted and not nanoseconds: a machine that was
//! stopped as a whole, as an emulator or a hypervisor below may do, has missed one look, however long it took.

use crate::base::{CpuId, Nanos};

/// Looks without a beat, after it was asked for, until a CPU is stuck.
const LOOKS: u32 = 5;

/// Time between two looks, for a time-out in seconds.
#[must_use]
pub const fn period(timeout: u32) -> Nanos {
    timeout as Nanos * (1_000_000_000 / LOOKS as Nanos)
}

/// What a CPU shows to who watches it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sign {
    /// Counts its beats.
    pub beats: u64,
    /// It waits for interrupts, with nothing to do.
    pub rests: bool,
}

/// What a look leads to.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing is to be done now.
    Fine,
    /// It is to be asked for a beat.
    Ask,
    /// It has been stuck for the time-out: an NMI makes it tell where.
    Stuck,
    /// It does not take the NMI either.
    Gone,
}

/// What one CPU knows of the one that it watches.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    whom: CpuId,
    beats: u64,
    /// Looks in a row at which there was nothing new.
    silent: u32,
}

impl Watch {
    /// Nobody looked at yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            whom: 0,
            beats: 0,
            silent: 0,
        }
    }

    /// Looks at a CPU, [`period`] after the last look.
    pub fn look(&mut self, whom: CpuId, sign: Sign) -> Verdict {
        if sign.rests || whom != self.whom || sign.beats != self.beats {
            *self = Self {
                whom,
                beats: sign.beats,
                silent: 0,
            };
            return Verdict::Fine;
        }
        self.silent = self.silent.saturating_add(1);
        match self.silent {
            1 => Verdict::Ask,
            0..=LOOKS => Verdict::Fine,
            silent if silent == LOOKS + 1 => Verdict::Stuck,
            _ => Verdict::Gone,
        }
    }
}

/// Whom CPU `watcher` of `count` watches: the next one in a ring of those that are there; itself where it is alone. So
/// as long as one CPU works, each one that does not is watched, or the one before it in a row of such.
pub fn watched_by(watcher: CpuId, count: CpuId, is_there: impl Fn(CpuId) -> bool) -> CpuId {
    (watcher + 1..count)
        .chain(0..watcher)
        .find(|cpu| is_there(*cpu))
        .unwrap_or(watcher)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn busy(beats: u64) -> Sign {
        Sign {
            beats,
            rests: false,
        }
    }

    #[test]
    fn silence_is_asked_about_then_told_of() {
        let mut watch = Watch::new();
        assert_eq!(watch.look(1, busy(7)), Verdict::Fine);
        assert_eq!(watch.look(1, busy(7)), Verdict::Ask);
        for _ in 1..LOOKS {
            assert_eq!(watch.look(1, busy(7)), Verdict::Fine);
        }
        assert_eq!(watch.look(1, busy(7)), Verdict::Stuck);
        assert_eq!(watch.look(1, busy(7)), Verdict::Gone);
        assert_eq!(watch.look(1, busy(8)), Verdict::Fine, "it came back");
        assert_eq!(watch.look(1, busy(8)), Verdict::Ask);
        assert_eq!(watch.look(2, busy(8)), Verdict::Fine, "another one");
    }

    #[test]
    fn the_time_out_lies_between_the_question_and_the_verdict() {
        assert_eq!(period(5), 1_000_000_000);
        for timeout in [1, 5, 60, u32::MAX] {
            let allowed = period(timeout) * Nanos::from(LOOKS);
            assert_eq!(allowed, Nanos::from(timeout) * 1_000_000_000);
        }
    }

    #[test]
    fn who_rests_owes_nothing() {
        let mut watch = Watch::new();
        for _ in 0..100 {
            let sign = Sign {
                beats: 3,
                rests: true,
            };
            assert_eq!(watch.look(1, sign), Verdict::Fine);
        }
    }

    #[test]
    fn watchers_form_a_ring_of_those_that_are_there() {
        assert_eq!(watched_by(0, 1, |_| true), 0);
        assert_eq!(watched_by(0, 4, |cpu| cpu != 1), 2);
        assert_eq!(watched_by(3, 4, |_| true), 0);
        assert_eq!(watched_by(2, 4, |cpu| cpu == 2), 2);
    }

    proptest! {
        /// A CPU that beats when it is asked, late but in time, is never stuck, in a guest or not.
        #[test]
        fn who_answers_in_time_is_not_stuck(delays in prop::collection::vec(1..=LOOKS, 1..40)) {
            let (mut watch, mut beats, mut delays) = (Watch::new(), 0, delays.into_iter());
            let mut due = None;
            for look in 0..200_u32 {
                if due == Some(look) {
                    beats += 1;
                    due = None;
                }
                match watch.look(1, busy(beats)) {
                    Verdict::Fine => {}
                    Verdict::Ask => match delays.next() {
                        Some(delay) => due = Some(look + delay),
                        None => break,
                    },
                    bad => prop_assert!(false, "{bad:?} at look {look}"),
                }
            }
        }

        /// One that stops beating is told of once, after as many looks as the time-out has.
        #[test]
        fn who_never_answers_is_stuck(beats in 1..100_u64) {
            let mut watch = Watch::new();
            for beat in 1..=beats {
                prop_assert_eq!(watch.look(1, busy(beat)), Verdict::Fine);
            }
            let verdicts: Vec<_> = (0..LOOKS + 3).map(|_| watch.look(1, busy(beats))).collect();
            let stuck = verdicts.iter().filter(|v| **v == Verdict::Stuck).count();
            prop_assert_eq!((stuck, verdicts[LOOKS as usize]), (1, Verdict::Stuck));
        }

        /// Of CPUs of which some work, at least one that does not is watched by one that does.
        #[test]
        fn somebody_watches(works in prop::collection::vec(any::<bool>(), 2..20)) {
            prop_assume!(works.contains(&true) && works.contains(&false));
            let count = works.len() as CpuId;
            let seen = (0..count).any(|cpu| {
                works[cpu as usize] && !works[watched_by(cpu, count, |_| true) as usize]
            });
            prop_assert!(seen);
        }
    }
}
