//! FIFO event channels. The reset at the end goes back to the two-level kind.

use xen_abi::errno::Errno::*;
use xen_abi::event_channel::*;
use xen_abi::xen::DOMID_SELF;

use super::bad;
use super::events::{close, ipi, op, send, status};
use crate::memory::{PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE};

fn init(control_gfn: u64, offset: u32, vcpu: u32) -> (i64, u8) {
    let request = EvtchnInitControl {
        control_gfn,
        offset,
        vcpu,
        ..EvtchnInitControl::default()
    };
    let (code, answer) = op(EVTCHNOP_init_control, &request);
    (code, answer.link_bits)
}

fn expand(array_gfn: u64) -> i64 {
    op(EVTCHNOP_expand_array, &EvtchnExpandArray { array_gfn }).0
}

/// All of it.
pub fn check() {
    let control = Page::take();
    let array = Page::take();
    let gfn = control.machine();
    result(
        "expand_array before init_control",
        expand(array.machine()),
        EOPNOTSUPP,
    );
    for (owner, frame) in bad::frames() {
        result(
            format_args!("control block {owner}"),
            init(frame, 0, 0).0,
            EINVAL,
        );
    }
    for offset in [4, 7, 4095, 4096 - 64, 4088, 4096, 0x8000_0000, u32::MAX - 7] {
        result(
            format_args!("offset {offset:#x}"),
            init(gfn, offset, 0).0,
            EINVAL,
        );
    }
    for vcpu in [8, 64, u32::MAX] {
        result(format_args!("vCPU {vcpu}"), init(gfn, 0, vcpu).0, ENOENT);
    }
    tables::protect(control, READ_ONLY);
    result("pin as a table", tables::extended(0, gfn, 0), 0);
    result("control block in a page table", init(gfn, 0, 0).0, EINVAL);
    tables::release(control);
    let port = ipi(0).1;
    same("init_control", init(gfn, 0, 0), (0, 17));
    result("init_control twice", init(gfn, 128, 0).0, EINVAL);
    for (owner, frame) in bad::frames() {
        result(format_args!("array page {owner}"), expand(frame), EINVAL);
    }
    result("expand_array", expand(array.machine()), 0);
    result("expand_array once more", expand(array.machine()), 0);
    queue(control, array, port);
    priority(control, array, port);
    let (code, _) = op(EVTCHNOP_reset, &EvtchnReset { dom: DOMID_SELF });
    result("reset", code, 0);
    same(
        "the port is closed",
        status(DOMID_SELF, port).1.status,
        EVTCHNSTAT_closed,
    );
    result(
        "expand_array after the reset",
        expand(array.machine()),
        EOPNOTSUPP,
    );
    result("writable to the end", tables::protect(array, WRITABLE), 0);
    control.give_back();
    array.give_back();
}

fn word(array: &Page, port: u32) -> u32 {
    array.get(u64::from(port) * 4)
}

fn queue(control: &Page, array: &Page, port: u32) {
    array.put(u64::from(port) * 4, &0_u32);
    result("send", send(port), 0);
    let seen = word(array, port);
    holds("pending and linked", seen >> 29 == 0b101, seen);
    let block: EvtchnFifoControlBlock = control.get(0);
    same("the queue's head", block.head[7], port);
    same("the ready bits", block.ready, 1 << 7);
    result("send again", send(port), 0);
    same("nothing changes", word(array, port), seen);
    array.put(u64::from(port) * 4, &(1_u32 << EVTCHN_FIFO_MASKED));
    result("send while masked", send(port), 0);
    same(
        "pending, masked, not linked",
        word(array, port) >> 29,
        0b110,
    );
    // Nonsense in a word is the guest's own loss.
    for nonsense in [u32::MAX, 0x3fff_ffff, 1 << 28, 0x1fff_ffff] {
        array.put(u64::from(port) * 4, &nonsense);
        result(
            format_args!("send with the word {nonsense:#x}"),
            send(port),
            0,
        );
    }
    let mut block: EvtchnFifoControlBlock = control.get(0);
    block.head = [u32::MAX; 16];
    block.ready = u32::MAX;
    control.put(0, &block);
    array.put(u64::from(port) * 4, &0_u32);
    result("send with nonsense in the control block", send(port), 0);
    control.clear();
    array.clear();
    let other = ipi(0).1;
    result("send to a second port", send(other), 0);
    result("close it while it is linked", close(other), 0);
    control.clear();
    for index in 0..PAGE / 4 {
        array.put(index * 4, &0_u32);
    }
}

fn priority(control: &Page, array: &Page, port: u32) {
    let set = |port: u32, priority: u32| {
        op(EVTCHNOP_set_priority, &EvtchnSetPriority { port, priority }).0
    };
    for priority in [16, 17, 255, u32::MAX] {
        result(
            format_args!("priority {priority}"),
            set(port, priority),
            EINVAL,
        );
    }
    for port in [4096, 131_072, u32::MAX] {
        result(
            format_args!("priority of port {port}"),
            set(port, 1),
            EINVAL,
        );
    }
    result("priority 0", set(port, 0), 0);
    array.put(u64::from(port) * 4, &0_u32);
    control.clear();
    result("send at priority 0", send(port), 0);
    let block: EvtchnFifoControlBlock = control.get(0);
    same("the ready bits at priority 0", block.ready & 1, 1);
}
