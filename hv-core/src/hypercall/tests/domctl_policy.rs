use alloc::sync::Arc;

use xen_abi::GuestHandle;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry};
use xen_abi::domctl::{self as abi, Domctl, DomctlCpuPolicy};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_domctl as CALL;
use zerocopy::{FromBytes, IntoBytes};

use super::domctl::{op, plain, request};
use crate::cpuid::Which;
use crate::cpuid::features::Feature;
use crate::domain::{Domain, DomainKind, Limits, Rights};
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE, policies};

const LEAVES: u64 = GUEST + 0x1000;
const MSRS: u64 = GUEST + 0x3000;

fn lists(nr_leaves: u32, nr_msrs: u32) -> DomctlCpuPolicy {
    DomctlCpuPolicy {
        nr_leaves,
        nr_msrs,
        leaves: GuestHandle::new(LEAVES),
        msrs: GuestHandle::new(MSRS),
        ..DomctlCpuPolicy::default()
    }
}

fn get(f: &mut Fixture, domain: u16, ask: DomctlCpuPolicy) -> Result<DomctlCpuPolicy, Errno> {
    op(f, abi::XEN_DOMCTL_get_cpu_policy, domain, ask)
}

/// Sets what the lists hold; the request as it is then, too.
fn set(
    f: &mut Fixture,
    domain: u16,
    ask: DomctlCpuPolicy,
) -> (Result<u64, Errno>, DomctlCpuPolicy) {
    f.put(
        GUEST,
        &request(abi::XEN_DOMCTL_set_cpu_policy, domain, &ask),
    );
    let done = f.call(CALL, &[GUEST]);
    let op: Domctl = f.get(GUEST);
    (
        done,
        DomctlCpuPolicy::read_from_prefix(op.u.as_bytes())
            .unwrap()
            .0,
    )
}

#[test]
fn a_policy_goes_from_one_domain_to_another() {
    let mut f = Fixture::control();
    let (old, new) = (f.add(1), f.add(2));
    let size = get(&mut f, 1, DomctlCpuPolicy::default()).unwrap();
    assert_eq!((size.nr_leaves, size.nr_msrs), (120, 2));
    // What xl would do for cpuid="host,avx=0".
    let told = get(&mut f, 1, lists(120, 2)).unwrap();
    let second = LEAVES + size_of::<CpuidLeaf>() as u64;
    let mut leaf: CpuidLeaf = f.get(second);
    assert_eq!(leaf.leaf, 1);
    leaf.c &= !(1 << 28);
    f.put(second, &leaf);
    let (done, _) = set(&mut f, 1, lists(told.nr_leaves, told.nr_msrs));
    assert_eq!(done, Ok(0));
    let default = policies().get(Which::PvDefault);
    let given = old.policy.now(default);
    assert_eq!((default.xcr0_mask(), given.xcr0_mask()), (7, 3));
    // And save and restore.
    let told = get(&mut f, 1, lists(120, 2)).unwrap();
    let (done, _) = set(&mut f, 2, lists(told.nr_leaves, told.nr_msrs));
    assert_eq!(done, Ok(0));
    assert_eq!(new.policy.now(default), given);
    // Registers need not come along.
    let without = DomctlCpuPolicy {
        msrs: GuestHandle::new(0),
        ..lists(told.nr_leaves, 0)
    };
    assert_eq!(set(&mut f, 2, without).0, Ok(0));
}

#[test]
fn too_little_room_is_told() {
    let mut f = Fixture::control();
    f.add(1);
    let all = get(&mut f, 1, lists(120, 2)).unwrap();
    for (leaves, msrs) in [(all.nr_leaves - 1, 2), (120, 1), (0, 0)] {
        assert_eq!(get(&mut f, 1, lists(leaves, msrs)), Err(Errno::ENOBUFS));
    }
    assert_eq!(get(&mut f, 1, lists(u32::MAX, u32::MAX)), Ok(all));
    let nowhere = DomctlCpuPolicy {
        leaves: GuestHandle::new(NOWHERE),
        ..lists(120, 2)
    };
    assert_eq!(get(&mut f, 1, nowhere), Err(Errno::EFAULT));
}

#[test]
fn what_is_wrong_is_named() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let all = get(&mut f, 1, lists(120, 2)).unwrap();
    let leaf = CpuidLeaf {
        leaf: 0x8000_0022,
        subleaf: u32::MAX,
        ..CpuidLeaf::default()
    };
    f.put(LEAVES + 24, &leaf);
    let (done, told) = set(&mut f, 1, lists(all.nr_leaves, 0));
    assert_eq!(done, Err(Errno::ERANGE));
    let none = u32::MAX;
    let place = |r: &DomctlCpuPolicy| (r.err_leaf, r.err_subleaf, r.err_msr);
    assert_eq!(place(&told), (0x8000_0022, none, none));
    let msr = MsrEntry {
        idx: 0x1a0,
        ..MsrEntry::default()
    };
    f.put(MSRS, &msr);
    let (done, told) = set(&mut f, 1, lists(0, 1));
    assert_eq!(
        (done, place(&told)),
        (Err(Errno::ERANGE), (none, none, 0x1a0))
    );
    for (leaves, msrs) in [(121, 0), (0, 3), (u32::MAX, u32::MAX)] {
        let (done, told) = set(&mut f, 1, lists(leaves, msrs));
        assert_eq!(
            (done, place(&told)),
            (Err(Errno::E2BIG), (none, none, none))
        );
    }
    let nowhere = DomctlCpuPolicy {
        leaves: GuestHandle::new(NOWHERE),
        ..lists(1, 0)
    };
    assert_eq!(set(&mut f, 1, nowhere).0, Err(Errno::EFAULT));
    let default = policies().get(Which::PvDefault);
    assert_eq!(&guest.policy.now(default), default, "nothing has changed");
}

#[test]
fn a_domain_that_runs_keeps_its_policy() {
    let mut f = Fixture::control();
    f.add(1);
    plain(&mut f, abi::XEN_DOMCTL_pausedomain, 1).unwrap();
    assert_eq!(set(&mut f, 1, lists(0, 0)).0, Ok(0));
    plain(&mut f, abi::XEN_DOMCTL_unpausedomain, 1).unwrap();
    assert_eq!(set(&mut f, 1, lists(0, 0)).0, Err(Errno::EEXIST));
    assert_eq!(
        set(&mut f, 0, lists(0, 0)).0,
        Err(Errno::EINVAL),
        "the caller's"
    );
}

#[test]
fn a_domain_in_containers_has_the_policy_of_its_kind() {
    let mut f = Fixture::control();
    let limits = Limits {
        vcpus: 1,
        max_pages: 1,
        max_port: 1023,
        pirqs: 16,
        grants: crate::grants::Limits::default(),
    };
    let domain = Domain::new(3, DomainKind::Hvm, Rights::Guest, limits, f.hv.backing).unwrap();
    f.hv.add(Arc::new(domain)).unwrap();
    let told = get(&mut f, 3, lists(120, 2)).unwrap();
    let leaf_1: CpuidLeaf = f.get(LEAVES + size_of::<CpuidLeaf>() as u64);
    assert_eq!(leaf_1.d & 1 << 12, 1 << 12, "MTRR");
    // A PV domain can have all of them but what it cannot use.
    f.add(1);
    let (done, _) = set(&mut f, 1, lists(told.nr_leaves, told.nr_msrs));
    assert_eq!(done, Ok(0));
    let given =
        f.hv.domain(1)
            .unwrap()
            .policy
            .now(policies().get(Which::PvDefault));
    assert!(!given.has(Feature::MTRR));
    // And it again what it had.
    let (done, _) = set(&mut f, 3, lists(told.nr_leaves, told.nr_msrs));
    assert_eq!(done, Ok(0));
    let default = policies().get(Which::HvmDefault);
    let given =
        f.hv.domain(3)
            .unwrap()
            .policy
            .now(policies().get(Which::PvDefault));
    assert_eq!(&given, default);
}
