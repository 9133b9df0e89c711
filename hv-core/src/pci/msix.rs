//! Message interrupts with a table (PCI 3.0, 6.8.2), and the base address registers that say where it is (6.2.5).

use super::{COMMAND_MEMORY, PciAddress, PciHost, capability, register};
use crate::base::PhysAddr;

/// Bytes of an entry of the table.
pub const ENTRY: u64 = 16;
/// Bit of the control register: all entries are masked.
const MASK_ALL: u32 = 1 << 14;
/// Bit of the control register: the function sends its messages.
const ENABLE: u32 = 1 << 15;

/// Bits of a base address register.
mod bar {
    pub const IO: u32 = 1;
    pub const TYPE: u32 = 6;
    pub const WIDE: u32 = 4;
    pub const ADDRESS: u64 = !0xf;
}

/// A place in one of a function's BARs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which BAR.
    pub bar: u8,
    /// Offset in it.
    pub offset: u32,
}

/// The capability of a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Msix {
    /// Where it is.
    pub capability: u16,
    /// Entries of the table: 1 to 2048.
    pub entries: u32,
    /// The table.
    pub table: Place,
    /// The pending bits.
    pub pending: Place,
}

impl Msix {
    /// The capability of a function, if it has one.
    #[must_use]
    pub fn find(host: &dyn PciHost, at: PciAddress) -> Option<Self> {
        let capability = capability::find(host, at, capability::MSIX, 12)?;
        let place = |value: u32| Place {
            bar: value as u8 & 7,
            offset: value & !7,
        };
        Some(Self {
            capability,
            entries: (host.config_read(at, capability + 2, 2) & 0x7ff) + 1,
            table: place(host.config_read(at, capability + 4, 4)),
            pending: place(host.config_read(at, capability + 8, 4)),
        })
    }

    /// Length of the table in bytes.
    #[must_use]
    pub fn table_len(&self) -> u64 {
        u64::from(self.entries) * ENTRY
    }

    /// Length of the pending bits in bytes.
    #[must_use]
    pub fn pending_len(&self) -> u64 {
        u64::from(self.entries.div_ceil(64)) * 8
    }

    /// Turns the function's messages off.
    pub fn disable(&self, host: &dyn PciHost, at: PciAddress) {
        let control = host.config_read(at, self.capability + 2, 2);
        let off = control & !ENABLE | MASK_ALL;
        host.config_write(at, self.capability + 2, 2, off);
    }

    /// What is written when dom0 writes the four bytes of the capability's head: as long as no entry is ours, all
    /// are masked while the function is on.
    #[must_use]
    pub fn filter(&self, value: u32, in_use: bool) -> u32 {
        if !in_use && value >> 16 & ENABLE != 0 {
            value | MASK_ALL << 16
        } else {
            value
        }
    }
}

/// BARs of a function: 6, of a bridge 2.
fn bars(host: &dyn PciHost, at: PciAddress) -> u8 {
    match host.config_read(at, register::HEADER_TYPE, 1) & 0x7f {
        0 => 6,
        1 => 2,
        _ => 0,
    }
}

/// Register of a BAR that maps memory, its value, and whether it has 64 bits.
fn memory_bar(host: &dyn PciHost, at: PciAddress, index: u8) -> Option<(u16, u32, bool)> {
    let count = bars(host, at);
    if index >= count {
        return None;
    }
    let register = register::BARS + u16::from(index) * 4;
    let low = host.config_read(at, register, 4);
    let wide = low & bar::TYPE == bar::WIDE;
    let good = low != !0 && low & bar::IO == 0 && !(wide && index + 1 >= count);
    good.then_some((register, low, wide))
}

/// Where a BAR of memory is; 0 before it was placed.
#[must_use]
pub fn bar_base(host: &dyn PciHost, at: PciAddress, index: u8) -> Option<PhysAddr> {
    let (register, low, wide) = memory_bar(host, at, index)?;
    let high = if wide {
        host.config_read(at, register + 4, 4)
    } else {
        0
    };
    let value = u64::from(high) << 32 | u64::from(low);
    Some(PhysAddr(value & bar::ADDRESS))
}

/// The size of a BAR of memory, 0 for one that is not there. The function does not answer to memory accesses
/// meanwhile: for functions that no driver has yet.
#[must_use]
pub fn bar_size(host: &dyn PciHost, at: PciAddress, index: u8) -> u64 {
    let Some((register, low, wide)) = memory_bar(host, at, index) else {
        return 0;
    };
    let command = host.config_read(at, register::COMMAND, 2);
    host.config_write(at, register::COMMAND, 2, command & !COMMAND_MEMORY);
    let probe = |register: u16, before: u32| {
        host.config_write(at, register, 4, !0);
        let bits = host.config_read(at, register, 4);
        host.config_write(at, register, 4, before);
        bits
    };
    let high = if wide {
        let before = host.config_read(at, register + 4, 4);
        probe(register + 4, before)
    } else {
        !0
    };
    let bits = u64::from(high) << 32 | u64::from(probe(register, low));
    host.config_write(at, register::COMMAND, 2, command);
    // The lowest bit that can be set; a device that can set none has no memory there.
    let settable = bits & bar::ADDRESS;
    if settable as u32 == 0 && !wide {
        0
    } else {
        settable & settable.wrapping_neg()
    }
}

/// Whether a function answers to memory accesses.
#[must_use]
pub fn answers(host: &dyn PciHost, at: PciAddress) -> bool {
    let command = host.config_read(at, register::COMMAND, 2);
    command != 0xffff && command & COMMAND_MEMORY != 0
}
