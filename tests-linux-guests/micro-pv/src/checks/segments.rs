//! Segments, descriptor tables, debug registers, and other state of one CPU.

use xen_abi::errno::Errno::{EBUSY, EFAULT, EINVAL, ENODEV, ENOSYS, EPERM};
use xen_abi::hypercall::*;
use xen_abi::xen::*;

use super::bad;
use crate::call::{Argument, hypercall};
use crate::memory::{PAGE, Page};
use crate::report::{result, same};
use crate::tables::{self, READ_ONLY, WRITABLE};
use crate::trap::{self, probe};

/// A flat data segment for user mode.
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// The same, not present.
const ABSENT: u64 = 0x00cf_7300_0000_ffff;
/// A flat data segment for the highest privilege.
const DATA_DPL0: u64 = 0x00cf_9300_0000_ffff;
/// A 64-bit code segment for the highest privilege, conforming.
const CODE_DPL0: u64 = 0x00af_9f00_0000_ffff;
/// An available 64-bit task state segment.
const TASK: u64 = 0x0000_8900_0000_0067;
/// A local descriptor table.
const LDT: u64 = 0x0000_8200_0000_ffff;
/// A 64-bit interrupt gate.
const GATE: u64 = 0x0000_8e00_0010_1000;
/// A call gate to a code segment of the hypervisor's own GDT.
const CALL_GATE_HYPERVISOR: u64 = 0x0000_ec00_e008_1000;
/// A task gate.
const TASK_GATE: u64 = 0x0000_e500_0010_0000;

/// Descriptors that must never stand in a table.
const WRONG: [(&str, u64); 5] = [
    ("a task state segment", TASK),
    ("an LDT", LDT),
    ("an interrupt gate", GATE),
    ("a call gate to the hypervisor", CALL_GATE_HYPERVISOR),
    ("a task gate", TASK_GATE),
];

fn set_gdt(frames: u64, entries: u64) -> i64 {
    hypercall(__HYPERVISOR_set_gdt, [frames, entries])
}

/// set_gdt.
pub fn gdt() {
    let table = Page::take();
    let frames = Argument::new(&[table.machine(); 16]);
    let list = frames.address();
    result("no GDT", set_gdt(0, 0), 0);
    result("one entry too many", set_gdt(list, 7169), EINVAL);
    result("2^32 - 1 entries", set_gdt(list, 0xffff_ffff), EINVAL);
    for (kind, pointer) in bad::POINTERS {
        result(
            format_args!("list, {kind} pointer"),
            set_gdt(*pointer, 512),
            EFAULT,
        );
    }
    for (owner, frame) in bad::frames() {
        let frames = Argument::new(&[frame]);
        let name = format_args!("frame {owner}");
        result(name, set_gdt(frames.address(), 512), EINVAL);
    }
    result("frame mapped writable", set_gdt(list, 512), EINVAL);
    for (what, descriptor) in WRONG {
        tables::protect(table, WRITABLE);
        table.set_word(3, descriptor);
        tables::protect(table, READ_ONLY);
        result(
            format_args!("frame with {what}"),
            set_gdt(list, 512),
            EINVAL,
        );
    }
    tables::protect(table, WRITABLE);
    for (index, value) in (1..).zip([DATA, ABSENT, DATA_DPL0, CODE_DPL0]) {
        table.set_word(index, value);
    }
    tables::protect(table, READ_ONLY);
    result("a good GDT", set_gdt(list, 512), 0);
    loads(table);
    let writable = tables::protect(table, WRITABLE);
    result("writable mapping of the GDT", writable, EBUSY);
    result("the same frame 14 times", set_gdt(list, 7168), 0);
    result("a GDT of one entry", set_gdt(list, 1), 0);
    result("no GDT again", set_gdt(0, 0), 0);
    let writable = tables::protect(table, WRITABLE);
    result("writable mapping afterwards", writable, 0);
    table.give_back();
}

/// Loads of selectors from a GDT with the descriptors above.
fn loads(table: &Page) {
    let load = |selector: u64| probe!("mov fs, {selector:x}", selector = in(reg) selector);
    same("load a data segment", load(1 << 3 | 3), None);
    same(
        "load an absent segment",
        load(2 << 3 | 3),
        trap::other(11, 2 << 3),
    );
    same(
        "load an empty entry",
        load(9 << 3 | 3),
        trap::protection(9 << 3),
    );
    same("load the null selector", load(0), None);
    // The hypervisor raises the privilege level of what it takes.
    same("DPL of a data segment", table.word(3) >> 45 & 3, 3);
    same("DPL of a code segment", table.word(4) >> 45 & 3, 3);
    same("load the raised data segment", load(3 << 3 | 3), None);
    same(
        "load behind the guest's part",
        load(0xe07b),
        trap::protection(0xe078),
    );
    same("load the null selector again", load(0), None);
}

/// update_descriptor.
pub fn descriptor() {
    let call = |at: u64, value: u64| hypercall(__HYPERVISOR_update_descriptor, [at, value]);
    let page = Page::take();
    result("an ordinary page", call(page.entry(5), DATA), 0);
    same("its content", page.word(5), DATA);
    result("unaligned", call(page.entry(5) + 4, DATA), EINVAL);
    result("unaligned by 1", call(page.entry(5) + 1, DATA), EINVAL);
    for (owner, frame) in bad::frames() {
        let name = format_args!("frame {owner}");
        result(name, call(frame.wrapping_mul(PAGE), DATA), EINVAL);
    }
    for (what, descriptor) in WRONG {
        result(what, call(page.entry(6), descriptor), EINVAL);
    }
    same("content after refusals", page.word(6), 0);
    let frames = Argument::new(&[page.machine()]);
    tables::protect(page, READ_ONLY);
    result("a GDT of it", set_gdt(frames.address(), 512), 0);
    result("an entry of the live GDT", call(page.entry(7), DATA), 0);
    for (what, descriptor) in WRONG {
        let name = format_args!("{what} in the live GDT");
        result(name, call(page.entry(8), descriptor), EINVAL);
    }
    same("the live GDT after refusals", page.word(8), 0);
    result("no GDT", set_gdt(0, 0), 0);
    result(
        "a page table's frame",
        call(tables::root_entry(300), DATA),
        EINVAL,
    );
    tables::protect(page, WRITABLE);
    page.give_back();
}

/// The LDT, an mmuext_op.
pub fn ldt() {
    let call = |at: u64, entries: u64| tables::extended(MMUEXT_SET_LDT, at, entries);
    let table = Page::take();
    result("no LDT", call(0, 0), 0);
    result("unaligned LDT", call(table.address() + 8, 8), EINVAL);
    result("LDT with 8193 entries", call(table.address(), 8193), EINVAL);
    result("LDT of theirs", call(0xffff_8300_0000_0000, 512), EINVAL);
    result("LDT that is not canonical", call(1 << 47, 512), EINVAL);
    table.set_word(1, DATA);
    table.set_word(2, TASK);
    // The frame is looked at on first use.
    let load = |selector: u64| probe!("mov fs, {selector:x}", selector = in(reg) selector);
    let first = 1 << 3 | 7;
    result("LDT in a writable page", call(table.address(), 512), 0);
    same(
        "load from it",
        load(first),
        trap::page_fault(0, table.address() + 8),
    );
    tables::protect(table, READ_ONLY);
    same(
        "load from one with a task state segment",
        load(first),
        trap::page_fault(0, table.address() + 8),
    );
    tables::protect(table, WRITABLE);
    table.set_word(2, 0);
    tables::protect(table, READ_ONLY);
    result("LDT in a read-only page", call(table.address(), 512), 0);
    same("load from that", load(first), None);
    same(
        "load an empty entry of it",
        load(5 << 3 | 7),
        trap::protection(5 << 3 | 4),
    );
    same("load the null selector", load(0), None);
    result(
        "writable mapping of the LDT",
        tables::protect(table, WRITABLE),
        EBUSY,
    );
    result("no LDT again", call(0, 0), 0);
    same(
        "load without an LDT",
        load(first),
        trap::protection(1 << 3 | 4),
    );
    result(
        "writable mapping afterwards",
        tables::protect(table, WRITABLE),
        0,
    );
    table.give_back();
}

/// set_segment_base.
pub fn bases() {
    let call =
        |which: u32, base: u64| hypercall(__HYPERVISOR_set_segment_base, [which.into(), base]);
    let page = Page::take();
    page.set_word(0, 0x1234);
    for (which, name) in [
        (SEGBASE_FS, "FS"),
        (SEGBASE_GS_USER, "user GS"),
        (SEGBASE_GS_KERNEL, "kernel GS"),
    ] {
        result(name, call(which, page.address()), 0);
        for base in [
            1 << 47,
            0xffff_7fff_ffff_ffff,
            1 << 63,
            0x7fff_ffff_ffff_ffff,
        ] {
            let name = format_args!("{name} at {base:#x}");
            result(name, call(which, base), EINVAL);
        }
    }
    let value: u64;
    let met = probe!("mov {value}, fs:[0]", value = out(reg) value);
    same("a read by FS", (met, value), (None, 0x1234));
    let value: u64;
    let met = probe!("mov {value}, gs:[0]", value = out(reg) value);
    same("a read by kernel GS", (met, value), (None, 0x1234));
    for selector in [0, 3, 0xe02b, 0xe033, 0x1234, 0xffff] {
        let name = format_args!("user GS selector {selector:#x}");
        result(name, call(SEGBASE_GS_USER_SEL, selector), 0);
    }
    result(
        "user GS selector 0 at last",
        call(SEGBASE_GS_USER_SEL, 0),
        0,
    );
    for which in [4, 5, u32::MAX] {
        result(format_args!("base {which}"), call(which, 0), EINVAL);
    }
    for which in [SEGBASE_FS, SEGBASE_GS_USER, SEGBASE_GS_KERNEL] {
        result(format_args!("base {which} zero"), call(which, 0), 0);
    }
    page.give_back();
}

/// set_debugreg and get_debugreg.
pub fn debug() {
    let set = |reg: u64, value: u64| hypercall(__HYPERVISOR_set_debugreg, [reg, value]);
    let get = |reg: u64| hypercall(__HYPERVISOR_get_debugreg, [reg]);
    for reg in 0..4 {
        result(format_args!("DR{reg}"), set(reg, 0x1000), 0);
        result(format_args!("DR{reg} read back"), get(reg), 0x1000);
        let above = |(_, address): &&(&str, u64)| (1 << 47..u64::MAX).contains(address);
        for (kind, address) in bad::POINTERS.iter().filter(above) {
            let name = format_args!("DR{reg}, {kind}");
            result(name, set(reg, *address), EPERM);
        }
        result(format_args!("DR{reg} zero"), set(reg, 0), 0);
    }
    result("DR7 general detect", set(7, 0x2000), EPERM);
    result("DR7 I/O breakpoint", set(7, 0x0002_0001), EPERM);
    result("DR7 upper half", set(7, 1 << 32 | 1), EINVAL);
    result("DR6 upper half", set(6, 1 << 32), EINVAL);
    result("DR4", set(4, 0), 0);
    for reg in [8, 9, 0xffff_ffff] {
        result(format_args!("DR{reg}"), set(reg, 0), ENODEV);
        result(format_args!("get DR{reg}"), get(reg), ENODEV);
    }
    let page = Page::take();
    result("watch a page", set(0, page.address()), 0);
    result("arm the watch", set(7, 0x000f_0003), 0);
    same(
        "a watched write",
        trap::try_write(page.address(), 1),
        trap::other(1, 0),
    );
    same("DR6 after it", get(6) & 0xf, 1);
    result("disarm", set(7, 0), 0);
    same(
        "a write no longer watched",
        trap::try_write(page.address(), 2),
        None,
    );
    result("DR6 zero", set(6, 0), 0);
    page.give_back();
}

/// fpu_taskswitch and vm_assist.
pub fn switches() {
    let call = |value: u64| hypercall(__HYPERVISOR_fpu_taskswitch, [value]);
    result("set TS", call(1), 0);
    same(
        "an FPU instruction with TS",
        probe!("fninit"),
        trap::other(7, 0),
    );
    result("clear TS", call(0), 0);
    same("an FPU instruction without", probe!("fninit"), None);
    result("any other value sets it", call(77), 0);
    same("with TS again", probe!("fninit"), trap::other(7, 0));
    result("clear TS again", call(0), 0);
    let assist = |cmd: u32, kind: u64| hypercall(__HYPERVISOR_vm_assist, [cmd.into(), kind]);
    for (kind, name) in [
        (VMASST_TYPE_writable_pagetables, "writable_pagetables"),
        (VMASST_TYPE_architectural_iopl, "architectural_iopl"),
        (VMASST_TYPE_runstate_update_flag, "runstate_update_flag"),
        (VMASST_TYPE_m2p_strict, "m2p_strict"),
    ] {
        result(
            format_args!("enable {name}"),
            assist(VMASST_CMD_enable, kind.into()),
            0,
        );
        result(
            format_args!("disable {name}"),
            assist(VMASST_CMD_disable, kind.into()),
            0,
        );
    }
    for kind in [6, 31, 33, 63, 64, 0xffff_ffff] {
        let name = format_args!("enable {kind}");
        result(name, assist(VMASST_CMD_enable, kind), EINVAL);
    }
    let pagetables = u64::from(VMASST_TYPE_writable_pagetables);
    result("command 2", assist(2, pagetables), ENOSYS);
    result("command -1", assist(u32::MAX, pagetables), ENOSYS);
    result(
        "writable tables again",
        assist(VMASST_CMD_enable, pagetables),
        0,
    );
}
