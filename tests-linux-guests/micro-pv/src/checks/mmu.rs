//! mmu_update and update_va_mapping: what an entry may hold.

use xen_abi::errno::Errno::{EBUSY, EFAULT, EINVAL, ENOSYS, EPERM, ESRCH};
use xen_abi::hypercall::{__HYPERVISOR_mmu_update, __HYPERVISOR_update_va_mapping};
use xen_abi::xen::*;

use super::bad;
use crate::call::hypercall;
use crate::memory::{self, PAGE, Page};
use crate::report::{either, result, same};
use crate::tables::{self, LARGE, READ_ONLY, WRITABLE, Window};
use crate::trap::{self, page_fault};

/// A free slot of the guest's half.
pub const SLOT: u64 = 5;

/// The call itself: pointers, counts, commands, domains.
pub fn call() {
    let raw = |list: u64, count: u64, done: u64, domain: u64| {
        hypercall(__HYPERVISOR_mmu_update, [list, count, done, domain])
    };
    let own = u64::from(DOMID_SELF);
    let page = Page::take();
    let at = page.address();
    result("an empty list", raw(at, 0, 0, own), 0);
    result("an empty list at null", raw(0, 0, 0, own), 0);
    result("2^32 elements at null", raw(0, 1 << 32, 0, own), 0);
    for (kind, pointer) in bad::POINTERS {
        let name = format_args!("list, {kind} pointer");
        result(name, raw(*pointer, 1, 0, own), EFAULT);
    }
    let target = Page::take();
    page.put(
        0,
        &MmuUpdate {
            ptr: target.entry(0),
            val: 0,
        },
    );
    for (kind, pointer) in &bad::POINTERS[1..] {
        // The count is a courtesy: not being able to write it is no error.
        let name = format_args!("done count, {kind} pointer");
        result(name, raw(at, 1, *pointer, own), 0);
    }
    for domain in [0x6fff, 0x7fef, 0x7ff3, 0x7ff4, 0x7fff, 0xffff] {
        let name = format_args!("domain {domain:#x}");
        result(name, raw(at, 1, 0, domain), ESRCH);
    }
    // The upper half names the owner of the tables, plus one.
    result("tables of domain 6", raw(at, 1, 0, 7 << 16 | own), ESRCH);
    result("tables of domain 0", raw(at, 1, 0, 1 << 16 | own), 0);
    for low in 4..8 {
        let name = format_args!("command {low}");
        result(name, tables::update(target.entry(1) | low, 1), ENOSYS);
    }
    let (code, done) = tables::update_list(
        &[
            (target.entry(0), 7),
            (target.entry(1), 8),
            (!7, 9),
            (target.entry(2), 10),
        ],
        DOMID_SELF.into(),
    );
    result("the third of four is bad", code, EINVAL);
    let words = (target.word(0), target.word(1), target.word(2));
    same("two were done", (done, words), (2, (7, 8, 0)));
    same("with command 3", tables::update(target.entry(0) | 3, 11), 0);
    for (owner, frame) in bad::frames() {
        for command in 0..4 {
            let name = format_args!("table {owner}, command {command}");
            let ptr = frame.wrapping_mul(PAGE) | command;
            result(name, tables::update(ptr, 0), EINVAL);
        }
    }
    target.give_back();
    page.give_back();
}

/// Entries of an L1 table in use.
pub fn level1() {
    let (opened, window) = Window::open(SLOT);
    result("own tables in a free slot", opened, 0);
    let page = Page::take();
    let slot = |index: u64| window.l1.entry(index);
    let frame = page.machine() * PAGE;
    result("map a page", tables::update(slot(0), frame | WRITABLE), 0);
    same("write there", trap::try_write(window.base, 0x77), None);
    same("it is the page", page.word(0), 0x77);
    let flush = || tables::extended(MMUEXT_INVLPG_LOCAL, window.base, 0);
    result(
        "map it read-only",
        tables::update(slot(0), frame | READ_ONLY),
        0,
    );
    result("flush", flush(), 0);
    same(
        "write there now",
        trap::try_write(window.base, 0x78),
        page_fault(3, window.base),
    );
    result("unmap it", tables::update(slot(0), 0), 0);
    result("flush again", flush(), 0);
    let hole = trap::try_read(window.base).err();
    same("read there now", hole, page_fault(0, window.base));
    foreign_frames(&window);
    for (what, flags) in [
        ("bit 52", WRITABLE | 1 << 52),
        ("bit 62", WRITABLE | 1 << 62),
        ("no execution", WRITABLE | 1 << 63),
        ("available bits", WRITABLE | 0x600),
        ("the hypervisor's available bit", WRITABLE | 0x800),
        ("the global bit", WRITABLE | 0x100),
        ("uncached", WRITABLE | 0x18),
        ("write-combining", WRITABLE | 0x88),
        ("without the user bit", 3),
    ] {
        result(what, tables::update(slot(1), frame | flags), 0);
    }
    same("is user all the same", window.l1.word(1) & 7, 7);
    tables_in_use(&window);
    same(
        "not present, any bits",
        tables::update(slot(3), 0xdead_beef_dead_bee8),
        0,
    );
    same("are kept", window.l1.word(3), 0xdead_beef_dead_bee8);
    tables::update(slot(1), 0);
    tables::update(slot(2), 0);
    preserve(&window, page);
    result("close", window.close(), 0);
    page.give_back();
}

/// Frames that are not ours. dom0 may map what is not RAM: devices.
fn foreign_frames(window: &Window) {
    let slot = window.l1.entry(1);
    let wanted = [
        EBUSY.to_ret(),
        0,
        EPERM.to_ret(),
        EINVAL.to_ret(),
        EINVAL.to_ret(),
    ];
    for ((owner, frame), want) in bad::frames().into_iter().zip(wanted) {
        let entry = frame.wrapping_mul(PAGE) & memory::FRAME_MASK | WRITABLE;
        let name = format_args!("map a frame {owner}");
        result(name, tables::update(slot, entry), want);
        let name = format_args!("map a frame {owner}, read-only");
        result(name, tables::update(slot, entry & !tables::RW), want);
    }
}

/// Page tables: read-only mappings of them are allowed.
fn tables_in_use(window: &Window) {
    let slot = window.l1.entry(2);
    for (what, table) in [
        ("the L1", window.l1.machine()),
        ("the L2", window.l2.machine()),
        ("the L3", window.l3.machine()),
        ("the L4", memory::frame_at(tables::root())),
    ] {
        let entry = (table * PAGE) | WRITABLE;
        result(
            format_args!("map {what} writable"),
            tables::update(slot, entry),
            EBUSY,
        );
        let name = format_args!("map {what} read-only");
        result(name, tables::update(slot, entry & !tables::RW), 0);
    }
}

/// The command that keeps accessed and dirty bits.
fn preserve(window: &Window, page: &Page) {
    let slot = window.l1.entry(4);
    let entry = (page.machine() * PAGE) | WRITABLE;
    result("clean entry", tables::update(slot, entry & !0x60), 0);
    same("as given", window.l1.word(4) & 0x60, 0);
    trap::try_write(window.base + 4 * PAGE, 1);
    same("used", window.l1.word(4) & 0x60, 0x60);
    let keep = MMU_PT_UPDATE_PRESERVE_AD;
    result(
        "keep the bits",
        tables::update(slot | keep, entry & !0x60),
        0,
    );
    same("they are kept", window.l1.word(4) & 0x60, 0x60);
    result("do not keep them", tables::update(slot, entry & !0x60), 0);
    same("they are gone", window.l1.word(4) & 0x60, 0);
    result("remove it", tables::update(slot, 0), 0);
}

/// Name of a check of a table of this level.
struct Of(u32, &'static str);

impl core::fmt::Display for Of {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "L{}: {}", self.0, self.1)
    }
}

/// Entries of higher tables.
pub fn higher() {
    let (_, window) = Window::open(SLOT);
    let fresh = Page::take();
    let frame = fresh.machine() * PAGE;
    for (level, table) in [(2, window.l2), (3, window.l3)] {
        let set = |entry: u64| tables::update(table.entry(7), entry);
        let name = |what: &'static str| Of(level, what);
        tables::protect(fresh, WRITABLE);
        result(
            name("a page mapped writable"),
            set(frame | WRITABLE),
            EINVAL,
        );
        tables::protect(fresh, READ_ONLY);
        result(name("an empty table"), set(frame | WRITABLE), 0);
        result(name("bit 52"), set(frame | WRITABLE | 1 << 52), 0);
        result(name("a large page"), set(frame | WRITABLE | LARGE), EINVAL);
        result(
            name("the global bit"),
            set(frame | WRITABLE | 0x100),
            EINVAL,
        );
        same(name("as before"), table.word(7) & memory::FRAME_MASK, frame);
        result(name("nothing"), set(0), 0);
        linear(level, table);
        for (owner, frame) in bad::frames() {
            let entry = frame.wrapping_mul(PAGE) & memory::FRAME_MASK | WRITABLE;
            result(
                format_args!("L{level}: a table {owner}"),
                set(entry),
                EINVAL,
            );
        }
    }
    tables::protect(fresh, WRITABLE);
    let (l1, l2, l3) = (window.l1, window.l2, window.l3);
    for (what, table, entry) in [
        (
            "L2: a table of level 2",
            l2,
            (l2.machine() * PAGE) | WRITABLE,
        ),
        (
            "L2: a table of level 3",
            l2,
            (l3.machine() * PAGE) | WRITABLE,
        ),
        (
            "L3: a table of level 1",
            l3,
            (l1.machine() * PAGE) | WRITABLE,
        ),
        (
            "L3: our L4",
            l3,
            (memory::frame_at(tables::root()) * PAGE) | READ_ONLY,
        ),
    ] {
        result(what, tables::update(table.entry(8), entry), EINVAL);
    }
    result("close", window.close(), 0);
    fresh.give_back();
    roots();
}

/// An entry that names its own table. Read-only ones may be allowed, as in Debian's build of Xen;
/// writable ones never are.
fn linear(level: u32, table: &Page) {
    let entry = table.machine() * PAGE;
    let set = |entry: u64| tables::update(table.entry(7), entry);
    result(
        Of(level, "the table itself, writable"),
        set(entry | WRITABLE),
        EINVAL,
    );
    let name = Of(level, "the table itself, read-only");
    either(name, set(entry | READ_ONLY), 0, EINVAL);
    result(Of(level, "nothing again"), set(0), 0);
}

/// Entries of the L4.
fn roots() {
    let fresh = Page::take();
    let frame = fresh.machine() * PAGE;
    let root = memory::frame_at(tables::root()) * PAGE;
    for slot in [256, 257, 258, 260, 261, 262, 271] {
        let before: u64 = memory::read(tables::root() + slot * 8);
        for (what, entry) in [
            ("nothing", 0),
            ("a table", frame | WRITABLE),
            ("itself", before),
        ] {
            let name = format_args!("L4 slot {slot}: {what}");
            result(
                name,
                tables::update(tables::root_entry(slot), entry),
                EINVAL,
            );
        }
        let after: u64 = memory::read(tables::root() + slot * 8);
        same(format_args!("L4 slot {slot} as before"), after, before);
    }
    let set = |entry: u64| tables::update(tables::root_entry(SLOT), entry);
    result("L4: a large page", set(frame | WRITABLE | LARGE), EINVAL);
    result("L4: the global bit", set(frame | WRITABLE | 0x100), EINVAL);
    result("L4: itself, writable", set(root | WRITABLE), EINVAL);
    either("L4: itself, read-only", set(root | READ_ONLY), 0, EINVAL);
    result("L4: nothing in place of it", set(0), 0);
    result("L4: a page mapped writable", set(frame | WRITABLE), EINVAL);
    tables::protect(fresh, READ_ONLY);
    result("L4: an empty L3", set(frame | WRITABLE), 0);
    result("L4: nothing", set(0), 0);
    tables::protect(fresh, WRITABLE);
    for (owner, frame) in bad::frames() {
        let entry = frame.wrapping_mul(PAGE) & memory::FRAME_MASK | WRITABLE;
        result(format_args!("L4: a table {owner}"), set(entry), EINVAL);
    }
    fresh.give_back();
}

/// update_va_mapping.
pub fn address() {
    let call = |at: u64, entry: u64, flags: u64| {
        hypercall(__HYPERVISOR_update_va_mapping, [at, entry, flags])
    };
    let page = Page::take();
    let entry = (page.machine() * PAGE) | WRITABLE;
    for (kind, at) in bad::POINTERS.iter().filter(|(_, at)| *at != u64::MAX) {
        result(format_args!("{kind} address"), call(*at, entry, 0), EINVAL);
    }
    let at = page.address();
    for flags in [
        UVMF_NONE,
        UVMF_TLB_FLUSH,
        UVMF_INVLPG,
        UVMF_TLB_FLUSH | UVMF_ALL,
        UVMF_INVLPG | UVMF_ALL,
        UVMF_ALL,
    ] {
        result(format_args!("flags {flags}"), call(at, entry, flags), 0);
    }
    result("both flushes", call(at, entry, 3), 0);
    let mask = Page::take();
    for kind in [UVMF_TLB_FLUSH, UVMF_INVLPG] {
        let name = format_args!("flush {kind} with a mask");
        result(name, call(at, entry, kind | mask.address()), 0);
        for (bad, pointer) in &bad::POINTERS[1..] {
            let name = format_args!("flush {kind}, mask at {bad} pointer");
            result(name, call(at, entry, kind | pointer & !7), EFAULT);
        }
    }
    let wanted = [
        EBUSY.to_ret(),
        0,
        EPERM.to_ret(),
        EINVAL.to_ret(),
        EINVAL.to_ret(),
    ];
    for ((owner, frame), want) in bad::frames().into_iter().zip(wanted) {
        let entry = frame.wrapping_mul(PAGE) & memory::FRAME_MASK | WRITABLE;
        result(format_args!("a frame {owner}"), call(at, entry, 0), want);
    }
    result("its own frame again", call(at, entry, UVMF_INVLPG), 0);
    mask.give_back();
    page.give_back();
    used();
    others();
}

/// What a mapping means for accesses.
fn used() {
    let call = tables::map;
    let page = Page::take();
    let (at, entry) = (page.address(), (page.machine() * PAGE) | WRITABLE);
    result(
        "an unaligned address",
        call(at + 123, entry, UVMF_INVLPG),
        0,
    );
    same("a write afterwards", trap::try_write(at, 1), None);
    let table = tables::entry_for(at, 2).expect("the initial tables are there");
    let l1: u64 = memory::read(tables::address_of(table));
    result(
        "an L1 in use, writable",
        call(at, l1 & memory::FRAME_MASK | WRITABLE, 0),
        EBUSY,
    );
    result("remove", call(at, 0, UVMF_INVLPG), 0);
    same(
        "a write into the hole",
        trap::try_write(at, 1),
        page_fault(2, at),
    );
    result("put it back", call(at, entry, UVMF_INVLPG), 0);
    page.give_back();
}

/// update_va_mapping_otherdomain.
fn others() {
    let page = Page::take();
    let entry = (page.machine() * PAGE) | WRITABLE;
    let call = |domain: u64| {
        let number = xen_abi::hypercall::__HYPERVISOR_update_va_mapping_otherdomain;
        hypercall(number, [page.address(), entry, UVMF_INVLPG, domain])
    };
    result("of ourselves by number", call(0), ESRCH);
    result("of ourselves by name", call(DOMID_SELF.into()), 0);
    for domain in [0x6fff, 0x7fef, 0x7ff4, 0x7fff] {
        result(format_args!("of domain {domain:#x}"), call(domain), ESRCH);
    }
    // What counts is that we may map the frame, whoever is said to own it.
    result("of DOMID_IO", call(DOMID_IO.into()), 0);
    result("of DOMID_XEN", call(DOMID_XEN.into()), 0);
    page.give_back();
}
