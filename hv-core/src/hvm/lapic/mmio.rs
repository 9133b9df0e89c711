//! The page of registers (Intel SDM vol. 3, "Register Address Space": 32 bits each, 16 bytes apart).
//!
//! The manuals want aligned accesses of 32 bits and leave others open. A narrower read gives the part of the register
//! that it names, a narrower write changes that part of the value that can be read and writes the whole; both as guests
//! of this ABI know it. An access that is not within the four bytes of one register (bytes 4 to 15 of each 16,
//! crossing, eight bytes wide) reads zeros and writes nothing. What is no register is an error that the guest can read
//! from the error status register.

use super::register::Register;
use super::{Effect, Lapic, TimeSource, error};

/// Which part of which register an access names.
struct Part {
    number: u32,
    shift: u32,
    mask: u32,
}

fn part(offset: u32, size: u8) -> Option<Part> {
    let byte = offset & 0xf;
    let mask = match size {
        1 => 0xff,
        2 => 0xffff,
        4 => u32::MAX,
        _ => return None,
    };
    let within = byte + u32::from(size) <= 4;
    within.then_some(Part {
        number: offset >> 4,
        shift: byte * 8,
        mask,
    })
}

impl Lapic {
    fn in_page(&mut self, number: u32) -> Option<Register> {
        let register = Register::numbered(number).filter(|register| register.in_page());
        if register.is_none() {
            self.note_error(error::ILLEGAL_REGISTER);
        }
        register
    }

    /// Reads `size` bytes at `offset` of the page of [`Lapic::window`].
    pub fn read_mmio(&mut self, offset: u32, size: u8, time: &impl TimeSource) -> u64 {
        let Some(part) = part(offset, size) else {
            return 0;
        };
        match self.in_page(part.number) {
            Some(register) => (self.read(register, time) >> part.shift & part.mask).into(),
            None => 0,
        }
    }

    /// Writes `size` bytes at `offset` of the page.
    pub fn write_mmio(
        &mut self,
        offset: u32,
        size: u8,
        value: u64,
        time: &impl TimeSource,
    ) -> Effect {
        let Some(part) = part(offset, size) else {
            return Effect::None;
        };
        let Some(register) = self.in_page(part.number) else {
            return Effect::None;
        };
        let changed = part.mask << part.shift;
        let kept = match changed {
            u32::MAX => 0,
            _ => self.read(register, time) & !changed,
        };
        self.write(
            register,
            kept | (value as u32) << part.shift & changed,
            time,
        )
    }
}
