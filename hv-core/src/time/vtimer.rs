//! The timers of a vCPU: one-shot and periodic (vcpu.h), the timeout of `SCHEDOP_poll`, and when its domain's watchdogs
//! are to be looked at.
//!
//! A pure state machine: it says when it wants to be asked again ([`VcpuTimers::next_deadline`])
//! and what is owed then ([`VcpuTimers::expire`]). The hardware, or the heap of the CPU that the
//! vCPU is on, is the caller's.

use xen_abi::errno::Errno;

use crate::base::Nanos;

/// Shortest period of the periodic timer: 1 ms.
pub const MIN_PERIOD: Nanos = 1_000_000;
/// Longest period: what fits into the ABI's signed time, with room for sums.
pub const MAX_PERIOD: Nanos = u64::MAX >> 2;
/// Period of the timer with which a vCPU starts: 10 ms, as the ABI has always had it. Kernels stop it.
const FIRST_PERIOD: Nanos = 10_000_000;
/// `set_timer_op` with a deadline further away than this (13 days) was computed from a time that
/// had wrapped.
const FAR_FUTURE: Nanos = 1 << 50;
/// When a guest with such a deadline is interrupted instead: it then looks and arms anew.
const SECOND_LOOK: Nanos = 100_000_000;

/// What is owed to the vCPU.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Expired {
    /// Raise `VIRQ_TIMER`.
    pub virq_timer: bool,
    /// The poll's timeout has passed: wake the vCPU.
    pub poll: bool,
    /// The local APIC's deadline has passed: it is to be looked at.
    pub lapic: bool,
}

/// What the caller does after a timer was set.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arming {
    /// Ask again at that time; it is not earlier than `now`.
    At(Nanos),
    /// Nothing is armed any more.
    Idle,
    /// A deadline has passed: call [`VcpuTimers::expire`] now.
    Due,
}

#[derive(Clone, Copy, Debug)]
struct Periodic {
    period: Nanos,
    /// `None` until the vCPU first runs.
    next: Option<Nanos>,
}

/// The timers of one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct VcpuTimers {
    singleshot: Option<Nanos>,
    periodic: Option<Periodic>,
    poll: Option<Nanos>,
    watchdog: Option<Nanos>,
    lapic: Option<Nanos>,
}

impl Default for VcpuTimers {
    fn default() -> Self {
        Self::new()
    }
}

impl VcpuTimers {
    /// Those of a new vCPU: the periodic timer waits for [`Self::start`], nothing else is armed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            singleshot: None,
            periodic: Some(Periodic {
                period: FIRST_PERIOD,
                next: None,
            }),
            poll: None,
            watchdog: None,
            lapic: None,
        }
    }

    /// The vCPU comes up: its first periodic timer runs from now on, unless it was stopped or set before.
    pub fn start(&mut self, now: Nanos) -> Arming {
        if let Some(periodic) = &mut self.periodic {
            let _since = periodic
                .next
                .get_or_insert(now.saturating_add(periodic.period));
        }
        self.arming(now)
    }

    /// `VCPUOP_set_singleshot_timer`. Times are signed in the ABI: one with the top bit set lies
    /// in the past. A deadline in the past fires at once, whatever the flags say (4.17 does not look at them).
    pub fn set_singleshot(&mut self, at: Nanos, now: Nanos) -> Arming {
        self.singleshot = Some(if at > i64::MAX as u64 { 0 } else { at });
        self.arming(now)
    }

    /// `VCPUOP_stop_singleshot_timer`.
    pub fn stop_singleshot(&mut self, now: Nanos) -> Arming {
        self.singleshot = None;
        self.arming(now)
    }

    /// `set_timer_op`: the one-shot timer with 0 for "stop". A deadline that is negative or beyond
    /// any use is taken for a mistake of the guest and fires soon, for it could hang otherwise.
    pub fn set_timer_op(&mut self, at: Nanos, now: Nanos) -> Arming {
        self.singleshot = match at {
            0 => None,
            _ if at > i64::MAX as u64 || at.saturating_sub(now) >= FAR_FUTURE => {
                Some(now.saturating_add(SECOND_LOOK))
            }
            _ => Some(at),
        };
        self.arming(now)
    }

    /// `VCPUOP_set_periodic_timer`.
    ///
    /// # Errors
    /// `EINVAL` for a period below [`MIN_PERIOD`] or beyond [`MAX_PERIOD`].
    pub fn set_periodic(&mut self, period: Nanos, now: Nanos) -> Result<Arming, Errno> {
        if !(MIN_PERIOD..=MAX_PERIOD).contains(&period) {
            return Err(Errno::EINVAL);
        }
        let next = Some(now.saturating_add(period));
        self.periodic = Some(Periodic { period, next });
        Ok(self.arming(now))
    }

    /// `VCPUOP_stop_periodic_timer`.
    pub fn stop_periodic(&mut self, now: Nanos) -> Arming {
        self.periodic = None;
        self.arming(now)
    }

    /// The period of the periodic timer; 0 when it is stopped.
    #[must_use]
    pub fn period(&self) -> Nanos {
        self.periodic.map_or(0, |periodic| periodic.period)
    }

    /// Starts the timeout of `SCHEDOP_poll`; 0 is "none", a time in the past passes at once.
    pub fn set_poll(&mut self, at: Nanos, now: Nanos) -> Arming {
        self.poll = (at != 0).then_some(at);
        self.arming(now)
    }

    /// Ends the timeout of `SCHEDOP_poll`.
    pub fn stop_poll(&mut self, now: Nanos) -> Arming {
        self.poll = None;
        self.arming(now)
    }

    /// The domain's watchdogs are to be looked at then, or need not be. [`Self::expire`] leaves this as it is: who
    /// looks at them sets it anew.
    pub fn set_watchdog(&mut self, at: Option<Nanos>, now: Nanos) -> Arming {
        self.watchdog = at;
        self.arming(now)
    }

    /// The timer of the vCPU's local APIC is to be looked at then, or need not be.
    pub fn set_lapic(&mut self, at: Option<Nanos>, now: Nanos) -> Arming {
        self.lapic = at;
        self.arming(now)
    }

    /// When there is something to do next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        let periodic = self.periodic.and_then(|periodic| periodic.next);
        [
            self.singleshot,
            periodic,
            self.poll,
            self.watchdog,
            self.lapic,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What the caller does given what is armed, for instance after the vCPU moved.
    pub fn arming(&self, now: Nanos) -> Arming {
        match self.next_deadline() {
            None => Arming::Idle,
            Some(at) if at <= now => Arming::Due,
            Some(at) => Arming::At(at),
        }
    }

    /// Takes what is due. Periods that were missed (the vCPU did not run) count once; the phase
    /// is kept.
    pub fn expire(&mut self, now: Nanos) -> Expired {
        let mut expired = Expired::default();
        if self.singleshot.is_some_and(|at| at <= now) {
            self.singleshot = None;
            expired.virq_timer = true;
        }
        if let Some(Periodic {
            period,
            next: Some(next),
        }) = &mut self.periodic
            && *next <= now
        {
            let missed = (now - *next) / *period;
            let ahead = period.saturating_mul(missed.saturating_add(1));
            *next = next.saturating_add(ahead);
            expired.virq_timer = true;
        }
        if self.poll.is_some_and(|at| at <= now) {
            self.poll = None;
            expired.poll = true;
        }
        if self.lapic.is_some_and(|at| at <= now) {
            self.lapic = None;
            expired.lapic = true;
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIMER: Expired = Expired {
        virq_timer: true,
        poll: false,
        lapic: false,
    };

    #[test]
    fn a_singleshot_fires_once() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_singleshot(100, 50), Arming::At(100));
        assert_eq!(timers.expire(99), Expired::default());
        assert_eq!(timers.expire(100), TIMER);
        assert_eq!(timers.expire(200), Expired::default());
        assert_eq!(timers.arming(200), Arming::Idle);
    }

    #[test]
    fn the_past_fires_at_once() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.arming(50), Arming::Idle);
        assert_eq!(timers.set_singleshot(50, 50), Arming::Due);
        assert_eq!(timers.set_singleshot(10, 50), Arming::Due);
        assert_eq!(timers.expire(50), TIMER);
        // Negative as the ABI counts.
        assert_eq!(timers.set_singleshot(u64::MAX, 50), Arming::Due);
        assert_eq!(timers.set_singleshot(1 << 63, 50), Arming::Due);
        let last = i64::MAX as u64;
        assert_eq!(timers.set_singleshot(last, 50), Arming::At(last));
        assert_eq!(timers.stop_singleshot(50), Arming::Idle);
    }

    #[test]
    fn a_watchdog_waits_for_who_looks_at_it() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_watchdog(Some(9), 5), Arming::At(9));
        assert_eq!(timers.expire(9), Expired::default());
        assert_eq!(timers.arming(9), Arming::Due);
        assert_eq!(timers.set_watchdog(None, 9), Arming::Idle);
    }

    #[test]
    fn a_local_apic_is_looked_at_once() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_lapic(Some(9), 5), Arming::At(9));
        let _ = timers.set_poll(12, 5);
        assert_eq!(timers.expire(8), Expired::default());
        let due = timers.expire(9);
        assert!(due.lapic && !due.poll && !due.virq_timer);
        assert_eq!(timers.arming(9), Arming::At(12));
        assert_eq!(timers.set_lapic(Some(3), 9), Arming::Due);
        assert_eq!(timers.set_lapic(None, 9), Arming::At(12));
    }

    #[test]
    fn a_vcpu_starts_with_a_period_of_10_ms() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.next_deadline(), None);
        assert_eq!(timers.start(5), Arming::At(10_000_005));
        assert_eq!(timers.start(6), Arming::At(10_000_005), "it runs already");
        assert_eq!(timers.expire(10_000_005), TIMER);
        assert_eq!(timers.next_deadline(), Some(20_000_005));
        assert_eq!(timers.stop_periodic(7), Arming::Idle);
        assert_eq!(timers.start(8), Arming::Idle);
    }

    #[test]
    fn set_timer_op_stops_on_zero_and_distrusts_the_far_future() {
        let mut timers = VcpuTimers::new();
        let now = 1_000;
        assert_eq!(timers.set_timer_op(2_000, now), Arming::At(2_000));
        assert_eq!(timers.set_timer_op(0, now), Arming::Idle);
        assert_eq!(timers.set_timer_op(1, now), Arming::Due);
        let edge = now + FAR_FUTURE - 1;
        assert_eq!(timers.set_timer_op(edge, now), Arming::At(edge));
        for odd in [edge + 1, 1 << 63, u64::MAX] {
            let soon = Arming::At(now + SECOND_LOOK);
            assert_eq!(timers.set_timer_op(odd, now), soon);
        }
    }

    #[test]
    fn periods_are_checked() {
        let mut timers = VcpuTimers::new();
        for bad in [0, MIN_PERIOD - 1, MAX_PERIOD + 1, u64::MAX] {
            assert_eq!(timers.set_periodic(bad, 0), Err(Errno::EINVAL));
        }
        assert_eq!(timers.period(), FIRST_PERIOD);
        let armed = timers.set_periodic(MIN_PERIOD, 5);
        assert_eq!(armed, Ok(Arming::At(MIN_PERIOD + 5)));
        assert!(timers.set_periodic(MAX_PERIOD, u64::MAX).is_ok());
    }

    #[test]
    fn missed_periods_count_once_and_keep_the_phase() {
        let mut timers = VcpuTimers::new();
        let period = 2 * MIN_PERIOD;
        let _ = timers.set_periodic(period, 7);
        assert_eq!(timers.expire(7 + 5 * period + 3), TIMER);
        assert_eq!(timers.next_deadline(), Some(7 + 6 * period));
        assert_eq!(timers.stop_periodic(0), Arming::Idle);
    }

    #[test]
    fn a_poll_does_not_raise_the_timer_interrupt() {
        let mut timers = VcpuTimers::new();
        assert_eq!(timers.set_poll(0, 5), Arming::Idle);
        assert_eq!(timers.set_poll(3, 5), Arming::Due);
        let _ = timers.set_singleshot(9, 5);
        let woken = timers.expire(5);
        assert!(woken.poll && !woken.virq_timer);
        assert_eq!(timers.stop_poll(5), Arming::At(9));
    }

    proptest! {
        /// Asked when it wants to be, or later, as a CPU does that has other work: the one-shot timer fires once and not
        /// early, the periodic one at most once in a period and always in phase, and each as soon as it is asked.
        #[test]
        fn timers_fire_in_time_however_late_they_are_asked(
            shot in 0..50_000_000_u64,
            period in MIN_PERIOD..20_000_000_u64,
            delays in prop::collection::vec(0..7_000_000_u64, 1..40),
        ) {
            let mut timers = VcpuTimers::new();
            let start = 1_000;
            let _ = timers.set_periodic(period, start);
            let _ = timers.set_singleshot(start + shot, start);
            let mut periods = 0;
            let mut shots = 0;
            for delay in delays {
                let due = timers.next_deadline().unwrap();
                let now = due + delay;
                let one_shot = timers.singleshot.is_some_and(|at| at <= now);
                let in_phase = timers.periodic.and_then(|p| p.next).unwrap();
                prop_assert_eq!((in_phase - start) % period, 0);
                prop_assert_eq!(timers.expire(now), TIMER);
                prop_assert!(!one_shot || now >= start + shot);
                shots += u32::from(one_shot);
                periods += u64::from(in_phase <= now);
                prop_assert!(periods <= (now - start) / period);
                prop_assert!(timers.next_deadline().unwrap() > now);
                prop_assert!(timers.next_deadline().unwrap() <= now + period);
            }
            prop_assert_eq!(shots, u32::from(timers.singleshot.is_none()));
        }

        #[test]
        fn never_panics_and_after_expiry_nothing_is_due(
            at: u64, period: u64, poll: u64, then: u64, now: u64,
        ) {
            let mut timers = VcpuTimers::new();
            let _ = timers.set_singleshot(at, now);
            let _ = timers.set_periodic(period, now);
            let _ = timers.set_poll(poll, now);
            let _ = timers.set_timer_op(at, now);
            let _ = timers.expire(then);
            if then < u64::MAX {
                prop_assert_ne!(timers.arming(then), Arming::Due);
            }
        }
    }
}
