//! What a guest in a container may write to its control registers (AMD APM vol. 2, 3.1; Intel SDM vol. 3, 2.5 and 4.1).
//!
//! All values here are the guest's view. What the hardware gets besides (caches that stay on, machine checks that are
//! ours, the bit that lets containers run) and which changes make translations stale is the business of
//! `hvm::processor::Processor::write`.

use crate::cpuid::Policy;
use crate::cpuid::features::Feature;
use crate::cpuid::xstate::is_valid_xcr0;

/// CR0 (AMD APM vol. 2, 3.1.1).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const MP: u64 = 1 << 1;
    pub const EM: u64 = 1 << 2;
    pub const TS: u64 = 1 << 3;
    pub const ET: u64 = 1 << 4;
    pub const NE: u64 = 1 << 5;
    pub const WP: u64 = 1 << 16;
    pub const AM: u64 = 1 << 18;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
    /// All that there are.
    pub const ALL: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;
}

/// CR3 (AMD APM vol. 2, 3.1.2; Intel SDM vol. 3, 4.10.4.1).
pub mod cr3 {
    /// The process context, while CR4.PCIDE is set.
    pub const PCID: u64 = 0xfff;
    /// In a value that is written while CR4.PCIDE is set: keep that context's translations. Never in the register.
    pub const KEEP: u64 = 1 << 63;
}

/// CR4 (AMD APM vol. 2, 3.1.3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr4 {
    pub const VME: u64 = 1 << 0;
    pub const PVI: u64 = 1 << 1;
    pub const TSD: u64 = 1 << 2;
    pub const DE: u64 = 1 << 3;
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const PCE: u64 = 1 << 8;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const UMIP: u64 = 1 << 11;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const PCIDE: u64 = 1 << 17;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
}

/// EFER (AMD APM vol. 2, 3.1.7).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod efer {
    pub const SCE: u64 = 1 << 0;
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
    pub const FFXSR: u64 = 1 << 14;
}

/// IA32_APIC_BASE (AMD APM vol. 2, 16.3.1).
pub mod apic_base {
    /// The local APIC is on.
    pub const ENABLE: u64 = 1 << 11;
}

/// CR4 bits that go with a feature. PCE is there always; what is not here (LA57, VMXE, SMXE, CET) no guest has.
const CR4_OF: [(Feature, u64); 16] = [
    (Feature::VME, cr4::VME | cr4::PVI),
    (Feature::TSC, cr4::TSD),
    (Feature::DE, cr4::DE),
    (Feature::PSE, cr4::PSE),
    (Feature::PAE, cr4::PAE),
    (Feature::MCE, cr4::MCE),
    (Feature::PGE, cr4::PGE),
    (Feature::FXSR, cr4::OSFXSR),
    (Feature::SSE, cr4::OSXMMEXCPT),
    (Feature::UMIP, cr4::UMIP),
    (Feature::FSGSBASE, cr4::FSGSBASE),
    (Feature::PCID, cr4::PCIDE),
    (Feature::XSAVE, cr4::OSXSAVE),
    (Feature::SMEP, cr4::SMEP),
    (Feature::SMAP, cr4::SMAP),
    (Feature::PKU, cr4::PKE),
];

/// EFER bits that go with a feature, apart from LMA.
const EFER_OF: [(Feature, u64); 4] = [
    (Feature::SYSCALL, efer::SCE),
    (Feature::LM, efer::LME),
    (Feature::NX, efer::NXE),
    (Feature::FFXSR, efer::FFXSR),
];

/// LMA as LME and paging make it, whatever EFER has of it.
#[must_use]
pub const fn long_mode_active(cr0: u64, efer: u64) -> u64 {
    if cr0 & cr0::PG != 0 && efer & efer::LME != 0 {
        efer::LMA
    } else {
        0
    }
}

/// Bits whose change makes translations of the guest's own tables stale (AMD APM vol. 2, 5.5.2; Intel SDM vol. 3, 4.10.4.1).
pub mod stale {
    use super::{cr0, cr4, efer};

    /// Of CR0.
    pub const CR0: u64 = cr0::PE | cr0::PG | cr0::WP;
    /// Of CR4. LA57 and CET no guest has.
    pub const CR4: u64 =
        cr4::PSE | cr4::PAE | cr4::PGE | cr4::PCIDE | cr4::SMEP | cr4::SMAP | cr4::PKE;
    /// Of EFER.
    pub const EFER: u64 = efer::LME | efer::NXE;
}

/// The guest gets #GP(0).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

/// The control registers as the guest sees them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub struct Controls {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    /// With LMA, as CR0.PG and LME make it.
    pub efer: u64,
}

/// What the vCPU's code segment is, as far as writes of CR0 ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// CS.L is set.
    Long,
    /// It is not.
    Other,
}

impl Controls {
    /// After a reset (AMD APM vol. 2, 14.1.3): real mode, caches off.
    pub const RESET: Self = Self {
        cr0: cr0::CD | cr0::NW | cr0::ET,
        cr3: 0,
        cr4: 0,
        efer: 0,
    };

    /// Whether paging is on.
    #[must_use]
    pub const fn pages(&self) -> bool {
        self.cr0 & cr0::PG != 0
    }

    /// Whether the vCPU is in long mode, in a 64-bit code segment or not.
    #[must_use]
    pub const fn long_mode(&self) -> bool {
        self.efer & efer::LMA != 0
    }

    /// With LMA as the other bits make it.
    const fn with_lma(mut self) -> Self {
        self.efer = self.efer & !efer::LMA | long_mode_active(self.cr0, self.efer);
        self
    }

    /// Whether a vCPU can have these, however it came to them: for values that tools give.
    #[must_use]
    pub fn are_possible(&self, policy: &Policy) -> bool {
        let long = self.efer & efer::LME != 0 && self.pages();
        let pcid = self.cr4 & cr4::PCIDE != 0;
        check_cr0(self.cr0).is_ok_and(|cr0| cr0 == self.cr0)
            && self.cr4 & !cr4_bits(policy) == 0
            && self.efer & !(efer_bits(policy) | efer::LMA) == 0
            && *self == self.with_lma()
            && (!long || self.cr4 & cr4::PAE != 0)
            && (!pcid || long)
            && check_cr3(self, self.cr3, policy) == Ok(self.cr3)
    }
}

/// The bits of CR4 that a guest with this policy may set.
#[must_use]
pub fn cr4_bits(policy: &Policy) -> u64 {
    cr4::PCE | bits_of(policy, &CR4_OF)
}

/// The bits of EFER that a guest with this policy may set.
#[must_use]
pub fn efer_bits(policy: &Policy) -> u64 {
    bits_of(policy, &EFER_OF)
}

fn bits_of(policy: &Policy, list: &[(Feature, u64)]) -> u64 {
    let had = list.iter().filter(|(feature, _)| policy.has(*feature));
    had.fold(0, |bits, (_, more)| bits | more)
}

/// MOV to CR0, and what LMSW and CLTS make of it.
///
/// # Errors
/// `Fault` for reserved bits of the upper half, combinations that there are not, and a change of paging that the mode does
/// not allow.
pub fn write_cr0(old: Controls, value: u64, code: Code) -> Result<Controls, Fault> {
    let value = check_cr0(value)?;
    let new = Controls { cr0: value, ..old };
    if new.pages() && !old.pages() && old.efer & efer::LME != 0 {
        // Into long mode.
        if old.cr4 & cr4::PAE == 0 || code == Code::Long {
            return Err(Fault);
        }
    }
    if !new.pages() && old.pages() {
        let leaves_long_code = old.long_mode() && code == Code::Long;
        if leaves_long_code || old.cr4 & cr4::PCIDE != 0 {
            return Err(Fault);
        }
    }
    Ok(new.with_lma())
}

/// The value without bits that there are not: those of the lower half are ignored.
const fn check_cr0(value: u64) -> Result<u64, Fault> {
    let no_paging = value & cr0::PG != 0 && value & cr0::PE == 0;
    let no_caching = value & cr0::NW != 0 && value & cr0::CD == 0;
    if value >> 32 != 0 || no_paging || no_caching {
        return Err(Fault);
    }
    Ok(value & cr0::ALL | cr0::ET)
}

/// LMSW: the four lowest bits of CR0, of which PE can only be set.
///
/// # Errors
/// As [`write_cr0`].
pub fn write_machine_status(old: Controls, value: u16, code: Code) -> Result<Controls, Fault> {
    const STATUS: u64 = cr0::PE | cr0::MP | cr0::EM | cr0::TS;
    let value = old.cr0 & !(STATUS & !cr0::PE) | u64::from(value) & STATUS;
    write_cr0(old, value, code)
}

/// MOV to CR3. Which translations go is told by the value: all that are not global, unless [`cr3::KEEP`] is set.
///
/// # Errors
/// `Fault` for bits above the physical addresses.
pub fn write_cr3(old: Controls, value: u64, policy: &Policy) -> Result<Controls, Fault> {
    let pcid = old.cr4 & cr4::PCIDE != 0;
    let value = if pcid { value & !cr3::KEEP } else { value };
    let cr3 = check_cr3(&old, value, policy)?;
    Ok(Controls { cr3, ..old })
}

/// In long mode addresses end where the policy says; elsewhere the register has 32 bits.
fn check_cr3(old: &Controls, value: u64, policy: &Policy) -> Result<u64, Fault> {
    if !old.long_mode() {
        return Ok(value & u64::from(u32::MAX));
    }
    let bits = policy.physical_address_bits().clamp(32, 52);
    if value >> bits != 0 {
        return Err(Fault);
    }
    Ok(value)
}

/// MOV to CR4.
///
/// # Errors
/// `Fault` for bits that the policy has not, for leaving PAE in long mode, and for turning on process contexts outside of
/// it or with one chosen already.
pub fn write_cr4(old: Controls, value: u64, policy: &Policy) -> Result<Controls, Fault> {
    let turned_on = value & !old.cr4;
    let bad_contexts =
        turned_on & cr4::PCIDE != 0 && (!old.long_mode() || old.cr3 & cr3::PCID != 0);
    let bad_tables = old.long_mode() && value & cr4::PAE == 0;
    if value & !cr4_bits(policy) != 0 || bad_contexts || bad_tables {
        return Err(Fault);
    }
    Ok(Controls { cr4: value, ..old })
}

/// MOV to CR8: the task priority, bits 4 to 7 of the local APIC's.
///
/// # Errors
/// `Fault` for reserved bits.
pub fn write_cr8(value: u64) -> Result<u8, Fault> {
    match value {
        0..=0xf => Ok(value as u8),
        _ => Err(Fault),
    }
}

/// WRMSR to EFER. LMA is not for software to choose: what is written there is ignored.
///
/// # Errors
/// `Fault` for bits that the policy has not, and for a change of LME while paging is on.
pub fn write_efer(old: Controls, value: u64, policy: &Policy) -> Result<Controls, Fault> {
    let value = value & !efer::LMA;
    let changes_mode = (value ^ old.efer) & efer::LME != 0 && old.pages();
    if value & !efer_bits(policy) != 0 || changes_mode {
        return Err(Fault);
    }
    let new = Controls { efer: value, ..old };
    Ok(new.with_lma())
}

/// XSETBV. That CR4.OSXSAVE is set and CPL 0 is the caller's to see to, where the hardware does not.
///
/// # Errors
/// `Fault` for another register, components that the policy has not, and combinations that there are not.
pub fn write_xcr0(register: u32, value: u64, policy: &Policy) -> Result<u64, Fault> {
    if register != 0 || !is_valid_xcr0(policy.xcr0_mask(), value) {
        return Err(Fault);
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
