use core::mem::offset_of;

use xen_abi::GuestHandle;
use xen_abi::arch_x86::ArchSharedInfo;
use xen_abi::domctl::{self as abi, Domctl};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_domctl as CALL;
use xen_abi::nmi::{XEN_NMIREASON_pci_serr, XEN_NMIREASON_unknown};
use xen_abi::xen::{SHARED_INFO_ARCH, XenctlBitmap};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::domain::{Owed, RunFlags};
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};

const HARD: u64 = GUEST + 0x1000;
const SOFT: u64 = GUEST + 0x1100;

/// A request whose unused bytes are rubbish, padding of the header included.
pub(super) fn request<T: IntoBytes + Immutable>(cmd: u32, domain: u16, value: &T) -> Domctl {
    let mut op = Domctl {
        cmd,
        interface_version: abi::XEN_DOMCTL_INTERFACE_VERSION,
        domain,
        _pad: [0xa5a5; 3],
        u: [0xa5a5_a5a5_a5a5_a5a5; 16],
    };
    value.write_to_prefix(op.u.as_mut_bytes()).unwrap();
    op
}

pub(super) fn op<T: FromBytes + IntoBytes + Immutable>(
    f: &mut Fixture,
    cmd: u32,
    domain: u16,
    value: T,
) -> Result<T, Errno> {
    f.put(GUEST, &request(cmd, domain, &value));
    f.call(CALL, &[GUEST])?;
    Ok(T::read_from_prefix(f.get::<Domctl>(GUEST).u.as_bytes())
        .unwrap()
        .0)
}

pub(super) fn plain(f: &mut Fixture, cmd: u32, domain: u16) -> Result<(), Errno> {
    op(f, cmd, domain, 0u64).map(drop)
}

#[test]
fn info_is_of_the_first_domain_from_the_asked_one() {
    let mut f = Fixture::control();
    f.add(4);
    for (asked, found) in [(0, 0), (1, 4), (4, 4)] {
        let empty = abi::DomctlGetDomainInfo::default();
        let info = op(&mut f, abi::XEN_DOMCTL_getdomaininfo, asked, empty).unwrap();
        assert_eq!((info.domain, f.get::<Domctl>(GUEST).domain), (found, found));
        assert_eq!(info.pad2, [0; 7]);
    }
    for none in [5, 0x7fef, 0x7ff0, 0xffff] {
        assert_eq!(
            plain(&mut f, abi::XEN_DOMCTL_getdomaininfo, none),
            Err(Errno::ESRCH)
        );
    }
}

#[test]
fn pauses_are_counted() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let vcpu = &guest.vcpus()[0];
    assert!(guest.runnable(vcpu));
    plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).unwrap();
    plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).unwrap();
    plain(&mut f, abi::XEN_DOMCTL_unpausedomain, 1).unwrap();
    assert!(!guest.runnable(vcpu));
    plain(&mut f, abi::XEN_DOMCTL_unpausedomain, 1).unwrap();
    assert!(guest.runnable(vcpu));
    assert_eq!(
        plain(&mut f, abi::XEN_DOMCTL_unpausedomain, 1),
        Err(Errno::EINVAL)
    );
    assert!(
        guest.runnable(vcpu),
        "pauses of others are not the toolstack's to undo"
    );
    assert_eq!(
        plain(&mut f, abi::XEN_DOMCTL_pausedomain, 0),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        plain(&mut f, abi::XEN_DOMCTL_pausedomain, 9),
        Err(Errno::ESRCH)
    );
    while plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).is_ok() {}
    assert!(!guest.runnable(vcpu), "refused at a bound, not wrapped");
}

#[test]
fn pause_stops_the_cpu_and_unpause_wakes_one() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    guest.wake_all();
    let kicked = |f: &Fixture| core::mem::take(&mut *f.machine.kicked.lock().unwrap());
    let cpu = kicked(&f)[0];
    let unit = guest.vcpus()[0].unit.get();
    assert_eq!(guest.sched.schedule(cpu, 2_000_000).next, unit);
    plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).unwrap();
    assert_eq!(kicked(&f), [cpu], "the CPU that runs it must let go");
    assert_eq!(guest.sched.schedule(cpu, 3_000_000).next, None);
    plain(&mut f, abi::XEN_DOMCTL_unpausedomain, 1).unwrap();
    assert_eq!(kicked(&f).len(), 1);
}

#[test]
fn pause_returns_when_the_domain_is_at_rest() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let at_rest = AtomicBool::new(false);
    guest.vcpus()[0].set_running(Some(1));
    std::thread::scope(|s| {
        let (guest, at_rest) = (&guest, &at_rest);
        s.spawn(move || {
            let vcpu = &guest.vcpus()[0];
            while guest.runnable(vcpu) {
                std::thread::yield_now();
            }
            // What it was in the middle of.
            std::thread::sleep(Duration::from_millis(20));
            at_rest.store(true, Ordering::SeqCst);
            vcpu.set_running(None);
        });
        plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).unwrap();
        assert!(at_rest.load(Ordering::SeqCst));
    });
}

#[test]
fn vcpus_are_described() {
    let mut f = Fixture::control();
    let ask = |f: &mut Fixture, vcpu| {
        let ask = abi::DomctlGetVcpuInfo {
            vcpu,
            ..Default::default()
        };
        op(f, abi::XEN_DOMCTL_getvcpuinfo, 0, ask)
    };
    let first = ask(&mut f, 0).unwrap();
    assert_eq!(
        (first.vcpu, first.online, first.running, first.cpu),
        (0, 1, 1, 0)
    );
    let second = ask(&mut f, 1).unwrap();
    assert_eq!((second.online, second.blocked, second.running), (0, 0, 0));
    assert_eq!(ask(&mut f, 2), Err(Errno::EINVAL));

    // One that does not run is where it may go on.
    f.put(HARD, &0x02_u16);
    for vcpu in [0, 1] {
        let pin = abi::DomctlVcpuAffinity {
            vcpu,
            ..affinity(abi::XEN_VCPUAFFINITY_HARD)
        };
        op(&mut f, abi::XEN_DOMCTL_setvcpuaffinity, 0, pin).unwrap();
    }
    assert_eq!(ask(&mut f, 0).unwrap().cpu, 0, "it runs there still");
    assert_eq!(ask(&mut f, 1).unwrap().cpu, 1);
}

fn affinity(flags: u32) -> abi::DomctlVcpuAffinity {
    let map = |at| XenctlBitmap {
        bitmap: GuestHandle::new(at),
        nr_bits: 16,
        ..Default::default()
    };
    abi::DomctlVcpuAffinity {
        vcpu: 0,
        flags,
        cpumap_hard: map(HARD),
        cpumap_soft: map(SOFT),
    }
}

/// Sets the hard affinity of vCPU 0 of dom0 to the bitmap at `at`.
pub fn set_hard(f: &mut Fixture, at: u64, flags: u32) -> Result<(), Errno> {
    let mut request = affinity(abi::XEN_VCPUAFFINITY_HARD | flags);
    request.cpumap_hard.bitmap = GuestHandle::new(at);
    op(f, abi::XEN_DOMCTL_setvcpuaffinity, 0, request).map(drop)
}

#[test]
fn node_0_is_the_only_one() {
    let mut f = Fixture::control();
    let map = affinity(0).cpumap_hard;
    let request = abi::DomctlNodeAffinity { nodemap: map };
    f.put(HARD, &!0_u16);
    op(&mut f, abi::XEN_DOMCTL_getnodeaffinity, 0, request).unwrap();
    assert_eq!(f.get::<u16>(HARD), 1);
    let set = |f: &mut Fixture| op(f, abi::XEN_DOMCTL_setnodeaffinity, 0, request).map(drop);
    assert_eq!(set(&mut f), Ok(()));
    f.put(HARD, &2_u16);
    assert_eq!(set(&mut f), Err(Errno::EINVAL));
}

#[test]
fn affinity_is_set_and_read_back() {
    let mut f = Fixture::control();
    let both = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;
    op(&mut f, abi::XEN_DOMCTL_getvcpuaffinity, 0, affinity(both)).unwrap();
    assert_eq!((f.get::<u16>(HARD), f.get::<u16>(SOFT)), (0xffff, 0xffff));

    // CPU 5 is not online: the set in effect comes back without it, the set as set keeps it.
    f.put(HARD, &0x22_u16);
    let hard = affinity(abi::XEN_VCPUAFFINITY_HARD);
    op(&mut f, abi::XEN_DOMCTL_setvcpuaffinity, 0, hard).unwrap();
    assert_eq!(f.get::<u16>(HARD), 0x02);
    op(&mut f, abi::XEN_DOMCTL_getvcpuaffinity, 0, affinity(both)).unwrap();
    assert_eq!((f.get::<u16>(HARD), f.get::<u16>(SOFT)), (0x22, 0xffff));

    f.put(SOFT, &0x03_u16);
    let soft = affinity(abi::XEN_VCPUAFFINITY_SOFT);
    op(&mut f, abi::XEN_DOMCTL_setvcpuaffinity, 0, soft).unwrap();
    assert_eq!(f.get::<u16>(SOFT), 0x02, "within the hard one");
}

#[test]
fn impossible_affinities_are_refused() {
    let mut f = Fixture::control();
    let hard = affinity(abi::XEN_VCPUAFFINITY_HARD);
    let set = |f: &mut Fixture, a| op(f, abi::XEN_DOMCTL_setvcpuaffinity, 0, a).map(drop);
    f.put(HARD, &0x30_u16);
    assert_eq!(
        set(&mut f, hard),
        Err(Errno::EINVAL),
        "none of them is online"
    );
    assert_eq!(set(&mut f, affinity(0)), Err(Errno::EINVAL));
    assert_eq!(
        set(&mut f, abi::DomctlVcpuAffinity { vcpu: 7, ..hard }),
        Err(Errno::EINVAL)
    );
    let map = XenctlBitmap {
        bitmap: GuestHandle::new(NOWHERE),
        nr_bits: 8,
        ..Default::default()
    };
    let fault = abi::DomctlVcpuAffinity {
        cpumap_hard: map,
        ..hard
    };
    assert_eq!(set(&mut f, fault), Err(Errno::EFAULT));
}

#[test]
fn scheduler_parameters() {
    let mut f = Fixture::control();
    f.add(1);
    let get = abi::DomctlSchedulerOp {
        sched_id: abi::XEN_SCHEDULER_CREDIT2,
        cmd: abi::XEN_DOMCTL_SCHEDOP_getinfo,
        u: [0; 2],
    };
    let told = op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, get).unwrap();
    assert_eq!(told.u[0] as u32, 256, "weight 256, cap 0");
    let put = abi::DomctlSchedulerOp {
        cmd: abi::XEN_DOMCTL_SCHEDOP_putinfo,
        u: [512, 0],
        ..get
    };
    op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, put).unwrap();
    let told = op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, get).unwrap();
    assert_eq!(told.u[0] as u32, 512);
    let capped = abi::DomctlSchedulerOp {
        u: [512 | 50 << 16, 0],
        ..put
    };
    op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, capped).unwrap();
    let told = op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, get).unwrap();
    assert_eq!(told.u[0] as u32, 512 | 50 << 16);
    // Weight 0 is no change, cap 0 is none.
    let uncapped = abi::DomctlSchedulerOp { u: [0; 2], ..put };
    op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, uncapped).unwrap();
    let told = op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, get).unwrap();
    assert_eq!(told.u[0] as u32, 512);
    for bad in [
        abi::DomctlSchedulerOp {
            sched_id: abi::XEN_SCHEDULER_CREDIT,
            ..get
        },
        abi::DomctlSchedulerOp {
            cmd: abi::XEN_DOMCTL_SCHEDOP_getvcpuinfo,
            ..get
        },
        abi::DomctlSchedulerOp {
            cmd: abi::XEN_DOMCTL_SCHEDOP_putvcpuinfo,
            ..get
        },
    ] {
        assert_eq!(
            op(&mut f, abi::XEN_DOMCTL_scheduler_op, 1, bad),
            Err(Errno::EINVAL)
        );
    }
}

#[test]
fn small_settings_of_a_domain() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let memory = abi::DomctlMaxMem { max_memkb: 1027 };
    op(&mut f, abi::XEN_DOMCTL_max_mem, 1, memory).unwrap();
    assert_eq!(guest.max_pages.load(Ordering::Relaxed), 256);

    let handle = abi::DomctlSetDomainHandle { handle: [5; 16] };
    op(&mut f, abi::XEN_DOMCTL_setdomainhandle, 1, handle).unwrap();
    assert_eq!(*guest.handle.lock(), [5; 16]);

    let size = abi::DomctlAddressSize { size: 0 };
    assert_eq!(
        op(&mut f, abi::XEN_DOMCTL_get_address_size, 1, size)
            .unwrap()
            .size,
        64
    );
    let narrow = abi::DomctlAddressSize { size: 32 };
    let refused = op(&mut f, abi::XEN_DOMCTL_set_address_size, 1, narrow);
    assert_eq!(refused, Err(Errno::EINVAL));
    let same = abi::DomctlAddressSize { size: 64 };
    op(&mut f, abi::XEN_DOMCTL_set_address_size, 1, same).unwrap();

    let nmi = abi::DomctlSendTrigger {
        trigger: abi::XEN_DOMCTL_SENDTRIGGER_NMI,
        vcpu: 1,
    };
    op(&mut f, abi::XEN_DOMCTL_sendtrigger, 1, nmi).unwrap();
    assert_eq!(guest.vcpus()[1].take_owed(Owed::NMI), Owed::NMI);
    let power = abi::DomctlSendTrigger {
        trigger: 3,
        vcpu: 0,
    };
    assert_eq!(
        op(&mut f, abi::XEN_DOMCTL_sendtrigger, 1, power),
        Err(Errno::ENOSYS)
    );
}

#[test]
fn an_nmi_of_the_machine_is_told_to_the_first_vcpu() {
    let f = Fixture::control();
    let reason = || {
        let at = SHARED_INFO_ARCH + offset_of!(ArchSharedInfo, nmi_reason);
        let page = f.caller.machine.words(f.caller.shared_info);
        page[at / 8].load(Ordering::Relaxed)
    };
    f.caller.vcpus()[0].set_flags(RunFlags::BLOCKED);
    f.caller.report_nmi(XEN_NMIREASON_unknown);
    assert_eq!(f.caller.vcpus()[0].flags() & RunFlags::BLOCKED, 0);
    assert_eq!(f.caller.vcpus()[0].take_owed(Owed::NMI), Owed::NMI);
    assert_eq!(f.caller.vcpus()[1].take_owed(Owed::NMI), 0);
    f.caller.report_nmi(XEN_NMIREASON_pci_serr);
    assert_eq!(reason(), XEN_NMIREASON_unknown | XEN_NMIREASON_pci_serr);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut f = Fixture::control();
    for cmd in [
        abi::XEN_DOMCTL_destroydomain,
        abi::XEN_DOMCTL_resumedomain,
        abi::XEN_DOMCTL_setvcpucontext,
        abi::XEN_DOMCTL_getvcpucontext,
        abi::XEN_DOMCTL_max_vcpus,
    ] {
        assert_eq!(plain(&mut f, cmd, 0), Err(Errno::EINVAL), "the caller");
        assert_eq!(plain(&mut f, cmd, 77), Err(Errno::ESRCH));
    }
    assert_eq!(
        plain(&mut f, abi::XEN_DOMCTL_shadow_op, 77),
        Err(Errno::ESRCH)
    );
    assert_eq!(
        plain(&mut f, abi::XEN_DOMCTL_debug_op, 0),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(plain(&mut f, 500, 0), Err(Errno::ENOSYS));
    assert_eq!(f.call(CALL, &[NOWHERE]), Err(Errno::EFAULT));
}

#[test]
fn other_versions_and_callers_are_refused() {
    let mut f = Fixture::control();
    for version in [0, 0x14, 0x17] {
        let mut op = request(abi::XEN_DOMCTL_getdomaininfo, 0, &0u64);
        op.interface_version = version;
        f.put(GUEST, &op);
        assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EACCES));
    }
    let mut guest = Fixture::guest();
    for cmd in 0..90 {
        assert_eq!(
            plain(&mut guest, cmd, 1),
            Err(Errno::EPERM),
            "not even on itself"
        );
    }
}
