//! More events and timers than anybody wants.

use xen_abi::event_channel::*;
use xen_abi::hypercall::__HYPERVISOR_set_timer_op;
use xen_abi::vcpu::{VCPUOP_set_periodic_timer, VCPUOP_stop_periodic_timer, VcpuSetPeriodicTimer};
use xen_abi::xen::{DOMID_SELF, VIRQ_TIMER};

use crate::call::hypercall;
use crate::checks::{clock, events, timers, upcall, vcpu};
use crate::report::{holds, result, same};
use crate::store::Store;
use crate::{console, memory};

/// Events of each kind.
const MANY: u32 = 100_000;

/// Events to ourselves, to xenstored and to xenconsoled.
pub fn events() {
    let unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    let (code, near) = events::op(EVTCHNOP_alloc_unbound, &unbound);
    result("a port", code, 0);
    let bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: near.port,
        ..EvtchnBindInterdomain::default()
    };
    let (code, far) = events::op(EVTCHNOP_bind_interdomain, &bind);
    result("its other end", code, 0);
    let store = memory::start_info().store_evtchn;
    for (name, port) in [
        ("to ourselves", near.port),
        ("back", far.local_port),
        ("to xenstored", store),
        ("to xenconsoled", console::port()),
    ] {
        let sent = (0..MANY).filter(|_| events::send(port) == 0).count();
        same(format_args!("events {name}"), sent, MANY as usize);
    }
    upcall::collect();
    let known = Store::attach().domain().is_ok();
    holds("xenstore still answers", known, "nothing");
    let ports = (0..4096).filter(|port| events::send(*port) == 0).count();
    holds("ports that take events", ports <= 4, ports);
    let strangers = (0..256).filter(|port| {
        let bind = EvtchnBindInterdomain {
            remote_dom: 0,
            remote_port: *port,
            ..EvtchnBindInterdomain::default()
        };
        events::op(EVTCHNOP_bind_interdomain, &bind).0 == 0
    });
    same("ports of dom0 that are not for us", strangers.count(), 0);
}

/// Timers as short as they may be, all at once, set again and again.
pub fn timers() {
    let (code, port) = events::virq(VIRQ_TIMER, 0);
    result("the timer's port", code, 0);
    upcall::set_port_mask(port, 0);
    upcall::release();
    let periodic = |period_ns: u64| {
        let timer = VcpuSetPeriodicTimer { period_ns };
        vcpu::op(VCPUOP_set_periodic_timer, 0, &timer).0
    };
    use xen_abi::errno::Errno::EINVAL;
    result("a period of nothing", periodic(0), EINVAL);
    result("a period of a nanosecond", periodic(1), EINVAL);
    result("a period without end", periodic(u64::MAX), EINVAL);
    result("a period of a millisecond", periodic(1_000_000), 0);
    let mut refused = 0_u32;
    for round in 0..u64::from(MANY) {
        let soon = clock::now() + round % 7 * 500;
        refused += u32::from(timers::singleshot(soon, 0) != 0);
        let past = if round % 3 == 0 { 1 } else { soon };
        refused += u32::from(hypercall(__HYPERVISOR_set_timer_op, [past]) != 0);
    }
    same("timers that were refused", refused, 0);
    upcall::hold();
    holds("the timer came", upcall::fired(port) > 0, "never");
    result("stop", vcpu::raw(VCPUOP_stop_periodic_timer, 0, 0), 0);
    result("close its port", events::close(port), 0);
    holds(
        "xenstore still answers",
        Store::attach().domain().is_ok(),
        "nothing",
    );
}
