//! The timer of a local APIC (Intel SDM vol. 3, "APIC Timer"; AMD APM vol. 2, 16.4.1): a count that falls to zero
//! once or again and again, or a value of the TSC.
//!
//! Only the time of the next zero is kept; counts are computed when they are read.

use crate::base::Nanos;

/// Length of one cycle of the bus that the count is made from: 10 ns, 100 MHz, as guests of this ABI have always had.
pub const BUS_CYCLE: Nanos = 10;
/// A periodic timer is not served more often than this (0.1 ms); periods between are missed ones.
pub const SHORTEST_SERVED: Nanos = 100_000;
/// Bits of the divide configuration register.
pub(super) const DIVIDE: u32 = 0b1011;

/// Time as a timer needs it.
pub trait TimeSource {
    /// System time.
    fn now(&self) -> Nanos;
    /// System time when the guest's TSC has reached `tsc`, rounded up so that the guest is never interrupted before it
    /// reads that value. May be in the past; what never comes is `Nanos::MAX`.
    fn time_of_tsc(&self, tsc: u64) -> Nanos;
}

/// What the timer does at zero: bits 18:17 of its LVT entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerMode {
    /// Stops.
    OneShot,
    /// Begins again from the initial count.
    Periodic,
    /// There is no count: IA32_TSC_DEADLINE says when.
    TscDeadline,
}

/// What has happened up to some time.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The timer has reached zero at least once.
    pub fired: bool,
}

/// The timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Timer {
    mode: TimerMode,
    initial: u32,
    /// The divide configuration register.
    divide: u32,
    /// IA32_TSC_DEADLINE.
    deadline: u64,
    /// When it is zero next; `None` while it stands.
    zero: Option<Nanos>,
    /// A periodic zero before this time is not served until then.
    not_before: Nanos,
}

impl Timer {
    pub const fn new() -> Self {
        Self {
            mode: TimerMode::OneShot,
            initial: 0,
            divide: 0,
            deadline: 0,
            zero: None,
            not_before: 0,
        }
    }

    /// The divide configuration register for a divisor.
    pub fn divide_for(divisor: u32) -> Option<u32> {
        (0..16)
            .filter(|divide| divide & !DIVIDE == 0)
            .find(|divide| 1 << Self::shift(*divide) == divisor)
    }

    /// Log2 of the divisor: the register's bits 3, 1 and 0 are 0 for 2, 1 for 4, ... 6 for 128, 7 for 1.
    const fn shift(divide: u32) -> u32 {
        let code = (divide & 8) >> 1 | divide & 3;
        (code + 1) & 7
    }

    /// By how much the bus clock is divided.
    pub const fn divisor(&self) -> u32 {
        1 << Self::shift(self.divide)
    }

    const fn step(&self) -> Nanos {
        BUS_CYCLE << Self::shift(self.divide)
    }

    const fn period(&self) -> Nanos {
        // At most 2^32 * 1280 ns.
        self.initial as Nanos * self.step()
    }

    pub const fn mode(&self) -> TimerMode {
        self.mode
    }

    pub const fn initial(&self) -> u32 {
        self.initial
    }

    pub const fn divide(&self) -> u32 {
        self.divide
    }

    /// IA32_TSC_DEADLINE: 0 while nothing is armed, and in the other modes.
    pub const fn tsc_deadline(&self) -> u64 {
        match self.mode {
            TimerMode::TscDeadline => self.deadline,
            TimerMode::OneShot | TimerMode::Periodic => 0,
        }
    }

    /// To or from the deadline the timer stops. Between the other two modes the count goes on, and the mode that holds
    /// at zero decides.
    pub fn set_mode(&mut self, mode: TimerMode, now: Nanos) {
        let deadline = TimerMode::TscDeadline;
        if mode != self.mode && (mode == deadline || self.mode == deadline) {
            self.initial = 0;
            self.deadline = 0;
            self.zero = None;
        }
        if mode != self.mode && self.mode == TimerMode::Periodic {
            // Periods that nobody was told of are missed ones, the one that runs is the last.
            self.zero = self.zero.and_then(|zero| self.following(zero, now));
        }
        self.mode = mode;
    }

    /// Starts from `count`; 0 stops. Without effect in deadline mode.
    pub fn set_initial(&mut self, count: u32, now: Nanos) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial = count;
        self.start(count, now);
    }

    fn start(&mut self, count: u32, now: Nanos) {
        let length = Nanos::from(count) * self.step();
        self.zero = (count != 0).then(|| now.saturating_add(length));
    }

    /// Divides otherwise from now on: what is left of the count stays.
    pub fn set_divide(&mut self, divide: u32, now: Nanos) {
        let left = self.current(now);
        self.divide = divide & DIVIDE;
        if left != 0 {
            self.start(left, now);
        }
    }

    /// Arms for that value of the TSC; 0 disarms. Without effect in the other modes.
    pub fn set_tsc_deadline(&mut self, tsc: u64, time: &impl TimeSource) {
        if self.mode != TimerMode::TscDeadline {
            return;
        }
        self.deadline = tsc;
        self.zero = (tsc != 0).then(|| time.time_of_tsc(tsc));
    }

    /// What is left of the count.
    pub fn current(&self, now: Nanos) -> u32 {
        let Some(zero) = self.zero.filter(|_| self.mode != TimerMode::TscDeadline) else {
            return 0;
        };
        let left = match zero.checked_sub(now) {
            Some(left) if left > 0 => left,
            _ if self.mode == TimerMode::OneShot => return 0,
            // Periods are behind us that nobody has been told of yet.
            _ => match self.following(zero, now) {
                Some(next) => next - now,
                None => return 0,
            },
        };
        u32::try_from(left.div_ceil(self.step())).unwrap_or(u32::MAX)
    }

    /// When to call [`Self::advance`].
    pub fn next_service(&self) -> Option<Nanos> {
        match self.mode {
            TimerMode::Periodic => self.zero.map(|zero| zero.max(self.not_before)),
            TimerMode::OneShot | TimerMode::TscDeadline => self.zero,
        }
    }

    /// Serves what has happened until `now`. Periods that were missed count as one.
    pub fn advance(&mut self, now: Nanos) -> Tick {
        let due = self.next_service().is_some_and(|at| at <= now);
        let Some(zero) = self.zero.filter(|_| due) else {
            return Tick { fired: false };
        };
        self.zero = match self.mode {
            TimerMode::OneShot => None,
            TimerMode::TscDeadline => {
                self.deadline = 0;
                None
            }
            TimerMode::Periodic => {
                self.not_before = now.saturating_add(SHORTEST_SERVED);
                self.following(zero, now)
            }
        };
        Tick { fired: true }
    }

    /// The first zero after `now` of the periods that began at `zero`.
    fn following(&self, zero: Nanos, now: Nanos) -> Option<Nanos> {
        let Some(past) = now.checked_sub(zero) else {
            return Some(zero);
        };
        let into = past.checked_rem(self.period())?;
        now.checked_add(self.period() - into)
    }

    /// Takes the registers of a record as they are: `left` is what remains of the count. Where that is nothing, as
    /// in records that do not say, a count begins anew: a timer that comes late is better than one that never comes.
    pub fn restore(&mut self, registers: Registers, time: &impl TimeSource) {
        let deadline = registers.mode == TimerMode::TscDeadline;
        self.mode = registers.mode;
        self.divide = registers.divide & DIVIDE;
        self.initial = if deadline { 0 } else { registers.initial };
        self.zero = None;
        if deadline {
            self.set_tsc_deadline(self.deadline, time);
        } else {
            let known = (1..=self.initial).contains(&registers.left);
            let count = if known { registers.left } else { self.initial };
            self.start(count, time.now());
        }
    }

    /// Takes divisor and deadline of a record, which may come before the registers.
    pub fn restore_hidden(&mut self, divide: u32, deadline: u64, time: &impl TimeSource) {
        self.set_divide(divide, time.now());
        self.deadline = deadline;
        self.set_tsc_deadline(deadline, time);
    }
}

/// The timer's registers in a record.
pub(super) struct Registers {
    pub mode: TimerMode,
    pub divide: u32,
    pub initial: u32,
    pub left: u32,
}
