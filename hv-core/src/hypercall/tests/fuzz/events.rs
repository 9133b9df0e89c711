//! Event channels of three domains, which also write their shared words and FIFO pages.

use xen_abi::event_channel::*;
use xen_abi::hypercall::__HYPERVISOR_event_channel_op;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromZeros, IntoBytes};

use super::engine::Answer;
use super::steps::{LIST, Step, World, step};
use crate::base::{DomId, Mfn};
use crate::events::{Progress, teardown};

/// The step that writes the shared info page.
const SHARED: u8 = 0xff;
/// The step that writes a page of one's own, which may be a FIFO's.
const PAGE: u8 = 0xfe;

/// Ports that are looked at afterwards.
const PORTS: u32 = 130;

/// The structure of an operation, as words.
fn words<T: IntoBytes + zerocopy::Immutable>(value: &T) -> Vec<u64> {
    let mut words = vec![0; size_of::<T>().div_ceil(8)];
    words.as_mut_bytes()[..size_of::<T>()].copy_from_slice(value.as_bytes());
    words
}

fn op<T: IntoBytes + zerocopy::Immutable>(who: u8, cmd: u32, value: &T) -> Vec<u8> {
    step(who, cmd as u8, (0, 0), &words(value))
}

/// A port of `who` for `other`.
fn unbound(who: u8, other: DomId) -> Vec<u8> {
    let request = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: other,
        port: 0,
    };
    op(who, EVTCHNOP_alloc_unbound, &request)
}

fn bind(who: u8, remote_dom: DomId, remote_port: u32) -> Vec<u8> {
    let request = EvtchnBindInterdomain {
        remote_dom,
        remote_port,
        ..EvtchnBindInterdomain::new_zeroed()
    };
    op(who, EVTCHNOP_bind_interdomain, &request)
}

/// Good sequences: channels between all, the domain's own, and the FIFO form.
pub fn corpus() -> Vec<Vec<u8>> {
    let send = |who, port| op(who, EVTCHNOP_send, &EvtchnSend { port });
    let close = |who, port| op(who, EVTCHNOP_close, &EvtchnClose { port });
    let between = [
        unbound(0, 1),
        bind(1, 0, 1),
        unbound(1, 2),
        bind(2, 1, 2),
        send(0, 1),
        send(1, 1),
        send(2, 1),
        op(1, EVTCHNOP_unmask, &EvtchnUnmask { port: 1 }),
        op(1, EVTCHNOP_bind_vcpu, &EvtchnBindVcpu { port: 1, vcpu: 1 }),
        close(1, 1),
        close(0, 1),
        op(2, EVTCHNOP_reset, &EvtchnReset { dom: DOMID_SELF }),
    ]
    .concat();
    let virq = |who, virq, vcpu| {
        let request = EvtchnBindVirq {
            virq,
            vcpu,
            port: 0,
        };
        op(who, EVTCHNOP_bind_virq, &request)
    };
    let own = [
        virq(1, 0, 0),
        virq(1, 0, 1),
        virq(0, 3, 0),
        op(1, EVTCHNOP_bind_ipi, &EvtchnBindIpi { vcpu: 1, port: 0 }),
        op(
            0,
            EVTCHNOP_bind_pirq,
            &EvtchnBindPirq {
                pirq: 9,
                flags: 0,
                port: 0,
            },
        ),
        step(1, SHARED, (0x100, 0), &[0, u64::MAX]),
        send(1, 3),
        close(1, 1),
        unbound(2, 2),
        bind(2, 2, 1),
        send(2, 1),
    ]
    .concat();
    vec![between, own, fifo()]
}

/// A domain that takes the FIFO form with its first pages.
fn fifo() -> Vec<u8> {
    let world = World::new();
    let page = |index: usize| world.pages[1][index].0;
    let control = |vcpu: u32, page: u64, offset: u32| EvtchnInitControl {
        control_gfn: page,
        offset,
        vcpu,
        ..EvtchnInitControl::new_zeroed()
    };
    let expand = |page: u64| EvtchnExpandArray { array_gfn: page };
    let priority = EvtchnSetPriority {
        port: 1,
        priority: 2,
    };
    [
        op(1, EVTCHNOP_init_control, &control(0, page(0), 0)),
        op(1, EVTCHNOP_init_control, &control(1, page(1), 512)),
        op(1, EVTCHNOP_expand_array, &expand(page(2))),
        op(1, EVTCHNOP_bind_ipi, &EvtchnBindIpi { vcpu: 1, port: 0 }),
        op(1, EVTCHNOP_bind_ipi, &EvtchnBindIpi { vcpu: 0, port: 0 }),
        op(1, EVTCHNOP_set_priority, &priority),
        op(1, EVTCHNOP_send, &EvtchnSend { port: 1 }),
        step(1, PAGE, (2, 0), &[0, 1 << 31 | 5, 1 << 30]),
        op(1, EVTCHNOP_send, &EvtchnSend { port: 2 }),
        op(1, EVTCHNOP_send, &EvtchnSend { port: 1 }),
        op(1, EVTCHNOP_unmask, &EvtchnUnmask { port: 1 }),
        op(1, EVTCHNOP_close, &EvtchnClose { port: 1 }),
        op(1, EVTCHNOP_reset, &EvtchnReset { dom: DOMID_SELF }),
    ]
    .concat()
}

/// The steps, and whether both ends of each channel agree; then everything goes.
pub fn run(input: &[u8]) -> Answer {
    let mut world = World::new();
    let before = references(&world);
    let answer = world.run(input, act);
    agree(&mut world);
    for domain in &world.domains {
        while teardown(&**domain) == Progress::More {}
    }
    assert_eq!(references(&world), before, "pages are held no more");
    answer
}

fn act(w: &mut World, step: &Step) {
    match step.what {
        SHARED => w.poke(w.domains[step.who].shared_info, step.a, &step.words),
        PAGE => {
            let pages = &w.pages[step.who];
            w.poke(
                pages[usize::from(step.a) % pages.len()],
                step.b,
                &step.words,
            );
        }
        command => {
            w.f.put(LIST, step.words.as_slice());
            let _ = w.call(
                __HYPERVISOR_event_channel_op,
                [command.into(), LIST, 0, 0, 0, 0],
            );
        }
    }
}

fn references(w: &World) -> Vec<u64> {
    let of = |page: &Mfn| w.f.machine.frame_of(*page).references();
    w.pages.iter().flatten().map(of).collect()
}

/// What dom0 is told of a port.
fn status(w: &mut World, dom: DomId, port: u32) -> Option<EvtchnStatus> {
    w.f.caller = w.domains[0].clone();
    let question = EvtchnStatus {
        dom,
        port,
        ..EvtchnStatus::new_zeroed()
    };
    w.f.put(LIST, &question);
    let args = [EVTCHNOP_status.into(), LIST, 0, 0, 0, 0];
    w.call(__HYPERVISOR_event_channel_op, args).ok()?;
    Some(w.f.get(LIST))
}

fn agree(w: &mut World) {
    w.f.host.preempt_every(u32::MAX);
    let ids: Vec<_> = w.domains.iter().map(|d| d.id).collect();
    for &dom in &ids {
        for port in 1..PORTS {
            let Some(here) = status(w, dom, port) else {
                continue;
            };
            if here.status != EVTCHNSTAT_interdomain {
                continue;
            }
            let (peer, its_port) = (here.u[0] as DomId, here.u[1]);
            let there = status(w, peer, its_port).expect("the other end is there");
            assert_eq!(there.status, EVTCHNSTAT_interdomain);
            assert_eq!((there.u[0] as DomId, there.u[1]), (dom, port));
        }
    }
}
