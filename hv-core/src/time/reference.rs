//! Counters of known rate, to measure the TSC against: HPET, ACPI PM timer, PIT channel 2.
//!
//! What is here knows rates, widths and directions; how a counter is read is the binary's affair
//! ([`Counter`]).

/// A free-running counter that can be read.
pub trait Counter {
    /// The present count; bits beyond the counter's width are ignored.
    fn read(&self) -> u64;
}

/// Ticks per second as a fraction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    ticks: u64,
    seconds: u64,
}

impl Rate {
    /// `ticks` in `seconds`; both must not be 0.
    const fn new(ticks: u64, seconds: u64) -> Self {
        Self { ticks, seconds }
    }

    /// How many ticks pass in `ns`, rounded down.
    #[must_use]
    pub fn ticks_in(self, ns: u64) -> u64 {
        let ticks =
            u128::from(ns) * u128::from(self.ticks) / (u128::from(self.seconds) * 1_000_000_000);
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// `value * ticks / seconds`: turns "per tick" into "per second".
    #[must_use]
    pub fn scale(self, value: u128) -> u128 {
        value.saturating_mul(u128::from(self.ticks)) / u128::from(self.seconds)
    }
}

/// Which way a counter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Direction {
    Up,
    Down,
}

/// How many bits the ACPI PM timer has (FADT flag TMR_VAL_EXT; ACPI 4.8.3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PmWidth {
    /// Wraps after 4.7 seconds.
    Bits24,
    /// Wraps after 20 minutes.
    Bits32,
}

/// How many bits the HPET's main counter has (COUNT_SIZE_CAP; HPET 1.0a, 2.3.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HpetWidth {
    /// Wraps after minutes.
    Bits32,
    /// Never wraps.
    Bits64,
}

/// A counter with what is known about it.
#[derive(Debug)]
pub struct Reference<C> {
    counter: C,
    rate: Rate,
    bits: u32,
    direction: Direction,
    name: &'static str,
}

impl<C: Counter> Reference<C> {
    /// The HPET with the period that its capability register states, in femtoseconds. None unless
    /// the period is one the specification allows: at most 100 ns, and not 0 (HPET 1.0a, 2.3.4).
    #[must_use]
    pub fn hpet(counter: C, period_fs: u32, width: HpetWidth) -> Option<Self> {
        if !(1..=100_000_000).contains(&period_fs) {
            return None;
        }
        Some(Self {
            counter,
            rate: Rate::new(1_000_000_000_000_000, u64::from(period_fs)),
            bits: match width {
                HpetWidth::Bits32 => 32,
                HpetWidth::Bits64 => 64,
            },
            direction: Direction::Up,
            name: "HPET",
        })
    }

    /// The ACPI PM timer at 3.579545 MHz (ACPI 4.8.2.1).
    pub fn pm_timer(counter: C, width: PmWidth) -> Self {
        Self {
            counter,
            rate: Rate::new(3_579_545, 1),
            bits: match width {
                PmWidth::Bits24 => 24,
                PmWidth::Bits32 => 32,
            },
            direction: Direction::Up,
            name: "ACPI PM timer",
        }
    }

    /// PIT channel 2, counting down from 65536 at 14.31818 MHz / 12. Wraps after 55 ms.
    pub fn pit(counter: C) -> Self {
        Self {
            counter,
            rate: Rate::new(14_318_180, 12),
            bits: 16,
            direction: Direction::Down,
            name: "PIT",
        }
    }

    /// What it is, for messages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its rate.
    #[must_use]
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// The present count.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.counter.read() & self.mask()
    }

    /// Ticks from one reading to a later one, less than one turn apart.
    #[must_use]
    pub fn elapsed(&self, from: u64, to: u64) -> u64 {
        let difference = match self.direction {
            Direction::Up => to.wrapping_sub(from),
            Direction::Down => from.wrapping_sub(to),
        };
        difference & self.mask()
    }

    /// Whether a difference is so large that the counter more likely went backwards.
    #[must_use]
    pub fn looks_backwards(&self, elapsed: u64) -> bool {
        elapsed > self.mask() / 8 * 7
    }

    const fn mask(&self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64);

    impl Counter for Fixed {
        fn read(&self) -> u64 {
            self.0
        }
    }

    #[test]
    fn counters_wrap_at_their_width() {
        let pm = Reference::pm_timer(Fixed(0xff12_3456), PmWidth::Bits24);
        assert_eq!(pm.read(), 0x12_3456);
        assert_eq!(pm.elapsed(0xff_fff0, 0x10), 0x20);
        let wide = Reference::pm_timer(Fixed(0), PmWidth::Bits32);
        assert_eq!(wide.elapsed(0xffff_fff0, 0x10), 0x20);
        let pit = Reference::pit(Fixed(0));
        assert_eq!(pit.elapsed(0x10, 0xfff0), 0x20);
        let hpet = Reference::hpet(Fixed(u64::MAX), 10_000_000, HpetWidth::Bits64).unwrap();
        assert_eq!(hpet.read(), u64::MAX);
        assert!(hpet.looks_backwards(hpet.elapsed(5, 4)));
        assert!(!pit.looks_backwards(50_000));
    }

    #[test]
    fn hpet_periods_outside_the_specification_are_refused() {
        for period in [0, 100_000_001, u32::MAX] {
            assert!(Reference::hpet(Fixed(0), period, HpetWidth::Bits32).is_none());
        }
    }

    #[test]
    fn rates_are_exact() {
        let hpet = Reference::hpet(Fixed(0), 69_841_279, HpetWidth::Bits64).unwrap();
        assert_eq!(hpet.rate().ticks_in(1_000_000_000), 14_318_179);
        assert_eq!(
            Reference::pit(Fixed(0)).rate().ticks_in(12_000_000_000),
            14_318_180
        );
        assert_eq!(Rate::new(14_318_180, 12).scale(12), 14_318_180);
    }
}
