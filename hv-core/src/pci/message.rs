//! One message of a function: where it goes, and its mask.

use core::fmt;

use super::msi::Msi;
use super::msix;
use super::{PciAddress, PciHost};
use crate::base::PhysAddr;

/// Address of messages to local APICs: fixed destination, physical mode (Intel SDM vol. 3, 11.11.1).
const ADDRESS: u32 = 0xfee0_0000;
/// How far the addresses of messages reach.
const ADDRESSES: u64 = 1 << 20;

/// Whether writes to some of these bytes would be messages: no function has registers there.
#[must_use]
pub fn is_message(first: PhysAddr, len: u64) -> bool {
    let start = u64::from(ADDRESS);
    first.0 < start + ADDRESSES && start < first.0.saturating_add(len)
}

/// Offsets in an entry of an MSI-X table.
mod entry {
    pub const ADDRESS: u64 = 0;
    pub const ADDRESS_HIGH: u64 = 4;
    pub const DATA: u64 = 8;
    pub const CONTROL: u64 = 12;
}

/// Mask bit of an entry's control word.
const MASKED: u32 = 1;

/// How a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// By the capability; the messages of a function share the address, and their vectors follow each other.
    Msi {
        /// The capability.
        msi: Msi,
        /// Which of the function's messages.
        index: u8,
        /// How many it has, a power of two.
        count: u8,
    },
    /// By an entry of a table.
    Msix {
        /// Which.
        index: u16,
        /// Where it is; `None` when the table's BAR is nowhere.
        entry: Option<PhysAddr>,
    },
}

/// A message of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message {
    /// Whose.
    pub device: PciAddress,
    /// How it is sent.
    pub form: Form,
}

/// Whether a message is held back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Mask {
    On,
    Off,
}

impl Message {
    /// Whether it can be held back.
    #[must_use]
    pub fn can_mask(&self) -> bool {
        match self.form {
            Form::Msi { msi, .. } => msi.masks().is_some(),
            Form::Msix { .. } => true,
        }
    }

    /// The table entry, if it can be reached now.
    fn entry(&self, host: &dyn PciHost) -> Option<PhysAddr> {
        match self.form {
            Form::Msix { entry, .. } => entry.filter(|_| msix::answers(host, self.device)),
            Form::Msi { .. } => None,
        }
    }

    /// Has it interrupt a CPU with a vector. An entry of a table is masked, as it is to be changed only so.
    pub fn program(&self, host: &dyn PciHost, apic_id: u8, vector: u8) {
        let address = ADDRESS | u32::from(apic_id) << 12;
        match self.form {
            Form::Msi { msi, index: 0, .. } => {
                msi.set_message(host, self.device, address, u16::from(vector));
            }
            Form::Msi { .. } => {}
            Form::Msix { .. } => {
                self.set_mask(host, Mask::On);
                if let Some(at) = self.entry(host) {
                    let write = |offset, value| {
                        host.register_write(PhysAddr(at.0 + offset), 4, value);
                    };
                    write(entry::ADDRESS, u64::from(address));
                    write(entry::ADDRESS_HIGH, 0);
                    write(entry::DATA, u64::from(vector));
                }
            }
        }
    }

    /// Has it interrupt another CPU with the same vector; whether it does. Of several messages without a table the
    /// first decides.
    #[must_use]
    pub fn redirect(&self, host: &dyn PciHost, apic_id: u8, mask: Mask) -> bool {
        let address = ADDRESS | u32::from(apic_id) << 12;
        match self.form {
            Form::Msi { msi, index, .. } => {
                if index == 0 {
                    msi.set_address(host, self.device, address);
                }
                index == 0
            }
            Form::Msix { .. } => {
                let at = self.entry(host);
                if let Some(at) = at {
                    self.set_mask(host, Mask::On);
                    host.register_write(PhysAddr(at.0 + entry::ADDRESS), 4, u64::from(address));
                    if mask == Mask::Off {
                        self.set_mask(host, Mask::Off);
                    }
                }
                at.is_some()
            }
        }
    }

    /// Holds it back or lets it go; what came meanwhile is sent then. No effect where it cannot.
    pub fn set_mask(&self, host: &dyn PciHost, mask: Mask) {
        let change = |old: u32, bit: u32| match mask {
            Mask::On => old | bit,
            Mask::Off => old & !bit,
        };
        match self.form {
            Form::Msi { msi, index, .. } => {
                if let Some(register) = msi.masks() {
                    let old = host.config_read(self.device, register, 4);
                    host.config_write(self.device, register, 4, change(old, 1 << index));
                }
            }
            Form::Msix { .. } => {
                if let Some(at) = self.entry(host) {
                    let control = PhysAddr(at.0 + entry::CONTROL);
                    let old = host.register_read(control);
                    host.register_write(control, 4, u64::from(change(old, MASKED)));
                    // The write has reached the function when a read comes back.
                    let _ = host.register_read(control);
                }
            }
        }
    }

    /// Masks the entries of a whole table.
    pub fn mask_table(host: &dyn PciHost, table: PhysAddr, entries: u32) {
        for index in 0..u64::from(entries) {
            let control = PhysAddr(table.0 + index * msix::ENTRY + entry::CONTROL);
            host.register_write(control, 4, u64::from(MASKED));
        }
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, index) = match self.form {
            Form::Msi { index, .. } => ("MSI", u16::from(index)),
            Form::Msix { index, .. } => ("MSI-X", index),
        };
        write!(f, "{form} {index} of {}", self.device)
    }
}
