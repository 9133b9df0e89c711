//! sched_op: a vCPU gives its CPU away, or its domain goes down (xen/sched.h).

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::sched as abi;

use super::context::{AnyCtx, AnyState, Args, DONE, Host, Outcome, Reply};
use crate::base::CpuId;
use crate::domain::{Owed, RunFlags, ShutdownReason};
use crate::events::{self, EventHost, PollStart};
use crate::pv::frame::rflags;
use crate::sched::Affinity;

/// Most ports in one SCHEDOP_poll.
const MAX_POLL_PORTS: u32 = 128;

/// sched_op(cmd, argument).
///
/// # Errors
/// `ENOSYS` for unknown commands, and those of each.
pub fn sched_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    match args[0] as u32 {
        abi::SCHEDOP_yield => {
            if let Some(unit) = cx.vcpu.unit.get() {
                cx.domain.sched.yield_unit(unit);
            }
            cx.host.reschedule_here();
            DONE
        }
        abi::SCHEDOP_block => {
            block(cx);
            DONE
        }
        abi::SCHEDOP_poll => poll(cx, args[1]),
        abi::SCHEDOP_shutdown => {
            let request: abi::SchedShutdown = cx.read(args[1])?;
            shutdown(cx, request.reason)
        }
        abi::SCHEDOP_shutdown_code => {
            let request: abi::SchedShutdown = cx.read(args[1])?;
            // For the toolstack to see if the domain goes down by itself later.
            cx.domain
                .shutdown_code
                .store(request.reason, Ordering::Relaxed);
            DONE
        }
        abi::SCHEDOP_remote_shutdown => {
            let request: abi::SchedRemoteShutdown = cx.read(args[1])?;
            cx.require_control()?;
            let target = cx.named(request.domain_id)?;
            if target.id == cx.domain.id {
                return Err(Errno::EINVAL);
            }
            cx.hv.shut_down(&target, ShutdownReason(request.reason));
            DONE
        }
        abi::SCHEDOP_watchdog => {
            let request: abi::SchedWatchdog = cx.read(args[1])?;
            let number = cx.domain.set_watchdog(request.id, request.timeout)?;
            Ok(Outcome::Return(number.into()))
        }
        abi::SCHEDOP_pin_override => {
            cx.require_control()?;
            let request: abi::SchedPinOverride = cx.read(args[1])?;
            pin_override(cx, request.pcpu)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Keeps the calling vCPU on one CPU whatever its affinity says, for firmware that must be called there; a negative
/// number ends that.
fn pin_override<H: Host>(cx: &AnyCtx<'_, H>, pcpu: i32) -> Reply {
    let (sched, now) = (cx.domain.sched, cx.domain.machine.now());
    let unit = cx.vcpu.unit.get().ok_or(Errno::EINVAL)?;
    let mut kept = cx.vcpu.pinned_from.lock();
    let wanted = match (CpuId::try_from(pcpu), *kept) {
        (Ok(cpu), _) if !cx.domain.pool_cpus().contains(cpu) => return Err(Errno::EINVAL),
        (Ok(_), Some(_)) => return Err(Errno::EBUSY),
        (Ok(cpu), None) => {
            *kept = Some(sched.affinity(unit).ok_or(Errno::EINVAL)?);
            Affinity::pinned(cpu)
        }
        (Err(_), None) => return Err(Errno::EINVAL),
        (Err(_), Some(before)) => {
            *kept = None;
            before
        }
    };
    // The CPUs of the affinity before may have gone offline meanwhile: then it runs anywhere.
    let again = sched
        .set_affinity(unit, &wanted, now)
        .or_else(|_| sched.set_affinity(unit, &Affinity::ANY, now))?;
    drop(kept);
    if let Some(cpu) = again {
        cx.domain.machine.reschedule(cpu);
    }
    cx.host.reschedule_here();
    DONE
}

/// Whether the calling vCPU has something to take that ends a wait: an upcall and, in a container, what its local APIC
/// has or is to get. To be asked after the flag of the wait is set: who has something for it after that sees the flag.
fn is_something_due<H: Host>(cx: &AnyCtx<'_, H>) -> bool {
    if events::upcall_due(&**cx.domain, cx.vcpu.id) {
        return true;
    }
    let AnyState::Hvm(state) = &cx.state else {
        return false;
    };
    let interrupt = cx.regs.rflags & rflags::IF != 0 && state.lapic.pending().is_some();
    let told = !cx.vcpu.inbox.is_empty() || cx.vcpu.owes(Owed::NMI | Owed::LAPIC);
    interrupt || told || state.nmi_pending
}

/// Unmasks events and waits for one, unless one is pending (SCHEDOP_block).
fn block<H: Host>(cx: &mut AnyCtx<'_, H>) {
    if let Some(info) = cx.domain.vcpu_info(cx.vcpu.id) {
        info[0].fetch_and(!(0xff << 8), Ordering::SeqCst);
    }
    cx.vcpu.set_flags(RunFlags::BLOCKED);
    // Flag first, look second: whoever raises an event after the look sees the flag.
    if is_something_due(cx) {
        cx.vcpu.clear_flags(RunFlags::BLOCKED);
    } else {
        cx.host.reschedule_here();
    }
}

fn poll<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Reply {
    let request: abi::SchedPoll = cx.read(at)?;
    if request.nr_ports > MAX_POLL_PORTS {
        return Err(Errno::EINVAL);
    }
    let ports = cx.read_array::<u32>(request.ports.address(), request.nr_ports as usize)?;
    cx.vcpu.set_flags(RunFlags::POLLING);
    let start = events::start_poll(&**cx.domain, cx.vcpu.id, &ports);
    if start != Ok(PollStart::Wait) {
        cx.vcpu.clear_flags(RunFlags::POLLING);
        return start.map(|_| Outcome::Return(0));
    }
    // An upcall that is due ends the wait as well.
    if is_something_due(cx) {
        cx.vcpu.clear_flags(RunFlags::POLLING);
        events::end_poll(&**cx.domain, cx.vcpu.id);
        return DONE;
    }
    if request.timeout != 0 {
        cx.domain.change_timers(cx.vcpu, |timers, now| {
            Ok(timers.set_poll(request.timeout, now))
        })?;
    }
    cx.host.reschedule_here();
    DONE
}

fn shutdown<H: Host>(cx: &mut AnyCtx<'_, H>, reason: u32) -> Reply {
    let code = ShutdownReason(reason);
    if reason == abi::SHUTDOWN_crash {
        log::error!(
            "d{}v{}: the domain reports its own crash",
            cx.domain.id,
            cx.vcpu.id
        );
    }
    cx.hv.shut_down(cx.domain, code);
    cx.host.reschedule_here();
    DONE
}
