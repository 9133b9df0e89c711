//! The vCPUs of domains in containers, as other domains and the toolstack reach them: made, at rest, and told what their
//! CPUs are.

use alloc::boxed::Box;
use alloc::sync::Arc;

use xen_abi::arch_x86::{CpuUserRegs, VGCF_i387_valid, VGCF_in_kernel, VcpuGuestContext};
use xen_abi::errno::Errno;
use zerocopy::FromZeros;

use super::context::{AnyCtx, Host};
use crate::cpuid::Policy;
use crate::cpuid::features::Feature;
use crate::domain::{Domain, DomainKind, Vcpu, VcpuState};
use crate::hvm::lapic::{Facts, Lapic};
use crate::hvm::msr::Msrs;
use crate::hvm::processor::{Processor, Register, SegmentName};
use crate::hvm::registers::Registers;
use crate::hvm::start;
use crate::hvm::state::HvmState;
use crate::pv::frame::GuestFrame;

/// What a domain has that was given no policy.
pub(super) fn of_kind<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain) -> &'static Policy {
    cx.hv
        .services
        .policies
        .of_domain(domain.kind, domain.rights)
}

/// What the local APICs of a domain with this policy can do.
pub(super) fn lapic_facts(policy: &Policy) -> Facts {
    Facts {
        x2apic: policy.has(Feature::X2APIC),
        tsc_deadline: policy.has(Feature::TSC_DEADLINE),
        physical_bits: policy.physical_address_bits() as u8,
    }
}

/// Makes the states of a domain's vCPUs, as after a reset, or what is missing of them. Of a PV domain they have none yet.
pub(super) fn make_states<H: Host>(cx: &AnyCtx<'_, H>, domain: &Arc<Domain>) -> Result<(), Errno> {
    if domain.kind != DomainKind::Hvm {
        return Ok(());
    }
    let containers = cx.hv.facts.hvm.as_ref().ok_or(Errno::EOPNOTSUPP)?;
    let facts = lapic_facts(&domain.policy.now(of_kind(cx, domain)));
    let map = domain.translated.as_ref().ok_or(Errno::EOPNOTSUPP)?;
    for vcpu in domain.vcpus() {
        if vcpu.state.lock().is_some() {
            continue;
        }
        let mut block = containers.make_block(domain.machine)?;
        block.set_nested_root(map.root());
        let pages = block.pages();
        let lapic = Lapic::new(vcpu.id, facts);
        let state = HvmState::at_reset(block, lapic, cx.host.fpu_lines())
            .inspect_err(|_| pages.for_each(|page| domain.machine.free_page(page)))?;
        vcpu.inbox.publish(state.lapic.address());
        *vcpu.state.lock() = Some(VcpuState::Hvm(state));
    }
    Ok(())
}

/// Tells the local APICs what the domain's policy says, before it first runs.
pub(super) fn settle_policy(domain: &Domain, policy: &Policy) {
    let facts = lapic_facts(policy);
    for vcpu in domain.vcpus() {
        if let Some(state) = vcpu.state.lock().as_mut().and_then(VcpuState::hvm_mut) {
            state.lapic.set_facts(facts);
        }
    }
}

/// Does something with the state of a vCPU that does not run.
pub(super) fn with_state<R>(
    vcpu: &Vcpu,
    what: impl FnOnce(&mut HvmState) -> R,
) -> Result<R, Errno> {
    let mut kept = vcpu.state.lock();
    let state = kept.as_mut().and_then(VcpuState::hvm_mut);
    state.map(what).ok_or(Errno::EBUSY)
}

/// Makes a vCPU's state that of a reset, after which it waits to be started. Its TSC goes on.
pub(super) fn reset(state: &mut HvmState) {
    let mut regs = GuestFrame::default();
    start::init(state, &mut regs);
    state.regs = regs;
    state.lapic.reset();
    state.msrs = Msrs::default();
    state.waits_for_start = true;
}

/// Sets the general registers of a vCPU in a container, rip, rsp and rflags, as a toolstack does that answers a call of
/// the guest's. Segments, control registers and the rest stay: those go by records.
///
/// # Errors
/// In words, what is wrong with them.
pub(super) fn set_registers(
    state: &mut HvmState,
    policy: &Policy,
    wanted: &CpuUserRegs,
) -> Result<(), &'static str> {
    let mut new = Registers::of(state);
    new.regs = GuestFrame::from_user_regs(wanted);
    new.check(policy)?;
    new.put(state);
    Ok(())
}

/// A vCPU's registers in the form of those of PV vCPUs, as far as that has places for them.
pub(super) fn describe(state: &HvmState) -> Result<Box<VcpuGuestContext>, Errno> {
    let mut found = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    let processor = &state.processor;
    let segment = |name| processor.segment(name);
    let selector = |name| segment(name).selector;
    found.user_regs = CpuUserRegs {
        cs: selector(SegmentName::Cs),
        ss: selector(SegmentName::Ss),
        es: selector(SegmentName::Es),
        ds: selector(SegmentName::Ds),
        fs: selector(SegmentName::Fs),
        gs: selector(SegmentName::Gs),
        ..state.regs.to_user_regs()
    };
    let (lines, _) = found.fpu_ctxt.as_chunks_mut();
    for (to, from) in lines.iter_mut().zip(&state.fpu) {
        *to = from.0;
    }
    found.flags = VGCF_i387_valid;
    if processor.cpl() == 0 {
        found.flags |= VGCF_in_kernel;
    }
    for (at, register) in [
        (0, Register::Cr0),
        (2, Register::Cr2),
        (3, Register::Cr3),
        (4, Register::Cr4),
    ] {
        found.ctrlreg[at] = processor.read(register);
    }
    found.debugreg[..4].copy_from_slice(&state.debug);
    found.debugreg[6] = processor.read(Register::Dr6);
    found.debugreg[7] = processor.read(Register::Dr7);
    found.fs_base = segment(SegmentName::Fs).base;
    let (active, other) = (
        segment(SegmentName::Gs).base,
        processor.read(Register::KernelGsBase),
    );
    (found.gs_base_kernel, found.gs_base_user) = if processor.cpl() == 0 {
        (active, other)
    } else {
        (other, active)
    };
    Ok(found)
}
