//! domctl gethvmcontext, sethvmcontext and gethvmcontext_partial: the state of a domain in containers beside its memory, as
//! records (`hvm/records.rs`).

use alloc::sync::Arc;
use alloc::vec::Vec;

use xen_abi::domctl::{DomctlHvmContext, DomctlHvmContextPartial};
use xen_abi::errno::Errno;

use super::{After, refused};
use crate::base::VcpuId;
use crate::cpuid::xstate::Components;
use crate::cpuid::{Policy, Which};
use crate::domain::{Domain, DomainKind, RunFlags, Vcpu, VcpuState};
use crate::hvm::processor::{Processor, Register};
use crate::hvm::records::{self, FRAME, KINDS, Loaded, Record, Saved, Stream, Terms, Writer};
use crate::hypercall::contained::{self, with_state};
use crate::hypercall::context::{AnyCtx, Host};

/// How much longer a stream may be than those from here: other releases tell more.
const SPARE: usize = 2;

/// What records of this domain are made and read by.
fn terms<'a, H: Host>(cx: &AnyCtx<'_, H>, policy: &'a Policy) -> Terms<'a> {
    Terms {
        policy,
        components: Components::new(cx.hv.services.policies.get(Which::Host), policy),
        now: cx.hv.backing.machine.now(),
        tsc: cx.host.tsc_clock(),
    }
}

fn require_contained(domain: &Domain) -> Result<(), Errno> {
    if domain.kind == DomainKind::Hvm {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// The whole state; to no buffer, how much room is enough.
pub(super) fn get<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut DomctlHvmContext,
) -> Result<(), Errno> {
    require_contained(domain)?;
    let policy = domain.policy.now(contained::of_kind(cx, domain));
    let terms = terms(cx, &policy);
    let room = FRAME + domain.vcpus().len() * records::max_len(&terms);
    if request.buffer.is_null() {
        request.size = room as u32;
        return Ok(());
    }
    if (request.size as usize) < room {
        return Err(Errno::ENOSPC);
    }
    let mut out = Writer::with_room(room)?;
    let khz = domain
        .tsc
        .lock()
        .own
        .map_or(cx.hv.facts.tsc_khz, |own| own.khz);
    out.begin(policy.leaf(1, 0)[0], khz)?;
    {
        let _rest = domain.at_rest();
        domain.vcpus().iter().for_each(|v| domain.fetch_state(v));
        for kind in KINDS {
            for vcpu in domain.vcpus() {
                let _said = save(&mut out, kind, vcpu, &terms)?;
            }
        }
    }
    let stream = out.end()?;
    cx.host.copy_out(request.buffer.address(), &stream)?;
    request.size = stream.len() as u32;
    Ok(())
}

/// Adds one record of a vCPU at rest.
fn save(out: &mut Writer, kind: u16, vcpu: &Vcpu, terms: &Terms<'_>) -> Result<Saved, Errno> {
    let up = vcpu.is_up() && vcpu.flags() & RunFlags::UNINITIALISED == 0;
    with_state(vcpu, |state| {
        records::save(out, kind, vcpu.id as u16, state, up, terms)
    })?
}

/// One record of one vCPU, without its descriptor; to no buffer, its size.
pub(super) fn get_one<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut DomctlHvmContextPartial,
) -> Result<(), Errno> {
    require_contained(domain)?;
    let kind = u16::try_from(request.r#type).map_err(|_| Errno::EINVAL)?;
    if !KINDS.contains(&kind) {
        return Err(Errno::EINVAL);
    }
    let vcpu = domain.vcpu(request.instance).ok_or(Errno::ENOENT)?;
    let policy = domain.policy.now(contained::of_kind(cx, domain));
    let mut out = Writer::default();
    {
        let _rest = domain.at_rest();
        domain.fetch_state(vcpu);
        if save(&mut out, kind, vcpu, &terms(cx, &policy))? == Saved::Nothing {
            return Err(Errno::ENOENT);
        }
    }
    let body = out.bodies().ok_or(Errno::ENOENT)?;
    if !request.buffer.is_null() {
        if request.bufsz < body.len() as u64 {
            return Err(Errno::ENOBUFS);
        }
        cx.host.copy_out(request.buffer.address(), body)?;
    }
    request.bufsz = body.len() as u64;
    Ok(())
}

/// Replaces what the records tell, in their order; what they do not tell stays. A vCPU that gets registers runs.
pub(super) fn set<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Arc<Domain>,
    request: &DomctlHvmContext,
) -> Result<After, Errno> {
    require_contained(domain)?;
    let refuse = |(errno, why)| refused(domain, "sethvmcontext", why, errno);
    if domain.is_dying() {
        return Err(refuse((Errno::EINVAL, "it is dying")));
    }
    let policy = domain.policy.now(contained::of_kind(cx, domain));
    let terms = terms(cx, &policy);
    let most = FRAME + domain.vcpus().len() * records::max_len(&terms) * SPARE;
    if request.size as usize > most {
        return Err(refuse((Errno::EINVAL, "longer than any state here")));
    }
    let bytes: Vec<u8> = cx.read_array(request.buffer.address(), request.size as usize)?;
    let stream = Stream::new(&bytes).map_err(refuse)?;
    let _rest = domain.at_rest();
    domain.vcpus().iter().for_each(|v| domain.fetch_state(v));
    contained::settle_policy(domain, &policy);
    for record in stream.records() {
        load(domain, &record, &terms).inspect_err(|_| {
            log::info!(
                "d{}: record of kind {} for {}, {} bytes",
                domain.id,
                record.kind,
                record.instance,
                record.body.len()
            );
        })?;
    }
    Ok(After::Nothing)
}

/// Acts on one record.
fn load(domain: &Domain, record: &Record<'_>, terms: &Terms<'_>) -> Result<(), Errno> {
    let refuse = |(errno, why)| refused(domain, "sethvmcontext", why, errno);
    let vcpu = domain.vcpu(VcpuId::from(record.instance));
    let vcpu = vcpu.ok_or_else(|| refuse((Errno::EINVAL, "no such vCPU")))?;
    let loaded = with_state(vcpu, |state| {
        let loaded = records::load(state, record, terms)?;
        let timer = state.lapic.next_deadline();
        let offset = state.processor.read(Register::TscOffset);
        vcpu.inbox.publish(state.lapic.address());
        Ok((loaded, timer, offset))
    })?;
    let (loaded, timer, offset) = loaded.map_err(refuse)?;
    match loaded {
        Loaded::Nothing => {}
        Loaded::Lapic => {
            domain.change_timers(vcpu, |timers, now| Ok(timers.set_lapic(timer, now)))?;
        }
        Loaded::Registers => {
            if vcpu.id == 0 {
                share_tsc(domain, offset);
            }
            vcpu.clear_flags(RunFlags::UNINITIALISED);
            if vcpu.clear_flags(RunFlags::DOWN) & RunFlags::DOWN != 0 {
                domain.start(vcpu);
            }
        }
    }
    Ok(())
}

/// vCPUs that will be started by others have their TSC.
fn share_tsc(domain: &Domain, offset: u64) {
    let others = domain.vcpus().iter();
    for vcpu in others.filter(|v| v.flags() & RunFlags::UNINITIALISED != 0) {
        if let Some(state) = vcpu.state.lock().as_mut().and_then(VcpuState::hvm_mut) {
            state.processor.write(Register::TscOffset, offset);
        }
    }
}
