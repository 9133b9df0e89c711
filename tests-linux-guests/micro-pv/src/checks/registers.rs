//! Registers that a hypercall must keep.

use core::arch::asm;

use xen_abi::hypercall::*;
use xen_abi::vcpu::{VCPUOP_set_periodic_timer, VcpuSetPeriodicTimer};
use xen_abi::version::XENVER_get_features;
use xen_abi::xen::{DOMID_SELF, MMUEXT_TLB_FLUSH_LOCAL, MmuUpdate, MmuextOp, VIRQ_TIMER};

use super::{events, timers, upcall, vcpu};
use crate::call::Argument;
use crate::memory::Page;
use crate::report::{holds, same};

/// Entries of a long list.
const LIST: u64 = 256;

/// What the registers hold before: rbx, rbp, r9, r12 to r15, and the arguments.
const PATTERN: [u64; 7] = [
    0x1111_2222_3333_4444,
    0x2222_3333_4444_5555,
    0x3333_4444_5555_6666,
    0x4444_5555_6666_7777,
    0x5555_6666_7777_8888,
    0x6666_7777_8888_9999,
    0x7777_8888_9999_aaaa,
];

/// Fills the registers, calls, and gives them back.
fn around(number: u32, args: [u64; 4]) -> [u64; 7] {
    let mut kept = PATTERN;
    // SAFETY: as for `call::raw`; all registers are saved around it, and rax carries the pointer
    // to the values over the call on our stack.
    unsafe {
        asm!(
            "push rbx",
            "push rbp",
            "push r11",
            "mov rbx, [r11]",
            "mov rbp, [r11 + 8]",
            "mov r9, [r11 + 16]",
            "mov r12, [r11 + 24]",
            "mov r13, [r11 + 32]",
            "mov r14, [r11 + 40]",
            "mov r15, [r11 + 48]",
            "syscall",
            "pop r11",
            "mov [r11], rbx",
            "mov [r11 + 8], rbp",
            "mov [r11 + 16], r9",
            "mov [r11 + 24], r12",
            "mov [r11 + 32], r13",
            "mov [r11 + 40], r14",
            "mov [r11 + 48], r15",
            "pop rbp",
            "pop rbx",
            inlateout("rax") u64::from(number) => _,
            inlateout("rdi") args[0] => _,
            inlateout("rsi") args[1] => _,
            inlateout("rdx") args[2] => _,
            inlateout("r10") args[3] => _,
            inlateout("r11") kept.as_mut_ptr() => _,
            out("r8") _,
            out("r9") _,
            out("rcx") _,
            out("r12") _,
            out("r13") _,
            out("r14") _,
            out("r15") _,
        );
    }
    kept
}

/// Hypercalls of different kinds, good and bad.
pub fn check() {
    let page = Page::take();
    let at = page.address();
    let own = u64::from(DOMID_SELF);
    let update = Argument::new(&MmuUpdate {
        ptr: page.entry(9),
        val: 0,
    });
    let flush = Argument::new(&MmuextOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        ..MmuextOp::default()
    });
    let done = Argument::new(&0_u32);
    for (name, number, args) in [
        (
            "xen_version",
            __HYPERVISOR_xen_version,
            [XENVER_get_features.into(), at, 0, 0],
        ),
        ("one that is none", 63, [1, 2, 3, 4]),
        ("memory_op at null", __HYPERVISOR_memory_op, [3, 0, 0, 0]),
        (
            "mmu_update",
            __HYPERVISOR_mmu_update,
            [update.address(), 1, done.address(), own],
        ),
        (
            "mmu_update at null",
            __HYPERVISOR_mmu_update,
            [0, 1, 0, own],
        ),
        (
            "mmuext_op",
            __HYPERVISOR_mmuext_op,
            [flush.address(), 1, 0, own],
        ),
        (
            "multicall of nothing",
            __HYPERVISOR_multicall,
            [at, 0, 0, 0],
        ),
        ("yield", __HYPERVISOR_sched_op, [0, 0, 0, 0]),
        ("console_io", __HYPERVISOR_console_io, [0, 0, at, 0]),
        (
            "update_va_mapping",
            __HYPERVISOR_update_va_mapping,
            [0, 0, 0, 0],
        ),
    ] {
        same(
            format_args!("kept by {name}"),
            around(number, args),
            PATTERN,
        );
    }
    page.give_back();
    load(done.address());
}

/// Long lists many times over, with a timer that interrupts guest and hypervisor alike: a call
/// that is broken off and goes on later must keep the same registers.
fn load(done: u64) {
    let (list, target) = (Page::take(), Page::take());
    let entry = MmuUpdate {
        ptr: target.entry(0),
        val: 0,
    };
    for index in 0..LIST {
        list.put(index * 16, &entry);
    }
    let (_, port) = events::virq(VIRQ_TIMER, 0);
    upcall::set_port_mask(port, 0);
    let period = VcpuSetPeriodicTimer {
        period_ns: 1_000_000,
    };
    vcpu::op(VCPUOP_set_periodic_timer, 0, &period);
    upcall::release();
    upcall::fired(port);
    let own = u64::from(DOMID_SELF);
    let mut lost = 0;
    for _ in 0..1000 {
        let kept = [
            around(__HYPERVISOR_mmu_update, [list.address(), LIST, done, own]),
            around(__HYPERVISOR_xen_version, [0, 0, 0, 0]),
            around(__HYPERVISOR_sched_op, [0, 0, 0, 0]),
        ];
        lost += kept.iter().filter(|kept| **kept != PATTERN).count();
    }
    same("lost under load", lost, 0);
    let count = upcall::fired(port);
    holds("events came meanwhile", count > 3, count);
    timers::stop_periodic();
    upcall::hold();
    events::close(port);
    list.give_back();
    target.give_back();
}
