use xen_abi::errno::Errno;
use xen_abi::event_channel as abi;
use xen_abi::hypercall::__HYPERVISOR_event_channel_op as CALL;
use xen_abi::xen::{DOMID_SELF, VIRQ_TIMER};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::events::{self, Status};
use crate::hypercall::testing::{Fixture, GUEST, GUEST_SIZE, NOWHERE};

/// Makes a call with an argument and reads that back.
fn op<T: FromBytes + IntoBytes + Immutable>(
    f: &mut Fixture,
    cmd: u32,
    value: T,
) -> Result<T, Errno> {
    f.put(GUEST, &value);
    f.call(CALL, &[cmd.into(), GUEST])?;
    Ok(f.get(GUEST))
}

fn alloc(f: &mut Fixture, dom: u16, remote_dom: u16) -> Result<u32, Errno> {
    let request = abi::EvtchnAllocUnbound {
        dom,
        remote_dom,
        port: 0,
    };
    Ok(op(f, abi::EVTCHNOP_alloc_unbound, request)?.port)
}

fn bind(f: &mut Fixture, remote_dom: u16, remote_port: u32) -> Result<u32, Errno> {
    let request = abi::EvtchnBindInterdomain {
        remote_dom,
        remote_port,
        ..Default::default()
    };
    Ok(op(f, abi::EVTCHNOP_bind_interdomain, request)?.local_port)
}

fn status(f: &mut Fixture, dom: u16, port: u32) -> Result<abi::EvtchnStatus, Errno> {
    let request = abi::EvtchnStatus {
        dom,
        port,
        ..Default::default()
    };
    op(f, abi::EVTCHNOP_status, request)
}

#[test]
fn two_domains_connect_and_signal() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    // The toolstack makes a port in the guest, then binds to it.
    let far = alloc(&mut f, 1, DOMID_SELF).unwrap();
    assert_eq!(
        status(&mut f, 1, far).unwrap().status,
        abi::EVTCHNSTAT_unbound
    );
    let near = bind(&mut f, 1, far).unwrap();
    let state = status(&mut f, DOMID_SELF, near).unwrap();
    assert_eq!(
        (state.status, state.u),
        (abi::EVTCHNSTAT_interdomain, [1, far])
    );
    assert_eq!(events::is_pending(&*guest, far), Ok(false));
    op(&mut f, abi::EVTCHNOP_send, abi::EvtchnSend { port: near }).unwrap();
    assert_eq!(events::is_pending(&*guest, far), Ok(true));
    op(&mut f, abi::EVTCHNOP_close, abi::EvtchnClose { port: near }).unwrap();
    assert_eq!(
        events::status(&*guest, far).unwrap().status,
        Status::Unbound { remote: 0 }
    );
}

#[test]
fn interrupts_of_every_kind_bind() {
    let mut f = Fixture::control();
    let virq = abi::EvtchnBindVirq {
        virq: VIRQ_TIMER,
        vcpu: 1,
        port: 0,
    };
    let virq = op(&mut f, abi::EVTCHNOP_bind_virq, virq).unwrap();
    let state = status(&mut f, 0, virq.port).unwrap();
    assert_eq!((state.status, state.vcpu), (abi::EVTCHNSTAT_virq, 1));
    assert_eq!(
        op(&mut f, abi::EVTCHNOP_bind_virq, virq),
        Err(Errno::EEXIST)
    );

    let ipi = op(
        &mut f,
        abi::EVTCHNOP_bind_ipi,
        abi::EvtchnBindIpi { vcpu: 0, port: 0 },
    );
    assert_eq!(
        status(&mut f, 0, ipi.unwrap().port).unwrap().status,
        abi::EVTCHNSTAT_ipi
    );

    let pirq = abi::EvtchnBindPirq {
        pirq: 9,
        flags: 1,
        port: 0,
    };
    let pirq = op(&mut f, abi::EVTCHNOP_bind_pirq, pirq).unwrap();
    let moved = abi::EvtchnBindVcpu {
        port: pirq.port,
        vcpu: 1,
    };
    op(&mut f, abi::EVTCHNOP_bind_vcpu, moved).unwrap();
    assert_eq!(status(&mut f, 0, pirq.port).unwrap().vcpu, 1);
    let other = abi::EvtchnBindPirq {
        pirq: 8,
        flags: 0,
        port: 0,
    };
    assert_eq!(
        op(&mut f, abi::EVTCHNOP_bind_pirq, other),
        Err(Errno::EPERM)
    );
}

#[test]
fn fifo_form_through_the_call() {
    let mut f = Fixture::control();
    let control = f.machine.page_of(0).0;
    let request = abi::EvtchnInitControl {
        control_gfn: control,
        ..Default::default()
    };
    let done = op(&mut f, abi::EVTCHNOP_init_control, request).unwrap();
    assert_eq!(u32::from(done.link_bits), abi::EVTCHN_FIFO_LINK_BITS);
    let array_gfn = f.machine.page_of(0).0;
    op(
        &mut f,
        abi::EVTCHNOP_expand_array,
        abi::EvtchnExpandArray { array_gfn },
    )
    .unwrap();
    let port = alloc(&mut f, DOMID_SELF, 0).unwrap();
    let priority = abi::EvtchnSetPriority { port, priority: 3 };
    op(&mut f, abi::EVTCHNOP_set_priority, priority).unwrap();
    op(&mut f, abi::EVTCHNOP_unmask, abi::EvtchnUnmask { port }).unwrap();
    let taken = abi::EvtchnExpandArray {
        array_gfn: 0x123_4567,
    };
    assert_eq!(
        op(&mut f, abi::EVTCHNOP_expand_array, taken),
        Err(Errno::EINVAL)
    );
}

#[test]
fn port_that_cannot_be_reported_is_closed() {
    let mut f = Fixture::control();
    let request = abi::EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: 0,
        port: 0,
    };
    f.put(GUEST, &request);
    f.host.read_only_from(GUEST);
    let call = f.call(CALL, &[abi::EVTCHNOP_alloc_unbound.into(), GUEST]);
    assert_eq!(call, Err(Errno::EFAULT));
    f.host.read_only_from(u64::MAX);
    assert_eq!(
        status(&mut f, DOMID_SELF, 1).unwrap().status,
        abi::EVTCHNSTAT_closed
    );
}

#[test]
fn others_ports_need_rights() {
    let mut f = Fixture::guest();
    f.add(2);
    assert_eq!(alloc(&mut f, 2, 1), Err(Errno::EPERM));
    assert_eq!(status(&mut f, 2, 1), Err(Errno::EPERM));
    assert_eq!(status(&mut f, 77, 1), Err(Errno::ESRCH));
    assert_eq!(bind(&mut f, 77, 1), Err(Errno::ESRCH));
    // A port that waits for somebody else is no port of theirs.
    let port = events::alloc_unbound(&*f.hv.domain(2).unwrap(), 0).unwrap();
    assert_eq!(bind(&mut f, 2, port), Err(Errno::EINVAL));
}

#[test]
fn physical_interrupts_are_the_control_domains() {
    let mut f = Fixture::guest();
    let mut bind = |pirq| {
        let request = abi::EvtchnBindPirq {
            pirq,
            flags: 0,
            port: 0,
        };
        op(&mut f, abi::EVTCHNOP_bind_pirq, request).map(drop)
    };
    assert_eq!(bind(0), Err(Errno::EPERM));
    assert_eq!(bind(4096), Err(Errno::EINVAL));
}

#[test]
fn reset_of_another_domain_needs_it_paused() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    for _ in 0..600 {
        events::alloc_unbound(&*guest, 0).unwrap();
    }
    let reset = abi::EvtchnReset { dom: 1 };
    assert_eq!(op(&mut f, abi::EVTCHNOP_reset, reset), Err(Errno::EINVAL));
    guest.pause_by_tool().unwrap();
    f.host.preempt_every(1);
    op(&mut f, abi::EVTCHNOP_reset, reset).unwrap();
    assert!(f.restarts > 0);
    assert_eq!(events::status(&*guest, 600).unwrap().status, Status::Closed);
}

#[test]
fn bad_arguments_are_refused() {
    let mut f = Fixture::control();
    for cmd in 0..14 {
        assert_eq!(
            f.call(CALL, &[cmd, NOWHERE]),
            Err(Errno::EFAULT),
            "command {cmd}"
        );
        let end = GUEST + GUEST_SIZE as u64 - 1;
        assert_eq!(
            f.call(CALL, &[cmd, end]),
            Err(Errno::EFAULT),
            "command {cmd}"
        );
    }
    assert_eq!(f.call(CALL, &[14, GUEST]), Err(Errno::ENOSYS));
    let port = abi::EvtchnSend { port: u32::MAX };
    assert_eq!(op(&mut f, abi::EVTCHNOP_send, port), Err(Errno::EINVAL));
}
