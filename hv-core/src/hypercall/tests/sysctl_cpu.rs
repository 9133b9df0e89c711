use xen_abi::GuestHandle;
use xen_abi::arch_x86::CpuidLeaf;
use xen_abi::domctl::XEN_SCHEDULER_CREDIT2;
use xen_abi::errno::Errno;
use xen_abi::sysctl as abi;
use zerocopy::IntoBytes;

use super::sysctl::{ARRAY, answer, op, request};
use crate::domain::Machine;
use crate::hypercall::testing::{CPUS, FRAMES, Fixture, GUEST, NOWHERE};

#[test]
fn machine_at_a_glance() {
    let mut f = Fixture::control();
    let info = op(
        &mut f,
        abi::XEN_SYSCTL_physinfo,
        abi::SysctlPhysInfo::default(),
    )
    .unwrap();
    assert_eq!(
        (info.nr_cpus, info.max_cpu_id, info.nr_nodes),
        (CPUS, CPUS, 1)
    );
    assert_eq!((info.threads_per_core, info.cores_per_socket), (1, 3));
    assert_eq!((info.cpu_khz, info.capabilities), (2_600_000, 0x302));
    assert_eq!(info.total_pages, FRAMES as u64);
    assert_eq!(info.free_pages, f.machine.free_pages());
    assert_eq!(info.max_mfn, FRAMES as u64 - 1);
    assert_eq!(
        info.hw_cap,
        [
            0x1fcb_f3fd,
            0xf6d8_320b,
            0xe450_0800,
            0x77,
            5,
            0x0188_43a9,
            0x20c,
            0
        ],
        "of the host's view"
    );
}

#[test]
fn topology_is_asked_for_in_two_calls() {
    let mut f = Fixture::control();
    let ask = |f: &mut Fixture, num_cpus, at| {
        let cputopo = GuestHandle::new(at);
        let ask = abi::SysctlCpuTopoInfo {
            num_cpus,
            cputopo,
            ..Default::default()
        };
        op(f, abi::XEN_SYSCTL_cputopoinfo, ask).map(|t| t.num_cpus)
    };
    assert_eq!(ask(&mut f, 0, 0), Ok(3));
    assert_eq!(ask(&mut f, 100, ARRAY), Ok(3));
    let cpus: [abi::SysctlCpuTopo; 3] = core::array::from_fn(|i| f.get(ARRAY + i as u64 * 12));
    assert_eq!((cpus[1].core, cpus[1].socket, cpus[1].node), (1, 0, 0));
    assert_eq!(cpus[2].core, abi::XEN_INVALID_CORE_ID, "not online");
    assert_eq!(ask(&mut f, 1, ARRAY), Ok(1));
    assert_eq!(ask(&mut f, 1, NOWHERE), Err(Errno::EFAULT));
}

#[test]
fn memory_is_one_node() {
    let mut f = Fixture::control();
    let ask = abi::SysctlNumaInfo::default();
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_numainfo, ask).unwrap().num_nodes,
        1
    );
    let ask = abi::SysctlNumaInfo {
        num_nodes: 1,
        meminfo: GuestHandle::new(ARRAY),
        distance: GuestHandle::new(ARRAY + 64),
        ..Default::default()
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_numainfo, ask).unwrap().num_nodes,
        1
    );
    let node: abi::SysctlMeminfo = f.get(ARRAY);
    assert_eq!(node.memsize, FRAMES as u64 * 4096);
    assert_eq!(f.get::<u32>(ARRAY + 64), 10);
}

#[test]
fn free_memory_and_idle_times() {
    let mut f = Fixture::control();
    let ask = abi::SysctlAvailHeap {
        node: -1,
        ..Default::default()
    };
    let told = op(&mut f, abi::XEN_SYSCTL_availheap, ask).unwrap();
    assert_eq!(told.avail_bytes, f.machine.free_pages() * 4096);
    let low = abi::SysctlAvailHeap {
        max_bitwidth: 32,
        ..ask
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_availheap, low),
        Err(Errno::EOPNOTSUPP)
    );

    let info = GuestHandle::new(ARRAY);
    let ask = abi::SysctlGetCpuInfo {
        max_cpus: 9,
        info,
        ..Default::default()
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_getcpuinfo, ask).unwrap().nr_cpus,
        3
    );
    assert_eq!(f.get::<[u64; 2]>(ARRAY), [1000, 1001]);
}

#[test]
fn devices_have_no_known_node() {
    let mut f = Fixture::control();
    let none = abi::SysctlPciTopoInfo::default();
    assert!(op(&mut f, abi::XEN_SYSCTL_pcitopoinfo, none).is_ok());
    let two = abi::SysctlPciTopoInfo {
        num_devs: 2,
        devs: GuestHandle::new(ARRAY),
        nodes: GuestHandle::new(ARRAY + 64),
        ..Default::default()
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_pcitopoinfo, two)
            .unwrap()
            .num_devs,
        2
    );
    assert_eq!(f.get::<[u32; 3]>(ARRAY + 64), [!1, !1, 0]);
    let bad = abi::SysctlPciTopoInfo {
        nodes: GuestHandle::NULL,
        ..two
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_pcitopoinfo, bad),
        Err(Errno::EINVAL)
    );
}

#[test]
fn rate_limit_is_read_and_set() {
    let mut f = Fixture::control();
    let get = abi::SysctlSchedulerOp {
        sched_id: XEN_SCHEDULER_CREDIT2,
        cmd: abi::XEN_SYSCTL_SCHEDOP_getinfo,
        ..Default::default()
    };
    let ratelimit = |f: &mut Fixture| op(f, abi::XEN_SYSCTL_scheduler_op, get).unwrap().u[0] as u32;
    assert_eq!(ratelimit(&mut f), 1000);
    let put = abi::SysctlSchedulerOp {
        cmd: abi::XEN_SYSCTL_SCHEDOP_putinfo,
        u: [500, 0],
        ..get
    };
    op(&mut f, abi::XEN_SYSCTL_scheduler_op, put).unwrap();
    assert_eq!(ratelimit(&mut f), 500);
    let absurd = abi::SysctlSchedulerOp { u: [1, 0], ..put };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_scheduler_op, absurd),
        Err(Errno::EINVAL)
    );
    let other = abi::SysctlSchedulerOp { sched_id: 5, ..get };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_scheduler_op, other),
        Err(Errno::EINVAL)
    );
    let nowhere = abi::SysctlSchedulerOp {
        cpupool_id: 1,
        ..get
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_scheduler_op, nowhere),
        Err(Errno::ESRCH)
    );
}

#[test]
fn feature_words_by_view_and_room() {
    let mut f = Fixture::control();
    let ask = |f: &mut Fixture, index, nr_features, at| {
        let features = GuestHandle::new(at);
        let ask = abi::SysctlCpuFeatureset {
            index,
            nr_features,
            features,
        };
        f.put(GUEST, &request(abi::XEN_SYSCTL_get_cpu_featureset, &ask));
        let result = f.call(xen_abi::hypercall::__HYPERVISOR_sysctl, &[GUEST]);
        result.map(|_| answer::<abi::SysctlCpuFeatureset>(f).nr_features)
    };
    let host = abi::XEN_SYSCTL_cpu_featureset_host;
    assert_eq!(ask(&mut f, host, 0, 0), Ok(19));
    assert_eq!(ask(&mut f, host, 30, ARRAY), Ok(19));
    assert_eq!(f.get::<[u32; 2]>(ARRAY), [0x1fcb_f3fd, 0xf6d8_320b]);
    // Too little room: what fits, how much that was, and an error.
    f.put(ARRAY, &[0u32; 3]);
    assert_eq!(ask(&mut f, host, 2, ARRAY), Err(Errno::ENOBUFS));
    assert_eq!(answer::<abi::SysctlCpuFeatureset>(&f).nr_features, 2);
    assert_eq!(f.get::<[u32; 3]>(ARRAY), [0x1fcb_f3fd, 0xf6d8_320b, 0]);
    let hvm = abi::XEN_SYSCTL_cpu_featureset_hvm;
    assert_eq!(ask(&mut f, hvm, 30, ARRAY), Ok(19));
    assert_eq!(f.get::<[u32; 2]>(ARRAY), [0x1fcb_fbfd, 0xf6f8_3203]);
    assert_eq!(ask(&mut f, 6, 0, 0), Err(Errno::EINVAL));
    assert_eq!(ask(&mut f, host, 19, NOWHERE), Err(Errno::EFAULT));
}

#[test]
fn policies_by_view_and_room() {
    let mut f = Fixture::control();
    let size = abi::SysctlCpuPolicy::default();
    let told = op(&mut f, abi::XEN_SYSCTL_get_cpu_policy, size).unwrap();
    assert_eq!(
        (told.nr_leaves, told.nr_msrs),
        (120, 2),
        "enough for every view"
    );
    let ask = abi::SysctlCpuPolicy {
        index: abi::XEN_SYSCTL_cpu_policy_pv_default,
        nr_leaves: 120,
        nr_msrs: 2,
        leaves: GuestHandle::new(ARRAY),
        msrs: GuestHandle::new(ARRAY + 4096),
        ..Default::default()
    };
    let told = op(&mut f, abi::XEN_SYSCTL_get_cpu_policy, ask).unwrap();
    assert_eq!((told.nr_leaves, told.nr_msrs), (52, 2));
    let second: CpuidLeaf = f.get(ARRAY + size_of::<CpuidLeaf>() as u64);
    assert_eq!((second.leaf, second.a), (1, 0x0006_0fb1));
    let small = abi::SysctlCpuPolicy {
        nr_leaves: 1,
        ..ask
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_get_cpu_policy, small),
        Err(Errno::ENOBUFS)
    );
    let hvm = abi::SysctlCpuPolicy {
        index: abi::XEN_SYSCTL_cpu_policy_hvm_max,
        ..ask
    };
    let told: abi::SysctlCpuPolicy = op(&mut f, abi::XEN_SYSCTL_get_cpu_policy, hvm).unwrap();
    assert_eq!((told.nr_leaves, told.nr_msrs), (61, 2));
    assert_eq!(second.as_bytes().len(), 24, "as the tools expect");
}
