//! CPU pools by the toolstack's calls.

use xen_abi::GuestHandle;
use xen_abi::domctl::{DomctlGetDomainInfo, XEN_SCHEDULER_CREDIT2, XEN_SCHEDULER_RTDS};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_sysctl as CALL;
use xen_abi::sysctl::{self as abi, SysctlCpuPoolOp};
use xen_abi::xen::XenctlBitmap;

use super::domains;
use super::sysctl::{ARRAY, op, request};
use crate::domain::{Domain, VcpuState};
use crate::hypercall::Outcome;
use crate::hypercall::testing::{Fixture, GUEST};
use crate::sched::{Affinity, CpuSet};

const ANY: u32 = abi::XEN_SYSCTL_CPUPOOL_PAR_ANY;

fn map(nr_bits: u32) -> XenctlBitmap {
    XenctlBitmap {
        bitmap: GuestHandle::new(ARRAY),
        nr_bits,
        ..Default::default()
    }
}

fn ask(op: u32, cpupool_id: u32) -> SysctlCpuPoolOp {
    SysctlCpuPoolOp {
        op,
        cpupool_id,
        sched_id: XEN_SCHEDULER_CREDIT2,
        cpumap: map(12),
        ..Default::default()
    }
}

fn call(f: &mut Fixture, request: SysctlCpuPoolOp) -> Result<SysctlCpuPoolOp, Errno> {
    op(f, abi::XEN_SYSCTL_cpupool_op, request)
}

fn create(f: &mut Fixture, id: u32) -> Result<u32, Errno> {
    call(f, ask(abi::XEN_SYSCTL_CPUPOOL_OP_CREATE, id)).map(|told| told.cpupool_id)
}

fn destroy(f: &mut Fixture, id: u32) -> Result<(), Errno> {
    call(f, ask(abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY, id)).map(|_| ())
}

fn add_cpu(f: &mut Fixture, id: u32, cpu: u32) -> Result<(), Errno> {
    let request = SysctlCpuPoolOp {
        cpu,
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU, id)
    };
    call(f, request).map(|_| ())
}

fn remove_cpu(f: &mut Fixture, id: u32, cpu: u32) -> Result<(), Errno> {
    let request = SysctlCpuPoolOp {
        cpu,
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU, id)
    };
    call(f, request).map(|_| ())
}

fn move_domain(f: &mut Fixture, id: u32, domid: u32) -> Result<(), Errno> {
    let request = SysctlCpuPoolOp {
        domid,
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN, id)
    };
    call(f, request).map(|_| ())
}

/// Number, domains and the first eight CPUs of the first pool from `id` on.
fn info(f: &mut Fixture, id: u32) -> Result<(u32, u32, u8), Errno> {
    let told = call(f, ask(abi::XEN_SYSCTL_CPUPOOL_OP_INFO, id))?;
    assert_eq!(told.sched_id, XEN_SCHEDULER_CREDIT2);
    Ok((told.cpupool_id, told.n_dom, f.get(ARRAY)))
}

fn free_cpus(f: &mut Fixture) -> u8 {
    call(f, ask(abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO, 0)).unwrap();
    f.get(ARRAY)
}

/// CPU 1 is in pool 1.
fn two_pools() -> Fixture {
    let mut f = Fixture::control();
    assert_eq!(create(&mut f, ANY), Ok(1));
    remove_cpu(&mut f, 0, 1).unwrap();
    add_cpu(&mut f, 1, 1).unwrap();
    f
}

fn pool_in_list(f: &mut Fixture, id: u16) -> u32 {
    let request = abi::SysctlGetDomainInfoList {
        first_domain: id,
        max_domains: 1,
        buffer: GuestHandle::new(ARRAY),
        ..Default::default()
    };
    op(f, abi::XEN_SYSCTL_getdomaininfolist, request).unwrap();
    f.get::<DomctlGetDomainInfo>(ARRAY).cpupool
}

#[test]
fn one_pool_with_everything() {
    let mut f = Fixture::control();
    f.add(1);
    f.put(ARRAY, &[0xff_u8; 4]);
    assert_eq!(info(&mut f, 0), Ok((0, 2, 3)));
    let filled = f.get::<[u8; 4]>(ARRAY);
    assert_eq!(filled, [3, 0, 0xff, 0xff], "as many bits as there is room");
    assert_eq!(info(&mut f, 1), Err(Errno::ENOENT));
    assert_eq!(free_cpus(&mut f), 0);
    // A map of 64 KiB bits is filled to its end, a larger one is nonsense.
    let wide = |nr_bits| SysctlCpuPoolOp {
        cpumap: map(nr_bits),
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_INFO, 0)
    };
    f.put(ARRAY + 8191, &0xff_u8);
    call(&mut f, wide(1 << 16)).unwrap();
    assert_eq!(f.get::<u8>(ARRAY + 8191), 0);
    assert_eq!(call(&mut f, wide(u32::MAX)), Err(Errno::EINVAL));
    assert_eq!(call(&mut f, ask(99, 0)), Err(Errno::ENOSYS));
}

#[test]
fn cpus_go_from_pool_to_pool() {
    let mut f = two_pools();
    assert_eq!(info(&mut f, 0), Ok((0, 1, 1)));
    assert_eq!(info(&mut f, 1), Ok((1, 0, 2)));
    assert_eq!(info(&mut f, 2), Err(Errno::ENOENT));
    assert!(f.machine.kicked.lock().unwrap().contains(&1));
    // Whoever asks for the machine as a whole sees no difference.
    assert_eq!(f.hv.backing.sched.online(), (0..2).collect());

    assert_eq!(add_cpu(&mut f, 0, 1), Err(Errno::ENODEV), "it is taken");
    let not_its_own = Err(Errno::EADDRNOTAVAIL);
    assert_eq!(remove_cpu(&mut f, 0, 1), not_its_own);
    assert_eq!(remove_cpu(&mut f, 1, 0), not_its_own);
    assert_eq!(
        remove_cpu(&mut f, 0, 0),
        Err(Errno::EINVAL),
        "it stays there"
    );
    assert_eq!(remove_cpu(&mut f, 9, 0), Err(Errno::ENOENT));
    assert_eq!(remove_cpu(&mut f, 0, 77), Err(Errno::EINVAL));
    assert_eq!(add_cpu(&mut f, 0, 77), Err(Errno::EINVAL));
    assert_eq!(add_cpu(&mut f, 0, ANY), Err(Errno::EINVAL), "none is free");
    assert_eq!(destroy(&mut f, 1), Err(Errno::EBUSY));
    assert_eq!(destroy(&mut f, 0), Err(Errno::EBUSY));
    assert_eq!(destroy(&mut f, 7), Err(Errno::ENOENT));

    remove_cpu(&mut f, 1, ANY).unwrap();
    assert_eq!(free_cpus(&mut f), 2);
    assert_eq!(add_cpu(&mut f, 7, 1), Err(Errno::ENOENT));
    destroy(&mut f, 1).unwrap();
    add_cpu(&mut f, 0, ANY).unwrap();
    assert_eq!(info(&mut f, 0), Ok((0, 1, 3)));
    assert_eq!(free_cpus(&mut f), 0);
}

#[test]
fn a_cpu_that_still_runs_somebody_is_not_given_away_yet() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let unit = guest.vcpus()[0].unit.get().unwrap();
    let sched = f.hv.backing.sched;
    let _ = sched.set_affinity(unit, &Affinity::pinned(1), 0).unwrap();
    guest.wake_all();
    assert_eq!(sched.schedule(1, 0).next, Some(unit));
    create(&mut f, 5).unwrap();
    remove_cpu(&mut f, 0, 1).unwrap();
    assert_eq!(free_cpus(&mut f), 2);
    let give = SysctlCpuPoolOp {
        cpu: 1,
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU, 5)
    };
    f.put(GUEST, &request(abi::XEN_SYSCTL_cpupool_op, &give));
    let args = [GUEST, 0, 0, 0, 0, 0];
    let again = f.call_once(CALL, args).unwrap();
    assert!(matches!(again, Outcome::Restart(now) if now == args));
    let decision = sched.schedule(1, 0);
    assert_eq!((decision.next, decision.save), (None, Some(unit)));
    let elsewhere = sched.context_saved(1, unit, 0);
    assert_eq!(elsewhere, Some(0));
    let there = sched.affinity(unit).unwrap();
    assert_eq!(there, Affinity::ANY, "it has lost its CPU for good");
    let done = f.call_once(CALL, args).unwrap();
    assert!(matches!(done, Outcome::Return(0)));
    assert_eq!(info(&mut f, 5), Ok((5, 0, 2)));
}

#[test]
fn pools_of_schedulers_that_are_not_there() {
    let mut f = Fixture::control();
    let rtds = SysctlCpuPoolOp {
        sched_id: XEN_SCHEDULER_RTDS,
        ..ask(abi::XEN_SYSCTL_CPUPOOL_OP_CREATE, ANY)
    };
    assert_eq!(call(&mut f, rtds), Err(Errno::ENOENT));
    assert_eq!(info(&mut f, 1), Err(Errno::ENOENT));
    assert_eq!(create(&mut f, 0), Err(Errno::EEXIST));
    assert_eq!(create(&mut f, 3), Ok(3));
    assert_eq!(create(&mut f, ANY), Ok(1));
    let mut made = 2;
    while create(&mut f, ANY).is_ok() {
        made += 1;
    }
    assert_eq!(create(&mut f, ANY), Err(Errno::ENOMEM));
    assert_eq!(made, 12, "beside pool 0 eight more than there can be CPUs");
}

fn runs_on(f: &Fixture, domain: &Domain) -> Vec<u32> {
    let unit = domain.vcpus()[0].unit.get();
    let runs = |cpu: &u32| f.hv.backing.sched.schedule(*cpu, 0).next == unit;
    (0..2).filter(runs).collect()
}

#[test]
fn a_domain_moves_and_runs_there() {
    let mut f = two_pools();
    let guest = f.add(1);
    let vcpu = &guest.vcpus()[0];
    let unit = vcpu.unit.get().unwrap();
    let sched = f.hv.backing.sched;
    let _ = sched.set_affinity(unit, &Affinity::pinned(0), 0).unwrap();
    assert_eq!(pool_in_list(&mut f, 1), 0);
    move_domain(&mut f, 1, 1).unwrap();
    assert_eq!(pool_in_list(&mut f, 1), 1);
    assert_eq!(info(&mut f, 0), Ok((0, 1, 1)));
    assert_eq!(info(&mut f, 1), Ok((1, 1, 2)));
    assert_eq!(sched.affinity(unit), Some(Affinity::ANY));
    assert!(guest.runnable(vcpu), "nobody keeps it paused");
    assert_eq!(runs_on(&f, &guest), [1]);
    assert_eq!(remove_cpu(&mut f, 1, 1), Err(Errno::EBUSY));
    assert_eq!(guest.pool_cpus(), CpuSet::single(1));
    let there = Affinity::pinned(0);
    assert_eq!(sched.set_affinity(unit, &there, 0), Err(Errno::EINVAL));
    // It is there already.
    move_domain(&mut f, 1, 1).unwrap();

    // The run loop of its CPU.
    let other = guest.clone();
    let holder = std::thread::spawn(move || {
        while other.sched.schedule(1, 0).save.is_none() {
            std::thread::yield_now();
        }
        let state = crate::pv::state::PvState::at_reset(1).unwrap();
        *other.vcpus()[0].state.lock() = Some(VcpuState::Pv(state));
        let _elsewhere = other.sched.context_saved(1, unit, 0);
    });
    move_domain(&mut f, 0, 1).unwrap();
    holder.join().unwrap();
    assert_eq!(runs_on(&f, &guest), [0]);
    remove_cpu(&mut f, 1, 1).unwrap();
}

/// The CPU that idles with a vCPU is asked for it, but a wake-up that was on its way comes first.
#[test]
fn a_state_is_fetched_although_a_wake_up_is_late() {
    let f = Fixture::control();
    let guest = f.add(1);
    let vcpu = &guest.vcpus()[0];
    let unit = vcpu.unit.get().unwrap();
    let sched = f.hv.backing.sched;
    let _ = sched.set_affinity(unit, &Affinity::pinned(1), 0).unwrap();
    guest.wake_all();
    assert_eq!(sched.schedule(1, 0).next, Some(unit));
    guest.pause();
    guest.stop_running();
    let decision = sched.schedule(1, 0);
    assert_eq!((decision.next, decision.save), (None, None));
    *vcpu.state.lock() = None;
    f.machine.kicked.lock().unwrap().clear();

    let other = guest.clone();
    let machine = f.machine;
    let holder = std::thread::spawn(move || {
        while !machine.kicked.lock().unwrap().contains(&1) {
            std::thread::yield_now();
        }
        let _cpu = sched.wake(unit, 0);
        let chosen = sched.schedule(1, 0).next;
        let _cpu = sched.sleep(unit);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let in_time = loop {
            if sched.schedule(1, 0).save.is_some() {
                break true;
            } else if std::time::Instant::now() > end {
                break false;
            }
            std::thread::yield_now();
        };
        let state = crate::pv::state::PvState::at_reset(1).unwrap();
        *other.vcpus()[0].state.lock() = Some(VcpuState::Pv(state));
        let _elsewhere = sched.context_saved(1, unit, 0);
        (chosen, in_time)
    });
    guest.fetch_state(vcpu);
    assert_eq!(holder.join().unwrap(), (Some(unit), true));
}

#[test]
fn domains_that_do_not_move() {
    let mut f = two_pools();
    let guest = f.add(1);
    create(&mut f, 2).unwrap();
    assert_eq!(move_domain(&mut f, 1, 0), Err(Errno::EPERM));
    assert_eq!(move_domain(&mut f, 1, 0x7ff0), Err(Errno::EPERM));
    assert_eq!(move_domain(&mut f, 1, 9), Err(Errno::ESRCH));
    assert_eq!(move_domain(&mut f, 1, 0x1_0001), Err(Errno::ESRCH));
    assert_eq!(move_domain(&mut f, 7, 1), Err(Errno::ENOENT));
    assert_eq!(move_domain(&mut f, 2, 1), Err(Errno::ENODEV), "no CPUs");
    *guest.vcpus()[1].pinned_from.lock() = Some(Affinity::ANY);
    assert_eq!(move_domain(&mut f, 1, 1), Err(Errno::EBUSY));
    *guest.vcpus()[1].pinned_from.lock() = None;
    assert!(guest.begin_to_die());
    assert_eq!(move_domain(&mut f, 1, 1), Err(Errno::EINVAL));
    assert_eq!(pool_in_list(&mut f, 1), 0);
    assert_eq!(pool_in_list(&mut f, 0), 0);
}

#[test]
fn a_domain_is_made_in_a_pool() {
    let mut f = two_pools();
    create(&mut f, 2).unwrap();
    let mut c = domains::config();
    c.cpupool_id = 2;
    assert_eq!(
        domains::create(&mut f, 0, &c),
        Err(Errno::ENODEV),
        "no CPUs"
    );
    c.cpupool_id = 1;
    assert_eq!(domains::create(&mut f, 1, &c), Ok(1));
    assert_eq!(pool_in_list(&mut f, 1), 1);
    let guest = f.hv.domain(1).unwrap();
    f.hv.make_vcpus(&guest).unwrap();
    let unit = guest.vcpus()[1].unit.get().unwrap();
    assert!(f.hv.backing.pools.is_home(unit));
    assert_eq!(destroy(&mut f, 1), Err(Errno::EBUSY));
    assert_eq!(remove_cpu(&mut f, 1, 1), Err(Errno::EBUSY));
    // Without vCPUs it counts where the dead do.
    for vcpu in guest.vcpus() {
        f.hv.retire_vcpu(&guest, vcpu);
    }
    f.hv.backing.sched.forget_domain(1);
    assert_eq!(pool_in_list(&mut f, 1), 0);
    remove_cpu(&mut f, 1, 1).unwrap();
    destroy(&mut f, 1).unwrap();
}

#[test]
fn a_vcpu_kept_on_a_cpu_keeps_it_in_its_pool() {
    let mut f = Fixture::control();
    let vcpu = &f.caller.vcpus()[1];
    let unit = vcpu.unit.get().unwrap();
    let pin = Affinity::pinned(1);
    let _ = f.hv.backing.sched.set_affinity(unit, &pin, 0).unwrap();
    *vcpu.pinned_from.lock() = Some(Affinity::ANY);
    assert_eq!(remove_cpu(&mut f, 0, 1), Err(Errno::EADDRINUSE));
    *f.caller.vcpus()[1].pinned_from.lock() = None;
    assert_eq!(remove_cpu(&mut f, 0, 1), Ok(()));
}

#[test]
fn each_pool_has_its_rate_limit() {
    let mut f = two_pools();
    let limit = |f: &mut Fixture, cpupool_id, cmd, us: u64| {
        let request = abi::SysctlSchedulerOp {
            cpupool_id,
            sched_id: XEN_SCHEDULER_CREDIT2,
            cmd,
            u: [us, 0],
            ..Default::default()
        };
        op(f, abi::XEN_SYSCTL_scheduler_op, request).map(|told| told.u[0] as u32)
    };
    let (get, put) = (
        abi::XEN_SYSCTL_SCHEDOP_getinfo,
        abi::XEN_SYSCTL_SCHEDOP_putinfo,
    );
    assert_eq!(limit(&mut f, 1, put, 500), Ok(500));
    assert_eq!(limit(&mut f, 0, get, 0), Ok(1000));
    assert_eq!(limit(&mut f, 1, get, 0), Ok(500));
    assert_eq!(limit(&mut f, 2, get, 0), Err(Errno::ESRCH));
}
