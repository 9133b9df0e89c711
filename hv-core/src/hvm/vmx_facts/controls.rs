//! The five words of controls of a VMCS: their bits, what we want of them, and what the processor makes of that
//! (Intel SDM vol. 3, 25.6 to 25.8 and A.3 to A.5).

use bitflags::{Flags, bitflags};

use super::Absent;

bitflags! {
    /// Pin-based controls (25.6.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Pin: u32 {
        /// An interrupt of the machine is an exit.
        const EXTERNAL_INTERRUPT_EXITING = 1 << 0;
        /// An NMI of the machine is an exit.
        const NMI_EXITING = 1 << 3;
        /// The guest has its own blocking of NMIs.
        const VIRTUAL_NMIS = 1 << 5;
        /// The guest leaves when a timer reaches zero.
        const PREEMPTION_TIMER = 1 << 6;
        /// Interrupts for the guest that do not end its run.
        const POSTED_INTERRUPTS = 1 << 7;
    }
}

bitflags! {
    /// Primary processor-based controls (25.6.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Primary: u32 {
        /// The guest leaves when it can take an interrupt.
        const INTERRUPT_WINDOW_EXITING = 1 << 2;
        /// The guest's TSC is the machine's plus an offset.
        const TSC_OFFSETTING = 1 << 3;
        /// HLT.
        const HLT_EXITING = 1 << 7;
        /// INVLPG and INVPCID.
        const INVLPG_EXITING = 1 << 9;
        /// MWAIT.
        const MWAIT_EXITING = 1 << 10;
        /// RDPMC.
        const RDPMC_EXITING = 1 << 11;
        /// RDTSC and RDTSCP.
        const RDTSC_EXITING = 1 << 12;
        /// Writes of CR3.
        const CR3_LOAD_EXITING = 1 << 15;
        /// Reads of CR3.
        const CR3_STORE_EXITING = 1 << 16;
        /// Writes of CR8.
        const CR8_LOAD_EXITING = 1 << 19;
        /// Reads of CR8.
        const CR8_STORE_EXITING = 1 << 20;
        /// CR8 is kept in a page of the guest's local APIC.
        const TPR_SHADOW = 1 << 21;
        /// The guest leaves when it can take an NMI.
        const NMI_WINDOW_EXITING = 1 << 22;
        /// Accesses to debug registers.
        const MOV_DR_EXITING = 1 << 23;
        /// Accesses to all ports.
        const UNCONDITIONAL_IO_EXITING = 1 << 24;
        /// A map says which accesses to MSRs are exits.
        const MSR_BITMAPS = 1 << 28;
        /// MONITOR.
        const MONITOR_EXITING = 1 << 29;
        /// The secondary word counts.
        const ACTIVATE_SECONDARY = 1 << 31;
    }
}

bitflags! {
    /// Secondary processor-based controls (25.6.2).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Secondary: u32 {
        /// Accesses to the local APIC's page are told apart.
        const APIC_ACCESSES = 1 << 0;
        /// Nested paging.
        const EPT = 1 << 1;
        /// RDTSCP and RDPID; else they are #UD.
        const RDTSCP = 1 << 3;
        /// MSRs of an x2APIC.
        const X2APIC_MODE = 1 << 4;
        /// Tags of translations.
        const VPID = 1 << 5;
        /// WBINVD and WBNOINVD.
        const WBINVD_EXITING = 1 << 6;
        /// The guest may run without paging, and in real mode.
        const UNRESTRICTED_GUEST = 1 << 7;
        /// Registers of the local APIC are in a page.
        const APIC_REGISTERS = 1 << 8;
        /// Interrupts are delivered from that page.
        const INTERRUPT_DELIVERY = 1 << 9;
        /// PAUSE in a tight loop.
        const PAUSE_LOOP_EXITING = 1 << 10;
        /// INVPCID; else it is #UD.
        const INVPCID = 1 << 12;
        /// VMFUNC.
        const VM_FUNCTIONS = 1 << 13;
        /// VMREAD and VMWRITE in guests.
        const VMCS_SHADOWING = 1 << 14;
        /// Pages that were written are logged.
        const PAGE_MODIFICATION_LOGGING = 1 << 17;
        /// Nested faults can be exceptions.
        const EPT_VIOLATION_VE = 1 << 18;
        /// XSAVES and XRSTORS; else they are #UD.
        const XSAVES = 1 << 20;
        /// The guest's TSC may run at another rate.
        const TSC_SCALING = 1 << 25;
    }
}

bitflags! {
    /// Controls of exits (25.7.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AtExit: u32 {
        /// DR7 and DEBUGCTL are saved.
        const SAVE_DEBUG = 1 << 2;
        /// The hypervisor runs in 64-bit mode.
        const HOST_64_BIT = 1 << 9;
        /// The processor takes the interrupt that ended the run.
        const ACKNOWLEDGE_INTERRUPT = 1 << 15;
        /// The hypervisor's EFER is loaded.
        const LOAD_EFER = 1 << 21;
    }
}

bitflags! {
    /// Controls of entries (25.8.1).
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct AtEntry: u32 {
        /// DR7 and DEBUGCTL are loaded.
        const LOAD_DEBUG = 1 << 2;
        /// The guest is in long mode.
        const LONG_MODE_GUEST = 1 << 9;
        /// The guest's EFER is loaded.
        const LOAD_EFER = 1 << 15;
    }
}

/// A value for each word. Bits that are not named above are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs, reason = "named as the types")]
pub struct Controls {
    pub pin: Pin,
    pub primary: Primary,
    pub secondary: Secondary,
    pub exit: AtExit,
    pub entry: AtEntry,
}

/// The capability MSRs of the words but the secondary one: IA32_VMX_PINBASED_CTLS, PROCBASED_CTLS, EXIT_CTLS and ENTRY_CTLS, or
/// those whose names have TRUE in them. The lower half has the bits that must be set, the upper one those that may be.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "named as the words")]
pub struct Capabilities {
    pub pin: u64,
    pub primary: u64,
    pub exit: u64,
    pub entry: u64,
}

impl Controls {
    /// The bits that must be set and those that may be.
    pub(super) fn range(capabilities: &Capabilities, secondary: u64) -> (Self, Self) {
        let words = |half: fn(u64) -> u32| Self {
            pin: Pin::from_bits_retain(half(capabilities.pin)),
            primary: Primary::from_bits_retain(half(capabilities.primary)),
            secondary: Secondary::from_bits_retain(half(secondary)),
            exit: AtExit::from_bits_retain(half(capabilities.exit)),
            entry: AtEntry::from_bits_retain(half(capabilities.entry)),
        };
        (words(|word| word as u32), words(|word| (word >> 32) as u32))
    }

    /// Whether all bits of another value are set.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.pin.contains(other.pin)
            && self.primary.contains(other.primary)
            && self.secondary.contains(other.secondary)
            && self.exit.contains(other.exit)
            && self.entry.contains(other.entry)
    }

    /// What a VMCS begins with, where the processor demands `must` and allows `may`.
    pub(super) fn choose(must: &Self, may: &Self) -> Result<Self, Absent> {
        Ok(Self {
            pin: pin().choose(must.pin, may.pin)?,
            primary: primary(may.primary).choose(must.primary, may.primary)?,
            secondary: secondary().choose(must.secondary, may.secondary)?,
            exit: exit().choose(must.exit, may.exit)?,
            entry: entry().choose(must.entry, may.entry)?,
        })
    }
}

/// What we want of a word.
struct Wish<F> {
    /// On.
    set: F,
    /// On where it can be.
    optional: F,
    /// Turned on at times.
    settable: F,
    /// Off, always or at times.
    clearable: F,
}

impl<F: Flags<Bits = u32> + Copy> Wish<F> {
    fn choose(&self, must: F, may: F) -> Result<F, Absent> {
        let first = |flags: F| flags.iter_names().next().map(|(name, _)| name);
        if let Some(name) = first(self.set.union(self.settable).difference(may)) {
            return Err(Absent::Missing(name));
        }
        if let Some(name) = first(self.clearable.intersection(must)) {
            return Err(Absent::Stuck(name));
        }
        let optional = self.optional.intersection(may);
        Ok(must.union(self.set).union(optional))
    }
}

fn pin() -> Wish<Pin> {
    Wish {
        set: Pin::EXTERNAL_INTERRUPT_EXITING | Pin::NMI_EXITING | Pin::VIRTUAL_NMIS,
        optional: Pin::PREEMPTION_TIMER,
        settable: Pin::empty(),
        clearable: Pin::empty(),
    }
}

fn primary(may: Primary) -> Wish<Primary> {
    let window = Primary::INTERRUPT_WINDOW_EXITING | Primary::NMI_WINDOW_EXITING;
    let cr3 = Primary::CR3_LOAD_EXITING | Primary::CR3_STORE_EXITING;
    let cr8 = Primary::CR8_LOAD_EXITING | Primary::CR8_STORE_EXITING;
    let mut wish = Wish {
        set: Primary::TSC_OFFSETTING
            | Primary::HLT_EXITING
            | Primary::MWAIT_EXITING
            | Primary::RDPMC_EXITING
            | Primary::MOV_DR_EXITING
            | Primary::UNCONDITIONAL_IO_EXITING
            | Primary::MSR_BITMAPS
            | Primary::MONITOR_EXITING
            | Primary::ACTIVATE_SECONDARY,
        optional: Primary::TPR_SHADOW,
        settable: window | Primary::RDTSC_EXITING | Primary::CR8_LOAD_EXITING,
        clearable: window
            | cr3
            | Primary::INVLPG_EXITING
            | Primary::RDTSC_EXITING
            | Primary::MOV_DR_EXITING,
    };
    // CR8 is the guest's own where there is a place for it. Else it would be the machine's.
    if may.contains(Primary::TPR_SHADOW) {
        wish.clearable |= cr8;
    } else {
        wish.set |= cr8;
    }
    wish
}

fn secondary() -> Wish<Secondary> {
    Wish {
        set: Secondary::EPT | Secondary::UNRESTRICTED_GUEST | Secondary::WBINVD_EXITING,
        // Guests have RDTSCP, INVPCID and XSAVES where the processor does. XSS is 0 for all, so nothing of XSAVES is an exit.
        optional: Secondary::RDTSCP
            | Secondary::VPID
            | Secondary::PAUSE_LOOP_EXITING
            | Secondary::INVPCID
            | Secondary::XSAVES,
        settable: Secondary::empty(),
        clearable: Secondary::empty(),
    }
}

fn exit() -> Wish<AtExit> {
    Wish {
        // PAT is not switched: nested tables say what memory is, and the guest's is not in force.
        set: AtExit::SAVE_DEBUG | AtExit::HOST_64_BIT | AtExit::LOAD_EFER,
        optional: AtExit::empty(),
        settable: AtExit::empty(),
        // The interrupt is taken by the CPU's own handlers once interrupts are on.
        clearable: AtExit::ACKNOWLEDGE_INTERRUPT,
    }
}

fn entry() -> Wish<AtEntry> {
    Wish {
        set: AtEntry::LOAD_DEBUG | AtEntry::LOAD_EFER,
        optional: AtEntry::empty(),
        settable: AtEntry::LONG_MODE_GUEST,
        clearable: AtEntry::LONG_MODE_GUEST,
    }
}
