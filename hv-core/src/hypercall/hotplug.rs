//! CPUs on line and off line: `XEN_SYSCTL_cpu_hotplug` (sysctl.h), `XENPF_cpu_online` and `XENPF_cpu_offline`
//! (platform.h).

use xen_abi::errno::Errno;
use xen_abi::platform;
use xen_abi::sysctl as abi;

use super::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::base::CpuId;
use crate::domain::{CpuChange, CpuWay, Progress};

/// `XEN_SYSCTL_cpu_hotplug`.
pub(super) fn operation<H: Host>(
    cx: &AnyCtx<'_, H>,
    args: Args,
    request: abi::SysctlCpuHotplug,
) -> Reply {
    match request.op {
        abi::XEN_SYSCTL_CPU_HOTPLUG_ONLINE => change(cx, args, request.cpu, CpuWay::In),
        abi::XEN_SYSCTL_CPU_HOTPLUG_OFFLINE => change(cx, args, request.cpu, CpuWay::Out),
        abi::XEN_SYSCTL_CPU_HOTPLUG_SMT_ENABLE => siblings(cx, args, CpuWay::In),
        abi::XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE => siblings(cx, args, CpuWay::Out),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `XENPF_cpu_online` and `XENPF_cpu_offline`: a CPU that is where it is wanted needs nothing.
pub(super) fn platform<H: Host>(cx: &AnyCtx<'_, H>, args: Args, cmd: u32, cpu: CpuId) -> Reply {
    let way = if cmd == platform::XENPF_cpu_online {
        CpuWay::In
    } else if cpu == 0 {
        return Err(Errno::EOPNOTSUPP);
    } else {
        CpuWay::Out
    };
    match change(cx, args, cpu, way) {
        Err(Errno::EEXIST) => DONE,
        other => other,
    }
}

fn change<H: Host>(cx: &AnyCtx<'_, H>, args: Args, cpu: CpuId, way: CpuWay) -> Reply {
    let by = (cx.domain.id, cx.vcpu.id);
    match cx.hv.change_cpu(CpuChange { cpu, way, by })? {
        Progress::Done => DONE,
        Progress::Pending => Ok(Outcome::Restart(args)),
    }
}

/// All threads of cores but the first, one CPU after the other.
fn siblings<H: Host>(cx: &AnyCtx<'_, H>, args: Args, way: CpuWay) -> Reply {
    let processor = &cx.hv.facts.processor;
    if processor.threads_per_core() < 2 {
        return Err(Errno::EOPNOTSUPP);
    }
    let online = cx.hv.backing.sched.online();
    let mut threads = (0..).zip(&processor.cpus).filter(|(_, c)| c.thread != 0);
    let begun = cx.hv.cpu_under_way().map(|c| c.cpu);
    let next = begun.or_else(|| {
        let (cpu, _) = threads.find(|(cpu, _)| online.contains(*cpu) != (way == CpuWay::In))?;
        Some(cpu)
    });
    let Some(cpu) = next else { return DONE };
    change(cx, args, cpu, way).map(|_more_may_follow| Outcome::Restart(args))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hypercall::testing::{CPUS, Fixture};
    use crate::hypercall::tests::{platform as pf, sysctl};
    use crate::sched::CpuSet;

    fn hotplug(f: &mut Fixture, op: u32, cpu: u32) -> Result<(), Errno> {
        let request = abi::SysctlCpuHotplug { cpu, op };
        sysctl::op(f, abi::XEN_SYSCTL_cpu_hotplug, request).map(|_| ())
    }

    fn online(f: &Fixture) -> CpuSet {
        f.hv.backing.sched.online()
    }

    #[test]
    fn a_cpu_goes_and_comes_back() {
        let mut f = Fixture::control();
        assert_eq!(hotplug(&mut f, 1, 1), Ok(()));
        assert!(f.restarts > 0, "the machine is asked until it is done");
        assert_eq!(online(&f), CpuSet::single(0));
        assert!(f.machine.kicked.lock().unwrap().contains(&1));
        assert_eq!(hotplug(&mut f, 1, 1), Err(Errno::EEXIST));
        assert_eq!(hotplug(&mut f, 0, 1), Ok(()));
        assert_eq!(online(&f), (0..CPUS).collect());
        assert_eq!(hotplug(&mut f, 0, 1), Err(Errno::EEXIST));
    }

    #[test]
    fn only_cpus_of_pool_0_go() {
        let mut f = Fixture::control();
        let pools = f.hv.backing.pools;
        let pool = pools.create(None).unwrap();
        let _kicks = pools.take_cpu(0, 1, 0).unwrap();
        assert_eq!(hotplug(&mut f, 1, 1), Err(Errno::ENODEV));
        assert!(pools.give_cpu(pool, 1, 0).unwrap().is_some());
        assert_eq!(hotplug(&mut f, 1, 1), Err(Errno::ENODEV));
        assert_eq!(online(&f), (0..CPUS).collect());
    }

    #[test]
    fn some_cpus_do_not_go() {
        let mut f = Fixture::control();
        assert_eq!(hotplug(&mut f, 1, 0), Err(Errno::EINVAL));
        assert_eq!(hotplug(&mut f, 1, 77), Err(Errno::EINVAL));
        assert_eq!(hotplug(&mut f, 0, u32::MAX), Err(Errno::EINVAL));
        assert_eq!(hotplug(&mut f, 2, 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(hotplug(&mut f, 9, 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(online(&f), (0..CPUS).collect());
    }

    #[test]
    fn the_kernel_asks_by_platform_op() {
        let mut f = Fixture::control();
        let mut ask = |cmd, cpuid| {
            let request = platform::PlatformCpuOl { cpuid };
            pf::op(&mut f, cmd, request).map(|_| ())
        };
        assert_eq!(ask(platform::XENPF_cpu_offline, 0), Err(Errno::EOPNOTSUPP));
        assert_eq!(ask(platform::XENPF_cpu_offline, 1), Ok(()));
        assert_eq!(ask(platform::XENPF_cpu_offline, 1), Ok(()));
        assert_eq!(ask(platform::XENPF_cpu_online, 1), Ok(()));
        assert_eq!(ask(platform::XENPF_cpu_online, 1), Ok(()));
        assert_eq!(ask(platform::XENPF_cpu_offline, 50), Err(Errno::EINVAL));
        assert_eq!(online(&f), (0..CPUS).collect());
    }

    #[test]
    fn one_change_at_a_time_and_an_abandoned_one_is_finished_by_others() {
        let mut f = Fixture::control();
        let first = CpuChange {
            cpu: 1,
            way: CpuWay::Out,
            by: (0, 1),
        };
        assert_eq!(f.hv.change_cpu(first), Ok(Progress::Pending));
        // The asker never comes back: whoever wants something else drives it to its end.
        let mut busy = 0;
        while hotplug(&mut f, 0, 1) == Err(Errno::EBUSY) {
            busy += 1;
            assert!(busy < 100);
        }
        assert!(busy > 0);
        assert_eq!(online(&f), (0..CPUS).collect());
    }

    #[test]
    fn a_cpu_that_does_not_answer_stays_out() {
        let mut f = Fixture::control();
        assert_eq!(hotplug(&mut f, 1, 1), Ok(()));
        f.machine.cpu_fails(true);
        assert_eq!(hotplug(&mut f, 0, 1), Err(Errno::EIO));
        assert_eq!(online(&f), CpuSet::single(0));
        f.machine.cpu_fails(false);
        assert_eq!(hotplug(&mut f, 0, 1), Ok(()));
    }

    #[test]
    fn a_vcpu_kept_on_a_cpu_keeps_it() {
        let mut f = Fixture::control();
        let vcpu = &f.caller.vcpus()[1];
        let unit = vcpu.unit.get().unwrap();
        let pin = crate::sched::Affinity::pinned(1);
        let before = crate::sched::Affinity::ANY;
        let _kick = f.hv.backing.sched.set_affinity(unit, &pin, 0).unwrap();
        *vcpu.pinned_from.lock() = Some(before);
        assert_eq!(hotplug(&mut f, 1, 1), Err(Errno::EADDRINUSE));
        *f.caller.vcpus()[1].pinned_from.lock() = None;
        // Without that the affinity is kept for when the CPU returns, and the vCPU runs elsewhere.
        assert_eq!(hotplug(&mut f, 1, 1), Ok(()));
        assert_eq!(f.hv.backing.sched.affinity(unit), Some(pin));
    }
}
