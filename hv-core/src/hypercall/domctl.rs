//! domctl: the toolstack's control of domains (xen/domctl.h).

mod create;
mod hvm_context;
mod life;
mod memory;
mod paging;
mod policy;
mod registers;
mod state;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::domctl::{self as abi, Domctl};
use xen_abi::errno::Errno;
use xen_abi::xen::DOMID_FIRST_RESERVED;

use super::arguments::{argument, edit, store};
use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use super::interface::{Interface, spoken};
use super::{destroy, domain_info};
use crate::base::{PAGE_SHIFT, VcpuId};
use crate::domain::{Domain, DomainKind, Family, Vcpu};
use crate::sched::{Affinity, CpuSet, Params, Unit};

/// domctl(request).
///
/// # Errors
/// `EPERM` for all but the control domain, `EACCES` for an interface version that is not spoken,
/// `ESRCH`, `EFAULT`, those of the operations; `EOPNOTSUPP` for what is not implemented, `ENOSYS`
/// for an unknown operation.
pub fn domctl<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    cx.require_control()?;
    let at = args[0];
    let mut op: Domctl = cx.read(at)?;
    let Interface::V4_17 = spoken(cx, Family::Domctl, op.interface_version, op.cmd)?;
    let after = run(cx, &mut op)?;
    if matches!(after, After::WriteBack | After::Refuse(_)) {
        cx.write(at, &op)?;
    }
    match after {
        After::WriteBack | After::Nothing => DONE,
        After::Refuse(errno) => Err(errno),
        After::Again => Ok(Outcome::Restart(args)),
    }
}

/// What is left to do with the request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// It carries an answer.
    WriteBack,
    /// It tells what was wrong.
    Refuse(Errno),
    /// Nothing.
    Nothing,
    /// The call is made again: there is something left to do, or another CPU works on the domain.
    Again,
}

fn run<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut Domctl) -> Result<After, Errno> {
    if op.cmd == abi::XEN_DOMCTL_getdomaininfo {
        return describe(cx, op);
    }
    if op.cmd == abi::XEN_DOMCTL_createdomain {
        return create::create(cx, op);
    }
    let domain = cx.hv.domain(op.domain).ok_or(Errno::ESRCH)?;
    let Some(_turn) = domain.turn.claim() else {
        return Ok(After::Again);
    };
    let of_others = [
        abi::XEN_DOMCTL_destroydomain,
        abi::XEN_DOMCTL_resumedomain,
        abi::XEN_DOMCTL_setvcpucontext,
        abi::XEN_DOMCTL_getvcpucontext,
        abi::XEN_DOMCTL_max_vcpus,
        abi::XEN_DOMCTL_set_cpu_policy,
        abi::XEN_DOMCTL_gethvmcontext,
        abi::XEN_DOMCTL_sethvmcontext,
        abi::XEN_DOMCTL_gethvmcontext_partial,
        abi::XEN_DOMCTL_getvcpuextstate,
        abi::XEN_DOMCTL_setvcpuextstate,
        abi::XEN_DOMCTL_get_ext_vcpucontext,
        abi::XEN_DOMCTL_set_ext_vcpucontext,
        abi::XEN_DOMCTL_get_vcpu_msrs,
        abi::XEN_DOMCTL_set_vcpu_msrs,
    ];
    if domain.id == cx.domain.id && of_others.contains(&op.cmd) {
        return Err(Errno::EINVAL);
    }
    let u = &mut op.u;
    match op.cmd {
        abi::XEN_DOMCTL_pausedomain => pause(cx, &domain),
        abi::XEN_DOMCTL_unpausedomain => unpause(cx, &domain),
        abi::XEN_DOMCTL_max_vcpus => create::max_vcpus(cx, &domain, argument(u)?),
        abi::XEN_DOMCTL_setvcpucontext => registers::set(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_getvcpucontext => registers::get(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_destroydomain => match destroy::destroy(cx, &domain) {
            Ok(()) => Ok(After::Nothing),
            Err(_) => Ok(After::Again),
        },
        abi::XEN_DOMCTL_resumedomain => {
            cx.hv.resume(&domain);
            Ok(After::Nothing)
        }
        abi::XEN_DOMCTL_gethvmcontext => answer(edit(u, |r| hvm_context::get(cx, &domain, r))),
        abi::XEN_DOMCTL_sethvmcontext => hvm_context::set(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_gethvmcontext_partial => {
            answer(edit(u, |r| hvm_context::get_one(cx, &domain, r)))
        }
        abi::XEN_DOMCTL_hypercall_init => life::hypercall_page(cx, &domain, argument(u)?),
        abi::XEN_DOMCTL_settimeoffset => life::time_offset(cx, &domain, argument(u)?),
        abi::XEN_DOMCTL_gettscinfo => answer(edit(u, |r| life::tsc_info(cx, &domain, r))),
        abi::XEN_DOMCTL_settscinfo => life::set_tsc_info(cx, &domain, argument(u)?),
        abi::XEN_DOMCTL_irq_permission => {
            let request: abi::DomctlIrqPermission = argument(u)?;
            life::permission(&domain, "irq_permission", request.allow_access)
        }
        abi::XEN_DOMCTL_iomem_permission => {
            let request: abi::DomctlIomemPermission = argument(u)?;
            life::permission(&domain, "iomem_permission", request.allow_access)
        }
        abi::XEN_DOMCTL_ioport_permission => {
            let request: abi::DomctlIoportPermission = argument(u)?;
            life::permission(&domain, "ioport_permission", request.allow_access)
        }
        abi::XEN_DOMCTL_getpageframeinfo3 => memory::frame_types(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_shadow_op => {
            let mut request = argument(u)?;
            let after = memory::shadow(cx, &domain, &mut request);
            store(u, &request)?;
            after
        }
        abi::XEN_DOMCTL_get_paging_mempool_size => answer(edit(u, |r| paging::pool(&domain, r))),
        abi::XEN_DOMCTL_set_paging_mempool_size => paging::set_pool(cx, &domain, argument(u)?),
        abi::XEN_DOMCTL_getvcpuinfo => answer(edit(u, |r| vcpu_info(&domain, r))),
        abi::XEN_DOMCTL_setvcpuaffinity => set_affinity(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_getvcpuaffinity => get_affinity(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_getnodeaffinity => nodes(cx, &argument(u)?),
        abi::XEN_DOMCTL_setnodeaffinity => set_nodes(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_scheduler_op => scheduler(&domain, u),
        abi::XEN_DOMCTL_max_mem => max_mem(&domain, argument(u)?),
        abi::XEN_DOMCTL_setdomainhandle => {
            let request: abi::DomctlSetDomainHandle = argument(u)?;
            *domain.handle.lock() = request.handle;
            Ok(After::Nothing)
        }
        abi::XEN_DOMCTL_sendtrigger => send_trigger(&domain, argument(u)?),
        abi::XEN_DOMCTL_get_address_size => answer(edit(u, |r| address_size(&domain, r))),
        abi::XEN_DOMCTL_set_address_size => set_address_size(&domain, argument(u)?),
        abi::XEN_DOMCTL_get_cpu_policy => answer(edit(u, |r| policy::get(cx, &domain, r))),
        abi::XEN_DOMCTL_set_cpu_policy => policy::set(cx, &domain, u),
        abi::XEN_DOMCTL_getvcpuextstate => answer(edit(u, |r| state::extended(cx, &domain, r))),
        abi::XEN_DOMCTL_setvcpuextstate => state::set_extended(cx, &domain, &argument(u)?),
        abi::XEN_DOMCTL_get_ext_vcpucontext => answer(edit(u, |r| state::further(&domain, r))),
        abi::XEN_DOMCTL_set_ext_vcpucontext => state::set_further(&domain, &argument(u)?),
        abi::XEN_DOMCTL_get_vcpu_msrs => state::registers(cx, &domain, u),
        abi::XEN_DOMCTL_set_vcpu_msrs => state::set_registers(cx, &domain, u),
        other => Err(refuse(cx, other)),
    }
}

/// The errno for what is not done, and its name on the log.
fn refuse<H: Host>(cx: &AnyCtx<'_, H>, cmd: u32) -> Errno {
    let Some(name) = missing(cmd) else {
        return Errno::ENOSYS;
    };
    cx.hv
        .note_missing_once(cx.domain.id, Family::Domctl, cmd, name);
    Errno::EOPNOTSUPP
}

fn answer(done: Result<(), Errno>) -> Result<After, Errno> {
    done.map(|()| After::WriteBack)
}

/// Names of the operations that exist in the ABI and not here.
fn missing(cmd: u32) -> Option<&'static str> {
    Some(match cmd {
        abi::XEN_DOMCTL_setdebugging => "domctl setdebugging",
        abi::XEN_DOMCTL_subscribe => "domctl subscribe",
        abi::XEN_DOMCTL_assign_device => "domctl assign_device",
        abi::XEN_DOMCTL_test_assign_device => "domctl test_assign_device",
        abi::XEN_DOMCTL_deassign_device => "domctl deassign_device",
        abi::XEN_DOMCTL_get_device_group => "domctl get_device_group",
        abi::XEN_DOMCTL_bind_pt_irq => "domctl bind_pt_irq",
        abi::XEN_DOMCTL_unbind_pt_irq => "domctl unbind_pt_irq",
        abi::XEN_DOMCTL_memory_mapping => "domctl memory_mapping",
        abi::XEN_DOMCTL_ioport_mapping => "domctl ioport_mapping",
        abi::XEN_DOMCTL_set_target => "domctl set_target",
        abi::XEN_DOMCTL_debug_op => "domctl debug_op",
        abi::XEN_DOMCTL_vm_event_op => "domctl vm_event_op",
        abi::XEN_DOMCTL_mem_sharing_op => "domctl mem_sharing_op",
        abi::XEN_DOMCTL_set_access_required => "domctl set_access_required",
        abi::XEN_DOMCTL_audit_p2m => "domctl audit_p2m",
        abi::XEN_DOMCTL_set_virq_handler => "domctl set_virq_handler",
        abi::XEN_DOMCTL_set_broken_page_p2m => "domctl set_broken_page_p2m",
        abi::XEN_DOMCTL_setvnumainfo => "domctl setvnumainfo",
        abi::XEN_DOMCTL_psr_cmt_op => "domctl psr_cmt_op",
        abi::XEN_DOMCTL_psr_alloc => "domctl psr_alloc",
        abi::XEN_DOMCTL_monitor_op => "domctl monitor_op",
        abi::XEN_DOMCTL_soft_reset => "domctl soft_reset",
        abi::XEN_DOMCTL_vmtrace_op => "domctl vmtrace_op",
        abi::XEN_DOMCTL_gdbsx_guestmemio
        | abi::XEN_DOMCTL_gdbsx_pausevcpu
        | abi::XEN_DOMCTL_gdbsx_unpausevcpu
        | abi::XEN_DOMCTL_gdbsx_domstatus => "domctl for the debugger (gdbsx)",
        _ => return None,
    })
}

/// Says on the log why something is refused.
fn refused(domain: &Domain, what: &str, why: &str, errno: Errno) -> Errno {
    log::info!("domctl {what} on d{}: {why}", domain.id);
    errno
}

/// The first domain whose number is at least the one asked for; tools compare.
fn describe<H: Host>(cx: &AnyCtx<'_, H>, op: &mut Domctl) -> Result<After, Errno> {
    if op.domain >= DOMID_FIRST_RESERVED {
        return Err(Errno::ESRCH);
    }
    let domain = cx.hv.domain_from(op.domain).ok_or(Errno::ESRCH)?;
    op.domain = domain.id;
    store(&mut op.u, &domain_info::describe(cx.hv, &domain))?;
    Ok(After::WriteBack)
}

fn pause<H: Host>(cx: &AnyCtx<'_, H>, domain: &Arc<Domain>) -> Result<After, Errno> {
    if domain.id == cx.domain.id {
        return Err(refused(
            domain,
            "pausedomain",
            "a domain cannot pause itself",
            Errno::EINVAL,
        ));
    }
    domain.pause_by_tool()?;
    domain.stop_running();
    domain.wait_until_stopped();
    Ok(After::Nothing)
}

fn unpause<H: Host>(cx: &AnyCtx<'_, H>, domain: &Domain) -> Result<After, Errno> {
    policy::fix(cx, domain);
    let last = domain
        .unpause_by_tool()
        .map_err(|e| refused(domain, "unpausedomain", "no tool has paused it", e))?;
    if last {
        domain.wake_all();
    }
    Ok(After::Nothing)
}

/// A vCPU with its scheduler's handle.
fn vcpu_of(domain: &Domain, id: VcpuId) -> Result<(&Vcpu, Unit), Errno> {
    let vcpu = domain.vcpu(id).ok_or(Errno::EINVAL)?;
    let unit = vcpu.unit.get().ok_or(Errno::ESRCH)?;
    Ok((vcpu, unit))
}

fn vcpu_info(domain: &Domain, request: &mut abi::DomctlGetVcpuInfo) -> Result<(), Errno> {
    let vcpu = domain.vcpu(request.vcpu).ok_or(Errno::EINVAL)?;
    *request = domain_info::describe_vcpu(domain, vcpu, domain.machine.now());
    Ok(())
}

/// Which sets are meant: the hard one, the soft one.
fn checked_flags(request: &abi::DomctlVcpuAffinity) -> Result<(bool, bool), Errno> {
    let (hard, soft) = (
        request.flags & abi::XEN_VCPUAFFINITY_HARD != 0,
        request.flags & abi::XEN_VCPUAFFINITY_SOFT != 0,
    );
    if request.flags != 0 {
        Ok((hard, soft))
    } else {
        Err(Errno::EINVAL)
    }
}

/// Sets where a vCPU may run; the sets in effect, of the CPUs that are online, are written back.
fn set_affinity<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &abi::DomctlVcpuAffinity,
) -> Result<After, Errno> {
    let (vcpu, unit) = vcpu_of(domain, request.vcpu)?;
    let (hard, soft) = checked_flags(request)?;
    let force = request.flags & abi::XEN_VCPUAFFINITY_FORCE != 0;
    let mut wanted: Affinity = domain.sched.affinity(unit).ok_or(Errno::ESRCH)?;
    {
        let mut overridden = vcpu.pinned_from.lock();
        if overridden.is_some() && !force {
            let why = "its kernel keeps it on one CPU for a while";
            return Err(refused(domain, "setvcpuaffinity", why, Errno::EBUSY));
        }
        wanted = overridden.take().unwrap_or(wanted);
    }
    if hard {
        wanted.hard = cx.read_cpus(&request.cpumap_hard)?;
    }
    if soft {
        wanted.soft = cx.read_cpus(&request.cpumap_soft)?;
    }
    let again = domain
        .sched
        .set_affinity(unit, &wanted, domain.machine.now())
        .map_err(|e| refused(domain, "setvcpuaffinity", "no such CPU is online", e))?;
    if let Some(cpu) = again {
        domain.machine.reschedule(cpu);
    }
    let effective = wanted.hard.intersection(&domain.pool_cpus());
    if hard {
        cx.write_cpus(&request.cpumap_hard, &effective)?;
    }
    if soft {
        cx.write_cpus(&request.cpumap_soft, &effective.intersection(&wanted.soft))?;
    }
    Ok(After::Nothing)
}

/// The affinity as it was set, CPUs that are not online included.
fn get_affinity<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &abi::DomctlVcpuAffinity,
) -> Result<After, Errno> {
    let (_, unit) = vcpu_of(domain, request.vcpu)?;
    let (hard, soft) = checked_flags(request)?;
    let affinity = domain.sched.affinity(unit).ok_or(Errno::ESRCH)?;
    if hard {
        cx.write_cpus(&request.cpumap_hard, &affinity.hard)?;
    }
    if soft {
        cx.write_cpus(&request.cpumap_soft, &affinity.soft)?;
    }
    Ok(After::Nothing)
}

/// The nodes whose memory a domain prefers: there is one, number 0.
fn nodes<H: Host>(cx: &AnyCtx<'_, H>, request: &abi::DomctlNodeAffinity) -> Result<After, Errno> {
    cx.write_cpus(&request.nodemap, &CpuSet::single(0))?;
    Ok(After::Nothing)
}

fn set_nodes<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &abi::DomctlNodeAffinity,
) -> Result<After, Errno> {
    if cx.read_cpus(&request.nodemap)?.contains(0) {
        return Ok(After::Nothing);
    }
    let why = "node 0 is the only one";
    Err(refused(domain, "setnodeaffinity", why, Errno::EINVAL))
}

/// Scheduling parameters; those of credit2 have a weight and a cap.
fn scheduler(domain: &Domain, union: &mut [u64]) -> Result<After, Errno> {
    let mut request: abi::DomctlSchedulerOp = argument(union)?;
    if request.sched_id != domain.sched.id() {
        return Err(Errno::EINVAL);
    }
    match request.cmd {
        abi::XEN_DOMCTL_SCHEDOP_getinfo => {
            let Params { weight, cap } = domain.sched.params(domain.id);
            store(&mut request.u, &abi::DomctlSchedCredit2 { weight, cap })?;
            store(union, &request)?;
            Ok(After::WriteBack)
        }
        abi::XEN_DOMCTL_SCHEDOP_putinfo => {
            let abi::DomctlSchedCredit2 { weight, cap } = argument(&request.u)?;
            let refuse = |why, errno| refused(domain, "scheduler_op", why, errno);
            // Its end has perhaps dropped what the scheduler keeps of it.
            if domain.is_dying() {
                return Err(refuse("it is dying", Errno::EINVAL));
            }
            let set = domain.sched.set_params(domain.id, Params { weight, cap });
            let kicks = set.map_err(|e| refuse("not enough memory", e))?;
            for cpu in kicks.iter() {
                domain.machine.reschedule(cpu);
            }
            Ok(After::Nothing)
        }
        // This scheduler has no parameters of single vCPUs.
        _ => Err(Errno::EINVAL),
    }
}

/// Limits a domain's memory. It may be below what the domain has: then it gets no more.
fn max_mem(domain: &Domain, request: abi::DomctlMaxMem) -> Result<After, Errno> {
    let pages = request.max_memkb >> (PAGE_SHIFT - 10);
    domain.max_pages.store(pages, Ordering::Relaxed);
    Ok(After::Nothing)
}

fn send_trigger(domain: &Domain, request: abi::DomctlSendTrigger) -> Result<After, Errno> {
    let vcpu = domain.vcpu(request.vcpu).ok_or(Errno::EINVAL)?;
    let refuse = |why, errno| Err(refused(domain, "sendtrigger", why, errno));
    match request.trigger {
        abi::XEN_DOMCTL_SENDTRIGGER_NMI => {
            domain.send_nmi(vcpu);
            Ok(After::Nothing)
        }
        abi::XEN_DOMCTL_SENDTRIGGER_POWER | abi::XEN_DOMCTL_SENDTRIGGER_SLEEP
            if domain.kind == DomainKind::Hvm =>
        {
            refuse("a PVH domain has no buttons", Errno::EOPNOTSUPP)
        }
        _ => refuse("only an NMI can be sent", Errno::ENOSYS),
    }
}

/// Bits of a domain's words.
const fn word_size(domain: &Domain) -> u32 {
    match domain.kind {
        DomainKind::Pv64 | DomainKind::Hvm => 64,
    }
}

fn address_size(domain: &Domain, request: &mut abi::DomctlAddressSize) -> Result<(), Errno> {
    request.size = word_size(domain);
    Ok(())
}

fn set_address_size(domain: &Domain, request: abi::DomctlAddressSize) -> Result<After, Errno> {
    if request.size != word_size(domain) {
        let why = "only 64-bit PV domains are supported";
        return Err(refused(domain, "set_address_size", why, Errno::EINVAL));
    }
    Ok(After::Nothing)
}
