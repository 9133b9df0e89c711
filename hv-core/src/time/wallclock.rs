//! The time of day: read from the CMOS clock at boot, set by the control domain, published in
//! each domain's shared info page (`wc_*`, xen.h).

use xen_abi::errno::Errno;

use super::pvclock::{SharedWords, with_version};
use crate::base::Nanos;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const SECONDS_PER_DAY: u64 = 86_400;
/// Last year that is believed.
const MAX_YEAR: u32 = 2299;

/// The CMOS clock's registers (MC146818).
pub trait RtcRegisters {
    /// Reads a register.
    fn read(&self, index: u8) -> u8;
}

/// Why the CMOS clock gives no time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RtcError {
    /// It is always updating, or two readings never agree.
    Busy,
    /// The registers hold no date.
    NotADate,
}

/// A date and time in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    /// From 1970 on.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// Days in a month (1 to 12); 0 for any other.
const fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 0,
    }
}

/// Days from the year 1 to the beginning of `year`.
const fn days_before_year(year: u32) -> u64 {
    let past = (year - 1) as u64;
    past * 365 + past / 4 - past / 100 + past / 400
}

impl Civil {
    /// Seconds since 1970; none if this is no date between 1970 and 2299.
    #[must_use]
    pub fn to_unix(self) -> Option<u64> {
        let in_range = (1970..=MAX_YEAR).contains(&self.year)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !in_range {
            return None;
        }
        let months: u32 = (1..self.month)
            .map(|month| days_in_month(self.year, month))
            .sum();
        let days =
            days_before_year(self.year) - days_before_year(1970) + u64::from(months + self.day - 1);
        let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
        Some(days * SECONDS_PER_DAY + u64::from(seconds))
    }

    /// Seconds since 1970 by a time as EFI has it (UEFI 2.10, 8.3, EFI_TIME); none if it is no date.
    #[must_use]
    pub fn efi_to_unix(time: &[u8; 16]) -> Option<u64> {
        /// The zone of a clock whose zone nobody knows.
        const UNKNOWN: i16 = 2047;
        let civil = Self {
            year: u32::from(u16::from_le_bytes([time[0], time[1]])),
            month: u32::from(time[2]),
            day: u32::from(time[3]),
            hour: u32::from(time[4]),
            minute: u32::from(time[5]),
            second: u32::from(time[6]),
        };
        // Minutes that local time is behind.
        let zone = match i16::from_le_bytes([time[12], time[13]]) {
            UNKNOWN => 0,
            zone @ -1440..=1440 => i64::from(zone),
            _ => return None,
        };
        civil.to_unix()?.checked_add_signed(zone * 60)
    }

    /// The date of `seconds` since 1970; none after 2299.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Option<Self> {
        let mut days = seconds / SECONDS_PER_DAY;
        let year = (1970..=MAX_YEAR)
            .rfind(|&year| days_before_year(year) - days_before_year(1970) <= days)?;
        days -= days_before_year(year) - days_before_year(1970);
        let mut month = 1;
        while days >= u64::from(days_in_month(year, month)) {
            days -= u64::from(days_in_month(year, month));
            month += 1;
            if month > 12 {
                return None;
            }
        }
        let second = (seconds % SECONDS_PER_DAY) as u32;
        Some(Self {
            year,
            month,
            day: days as u32 + 1,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        })
    }
}

/// How often a reading is tried again: an update takes 2 ms, a register access about 1 us.
const RTC_TRIES: u32 = 20_000;
const UPDATE_IN_PROGRESS: u8 = 0x80;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const MODE_24_HOURS: u8 = 0x02;
const MODE_BINARY: u8 = 0x04;
const AFTERNOON: u8 = 0x80;

/// The registers that hold the time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Raw {
    /// Second, minute, hour, day, month, year.
    fields: [u8; 6],
    century: Option<u8>,
    mode: u8,
}

/// Reads the CMOS clock as seconds since 1970.
///
/// `century` is the register that holds the century, from the FADT (ACPI 5.2.9); without one,
/// years below 70 are taken to be after 2000.
///
/// # Errors
/// See [`RtcError`].
pub fn read_rtc(rtc: &impl RtcRegisters, century: Option<u8>) -> Result<u64, RtcError> {
    let century = century.filter(|&index| index != 0);
    let mut last = None;
    for _ in 0..RTC_TRIES {
        if rtc.read(STATUS_A) & UPDATE_IN_PROGRESS != 0 {
            last = None;
            continue;
        }
        let raw = Raw {
            fields: [0, 2, 4, 7, 8, 9].map(|index| rtc.read(index)),
            century: century.map(|index| rtc.read(index)),
            mode: rtc.read(STATUS_B),
        };
        // An update may have begun in between: only two equal readings in a row count.
        if last == Some(raw) {
            return decode(&raw).ok_or(RtcError::NotADate);
        }
        last = Some(raw);
    }
    Err(RtcError::Busy)
}

fn decode(raw: &Raw) -> Option<u64> {
    let number = |value: u8| {
        if raw.mode & MODE_BINARY != 0 {
            return Some(u32::from(value));
        }
        let (tens, ones) = (value >> 4, value & 15);
        (tens < 10 && ones < 10).then_some(u32::from(tens * 10 + ones))
    };
    let [second, minute, hour, day, month, year] = raw.fields;
    let hour = if raw.mode & MODE_24_HOURS != 0 {
        number(hour)?
    } else {
        let twelve = number(hour & !AFTERNOON)?;
        if !(1..=12).contains(&twelve) {
            return None;
        }
        twelve % 12 + if hour & AFTERNOON != 0 { 12 } else { 0 }
    };
    let year = number(year).filter(|&year| year < 100)?;
    // Firmware that never set the century register leaves anything there.
    let century = raw.century.and_then(number);
    let century = century.filter(|century| (19..=22).contains(century));
    let year = match century {
        Some(century) => century * 100 + year,
        None if year < 70 => 2000 + year,
        None => 1900 + year,
    };
    let civil = Civil {
        year,
        month: number(month)?,
        day: number(day)?,
        hour,
        minute: number(minute)?,
        second: number(second)?,
    };
    civil.to_unix()
}

/// The wall clock: which time it was when system time was 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WallClock {
    /// Nanoseconds since 1970 at system time 0.
    boot_ns: u128,
}

/// Words of the wall clock in the shared info page, from `wc_version` on: version, `wc_sec`,
/// `wc_nsec`, `wc_sec_hi` (xen.h, 64-bit layout).
pub const WORDS: usize = 4;

impl WallClock {
    /// A wall clock that shows `seconds` and `nanos` at system time `now`
    /// (`XENPF_settime64`, platform.h).
    ///
    /// # Errors
    /// `EINVAL` for a second or more of `nanos`, or if the system booted before 1970 by this.
    pub fn set(seconds: u64, nanos: u32, now: Nanos) -> Result<Self, Errno> {
        if u64::from(nanos) >= NANOS_PER_SECOND {
            return Err(Errno::EINVAL);
        }
        let shown = u128::from(seconds) * u128::from(NANOS_PER_SECOND) + u128::from(nanos);
        let boot_ns = shown.checked_sub(u128::from(now)).ok_or(Errno::EINVAL)?;
        Ok(Self { boot_ns })
    }

    /// Seconds since 1970 and nanoseconds at system time `now`.
    #[must_use]
    pub fn at(&self, now: Nanos) -> (u64, u32) {
        split(self.boot_ns + u128::from(now))
    }

    /// Writes the clock into a domain's shared info page. `offset_seconds` is the domain's own
    /// deviation (`XEN_DOMCTL_settimeoffset`).
    pub fn publish(&self, words: &impl SharedWords, offset_seconds: i64) {
        let (seconds, nanos) = split(self.boot_ns);
        let seconds = seconds.saturating_add_signed(offset_seconds);
        with_version(words, 0, || {
            words.store(1, seconds as u32);
            words.store(2, nanos);
            words.store(3, (seconds >> 32) as u32);
        });
    }
}

fn split(ns: u128) -> (u64, u32) {
    let per_second = u128::from(NANOS_PER_SECOND);
    let seconds = u64::try_from(ns / per_second).unwrap_or(u64::MAX);
    (seconds, (ns % per_second) as u32)
}

#[cfg(test)]
mod tests;
