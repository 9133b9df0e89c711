//! Pools of CPUs: `XEN_SYSCTL_cpupool_op` (sysctl.h).

use xen_abi::domctl as schedulers;
use xen_abi::errno::Errno;
use xen_abi::sysctl as abi;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::base::{CpuId, DomId};
use crate::domain::Progress;
use crate::sched::Scheduler;

/// `XEN_SYSCTL_cpupool_op`; what it tells is left in the request.
///
/// # Errors
/// As sysctl.h names them.
pub(super) fn operation<H: Host>(
    cx: &AnyCtx<'_, H>,
    args: Args,
    request: &mut abi::SysctlCpuPoolOp,
) -> Reply {
    let pools = cx.hv.backing.pools;
    let id = request.cpupool_id;
    let progress = match request.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE => {
            check_scheduler(cx, request.sched_id)?;
            let asked = (id != abi::XEN_SYSCTL_CPUPOOL_PAR_ANY).then_some(id);
            request.cpupool_id = pools.create(asked)?;
            Progress::Done
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY => {
            pools.destroy(id)?;
            Progress::Done
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            info(cx, request)?;
            Progress::Done
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => {
            cx.write_cpus(&request.cpumap, &pools.free_cpus())?;
            Progress::Done
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU => {
            let first = || pools.free_cpus().iter().next();
            cx.hv.give_cpu(id, chosen(cx, request.cpu, first)?)?
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => {
            let last = || pools.policy(id)?.online().iter().last();
            cx.hv.take_cpu(id, chosen(cx, request.cpu, last)?)?;
            Progress::Done
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => move_domain(cx, request)?,
        _ => return Err(Errno::ENOSYS),
    };
    match progress {
        Progress::Done => DONE,
        Progress::Pending => Ok(Outcome::Restart(args)),
    }
}

/// There is one policy.
fn check_scheduler<H: Host>(cx: &AnyCtx<'_, H>, id: u32) -> Result<(), Errno> {
    let name = match id {
        schedulers::XEN_SCHEDULER_CREDIT2 => return Ok(()),
        schedulers::XEN_SCHEDULER_CREDIT => "credit",
        schedulers::XEN_SCHEDULER_ARINC653 => "arinc653",
        schedulers::XEN_SCHEDULER_RTDS => "rtds",
        schedulers::XEN_SCHEDULER_NULL => "null",
        _ => "?",
    };
    log::info!(
        "d{}: no pool with scheduler {id} ({name}): only credit2 is there",
        cx.domain.id
    );
    Err(Errno::ENOENT)
}

/// The CPU that was asked for, or for "any" the one that `any` finds.
fn chosen<H: Host>(
    cx: &AnyCtx<'_, H>,
    asked: u32,
    any: impl FnOnce() -> Option<CpuId>,
) -> Result<CpuId, Errno> {
    let known = cx.hv.facts.processor.cpus.len() as u32;
    let cpu = match asked {
        abi::XEN_SYSCTL_CPUPOOL_PAR_ANY => any(),
        _ => Some(asked),
    };
    cpu.filter(|cpu| *cpu < known).ok_or(Errno::EINVAL)
}

/// The first pool from the asked number on; "any" is beyond the last.
fn info<H: Host>(cx: &AnyCtx<'_, H>, request: &mut abi::SysctlCpuPoolOp) -> Result<(), Errno> {
    let pools = cx.hv.backing.pools;
    let found = pools.pool_from(request.cpupool_id);
    let (id, policy) = found.ok_or(Errno::ENOENT)?;
    let here = cx.hv.domains().filter(|d| pools.pool_of(d.id) == id);
    request.cpupool_id = id;
    request.sched_id = policy.id();
    request.n_dom = here.count() as u32;
    cx.write_cpus(&request.cpumap, &policy.online())
}

fn move_domain<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &abi::SysctlCpuPoolOp,
) -> Result<Progress, Errno> {
    let id = DomId::try_from(request.domid).map_err(|_| Errno::ESRCH)?;
    if id == cx.domain.id || id == xen_abi::xen::DOMID_SELF {
        return Err(Errno::EPERM);
    }
    let domain = cx.hv.domain(id).ok_or(Errno::ESRCH)?;
    let Some(_turn) = domain.turn.claim() else {
        return Ok(Progress::Pending);
    };
    if domain.is_dying() {
        return Err(Errno::EINVAL);
    }
    let go_on = || !cx.host.preempt_pending();
    cx.hv.move_domain(&domain, request.cpupool_id, go_on)
}
