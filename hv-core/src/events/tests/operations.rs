//! Each operation, its errors, and delivery in the 2-level form.

use xen_abi::event_channel::EvtchnStatus;
use xen_abi::xen::{VIRQ_DEBUG, VIRQ_DOM_EXC, VIRQ_TIMER};

use super::*;

/// Two connected domains: the domains, then the port of each.
fn pair() -> (Arc<Fake>, Arc<Fake>, PortNumber, PortNumber) {
    let (a, b) = (Fake::new(0, 2), Fake::new(1, 2));
    let far = alloc_unbound(&*b, 0).unwrap();
    let near = bind_interdomain(&a, &b, far).unwrap();
    a.take_two_level(0);
    a.news();
    (a, b, near, far)
}

fn state(d: &Fake, port: PortNumber) -> Status {
    status(d, port).unwrap().status
}

#[test]
fn ports_are_given_from_1_upwards_and_reused() {
    let d = Fake::new(1, 1);
    assert_eq!(state(&d, 0), Status::Closed);
    assert_eq!(alloc_unbound(&*d, 0), Ok(1));
    assert_eq!(alloc_unbound(&*d, 0), Ok(2));
    assert_eq!(close(&*d, 1), Ok(()));
    assert_eq!(alloc_unbound(&*d, 7), Ok(1));
    assert_eq!(state(&d, 1), Status::Unbound { remote: 7 });
    assert_eq!(alloc_unbound(&*d, 0), Ok(3));
}

#[test]
fn the_2_level_form_ends_at_its_last_port() {
    for (layout, last) in [(Layout::Bits64, 4095), (Layout::Bits32, 1023)] {
        let limits = Limits {
            vcpus: 1,
            max_port: u32::MAX,
            pirqs: 0,
        };
        let d = Fake::with_limits(1, layout, limits);
        for port in 1..=last {
            assert_eq!(bind_ipi(&*d, 0), Ok(port));
        }
        assert_eq!(bind_ipi(&*d, 0), Err(Errno::ENOSPC));
        send(&*d, last).unwrap();
        assert_eq!(d.take_two_level(0), [last]);
    }
}

#[test]
fn the_domain_limit_names_the_highest_port() {
    let limits = Limits {
        vcpus: 1,
        max_port: 3,
        pirqs: 0,
    };
    let d = Fake::with_limits(1, Layout::Bits64, limits);
    for port in 1..=3 {
        assert_eq!(alloc_unbound(&*d, 0), Ok(port));
    }
    assert_eq!(alloc_unbound(&*d, 0), Err(Errno::ENOSPC));
}

#[test]
fn interdomain_events_reach_the_other_end_only() {
    let (a, b, near, far) = pair();
    assert_eq!(
        state(&a, near),
        Status::Interdomain {
            remote: 1,
            port: far
        }
    );
    assert_eq!(
        state(&b, far),
        Status::Interdomain {
            remote: 0,
            port: near
        }
    );
    send(&*a, near).unwrap();
    send(&*a, near).unwrap();
    assert_eq!(b.news(), [Told::Kick(0)], "one kick for two events");
    assert_eq!(b.take_two_level(0), [far]);
    assert!(a.news().is_empty());
    send(&*b, far).unwrap();
    assert_eq!(a.take_two_level(0), [near]);
    destroy(&a);
}

#[test]
fn a_new_connection_starts_pending() {
    let (a, b) = (Fake::new(0, 1), Fake::new(1, 1));
    let far = alloc_unbound(&*b, 0).unwrap();
    send(&*b, far).unwrap();
    let near = bind_interdomain(&a, &b, far).unwrap();
    assert_eq!(a.take_two_level(0), [near]);
    assert!(b.take_two_level(0).is_empty());
    destroy(&a);
}

#[test]
fn a_domain_connects_to_itself() {
    let d = Fake::new(0, 1);
    let first = alloc_unbound(&*d, 0).unwrap();
    let second = bind_interdomain(&d, &d, first).unwrap();
    d.take_two_level(0);
    send(&*d, second).unwrap();
    assert_eq!(d.take_two_level(0), [first]);
    send(&*d, first).unwrap();
    assert_eq!(d.take_two_level(0), [second]);
    assert_eq!(close(&*d, first), Ok(()));
    assert_eq!(state(&d, second), Status::Unbound { remote: 0 });
    assert_eq!(Arc::strong_count(&d), 1);
}

#[test]
fn only_the_expected_domain_connects_and_a_refusal_costs_no_port() {
    let (a, b) = (Fake::new(0, 1), Fake::new(1, 1));
    let far = alloc_unbound(&*b, 5).unwrap();
    let ipi = bind_ipi(&*b, 0).unwrap();
    for port in [far, ipi, 0, 99, 100_000, u32::MAX] {
        assert_eq!(bind_interdomain(&a, &b, port), Err(Errno::EINVAL));
    }
    assert_eq!(alloc_unbound(&*a, 0), Ok(1));
}

#[test]
fn closing_one_end_leaves_the_other_waiting() {
    let (a, b, near, far) = pair();
    send(&*b, far).unwrap();
    close(&*a, near).unwrap();
    assert_eq!(state(&a, near), Status::Closed);
    assert_eq!(is_pending(&*a, near), Ok(false), "nothing left for a reuse");
    assert_eq!(state(&b, far), Status::Unbound { remote: 0 });
    assert_eq!(send(&*b, far), Ok(()), "dropped");
    assert_eq!(is_pending(&*a, near), Ok(false));
    assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (1, 1));
    assert_eq!(close(&*a, near), Err(Errno::EINVAL));
    assert_eq!(close(&*a, 0), Err(Errno::EINVAL));
    assert_eq!(close(&*a, 1 << 20), Err(Errno::EINVAL));
}

#[test]
fn sending_is_for_connected_unbound_and_ipi_ports() {
    let d = Fake::new(0, 2);
    let virq = bind_virq(&*d, VIRQ_TIMER, 0).unwrap();
    let pirq = bind_pirq(&*d, 3, PirqSharing::Exclusive).unwrap();
    let ipi = bind_ipi(&*d, 1).unwrap();
    for port in [0, virq, pirq, 77, 1 << 17, u32::MAX] {
        assert_eq!(send(&*d, port), Err(Errno::EINVAL), "{port}");
    }
    d.news();
    assert_eq!(send(&*d, ipi), Ok(()));
    assert_eq!(d.news(), [Told::Kick(1)]);
    assert_eq!(d.take_two_level(1), [ipi]);
}

#[test]
fn virtual_interrupts_are_bound_once() {
    let d = Fake::new(0, 2);
    let timer = bind_virq(&*d, VIRQ_TIMER, 1).unwrap();
    assert_eq!(bind_virq(&*d, VIRQ_TIMER, 1), Err(Errno::EEXIST));
    assert_eq!(bind_virq(&*d, VIRQ_TIMER, 2), Err(Errno::ENOENT));
    assert_eq!(bind_virq(&*d, 24, 0), Err(Errno::EINVAL));
    assert_eq!(bind_virq(&*d, VIRQ_DOM_EXC, 1), Err(Errno::EINVAL));
    assert_eq!(state(&d, timer), Status::Virq(VIRQ_TIMER));
    assert!(!raise_virq(&*d, 0, VIRQ_TIMER), "bound on the other vCPU");
    assert!(!raise_virq(&*d, 9, VIRQ_TIMER));
    assert!(raise_virq(&*d, 1, VIRQ_TIMER));
    assert_eq!(d.take_two_level(1), [timer]);
    close(&*d, timer).unwrap();
    assert!(!raise_virq(&*d, 1, VIRQ_TIMER));
    assert_eq!(bind_virq(&*d, VIRQ_TIMER, 1), Ok(timer));
}

#[test]
fn a_global_virtual_interrupt_moves_and_a_vcpu_one_does_not() {
    let d = Fake::new(0, 2);
    let global = bind_virq(&*d, VIRQ_DOM_EXC, 0).unwrap();
    let own = bind_virq(&*d, VIRQ_DEBUG, 0).unwrap();
    let ipi = bind_ipi(&*d, 0).unwrap();
    assert_eq!(bind_vcpu(&*d, global, 1), Ok(()));
    assert_eq!(bind_vcpu(&*d, own, 1), Err(Errno::EINVAL));
    assert_eq!(bind_vcpu(&*d, ipi, 1), Err(Errno::EINVAL));
    assert_eq!(bind_vcpu(&*d, 0, 1), Err(Errno::EINVAL));
    assert_eq!(bind_vcpu(&*d, 50, 1), Err(Errno::EINVAL));
    assert_eq!(bind_vcpu(&*d, global, 2), Err(Errno::ENOENT));
    assert!(raise_global_virq(&*d, VIRQ_DOM_EXC));
    assert_eq!(d.take_two_level(1), [global]);
    assert_eq!(bind_virq(&*d, VIRQ_DOM_EXC, 0), Err(Errno::EEXIST));
    close(&*d, global).unwrap();
    let again = bind_virq(&*d, VIRQ_DOM_EXC, 0).unwrap();
    assert_eq!(status(&*d, again).unwrap().vcpu, 0, "back at vCPU 0");
}

#[test]
fn physical_interrupts_follow_their_binding() {
    let d = Fake::new(0, 2);
    assert_eq!(bind_pirq(&*d, 32, PirqSharing::Shared), Err(Errno::EINVAL));
    assert_eq!(bind_pirq(&*d, 31, PirqSharing::Shared), Err(Errno::EPERM));
    assert_eq!(pirq_port(&*d, 31), None);
    assert!(!raise_pirq(&*d, 9));
    let port = bind_pirq(&*d, 9, PirqSharing::Shared).unwrap();
    assert_eq!(port, 1, "the refusal gave its port back");
    assert_eq!(bind_pirq(&*d, 9, PirqSharing::Shared), Err(Errno::EEXIST));
    assert_eq!(pirq_port(&*d, 9), Some(port));
    assert_eq!(bind_vcpu(&*d, port, 1), Ok(()));
    assert_eq!(bind_vcpu(&*d, port, 1), Ok(()));
    assert_eq!(d.news(), [Told::BindPirq(9, 0), Told::RoutePirq(9, 1)]);
    assert!(raise_pirq(&*d, 9));
    assert_eq!(d.take_two_level(1), [port]);
    d.news();
    close(&*d, port).unwrap();
    assert_eq!(d.news(), [Told::UnbindPirq(9)]);
    assert!(!raise_pirq(&*d, 9));
}

#[test]
fn a_masked_event_waits_for_unmask() {
    let (a, b, near, far) = pair();
    b.set_masked(far);
    send(&*a, near).unwrap();
    assert!(b.news().is_empty());
    assert_eq!(is_pending(&*b, far), Ok(true));
    unmask(&*b, far).unwrap();
    assert_eq!(b.news(), [Told::Kick(0)]);
    assert_eq!(b.take_two_level(0), [far]);
    unmask(&*b, far).unwrap();
    assert!(b.news().is_empty(), "nothing is pending");
    assert_eq!(unmask(&*b, 1 << 17), Err(Errno::EINVAL));
    destroy(&a);
}

#[test]
fn the_32_bit_selector_leaves_the_flags_alone() {
    let limits = Limits {
        vcpus: 1,
        max_port: u32::MAX,
        pirqs: 0,
    };
    let d = Fake::with_limits(3, Layout::Bits32, limits);
    for _ in 0..40 {
        bind_ipi(&*d, 0).unwrap();
    }
    d.info[0][0].store(0x100, Ordering::SeqCst);
    send(&*d, 40).unwrap();
    assert_eq!(d.info[0][0].load(Ordering::SeqCst), 2 << 32 | 0x101);
    assert!(!upcall_due(&*d, 0), "masked");
    d.info[0][0].fetch_and(!0x100, Ordering::SeqCst);
    assert!(upcall_due(&*d, 0));
    assert_eq!(d.take_two_level(0), [40]);
    reraise(&*d, 0);
    assert_eq!(d.info[0][0].load(Ordering::SeqCst), !0 << 32 | 1);
    assert_eq!(d.info[0][1].load(Ordering::SeqCst), 0);
}

#[test]
fn reraise_selects_every_word_and_kicks() {
    let d = Fake::new(3, 1);
    reraise(&*d, 0);
    assert_eq!(d.info[0][1].load(Ordering::SeqCst), !0);
    assert!(upcall_due(&*d, 0));
    assert_eq!(d.news(), [Told::Kick(0)]);
}

#[test]
fn a_poller_is_woken_by_its_port_even_masked() {
    let d = Fake::new(0, 3);
    let (one, two) = (bind_ipi(&*d, 0).unwrap(), bind_ipi(&*d, 0).unwrap());
    d.set_masked(one);
    d.set_masked(two);
    assert_eq!(start_poll(&*d, 1, &[one]), Ok(PollStart::Wait));
    assert_eq!(start_poll(&*d, 2, &[one, two]), Ok(PollStart::Wait));
    send(&*d, two).unwrap();
    assert_eq!(d.news(), [Told::WakePoller(2)]);
    send(&*d, one).unwrap();
    assert_eq!(d.news(), [Told::WakePoller(1)]);
    assert_eq!(start_poll(&*d, 1, &[one]), Ok(PollStart::Ready));
    send(&*d, one).unwrap();
    assert!(d.news().is_empty(), "was pending already, and nobody polls");
}

#[test]
fn an_ended_or_refused_poll_is_not_woken() {
    let d = Fake::new(0, 2);
    let ipi = bind_ipi(&*d, 0).unwrap();
    d.set_masked(ipi);
    assert_eq!(start_poll(&*d, 1, &[]), Ok(PollStart::Wait));
    end_poll(&*d, 1);
    assert_eq!(start_poll(&*d, 1, &[ipi, 1 << 17]), Err(Errno::EINVAL));
    assert_eq!(start_poll(&*d, 2, &[ipi]), Err(Errno::ENOENT));
    send(&*d, ipi).unwrap();
    assert!(d.news().is_empty());
}

#[test]
fn our_own_ends_are_out_of_the_guests_reach() {
    let (a, b) = (Fake::new(0, 1), Fake::new(1, 2));
    let ours = alloc_unbound_internal(&*b, 1, 0, consumer(4)).unwrap();
    assert_eq!(close(&*b, ours), Err(Errno::EINVAL));
    assert_eq!(send(&*b, ours), Err(Errno::EINVAL));
    assert_eq!(status(&*b, ours), Err(Errno::EACCES));
    assert_eq!(bind_vcpu(&*b, ours, 0), Err(Errno::EINVAL));
    assert_eq!(free_internal(&*a, 1), Err(Errno::EINVAL));
    let near = bind_interdomain(&a, &b, ours).unwrap();
    a.take_two_level(0);
    send(&*a, near).unwrap();
    assert_eq!(b.news(), [Told::Consume(4, 1, ours)]);
    notify_internal(&*b, ours).unwrap();
    assert_eq!(a.take_two_level(0), [near]);
    assert_eq!(notify_internal(&*a, near), Err(Errno::EINVAL));
    while reset(&*b) == Progress::More {}
    assert_eq!(send(&*a, near), Ok(()));
    assert_eq!(b.news(), [Told::Consume(4, 1, ours)], "survives a reset");
    free_internal(&*b, ours).unwrap();
    assert_eq!(state(&a, near), Status::Unbound { remote: 1 });
    assert_eq!(state(&b, ours), Status::Closed);
}

#[test]
fn reset_closes_everything_in_steps() {
    let (a, b, near, _) = pair();
    for _ in 0..1000 {
        bind_ipi(&*b, 0).unwrap();
    }
    let mut steps = 1;
    while reset(&*b) == Progress::More {
        steps += 1;
    }
    assert!(steps >= 4, "{steps}");
    assert!((1..1001).all(|port| state(&b, port) == Status::Closed));
    assert_eq!(state(&a, near), Status::Unbound { remote: 1 });
    assert_eq!(alloc_unbound(&*b, 0), Ok(1));
}

#[test]
fn a_torn_down_domain_is_let_go_and_gets_no_more_ports() {
    let (a, b, near, _) = pair();
    let waiting = alloc_unbound(&*b, 0).unwrap();
    bind_pirq(&*b, 2, PirqSharing::Exclusive).unwrap();
    alloc_unbound_internal(&*b, 0, 0, consumer(1)).unwrap();
    destroy(&b);
    assert!(b.news().contains(&Told::UnbindPirq(2)));
    assert_eq!(Arc::strong_count(&b), 1);
    assert_eq!(Arc::strong_count(&a), 1);
    assert_eq!(state(&a, near), Status::Unbound { remote: 1 });
    assert_eq!(alloc_unbound(&*b, 0), Err(Errno::EINVAL));
    assert_eq!(bind_interdomain(&b, &a, near), Err(Errno::EINVAL));
    assert_eq!(bind_interdomain(&a, &b, waiting), Err(Errno::EINVAL));
    assert_eq!(init_control(&*b, 0, FIRST_GFN, 0), Err(Errno::EINVAL));
}

#[test]
fn status_fills_the_argument_of_the_hypercall() {
    let (a, b, near, far) = pair();
    bind_vcpu(&*b, far, 1).unwrap();
    let mut out = EvtchnStatus::default();
    status(&*b, far).unwrap().fill(&mut out);
    assert_eq!((out.status, out.vcpu, out.u), (2, 1, [0, near]));
    let cases = [
        (alloc_unbound(&*a, 9).unwrap(), (1, [9, 0])),
        (bind_pirq(&*a, 5, PirqSharing::Shared).unwrap(), (3, [5, 0])),
        (bind_virq(&*a, VIRQ_DEBUG, 0).unwrap(), (4, [1, 0])),
        (bind_ipi(&*a, 0).unwrap(), (5, [0, 0])),
        (0, (0, [0, 0])),
    ];
    for (port, expected) in cases {
        status(&*a, port).unwrap().fill(&mut out);
        assert_eq!((out.status, out.u), expected);
    }
    assert_eq!(status(&*a, 5000), Err(Errno::EINVAL));
    destroy(&a);
}

#[test]
fn the_dump_names_every_port_in_use() {
    let (a, b, near, far) = pair();
    send(&*a, near).unwrap();
    bind_virq(&*b, VIRQ_TIMER, 1).unwrap();
    let mut out = String::new();
    dump(&*b, &mut out).unwrap();
    assert!(out.contains("2-level"), "{out}");
    assert!(
        out.contains(&format!("{far:5} [1/0] v0 to d0 port {near}")),
        "{out}"
    );
    assert!(out.contains("[0/0] v1 virq 0"), "{out}");
    assert_eq!(out.lines().count(), 3, "{out}");
    destroy(&a);
}

#[test]
fn physical_interrupts_follow_a_vcpu_that_moves() {
    let d = Fake::new(1, 3);
    for (pirq, vcpu) in [(1, 0), (2, 1), (3, 1)] {
        let port = bind_pirq(&*d, pirq, PirqSharing::Shared).unwrap();
        bind_vcpu(&*d, port, vcpu).unwrap();
    }
    d.news();
    vcpu_moved(&*d, 1);
    assert_eq!(d.news(), [Told::RoutePirq(2, 1), Told::RoutePirq(3, 1)]);
    vcpu_moved(&*d, 2);
    assert_eq!(d.news(), []);
}
