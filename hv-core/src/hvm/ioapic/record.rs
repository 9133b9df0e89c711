//! The I/O APIC in the record of a saved domain (`hvm_hw_vioapic`, arch-x86/hvm/save.h).
//!
//! 400 bytes: base address (8), index (4), ID (4), 48 entries (8 each). The lines are not in it: whoever has them restores
//! them afterwards ([`IoApic::restore_line`]).

use super::{DELIVERY_STATUS, IoApic, PINS, REMOTE_IRR, WRITABLE, waits_for_eoi};

/// Length of the record.
pub const RECORD_SIZE: usize = 16 + PINS * 8;

/// Why a record is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// The base address is not that of the I/O APIC, which nothing can move.
    Base,
    /// The index has more than eight bits.
    Select,
    /// Bits of the ID register that do not exist.
    Id,
}

impl IoApic {
    /// Writes the record.
    pub fn save(&self, record: &mut [u8; RECORD_SIZE]) {
        let words = [self.base, self.id_and_select()];
        for (bytes, word) in record
            .chunks_exact_mut(8)
            .zip(words.iter().chain(&self.entries))
        {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    const fn id_and_select(&self) -> u64 {
        self.select as u64 | (self.id as u64) << 32
    }

    /// Takes over a record. All lines are not asserted then. Bits of entries that do not exist are dropped.
    ///
    /// # Errors
    ///
    /// Says what is wrong; nothing has changed then.
    pub fn load(&mut self, record: &[u8; RECORD_SIZE]) -> Result<(), RecordError> {
        let word = |index: usize| {
            record
                .get(index * 8..index * 8 + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .map_or(0, u64::from_le_bytes)
        };
        if word(0) != self.base {
            return Err(RecordError::Base);
        }
        let select = u8::try_from(word(1) as u32).map_err(|_| RecordError::Select)?;
        let id = (word(1) >> 32) as u32;
        if id & !0x0f00_0000 != 0 {
            return Err(RecordError::Id);
        }
        self.select = select;
        self.id = id;
        for (pin, entry) in self.entries.iter_mut().enumerate() {
            *entry = word(pin + 2) & (WRITABLE | REMOTE_IRR) & !DELIVERY_STATUS;
            if !waits_for_eoi(*entry) {
                *entry &= !REMOTE_IRR;
            }
        }
        self.lines = 0;
        Ok(())
    }
}
