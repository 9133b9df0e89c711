//! Pin counts: how often an entry is in use, by what, and for which access.

use super::host::Access;
use bitflags::bitflags;

bitflags! {
    /// The parts of a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Parts: u8 {
        /// For CPUs.
        const HOST = 1;
        /// For devices.
        const DEVICE = 2;
    }
}

impl Parts {
    /// Number of parts: each is one pin and one page reference.
    pub(super) const fn count(self) -> u32 {
        self.contains(Self::HOST) as u32 + self.contains(Self::DEVICE) as u32
    }
}

/// What the granter sees of the pins (`GTF_reading`, `GTF_writing`), the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// Not in use.
    Idle,
    /// In use for reading.
    Reading,
    /// In use for writing, and so for reading too.
    Writing,
}

impl From<Access> for Hold {
    fn from(access: Access) -> Self {
        match access {
            Access::Read => Self::Reading,
            Access::Write => Self::Writing,
        }
    }
}

/// One counter for each part and access: those of hosts, reading and writing, then those of devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pins([u16; 4]);

impl Pins {
    pub(super) const NONE: Self = Self([0; 4]);

    /// The strongest use.
    #[inline(always)]
    pub(super) const fn hold(self) -> Hold {
        let [host_read, host_write, device_read, device_write] = self.0;
        if host_write | device_write != 0 {
            Hold::Writing
        } else if host_read | device_read != 0 {
            Hold::Reading
        } else {
            Hold::Idle
        }
    }

    /// With one more pin for each part; `None` when a counter would overflow.
    #[inline(always)]
    pub(super) fn with(self, parts: Parts, access: Access) -> Option<Self> {
        self.changed(parts, access, |count| count.checked_add(1))
    }

    /// With one pin less for each part; `None` when there is none to take.
    #[inline(always)]
    pub(super) fn without(self, parts: Parts, access: Access) -> Option<Self> {
        self.changed(parts, access, |count| count.checked_sub(1))
    }

    #[inline(always)]
    fn changed(
        mut self,
        parts: Parts,
        access: Access,
        change: impl Fn(u16) -> Option<u16>,
    ) -> Option<Self> {
        let [host_read, host_write, device_read, device_write] = &mut self.0;
        let (host, device) = match access {
            Access::Read => (host_read, device_read),
            Access::Write => (host_write, device_write),
        };
        if parts.contains(Parts::HOST) {
            *host = change(*host)?;
        }
        if parts.contains(Parts::DEVICE) {
            *device = change(*device)?;
        }
        Some(self)
    }

    /// Counts as `(host read, host write, device read, device write)`.
    pub(super) const fn counts(self) -> (u16, u16, u16, u16) {
        let [host_read, host_write, device_read, device_write] = self.0;
        (host_read, host_write, device_read, device_write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hold_is_the_strongest_use() {
        let both = Parts::HOST | Parts::DEVICE;
        let reading = Pins::NONE.with(both, Access::Read).unwrap();
        assert_eq!(reading.counts(), (1, 0, 1, 0));
        assert_eq!(reading.hold(), Hold::Reading);
        let writing = reading.with(Parts::DEVICE, Access::Write).unwrap();
        assert_eq!(writing.hold(), Hold::Writing);
        assert_eq!(writing.without(Parts::DEVICE, Access::Write), Some(reading));
    }

    #[test]
    fn counters_neither_overflow_nor_underflow() {
        let mut pins = Pins::NONE;
        assert_eq!(pins.without(Parts::HOST, Access::Read), None);
        for _ in 0..u16::MAX {
            pins = pins.with(Parts::HOST, Access::Read).unwrap();
        }
        assert_eq!(pins.with(Parts::HOST, Access::Read), None);
        assert!(pins.with(Parts::HOST, Access::Write).is_some());
    }
}
