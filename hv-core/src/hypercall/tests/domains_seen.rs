//! What dom0 sees of other domains: notices, lists, accounts, their grant tables.

use std::sync::atomic::Ordering;

use xen_abi::GuestHandle;
use xen_abi::domctl::{self as abi, DomctlCreateDomain, DomctlGetDomainInfo};
use xen_abi::errno::Errno;
use xen_abi::hypercall::{__HYPERVISOR_memory_op, __HYPERVISOR_sysctl};
use xen_abi::memory::*;
use xen_abi::sysctl::{
    Sysctl, SysctlGetDomainInfoList, XEN_SYSCTL_INTERFACE_VERSION, XEN_SYSCTL_getdomaininfolist,
};
use xen_abi::xen::{SHARED_INFO_EVTCHN_PENDING, SHARED_INFO_WC_VERSION, VIRQ_DOM_EXC};
use zerocopy::{FromBytes, IntoBytes};

use super::domctl::{op, plain};
use crate::domain::{Machine, ShutdownReason};
use crate::events;
use crate::hypercall::testing::{Fixture, GUEST};
use crate::mm::Owner;
use crate::mm::refs::{get_page, put_page};
use crate::time::wallclock::WallClock;

const LIST: u64 = GUEST + 0x1000;

fn created(f: &mut Fixture) {
    let config = DomctlCreateDomain {
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: -1,
        grant_opts: 1,
        ..DomctlCreateDomain::default()
    };
    op(f, abi::XEN_DOMCTL_createdomain, 1, config).unwrap();
    let vcpus = abi::DomctlMaxVcpus { max: 1 };
    op(f, abi::XEN_DOMCTL_max_vcpus, 1, vcpus).unwrap();
}

#[test]
fn dom0_is_told_when_a_domain_goes_down_and_when_it_ends() {
    let mut f = Fixture::control();
    created(&mut f);
    let port = events::bind_virq(&*f.caller, VIRQ_DOM_EXC, 0).unwrap();
    let page = f.machine.words(f.caller.shared_info);
    let told = || {
        let word = &page[SHARED_INFO_EVTCHN_PENDING / 8 + port as usize / 64];
        word.fetch_and(!(1 << (port % 64)), Ordering::SeqCst) & 1 << (port % 64) != 0
    };
    let domain = f.hv.domain(1).unwrap();
    f.hv.shut_down(&domain, ShutdownReason(3));
    assert!(told());
    f.hv.shut_down(&domain, ShutdownReason(0));
    assert!(!told(), "it was down already");
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    assert!(told());
    f.hv.forget_dead();
    assert!(told());
    f.hv.forget_dead();
    assert!(!told());
}

#[test]
fn all_domains_are_listed() {
    let mut f = Fixture::control();
    created(&mut f);
    let list = |f: &mut Fixture, first_domain, max_domains| {
        let mut op = Sysctl {
            cmd: XEN_SYSCTL_getdomaininfolist,
            interface_version: XEN_SYSCTL_INTERFACE_VERSION,
            u: [0; 16],
        };
        let request = SysctlGetDomainInfoList {
            first_domain,
            max_domains,
            buffer: GuestHandle::new(LIST),
            ..SysctlGetDomainInfoList::default()
        };
        request.write_to_prefix(op.u.as_mut_bytes()).unwrap();
        f.put(GUEST, &op);
        f.call(__HYPERVISOR_sysctl, &[GUEST]).unwrap();
        let op: Sysctl = f.get(GUEST);
        let (answer, _) = SysctlGetDomainInfoList::read_from_prefix(op.u.as_bytes()).unwrap();
        let at = |i: u32| LIST + u64::from(i) * size_of::<DomctlGetDomainInfo>() as u64;
        (0..answer.num_domains)
            .map(|i| f.get::<DomctlGetDomainInfo>(at(i)).domain)
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&mut f, 0, 1024), [0, 1]);
    assert_eq!(list(&mut f, 1, 1), [1]);
    assert!(list(&mut f, 2, 1).is_empty());
}

#[test]
fn weights_end_with_their_domain() {
    let mut f = Fixture::control();
    let weight = |f: &mut Fixture, cmd, weight| {
        let mut request = abi::DomctlSchedulerOp {
            sched_id: f.hv.backing.sched.id(),
            cmd,
            ..Default::default()
        };
        let params = abi::DomctlSchedCredit2 { weight, cap: 0 };
        params.write_to_prefix(request.u.as_mut_bytes()).unwrap();
        let answer = op(f, abi::XEN_DOMCTL_scheduler_op, 1, request)?;
        let (params, _) = abi::DomctlSchedCredit2::read_from_prefix(answer.u.as_bytes()).unwrap();
        Ok(params.weight)
    };
    let (get, put) = (
        abi::XEN_DOMCTL_SCHEDOP_getinfo,
        abi::XEN_DOMCTL_SCHEDOP_putinfo,
    );
    created(&mut f);
    let usual = weight(&mut f, get, 0);
    weight(&mut f, put, 1000).unwrap();
    assert_eq!(weight(&mut f, get, 0), Ok(1000));
    // A page that somebody uses keeps the domain, which is given no weight any more.
    let kept = f.machine.page_of(1);
    get_page(f.machine, kept, Owner::Domain(1)).unwrap();
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    f.hv.forget_dead();
    assert_eq!(weight(&mut f, put, 2000), Err(Errno::EINVAL));
    assert_eq!(weight(&mut f, get, 0), usual);
    put_page(f.machine, kept);
    f.hv.forget_dead();
    assert_eq!(weight(&mut f, get, 0), Err(Errno::ESRCH));
    created(&mut f);
    assert_eq!(weight(&mut f, get, 0), usual);
}

#[test]
fn a_domain_may_live_in_another_time() {
    let mut f = Fixture::control();
    f.hv.set_wallclock(WallClock::set(1_000_000, 0, 0).unwrap());
    created(&mut f);
    let domain = f.hv.domain(1).unwrap();
    let seconds = |d: &crate::domain::Domain| {
        d.machine.words32(d.shared_info)[SHARED_INFO_WC_VERSION / 4 + 1].load(Ordering::Relaxed)
    };
    let (ours, theirs) = (seconds(&f.caller), seconds(&domain));
    assert_eq!(ours, theirs);
    let offset = abi::DomctlSetTimeOffset {
        time_offset_seconds: -3600,
    };
    op(&mut f, abi::XEN_DOMCTL_settimeoffset, 1, offset).unwrap();
    assert_eq!(
        (seconds(&f.caller), seconds(&domain)),
        (ours, theirs - 3600)
    );
    f.hv.set_wallclock(WallClock::set(2_000_000, 0, 0).unwrap());
    assert_eq!(seconds(&domain), seconds(&f.caller) - 3600);
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    // The page is somebody else's now.
    let before = seconds(&domain);
    f.hv.set_wallclock(WallClock::set(3_000_000, 0, 0).unwrap());
    assert_eq!(seconds(&domain), before);
}

fn acquire(
    f: &mut Fixture,
    (kind, id): (u16, u32),
    frames: std::ops::Range<u64>,
    list: u64,
) -> Result<MemAcquireResource, Errno> {
    let request = MemAcquireResource {
        domid: 1,
        r#type: kind,
        id,
        nr_frames: (frames.end - frames.start) as u32,
        pad: 0,
        frame: frames.start,
        frame_list: GuestHandle::new(list),
    };
    f.put(GUEST, &request);
    let call = [XENMEM_acquire_resource.into(), GUEST];
    f.call(__HYPERVISOR_memory_op, &call)?;
    Ok(f.get(GUEST))
}

#[test]
fn the_grant_table_of_another_domain_can_be_had() {
    let mut f = Fixture::control();
    created(&mut f);
    let shared = (
        XENMEM_resource_grant_table,
        XENMEM_resource_grant_table_id_shared,
    );
    let status = (
        XENMEM_resource_grant_table,
        XENMEM_resource_grant_table_id_status,
    );
    assert_eq!(acquire(&mut f, shared, 0..0, 0).unwrap().nr_frames, 4);
    f.host.preempt_every(1);
    acquire(&mut f, shared, 0..3, LIST).unwrap();
    f.host.preempt_every(u32::MAX);
    assert_eq!(
        f.restarts, 2,
        "one frame at a time when there is other work"
    );
    let domain = f.hv.domain(1).unwrap();
    assert_eq!(domain.grants.query_size().frames, 3);
    for (index, kind) in (0..3).map(|i| (i, crate::grants::FrameKind::Shared)) {
        let frame = domain.grants.frame(kind, index).unwrap();
        assert_eq!(f.get::<u64>(LIST + 8 * u64::from(index)), frame.0);
    }
    for (what, frames) in [
        (shared, 3..5),
        (shared, 1 << 32..(1 << 32) + 1),
        (status, 0..1),
        ((XENMEM_resource_grant_table, 2), 0..1),
        ((XENMEM_resource_ioreq_server, 0), 0..1),
    ] {
        let refused = acquire(&mut f, what, frames.clone(), LIST);
        assert_eq!(refused, Err(Errno::EINVAL), "{what:?} {frames:?}");
    }
    assert_eq!(acquire(&mut f, shared, 1..1, 0), Err(Errno::EINVAL));
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    let late = acquire(&mut f, shared, 0..1, LIST);
    assert!(matches!(late, Err(Errno::EINVAL | Errno::ESRCH)));
}
