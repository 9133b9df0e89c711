//! The local APIC of a vCPU (Intel SDM vol. 3, "Advanced Programmable Interrupt Controller"; AMD APM vol. 2, 16):
//! pure state that belongs to the CPU which runs the vCPU. Others leave interrupts in [`super::inbox`].
//!
//! It has what guests of this ABI have always had: version 0x14 with six local vectors (no CMCI), no suppression of
//! EOI broadcasts, a bus of 100 MHz ([`BUS_CYCLE`]), IDs of twice the vCPU's number.
//!
//! Reads and writes, by MMIO (`mmio.rs`) or MSR (`msr.rs`), end in the same two functions here. What a write
//! leads to beyond the registers is its [`Effect`]. After each of them, [`Lapic::pending`] and [`Lapic::next_deadline`] may
//! have changed.

mod address;
mod base;
mod ipi;
mod lvt;
mod mmio;
mod msr;
mod record;
mod register;
mod timer;

pub use address::{Address, Mode, arbitrate, matches, x2apic_logical};
pub use base::{BASE_MSR, DEFAULT_BASE};
pub use ipi::{Delivery, Destination, Ipi};
pub use lvt::{Local, LocalDelivery};
pub use msr::{TSC_DEADLINE_MSR, owns_msr};
pub use record::{REGISTERS_SIZE, Record, RecordError};
pub use timer::{BUS_CYCLE, SHORTEST_SERVED, Tick, TimeSource, TimerMode};

use self::ipi::Command;
use self::lvt::{LVTS, MASKED};
use self::register::Register;
use self::timer::Timer;
use super::inbox::Letters;
use super::vectors::{FIRST_LEGAL, Vectors};
use crate::base::Nanos;

/// Version register: integrated, without suppression of EOI broadcasts, highest local vector 5.
const VERSION: u32 = 0x0005_0014;
/// Bit 8 of the spurious vector register: enabled by software.
const SVR_ENABLED: u32 = 1 << 8;
/// Its bits that can be written. Bit 9 (focus checking) does nothing.
const SVR_WRITABLE: u32 = 0x3ff;
/// Spurious vector register after reset.
const SVR_RESET: u32 = 0xff;
/// Bits of the destination format register that are always set.
const DFR_ONES: u32 = 0x0fff_ffff;

/// Bits of the error status register.
mod error {
    /// A vector below 16 was to be sent.
    pub const SEND_ILLEGAL: u32 = 1 << 5;
    /// A vector below 16 was received.
    pub const RECEIVE_ILLEGAL: u32 = 1 << 6;
    /// There is no such register.
    pub const ILLEGAL_REGISTER: u32 = 1 << 7;
}

/// The access is a general protection fault, #GP(0), for the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// What the CPUID policy gives the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Facts {
    /// x2APIC mode exists.
    pub x2apic: bool,
    /// The deadline mode of the timer exists.
    pub tsc_deadline: bool,
    /// Width of physical addresses in bits.
    pub physical_bits: u8,
}

/// What the caller does after a write.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing.
    None,
    /// Send this to all that [`matches`] finds.
    Ipi(Ipi),
    /// A level-triggered interrupt with this vector has ended: tell the I/O APICs.
    EndOfInterrupt(u8),
    /// [`Lapic::address`] may be another: publish it.
    Address,
    /// The same, and it accepts interrupts from now on, if it did not before: what was not accepted can be offered again.
    Enabled,
    /// [`Lapic::next_deadline`] may be another.
    Timer,
    /// IA32_APIC_BASE is another: address and deadline may be, and with `moved` the page of [`Lapic::window`]
    /// is at another address.
    Base {
        /// The base address has changed.
        moved: bool,
    },
}

/// The ID of a vCPU's local APIC.
#[must_use]
pub const fn apic_id(vcpu: u32) -> u32 {
    vcpu.wrapping_mul(2)
}

/// A local APIC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lapic {
    id: u32,
    facts: Facts,
    /// IA32_APIC_BASE.
    base: u64,
    task_priority: u8,
    /// LDR bits 31:24, in xAPIC mode.
    logical: u8,
    format: u32,
    spurious: u32,
    requested: Vectors,
    in_service: Vectors,
    level: Vectors,
    lvt: [u32; LVTS],
    /// The error status register as the guest reads it, and what has come since it last wrote it.
    error_status: u32,
    errors: u32,
    /// The interrupt command register; upper half as the mode has it.
    command: u64,
    timer: Timer,
}

impl Lapic {
    /// The local APIC of a new vCPU, as after power-up. vCPU 0 is the bootstrap processor.
    #[must_use]
    pub fn new(vcpu: u32, facts: Facts) -> Self {
        let mut lapic = Self {
            id: apic_id(vcpu),
            facts,
            base: base::initial(vcpu == 0),
            task_priority: 0,
            logical: 0,
            format: u32::MAX,
            spurious: SVR_RESET,
            requested: Vectors::none(),
            in_service: Vectors::none(),
            level: Vectors::none(),
            lvt: [MASKED; LVTS],
            error_status: 0,
            errors: 0,
            command: 0,
            timer: Timer::new(),
        };
        lapic.init();
        lapic
    }

    /// Replaces what the CPUID policy says. State that it no longer allows stays until the guest leaves it.
    pub const fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// Power-up: all registers, IA32_APIC_BASE too.
    pub fn reset(&mut self) {
        self.base = base::initial(base::is_bootstrap(self.base));
        self.init();
    }

    /// INIT: all registers but the ID and IA32_APIC_BASE, hence the mode.
    pub fn init(&mut self) {
        self.task_priority = 0;
        self.logical = 0;
        self.format = u32::MAX;
        self.spurious = SVR_RESET;
        self.requested = Vectors::none();
        self.in_service = Vectors::none();
        self.level = Vectors::none();
        self.lvt = [MASKED; LVTS];
        self.error_status = 0;
        self.errors = 0;
        self.command = 0;
        self.timer = Timer::new();
    }

    /// Its 32-bit ID.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// IA32_APIC_BASE.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// How software reaches it.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        base::mode(self.base)
    }

    /// Whether it is in x2APIC mode.
    #[must_use]
    pub fn is_x2apic(&self) -> bool {
        self.mode() == Mode::X2Apic
    }

    /// Whether it accepts and delivers interrupts: enabled by IA32_APIC_BASE and by software.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.mode() != Mode::Disabled && self.spurious & SVR_ENABLED != 0
    }

    /// Guest-physical address of the page of registers; `None` while there is none.
    #[must_use]
    pub fn window(&self) -> Option<u64> {
        (self.mode() == Mode::XApic).then(|| base::address(self.base))
    }

    /// Where it can be reached, for [`super::inbox::Inbox::publish`].
    #[must_use]
    pub fn address(&self) -> Address {
        Address {
            id: self.id,
            logical: self.logical,
            flat: self.format >> 28 == 0xf,
            mode: self.mode(),
            enabled: self.is_enabled(),
            priority: self.processor_priority(),
        }
    }

    /// Puts an interrupt into IRR. Whether it was accepted: not while the local APIC is disabled, and a vector below 16 is
    /// an error that the guest can read.
    pub fn accept(&mut self, vector: u8, level: bool) -> bool {
        if !self.is_enabled() {
            return false;
        }
        if vector < FIRST_LEGAL {
            self.note_error(error::RECEIVE_ILLEGAL);
            return false;
        }
        self.requested.insert(vector);
        self.level.assign(vector, level);
        true
    }

    /// Puts all interrupts of `letters` into IRR; INIT among them is done before, by the caller, and so is all else.
    pub fn accept_letters(&mut self, letters: &Letters) {
        for vector in letters.edge.iter() {
            self.accept(vector, false);
        }
        for vector in letters.level.iter() {
            self.accept(vector, true);
        }
    }

    /// PPR: the task's priority, or the class of what is in service.
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let served = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority >> 4 >= served >> 4 {
            self.task_priority
        } else {
            served
        }
    }

    /// The interrupt that the processor is to take, if it can take any now.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        self.requested
            .highest()
            .filter(|vector| self.is_enabled() && vector >> 4 > self.processor_priority() >> 4)
    }

    /// The interrupt that [`Self::pending`] would name if only the task's priority were lower: CR8 must then be watched.
    #[must_use]
    pub fn blocked_by_task(&self) -> Option<u8> {
        let served = self.in_service.highest().unwrap_or(0) >> 4;
        self.requested.highest().filter(|vector| {
            let class = vector >> 4;
            self.is_enabled() && class > served && class <= self.task_priority >> 4
        })
    }

    /// The processor has taken `vector`: from IRR into ISR. Whether it was in IRR; otherwise nothing changes.
    pub fn acknowledge(&mut self, vector: u8) -> bool {
        let there = self.requested.contains(vector);
        if there {
            self.requested.remove(vector);
            self.in_service.insert(vector);
        }
        there
    }

    /// Ends the interrupt in service with the highest priority. Its vector if I/O APICs are to be told.
    pub fn eoi(&mut self) -> Option<u8> {
        let vector = self.in_service.highest()?;
        self.in_service.remove(vector);
        self.level.contains(vector).then_some(vector)
    }

    /// CR8: the class of the task's priority.
    #[must_use]
    pub const fn cr8(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Sets CR8; only the low four bits count (others are #GP, which the caller has given).
    pub const fn set_cr8(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// When [`Self::advance`] is to be called, if nothing changes before. May have passed.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.timer.next_service()
    }

    /// Serves the timer. What fired is in IRR, unless its local vector is masked.
    pub fn advance(&mut self, now: Nanos) -> Tick {
        let tick = self.timer.advance(now);
        if tick.fired {
            self.raise_local_vector(Local::Timer);
        }
        tick
    }

    /// The mode of the timer.
    #[must_use]
    pub const fn timer_mode(&self) -> TimerMode {
        self.timer.mode()
    }

    /// Notes an error; the first of its kind since the guest last wrote the register interrupts.
    fn note_error(&mut self, kind: u32) {
        if self.errors & kind == 0 {
            self.errors |= kind;
            // An illegal vector in here is one more error, of a kind that is noted by then or comes once.
            self.raise_local_vector(Local::Error);
        }
    }

    /// The value of a register, as the mode has it. 0 for those that can only be written.
    fn read(&self, register: Register, time: &impl TimeSource) -> u32 {
        let wide = self.is_x2apic();
        match register {
            Register::Id if wide => self.id,
            Register::Id => self.id << 24,
            Register::Version => VERSION,
            Register::TaskPriority => self.task_priority.into(),
            Register::ProcessorPriority => self.processor_priority().into(),
            Register::Logical if wide => x2apic_logical(self.id),
            Register::Logical => u32::from(self.logical) << 24,
            Register::Format => self.format,
            Register::Spurious => self.spurious,
            Register::InService(index) => self.in_service.register(index),
            Register::TriggerMode(index) => self.level.register(index),
            Register::Request(index) => self.requested.register(index),
            Register::ErrorStatus => self.error_status,
            Register::Command => self.command as u32,
            Register::CommandHigh => (self.command >> 32) as u32,
            Register::Lvt(local) => self.lvt[local.index()],
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.current(time.now()),
            Register::Divide => self.timer.divide(),
            Register::ArbitrationPriority
            | Register::EndOfInterrupt
            | Register::RemoteRead
            | Register::SelfIpi => 0,
        }
    }

    /// Writes a register; bits that cannot be written are dropped, and so are writes to what can only be read.
    ///
    /// Before the timer is set otherwise, what is due of it is served, as a real one has by then.
    fn write(&mut self, register: Register, value: u32, time: &impl TimeSource) -> Effect {
        match register {
            Register::TaskPriority => self.task_priority = value as u8,
            Register::EndOfInterrupt => {
                return self.eoi().map_or(Effect::None, Effect::EndOfInterrupt);
            }
            Register::Logical => {
                self.logical = (value >> 24) as u8;
                return Effect::Address;
            }
            Register::Format => {
                self.format = value | DFR_ONES;
                return Effect::Address;
            }
            Register::Spurious => {
                self.set_spurious(value);
                return if self.is_enabled() {
                    Effect::Enabled
                } else {
                    Effect::Address
                };
            }
            Register::ErrorStatus => self.error_status = core::mem::take(&mut self.errors),
            Register::Command => return self.send(value),
            Register::CommandHigh => {
                self.command = self.command & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32;
            }
            Register::Lvt(local) => return self.write_lvt(local, value, time.now()),
            Register::InitialCount => {
                let _ = self.advance(time.now());
                self.timer.set_initial(value, time.now());
                return Effect::Timer;
            }
            Register::Divide => {
                let _ = self.advance(time.now());
                self.timer.set_divide(value, time.now());
                return Effect::Timer;
            }
            Register::SelfIpi => self.send_to_self(value as u8),
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::InService(_)
            | Register::TriggerMode(_)
            | Register::Request(_)
            | Register::CurrentCount => {}
        }
        Effect::None
    }

    /// Disabling masks all local vectors; what is in IRR and ISR stays.
    fn set_spurious(&mut self, value: u32) {
        self.spurious = value & SVR_WRITABLE;
        if value & SVR_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= MASKED;
            }
        }
    }

    /// A write to the command register's low half.
    fn send(&mut self, low: u32) -> Effect {
        let wide = self.is_x2apic();
        let high = (self.command >> 32) as u32;
        self.command = u64::from(high) << 32 | u64::from(low & ipi::ICR_LOW);
        let destination = if wide { high } else { high >> 24 };
        match ipi::command(low, destination, wide) {
            Command::Send(ipi) => return Effect::Ipi(ipi),
            Command::ToSelf(vector) => self.send_to_self(vector),
            Command::IllegalVector => self.note_error(error::SEND_ILLEGAL),
            Command::Nothing => {}
        }
        Effect::None
    }

    fn send_to_self(&mut self, vector: u8) {
        if vector < FIRST_LEGAL {
            self.note_error(error::SEND_ILLEGAL);
        } else {
            self.accept(vector, false);
        }
    }
}

#[cfg(test)]
mod tests;
