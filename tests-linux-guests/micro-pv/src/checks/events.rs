//! event_channel_op, and the delivery of events.

use xen_abi::errno::Errno::*;
use xen_abi::event_channel::*;
use xen_abi::hypercall::__HYPERVISOR_event_channel_op;
use xen_abi::xen::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{bad, upcall};
use crate::call::{hypercall, with};
use crate::kernel::{self, Role};
use crate::report::{holds, result, same};
use crate::{console, memory};

/// An operation: its result and the structure afterwards.
pub fn op<T: FromBytes + IntoBytes + Immutable>(command: u32, value: &T) -> (i64, T) {
    with(__HYPERVISOR_event_channel_op, command, value)
}

/// Binds a port of this vCPU to itself.
pub fn ipi(vcpu: u32) -> (i64, u32) {
    let (code, bound) = op(EVTCHNOP_bind_ipi, &EvtchnBindIpi { vcpu, port: 0 });
    (code, bound.port)
}

/// Closes a port.
pub fn close(port: u32) -> i64 {
    op(EVTCHNOP_close, &EvtchnClose { port }).0
}

/// Sends to a port.
pub fn send(port: u32) -> i64 {
    op(EVTCHNOP_send, &EvtchnSend { port }).0
}

/// Binds a virtual interrupt.
pub fn virq(virq: u32, vcpu: u32) -> (i64, u32) {
    let request = EvtchnBindVirq {
        virq,
        vcpu,
        port: 0,
    };
    let (code, bound) = op(EVTCHNOP_bind_virq, &request);
    (code, bound.port)
}

/// What a port is.
pub fn status(dom: u16, port: u32) -> (i64, EvtchnStatus) {
    let request = EvtchnStatus {
        dom,
        port,
        ..EvtchnStatus::default()
    };
    op(EVTCHNOP_status, &request)
}

/// Ports that do not exist.
const PORTS: [u32; 8] = [
    0,
    60,
    4095,
    4096,
    131_071,
    131_072,
    0x7fff_ffff,
    0xffff_ffff,
];

/// Operations on ports and domains that do not exist.
pub fn refused() {
    for command in [15, 16, 99, u32::MAX] {
        let got = hypercall(__HYPERVISOR_event_channel_op, [command.into(), 0]);
        result(format_args!("operation {command}"), got, ENOSYS);
    }
    for command in 0..14_u64 {
        for (kind, pointer) in bad::POINTERS {
            let got = hypercall(__HYPERVISOR_event_channel_op, [command, *pointer]);
            result(
                format_args!("operation {command}, {kind} pointer"),
                got,
                EFAULT,
            );
        }
    }
    for port in PORTS {
        result(format_args!("close {port}"), close(port), EINVAL);
        result(format_args!("send to {port}"), send(port), EINVAL);
        let got = op(EVTCHNOP_unmask, &EvtchnUnmask { port }).0;
        result(format_args!("unmask {port}"), got, unmask_answer(port));
        let got = op(EVTCHNOP_bind_vcpu, &EvtchnBindVcpu { port, vcpu: 0 }).0;
        result(format_args!("bind {port} to a vCPU"), got, EINVAL);
        let priority = EvtchnSetPriority { port, priority: 1 };
        let got = op(EVTCHNOP_set_priority, &priority).0;
        result(
            format_args!("priority of {port} without FIFO"),
            got,
            priority_answer(port),
        );
        let (code, status) = status(DOMID_SELF, port);
        let exists = i64::from(port < 128);
        result(
            format_args!("status of {port}"),
            code,
            if exists == 1 { 0 } else { EINVAL.to_ret() },
        );
        same(
            format_args!("status of {port} itself"),
            status.status,
            EVTCHNSTAT_closed,
        );
    }
    domains();
}

/// A port within the table can be unmasked though nothing is bound to it.
fn unmask_answer(port: u32) -> i64 {
    if port < 128 { 0 } else { EINVAL.to_ret() }
}

fn priority_answer(port: u32) -> i64 {
    if port < 128 {
        ENOSYS.to_ret()
    } else {
        EINVAL.to_ret()
    }
}

fn domains() {
    for dom in [0x6fff, 0x7fef, 0x7ff1, 0x7ff2, 0x7ff4, 0x7fff, 0xffff] {
        let unbound = EvtchnAllocUnbound {
            dom,
            remote_dom: DOMID_SELF,
            port: 0,
        };
        let got = op(EVTCHNOP_alloc_unbound, &unbound).0;
        result(format_args!("alloc_unbound in {dom:#x}"), got, ESRCH);
        let bind = EvtchnBindInterdomain {
            remote_dom: dom,
            remote_port: 1,
            ..EvtchnBindInterdomain::default()
        };
        let got = op(EVTCHNOP_bind_interdomain, &bind).0;
        result(format_args!("bind_interdomain to {dom:#x}"), got, ESRCH);
        result(format_args!("status in {dom:#x}"), status(dom, 1).0, ESRCH);
        let got = op(EVTCHNOP_reset, &EvtchnReset { dom }).0;
        result(format_args!("reset of {dom:#x}"), got, ESRCH);
    }
    for remote_port in PORTS {
        let bind = EvtchnBindInterdomain {
            remote_dom: DOMID_SELF,
            remote_port,
            ..EvtchnBindInterdomain::default()
        };
        let got = op(EVTCHNOP_bind_interdomain, &bind).0;
        result(
            format_args!("bind_interdomain to port {remote_port}"),
            got,
            EINVAL,
        );
    }
}

/// Virtual interrupts, IPIs and pIRQs.
pub fn bind() {
    for number in [24, 25, 64, u32::MAX] {
        result(
            format_args!("bind VIRQ {number}"),
            virq(number, 0).0,
            EINVAL,
        );
    }
    for vcpu in [8, 32, 4096, u32::MAX] {
        result(
            format_args!("bind a VIRQ on vCPU {vcpu}"),
            virq(VIRQ_TIMER, vcpu).0,
            ENOENT,
        );
        result(
            format_args!("bind an IPI on vCPU {vcpu}"),
            ipi(vcpu).0,
            ENOENT,
        );
    }
    for (number, name) in [
        (VIRQ_TIMER, "VIRQ_TIMER"),
        (VIRQ_DEBUG, "VIRQ_DEBUG"),
        (VIRQ_DOM_EXC, "VIRQ_DOM_EXC"),
    ] {
        let (code, port) = virq(number, 0);
        result(format_args!("bind {name}"), code, 0);
        result(format_args!("bind {name} twice"), virq(number, 0).0, EEXIST);
        let (code, status) = status(DOMID_SELF, port);
        let seen = (code, status.status, status.vcpu, status.u[0]);
        same(
            format_args!("status of {name}"),
            seen,
            (0, EVTCHNSTAT_virq, 0, number),
        );
        result(format_args!("send to {name}"), send(port), EINVAL);
        result(format_args!("close {name}"), close(port), 0);
        result(format_args!("close {name} twice"), close(port), EINVAL);
    }
    let (_, global) = virq(VIRQ_DOM_EXC, 0);
    let vcpu = |port: u32, vcpu: u32| op(EVTCHNOP_bind_vcpu, &EvtchnBindVcpu { port, vcpu }).0;
    result("a global VIRQ to vCPU 0", vcpu(global, 0), 0);
    result("a global VIRQ to vCPU 9", vcpu(global, 9), ENOENT);
    result("a global VIRQ to vCPU -1", vcpu(global, u32::MAX), ENOENT);
    close(global);
    result("a global VIRQ on vCPU 1", virq(VIRQ_DOM_EXC, 1).0, EINVAL);
    let (_, timer) = virq(VIRQ_TIMER, 0);
    result("a timer to vCPU 0", vcpu(timer, 0), EINVAL);
    close(timer);
    pirqs();
}

fn pirqs() {
    let bind = |pirq: u32, flags: u32| {
        let request = EvtchnBindPirq {
            pirq,
            flags,
            port: 0,
        };
        op(EVTCHNOP_bind_pirq, &request).0
    };
    for pirq in [4096, 0x7fff_ffff, u32::MAX] {
        result(format_args!("bind pIRQ {pirq}"), bind(pirq, 0), EINVAL);
    }
    result("bind a pIRQ of the hypervisor", bind(0, 0), EPERM);
    result("bind a pIRQ that is not mapped", bind(200, 0), EPERM);
}

/// Ports between domains: here both ends are ours.
pub fn loopback() {
    let unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    let (code, near) = op(EVTCHNOP_alloc_unbound, &unbound);
    result("alloc_unbound", code, 0);
    let near = near.port;
    same(
        "its status",
        status(DOMID_SELF, near).1.status,
        EVTCHNSTAT_unbound,
    );
    result("send to it", send(near), 0);
    let bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: near,
        ..EvtchnBindInterdomain::default()
    };
    let (code, far) = op(EVTCHNOP_bind_interdomain, &bind);
    result("bind to it", code, 0);
    let far = far.local_port;
    result(
        "bind to it twice",
        op(EVTCHNOP_bind_interdomain, &bind).0,
        EINVAL,
    );
    // The binding itself raises an event on both ends, lest one was lost.
    holds("the new end fired", upcall::is_pending(far), "nothing");
    upcall::clear_pending(near);
    upcall::clear_pending(far);
    result("send by one end", send(near), 0);
    same(
        "the other fires",
        (upcall::is_pending(near), upcall::is_pending(far)),
        (false, true),
    );
    upcall::clear_pending(far);
    let seen = status(DOMID_SELF, near).1;
    same(
        "status of one end",
        (seen.status, seen.u[1]),
        (EVTCHNSTAT_interdomain, far),
    );
    result("close one end", close(near), 0);
    same(
        "the other is unbound",
        status(DOMID_SELF, far).1.status,
        EVTCHNSTAT_unbound,
    );
    result("close the other", close(far), 0);
    strangers();
    upcall::collect();
}

/// A port that is another's to bind to.
fn strangers() {
    let stranger = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: 77,
        port: 0,
    };
    let (code, port) = op(EVTCHNOP_alloc_unbound, &stranger);
    result("alloc_unbound for a domain that is not there", code, 0);
    let bind = EvtchnBindInterdomain {
        remote_dom: DOMID_SELF,
        remote_port: port.port,
        ..EvtchnBindInterdomain::default()
    };
    result(
        "bind to another's port",
        op(EVTCHNOP_bind_interdomain, &bind).0,
        EINVAL,
    );
    close(port.port);
}

/// Masks what dom0 sends to a domU whenever it likes, for its console and for xenstore, or lets it come again.
fn mask_daemons(masked: u64) {
    if kernel::role() == Role::DomU {
        for port in [console::port(), memory::start_info().store_evtchn] {
            upcall::set_port_mask(port, masked);
        }
    }
}

/// Delivery: mask, unmask, hold and release.
pub fn delivery() {
    mask_daemons(1);
    let (_, port) = ipi(0);
    upcall::release();
    upcall::collect();
    upcall::fired(port);
    upcall::upcalls();
    upcall::set_port_mask(port, 0);
    result("send with events on", send(port), 0);
    same(
        "it came at once",
        (upcall::fired(port), upcall::upcalls()),
        (1, 1),
    );
    upcall::hold();
    result("send with events held", send(port), 0);
    result("send again", send(port), 0);
    same("nothing came", upcall::fired(port), 0);
    upcall::release();
    same(
        "it came once",
        (upcall::fired(port), upcall::upcalls()),
        (1, 1),
    );
    upcall::set_port_mask(port, 1);
    result("send to a masked port", send(port), 0);
    same(
        "nothing came while masked",
        (upcall::fired(port), upcall::is_pending(port)),
        (0, true),
    );
    let unmask = EvtchnUnmask { port };
    result("unmask it", op(EVTCHNOP_unmask, &unmask).0, 0);
    same("it came on unmasking", upcall::fired(port), 1);
    result("unmask it again", op(EVTCHNOP_unmask, &unmask).0, 0);
    same("nothing more came", upcall::fired(port), 0);
    upcall::hold();
    send(port);
    result("close with an event pending", close(port), 0);
    holds(
        "it is pending no more",
        !upcall::is_pending(port),
        "pending",
    );
    upcall::release();
    same("nothing came after closing", upcall::fired(port), 0);
    upcall::hold();
    mask_daemons(0);
    upcall::collect();
    upcall::upcalls();
}

/// As many ports as there may be.
pub fn many() {
    let mut bound = 0;
    let (mut first, mut last) = (0, 0);
    let code = loop {
        let (code, port) = ipi(0);
        if code != 0 || bound > 5000 {
            break code;
        }
        if bound == 0 {
            first = port;
        }
        bound += 1;
        last = port;
    };
    result("one port too many", code, ENOSPC);
    holds("how many there are", bound > 4000 && last == 4095, bound);
    let closed = (first..=last).filter(|port| close(*port) == 0).count();
    same("all are closed again", closed, bound);
}
