//! IA32_APIC_BASE (Intel SDM vol. 3, "Local APIC Status and Location" and "x2APIC State Transitions"; AMD APM vol. 2,
//! 16.3.1 and 16.9).
//!
//! The base may be moved to any page below the width of physical addresses: the caller learns of it and moves the
//! page of registers. The bootstrap bit is read-only.

use super::{Effect, Fault, Lapic, Mode};

/// IA32_APIC_BASE.
pub const BASE_MSR: u32 = 0x1b;
/// Where the page of registers is after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;

const BOOTSTRAP: u64 = 1 << 8;
const X2APIC: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
const FLAGS: u64 = BOOTSTRAP | X2APIC | ENABLED;

/// The register after reset.
pub(super) const fn initial(bootstrap: bool) -> u64 {
    DEFAULT_BASE | ENABLED | if bootstrap { BOOTSTRAP } else { 0 }
}

pub(super) const fn is_bootstrap(base: u64) -> bool {
    base & BOOTSTRAP != 0
}

pub(super) const fn mode(base: u64) -> Mode {
    match (base & ENABLED != 0, base & X2APIC != 0) {
        (false, _) => Mode::Disabled,
        (true, false) => Mode::XApic,
        (true, true) => Mode::X2Apic,
    }
}

pub(super) const fn address(base: u64) -> u64 {
    base & !0xfff
}

impl Lapic {
    /// Whether `value` has no reserved bits and a state that exists.
    pub(super) fn base_allowed(&self, value: u64) -> bool {
        let bits = u32::from(self.facts.physical_bits.clamp(32, 52));
        let reserved = !(FLAGS | ((1 << bits) - 1) & !0xfff);
        let state = value & (X2APIC | ENABLED);
        value & reserved == 0 && state != X2APIC && (state & X2APIC == 0 || self.facts.x2apic)
    }

    /// Takes over mode and address of a record, but whether this is the bootstrap processor only we know.
    pub(super) fn restore_base(&mut self, value: u64) {
        self.base = value & !BOOTSTRAP | self.base & BOOTSTRAP;
    }

    /// Writes the register. Disabling resets all others.
    pub(super) fn write_base(&mut self, value: u64) -> Result<Effect, Fault> {
        if !self.base_allowed(value) {
            return Err(Fault);
        }
        let (old, new) = (self.mode(), mode(value));
        match (old, new) {
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => return Err(Fault),
            (Mode::XApic, Mode::X2Apic) => {
                // The registers keep their values, but for those that x2APIC mode does not have so.
                self.logical = 0;
                self.format = u32::MAX;
                self.command &= 0xffff_ffff;
            }
            (Mode::XApic | Mode::X2Apic, Mode::Disabled) => self.init(),
            (Mode::Disabled, Mode::Disabled | Mode::XApic)
            | (Mode::XApic, Mode::XApic)
            | (Mode::X2Apic, Mode::X2Apic) => {}
        }
        let moved = address(value) != address(self.base);
        self.base = value & !BOOTSTRAP | self.base & BOOTSTRAP;
        Ok(Effect::Base { moved })
    }
}
