//! What the processor offers of VT-x, and in words why it is not used (Intel SDM vol. 3, appendix A).

use core::fmt;

use bitflags::bitflags;

use super::controls::cr0::{NE, PE, PG};
use crate::boot::cmdline::VmxOptions;
use crate::cpuid::features::Feature;

mod controls;

pub use controls::{AtEntry, AtExit, Capabilities, Controls, Pin, Primary, Secondary};

#[cfg(test)]
pub(crate) mod tests;

bitflags! {
    /// IA32_VMX_EPT_VPID_CAP (A.10).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Paging: u64 {
        /// A walk of nested tables can have four steps.
        const EPT_WALK_4 = 1 << 6;
        /// Nested tables can be in write-back memory.
        const EPT_WRITE_BACK = 1 << 14;
        /// Nested mappings of 2 MiB.
        const EPT_2MB = 1 << 16;
        /// Nested mappings of 1 GiB.
        const EPT_1GB = 1 << 17;
        /// INVEPT.
        const INVEPT = 1 << 20;
        /// Accessed and dirty bits in nested tables.
        const EPT_ACCESSED_DIRTY = 1 << 21;
        /// INVEPT for one root.
        const INVEPT_SINGLE = 1 << 25;
        /// INVEPT for all.
        const INVEPT_ALL = 1 << 26;
        /// INVVPID.
        const INVVPID = 1 << 32;
        /// INVVPID for one tag.
        const INVVPID_SINGLE = 1 << 41;
        /// INVVPID for all.
        const INVVPID_ALL = 1 << 42;
    }
}

/// CPUID 1 ecx: VMX.
const VMX: u32 = 1 << 5;
/// IA32_FEATURE_CONTROL: it is locked; VMXON is allowed outside of SMX.
const LOCK: u64 = 1 << 0;
const VMXON_ALLOWED: u64 = 1 << 2;
/// IA32_VMX_BASIC (A.1): the bits of the revision; addresses have 32 bits; the second set of capability MSRs exists.
const REVISION: u64 = 0x7fff_ffff;
const NARROW_ADDRESSES: u64 = 1 << 48;
const TRUE_CONTROLS: u64 = 1 << 55;
/// The same: the memory type of a VMCS, here write-back.
const WRITE_BACK: u64 = 6;
/// CR4.
const VMXE: u64 = 1 << 13;
/// Tags that a VPID of 16 bits can tell apart.
const VPIDS: u32 = 1 << 16;

/// What was read of the processor. An MSR that cannot be read is 0, unless it is said otherwise; those of VMX are only looked at
/// where there is VMX.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// CPUID 1 ecx.
    pub leaf_1_ecx: u32,
    /// IA32_FEATURE_CONTROL; `None`: it cannot be read.
    pub feature_control: Option<u64>,
    /// IA32_VMX_BASIC.
    pub basic: u64,
    /// What the controls can be.
    pub plain: Capabilities,
    /// The same by the MSRs whose names have TRUE in them, which are there where bit 55 of `basic` is.
    pub exact: Capabilities,
    /// IA32_VMX_PROCBASED_CTLS2, which is there where the primary controls can activate the secondary ones.
    pub secondary: u64,
    /// IA32_VMX_MISC.
    pub misc: u64,
    /// IA32_VMX_CR0_FIXED0 and IA32_VMX_CR0_FIXED1.
    pub cr0_fixed: [u64; 2],
    /// IA32_VMX_CR4_FIXED0 and IA32_VMX_CR4_FIXED1.
    pub cr4_fixed: [u64; 2],
    /// IA32_VMX_EPT_VPID_CAP, which is there where the secondary controls have EPT or VPID.
    pub ept_vpid: u64,
}

/// Bits of a control register that must be set while VMX is on, and those that may be (A.7, A.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Fixed {
    must: u64,
    may: u64,
}

impl Fixed {
    const fn new([must, may]: [u64; 2]) -> Self {
        Self { must, may }
    }

    const fn conform(self, value: u64) -> u64 {
        value & self.may | self.must
    }

    /// Whether what conforms to another's bits does to these.
    const fn covers(self, other: Self) -> bool {
        self.must & !other.must == 0 && other.may & !self.may == 0
    }
}

/// What the processor offers, and what is used of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VmxFacts {
    /// What a VMCS and the region for VMXON begin with.
    pub revision: u32,
    /// Bytes of either that the processor uses, at most 4096.
    pub region_size: u16,
    /// What a VMCS begins with. What is switched at run time is off, but for MOV_DR_EXITING.
    pub controls: Controls,
    /// Everything that could be set, without what the options of the boot exclude.
    pub offered: Controls,
    /// Nested paging and flushes.
    pub paging: Paging,
    /// The preemption timer counts once while the TSC counts 1 << this.
    pub timer_shift: u8,
    required: Controls,
    cr0: Fixed,
    cr4: Fixed,
    feature_control: Option<u64>,
}

/// Why VT-x is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// The processor does not have it.
    NotThere,
    /// The firmware has switched it off, until the next reset.
    LockedOff,
    /// The command line has.
    EptOff,
    /// A VMCS is not a page of ordinary memory.
    Regions,
    /// The processor cannot do this.
    Missing(&'static str),
    /// It cannot do without this.
    Stuck(&'static str),
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotThere => f.write_str("this processor does not offer VMX"),
            Self::LockedOff => {
                f.write_str("VMX is locked off by the firmware (IA32_FEATURE_CONTROL)")
            }
            Self::EptOff => f.write_str("nested paging is switched off on the command line (ept)"),
            Self::Regions => f.write_str(
                "this processor's VMX needs other regions than pages of write-back memory",
            ),
            Self::Missing(name) => write!(f, "this processor's VMX has no {name}"),
            Self::Stuck(name) => write!(f, "this processor's VMX cannot be without {name}"),
        }
    }
}

/// A bit of a word of controls.
#[derive(Clone, Copy)]
enum Bit {
    Pin(Pin),
    Primary(Primary),
    Secondary(Secondary),
}

/// Names for the boot's lines.
const NAMES: [(Bit, &str); 15] = [
    (
        Bit::Secondary(Secondary::APIC_ACCESSES),
        "APIC MMIO access virtualisation",
    ),
    (Bit::Primary(Primary::TPR_SHADOW), "APIC TPR shadow"),
    (Bit::Secondary(Secondary::EPT), "Extended Page Tables (EPT)"),
    (
        Bit::Secondary(Secondary::VPID),
        "Virtual-Processor Identifiers (VPID)",
    ),
    (Bit::Pin(Pin::VIRTUAL_NMIS), "Virtual NMI"),
    (
        Bit::Primary(Primary::MSR_BITMAPS),
        "MSR direct-access bitmap",
    ),
    (
        Bit::Secondary(Secondary::UNRESTRICTED_GUEST),
        "Unrestricted Guest",
    ),
    (
        Bit::Secondary(Secondary::APIC_REGISTERS),
        "APIC Register Virtualization",
    ),
    (
        Bit::Secondary(Secondary::INTERRUPT_DELIVERY),
        "Virtual Interrupt Delivery",
    ),
    (
        Bit::Pin(Pin::POSTED_INTERRUPTS),
        "Posted Interrupt Processing",
    ),
    (Bit::Secondary(Secondary::VMCS_SHADOWING), "VMCS shadowing"),
    (Bit::Secondary(Secondary::VM_FUNCTIONS), "VM Functions"),
    (
        Bit::Secondary(Secondary::EPT_VIOLATION_VE),
        "Virtualisation Exceptions",
    ),
    (
        Bit::Secondary(Secondary::PAGE_MODIFICATION_LOGGING),
        "Page Modification Logging",
    ),
    (Bit::Secondary(Secondary::TSC_SCALING), "TSC Scaling"),
];

/// The size of regions, where they are pages.
fn region_size(basic: u64) -> Result<u16, Absent> {
    let size = (basic >> 32) as u16 & 0x1fff;
    let ordinary = (1..=4096).contains(&size) && basic >> 50 & 0xf == WRITE_BACK;
    if !ordinary || basic & NARROW_ADDRESSES != 0 {
        return Err(Absent::Regions);
    }
    Ok(size)
}

/// What IA32_FEATURE_CONTROL becomes before VMXON; `None`: it is right.
const fn feature_control(now: Option<u64>) -> Result<Option<u64>, Absent> {
    match now {
        Some(value) if value & LOCK == 0 => Ok(Some(value | LOCK | VMXON_ALLOWED)),
        Some(value) if value & VMXON_ALLOWED == 0 => Err(Absent::LockedOff),
        // An emulator that lacks the MSR has not locked anything.
        _ => Ok(None),
    }
}

/// What is needed of nested paging. A flush of a CPU is one of all that it knows.
fn paging(capabilities: u64) -> Result<Paging, Absent> {
    let needed = Paging::EPT_WALK_4
        | Paging::EPT_WRITE_BACK
        | Paging::EPT_2MB
        | Paging::INVEPT
        | Paging::INVEPT_ALL;
    let there = Paging::from_bits_truncate(capabilities);
    match needed.difference(there).iter_names().next() {
        Some((name, _)) => Err(Absent::Missing(name)),
        None => Ok(there),
    }
}

/// Takes out of what is offered what is not to be used.
fn exclude(offered: &mut Controls, options: &VmxOptions, ept_vpid: u64) {
    // Tags without a way to forget all are of no use.
    let flush = Paging::INVVPID | Paging::INVVPID_ALL;
    if !options.vpid || !Paging::from_bits_truncate(ept_vpid).contains(flush) {
        offered.secondary.remove(Secondary::VPID);
    }
    if !options.apicv {
        offered.pin.remove(Pin::POSTED_INTERRUPTS);
        offered.secondary.remove(
            Secondary::APIC_REGISTERS | Secondary::INTERRUPT_DELIVERY | Secondary::X2APIC_MODE,
        );
    }
}

impl VmxFacts {
    /// What the readings say, and the options of the boot allow.
    ///
    /// # Errors
    /// Why guests cannot be run by VT-x.
    pub fn of(readings: &Readings, options: &VmxOptions) -> Result<Self, Absent> {
        if readings.leaf_1_ecx & VMX == 0 {
            return Err(Absent::NotThere);
        }
        let feature_control = feature_control(readings.feature_control)?;
        if !options.ept {
            return Err(Absent::EptOff);
        }
        let region_size = region_size(readings.basic)?;
        let exact = readings.basic & TRUE_CONTROLS != 0;
        let words = if exact {
            &readings.exact
        } else {
            &readings.plain
        };
        let (required, mut offered) = Controls::range(words, readings.secondary);
        exclude(&mut offered, options, readings.ept_vpid);
        let controls = Controls::choose(&required, &offered)?;
        let [must, may] = readings.cr0_fixed;
        let [must_4, may_4] = readings.cr4_fixed;
        Ok(Self {
            revision: (readings.basic & REVISION) as u32,
            region_size,
            controls,
            offered,
            paging: paging(readings.ept_vpid)?,
            timer_shift: (readings.misc & 0x1f) as u8,
            required,
            // A guest that is not restricted may be without protection and paging.
            cr0: Fixed::new([must & !(PE | PG) | NE, may]),
            cr4: Fixed::new([must_4 | VMXE, may_4]),
            feature_control,
        })
    }

    /// Whether a CPU with these facts can run what was set up for one with `first`'s.
    #[must_use]
    pub fn covers(&self, first: &Self) -> bool {
        self.revision == first.revision
            && self.region_size <= first.region_size
            && self.offered.contains(&first.offered)
            && first.required.contains(&self.required)
            && self.paging.contains(first.paging)
            && self.cr0.covers(first.cr0)
            && self.cr4.covers(first.cr4)
    }

    /// What IA32_FEATURE_CONTROL of this CPU has to become before VMXON, if anything.
    #[must_use]
    pub const fn feature_control_to_write(&self) -> Option<u64> {
        self.feature_control
    }

    /// Tags of translations, the hypervisor's included. Where there is only that, each entry and exit forgets all.
    #[must_use]
    pub const fn asids(&self) -> u32 {
        if self.controls.secondary.contains(Secondary::VPID) {
            VPIDS
        } else {
            1
        }
    }

    /// Instructions that are #UD for guests, whatever the processor says of itself: there is no control for them.
    pub fn missing_features(&self) -> impl Iterator<Item = Feature> {
        const NEEDED: [(Secondary, Feature); 4] = [
            (Secondary::RDTSCP, Feature::RDTSCP),
            (Secondary::RDTSCP, Feature::RDPID),
            (Secondary::INVPCID, Feature::INVPCID),
            (Secondary::XSAVES, Feature::XSAVES),
        ];
        let controls = self.controls.secondary;
        let missing = NEEDED
            .iter()
            .filter(move |(control, _)| !controls.contains(*control));
        missing.map(|(_, feature)| *feature)
    }

    /// Whether nested mappings can have 1 GiB.
    #[must_use]
    pub const fn has_gib_pages(&self) -> bool {
        self.paging.contains(Paging::EPT_1GB)
    }

    /// CR0 in force for a guest that believes to have this one. Caching is the caller's to keep on. What is the hypervisor's own before
    /// VMXON comes out as VMXON wants it.
    #[must_use]
    pub const fn cr0_in_force(&self, guest: u64) -> u64 {
        self.cr0.conform(guest)
    }

    /// The same of CR4. Machine checks are the caller's to keep on.
    #[must_use]
    pub const fn cr4_in_force(&self, guest: u64) -> u64 {
        self.cr4.conform(guest)
    }

    /// Bits that CR0 must have while VMX is on, in a guest that is not restricted, and those that it may have.
    #[must_use]
    pub const fn cr0_fixed(&self) -> (u64, u64) {
        (self.cr0.must, self.cr0.may)
    }

    /// The same of CR4.
    #[must_use]
    pub const fn cr4_fixed(&self) -> (u64, u64) {
        (self.cr4.must, self.cr4.may)
    }

    const fn offers(&self, bit: Bit) -> bool {
        match bit {
            Bit::Pin(bit) => self.offered.pin.contains(bit),
            Bit::Primary(bit) => self.offered.primary.contains(bit),
            Bit::Secondary(bit) => self.offered.secondary.contains(bit),
        }
    }

    /// What the boot says of it, a line at a time.
    pub fn lines(&self, mut line: impl FnMut(fmt::Arguments<'_>)) {
        line(format_args!("VMX: Supported advanced features:"));
        for (bit, name) in NAMES {
            if self.offers(bit) {
                line(format_args!(" - {name}"));
            }
        }
        line(format_args!("HVM: VMX enabled"));
        line(format_args!("HVM: Hardware Assisted Paging (HAP) detected"));
        let largest = if self.has_gib_pages() { ", 1GB" } else { "" };
        line(format_args!("HVM: HAP page sizes: 4kB, 2MB{largest}"));
        line(format_args!(
            "HVM: VMX revision {:#x}, {} address space identifiers",
            self.revision,
            self.asids()
        ));
    }
}
