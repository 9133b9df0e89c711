//! The operations of sysctl about power: idle states as they are (running, and halted), and nothing
//! about frequencies.

use xen_abi::errno::Errno;
use xen_abi::sysctl as abi;

use super::arguments::{argument, edit, store};
use super::context::{AnyCtx, Host};
use crate::base::CpuId;
use crate::domain::Family;

/// Idle states: C0 (running) and C1 (halted).
const STATES: u32 = 2;
/// The deepest of them.
const DEEPEST: u32 = STATES - 1;

/// `XEN_SYSCTL_pm_op`.
pub(super) fn operation<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlPmOp,
) -> Result<(), Errno> {
    match request.cmd {
        // The word that names a CPU elsewhere tells here whether states or sub-states are meant.
        abi::XEN_SYSCTL_pm_op_get_max_cstate => match request.cpuid {
            0 => store(&mut request.u, &DEEPEST),
            1 => store(&mut request.u, &abi::XEN_SYSCTL_CX_UNLIMITED),
            _ => Err(Errno::EINVAL),
        },
        // Frequencies are the firmware's: no CPU has a driver for them.
        cmd if cmd & abi::PM_PARA_CATEGORY_MASK == abi::CPUFREQ_PARA => Err(Errno::EINVAL),
        abi::XEN_SYSCTL_pm_op_set_sched_opt_smt
        | abi::XEN_SYSCTL_pm_op_set_max_cstate
        | abi::XEN_SYSCTL_pm_op_enable_turbo
        | abi::XEN_SYSCTL_pm_op_disable_turbo => {
            let name = "sysctl pm_op";
            let number = abi::XEN_SYSCTL_pm_op;
            cx.hv
                .note_missing_once(cx.domain.id, Family::Sysctl, number, name);
            Err(Errno::EOPNOTSUPP)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// `XEN_SYSCTL_get_pmstat`.
pub(super) fn statistics<H: Host>(
    cx: &AnyCtx<'_, H>,
    request: &mut abi::SysctlGetPmstat,
) -> Result<(), Errno> {
    let cpu = request.cpuid;
    if !cx.hv.backing.sched.online().contains(cpu) {
        return Err(Errno::EINVAL);
    }
    match request.r#type {
        abi::PMSTAT_get_max_cx => edit(&mut request.u, |stat: &mut abi::PmCxStat| {
            stat.nr = STATES;
            Ok(())
        }),
        abi::PMSTAT_get_cxstat => {
            let mut stat = argument(&request.u)?;
            idle_states(cx, cpu, &mut stat)?;
            store(&mut request.u, &stat)
        }
        abi::PMSTAT_reset_cxstat => Err(Errno::EOPNOTSUPP),
        kind if kind & abi::PMSTAT_CATEGORY_MASK == abi::PMSTAT_PX => Err(Errno::ENODEV),
        _ => Err(Errno::ENOSYS),
    }
}

/// Counts and times of the two states.
fn idle_states<H: Host>(
    cx: &AnyCtx<'_, H>,
    cpu: CpuId,
    stat: &mut abi::PmCxStat,
) -> Result<(), Errno> {
    let machine = cx.hv.backing.machine;
    let idle = machine.idle(cpu);
    let ran = machine.now().saturating_sub(idle.time);
    // C0 is entered where C1 is left; what came before the first halt is not counted.
    for (at, values) in [
        (stat.triggers, [idle.entries, idle.entries]),
        (stat.residencies, [ran, idle.time]),
    ] {
        if !at.is_null() {
            cx.write(at.address(), &values)?;
        }
    }
    stat.nr = STATES;
    stat.last = if idle.entries == 0 { 0 } else { DEEPEST };
    stat.idle_time = idle.time;
    // No counters of the hardware are read.
    (stat.nr_pc, stat.nr_cc) = (0, 0);
    Ok(())
}
