//! The local APIC's MSRs: IA32_APIC_BASE, IA32_TSC_DEADLINE and, in x2APIC mode, its registers (Intel SDM vol. 3,
//! "x2APIC Register Address Space" and "Reserved Bit Checking"; AMD APM vol. 2, 16.11).

use super::lvt::Local;
use super::register::Register;
use super::timer::DIVIDE;
use super::{BASE_MSR, Effect, Fault, Lapic, SVR_WRITABLE, TimeSource, ipi};

/// IA32_TSC_DEADLINE.
pub const TSC_DEADLINE_MSR: u32 = 0x6e0;
/// First MSR of x2APIC mode; the register's number is added.
const FIRST: u32 = 0x800;
/// Last MSR of the range that is the local APIC's.
const LAST: u32 = 0x8ff;

/// Whether [`Lapic::read_msr`] and [`Lapic::write_msr`] are the ones to ask about an MSR.
#[must_use]
pub const fn owns_msr(index: u32) -> bool {
    matches!(index, BASE_MSR | TSC_DEADLINE_MSR | FIRST..=LAST)
}

impl Lapic {
    fn in_msrs(&self, index: u32) -> Result<Register, Fault> {
        if !self.is_x2apic() {
            return Err(Fault);
        }
        index
            .checked_sub(FIRST)
            .and_then(Register::numbered)
            .filter(|register| register.in_msrs())
            .ok_or(Fault)
    }

    /// Reads an MSR.
    ///
    /// # Errors
    ///
    /// There is none of that number here or now, or it can only be written.
    pub fn read_msr(&self, index: u32, time: &impl TimeSource) -> Result<u64, Fault> {
        match index {
            BASE_MSR => return Ok(self.base),
            TSC_DEADLINE_MSR if self.facts.tsc_deadline => return Ok(self.timer.tsc_deadline()),
            _ => {}
        }
        match self.in_msrs(index)? {
            Register::EndOfInterrupt | Register::SelfIpi => Err(Fault),
            Register::Command => Ok(self.command),
            register => Ok(self.read(register, time).into()),
        }
    }

    /// Writes an MSR.
    ///
    /// # Errors
    ///
    /// There is none of that number here or now, it can only be read, a reserved bit is set, or IA32_APIC_BASE
    /// may not go from its state to that one.
    pub fn write_msr(
        &mut self,
        index: u32,
        value: u64,
        time: &impl TimeSource,
    ) -> Result<Effect, Fault> {
        match index {
            BASE_MSR => return self.write_base(value),
            TSC_DEADLINE_MSR if self.facts.tsc_deadline => {
                let _ = self.advance(time.now());
                self.timer.set_tsc_deadline(value, time);
                return Ok(Effect::Timer);
            }
            _ => {}
        }
        let register = self.in_msrs(index)?;
        if register == Register::Command {
            if value as u32 & !ipi::ICR_LOW != 0 {
                return Err(Fault);
            }
            self.command = value;
            return Ok(self.send(value as u32));
        }
        let value = u32::try_from(value).map_err(|_| Fault)?;
        if !self.msr_allows(register, value) {
            return Err(Fault);
        }
        Ok(self.write(register, value, time))
    }

    /// Whether the register can be written, and without a reserved bit set in `value`.
    fn msr_allows(&self, register: Register, value: u32) -> bool {
        let allowed = match register {
            Register::TaskPriority | Register::SelfIpi => 0xff,
            Register::EndOfInterrupt | Register::ErrorStatus => 0,
            Register::Spurious => SVR_WRITABLE,
            Register::Lvt(local) => return self.lvt_allowed(local, value),
            Register::InitialCount => u32::MAX,
            Register::Divide => DIVIDE,
            _ => return false,
        };
        value & !allowed == 0
    }

    /// IA32_TSC_DEADLINE if the timer is armed with it: to be armed anew when the guest's TSC is set otherwise.
    #[must_use]
    pub const fn tsc_deadline(&self) -> Option<u64> {
        match self.timer.tsc_deadline() {
            0 => None,
            tsc => Some(tsc),
        }
    }

    /// Arms the timer anew for the value of the TSC that it waits for: the guest's TSC, or its rate, is another.
    pub fn tsc_changed(&mut self, time: &impl TimeSource) {
        if let Some(tsc) = self.tsc_deadline() {
            self.timer.set_tsc_deadline(tsc, time);
        }
    }

    /// Whether the timer's interrupt can come: its local vector is not masked.
    #[must_use]
    pub fn timer_can_interrupt(&self) -> bool {
        self.is_enabled() && self.lvt[Local::Timer.index()] & super::lvt::MASKED == 0
    }
}
