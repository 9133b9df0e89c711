//! The answer to a CPUID instruction in a container: the domain's policy, what changes while the vCPU runs, and the leaves
//! by which the guest finds us.

use crate::base::{DomId, VcpuId};
use crate::cpuid::features::Feature;
use crate::cpuid::xen::{GuestTsc, Kind, MachineFacts, XenFacts};
use crate::cpuid::{Leaf, Policy, Vendor};
use crate::hvm::controls::{Controls, apic_base, cr4, efer};

/// What a CPUID depends on besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Whose CPUID.
    pub domain: DomId,
    /// Which of its vCPUs asks.
    pub vcpu: VcpuId,
    /// Its control registers.
    pub controls: Controls,
    /// Its XCR0.
    pub xcr0: u64,
    /// Its IA32_APIC_BASE.
    pub apic_base: u64,
    /// Facts of the machine and of our version.
    pub machine: MachineFacts,
    /// The domain's TSC, when it is not simply the host's.
    pub tsc: Option<GuestTsc>,
}

/// The APIC id of a vCPU, as tables of firmware and toolstacks have it for Xen's guests.
#[must_use]
pub const fn apic_id(vcpu: VcpuId) -> u32 {
    vcpu.wrapping_mul(2)
}

/// Answers a guest's CPUID: eax, ebx, ecx, edx.
#[must_use]
pub fn answer(policy: &Policy, view: &View, leaf: u32, subleaf: u32) -> Leaf {
    let facts = XenFacts {
        kind: Kind::Hvm {
            domain: view.domain,
            vcpu: view.vcpu,
        },
        machine: view.machine,
        tsc: view.tsc,
    };
    if let Some(values) = facts.answer(policy, leaf, subleaf) {
        return values;
    }
    let mut values = policy.leaf(leaf, subleaf);
    let [_, b, c, d] = &mut values;
    match (leaf, subleaf) {
        (1, _) => {
            *b = *b & 0x00ff_ffff | apic_id(view.vcpu) << 24;
            mirror(c, Feature::OSXSAVE, view.controls.cr4 & cr4::OSXSAVE != 0);
            hide_apic(d, view);
        }
        (7, 0) => mirror(c, Feature::OSPKE, view.controls.cr4 & cr4::PKE != 0),
        (0xb, _) if policy.leaf(0, 0)[0] >= leaf && policy.has(Feature::X2APIC) => {
            // No level is told of, only the id.
            *c = subleaf & 0xff;
            *d = apic_id(view.vcpu);
        }
        (0xd, 0 | 1) => *b = policy.state_size(subleaf, view.xcr0),
        (0x8000_0001, _) if policy.vendor().is_amd_like() => hide_apic(d, view),
        // Intel's CPUs tell of SYSCALL in long mode alone (Intel SDM vol. 2, CPUID).
        (0x8000_0001, _) if policy.vendor() == Vendor::Intel => {
            let known = *d & Feature::SYSCALL.mask != 0;
            let long = view.controls.efer & efer::LMA != 0;
            mirror(d, Feature::SYSCALL, known && long);
        }
        _ => {}
    }
    values
}

/// Makes a bit of a word what a register says.
const fn mirror(word: &mut u32, feature: Feature, on: bool) {
    *word = if on {
        *word | feature.mask
    } else {
        *word & !feature.mask
    };
}

/// A local APIC that is off is not there (Intel SDM vol. 3, 11.4.3). Leaf 0x8000_0001 repeats the bit on AMD.
const fn hide_apic(word: &mut u32, view: &View) {
    if view.apic_base & apic_base::ENABLE == 0 {
        *word &= !Feature::APIC.mask;
    }
}

#[cfg(test)]
mod tests;
