//! The kinds of value that options take.

use core::fmt;

/// A boolean option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Switch {
    On,
    Off,
}

impl Switch {
    /// The ten spellings Xen knows.
    pub(super) fn parse(value: &str) -> Option<Self> {
        match value {
            "yes" | "on" | "true" | "enable" | "1" => Some(Self::On),
            "no" | "off" | "false" | "disable" | "0" => Some(Self::Off),
            _ => None,
        }
    }
}

/// A switch in a list: `name`, `no-name` or `name=boolean`.
pub(super) fn item(text: &str) -> Option<(&str, Switch)> {
    if let Some((name, value)) = text.split_once('=') {
        return Some((name, Switch::parse(value)?));
    }
    match text.strip_prefix("no-") {
        Some(name) => Some((name, Switch::Off)),
        None => Some((text, Switch::On)),
    }
}

/// A number as C spells it: decimal, `0x` hexadecimal, or octal with a leading 0.
pub(super) fn unsigned(text: &str) -> Option<u64> {
    let (digits, radix) = if let Some(hex) = text.strip_prefix("0x").or(text.strip_prefix("0X")) {
        (hex, 16)
    } else if text.len() > 1 && text.starts_with('0') {
        (&text[1..], 8)
    } else {
        (text, 10)
    };
    // from_str_radix would take a plus sign.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// A size in bytes: a number and one of B, K, M, G, T, in KiB without.
pub(super) fn size(text: &str) -> Option<u64> {
    // In a hexadecimal number B is a digit, and the unit is what follows.
    let shift = match text.bytes().last()? {
        b'b' | b'B' if !text.starts_with("0x") && !text.starts_with("0X") => 0,
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        b't' | b'T' => 40,
        _ => return unsigned(text)?.checked_mul(1 << 10),
    };
    unsigned(text.get(..text.len() - 1)?)?.checked_mul(1 << shift)
}

/// How important a message must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    None,
    /// Errors.
    Error,
    /// Warnings and errors.
    Warning,
    /// Information and more important.
    Info,
    /// Everything (`debug` and `all`).
    Debug,
}

impl LogLevel {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "none" => Some(Self::None),
            "error" => Some(Self::Error),
            "warning" => Some(Self::Warning),
            "info" => Some(Self::Info),
            "debug" | "all" => Some(Self::Debug),
            _ => None,
        }
    }

    /// The same for the `log` crate.
    #[must_use]
    pub const fn filter(self) -> log::LevelFilter {
        match self {
            Self::None => log::LevelFilter::Off,
            Self::Error => log::LevelFilter::Error,
            Self::Warning => log::LevelFilter::Warn,
            Self::Info => log::LevelFilter::Info,
            Self::Debug => log::LevelFilter::Debug,
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "all",
        })
    }
}

/// Which messages are printed (`<level>[/<rate-limited level>]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogThreshold {
    /// Messages of this level or more important are always printed.
    pub always: LogLevel,
    /// Those up to this level are printed while the rate limit allows; at least `always`.
    pub limited: LogLevel,
}

impl LogThreshold {
    /// Both thresholds at one level.
    #[must_use]
    pub const fn both(level: LogLevel) -> Self {
        Self {
            always: level,
            limited: level,
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let Some((always, limited)) = text.split_once('/') else {
            return LogLevel::parse(text).map(Self::both);
        };
        let (always, limited) = (LogLevel::parse(always)?, LogLevel::parse(limited)?);
        Some(Self {
            always,
            limited: limited.max(always),
        })
    }
}

impl fmt::Display for LogThreshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.always, self.limited)
    }
}

/// `dom0_max_vcpus=`: as many vCPUs as there are CPUs, kept between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuRange {
    /// At least so many.
    pub min: u32,
    /// At most so many.
    pub max: u32,
}

impl Default for VcpuRange {
    fn default() -> Self {
        Self {
            min: 1,
            max: u32::MAX,
        }
    }
}

impl VcpuRange {
    /// The number of vCPUs on a machine with `cpus` CPUs.
    #[must_use]
    pub fn pick(self, cpus: u32) -> u32 {
        cpus.max(self.min).min(self.max)
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |text| u32::try_from(unsigned(text)?).ok();
        let all = Self::default();
        let range = match text.split_once('-') {
            None => {
                let count = number(text)?;
                Self {
                    min: count,
                    max: count,
                }
            }
            Some(("", "")) => return None,
            Some((min, "")) => Self {
                min: number(min)?,
                ..all
            },
            Some(("", max)) => Self {
                max: number(max)?,
                ..all
            },
            Some((min, max)) => Self {
                min: number(min)?,
                max: number(max)?,
            },
        };
        (range.max >= 1 && range.min <= range.max).then_some(range)
    }
}

/// A version of the Xen ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbiVersion {
    /// 4, so far.
    pub major: u16,
    /// The release.
    pub minor: u16,
}

impl AbiVersion {
    /// `4.y`, with y up to 99.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let minor = text.strip_prefix("4.")?;
        let minor = minor.parse().ok().filter(|&minor: &u16| minor < 100)?;
        Some(Self { major: 4, minor })
    }
}

impl fmt::Display for AbiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
