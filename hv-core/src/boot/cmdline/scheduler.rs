//! The options of the credit2 scheduler.

use alloc::string::{String, ToString};

use super::ParamValue::{self, Number, Text};
use super::values;

/// Which CPUs share a run queue (`credit2_runqueue=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunQueueBy {
    /// None: one queue for each.
    Cpu,
    /// The threads of a core.
    Core,
    /// The CPUs of a socket.
    Socket,
    /// The CPUs near the same memory.
    Node,
    /// All.
    All,
}

/// What can be chosen about credit2, with Xen's defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credit2Options {
    /// `credit2_runqueue=`.
    pub run_queue: RunQueueBy,
    /// `sched_credit2_max_cpus_runqueue=`: most CPUs of a queue.
    pub max_cpus_runqueue: i32,
    /// `sched_ratelimit_us=`: how long a unit runs before another may preempt it; 0 is "off".
    pub ratelimit_us: i32,
    /// `credit2_cap_period_ms=`: how often budgets are replenished.
    pub cap_period_ms: i32,
    /// `sched_credit2_migrate_resist=`: the advantage, in microseconds of credit, that a unit needs to change its CPU.
    pub migrate_resist: i32,
    /// `credit2_load_window_shift=`: loads are averages over so long, as a power of two in nanoseconds.
    pub load_window_shift: i32,
    /// `credit2_load_precision_shift=`: bits of a load's fraction.
    pub load_precision_shift: i32,
    /// `credit2_balance_over=`: a difference of loads that is tolerated where each CPU has work, as a power of two of
    /// the load of one vCPU.
    pub balance_over: i32,
    /// `credit2_balance_under=`: the same where some have none.
    pub balance_under: i32,
}

impl RunQueueBy {
    const ALL: [(&'static str, Self); 5] = [
        ("cpu", Self::Cpu),
        ("core", Self::Core),
        ("socket", Self::Socket),
        ("node", Self::Node),
        ("all", Self::All),
    ];
}

impl Default for Credit2Options {
    fn default() -> Self {
        Self {
            run_queue: RunQueueBy::Socket,
            max_cpus_runqueue: 16,
            ratelimit_us: 1000,
            cap_period_ms: 10,
            migrate_resist: 500,
            load_window_shift: 30,
            load_precision_shift: 18,
            balance_over: -3,
            balance_under: 0,
        }
    }
}

/// What the numbers should be.
const NUMBERS: [(&str, i32, i32, &str); 8] = [
    ("credit2_balance_over", -16, 16, "a number from -16 to 16"),
    ("credit2_balance_under", -16, 16, "a number from -16 to 16"),
    ("credit2_cap_period_ms", 1, 1000, "a number from 1 to 1000"),
    (
        "credit2_load_precision_shift",
        0,
        28,
        "a number from 0 to 28",
    ),
    (
        "credit2_load_window_shift",
        10,
        40,
        "a number from 10 to 40",
    ),
    (
        "sched_credit2_max_cpus_runqueue",
        1,
        64,
        "a number from 1 to 64",
    ),
    (
        "sched_credit2_migrate_resist",
        0,
        1_000_000,
        "a number up to 1000000",
    ),
    // The bounds are those of sysctl.h; see below for 0.
    (
        "sched_ratelimit_us",
        100,
        500_000,
        "0, or from 100 to 500000",
    ),
];

impl Credit2Options {
    /// Those that hold until the machine goes down: not the rate limit, which the tools change.
    pub(super) fn in_effect(&self) -> [(&'static str, ParamValue); 8] {
        let by = RunQueueBy::ALL.iter().find(|(_, by)| *by == self.run_queue);
        let number = |number: i32| Number(number.unsigned_abs());
        let signed = |number: i32| Text(number.to_string());
        [
            ("credit2_balance_over", signed(self.balance_over)),
            ("credit2_balance_under", signed(self.balance_under)),
            ("credit2_cap_period_ms", number(self.cap_period_ms)),
            (
                "credit2_load_precision_shift",
                number(self.load_precision_shift),
            ),
            ("credit2_load_window_shift", number(self.load_window_shift)),
            (
                "credit2_runqueue",
                Text(String::from(by.map_or("", |(name, _)| name))),
            ),
            (
                "sched_credit2_max_cpus_runqueue",
                number(self.max_cpus_runqueue),
            ),
            ("sched_credit2_migrate_resist", number(self.migrate_resist)),
        ]
    }

    /// Takes an option if it is one of these.
    ///
    /// # Errors
    /// What its value should be.
    pub(super) fn take(&mut self, name: &str, value: &str) -> Option<Result<(), &'static str>> {
        if name == "credit2_runqueue" {
            let found = RunQueueBy::ALL.iter().find(|(name, _)| *name == value);
            let Some((_, by)) = found else {
                return Some(Err("cpu, core, socket, node or all"));
            };
            self.run_queue = *by;
            return Some(Ok(()));
        }
        let (at, &(_, least, most, expected)) = NUMBERS
            .iter()
            .enumerate()
            .find(|(_, number)| number.0 == name)?;
        let place = [
            &mut self.balance_over,
            &mut self.balance_under,
            &mut self.cap_period_ms,
            &mut self.load_precision_shift,
            &mut self.load_window_shift,
            &mut self.max_cpus_runqueue,
            &mut self.migrate_resist,
            &mut self.ratelimit_us,
        ]
        .into_iter()
        .nth(at)?;
        let off = name == "sched_ratelimit_us";
        let fits = |number: &i32| (least..=most).contains(number) || (off && *number == 0);
        Some(match signed(value).filter(fits) {
            Some(number) => {
                *place = number;
                Ok(())
            }
            None => Err(expected),
        })
    }
}

/// A number with or without a minus sign.
fn signed(text: &str) -> Option<i32> {
    let (digits, sign) = match text.strip_prefix('-') {
        Some(digits) => (digits, -1),
        None => (text, 1),
    };
    let number = i32::try_from(values::unsigned(digits)?).ok()?;
    Some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_effect_is_told_as_it_is_given() {
        let mut options = Credit2Options::default();
        for (name, value) in [
            ("credit2_balance_over", "-5"),
            ("credit2_balance_under", "3"),
            ("credit2_cap_period_ms", "20"),
            ("credit2_load_precision_shift", "10"),
            ("credit2_load_window_shift", "25"),
            ("credit2_runqueue", "core"),
            ("sched_credit2_max_cpus_runqueue", "8"),
            ("sched_credit2_migrate_resist", "700"),
        ] {
            assert_eq!(options.take(name, value), Some(Ok(())));
            let told = options
                .in_effect()
                .into_iter()
                .find(|(told, _)| *told == name);
            let text = match told {
                Some((_, Text(text))) => text,
                Some((_, Number(number))) => number.to_string(),
                _ => String::new(),
            };
            assert_eq!(text, value, "{name}");
        }
    }

    #[test]
    fn each_number_has_its_place() {
        for (at, (name, least, most, _)) in NUMBERS.into_iter().enumerate() {
            for value in [least, most] {
                let mut options = Credit2Options::default();
                let text = value.to_string();
                assert_eq!(options.take(name, &text), Some(Ok(())));
                let found = [
                    options.balance_over,
                    options.balance_under,
                    options.cap_period_ms,
                    options.load_precision_shift,
                    options.load_window_shift,
                    options.max_cpus_runqueue,
                    options.migrate_resist,
                    options.ratelimit_us,
                ];
                assert_eq!(found[at], value, "{name}");
                let beyond = (i64::from(value) + if value == most { 1 } else { -1 }).to_string();
                assert!(options.take(name, &beyond).unwrap().is_err(), "{name}");
            }
        }
    }
}
