//! Timers, the clock, and sched_op.

use xen_abi::GuestHandle;
use xen_abi::errno::Errno::*;
use xen_abi::hypercall::*;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::xen::*;

use super::{bad, clock, events, upcall, vcpu};
use crate::call::{hypercall, send};
use crate::kernel;
use crate::memory::{self, Page};
use crate::report::{either, holds, optional, result, same};

/// Ten milliseconds.
const LONG: u64 = 10_000_000;

/// Arms the one-shot timer of this vCPU.
pub fn singleshot(timeout_abs_ns: u64, flags: u32) -> i64 {
    let request = VcpuSetSingleshotTimer {
        timeout_abs_ns,
        flags,
        ..VcpuSetSingleshotTimer::default()
    };
    vcpu::op(VCPUOP_set_singleshot_timer, 0, &request).0
}

fn old_timer(at: u64) -> i64 {
    hypercall(__HYPERVISOR_set_timer_op, [at])
}

/// Blocks until an event comes.
pub fn block() -> i64 {
    hypercall(__HYPERVISOR_sched_op, [SCHEDOP_block.into(), 0])
}

/// Blocks for this many nanoseconds, by the timer.
pub fn block_for(nanoseconds: u64) {
    let (_, port) = events::virq(VIRQ_TIMER, 0);
    upcall::set_port_mask(port, 0);
    upcall::collect();
    upcall::hold();
    singleshot(clock::now() + nanoseconds, 0);
    block_on(port);
    upcall::collect();
    events::close(port);
}

/// Blocks until this port has fired, whatever else happens meanwhile; how often it did. Events are held off then.
fn block_on(port: u32) -> u32 {
    loop {
        upcall::hold();
        let count = upcall::fired(port);
        if count != 0 {
            return count;
        }
        block();
    }
}

/// Waits without blocking.
fn spin(nanoseconds: u64) {
    let end = clock::now() + nanoseconds;
    while clock::now() < end {}
}

/// A vCPU starts with a periodic timer of 10 ms.
pub fn first() {
    let (_, port) = events::virq(VIRQ_TIMER, 0);
    upcall::set_port_mask(port, 0);
    upcall::release();
    upcall::fired(port);
    spin(10 * LONG);
    let count = upcall::fired(port);
    holds("it fires by itself", (2..=12).contains(&count), count);
    upcall::hold();
    events::close(port);
}

/// Stops the timer that a vCPU starts with.
pub fn stop_periodic() -> i64 {
    vcpu::raw(VCPUOP_stop_periodic_timer, 0, 0)
}

/// The one-shot timers.
pub fn shots() {
    let (code, port) = events::virq(VIRQ_TIMER, 0);
    result("bind the timer", code, 0);
    upcall::set_port_mask(port, 0);
    upcall::release();
    upcall::fired(port);
    for (name, set) in [
        ("singleshot", (|at| singleshot(at, 0)) as fn(u64) -> i64),
        ("set_timer_op", old_timer),
    ] {
        let at = clock::now() + LONG;
        result(format_args!("{name} in the future"), set(at), 0);
        same(format_args!("{name}: nothing yet"), upcall::fired(port), 0);
        same(format_args!("{name}: it fired"), block_on(port), 1);
        upcall::release();
        let late = upcall::last().wrapping_sub(at) as i64;
        holds(format_args!("{name}: not early"), late > -50_000, late);
        spin(2 * LONG);
        same(format_args!("{name}: only once"), upcall::fired(port), 0);
        let past = clock::now() - LONG;
        result(format_args!("{name} in the past"), set(past), 0);
        spin(LONG / 10);
        same(
            format_args!("{name}: it fired at once"),
            upcall::fired(port),
            1,
        );
        result(
            format_args!("{name} far away"),
            set(clock::now() + (1 << 50)),
            0,
        );
        spin(LONG / 10);
        same(
            format_args!("{name}: it did not fire"),
            upcall::fired(port),
            0,
        );
    }
    result("stop by set_timer_op", old_timer(0), 0);
    // 4.17 knows the flag no more: a time in the past fires.
    result("past with the flag", singleshot(1, VCPU_SSHOTTMR_future), 0);
    spin(LONG / 10);
    same("it fired at once", upcall::fired(port), 1);
    stopped(port);
    periodic(port);
    result("close the timer", events::close(port), 0);
    upcall::hold();
}

/// A timer that is stopped, and another vCPU's.
fn stopped(port: u32) {
    singleshot(clock::now() + LONG, 0);
    let stop = || vcpu::raw(VCPUOP_stop_singleshot_timer, 0, 0);
    result("stop", stop(), 0);
    result("stop twice", stop(), 0);
    spin(2 * LONG);
    same("a stopped one does not fire", upcall::fired(port), 0);
    let request = VcpuSetSingleshotTimer {
        timeout_abs_ns: 1,
        ..VcpuSetSingleshotTimer::default()
    };
    let other = vcpu::op(VCPUOP_set_singleshot_timer, 1, &request).0;
    result("the other vCPU's timer", other, EINVAL);
    result(
        "stop the other's",
        vcpu::raw(VCPUOP_stop_singleshot_timer, 1, 0),
        EINVAL,
    );
}

fn periodic(port: u32) {
    let set = |period_ns: u64| {
        let request = VcpuSetPeriodicTimer { period_ns };
        vcpu::op(VCPUOP_set_periodic_timer, 0, &request).0
    };
    for period in [0, 1, 999_999, 1 << 63, u64::MAX] {
        result(format_args!("a period of {period:#x}"), set(period), EINVAL);
    }
    upcall::fired(port);
    result("a period of 2 ms", set(2_000_000), 0);
    spin(3 * LONG);
    let count = upcall::fired(port);
    holds("it fires again and again", (2..=18).contains(&count), count);
    result("stop it", stop_periodic(), 0);
    upcall::fired(port);
    spin(LONG);
    same("it is quiet", upcall::fired(port), 0);
}

/// The paravirtual clock.
pub fn time() {
    let record = clock::record();
    holds(
        "the factor",
        record.tsc_to_system_mul != 0,
        record.tsc_to_system_mul,
    );
    holds(
        "the shift",
        (-31..=31).contains(&record.tsc_shift),
        record.tsc_shift,
    );
    let mut before = clock::now();
    let mut backward = 0;
    for _ in 0..20_000 {
        let now = clock::now();
        backward += u32::from(now < before);
        before = now;
    }
    same("it never goes back", backward, 0);
    let start = clock::now();
    block_for(20_000_000);
    let waited = clock::now() - start;
    holds(
        "20 ms are 20 ms",
        (19_000_000..500_000_000).contains(&waited),
        waited,
    );
    let wall = |offset: usize| memory::read::<u32>(kernel::shared_info() + offset as u64);
    let seconds = wall(SHARED_INFO_WC_SEC);
    holds("the wall clock", seconds > 1_600_000_000, seconds);
    same("its version", wall(SHARED_INFO_WC_VERSION) & 1, 0);
    holds(
        "its nanoseconds",
        wall(SHARED_INFO_WC_NSEC) < 1_000_000_000,
        "more",
    );
}

/// Waits for an event on this port, or for this time; its pending bit stays.
pub fn poll_port(port: u32, until: u64) -> i64 {
    let ports = Page::take();
    ports.put(0, &port);
    let result = poll(ports.address(), 1, until);
    ports.give_back();
    result
}

fn poll(ports: u64, nr_ports: u32, timeout: u64) -> i64 {
    let request = SchedPoll {
        ports: GuestHandle::new(ports),
        nr_ports,
        timeout,
        ..SchedPoll::default()
    };
    send(__HYPERVISOR_sched_op, SCHEDOP_poll, &request)
}

/// sched_op.
pub fn sched() {
    let raw = |op: u32, at: u64| hypercall(__HYPERVISOR_sched_op, [op.into(), at]);
    result("yield", raw(SCHEDOP_yield, 0), 0);
    for op in [8, 9, 99, u32::MAX] {
        result(format_args!("operation {op}"), raw(op, 0), ENOSYS);
    }
    for op in [
        SCHEDOP_shutdown,
        SCHEDOP_poll,
        SCHEDOP_remote_shutdown,
        SCHEDOP_shutdown_code,
        SCHEDOP_watchdog,
        SCHEDOP_pin_override,
    ] {
        for (kind, pointer) in bad::POINTERS {
            let name = format_args!("operation {op}, {kind} pointer");
            optional(name, raw(op, *pointer), EFAULT);
        }
    }
    let (_, port) = events::ipi(0);
    upcall::hold();
    upcall::set_port_mask(port, 0);
    events::send(port);
    result("block with an event waiting", block(), 0);
    upcall::hold();
    upcall::collect();
    events::close(port);
    for domain_id in [0x6fff, 0x7fef, 0x7ff4, 0xffff] {
        let request = SchedRemoteShutdown {
            domain_id,
            ..SchedRemoteShutdown::default()
        };
        let code = send(__HYPERVISOR_sched_op, SCHEDOP_remote_shutdown, &request);
        result(
            format_args!("remote_shutdown of {domain_id:#x}"),
            code,
            ESRCH,
        );
    }
    watchdog();
    for pcpu in [1, 8, 4096, i32::MAX, i32::MIN] {
        let request = SchedPinOverride { pcpu };
        let code = send(__HYPERVISOR_sched_op, SCHEDOP_pin_override, &request);
        optional(format_args!("pin_override {pcpu}"), code, EINVAL);
    }
    for pcpu in [0, -1] {
        let request = SchedPinOverride { pcpu };
        let code = send(__HYPERVISOR_sched_op, SCHEDOP_pin_override, &request);
        optional(format_args!("pin_override {pcpu}"), code, 0);
    }
    polls();
}

fn watchdog() {
    let set = |id: u32, timeout: u32| {
        let request = SchedWatchdog { id, timeout };
        send(__HYPERVISOR_sched_op, SCHEDOP_watchdog, &request)
    };
    for id in [3, 4, 255, u32::MAX] {
        optional(format_args!("watchdog {id}"), set(id, 100), EINVAL);
    }
    optional("a watchdog that is not set", set(1, 100), EINVAL);
    optional("set a watchdog", set(0, 1000), 1);
    optional("set another", set(0, 1000), 2);
    // Xen returns this error as an unsigned 32-bit number.
    let third = set(0, 1000);
    let third = if third == ENOSPC.to_ret() {
        0xffff_ffe4
    } else {
        third
    };
    optional("set a third", third, 0xffff_ffe4);
    optional("renew the first", set(1, 1000), 0);
    optional("stop the first", set(1, 0), 0);
    optional("stop the second", set(2, 0), 0);
}

fn polls() {
    let page = Page::take();
    let at = page.address();
    let (_, port) = events::ipi(0);
    let soon = || clock::now() + 2_000_000;
    page.put(0, &port);
    let start = clock::now();
    result("poll an idle port", poll(at, 1, soon()), 0);
    let waited = clock::now() - start;
    holds("it waited", waited >= 1_900_000, waited);
    events::send(port);
    let start = clock::now();
    result(
        "poll a pending port",
        poll(at, 1, start + 10_000_000_000),
        0,
    );
    holds(
        "it did not wait",
        clock::now() - start < 5_000_000_000,
        "it did",
    );
    upcall::clear_pending(port);
    result("poll with a time in the past", poll(at, 1, 1), 0);
    result("poll nothing", poll(0, 0, soon()), 0);
    for bad in [4096, 131_072, 0x8000_0000, u32::MAX] {
        page.put(0, &bad);
        result(format_args!("poll port {bad}"), poll(at, 1, soon()), EINVAL);
    }
    page.put(0, &50_u32);
    either("poll a closed port", poll(at, 1, soon()), 0, EINVAL);
    for count in [129, 0x1_0000, 1 << 31, u32::MAX] {
        result(
            format_args!("poll {count} ports"),
            poll(at, count, soon()),
            EINVAL,
        );
    }
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("poll ports at {kind} pointer");
        result(name, poll(*pointer, 1, soon()), EFAULT);
    }
    events::close(port);
    upcall::collect();
    page.give_back();
}
