//! Dates, a CMOS clock that updates while it is read, and the shared words.

use core::cell::Cell;
use core::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;

use super::*;

/// Registers in a given mode; from reading `flip_at` on they show the second time.
struct Cmos {
    mode: u8,
    times: [Civil; 2],
    reads: Cell<u32>,
    flip_at: u32,
    busy_until: u32,
}

impl Cmos {
    fn showing(civil: Civil, mode: u8) -> Self {
        Self {
            mode,
            times: [civil; 2],
            reads: Cell::new(0),
            flip_at: 0,
            busy_until: 0,
        }
    }
}

impl RtcRegisters for Cmos {
    fn read(&self, index: u8) -> u8 {
        let reads = self.reads.get();
        self.reads.set(reads + 1);
        let time = self.times[usize::from(reads >= self.flip_at)];
        let code = |value: u32| {
            let value = value as u8;
            if self.mode & MODE_BINARY != 0 {
                value
            } else {
                value / 10 * 16 + value % 10
            }
        };
        match index {
            0 => code(time.second),
            2 => code(time.minute),
            4 if self.mode & MODE_24_HOURS != 0 => code(time.hour),
            4 => {
                let half = if time.hour >= 12 { AFTERNOON } else { 0 };
                code((time.hour + 11) % 12 + 1) | half
            }
            7 => code(time.day),
            8 => code(time.month),
            9 => code(time.year % 100),
            0x32 => code(time.year / 100),
            STATUS_A if reads < self.busy_until => UPDATE_IN_PROGRESS | 0x26,
            STATUS_A => 0x26,
            STATUS_B => self.mode,
            _ => 0xff,
        }
    }
}

fn civil(year: u32, month: u32, day: u32, hour: u32, minute: u32, second: u32) -> Civil {
    Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
    }
}

#[test]
fn well_known_dates() {
    for (date, unix) in [
        (civil(1970, 1, 1, 0, 0, 0), 0),
        (civil(2000, 2, 29, 12, 0, 0), 951_825_600),
        (civil(2001, 9, 9, 1, 46, 40), 1_000_000_000),
        (civil(2038, 1, 19, 3, 14, 8), 1 << 31),
        (civil(2100, 3, 1, 0, 0, 0), 4_107_542_400),
    ] {
        assert_eq!(date.to_unix(), Some(unix));
        assert_eq!(Civil::from_unix(unix), Some(date));
    }
}

#[test]
fn what_is_no_date_is_refused() {
    for date in [
        civil(1969, 1, 1, 0, 0, 0),
        civil(2300, 1, 1, 0, 0, 0),
        civil(2023, 2, 29, 0, 0, 0),
        civil(2100, 2, 29, 0, 0, 0),
        civil(2023, 0, 1, 0, 0, 0),
        civil(2023, 13, 1, 0, 0, 0),
        civil(2023, 1, 0, 0, 0, 0),
        civil(2023, 1, 1, 24, 0, 0),
        civil(2023, 1, 1, 0, 60, 0),
        civil(2023, 1, 1, 0, 0, 60),
    ] {
        assert_eq!(date.to_unix(), None, "{date:?}");
    }
    assert_eq!(Civil::from_unix(u64::MAX), None);
}

#[test]
fn a_reading_across_an_update_is_repeated() {
    let old = civil(2023, 12, 31, 23, 59, 59);
    let new = civil(2024, 1, 1, 0, 0, 0);
    for flip_at in 0..40 {
        let mut cmos = Cmos::showing(old, MODE_24_HOURS);
        cmos.times[1] = new;
        cmos.flip_at = flip_at;
        cmos.busy_until = flip_at / 2;
        let found = read_rtc(&cmos, Some(0x32)).unwrap();
        let ends = [old.to_unix().unwrap(), new.to_unix().unwrap()];
        assert!(ends.contains(&found), "{flip_at}: {found}");
    }
}

#[test]
fn a_clock_that_never_settles_is_busy() {
    let mut cmos = Cmos::showing(civil(2023, 1, 1, 0, 0, 0), MODE_24_HOURS);
    cmos.busy_until = u32::MAX;
    assert_eq!(read_rtc(&cmos, None), Err(RtcError::Busy));
}

struct NoChip;

impl RtcRegisters for NoChip {
    fn read(&self, index: u8) -> u8 {
        if index == STATUS_A { 0 } else { 0xff }
    }
}

#[test]
fn absent_chips_hold_no_date() {
    assert_eq!(read_rtc(&NoChip, None), Err(RtcError::NotADate));
}

#[test]
fn without_a_century_years_are_1970_to_2069() {
    for (year, found) in [(2023, 2023), (1999, 1999), (2069, 2069), (2070, 1970)] {
        let cmos = Cmos::showing(civil(year, 5, 6, 7, 8, 9), MODE_24_HOURS);
        let expected = civil(found, 5, 6, 7, 8, 9).to_unix();
        assert_eq!(read_rtc(&cmos, None).ok(), expected);
        assert_eq!(read_rtc(&cmos, Some(0)).ok(), expected);
    }
}

#[test]
fn published_words_are_the_time_at_boot() {
    let clock = WallClock::set(0x1_0000_0005, 250, 2_000_000_500).unwrap();
    let words: [AtomicU32; WORDS] = Default::default();
    clock.publish(&words, 0);
    let shown = |words: &[AtomicU32; WORDS]| words.each_ref().map(|w| w.load(Ordering::Relaxed));
    assert_eq!(shown(&words), [2, 2, 999_999_750, 1]);
    clock.publish(&words, -3);
    assert_eq!(shown(&words), [4, u32::MAX, 999_999_750, 0]);
    assert_eq!(clock.at(2_000_000_500), (0x1_0000_0005, 250));
}

#[test]
fn impossible_settings_are_refused() {
    assert_eq!(WallClock::set(1, 1_000_000_000, 0), Err(Errno::EINVAL));
    assert_eq!(WallClock::set(1, 0, 1_000_000_001), Err(Errno::EINVAL));
    assert!(WallClock::set(u64::MAX, 999_999_999, u64::MAX).is_ok());
    let last = WallClock::set(u64::MAX, 999_999_999, 0).unwrap();
    assert_eq!(last.at(u64::MAX).0, u64::MAX);
}

proptest! {
    #[test]
    fn dates_round_trip(unix in 0..10_413_792_000_u64) {
        prop_assert_eq!(Civil::from_unix(unix).unwrap().to_unix(), Some(unix));
    }

    #[test]
    fn every_mode_is_understood(unix in 0..10_413_792_000_u64, mode in 0..4_u8) {
        let cmos = Cmos::showing(Civil::from_unix(unix).unwrap(), mode << 1);
        prop_assert_eq!(read_rtc(&cmos, Some(0x32)), Ok(unix));
    }
}

#[test]
fn efis_time() {
    let mut time = [0u8; 16];
    time[..7].copy_from_slice(&[0xe8, 7, 2, 29, 23, 59, 58]);
    let at = |time: &[u8; 16]| Civil::efi_to_unix(time);
    assert_eq!(at(&time), Some(1_709_251_198));
    time[12..14].copy_from_slice(&2047i16.to_le_bytes());
    assert_eq!(at(&time), Some(1_709_251_198), "an unknown zone");
    time[12..14].copy_from_slice(&(-60i16).to_le_bytes());
    assert_eq!(at(&time), Some(1_709_247_598), "an hour ahead of UTC");
    time[12..14].copy_from_slice(&1441i16.to_le_bytes());
    assert_eq!(at(&time), None);
    time[12..14].fill(0);
    for (byte, bad) in [(2, 13), (2, 0), (3, 30), (4, 24), (5, 60), (6, 60), (1, 0)] {
        let mut wrong = time;
        wrong[byte] = bad;
        assert_eq!(at(&wrong), None);
    }
}
