//! Why an entry failed, in words: the checks that the processor makes on a guest's state (Intel SDM vol. 3, 27.3.1) and on
//! the event that it is given (27.2.1.3), with nested paging and unrestricted guest.
//!
//! The processor says only that something is wrong. So this is looked at after an entry has failed, and in tests before.

mod error;
mod events;
mod execution;
mod registers;
mod segments;
#[cfg(test)]
mod tests;

use core::fmt;

use super::layout::{Field, entry, event, pin, rights};
use crate::pv::frame::rflags;
pub use error::instruction_error;

/// A field that an entry refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Which.
    pub field: Field,
    /// What it holds.
    pub value: u64,
    /// What it would have to hold.
    pub rule: &'static str,
    /// The section of the manual (Intel SDM vol. 3).
    pub section: &'static str,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            rule,
            section,
        } = self;
        write!(f, "{field:?} {value:#x}: {rule} (SDM {section})")
    }
}

/// What a check comes to.
type Checked = Result<(), Violation>;

/// A control block that is checked, and what the processor supports.
struct Guest<R> {
    read: R,
    address_bits: u8,
    cr0_fixed: (u64, u64),
    cr4_fixed: (u64, u64),
}

/// The first field that an entry refuses, in the order of the manual. `address_bits` are those of physical addresses;
/// `cr0_fixed` and `cr4_fixed` the bits that must be set and those that may be (Intel SDM vol. 3, A.7 and A.8).
#[must_use]
pub fn first_violation(
    read: impl Fn(Field) -> u64,
    address_bits: u8,
    cr0_fixed: (u64, u64),
    cr4_fixed: (u64, u64),
) -> Option<Violation> {
    let guest = Guest {
        read,
        address_bits,
        cr0_fixed,
        cr4_fixed,
    };
    check(&guest).err()
}

fn check(guest: &Guest<impl Fn(Field) -> u64>) -> Checked {
    events::injection(guest)?;
    registers::check(guest)?;
    segments::check(guest)?;
    execution::check(guest)?;
    events::check(guest)?;
    registers::page_pointers(guest)
}

impl<R: Fn(Field) -> u64> Guest<R> {
    fn read(&self, field: Field) -> u64 {
        (self.read)(field)
    }

    fn has(&self, field: Field, bits: u64) -> bool {
        self.read(field) & bits != 0
    }

    /// What a field has to be.
    fn must(
        &self,
        field: Field,
        holds: impl FnOnce(u64) -> bool,
        (section, rule): (&'static str, &'static str),
    ) -> Checked {
        let value = self.read(field);
        if holds(value) {
            return Ok(());
        }
        Err(Violation {
            field,
            value,
            rule,
            section,
        })
    }

    /// Whether the guest is to be in long mode.
    fn is_long(&self) -> bool {
        self.has(Field::EntryControls, entry::IA32E_GUEST.into())
    }

    fn is_virtual_8086(&self) -> bool {
        self.has(Field::Rflags, rflags::VM)
    }

    fn has_virtual_nmis(&self) -> bool {
        self.has(Field::PinControls, pin::VIRTUAL_NMIS.into())
    }

    /// The kind and the vector of the event that the guest is given.
    fn event(&self) -> Option<(u64, u64)> {
        let word = self.read(Field::EntryEvent);
        let valid = word & event::VALID != 0;
        let kind = (word & event::KIND) >> event::KIND_SHIFT;
        valid.then_some((kind, word & event::VECTOR))
    }

    fn gets(&self, kind: u64) -> bool {
        self.event().is_some_and(|(own, _)| own == kind)
    }

    fn is_usable(&self, rights: Field) -> bool {
        !self.has(rights, rights::UNUSABLE)
    }

    /// Whether an address is one of physical memory.
    fn is_physical(&self, address: u64) -> bool {
        address.checked_shr(self.address_bits.into()).unwrap_or(0) == 0
    }
}
