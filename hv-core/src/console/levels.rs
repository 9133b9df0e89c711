//! Which messages are printed (`loglvl=`, `guest_loglvl=`) and how their lines begin.
//!
//! An option is `LEVEL` or `LEVEL/LEVEL`: messages down to the first level are printed always,
//! those between the first and the second only at a limited rate, all others never.

use super::limit::{TokenBucket, Verdict};
use crate::base::{DomId, Nanos};
use arrayvec::ArrayVec;
use core::fmt::{self, Write};

/// Messages of the limited class that may come in one burst.
const LIMITED_BURST: u32 = 10;
/// Time in which the limited class earns one more message.
const LIMITED_INTERVAL: Nanos = 500_000_000;

/// How bad a message is; the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something failed.
    Error,
    /// Something is odd.
    Warning,
    /// Worth knowing.
    Info,
    /// For developers.
    Debug,
}

impl From<log::Level> for Severity {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Error => Self::Error,
            log::Level::Warn => Self::Warning,
            log::Level::Info => Self::Info,
            log::Level::Debug | log::Level::Trace => Self::Debug,
        }
    }
}

/// The two levels of an option, each the least bad severity still included (`None`: none at all).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    always: Option<Severity>,
    /// Never below `always`.
    limited: Option<Severity>,
}

/// The class of a message under some [`Thresholds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Printed.
    Always,
    /// Printed at a limited rate.
    Limited,
    /// Not printed.
    Never,
}

impl Thresholds {
    /// Default of `loglvl=`: errors and warnings.
    pub const HOST: Self = Self {
        always: Some(Severity::Warning),
        limited: Some(Severity::Warning),
    };
    /// Default of `guest_loglvl=`: what guests cause is shown at a limited rate only.
    pub const GUEST: Self = Self {
        always: None,
        limited: Some(Severity::Warning),
    };

    /// Parses an option's value: `none`, `error`, `warning`, `info`, `debug` or `all`, twice with a
    /// slash between for a limited class. `None` when it is anything else.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let (always, limited) = match value.split_once('/') {
            Some((first, second)) => (parse_level(first)?, parse_level(second)?),
            None => {
                let level = parse_level(value)?;
                (level, level)
            }
        };
        Some(Self {
            always,
            limited: limited.max(always),
        })
    }

    /// How a message of this severity is treated.
    #[must_use]
    pub fn class(self, severity: Severity) -> Class {
        if Some(severity) <= self.always {
            Class::Always
        } else if Some(severity) <= self.limited {
            Class::Limited
        } else {
            Class::Never
        }
    }
}

fn parse_level(word: &str) -> Option<Option<Severity>> {
    Some(match word {
        "none" => None,
        "error" => Some(Severity::Error),
        "warning" => Some(Severity::Warning),
        "info" => Some(Severity::Info),
        "debug" | "all" => Some(Severity::Debug),
        _ => return None,
    })
}

/// Thresholds together with the rate limit of their limited class.
#[derive(Clone, Debug)]
pub struct LogGate {
    thresholds: Thresholds,
    bucket: TokenBucket,
}

impl LogGate {
    /// A gate for these thresholds, with the usual limit: ten messages, then two a second.
    #[must_use]
    pub const fn new(thresholds: Thresholds) -> Self {
        Self {
            thresholds,
            bucket: TokenBucket::new(LIMITED_BURST, LIMITED_INTERVAL),
        }
    }

    /// Whether a message may be printed now, and how many limited ones were swallowed before it.
    pub fn admit(&mut self, severity: Severity, now: Nanos) -> Verdict {
        match self.thresholds.class(severity) {
            Class::Always => Verdict::Pass { suppressed: 0 },
            Class::Limited => self.bucket.take(now),
            Class::Never => Verdict::Refuse,
        }
    }
}

/// The gates of all messages: those that guests cause begin with a domain's name ("d7", "d7v0").
#[derive(Clone, Debug)]
pub struct LogGates {
    own: LogGate,
    guests: LogGate,
}

impl LogGates {
    /// Gates for our own messages (`loglvl=`) and for those that guests cause (`guest_loglvl=`).
    #[must_use]
    pub const fn new(own: Thresholds, guests: Thresholds) -> Self {
        Self {
            own: LogGate::new(own),
            guests: LogGate::new(guests),
        }
    }

    /// Whether this message may be printed now, and how many limited ones of its kind were swallowed before it.
    pub fn admit(
        &mut self,
        message: fmt::Arguments<'_>,
        severity: Severity,
        now: Nanos,
    ) -> Verdict {
        let gate = if is_about_guest(message) {
            &mut self.guests
        } else {
            &mut self.own
        };
        gate.admit(severity, now)
    }
}

/// Whether a message begins with a domain's name: then its rate is the guest's doing.
fn is_about_guest(message: fmt::Arguments<'_>) -> bool {
    struct Start(ArrayVec<u8, 2>);
    impl Write for Start {
        fn write_str(&mut self, s: &str) -> fmt::Result {
            for &byte in s.as_bytes() {
                self.0.try_push(byte).map_err(|_| fmt::Error)?;
            }
            Ok(())
        }
    }
    let mut start = Start(ArrayVec::new());
    // The error is how the look ends after two bytes.
    let _ = start.write_fmt(message);
    matches!(start.0.as_slice(), [b'd', b'0'..=b'9'])
}

/// Writes a message of the hypervisor: `(XEN) ` before each of its lines, a newline at the end.
///
/// # Errors
/// Those of `out`.
pub fn write_host(out: &mut dyn Write, message: fmt::Arguments<'_>) -> fmt::Result {
    write_lines(out, Prefix::Host, message)
}

/// Writes text that domain `dom` printed: `(d1) ` before each of its lines, a newline at the end.
///
/// # Errors
/// Those of `out`.
pub fn write_guest(out: &mut dyn Write, dom: DomId, message: fmt::Arguments<'_>) -> fmt::Result {
    write_lines(out, Prefix::Guest(dom), message)
}

#[derive(Clone, Copy)]
enum Prefix {
    Host,
    Guest(DomId),
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("(XEN) "),
            Self::Guest(dom) => write!(f, "(d{dom}) "),
        }
    }
}

/// Splits what is written to it into lines and starts each with the prefix.
struct Lines<'a> {
    out: &'a mut dyn Write,
    prefix: Prefix,
    at_start: bool,
}

impl Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive('\n') {
            if self.at_start {
                write!(self.out, "{}", self.prefix)?;
            }
            self.out.write_str(piece)?;
            self.at_start = piece.ends_with('\n');
        }
        Ok(())
    }
}

fn write_lines(out: &mut dyn Write, prefix: Prefix, message: fmt::Arguments<'_>) -> fmt::Result {
    let mut lines = Lines {
        out,
        prefix,
        at_start: true,
    };
    lines.write_fmt(message)?;
    if lines.at_start {
        Ok(())
    } else {
        lines.out.write_char('\n')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_levels_make_a_limited_class() {
        let t = Thresholds::parse("error/info").unwrap();
        assert_eq!(t.class(Severity::Error), Class::Always);
        assert_eq!(t.class(Severity::Warning), Class::Limited);
        assert_eq!(t.class(Severity::Info), Class::Limited);
        assert_eq!(t.class(Severity::Debug), Class::Never);
    }

    #[test]
    fn single_levels() {
        let all = Thresholds::parse("all").unwrap();
        assert_eq!(all.class(Severity::Debug), Class::Always);
        let none = Thresholds::parse("none").unwrap();
        assert_eq!(none.class(Severity::Error), Class::Never);
        assert_eq!(Thresholds::parse("warning"), Some(Thresholds::HOST));
        assert_eq!(Thresholds::parse("none/warning"), Some(Thresholds::GUEST));
    }

    #[test]
    fn second_level_never_takes_away() {
        let t = Thresholds::parse("info/error").unwrap();
        assert_eq!(t.class(Severity::Info), Class::Always);
        assert_eq!(t.class(Severity::Debug), Class::Never);
    }

    #[test]
    fn unknown_words_are_refused() {
        for bad in ["", "loud", "all/", "/all", "all/all/all", "ALL"] {
            assert_eq!(Thresholds::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn limited_class_runs_dry() {
        let mut gate = LogGate::new(Thresholds::GUEST);
        let passed = |gate: &mut LogGate, now| {
            (0..100)
                .filter(|_| gate.admit(Severity::Error, now) != Verdict::Refuse)
                .count()
        };
        assert_eq!(passed(&mut gate, 0), 10);
        assert_eq!(passed(&mut gate, 1_000_000_000), 2);
        assert_eq!(gate.admit(Severity::Info, 0), Verdict::Refuse);
    }

    #[test]
    fn what_a_guest_causes_is_limited_by_its_name() {
        let mut gates = LogGates::new(Thresholds::HOST, Thresholds::GUEST);
        let mut passed = |message: fmt::Arguments<'_>| {
            (0..100)
                .filter(|_| gates.admit(message, Severity::Warning, 0) != Verdict::Refuse)
                .count()
        };
        for own in ["GSI 9: d1", "d", "", "domctl", "dom0"] {
            assert_eq!(passed(format_args!("{own}")), 100, "{own}");
        }
        // All guests share a gate.
        let (dom, vcpu) = (0, 3);
        assert_eq!(passed(format_args!("d{dom}: map_pirq: GSI 7")), 10);
        assert_eq!(passed(format_args!("d{dom}v{vcpu}: no callback")), 0);
        assert_eq!(passed(format_args!("d12: map_pirq: {dom}")), 0);
    }

    #[test]
    fn every_line_gets_its_prefix() {
        let mut out = String::new();
        write_host(&mut out, format_args!("one {}\ntwo", 1)).unwrap();
        write_host(&mut out, format_args!("three\n")).unwrap();
        write_guest(&mut out, 7, format_args!("{}", "four")).unwrap();
        assert_eq!(out, "(XEN) one 1\n(XEN) two\n(XEN) three\n(d7) four\n");
    }
}
