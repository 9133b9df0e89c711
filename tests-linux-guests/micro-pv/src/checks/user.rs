//! User mode: how it is entered and left, and what it may not do. Also returns to nonsense.

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS};
use xen_abi::hypercall::{__HYPERVISOR_physdev_op, __HYPERVISOR_stack_switch};
use xen_abi::physdev::{PHYSDEVOP_set_iopl, PhysdevSetIopl};
use xen_abi::xen::{MMUEXT_NEW_USER_BASEPTR, MMUEXT_PIN_L4_TABLE};

use super::mmu::SLOT;
use crate::call::{hypercall, send};
use crate::memory::{self, PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap::{self, SYSCALL, Trap, other, page_fault, protection};

/// Flags with interrupts on.
const FLAGS: u64 = 0x202;

/// Returns to where this frame says, by the hypercall.
fn go(rip: u64, cs: u64, rflags: u64, rsp: u64, ss: u64) -> Option<Trap> {
    trap::leave_to([rip, cs, rflags, rsp, ss])
}

/// Runs these bytes in user mode until they trap.
fn run(page: &Page, window: &Window, code: &[u8]) -> Option<Trap> {
    page.clear();
    page.put_bytes(0, code);
    // What comes behind must not be reached.
    page.put(code.len() as u64, &[0x0f_u8, 0x0b]);
    let stack = window.base + 2 * PAGE;
    go(
        window.base,
        FLAT_USER_CS.into(),
        FLAGS,
        stack,
        FLAT_USER_SS.into(),
    )
}

/// `mov rdx, [address]` or the store, with the address as an immediate.
fn access(store: bool, address: u64) -> [u8; 13] {
    let mut code = [0; 13];
    code[..2].copy_from_slice(&[0x48, 0xba]);
    code[2..10].copy_from_slice(&address.to_le_bytes());
    code[10..].copy_from_slice(if store {
        &[0x48, 0x89, 0x12]
    } else {
        &[0x48, 0x8b, 0x12]
    });
    code
}

/// All of it.
pub fn check() {
    let (_, window) = Window::open(SLOT);
    let (code, stack, root, kernel_stack) =
        (Page::take(), Page::take(), Page::take(), Page::take());
    tables::update(window.l1.entry(0), (code.machine() * PAGE) | WRITABLE);
    tables::update(window.l1.entry(1), (stack.machine() * PAGE) | WRITABLE);
    root.set_word(SLOT, (window.l3.machine() * PAGE) | WRITABLE);
    tables::protect(root, READ_ONLY);
    result(
        "pin user tables",
        tables::extended(MMUEXT_PIN_L4_TABLE, root.machine(), 0),
        0,
    );
    let base = tables::extended(MMUEXT_NEW_USER_BASEPTR, root.machine(), 0);
    result("user page tables", base, 0);
    let top = kernel_stack.address() + PAGE;
    let set = hypercall(__HYPERVISOR_stack_switch, [FLAT_KERNEL_SS.into(), top]);
    result("kernel stack", set, 0);
    calls(code, &window);
    faults(code, &window);
    privileges(code, &window);
    result(
        "no user page tables",
        tables::extended(MMUEXT_NEW_USER_BASEPTR, 0, 0),
        0,
    );
    result("unpin them", tables::release(root), 0);
    result("close", window.close(), 0);
    for page in [code, stack, root, kernel_stack] {
        page.give_back();
    }
}

fn calls(code: &Page, window: &Window) {
    same(
        "syscall",
        run(code, window, &[0x0f, 0x05]),
        other(SYSCALL, 0),
    );
    same("it came from behind it", trap::place(), window.base + 2);
    same("it came from user mode", trap::code_segment() & 3, 3);
    same("int 0x80", run(code, window, &[0xcd, 0x80]), other(0x80, 0));
    same("int3", run(code, window, &[0xcc]), other(3, 0));
    same("ud2", run(code, window, &[0x0f, 0x0b]), other(6, 0));
    // A division by zero: xor ecx, ecx; div ecx.
    same(
        "div",
        run(code, window, &[0x31, 0xc9, 0xf7, 0xf1]),
        other(0, 0),
    );
    let met = run(code, window, &[0xcd, 0x50]);
    let known = met == protection(0x50 << 3 | 2) || met == protection(0x50 << 4 | 2);
    holds("int 0x50", known, format_args!("{met:?}"));
}

fn faults(code: &Page, window: &Window) {
    for (name, address, present) in [
        ("null", 0, 0),
        ("a hole", window.base + 9 * PAGE, 0),
        ("the kernel", memory::VIRT_BASE + 0x20_0000, 0),
    ] {
        let met = run(code, window, &access(false, address));
        same(
            format_args!("read {name}"),
            met,
            page_fault(4 | present, address),
        );
        let met = run(code, window, &access(true, address));
        same(
            format_args!("write {name}"),
            met,
            page_fault(6 | present, address),
        );
    }
    for address in [0xffff_82d0_4020_0000, 0xffff_8300_0010_0000] {
        let met = run(code, window, &access(false, address));
        let known = met.is_some_and(|t| t.vector == 14 && t.error & 4 != 0 && t.address == address);
        holds(
            format_args!("read {address:#x}"),
            known,
            format_args!("{met:?}"),
        );
    }
    let met = run(code, window, &access(true, 1 << 47));
    same("write to what is not canonical", met, protection(0));
    let read_only = window.base + 3 * PAGE;
    tables::update(window.l1.entry(3), (code.machine() * PAGE) | READ_ONLY);
    let met = run(code, window, &access(true, read_only));
    same("write to a read-only page", met, page_fault(7, read_only));
    // A page table mapped read-only: writes by user mode are not carried out.
    tables::update(window.l1.entry(4), (window.l1.machine() * PAGE) | READ_ONLY);
    let table = window.base + 4 * PAGE;
    let met = run(code, window, &access(true, table));
    same("write to a page table", met, page_fault(7, table));
}

fn privileges(code: &Page, window: &Window) {
    for (name, bytes) in [
        ("cli", &[0xfa][..]),
        ("sti", &[0xfb]),
        ("hlt", &[0xf4]),
        ("rdmsr", &[0x0f, 0x32]),
        ("wrmsr", &[0x0f, 0x30]),
        ("mov from CR0", &[0x0f, 0x20, 0xc2]),
        ("mov to CR3", &[0x0f, 0x22, 0xda]),
        ("clts", &[0x0f, 0x06]),
        ("lgdt", &[0x0f, 0x01, 0x14, 0x24]),
        ("invlpg", &[0x0f, 0x01, 0x3c, 0x24]),
        ("swapgs", &[0x0f, 0x01, 0xf8]),
        ("out", &[0xe6, 0x80]),
        ("in", &[0xe4, 0x71]),
    ] {
        same(name, run(code, window, bytes), protection(0));
    }
    let iopl = |iopl: u32| {
        send(
            __HYPERVISOR_physdev_op,
            PHYSDEVOP_set_iopl,
            &PhysdevSetIopl { iopl },
        )
    };
    iopl(3);
    same(
        "out with privilege 3",
        run(code, window, &[0xe6, 0x80]),
        other(6, 0),
    );
    iopl(1);
    same(
        "out with privilege 1",
        run(code, window, &[0xe6, 0x80]),
        protection(0),
    );
    iopl(0);
}

/// Frames that cannot be returned to: the fault is the guest's.
pub fn returns() {
    let page = Page::take();
    let stack = page.address() + 2048;
    let (cs, ss) = (u64::from(FLAT_KERNEL_CS & !3), u64::from(FLAT_KERNEL_SS));
    let ud2 = Page::take();
    ud2.put(0, &[0x0f_u8, 0x0b]);
    let good = ud2.address();
    same("a good frame", go(good, cs, FLAGS, stack, ss), other(6, 0));
    same("it came from there", trap::place(), good);
    same(
        "flags of all kinds",
        go(good, cs, !0x0002_4100, stack, ss),
        other(6, 0),
    );
    for (name, cs, ss, code) in [
        ("an empty code selector", 0x0ff8, ss, 0x0ff8),
        ("the hypervisor's code selector", 0xe008, ss, 0xe008),
        ("a code selector behind the table", 0xfff8, ss, 0xfff8),
        ("a data selector as code", 0xe028, ss, 0xe028),
        ("an empty stack selector", cs, 0x0ffb, 0x0ff8),
        ("a code selector as stack", cs, 0xe033, 0xe030),
    ] {
        same(name, go(good, cs, FLAGS, stack, ss), protection(code));
        let kept = trap::registers();
        same(format_args!("{name}: registers"), kept, trap::LEFT);
    }
    let met = go(1 << 47, cs, FLAGS, stack, ss);
    let known = met == other(trap::FAILSAFE, 0) || met == protection(0);
    holds(
        "an address that is not canonical",
        known,
        format_args!("{met:?}"),
    );
    let theirs = 0xffff_8300_0010_0000;
    let met = go(theirs, cs, FLAGS, stack, ss);
    let known = met.is_some_and(|t| t.vector == 14 && t.address == theirs);
    holds("an address of theirs", known, format_args!("{met:?}"));
    page.give_back();
    ud2.give_back();
}
