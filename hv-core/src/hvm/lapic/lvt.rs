//! The local vector table: what the local APIC's own sources lead to (Intel SDM vol. 3, "Local Vector Table"; AMD APM
//! vol. 2, 16.4).

use super::{Effect, Lapic, SVR_ENABLED, TimerMode};
use crate::base::Nanos;

/// Number of entries.
pub(super) const LVTS: usize = 6;
/// The source does not interrupt.
pub(super) const MASKED: u32 = 1 << 16;
const VECTOR: u32 = 0xff;
const DELIVERY: u32 = 7 << 8;
/// Read-only: delivery status, remote IRR. They are never set here: delivery is immediate, and level-triggered pins are not
/// remembered.
pub(super) const READ_ONLY: u32 = 1 << 12 | 1 << 14;
const POLARITY: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const TIMER_MODE_SHIFT: u32 = 17;
const TIMER_MODE: u32 = 3 << TIMER_MODE_SHIFT;

/// A source of local interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Local {
    /// The timer.
    Timer,
    /// The thermal sensor.
    Thermal,
    /// The performance counters.
    Performance,
    /// The first pin.
    Lint0,
    /// The second pin, by custom the NMI's.
    Lint1,
    /// An error of the local APIC.
    Error,
}

/// What a local source led to.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalDelivery {
    /// Nothing: masked, disabled, or of a reserved kind.
    Nothing,
    /// An interrupt is in IRR.
    Accepted,
    /// A non-maskable interrupt for this vCPU.
    Nmi,
    /// A system management interrupt: guests have no such mode.
    Smi,
    /// INIT for this vCPU.
    Init,
    /// The interrupt of a PIC. There is none, unless the caller has one.
    ExtInt,
}

impl Local {
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    /// Bits of its entry that can be written.
    const fn writable(self) -> u32 {
        VECTOR
            | MASKED
            | match self {
                Self::Timer => TIMER_MODE,
                Self::Thermal | Self::Performance => DELIVERY,
                Self::Lint0 | Self::Lint1 => DELIVERY | POLARITY | LEVEL,
                Self::Error => 0,
            }
    }
}

/// The mode in a timer's entry; `None` if it is reserved or not offered.
fn timer_mode(entry: u32, tsc_deadline: bool) -> Option<TimerMode> {
    match (entry & TIMER_MODE) >> TIMER_MODE_SHIFT {
        0 => Some(TimerMode::OneShot),
        1 => Some(TimerMode::Periodic),
        2 if tsc_deadline => Some(TimerMode::TscDeadline),
        _ => None,
    }
}

impl Lapic {
    /// The mode that `entry` would give the timer; `None` if it is reserved or not offered.
    pub(super) fn timer_mode_of(&self, entry: u32) -> Option<TimerMode> {
        timer_mode(entry, self.facts.tsc_deadline)
    }

    /// Bits that a write to the entry of `local` may have set.
    pub(super) fn lvt_allowed(&self, local: Local, entry: u32) -> bool {
        entry & !(local.writable() | READ_ONLY) == 0
            && (local != Local::Timer || self.timer_mode_of(entry).is_some())
    }

    /// Writes an entry. A reserved mode of the timer leaves the mode as it was.
    pub(super) fn write_lvt(&mut self, local: Local, value: u32, now: Nanos) -> Effect {
        let mut entry = value & local.writable();
        if self.spurious & SVR_ENABLED == 0 {
            entry |= MASKED;
        }
        if local != Local::Timer {
            self.lvt[local.index()] = entry;
            return Effect::None;
        }
        let _ = self.advance(now);
        if let Some(mode) = self.timer_mode_of(entry) {
            self.timer.set_mode(mode, now);
        } else {
            entry = entry & !TIMER_MODE | self.lvt[local.index()] & TIMER_MODE;
        }
        self.lvt[local.index()] = entry;
        Effect::Timer
    }

    /// An entry as a record has it, made one that the guest could have written.
    pub(super) fn restored_lvt(local: Local, value: u32, enabled: bool) -> u32 {
        let masked = if enabled { 0 } else { MASKED };
        value & local.writable() | masked
    }

    /// The interrupt of a source whose entry has nothing but vector and mask.
    pub(super) fn raise_local_vector(&mut self, local: Local) {
        let entry = self.lvt[local.index()];
        if entry & MASKED == 0 {
            self.accept(entry as u8, false);
        }
    }

    /// A source outside the local APIC asserts: a pin, the thermal sensor, a performance counter. Timer and error are
    /// the local APIC's own and lead to nothing here.
    pub fn deliver_local(&mut self, local: Local) -> LocalDelivery {
        let index = local.index();
        let entry = self.lvt[index];
        let own = matches!(local, Local::Timer | Local::Error);
        if own || entry & MASKED != 0 || !self.is_enabled() {
            return LocalDelivery::Nothing;
        }
        if local == Local::Performance {
            // A counter's interrupt masks itself until its handler has seen to the counter.
            self.lvt[index] |= MASKED;
        }
        match (entry & DELIVERY) >> 8 {
            0 if self.accept(entry as u8, entry & LEVEL != 0) => LocalDelivery::Accepted,
            2 => LocalDelivery::Smi,
            4 => LocalDelivery::Nmi,
            5 => LocalDelivery::Init,
            7 => LocalDelivery::ExtInt,
            _ => LocalDelivery::Nothing,
        }
    }
}
