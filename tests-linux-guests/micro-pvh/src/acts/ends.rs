//! What must end this domain, and nothing else.

use core::arch::asm;

use micro_base::memory::write;
use xen_abi::hypercall::__HYPERVISOR_sched_op;
use xen_abi::sched::{SCHEDOP_shutdown, SHUTDOWN_crash, SHUTDOWN_reboot, SchedShutdown};

use crate::call::send;
use crate::console::println;
use crate::pages::{HOLE, PAGE, entry_of, root};
use crate::trap::{self, probe};

/// No handler for anything, and something that wants one.
pub fn triple() {
    trap::load_at(0, 0);
    // SAFETY: nothing comes back.
    unsafe { asm!("ud2") }
}

/// Sleeps, and nothing may wake it.
pub fn halt() {
    // SAFETY: nothing comes back but after an NMI.
    unsafe { asm!("cli", "hlt") }
}

/// The root of the page tables is where nothing is.
pub fn root_gone() {
    // SAFETY: nothing comes back.
    unsafe { asm!("mov cr3, {}", in(reg) HOLE * PAGE) }
}

/// Code where nothing is: what is read there is no instruction.
pub fn fetch_hole() {
    println!("{:?}", probe!("jmp {a}", a = in(reg) HOLE * PAGE));
}

/// The code itself is mapped no more, nor are the handlers.
pub fn code_gone() {
    write(entry_of(0x20_0000), 0_u64);
    write(root().address(), 0_u64);
    // SAFETY: nothing comes back.
    unsafe { asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _) }
}

/// A stack where nothing is, and a trap.
pub fn stack_hole() {
    // SAFETY: nothing comes back.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) HOLE * PAGE + 2048, options(noreturn)) }
}

fn shut_down(reason: u32) {
    let reason = SchedShutdown { reason };
    send(__HYPERVISOR_sched_op, SCHEDOP_shutdown, &reason);
}

/// Says that it has crashed.
pub fn crash() {
    shut_down(SHUTDOWN_crash);
}

/// Wants to begin again.
pub fn reboot() {
    shut_down(SHUTDOWN_reboot);
}

/// Never ends, and takes no interrupt.
pub fn endless() {
    println!("MICRO-PVH endless");
    trap::disable();
    loop {
        core::hint::spin_loop();
    }
}
