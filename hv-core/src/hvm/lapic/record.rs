//! The local APIC in the records of a saved domain (`hvm_hw_lapic` and `hvm_hw_lapic_regs`, arch-x86/hvm/save.h).
//!
//! `hvm_hw_lapic_regs` is the first 1024 bytes of the page of registers, as read in the mode of the record; ID,
//! LDR and ICR have the form of that mode. The two records come one after the other, in either order. What a record
//! says is hostile: it ends in a state that a guest could have reached itself, or is refused whole.
//!
//! Not saved: errors that the guest has not asked for yet by a write to the error status register. The record
//! has no place for them.

use super::lvt::{LVTS, Local};
use super::register::Register;
use super::timer::{Registers, Timer};
use super::{DFR_ONES, Lapic, Mode, SVR_ENABLED, SVR_WRITABLE, TimeSource, ipi};
use crate::hvm::vectors::Vectors;

/// Length of `hvm_hw_lapic_regs`.
pub const REGISTERS_SIZE: usize = 1024;

/// Bits of `disabled`: by IA32_APIC_BASE, by software.
const DISABLED_BY_BASE: u32 = 1 << 0;
const DISABLED_BY_SOFTWARE: u32 = 1 << 1;

/// The fields of `hvm_hw_lapic`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// IA32_APIC_BASE.
    pub apic_base_msr: u64,
    /// Why it is disabled: bit 0 by IA32_APIC_BASE, bit 1 by software. Follows from the rest.
    pub disabled: u32,
    /// 1, 2, 4, ... 128; follows from the divide configuration register.
    pub timer_divisor: u32,
    /// IA32_TSC_DEADLINE.
    pub tdt_msr: u64,
}

/// Why a record is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordError {
    /// IA32_APIC_BASE has reserved bits, or a mode that does not exist or is not offered.
    Base,
    /// `disabled` has unknown bits.
    Disabled,
    /// `timer_divisor` is no power of two up to 128.
    Divisor,
    /// The ID is not this vCPU's.
    Id,
    /// The timer's mode is reserved or not offered.
    TimerMode,
}

fn register(data: &[u8; REGISTERS_SIZE], number: u32) -> u32 {
    let at = number as usize * 16;
    data.get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes)
}

fn vectors(data: &[u8; REGISTERS_SIZE], first: u32) -> Vectors {
    let mut set = Vectors::none();
    for index in 0..8 {
        set.set_register(index, register(data, first + u32::from(index)));
    }
    set
}

impl Lapic {
    /// What goes into `hvm_hw_lapic`.
    #[must_use]
    pub fn save(&self) -> Record {
        let by_base = self.mode() == Mode::Disabled;
        let by_software = self.spurious & SVR_ENABLED == 0;
        Record {
            apic_base_msr: self.base,
            disabled: if by_base { DISABLED_BY_BASE } else { 0 }
                | if by_software { DISABLED_BY_SOFTWARE } else { 0 },
            timer_divisor: self.timer.divisor(),
            tdt_msr: self.timer.tsc_deadline(),
        }
    }

    /// Writes `hvm_hw_lapic_regs`.
    pub fn save_registers(&self, time: &impl TimeSource, data: &mut [u8; REGISTERS_SIZE]) {
        data.fill(0);
        for (number, bytes) in (0..).zip(data.chunks_exact_mut(16)) {
            if let Some(register) = Register::numbered(number) {
                bytes[..4].copy_from_slice(&self.read(register, time).to_le_bytes());
            }
        }
    }

    /// Takes over an `hvm_hw_lapic`.
    ///
    /// # Errors
    ///
    /// Says what is wrong; nothing has changed then.
    pub fn load(&mut self, record: &Record, time: &impl TimeSource) -> Result<(), RecordError> {
        if !self.base_allowed(record.apic_base_msr) {
            return Err(RecordError::Base);
        }
        if record.disabled & !(DISABLED_BY_BASE | DISABLED_BY_SOFTWARE) != 0 {
            return Err(RecordError::Disabled);
        }
        let divide = Timer::divide_for(record.timer_divisor).ok_or(RecordError::Divisor)?;
        self.restore_base(record.apic_base_msr);
        self.timer.restore_hidden(divide, record.tdt_msr, time);
        Ok(())
    }

    /// Takes over an `hvm_hw_lapic_regs`.
    ///
    /// # Errors
    ///
    /// Says what is wrong; nothing has changed then.
    pub fn load_registers(
        &mut self,
        data: &[u8; REGISTERS_SIZE],
        time: &impl TimeSource,
    ) -> Result<(), RecordError> {
        // The record that says which form the ID has may still come.
        let id = register(data, 0x02);
        if id != self.id && id != self.id << 24 {
            return Err(RecordError::Id);
        }
        let timer = register(data, 0x32);
        let mode = self.timer_mode_of(timer).ok_or(RecordError::TimerMode)?;

        self.task_priority = register(data, 0x08) as u8;
        self.logical = (register(data, 0x0d) >> 24) as u8;
        self.format = register(data, 0x0e) | DFR_ONES;
        self.spurious = register(data, 0x0f) & SVR_WRITABLE;
        self.in_service = vectors(data, 0x10);
        self.level = vectors(data, 0x18);
        self.requested = vectors(data, 0x20);
        self.error_status = register(data, 0x28) & 0xff;
        self.errors = 0;
        self.command =
            u64::from(register(data, 0x31)) << 32 | u64::from(register(data, 0x30) & ipi::ICR_LOW);
        let enabled = self.spurious & SVR_ENABLED != 0;
        for (number, local) in (0x32..).zip(ENTRIES) {
            self.lvt[local.index()] = Self::restored_lvt(local, register(data, number), enabled);
        }
        let registers = Registers {
            mode,
            divide: register(data, 0x3e),
            initial: register(data, 0x38),
            left: register(data, 0x39),
        };
        self.timer.restore(registers, time);
        Ok(())
    }
}

/// The entries of the local vector table in the order of their registers.
const ENTRIES: [Local; LVTS] = [
    Local::Timer,
    Local::Thermal,
    Local::Performance,
    Local::Lint0,
    Local::Lint1,
    Local::Error,
];
