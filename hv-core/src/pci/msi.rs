//! Message interrupts without a table (PCI 3.0, 6.8.1).

use super::{PciAddress, PciHost, capability};

/// Bits of the control register.
mod control {
    pub const ENABLE: u32 = 1;
    pub const WIDE: u32 = 1 << 7;
    pub const MASKS: u32 = 1 << 8;
    /// Number of messages allowed: a power of two, by its logarithm.
    pub const ALLOWED_SHIFT: u32 = 4;
    pub const ALLOWED: u32 = 7 << ALLOWED_SHIFT;
}

/// Offset of the control register in the capability.
const CONTROL: u16 = 2;
/// Offset of the address.
const ADDRESS: u16 = 4;

/// The capability of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msi {
    /// Where it is.
    pub capability: u16,
    /// The address has 64 bits.
    wide: bool,
    /// There are mask bits.
    maskable: bool,
    /// Messages that the function can send: 1 to 32, a power of two.
    pub messages: u32,
}

/// Whether a function sends its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Sending {
    On,
    Off,
}

impl Msi {
    /// The capability of a function, if it has one that fits in its configuration space.
    #[must_use]
    pub fn find(host: &dyn PciHost, at: PciAddress) -> Option<Self> {
        let capability = capability::find(host, at, capability::MSI, 10)?;
        let control = host.config_read(at, capability + CONTROL, 2);
        let found = Self {
            capability,
            wide: control & control::WIDE != 0,
            maskable: control & control::MASKS != 0,
            messages: 1 << (control >> 1 & 7).min(5),
        };
        (capability + found.size() <= 0x100).then_some(found)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u16 {
        let data = self.data() - self.capability;
        if self.maskable { data + 12 } else { data + 2 }
    }

    /// Register of the data, 16 bits.
    fn data(&self) -> u16 {
        self.capability + if self.wide { 12 } else { 8 }
    }

    /// Register of the mask bits, 32 bits.
    #[must_use]
    pub fn masks(&self) -> Option<u16> {
        self.maskable.then(|| self.data() + 4)
    }

    /// Writes where all messages go and the data of the first. Between the two writes the function has the old
    /// data: to be called while it is off, or when the data stays.
    pub fn set_message(&self, host: &dyn PciHost, at: PciAddress, address: u32, data: u16) {
        host.config_write(at, self.capability + ADDRESS, 4, address);
        if self.wide {
            host.config_write(at, self.capability + ADDRESS + 4, 4, 0);
        }
        host.config_write(at, self.data(), 2, u32::from(data));
    }

    /// Changes where all messages go, in one write.
    pub fn set_address(&self, host: &dyn PciHost, at: PciAddress, address: u32) {
        host.config_write(at, self.capability + ADDRESS, 4, address);
    }

    /// Says how many messages the function may use (a power of two) and whether it sends them.
    pub fn set_control(&self, host: &dyn PciHost, at: PciAddress, allowed: u32, sending: Sending) {
        let mut control = host.config_read(at, self.capability + CONTROL, 2);
        control &= !(control::ENABLE | control::ALLOWED);
        control |= allowed.trailing_zeros() << control::ALLOWED_SHIFT;
        if sending == Sending::On {
            control |= control::ENABLE;
        }
        host.config_write(at, self.capability + CONTROL, 2, control);
    }

    /// Whether the function sends its messages.
    #[must_use]
    pub fn sending(&self, host: &dyn PciHost, at: PciAddress) -> Sending {
        match host.config_read(at, self.capability + CONTROL, 2) & control::ENABLE {
            0 => Sending::Off,
            _ => Sending::On,
        }
    }

    /// What dom0 may not change in the four bytes at an aligned register, and what it may only clear.
    #[must_use]
    pub fn protected(&self, register: u16, in_use: bool) -> (u32, u32) {
        let upper = |bits: u32| bits << 16;
        let Some(offset) = register.checked_sub(self.capability) else {
            return (0, 0);
        };
        if offset == 0 {
            // Without a message of ours the function would send whatever dom0 wrote.
            return if in_use {
                (upper(control::ALLOWED), 0)
            } else {
                (0, upper(control::ENABLE))
            };
        }
        if !in_use || offset >= self.size() {
            return (0, 0);
        }
        let data = register == self.data();
        (if data && !self.maskable { 0xffff } else { !0 }, 0)
    }
}
