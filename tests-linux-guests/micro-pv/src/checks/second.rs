//! The second vCPU.

use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use xen_abi::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_DS, FLAT_KERNEL_SS, VGCF_in_kernel, VcpuGuestContext,
};
use xen_abi::errno::Errno::*;
use xen_abi::hypercall::__HYPERVISOR_sched_op;
use xen_abi::sched::SCHEDOP_yield;
use xen_abi::vcpu::*;
use xen_abi::xen::VIRQ_TIMER;
use zerocopy::FromZeros;

use super::{bad, clock, events, vcpu};
use crate::call::hypercall;
use crate::memory::{self, PAGE, Page};
use crate::report::{result, same};
use crate::tables;

/// What the second vCPU has done.
static STEP: AtomicU64 = AtomicU64::new(0);
/// What it is to do.
static WANTED: AtomicU64 = AtomicU64::new(0);

// SAFETY: the assembly below defines it; it is used as an address.
unsafe extern "C" {
    static second_start: u8;
}

/// Where the second vCPU starts.
#[unsafe(no_mangle)]
extern "C" fn second_main() -> ! {
    let work = WORK.load(Ordering::SeqCst);
    if !work.is_null() {
        // SAFETY: only `start` stores there, and a function.
        let work = unsafe { core::mem::transmute::<*mut (), fn()>(work) };
        work();
        STEP.fetch_add(1, Ordering::SeqCst);
        loop {
            vcpu::raw(VCPUOP_down, 1, 0);
        }
    }
    loop {
        STEP.fetch_add(1, Ordering::SeqCst);
        let step = STEP.load(Ordering::SeqCst);
        while WANTED.load(Ordering::SeqCst) < step {
            give_way();
        }
        // Comes back when the first says "up" again.
        vcpu::raw(VCPUOP_down, 1, 0);
    }
}

/// What the second vCPU does instead, if not null: a function.
static WORK: AtomicPtr<()> = AtomicPtr::new(core::ptr::null_mut());

/// Starts the second vCPU with this work, after which it goes down; what the calls answered.
pub fn start(work: fn()) -> [i64; 2] {
    WORK.store(work as *mut (), Ordering::SeqCst);
    let row = Page::take_row(2);
    context(row);
    let initialised = vcpu::raw(VCPUOP_initialise, 1, row[0].address());
    [initialised, vcpu::raw(VCPUOP_up, 1, 0)]
}

/// Waits until the work of [`start`] is over; false after some seconds.
pub fn ended() -> bool {
    wait(|| STEP.load(Ordering::SeqCst) == 1)
}

fn give_way() {
    hypercall(__HYPERVISOR_sched_op, [SCHEDOP_yield.into(), 0]);
}

/// Waits until the condition holds; false after a minute.
fn wait(condition: impl Fn() -> bool) -> bool {
    let end = clock::now() + 60_000_000_000;
    while clock::now() < end {
        if condition() {
            return true;
        }
        give_way();
    }
    false
}

/// A context that starts at [`second_main`] on a stack of its own. It lies in two pages.
fn context(row: &'static [Page]) -> VcpuGuestContext {
    let stack = Page::take_row(4);
    let top = stack[3].address() + PAGE;
    let mut context = VcpuGuestContext::new_zeroed();
    context.flags = VGCF_in_kernel;
    context.user_regs.rip = &raw const second_start as u64;
    context.user_regs.rsp = top;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    context.user_regs.ds = FLAT_KERNEL_DS;
    context.user_regs.es = FLAT_KERNEL_DS;
    context.kernel_ss = FLAT_KERNEL_SS.into();
    context.kernel_sp = top;
    context.ctrlreg[3] = memory::frame_at(tables::root()) * PAGE;
    let [_, event, failsafe, syscall, ..] = crate::trap::stubs();
    context.event_callback_eip = event;
    context.failsafe_callback_eip = failsafe;
    context.syscall_callback_eip = syscall;
    put(row, &context);
    context
}

fn put(row: &[Page], context: &VcpuGuestContext) {
    row[0].put_bytes(0, zerocopy::IntoBytes::as_bytes(context));
}

/// A context and the change that spoils it.
type Spoiled = (&'static str, fn(&mut VcpuGuestContext), i64);

const SPOILED: &[Spoiled] = &[
    ("no page tables", |c| c.ctrlreg[3] = 0, EINVAL.to_ret()),
    (
        "page tables behind RAM",
        |c| c.ctrlreg[3] = 1 << 39,
        EINVAL.to_ret(),
    ),
    (
        "user tables behind RAM",
        |c| c.ctrlreg[1] = 1 << 39 | 1,
        EINVAL.to_ret(),
    ),
    (
        "a GDT of 7169 entries",
        |c| c.gdt_ents = 7169,
        EINVAL.to_ret(),
    ),
    (
        "a GDT of 2^32 entries",
        |c| c.gdt_ents = 1 << 32,
        EINVAL.to_ret(),
    ),
    (
        "a GDT frame behind RAM",
        |c| {
            c.gdt_ents = 512;
            c.gdt_frames[0] = 1 << 30;
        },
        EINVAL.to_ret(),
    ),
    (
        "an unaligned LDT",
        |c| {
            c.ldt_base = 0x1001;
            c.ldt_ents = 1;
        },
        EINVAL.to_ret(),
    ),
    (
        "an LDT of 8193 entries",
        |c| {
            c.ldt_base = 0x1000;
            c.ldt_ents = 8193;
        },
        EINVAL.to_ret(),
    ),
    (
        "a trap handler that is not canonical",
        |c| c.trap_ctxt[3].address = 1 << 47,
        EINVAL.to_ret(),
    ),
    (
        "an event callback that is not canonical",
        |c| c.event_callback_eip = 1 << 47,
        EINVAL.to_ret(),
    ),
    (
        "a failsafe callback that is not canonical",
        |c| c.failsafe_callback_eip = 1 << 63,
        EINVAL.to_ret(),
    ),
    (
        "a syscall callback that is not canonical",
        |c| c.syscall_callback_eip = 1 << 47,
        EINVAL.to_ret(),
    ),
    (
        "an FS base that is not canonical",
        |c| c.fs_base = 1 << 47,
        EINVAL.to_ret(),
    ),
    (
        "a GS base that is not canonical",
        |c| c.gs_base_kernel = 1 << 47,
        EINVAL.to_ret(),
    ),
    (
        "a user GS base that is not canonical",
        |c| c.gs_base_user = 1 << 47,
        EINVAL.to_ret(),
    ),
];

/// All of it.
pub fn check() {
    result("is it up", vcpu::raw(VCPUOP_is_up, 1, 0), 0);
    result("up without a context", vcpu::raw(VCPUOP_up, 1, 0), EINVAL);
    result("down without a context", vcpu::raw(VCPUOP_down, 1, 0), 0);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("initialise, {kind} pointer");
        result(name, vcpu::raw(VCPUOP_initialise, 1, *pointer), EFAULT);
    }
    let row = Page::take_row(2);
    let good = context(row);
    let at = row[0].address();
    for (name, spoil, want) in SPOILED {
        let mut spoiled = good;
        spoil(&mut spoiled);
        put(row, &spoiled);
        result(
            format_args!("initialise with {name}"),
            vcpu::raw(VCPUOP_initialise, 1, at),
            *want,
        );
    }
    put(row, &good);
    result("initialise", vcpu::raw(VCPUOP_initialise, 1, at), 0);
    result(
        "initialise twice",
        vcpu::raw(VCPUOP_initialise, 1, at),
        EEXIST,
    );
    result(
        "initialise the first",
        vcpu::raw(VCPUOP_initialise, 0, at),
        EEXIST,
    );
    result("is it up now", vcpu::raw(VCPUOP_is_up, 1, 0), 0);
    life();
    for page in row {
        page.give_back();
    }
}

/// Up, down, and up again.
fn life() {
    result("up", vcpu::raw(VCPUOP_up, 1, 0), 0);
    same("it runs", wait(|| STEP.load(Ordering::SeqCst) == 1), true);
    result("is it up then", vcpu::raw(VCPUOP_is_up, 1, 0), 1);
    result("up twice", vcpu::raw(VCPUOP_up, 1, 0), 0);
    result("bind an IPI there", events::ipi(1).0, 0);
    let (code, timer) = events::virq(VIRQ_TIMER, 1);
    result("bind its timer", code, 0);
    result(
        "bind its timer twice",
        events::virq(VIRQ_TIMER, 1).0,
        EEXIST,
    );
    result("close its timer", events::close(timer), 0);
    WANTED.store(1, Ordering::SeqCst);
    let up = || vcpu::raw(VCPUOP_is_up, 1, 0);
    same("it goes down", wait(|| up() == 0), true);
    result("up again", vcpu::raw(VCPUOP_up, 1, 0), 0);
    same(
        "it goes on",
        wait(|| STEP.load(Ordering::SeqCst) == 2),
        true,
    );
    result("down by the first", vcpu::raw(VCPUOP_down, 1, 0), 0);
    result("is it up at last", up(), 0);
}
