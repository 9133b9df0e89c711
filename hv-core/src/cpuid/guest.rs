//! A PV guest's CPUID: its policy, what changes while it runs, and the leaves by which it finds us.

use super::features::Feature;
use super::policy::{Leaf, Policy};
pub use super::xen::{GuestTsc, MachineFacts};
use super::xen::{Kind, XenFacts};
use crate::domain::Rights;
use crate::pv::state::Mode;

/// What a CPUID depends on besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Whose CPUID.
    pub rights: Rights,
    /// Which of its modes asks.
    pub mode: Mode,
    /// XCR0 of the vCPU.
    pub xcr0: u64,
    /// Facts of the machine and of our version.
    pub machine: MachineFacts,
    /// The domain's TSC, when it is not simply the host's.
    pub tsc: Option<GuestTsc>,
}

/// Answers a guest's CPUID.
#[must_use]
pub fn answer(policy: &Policy, view: &View, leaf: u32, subleaf: u32) -> Leaf {
    let facts = XenFacts {
        kind: Kind::Pv,
        machine: view.machine,
        tsc: view.tsc,
    };
    if let Some(values) = facts.answer(policy, leaf, subleaf) {
        return values;
    }
    let mut values = policy.leaf(leaf, subleaf);
    // The kernel of the domain that manages the machine may look at the memory types.
    let mtrr = if view.rights == Rights::Control && view.mode == Mode::Kernel {
        Feature::MTRR.mask
    } else {
        0
    };
    match (leaf, subleaf) {
        (1, _) => {
            // PV guests get their APIC ids from the platform_op hypercall, not from here.
            values[1] &= 0x00ff_ffff;
            values[3] |= mtrr;
            if policy.has(Feature::XSAVE) {
                values[2] |= Feature::OSXSAVE.mask;
            }
        }
        (0x8000_0001, _) if policy.vendor().is_amd_like() => values[3] |= mtrr,
        (0xd, 0 | 1) => values[1] = policy.state_size(subleaf, view.xcr0),
        _ => {}
    }
    values
}
