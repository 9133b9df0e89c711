//! Whom a message is for: destinations of interrupts against the addresses of local APICs (Intel SDM vol. 3,
//! "Determining IPI Destination" and "IPI Destination Addressing in x2APIC Mode"; AMD APM vol. 2, 16.6.1).

use super::ipi::{Delivery, Destination, Ipi};

/// How software reaches a local APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not at all: IA32_APIC_BASE has EN clear.
    Disabled,
    /// Through a page of registers, with 8-bit IDs.
    XApic,
    /// Through MSRs, with 32-bit IDs.
    X2Apic,
}

/// Where a local APIC can be reached: what its vCPU publishes for senders on other CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The 32-bit ID; xAPIC mode knows its low eight bits.
    pub id: u32,
    /// The logical ID of xAPIC mode (LDR bits 31:24). That of x2APIC mode follows from `id`.
    pub logical: u8,
    /// The logical ID is of the flat model (DFR), not of the cluster model.
    pub flat: bool,
    /// How it is reached.
    pub mode: Mode,
    /// Software has enabled it: it accepts fixed interrupts. NMI, INIT and start-up need no more than `mode`.
    pub enabled: bool,
    /// Its processor priority when it was published, for arbitration: a hint.
    pub priority: u8,
}

const LOGICAL_SHIFT: u32 = 32;
const PRIORITY_SHIFT: u32 = 40;
const FLAT: u64 = 1 << 48;
const ENABLED: u64 = 1 << 49;
const XAPIC: u64 = 1 << 50;
const X2APIC: u64 = 1 << 51;

impl Address {
    /// Nothing reaches it.
    pub const UNREACHABLE: Self = Self {
        id: u32::MAX,
        logical: 0,
        flat: true,
        mode: Mode::Disabled,
        enabled: false,
        priority: 0,
    };

    /// All of it in one word, so that it changes at once for whoever reads it.
    #[must_use]
    pub const fn pack(self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::XApic => XAPIC,
            Mode::X2Apic => X2APIC,
        };
        let flat = if self.flat { FLAT } else { 0 };
        let enabled = if self.enabled { ENABLED } else { 0 };
        self.id as u64
            | (self.logical as u64) << LOGICAL_SHIFT
            | (self.priority as u64) << PRIORITY_SHIFT
            | flat
            | enabled
            | mode
    }

    /// The address that [`Self::pack`] made `word` of.
    #[must_use]
    pub const fn unpack(word: u64) -> Self {
        Self {
            id: word as u32,
            logical: (word >> LOGICAL_SHIFT) as u8,
            flat: word & FLAT != 0,
            mode: match word & (XAPIC | X2APIC) {
                0 => Mode::Disabled,
                XAPIC => Mode::XApic,
                _ => Mode::X2Apic,
            },
            enabled: word & ENABLED != 0,
            priority: (word >> PRIORITY_SHIFT) as u8,
        }
    }
}

/// The logical ID that x2APIC mode derives from `id`: cluster in the upper half, one bit of 16 in the lower.
#[must_use]
pub const fn x2apic_logical(id: u32) -> u32 {
    (id >> 4) << 16 | 1 << (id & 15)
}

/// Whether `ipi` is for the local APIC at `target`; `own` if that is the sender's.
///
/// One that software has disabled is no destination of fixed and lowest-priority interrupts, which it would drop.
#[must_use]
pub fn matches(target: &Address, ipi: &Ipi, own: bool) -> bool {
    if target.mode == Mode::Disabled {
        return false;
    }
    let by_vector = matches!(ipi.delivery, Delivery::Fixed | Delivery::LowestPriority);
    if by_vector && !target.enabled {
        return false;
    }
    match ipi.destination {
        Destination::All => true,
        Destination::AllButSelf => !own,
        // An ID above eight bits has no xAPIC form: xAPIC destinations never name it.
        Destination::Physical(id) => target.id == id,
        Destination::Logical(wanted) => logically(target, wanted),
    }
}

fn logically(target: &Address, wanted: u32) -> bool {
    if target.mode == Mode::X2Apic {
        let own = x2apic_logical(target.id);
        return own >> 16 == wanted >> 16 && own & wanted & 0xffff != 0;
    }
    let Ok(wanted) = u8::try_from(wanted) else {
        return false;
    };
    if target.flat {
        target.logical & wanted != 0
    } else {
        target.logical >> 4 == wanted >> 4 && target.logical & wanted & 0xf != 0
    }
}

/// Which of the `candidates` (index and priority) takes an interrupt of lowest-priority delivery.
///
/// The one with the lowest priority class; of equals the next after `last`, the index that took the one before, so
/// that they take turns. `None` if there are no candidates.
#[must_use]
pub fn arbitrate(candidates: impl IntoIterator<Item = (u32, u8)>, last: u32) -> Option<u32> {
    candidates
        .into_iter()
        .min_by_key(|(index, priority)| (priority >> 4, index.wrapping_sub(last).wrapping_sub(1)))
        .map(|(index, _)| index)
}
