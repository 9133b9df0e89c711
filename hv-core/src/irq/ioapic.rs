//! Registers of an I/O APIC (Intel 82093AA data sheet, 3.2; ICH9 data sheet, 13.5).

use alloc::boxed::Box;

use xen_abi::errno::Errno;

use super::routing::{LineMode, Polarity, Trigger};
use crate::base::PhysAddr;
use crate::base::lock::{Mutex, rank};

/// Index of the identification register.
const ID: u32 = 0;
/// Index of the version register.
const VERSION: u32 = 1;
/// Index of the arbitration register.
const ARBITRATION: u32 = 2;
/// Index of the low half of redirection entry 0.
const ENTRIES: u32 = 0x10;

/// Most inputs of one I/O APIC: its index register has 8 bits.
const MAX_PINS: u32 = (0x100 - ENTRIES) / 2;

mod bit {
    pub const POLARITY_LOW: u32 = 1 << 13;
    pub const REMOTE_IRR: u32 = 1 << 14;
    pub const LEVEL: u32 = 1 << 15;
    pub const MASKED: u32 = 1 << 16;
}

/// Delivery mode of system management interrupts: those entries are the firmware's.
const DELIVERY_SMI: u32 = 2;

/// Raw access to the registers of one I/O APIC through its index and data window. Only one caller at a
/// time: this module locks.
pub trait IoApicRegs: Send {
    /// Reads a register.
    fn read(&self, index: u32) -> u32;
    /// Writes a register.
    fn write(&self, index: u32, value: u32);
}

/// An I/O APIC as the firmware reports it.
pub struct ChipPlace {
    /// Its identifier in the MADT.
    pub id: u8,
    /// Its registers.
    pub address: PhysAddr,
    /// GSI of its input 0.
    pub gsi_base: u32,
    /// Access to the registers.
    pub regs: Box<dyn IoApicRegs>,
}

/// Whether an entry lets interrupts through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Gate {
    Open,
    Masked,
}

/// A redirection entry: fixed delivery to one CPU by its physical APIC id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The vector on that CPU.
    pub vector: u8,
    /// Its APIC id.
    pub destination: u8,
    /// How the line signals.
    pub mode: LineMode,
    /// Whether it is masked.
    pub gate: Gate,
}

impl Entry {
    /// The low half as the register has it.
    #[must_use]
    pub fn low(self) -> u32 {
        let mut low = u32::from(self.vector);
        if self.mode.polarity == Polarity::Low {
            low |= bit::POLARITY_LOW;
        }
        if self.mode.trigger == Trigger::Level {
            low |= bit::LEVEL;
        }
        if self.gate == Gate::Masked {
            low |= bit::MASKED;
        }
        low
    }

    /// The high half as the register has it.
    #[must_use]
    pub fn high(self) -> u32 {
        u32::from(self.destination) << 24
    }

    /// Trigger and polarity out of a low half.
    #[must_use]
    pub fn mode_of(low: u32) -> LineMode {
        LineMode {
            trigger: if low & bit::LEVEL != 0 {
                Trigger::Level
            } else {
                Trigger::Edge
            },
            polarity: if low & bit::POLARITY_LOW != 0 {
                Polarity::Low
            } else {
                Polarity::High
            },
        }
    }

    /// Delivery mode out of a low half: 0 fixed, 1 lowest priority.
    #[must_use]
    pub fn delivery_of(low: u32) -> u32 {
        low >> 8 & 7
    }
}

/// What an index of the register window selects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// Identification, version or arbitration.
    Head,
    /// Low half of an entry.
    EntryLow(u8),
    /// High half of an entry.
    EntryHigh(u8),
}

/// One I/O APIC.
pub(super) struct IoApic {
    pub id: u8,
    pub address: PhysAddr,
    pub gsi_base: u32,
    pub pins: u32,
    regs: Mutex<Box<dyn IoApicRegs>>,
}

impl IoApic {
    /// Takes over an I/O APIC and masks all its inputs, but for those that are the firmware's.
    pub fn new(place: ChipPlace) -> Self {
        let version = place.regs.read(VERSION);
        let chip = Self {
            id: place.id,
            address: place.address,
            gsi_base: place.gsi_base,
            pins: ((version >> 16 & 0xff) + 1).min(MAX_PINS),
            regs: Mutex::new(rank::IO_APIC, place.regs),
        };
        for pin in 0..chip.pins as u8 {
            chip.silence(pin);
        }
        log::info!(
            "I/O APIC {}: version {:#x} at {:#x}, GSI {} to {}",
            chip.id,
            version & 0xff,
            chip.address.0,
            chip.gsi_base,
            u64::from(chip.gsi_base) + u64::from(chip.pins) - 1
        );
        chip
    }

    /// Masks an input at boot. A level interrupt that the firmware or a kernel before us left
    /// unfinished has Remote IRR set, and nobody will end it: going through edge mode clears it.
    fn silence(&self, pin: u8) {
        let regs = self.regs.lock();
        let low = regs.read(low_index(pin));
        if Entry::delivery_of(low) == DELIVERY_SMI {
            log::info!("I/O APIC {}: input {pin} is the firmware's (SMI)", self.id);
            return;
        }
        regs.write(low_index(pin), low | bit::MASKED);
        if low & bit::REMOTE_IRR != 0 {
            regs.write(low_index(pin), bit::MASKED);
        }
    }

    /// Writes a whole entry. It is masked between the two halves, so that no interrupt goes to a
    /// mixture of old and new.
    pub fn program(&self, pin: u8, entry: Entry) {
        let regs = self.regs.lock();
        regs.write(low_index(pin), entry.low() | bit::MASKED);
        regs.write(low_index(pin) + 1, entry.high());
        if entry.gate == Gate::Open {
            regs.write(low_index(pin), entry.low());
        }
    }

    /// Masks or unmasks an input.
    pub fn set_gate(&self, pin: u8, gate: Gate) {
        let regs = self.regs.lock();
        let low = regs.read(low_index(pin)) & !bit::MASKED;
        match gate {
            Gate::Open => regs.write(low_index(pin), low),
            Gate::Masked => {
                regs.write(low_index(pin), low | bit::MASKED);
                // The write has reached the chip when a read comes back: from here it is silent.
                let _ = regs.read(low_index(pin));
            }
        }
    }

    /// Sends an input's interrupts to another CPU from now on. Only the destination changes, so it
    /// need not be masked, which could lose an edge.
    pub fn set_destination(&self, pin: u8, destination: u8) {
        let high = u32::from(destination) << 24;
        self.regs.lock().write(low_index(pin) + 1, high);
    }

    /// What an index of the window selects.
    ///
    /// # Errors
    /// `EINVAL` for none.
    pub fn register(&self, index: u32) -> Result<Register, Errno> {
        match index {
            ID | VERSION | ARBITRATION => Ok(Register::Head),
            _ => {
                let offset = index.checked_sub(ENTRIES).ok_or(Errno::EINVAL)?;
                if offset / 2 >= self.pins {
                    return Err(Errno::EINVAL);
                }
                let pin = (offset / 2) as u8;
                Ok(if offset % 2 == 0 {
                    Register::EntryLow(pin)
                } else {
                    Register::EntryHigh(pin)
                })
            }
        }
    }

    /// Reads a register as it is.
    ///
    /// # Errors
    /// `EINVAL` when there is none of that index.
    pub fn read(&self, index: u32) -> Result<u32, Errno> {
        self.register(index)?;
        Ok(self.regs.lock().read(index))
    }
}

/// Index of the low half of an entry.
const fn low_index(pin: u8) -> u32 {
    ENTRIES + 2 * pin as u32
}
