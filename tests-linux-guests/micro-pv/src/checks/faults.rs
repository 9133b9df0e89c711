//! Page faults as the kernel sees them, and writes to page tables that are carried out for it.

use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::hypercall::__HYPERVISOR_vm_assist;
use xen_abi::xen::{
    MMUEXT_TLB_FLUSH_LOCAL, VMASST_CMD_disable, VMASST_CMD_enable, VMASST_TYPE_writable_pagetables,
};

use super::{bad, mmu::SLOT, upcall};
use crate::call::hypercall;
use crate::memory::{self, FRAME_MASK, PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap::{self, page_fault, probe, protection};

fn read(address: u64) -> Option<trap::Trap> {
    trap::try_read(address).err()
}

/// Addresses and error codes.
pub fn bounce() {
    for address in [0, 0x1000, 0x7fff_ffff_f000, 0x0000_1234_5678_9abc] {
        same(
            format_args!("read {address:#x}"),
            read(address),
            page_fault(0, address),
        );
        let met = trap::try_write(address, 1);
        same(
            format_args!("write {address:#x}"),
            met,
            page_fault(2, address),
        );
    }
    for address in [1 << 47, 0xffff_7fff_ffff_0000, 1 << 63] {
        same(
            format_args!("read {address:#x}"),
            read(address),
            protection(0),
        );
    }
    let page = Page::take();
    let at = page.address();
    tables::protect(page, READ_ONLY);
    same(
        "write to a read-only page",
        trap::try_write(at + 16, 1),
        page_fault(3, at + 16),
    );
    tables::protect(page, WRITABLE | 1 << 63);
    // ud2: executing it would be another trap.
    page.put(0, &[0x0f_u8, 0x0b]);
    let met = probe!("jmp {a}", a = in(reg) at);
    let fetch = met.map(|trap| (trap.vector, trap.error, trap.address));
    same(
        "execute a page that may not be",
        fetch,
        Some((14, 0x11, at)),
    );
    tables::protect(page, WRITABLE);
    // The event mask is saved and restored around a trap, and set during it.
    upcall::release();
    read(0);
    same(
        "the mask that was saved with events on",
        trap::saved_mask(),
        0,
    );
    upcall::hold();
    read(0);
    same(
        "the mask that was saved with events held",
        trap::saved_mask(),
        1,
    );
    theirs();
    page.give_back();
}

/// The hypervisor's part of the address space.
fn theirs() {
    let table = MACH2PHYS_VIRT_START;
    let own = memory::frame_at(tables::root());
    let at = table + own * 8;
    let number = (tables::root() - memory::VIRT_BASE) / PAGE;
    same(
        "read the machine-to-physical table",
        trap::try_read(at),
        Ok(number),
    );
    same("write it", trap::try_write(at, 0), page_fault(3, at));
    same("it is as before", trap::try_read(at), Ok(number));
    for address in [
        0xffff_8200_0000_0000,
        0xffff_8280_0000_0000,
        0xffff_82d0_4020_0000,
        0xffff_82d0_8020_0000,
        0xffff_8300_0010_0000,
        0xffff_87ff_ffff_f000,
    ] {
        let met = read(address);
        let fault = met.is_some_and(|trap| trap.vector == 14 && trap.address == address);
        holds(
            format_args!("read {address:#x}"),
            fault,
            format_args!("{met:?}"),
        );
        let met = trap::try_write(address, 0);
        let fault = met.is_some_and(|trap| trap.vector == 14 && trap.address == address);
        holds(
            format_args!("write {address:#x}"),
            fault,
            format_args!("{met:?}"),
        );
        let met = probe!("jmp {a}", a = in(reg) address);
        let fault = met.is_some_and(|trap| trap.vector == 14 && trap.address == address);
        holds(
            format_args!("execute {address:#x}"),
            fault,
            format_args!("{met:?}"),
        );
    }
}

/// One write instruction to a live entry: `a` is its address, `v` the value.
macro_rules! write_by {
    ($code:literal, $at:expr, $value:expr) => {
        probe!($code, a = in(reg) $at, v = in(reg) $value, out("rax") _)
    };
}

/// Writes to a live L1 through a read-only mapping.
pub fn emulation() {
    let (_, window) = Window::open(SLOT);
    let page = Page::take();
    page.set_word(0, 0x1001);
    let other = Page::take();
    other.set_word(0, 0x2002);
    let entry = |page: &Page| (page.machine() * PAGE) | WRITABLE;
    let at = window.l1.address();
    let assist = |command: u32| {
        hypercall(
            __HYPERVISOR_vm_assist,
            [command.into(), VMASST_TYPE_writable_pagetables.into()],
        )
    };
    result("disable", assist(VMASST_CMD_disable), 0);
    // Xen looks at the switch for other domains only: dom0's writes to MMIO need the same path.
    let met = trap::try_write(at, entry(page));
    let known = met.is_none() || met == page_fault(3, at);
    holds("a write without it", known, format_args!("{met:?}"));
    result("enable", assist(VMASST_CMD_enable), 0);
    forms(&window, entry(page), entry(other));
    bits(&window, entry(other));
    refused(&window);
    result("close", window.close(), 0);
    page.give_back();
    other.give_back();
}

/// What the first page of the window holds, if one is there.
fn seen(window: &Window) -> Option<u64> {
    tables::extended(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    trap::try_read(window.base).ok()
}

/// Instructions that write a whole entry.
fn forms(window: &Window, one: u64, two: u64) {
    let at = window.l1.address();
    let seen = || seen(window);
    same("mov", write_by!("mov [{a}], {v}", at, one), None);
    same("the page is there", seen(), Some(0x1001));
    same("xchg", write_by!("xchg [{a}], {v}", at, two), None);
    same("the other is there", seen(), Some(0x2002));
    let old = window.l1.word(0);
    let met =
        probe!("lock cmpxchg [{a}], {v}", a = in(reg) at, v = in(reg) one, inout("rax") old => _);
    same("cmpxchg", met, None);
    same("the page is back", seen(), Some(0x1001));
    let got: u64;
    let met = probe!("lock cmpxchg [{a}], {v}", a = in(reg) at, v = in(reg) two, inout("rax") 0x1_u64 => got);
    same(
        "cmpxchg that does not match",
        (met, got & FRAME_MASK),
        (None, one & FRAME_MASK),
    );
    same("the page is still there", seen(), Some(0x1001));
}

/// Instructions that change bits of an entry or write it by other ways.
fn bits(window: &Window, two: u64) {
    let at = window.l1.address();
    let seen = || seen(window);
    let flush = || tables::extended(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    same(
        "lock btr",
        probe!("lock btr qword ptr [{a}], 1", a = in(reg) at),
        None,
    );
    flush();
    same(
        "it is read-only now",
        trap::try_write(window.base, 1),
        page_fault(3, window.base),
    );
    same(
        "lock or",
        probe!("lock or qword ptr [{a}], 2", a = in(reg) at),
        None,
    );
    flush();
    same(
        "it is writable again",
        trap::try_write(window.base, 0x1001),
        None,
    );
    same(
        "lock and",
        probe!("lock and qword ptr [{a}], -3", a = in(reg) at),
        None,
    );
    same(
        "lock bts",
        probe!("lock bts qword ptr [{a}], 1", a = in(reg) at),
        None,
    );
    same("mov of zero", write_by!("mov [{a}], {v}", at, 0_u64), None);
    same("nothing is there", seen(), None);
    same(
        "stos",
        probe!("stosq", inout("rdi") at => _, in("rax") two),
        None,
    );
    same("the other is there again", seen(), Some(0x2002));
    same(
        "mov of 32 bits",
        probe!("mov dword ptr [{a}], 0", a = in(reg) at + 4),
        None,
    );
}

/// Writes that must not be carried out.
fn refused(window: &Window) {
    let page = Page::take();
    let at = window.l1.address() + 8;
    tables::update(window.l1.entry(1), (page.machine() * PAGE) | WRITABLE);
    let before = window.l1.word(1);
    let theirs = (bad::hypervisor_frame() * PAGE) | WRITABLE;
    for (what, value) in [
        ("a frame of theirs", theirs),
        (
            "the table itself, writable",
            (window.l1.machine() * PAGE) | WRITABLE,
        ),
        (
            "our L4, writable",
            (memory::frame_at(tables::root()) * PAGE) | WRITABLE,
        ),
        ("all ones", u64::MAX),
    ] {
        let met = write_by!("mov [{a}], {v}", at, value);
        same(format_args!("write {what}"), met, page_fault(3, at));
        same(
            format_args!("the entry after {what}"),
            window.l1.word(1),
            before,
        );
    }
    let crossing = probe!("mov [{a}], {v}", a = in(reg) at + 4, v = in(reg) 0_u64);
    same(
        "a write across two entries",
        crossing,
        page_fault(3, at + 4),
    );
    for (name, table) in [("an L2", window.l2), ("an L3", window.l3)] {
        let at = table.address() + 8;
        same(
            format_args!("a write to {name}"),
            trap::try_write(at, 0),
            page_fault(3, at),
        );
    }
    let root = tables::root() + 300 * 8;
    same(
        "a write to the L4",
        trap::try_write(root, 0),
        page_fault(3, root),
    );
    result("remove it", tables::update(window.l1.entry(1), 0), 0);
    page.give_back();
}
