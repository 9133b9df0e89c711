//! mmuext_op.

use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::errno::Errno::{EBUSY, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP, EPERM, ESRCH};
use xen_abi::hypercall::__HYPERVISOR_mmuext_op;
use xen_abi::xen::*;

use super::bad;
use crate::call::{Argument, hypercall};
use crate::memory::{self, PAGE, Page};
use crate::report::{result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, extended};

/// The call itself, and flushes.
pub fn call() {
    let raw = |list: u64, count: u64, done: u64, domain: u64| {
        hypercall(__HYPERVISOR_mmuext_op, [list, count, done, domain])
    };
    let own = u64::from(DOMID_SELF);
    result("an empty list", raw(0, 0, 0, own), 0);
    result("2^32 elements at null", raw(0, 1 << 32, 0, own), 0);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("list, {kind} pointer");
        result(name, raw(*pointer, 1, 0, own), EFAULT);
    }
    let flush = Argument::new(&MmuextOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        ..MmuextOp::default()
    });
    for domain in [0x6fff, 0x7fef, 0x7ff3, 0x7ff4, 0x7fff, 0xffff] {
        let name = format_args!("domain {domain:#x}");
        result(name, raw(flush.address(), 1, 0, domain), ESRCH);
    }
    result(
        "flush for DOMID_IO",
        raw(flush.address(), 1, 0, DOMID_IO.into()),
        EPERM,
    );
    for command in [14, 21, 22, 99, u32::MAX] {
        result(
            format_args!("command {command}"),
            extended(command, 0, 0),
            ENOSYS,
        );
    }
    for command in [MMUEXT_MARK_SUPER, MMUEXT_UNMARK_SUPER] {
        result(
            format_args!("command {command}"),
            extended(command, 0, 0),
            EOPNOTSUPP,
        );
    }
    flushes();
}

fn flushes() {
    for command in [
        MMUEXT_TLB_FLUSH_LOCAL,
        MMUEXT_TLB_FLUSH_ALL,
        MMUEXT_FLUSH_CACHE,
        MMUEXT_FLUSH_CACHE_GLOBAL,
    ] {
        result(format_args!("flush {command}"), extended(command, 0, 0), 0);
    }
    for command in [MMUEXT_INVLPG_LOCAL, MMUEXT_INVLPG_ALL] {
        result(
            format_args!("flush {command} of a page"),
            extended(command, 0x1000, 0),
            0,
        );
        for (kind, pointer) in bad::POINTERS {
            let name = format_args!("flush {command} of {kind}");
            result(name, extended(command, *pointer, 0), 0);
        }
    }
    let mask = Argument::new(&[1_u64, 0]);
    for command in [MMUEXT_TLB_FLUSH_MULTI, MMUEXT_INVLPG_MULTI] {
        let name = format_args!("flush {command} by a mask");
        result(name, extended(command, 0x1000, mask.address()), 0);
        for (kind, pointer) in bad::POINTERS {
            let name = format_args!("flush {command}, mask at {kind} pointer");
            result(name, extended(command, 0x1000, *pointer), EINVAL);
        }
    }
}

/// Pins and unpins.
pub fn pins() {
    let pins = [
        MMUEXT_PIN_L1_TABLE,
        MMUEXT_PIN_L2_TABLE,
        MMUEXT_PIN_L3_TABLE,
        MMUEXT_PIN_L4_TABLE,
    ];
    let page = Page::take();
    let frame = page.machine();
    for (level, command) in (1..).zip(pins) {
        for (owner, frame) in bad::frames() {
            let name = format_args!("pin L{level} {owner}");
            result(name, extended(command, frame, 0), EINVAL);
        }
        let name = format_args!("pin L{level} mapped writable");
        result(name, extended(command, frame, 0), EINVAL);
    }
    tables::protect(page, READ_ONLY);
    for (level, command) in (1..4).zip(pins) {
        result(
            format_args!("pin an empty L{level}"),
            extended(command, frame, 0),
            0,
        );
        result(
            format_args!("pin an L{level} twice"),
            extended(command, frame, 0),
            EINVAL,
        );
        for (other, command) in (1..).zip(pins).filter(|(other, _)| *other != level) {
            let name = format_args!("pin an L{level} as L{other}");
            result(name, extended(command, frame, 0), EINVAL);
        }
        let name = format_args!("writable mapping of an L{level}");
        result(name, tables::protect(page, WRITABLE), EBUSY);
        result(
            format_args!("unpin an L{level}"),
            extended(MMUEXT_UNPIN_TABLE, frame, 0),
            0,
        );
        let name = format_args!("unpin an L{level} twice");
        result(name, extended(MMUEXT_UNPIN_TABLE, frame, 0), EINVAL);
    }
    result("writable afterwards", tables::protect(page, WRITABLE), 0);
    for (owner, frame) in bad::frames() {
        let name = format_args!("unpin {owner}");
        result(name, extended(MMUEXT_UNPIN_TABLE, frame, 0), EINVAL);
    }
    result(
        "unpin a page",
        extended(MMUEXT_UNPIN_TABLE, frame, 0),
        EINVAL,
    );
    contents(page);
    root_tables(page);
    page.give_back();
}

/// Tables whose content is wrong.
fn contents(page: &Page) {
    let own = page.machine() * PAGE;
    let other = Page::take();
    let target = other.machine() * PAGE;
    let hypervisor = bad::hypervisor_frame() * PAGE;
    let l1 = MMUEXT_PIN_L1_TABLE;
    let l2 = MMUEXT_PIN_L2_TABLE;
    let l3 = MMUEXT_PIN_L3_TABLE;
    for (what, command, value, want) in [
        ("L1 that maps itself writable", l1, own | WRITABLE, EBUSY),
        (
            "L1 that maps a frame of theirs",
            l1,
            hypervisor | WRITABLE,
            EBUSY,
        ),
        (
            "L1 with the large-page bit",
            l1,
            target | WRITABLE | 0x1000_0000_0000_0000,
            EINVAL,
        ),
        ("L2 with a large page", l2, WRITABLE | 0x80, EINVAL),
        (
            "L2 that names a writable page",
            l2,
            target | WRITABLE,
            EINVAL,
        ),
        ("L2 that names itself, writable", l2, own | WRITABLE, EINVAL),
        ("L3 with a large page", l3, WRITABLE | 0x80, EINVAL),
        ("L3 that names itself, writable", l3, own | WRITABLE, EINVAL),
        (
            "L3 that names a frame of theirs",
            l3,
            hypervisor | WRITABLE,
            EINVAL,
        ),
    ] {
        page.set_word(511, value);
        tables::protect(page, READ_ONLY);
        let got = extended(command, page.machine(), 0);
        if what == "L1 with the large-page bit" {
            // In an L1 the bit is the PAT bit, and high bits are the guest's own.
            result(what, got, 0);
            extended(MMUEXT_UNPIN_TABLE, page.machine(), 0);
        } else {
            result(what, got, want);
        }
        tables::protect(page, WRITABLE);
        same(
            "the page is ours again",
            crate::trap::try_write(page.address(), 0),
            None,
        );
        page.set_word(511, 0);
    }
    other.give_back();
}

/// Page-table bases.
fn root_tables(page: &Page) {
    let frame = page.machine();
    for (name, command) in [
        ("base", MMUEXT_NEW_BASEPTR),
        ("user base", MMUEXT_NEW_USER_BASEPTR),
    ] {
        for (owner, frame) in bad::frames() {
            result(
                format_args!("{name} {owner}"),
                extended(command, frame, 0),
                EINVAL,
            );
        }
        let text = format_args!("{name}: a writable page");
        result(text, extended(command, frame, 0), EINVAL);
    }
    result("no base", extended(MMUEXT_NEW_BASEPTR, 0, 0), EINVAL);
    let root = memory::frame_at(tables::root());
    result("the same base", extended(MMUEXT_NEW_BASEPTR, root, 0), 0);
    result(
        "our base as user base",
        extended(MMUEXT_NEW_USER_BASEPTR, root, 0),
        0,
    );
    result("no user base", extended(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    result(
        "no user base, again",
        extended(MMUEXT_NEW_USER_BASEPTR, 0, 0),
        0,
    );
    // A copy of our L4 is as good a base.
    for index in 0..512 {
        page.set_word(index, memory::read(tables::root() + index * 8));
    }
    tables::protect(page, READ_ONLY);
    result("a copy as base", extended(MMUEXT_NEW_BASEPTR, frame, 0), 0);
    result("our base again", extended(MMUEXT_NEW_BASEPTR, root, 0), 0);
    result("the copy is free", tables::protect(page, WRITABLE), 0);
    // The hypervisor writes its own slots, whatever we put there.
    for index in 256..272 {
        page.set_word(index, 0);
    }
    tables::protect(page, READ_ONLY);
    result("pin a copy", extended(MMUEXT_PIN_L4_TABLE, frame, 0), 0);
    let own: u64 = memory::read(tables::root() + 261 * 8);
    same("it has a slot of theirs", page.word(261), own);
    result("use it", extended(MMUEXT_NEW_BASEPTR, frame, 0), 0);
    let read = crate::trap::try_read(MACH2PHYS_VIRT_START + frame * 8);
    same("machine-to-physical table", read, Ok(page.frame()));
    result("unpin it in use", extended(MMUEXT_UNPIN_TABLE, frame, 0), 0);
    result("writable in use", tables::protect(page, WRITABLE), EBUSY);
    result("leave it", extended(MMUEXT_NEW_BASEPTR, root, 0), 0);
    result("writable at last", tables::protect(page, WRITABLE), 0);
}

/// Clearing and copying frames.
pub fn frames() {
    let (from, to) = (Page::take(), Page::take());
    from.set_word(9, 0x99);
    let copy = |to: u64, from: u64| extended(MMUEXT_COPY_PAGE, to, from);
    let clear = |frame: u64| extended(MMUEXT_CLEAR_PAGE, frame, 0);
    result("copy", copy(to.machine(), from.machine()), 0);
    same("the copy", to.word(9), 0x99);
    result("clear", clear(to.machine()), 0);
    same("the cleared page", to.word(9), 0);
    for (owner, frame) in bad::frames() {
        result(format_args!("clear {owner}"), clear(frame), EINVAL);
        result(
            format_args!("copy to {owner}"),
            copy(frame, from.machine()),
            EINVAL,
        );
        result(
            format_args!("copy from {owner}"),
            copy(to.machine(), frame),
            EINVAL,
        );
    }
    let root = memory::frame_at(tables::root());
    result("clear our L4", clear(root), EINVAL);
    result("copy to our L4", copy(root, from.machine()), EINVAL);
    result("copy from our L4", copy(to.machine(), root), 0);
    same(
        "the copied L4",
        to.word(256),
        memory::read(tables::root() + 256 * 8),
    );
    from.give_back();
    to.give_back();
}
