//! What the processor offers of AMD-V, and in words why it is not used (AMD APM vol. 2, 15.4; vol. 3, CPUID 8000_000A).

use core::fmt;

use bitflags::bitflags;

#[cfg(test)]
mod tests;

bitflags! {
    /// CPUID 8000_000A edx.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Features: u32 {
        /// Nested paging.
        const NESTED_PAGING = 1 << 0;
        /// Last-branch records are switched with the guest.
        const LBR = 1 << 1;
        /// SVM can be locked.
        const LOCK = 1 << 2;
        /// The next rip is kept at an exit.
        const NEXT_RIP = 1 << 3;
        /// The guest's TSC may run at another rate.
        const TSC_RATE = 1 << 4;
        /// Clean bits.
        const CLEAN = 1 << 5;
        /// One guest's translations can be flushed.
        const FLUSH_BY_ASID = 1 << 6;
        /// Decode assists.
        const DECODE_ASSISTS = 1 << 7;
        /// PAUSE can be counted.
        const PAUSE_FILTER = 1 << 10;
        /// And only those near each other.
        const PAUSE_THRESHOLD = 1 << 12;
        /// Virtual interrupt controller.
        const AVIC = 1 << 13;
        /// VMLOAD and VMSAVE in guests.
        const VIRTUAL_VMLOAD = 1 << 15;
        /// The global interrupt flag of guests.
        const VIRTUAL_GIF = 1 << 16;
        /// Supervisor shadow stacks in nested tables.
        const SHADOW_STACK_CHECK = 1 << 19;
        /// SPEC_CTRL is switched with the guest.
        const SPEC_CTRL = 1 << 20;
        /// NMIs of guests.
        const VIRTUAL_NMI = 1 << 25;
        /// VMRUN checks the address of a VMCB.
        const VMCB_ADDRESS_CHECK = 1 << 28;
    }
}

/// Names for the boot's lines.
const NAMES: [(Features, &str); 16] = [
    (Features::NESTED_PAGING, "Nested Page Tables (NPT)"),
    (Features::LBR, "Last Branch Record (LBR) Virtualisation"),
    (Features::NEXT_RIP, "Next-RIP Saved on #VMEXIT"),
    (Features::TSC_RATE, "TSC Rate MSR"),
    (Features::CLEAN, "VMCB Clean Bits"),
    (Features::FLUSH_BY_ASID, "TLB flush by ASID"),
    (Features::DECODE_ASSISTS, "DecodeAssists"),
    (Features::PAUSE_FILTER, "Pause-Intercept Filter"),
    (
        Features::PAUSE_THRESHOLD,
        "Pause-Intercept Filter Threshold",
    ),
    (Features::AVIC, "Advanced Virtual Interrupt Controller"),
    (Features::VIRTUAL_VMLOAD, "Virtual VMLOAD/VMSAVE"),
    (Features::VIRTUAL_GIF, "Virtual GIF"),
    (Features::SHADOW_STACK_CHECK, "NPT Supervisor Shadow Stack"),
    (Features::SPEC_CTRL, "MSR_SPEC_CTRL virtualisation"),
    (Features::VIRTUAL_NMI, "Virtual NMI"),
    (Features::VMCB_ADDRESS_CHECK, "VMCB address check"),
];

/// CPUID 8000_0001 ecx: SVM.
const SVM: u32 = 1 << 2;
/// The leaf of SVM.
const LEAF: u32 = 0x8000_000a;
/// VM_CR (MSR C001_0114; AMD APM vol. 2, 15.30.1): the disable is locked; SVM is disabled.
const VM_CR_LOCK: u64 = 1 << 3;
const VM_CR_DISABLE: u64 = 1 << 4;

/// What was read of the processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// AMD's or Hygon's.
    pub amd: bool,
    /// CPUID 8000_0000 eax: the last extended leaf.
    pub last_leaf: u32,
    /// CPUID 8000_0001 ecx.
    pub extended_ecx: u32,
    /// CPUID 8000_000A: eax, ebx, ecx, edx. Only looked at where it exists.
    pub svm: [u32; 4],
    /// MSR VM_CR; `None`: it cannot be read. Only looked at where there is SVM.
    pub vm_cr: Option<u64>,
}

/// What the processor offers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SvmFacts {
    /// Revision of SVM.
    pub revision: u8,
    /// Tags of translations, the hypervisor's included.
    pub asids: u32,
    /// What there is beyond the first revision.
    pub features: Features,
}

/// Why AMD-V is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// Another vendor's processor.
    Vendor,
    /// The processor does not have it.
    NotThere,
    /// The firmware has switched it off; so that it cannot be switched on again, or without a lock.
    SwitchedOff {
        /// Until the next reset.
        locked: bool,
    },
    /// There is no nested paging.
    NoNestedPaging,
    /// There is no tag for a guest's translations.
    NoAsid,
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vendor => "this is not an AMD processor",
            Self::NotThere => "this processor does not offer SVM",
            Self::SwitchedOff { locked: true } => {
                "SVM is locked off by the firmware (VM_CR.SVMDIS)"
            }
            Self::SwitchedOff { locked: false } => {
                "SVM is switched off by the firmware (VM_CR.SVMDIS)"
            }
            Self::NoNestedPaging => "this processor's SVM has no nested paging",
            Self::NoAsid => "this processor's SVM has no address space identifiers for guests",
        })
    }
}

impl SvmFacts {
    /// What the readings say.
    ///
    /// # Errors
    /// Why guests cannot be run by SVM.
    pub fn of(readings: &Readings) -> Result<Self, Absent> {
        if !readings.amd {
            return Err(Absent::Vendor);
        }
        if readings.last_leaf < LEAF || readings.extended_ecx & SVM == 0 {
            return Err(Absent::NotThere);
        }
        // An emulator that lacks the MSR has not disabled anything.
        let vm_cr = readings.vm_cr.unwrap_or(0);
        if vm_cr & VM_CR_DISABLE != 0 {
            return Err(Absent::SwitchedOff {
                locked: vm_cr & VM_CR_LOCK != 0,
            });
        }
        let [revision, asids, _, features] = readings.svm;
        let facts = Self {
            revision: revision as u8,
            asids,
            features: Features::from_bits_truncate(features),
        };
        if !facts.features.contains(Features::NESTED_PAGING) {
            return Err(Absent::NoNestedPaging);
        }
        if facts.asids < 2 {
            return Err(Absent::NoAsid);
        }
        Ok(facts)
    }

    /// Whether a CPU with these facts can run what was set up for one with `first`'s.
    #[must_use]
    pub fn covers(&self, first: &Self) -> bool {
        self.asids >= first.asids && self.features.contains(first.features)
    }

    /// What the boot says of it, a line at a time.
    pub fn lines(&self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        line(format_args!("SVM: Supported advanced features:"));
        for (feature, name) in NAMES {
            if self.features.contains(feature) {
                line(format_args!(" - {name}"));
            }
        }
        line(format_args!("HVM: SVM enabled"));
        line(format_args!("HVM: Hardware Assisted Paging (HAP) detected"));
        line(format_args!(
            "HVM: SVM revision {}, {} address space identifiers",
            self.revision, self.asids
        ));
    }
}
