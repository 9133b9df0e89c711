//! PCI functions as the hypervisor needs them: to program message interrupts, and to keep dom0's hands off
//! what was programmed (PCI Local Bus 3.0, chapter 6; PCI Express Base 3.0, chapter 7).
//!
//! - [`capability`]: finding a capability.
//! - [`msi`], [`msix`]: the two forms of message interrupts; base address registers.
//! - [`message`]: one message of a function: where it goes, whether it is masked.
//! - [`guard`]: the pages that dom0 may only read: configuration space in memory, MSI-X tables.
//!
//! Everything that a device says is hostile: walks are bounded, every register read once, and what it names
//! (a table, a BAR) is checked against RAM and our own registers before it is touched.

use core::fmt;

use crate::base::PhysAddr;

pub mod capability;
pub mod guard;
pub mod message;
pub mod msi;
pub mod msix;

#[cfg(test)]
pub(crate) mod tests;

/// Where a PCI function is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "named as in the ABI")]
pub struct PciAddress {
    pub segment: u16,
    pub bus: u8,
    pub devfn: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            segment,
            bus,
            devfn,
        } = self;
        write!(
            f,
            "{segment:04x}:{bus:02x}:{:02x}.{}",
            devfn >> 3,
            devfn & 7
        )
    }
}

/// Raw access to configuration space and to registers in memory. Every call is one access of 1, 2, 4 (or, to
/// memory, 8) bytes, aligned to its size.
pub trait PciHost: Send + Sync {
    /// Reads configuration space; all ones where nothing answers.
    fn config_read(&self, at: PciAddress, register: u16, bytes: u8) -> u32;
    /// Writes configuration space.
    fn config_write(&self, at: PciAddress, register: u16, bytes: u8, value: u32);
    /// Reads four bytes of a register that [`is_taken`](Self::is_taken) denies.
    fn register_read(&self, at: PhysAddr) -> u32;
    /// Writes a register that [`is_taken`](Self::is_taken) denies.
    fn register_write(&self, at: PhysAddr, bytes: u8, value: u64);
    /// Whether any of these bytes is RAM, one of our own registers, or beyond the CPU's addresses.
    fn is_taken(&self, first: PhysAddr, len: u64) -> bool;
}

/// Registers of every function's configuration space.
pub(crate) mod register {
    pub const COMMAND: u16 = 0x04;
    pub const STATUS: u16 = 0x06;
    pub const HEADER_TYPE: u16 = 0x0e;
    pub const BARS: u16 = 0x10;
    pub const CAPABILITIES: u16 = 0x34;
}

/// Bit of the command register: the function answers to memory accesses.
pub(crate) const COMMAND_MEMORY: u32 = 1 << 1;

/// All ones in a size of 1, 2, 4 or 8 bytes.
#[must_use]
pub(crate) const fn ones(bytes: u8) -> u64 {
    if bytes >= 8 {
        !0
    } else {
        (1 << (8 * bytes as u32)) - 1
    }
}
