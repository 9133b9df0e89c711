//! Finding a capability in the list of a function (PCI 3.0, 6.7).

use super::{PciAddress, PciHost, register};

/// Message interrupts.
pub const MSI: u8 = 0x05;
/// Message interrupts with a table.
pub const MSIX: u8 = 0x11;

/// Bit of the status register: there is a list.
const HAS_LIST: u32 = 1 << 4;
/// Where capabilities begin.
const FIRST: u16 = 0x40;
/// Four bytes each in what is left of 256: more steps are a loop.
const MAX_STEPS: usize = 48;

/// Finds a capability whose `len` bytes lie in configuration space.
#[must_use]
pub fn find(host: &dyn PciHost, at: PciAddress, id: u8, len: u16) -> Option<u16> {
    if host.config_read(at, 0, 2) == 0xffff
        || host.config_read(at, register::STATUS, 2) & HAS_LIST == 0
    {
        return None;
    }
    let mut next = host.config_read(at, register::CAPABILITIES, 1) as u16 & 0xfc;
    for _ in 0..MAX_STEPS {
        if next < FIRST {
            return None;
        }
        let head = host.config_read(at, next, 2) as u16;
        if head as u8 == id {
            return (next + len <= 0x100).then_some(next);
        }
        if head == 0xffff {
            return None;
        }
        next = head >> 8 & 0xfc;
    }
    None
}
