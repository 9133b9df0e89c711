//! CPUID of a vCPU in a container.

use super::{Cell, Room, instructions};
use crate::cpuid::Policy;
use crate::cpuid::features::Feature;
use crate::hvm::cpuid::{View, answer};
use crate::hvm::lapic::Facts;
use crate::hypercall::Host;

impl<H: Host + Room> Cell<'_, H> {
    /// What the guest's CPUs are.
    pub(super) fn policy(&self) -> &Policy {
        let policies = self.hv.services.policies;
        self.domain
            .policy
            .fix(policies.of_domain(self.domain.kind, self.domain.rights))
    }
}

/// Prepares a vCPU that is loaded for what its CPUID says, as far as parts of its state depend on that.
pub fn follow_policy<H: Host + Room>(cx: &mut Cell<'_, H>) {
    let (bits, gigabytes, facts) = {
        let policy = cx.policy();
        let bits = policy.physical_address_bits().clamp(32, 52) as u8;
        let facts = Facts {
            x2apic: policy.has(Feature::X2APIC),
            tsc_deadline: policy.has(Feature::TSC_DEADLINE),
            physical_bits: bits,
        };
        (bits, policy.has(Feature::PAGE1GB), facts)
    };
    cx.state.physical = (bits, gigabytes);
    cx.state.lapic.set_facts(facts);
    cx.vcpu.inbox.publish(cx.state.lapic.address());
}

/// CPUID: the leaf is in eax, the subleaf in ecx.
pub(super) fn cpuid<H: Host + Room>(cx: &mut Cell<'_, H>) {
    let view = View {
        domain: cx.domain.id,
        vcpu: cx.vcpu.id,
        controls: instructions::current(cx),
        xcr0: cx.state.xcr0,
        apic_base: cx.state.lapic.base(),
        machine: cx.host.machine_facts(),
        tsc: cx.host.guest_tsc(cx.domain),
    };
    let (leaf, subleaf) = (cx.regs.rax as u32, cx.regs.rcx as u32);
    let values = answer(cx.policy(), &view, leaf, subleaf);
    let [eax, ebx, ecx, edx] = values.map(u64::from);
    (cx.regs.rax, cx.regs.rbx, cx.regs.rcx, cx.regs.rdx) = (eax, ebx, ecx, edx);
}
