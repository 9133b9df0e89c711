//! domctl setvcpucontext and getvcpucontext: a vCPU's registers, set before it first runs, read when it rests and taken
//! away.

use alloc::sync::Arc;

use xen_abi::arch_x86::{VGCF_online, VcpuGuestContext};
use xen_abi::domctl::DomctlVcpuContext;
use xen_abi::errno::Errno;
use zerocopy::{FromZeros, IntoBytes};

use super::{After, refused};
use crate::domain::{Domain, DomainKind, RunFlags, Vcpu, VcpuState};
use crate::hypercall::contained;
use crate::hypercall::context::{AnyCtx, Host};
use crate::hypercall::destroy::release_state;
use crate::hypercall::misc;
use crate::pv::context::{self, BuildError};

/// Gives a vCPU its registers.
pub(super) fn set<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    domain: &Arc<Domain>,
    request: &DomctlVcpuContext,
) -> Result<After, Errno> {
    let refuse = |why, errno| refused(domain, "setvcpucontext", why, errno);
    let vcpu = domain.vcpu(request.vcpu);
    let vcpu = vcpu.ok_or_else(|| refuse("no such vCPU", Errno::EINVAL))?;
    if request.ctxt.is_null() {
        return reset(cx, domain, vcpu);
    }
    let mut wanted = VcpuGuestContext::new_box_zeroed().map_err(|_| Errno::ENOMEM)?;
    cx.host
        .copy_in(wanted.as_mut_bytes(), request.ctxt.address())?;
    if domain.is_dying() {
        return Err(refuse("it is dying", Errno::EINVAL));
    }
    let _rest = domain.at_rest();
    if domain.kind == DomainKind::Hvm {
        if vcpu.flags() & RunFlags::UNINITIALISED != 0 {
            let why = "the first registers of a domain in containers are set by sethvmcontext";
            return Err(refuse(why, Errno::EOPNOTSUPP));
        }
        domain.fetch_state(vcpu);
        let policy = domain.policy.now(contained::of_kind(cx, domain));
        let set = |state: &mut _| contained::set_registers(state, &policy, &wanted.user_regs);
        contained::with_state(vcpu, set)?.map_err(|why| refuse(why, Errno::EINVAL))?;
    } else if vcpu.flags() & RunFlags::UNINITIALISED != 0 {
        match context::build(cx.host, domain, &wanted, cx.state.owed_puts()) {
            Ok(state) => *vcpu.state.lock() = Some(VcpuState::Pv(state)),
            Err(BuildError::Restart) => return Ok(After::Again),
            Err(BuildError::Refused(e)) => {
                let why = "no page tables, descriptor pages or registers that a PV vCPU can have";
                return Err(refuse(why, e));
            }
        }
        vcpu.clear_flags(RunFlags::UNINITIALISED);
        if vcpu.id == 0 {
            misc::set_assists(domain, wanted.vm_assist);
            // The toolstack has cleared the page since it was made.
            cx.hv.publish_wallclock(domain);
        }
    } else {
        domain.fetch_state(vcpu);
        let mut kept = vcpu.state.lock();
        let state = kept.as_mut().and_then(VcpuState::pv_mut);
        let state = state.ok_or(Errno::EBUSY)?;
        context::rebuild(state, &wanted)
            .map_err(|e| refuse("registers that it cannot have, or other tables", e))?;
    }
    bring(domain, vcpu, wanted.flags & VGCF_online != 0);
    Ok(After::Nothing)
}

/// Makes a vCPU as it was before it had registers (domctl.h: no context resets it). Its tables are let go of, what the
/// guest has registered for it stays.
fn reset<H: Host>(cx: &AnyCtx<'_, H>, domain: &Arc<Domain>, vcpu: &Vcpu) -> Result<After, Errno> {
    if domain.is_dying() {
        return Err(refused(
            domain,
            "setvcpucontext",
            "it is dying",
            Errno::EINVAL,
        ));
    }
    let rest = domain.at_rest();
    // Where this is interrupted the vCPU has a part of its tables.
    vcpu.set_flags(RunFlags::RESETTING);
    domain.fetch_state(vcpu);
    if domain.kind == DomainKind::Hvm {
        contained::with_state(vcpu, |state| {
            contained::reset(state);
            vcpu.inbox.publish(state.lapic.address());
        })?;
        domain.change_timers(vcpu, |timers, now| Ok(timers.set_lapic(None, now)))?;
    } else if release_state(cx.host, domain, vcpu).is_err() {
        return Ok(After::Again);
    }
    domain.make_new(vcpu);
    drop(rest);
    Ok(After::Nothing)
}

/// Takes a vCPU up or down, as the context says.
fn bring(domain: &Domain, vcpu: &Vcpu, up: bool) {
    if !up {
        vcpu.set_flags(RunFlags::DOWN);
    } else if vcpu.clear_flags(RunFlags::DOWN) & RunFlags::DOWN != 0 {
        domain.start(vcpu);
    }
}

/// Tells a vCPU's registers.
pub(super) fn get<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Arc<Domain>,
    request: &DomctlVcpuContext,
) -> Result<After, Errno> {
    let vcpu = domain.vcpu(request.vcpu).ok_or(Errno::EINVAL)?;
    if request.ctxt.is_null() {
        return Err(Errno::EINVAL);
    }
    if vcpu.flags() & RunFlags::UNINITIALISED != 0 {
        return Err(Errno::ENODATA);
    }
    let mut found = {
        let _rest = domain.at_rest();
        domain.fetch_state(vcpu);
        let kept = vcpu.state.lock();
        match kept.as_ref().ok_or(Errno::ENODATA)? {
            VcpuState::Pv(state) => context::describe(state)?,
            VcpuState::Hvm(state) => contained::describe(state)?,
        }
    };
    found.vm_assist = domain.assists.load(core::sync::atomic::Ordering::Relaxed);
    if vcpu.is_up() {
        found.flags |= VGCF_online;
    }
    cx.host.copy_out(request.ctxt.address(), found.as_bytes())?;
    Ok(After::WriteBack)
}
