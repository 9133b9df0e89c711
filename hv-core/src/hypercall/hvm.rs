//! hvm_op: parameters of domains in containers, and what their kernels ask for (hvm/hvm_op.h).

use alloc::sync::Arc;

use xen_abi::errno::Errno;
use xen_abi::hvm_op as abi;

use super::context::{AnyCtx, Args, DONE, Host, Reply};
use crate::base::{DomId, Gfn};
use crate::domain::{Domain, Family, HvmDomain, Setter};
use crate::mm::p2m::P2mKind;

/// Lowest vector of an interrupt that a local APIC takes.
const FIRST_VECTOR: u8 = 16;

/// hvm_op(cmd, argument).
///
/// # Errors
/// `ESRCH`, `EPERM`, `EFAULT`; `EINVAL` on a domain that is not in containers; those of the operations; `EOPNOTSUPP` for
/// what is not implemented, `ENOSYS` for an unknown operation.
pub fn hvm_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let at = args[1];
    match args[0] as u32 {
        abi::HVMOP_set_param => set_param(cx, at),
        abi::HVMOP_get_param => get_param(cx, at),
        abi::HVMOP_flush_tlbs => flush_tlbs(cx, at),
        abi::HVMOP_pagetable_dying => pagetable_dying(cx, at),
        abi::HVMOP_get_time => {
            let now = cx.domain.machine.now();
            cx.write(at, &abi::HvmGetTime { now })?;
            DONE
        }
        abi::HVMOP_get_mem_type => mem_type(cx, at),
        abi::HVMOP_set_evtchn_upcall_vector => set_upcall_vector(cx, at),
        // Nobody listens to it, as on a domain without a monitor.
        abi::HVMOP_guest_request_vm_event if at == 0 => {
            refuse(cx, args[0], "hvm_op guest_request_vm_event")
        }
        abi::HVMOP_guest_request_vm_event => Err(Errno::EINVAL),
        abi::HVMOP_altp2m => refuse(cx, args[0], "hvm_op altp2m"),
        abi::HVMOP_xentrace => refuse(cx, args[0], "hvm_op xentrace"),
        _ => Err(Errno::ENOSYS),
    }
}

/// What exists in the ABI and not here.
fn refuse<H: Host>(cx: &AnyCtx<'_, H>, number: u64, name: &str) -> Reply {
    let (id, number) = (cx.domain.id, number as u32);
    cx.hv.note_missing_once(id, Family::Hvm, number, name);
    Err(Errno::EOPNOTSUPP)
}

/// A domain in containers that the caller may act upon: itself, or any for the toolstack.
fn target<H: Host>(cx: &AnyCtx<'_, H>, id: DomId) -> Result<(Arc<Domain>, Setter), Errno> {
    let target = cx.named(id)?;
    if target.hvm.is_none() {
        return Err(Errno::EINVAL);
    }
    if target.id == cx.domain.id {
        return Ok((target, Setter::Guest));
    }
    cx.require_control()?;
    Ok((target, Setter::Tool))
}

fn of(domain: &Domain) -> Result<&HvmDomain, Errno> {
    domain.hvm.as_ref().ok_or(Errno::EINVAL)
}

fn set_param<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::HvmParam = cx.read(at)?;
    let (domain, by) = target(cx, request.domid)?;
    let abi::HvmParam { index, value, .. } = request;
    of(&domain)?.set(index, value, by).inspect_err(|e| {
        log::info!(
            "d{}: hvm_op set_param {index} = {value:#x} on d{}: {e}",
            cx.domain.id,
            domain.id
        );
    })?;
    if index == abi::HVM_PARAM_CALLBACK_IRQ {
        // What is pending already is taken in the new way.
        domain.vcpus().iter().for_each(|v| domain.tell_if_due(v));
    }
    DONE
}

fn get_param<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::HvmParam = cx.read(at)?;
    let (domain, by) = target(cx, request.domid)?;
    request.value = of(&domain)?.get(request.index, by)?;
    cx.write(at, &request)?;
    DONE
}

/// Forgets the translations of the caller's address spaces, on all CPUs.
fn flush_tlbs<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    if at != 0 {
        return Err(Errno::EINVAL);
    }
    if cx.domain.translated.is_none() {
        return Err(Errno::ENOSYS);
    }
    cx.domain.flush_translations();
    DONE
}

/// A hint for shadow page tables, which there are none of.
fn pagetable_dying<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::HvmPagetableDying = cx.read(at)?;
    target(cx, request.domid)?;
    Err(Errno::EINVAL)
}

/// What is behind a guest frame.
fn mem_type<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: abi::HvmGetMemType = cx.read(at)?;
    let (domain, _) = target(cx, request.domid)?;
    let map = domain.translated.as_ref().ok_or(Errno::EINVAL)?;
    request.mem_type = match map.lookup(Gfn(request.pfn)).map(|(_, kind)| kind) {
        None | Some(P2mKind::Hole | P2mKind::Mmio) => abi::HVMMEM_mmio_dm,
        Some(P2mKind::RamReadOnly | P2mKind::GrantRead | P2mKind::ForeignRead) => {
            abi::HVMMEM_ram_ro
        }
        Some(_) => abi::HVMMEM_ram_rw,
    };
    cx.write(at, &request)?;
    DONE
}

/// Names the vector by which a vCPU of the caller's learns of events.
fn set_upcall_vector<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::HvmEvtchnUpcallVector = cx.read(at)?;
    of(cx.domain)?;
    if request.vector < FIRST_VECTOR {
        return Err(Errno::EINVAL);
    }
    let vcpu = cx.domain.vcpu(request.vcpu).ok_or(Errno::ENOENT)?;
    vcpu.set_upcall_vector(request.vector);
    cx.domain.tell_if_due(vcpu);
    DONE
}
