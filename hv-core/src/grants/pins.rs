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
        self.bits().count_ones()
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

/// One counter for each part and access.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pins {
    host_read: u16,
    host_write: u16,
    device_read: u16,
    device_write: u16,
}

impl Pins {
    pub(super) const NONE: Self = Self {
        host_read: 0,
        host_write: 0,
        device_read: 0,
        device_write: 0,
    };

    /// The strongest use.
    pub(super) const fn hold(self) -> Hold {
        if self.host_write != 0 || self.device_write != 0 {
            Hold::Writing
        } else if self.host_read != 0 || self.device_read != 0 {
            Hold::Reading
        } else {
            Hold::Idle
        }
    }

    /// With one more pin for each part; `None` when a counter would overflow.
    pub(super) fn with(self, parts: Parts, access: Access) -> Option<Self> {
        self.changed(parts, access, |count| count.checked_add(1))
    }

    /// With one pin less for each part; `None` when there is none to take.
    pub(super) fn without(self, parts: Parts, access: Access) -> Option<Self> {
        self.changed(parts, access, |count| count.checked_sub(1))
    }

    fn changed(
        mut self,
        parts: Parts,
        access: Access,
        change: fn(u16) -> Option<u16>,
    ) -> Option<Self> {
        let (host, device) = match access {
            Access::Read => (&mut self.host_read, &mut self.device_read),
            Access::Write => (&mut self.host_write, &mut self.device_write),
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
        (
            self.host_read,
            self.host_write,
            self.device_read,
            self.device_write,
        )
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
