//! Acts that must end this domain, and nothing but this domain. One boot each.

use core::arch::asm;

use xen_abi::arch_x86::{FLAT_KERNEL_CS, TrapInfo};
use xen_abi::hypercall::{__HYPERVISOR_sched_op, __HYPERVISOR_set_trap_table};
use xen_abi::sched::{
    SCHEDOP_shutdown, SCHEDOP_watchdog, SHUTDOWN_crash, SHUTDOWN_reboot, SchedShutdown,
    SchedWatchdog,
};
use xen_abi::xen::UVMF_INVLPG;

use crate::call::{hypercall, send};
use crate::console::println;
use crate::kernel;
use crate::memory::{PAGE, Page, VIRT_BASE};
use crate::tables;
use crate::trap::try_read;

/// An act: its name and what is done.
type Act = (&'static str, fn());

const ACTS: &[Act] = &[
    ("no-stack", || trap_on_stack(0x1000)),
    ("stack-of-theirs", || trap_on_stack(0xffff_8300_0010_0000)),
    ("stack-not-canonical", || trap_on_stack(1 << 47)),
    ("iret-hole", || return_from(0x1000)),
    ("iret-of-theirs", || return_from(0xffff_8300_0010_0000)),
    ("no-handler", no_handler),
    ("handlers-of-theirs", handlers_of_theirs),
    ("code-gone", code_gone),
    ("shutdown-crash", || shut_down(SHUTDOWN_crash)),
    ("shutdown-unknown", || shut_down(0xff)),
    ("reboot", || shut_down(SHUTDOWN_reboot)),
    ("poweroff", || kernel::shut_down()),
    ("watchdog", watchdog),
];

/// Does what the name says; coming back is a failure.
pub fn act(name: &str) {
    println!("MICRO-ACT {name}");
    match ACTS.iter().find(|(known, _)| *known == name) {
        Some((_, act)) => act(),
        None => println!("MICRO-SURVIVED: no such act"),
    }
}

/// A trap with no stack on which it could be delivered.
fn trap_on_stack(stack: u64) {
    // SAFETY: the instruction traps and nothing comes back.
    unsafe { asm!("mov rsp, {s}", "ud2", s = in(reg) stack, options(noreturn)) }
}

/// A return by hypercall from a frame that cannot be read.
fn return_from(stack: u64) {
    // The stub pushes; the system call itself does not need a stack.
    // SAFETY: nothing comes back.
    unsafe {
        asm!("mov rsp, {s}", "mov eax, 23", "syscall", "ud2", s = in(reg) stack, options(noreturn))
    }
}

/// A trap without any handler.
fn no_handler() {
    hypercall(__HYPERVISOR_set_trap_table, [0]);
    // SAFETY: nothing comes back.
    unsafe { asm!("ud2") }
}

/// Handlers in the hypervisor's part: each delivery is a page fault in turn.
fn handlers_of_theirs() {
    let page = Page::take();
    for vector in 0..32_u8 {
        let entry = TrapInfo {
            vector,
            flags: 0,
            cs: FLAT_KERNEL_CS,
            address: 0xffff_8300_0010_0000,
            ..TrapInfo::default()
        };
        page.put(u64::from(vector) * 16, &entry);
    }
    hypercall(__HYPERVISOR_set_trap_table, [page.address()]);
    // SAFETY: nothing comes back.
    unsafe { asm!("ud2") }
}

/// The code itself disappears, the handlers with it.
fn code_gone() {
    let mut address = VIRT_BASE + 0x20_0000;
    loop {
        tables::map(address, 0, UVMF_INVLPG);
        address += PAGE;
    }
}

fn shut_down(reason: u32) {
    send(
        __HYPERVISOR_sched_op,
        SCHEDOP_shutdown,
        &SchedShutdown { reason },
    );
}

/// A watchdog that nobody feeds.
fn watchdog() {
    send(
        __HYPERVISOR_sched_op,
        SCHEDOP_watchdog,
        &SchedWatchdog { id: 0, timeout: 1 },
    );
    loop {
        // A read that faults keeps the hypervisor busy, too.
        let _ = try_read(0);
    }
}
