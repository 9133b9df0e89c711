//! Reading and writing the fields of one VMCS, each at most once: VMREAD and VMWRITE cost more than memory does.

use core::cell::Cell;

use super::layout::{Class, FIELDS, Field};
use crate::base::Mfn;

/// The processor, which alone knows where in a VMCS a field is.
///
/// One VMCS is *current* on a CPU at a time: that of the vCPU which is loaded there. A VMCS that is current nowhere is
/// clear: it is made current for each access and cleared again, which is slow and seldom.
pub trait Ports: Sync {
    /// Makes a page a VMCS that is clear (VMCLEAR).
    fn clear(&self, block: Mfn);
    /// VMREAD.
    fn read(&self, block: Mfn, field: Field) -> u64;
    /// VMWRITE.
    fn write(&self, block: Mfn, field: Field, value: u64);
    /// One of [`super::GUARDED_MSRS`] of this CPU.
    fn read_msr(&self, msr: u32) -> u64;
    /// Changes one; a value that the CPU refuses changes nothing.
    fn write_msr(&self, msr: u32, value: u64);
}

/// The fields of one VMCS as far as they are known.
pub struct Fields {
    block: Mfn,
    ports: &'static dyn Ports,
    /// Those whose value is what the VMCS has.
    known: Cell<u128>,
    values: [Cell<u64>; FIELDS],
}

/// Fields of a class.
const fn of_class(class: Class) -> u128 {
    let mut set = 0;
    let mut index = 0;
    while index < FIELDS {
        let field = Field::ALL[index];
        if field.class() as u8 == class as u8 {
            set |= field.bit();
        }
        index += 1;
    }
    set
}

/// What a run in the guest may change: its state, what the exit tells, and the event that was given, which is not given again.
const CHANGED_BY_RUNS: u128 =
    of_class(Class::Guest) | of_class(Class::Told) | Field::EntryEvent.bit();
/// The same of a run in which only the guest's state of entry was refused.
const CHANGED_BY_REFUSALS: u128 = of_class(Class::Told);

impl Fields {
    /// Of a VMCS of which nothing is known.
    pub const fn new(block: Mfn, ports: &'static dyn Ports) -> Self {
        Self {
            block,
            ports,
            known: Cell::new(0),
            values: [const { Cell::new(0) }; FIELDS],
        }
    }

    /// The page.
    pub const fn block(&self) -> Mfn {
        self.block
    }

    /// The processor.
    pub const fn ports(&self) -> &'static dyn Ports {
        self.ports
    }

    fn value(&self, field: Field) -> &Cell<u64> {
        &self.values[field as usize]
    }

    /// A field.
    #[inline(never)]
    pub fn get(&self, field: Field) -> u64 {
        if self.known.get() & field.bit() == 0 {
            self.keep(field, self.ports.read(self.block, field));
        }
        self.value(field).get()
    }

    fn keep(&self, field: Field, value: u64) {
        self.value(field).set(value);
        self.known.set(self.known.get() | field.bit());
    }

    /// Makes a field what it is to be, if it is not.
    #[inline(never)]
    pub fn set(&self, field: Field, value: u64) {
        if self.known.get() & field.bit() != 0 && self.value(field).get() == value {
            return;
        }
        self.ports.write(self.block, field, value);
        self.keep(field, value);
    }

    /// Sets or clears bits of a field.
    pub fn switch(&self, field: Field, bits: u64, on: bool) {
        let old = self.get(field);
        self.set(field, if on { old | bits } else { old & !bits });
    }

    /// The processor was in the guest.
    pub fn ran(&self) {
        self.known.set(self.known.get() & !CHANGED_BY_RUNS);
    }

    /// The processor refused to enter the guest.
    pub fn refused(&self) {
        self.known.set(self.known.get() & !CHANGED_BY_REFUSALS);
    }
}
