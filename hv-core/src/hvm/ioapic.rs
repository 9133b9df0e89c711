//! The I/O APIC of an HVM domain: pins, their redirection entries, and the messages that they become (Intel 82093AA
//! data sheet; version 0x20, which adds the EOI register, after the ICH manuals).
//!
//! It has as many pins as the ABI's record: ISA interrupts on the first 16, PCI's on the rest. Lines are either
//! asserted or not: the polarity in an entry is kept but means nothing. A message that level-triggered pins sent
//! is outstanding (remote IRR) until its EOI; then a line that is still asserted sends again.

mod record;

pub use record::{RECORD_SIZE, RecordError};

use super::lapic::{Delivery, Destination, Ipi};

/// Number of pins (`VIOAPIC_NUM_PINS`, arch-x86/hvm/save.h).
pub const PINS: usize = 48;
/// Guest-physical address after reset.
pub const DEFAULT_BASE: u64 = 0xfec0_0000;
/// Bytes from there that it answers to.
pub const WINDOW: u64 = 0x100;

const VERSION: u32 = 0x20;
const VERSION_REGISTER: u32 = VERSION | (PINS as u32 - 1) << 16;

// Offsets in the window.
const SELECT: u32 = 0x00;
const DATA: u32 = 0x10;
const EOI: u32 = 0x40;
/// Index of the first half of the first entry.
const FIRST_ENTRY: u32 = 0x10;

// An entry.
const LOGICAL: u64 = 1 << 11;
const DELIVERY_STATUS: u64 = 1 << 12;
const REMOTE_IRR: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An I/O APIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IoApic {
    base: u64,
    select: u8,
    /// The ID register: bits 27:24.
    id: u32,
    entries: [u64; PINS],
    /// Bit `n`: the line of pin `n` is asserted.
    lines: u64,
}

/// The message of an entry; `None` if its delivery mode is reserved.
fn message(entry: u64) -> Option<Ipi> {
    let delivery = match entry >> 8 & 7 {
        0 => Delivery::Fixed,
        1 => Delivery::LowestPriority,
        2 => Delivery::Smi,
        4 => Delivery::Nmi,
        5 => Delivery::Init,
        7 => Delivery::ExtInt,
        _ => return None,
    };
    Some(Ipi {
        delivery,
        vector: entry as u8,
        level: waits_for_eoi(entry),
        destination: Destination::narrow((entry >> 56) as u8, entry & LOGICAL != 0),
    })
}

/// Only what ends up in an ISR has an EOI.
const fn waits_for_eoi(entry: u64) -> bool {
    entry & LEVEL != 0 && entry >> 8 & 7 <= 1
}

impl IoApic {
    /// As after reset: all pins masked, no line asserted.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            base: DEFAULT_BASE,
            select: 0,
            id: 0,
            entries: [MASKED; PINS],
            lines: 0,
        }
    }

    /// Guest-physical address of its window of [`WINDOW`] bytes.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    fn asserted(&self, pin: usize) -> bool {
        self.lines >> pin & 1 != 0
    }

    /// Sends the level-triggered message of `pin` if it is due.
    fn serve(&mut self, pin: usize, deliver: &mut impl FnMut(Ipi)) {
        let asserted = self.asserted(pin);
        let Some(entry) = self.entries.get_mut(pin) else {
            return;
        };
        let due = *entry & (LEVEL | MASKED | REMOTE_IRR) == LEVEL;
        if let Some(ipi) = message(*entry).filter(|_| asserted && due) {
            if waits_for_eoi(*entry) {
                *entry |= REMOTE_IRR;
            }
            deliver(ipi);
        }
    }

    /// The line of `pin` is asserted or not from now on; pins that there are not are ignored. An edge at a masked pin
    /// is lost.
    pub fn set_line(&mut self, pin: usize, asserted: bool, deliver: &mut impl FnMut(Ipi)) {
        let Some(entry) = self.entries.get(pin).copied() else {
            return;
        };
        if asserted == self.asserted(pin) {
            return;
        }
        self.lines ^= 1 << pin;
        if !asserted {
            return;
        }
        if entry & LEVEL != 0 {
            self.serve(pin, deliver);
        } else if let Some(ipi) = message(entry).filter(|_| entry & MASKED == 0) {
            deliver(ipi);
        }
    }

    /// The line of `pin` after a restore: as [`Self::set_line`], but an assertion is no edge.
    pub fn restore_line(&mut self, pin: usize, asserted: bool, deliver: &mut impl FnMut(Ipi)) {
        if pin < PINS {
            self.lines = self.lines & !(1 << pin) | u64::from(asserted) << pin;
            self.serve(pin, deliver);
        }
    }

    /// A level-triggered interrupt with `vector` has ended at some processor.
    pub fn eoi(&mut self, vector: u8, deliver: &mut impl FnMut(Ipi)) {
        for pin in 0..PINS {
            let entry = &mut self.entries[pin];
            if *entry as u8 == vector && *entry & REMOTE_IRR != 0 {
                *entry &= !REMOTE_IRR;
                self.serve(pin, deliver);
            }
        }
    }

    /// Reads `size` bytes at `offset` of the window. The registers have 32 bits: narrower reads give the low part,
    /// wider ones zeros above.
    #[must_use]
    pub fn read(&self, offset: u32, size: u8) -> u64 {
        let value = match offset {
            SELECT => self.select.into(),
            DATA => self.read_data(),
            _ => 0,
        };
        match size {
            1 => u64::from(value) & 0xff,
            2 => u64::from(value) & 0xffff,
            _ => value.into(),
        }
    }

    fn read_data(&self) -> u32 {
        match u32::from(self.select) {
            // ID and arbitration ID.
            0 | 2 => self.id,
            1 => VERSION_REGISTER,
            index => self
                .entry_of(index)
                .map_or(0, |(pin, shift)| (self.entries[pin] >> shift) as u32),
        }
    }

    /// Pin and half (as a shift) that an index names.
    fn entry_of(&self, index: u32) -> Option<(usize, u32)> {
        let half = index.checked_sub(FIRST_ENTRY)?;
        let pin = (half / 2) as usize;
        (pin < PINS).then_some((pin, half % 2 * 32))
    }

    /// Writes at `offset` of the window, in whatever width: the registers take the low 32 bits, the index eight.
    pub fn write(&mut self, offset: u32, value: u64, deliver: &mut impl FnMut(Ipi)) {
        match offset {
            SELECT => self.select = value as u8,
            DATA => self.write_data(value as u32, deliver),
            EOI => self.eoi(value as u8, deliver),
            _ => {}
        }
    }

    fn write_data(&mut self, value: u32, deliver: &mut impl FnMut(Ipi)) {
        let index = u32::from(self.select);
        if index == 0 {
            self.id = value & 0x0f00_0000;
        }
        let Some((pin, shift)) = self.entry_of(index) else {
            return;
        };
        let half = u64::from(u32::MAX) << shift;
        let old = self.entries[pin];
        let written = old & !half | u64::from(value) << shift;
        let mut entry = written & WRITABLE | old & REMOTE_IRR;
        if !waits_for_eoi(entry) {
            // Software without the EOI register ends a stuck interrupt so.
            entry &= !REMOTE_IRR;
        }
        self.entries[pin] = entry;
        self.serve(pin, deliver);
    }
}

impl Default for IoApic {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
