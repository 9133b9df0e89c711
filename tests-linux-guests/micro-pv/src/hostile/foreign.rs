//! What belongs to others.

use xen_abi::GuestHandle;
use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::errno::Errno::{EPERM, ESRCH};
use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_update_va_mapping_otherdomain;
use xen_abi::memory::*;
use xen_abi::xen::{DOMID_SELF, MMUEXT_NEW_BASEPTR, MMUEXT_PIN_L1_TABLE, UVMF_INVLPG};

use crate::call::{hypercall, memory};
use crate::checks::bad;
use crate::checks::grants::op;
use crate::checks::mmu::SLOT;
use crate::memory::{self as mem, PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap;

/// Whether a machine frame is ours, by the table that the hypervisor shows.
fn ours(frame: u64) -> bool {
    let number = trap::try_read(MACH2PHYS_VIRT_START + frame * 8);
    number.is_ok_and(|n| n < mem::start_info().nr_pages && mem::machine_frame(n) == frame)
}

/// Frames that the hypervisor keeps for us to write, on this page: shared info, then the grant table's. They have no
/// number of ours. How many there are.
fn lent(page: &Page) -> u64 {
    page.put(0, &(mem::start_info().shared_info / PAGE));
    let size = GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::default()
    };
    let nr_frames = op(GNTTABOP_query_size, &size).1.nr_frames;
    let setup = GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames,
        frame_list: GuestHandle::new(page.address() + 8),
        ..GnttabSetupTable::default()
    };
    let status = op(GNTTABOP_setup_table, &setup).1.status;
    same("the grant table's frames", status, GNTST_okay);
    1 + u64::from(nr_frames)
}

/// Frames of the whole machine: none but ours may be mapped.
pub fn frames() {
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let page = Page::take();
    let count = lent(page);
    let slot = window.l1.entry(2);
    for at in 0..count {
        let frame: u64 = page.get(at * 8);
        let code = tables::update(slot, (frame * PAGE) | WRITABLE);
        result("a frame that is kept for us", code, 0);
        same("it has no number of ours", ours(frame), false);
        tables::update(slot, 0);
    }
    let ours = |frame: u64| ours(frame) || (0..count).any(|at| page.get::<u64>(at * 8) == frame);
    let end = bad::beyond_ram();
    let mut tried = 0_u32;
    for (kind, flags) in [("writable", WRITABLE), ("read-only", READ_ONLY)] {
        let mut taken = None;
        // In steps that meet every offset of a large page.
        let mut frame = 0;
        while frame < end {
            if !ours(frame) && tables::update(slot, (frame * PAGE) | flags) == 0 {
                // The hypervisor shows its table and some pages of its own.
                if flags == WRITABLE {
                    taken = Some(frame);
                }
                tables::update(slot, 0);
            }
            tried += 1;
            frame += 61;
        }
        same(format_args!("a frame of others, {kind}"), taken, None);
    }
    holds("frames were tried", tried > 1000, tried);
    for level in [window.l2, window.l3] {
        let taken = (0..end).step_by(997).filter(|frame| {
            !ours(*frame) && tables::update(level.entry(9), (frame * PAGE) | WRITABLE) == 0
        });
        same("tables of others", taken.count(), 0);
    }
    result("close", window.close(), 0);
}

/// Another domain named in calls about page tables and memory.
pub fn tables() {
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let page = Page::take();
    let entry = (page.machine() * PAGE) | WRITABLE;
    let list = [(window.l1.entry(1), entry)];
    result("map of dom0", tables::update_list(&list, 0).0, EPERM);
    result(
        "change dom0's tables",
        tables::update_list(&list, 1 << 16 | 0x7ff0).0,
        EPERM,
    );
    result("of nobody", tables::update_list(&list, 0x6fff).0, ESRCH);
    for (name, command) in [
        ("pin for dom0", MMUEXT_PIN_L1_TABLE),
        ("a root of dom0", MMUEXT_NEW_BASEPTR),
    ] {
        let code = tables::extended_for(command, page.machine(), 0, 0);
        result(name, code, EPERM);
    }
    let number = __HYPERVISOR_update_va_mapping_otherdomain;
    let code = hypercall(number, [page.address(), entry, UVMF_INVLPG, 0]);
    result("update_va_mapping of dom0", code, EPERM);
    memory_of_others(page);
    result("close", window.close(), 0);
}

fn memory_of_others(page: &Page) {
    page.set_word(0, 5);
    for (name, command, want) in [
        ("populate dom0", XENMEM_populate_physmap, 0),
        ("decrease dom0", XENMEM_decrease_reservation, 0),
        ("increase dom0", XENMEM_increase_reservation, 0),
    ] {
        let request = MemoryReservation {
            extent_start: GuestHandle::new(page.address()),
            nr_extents: 1,
            ..MemoryReservation::default()
        };
        result(name, memory(command.into(), &request).0, want);
    }
    for (name, command) in [
        ("pages of dom0", XENMEM_current_reservation),
        ("most pages of dom0", XENMEM_maximum_reservation),
    ] {
        let code = memory(command.into(), &MemoryDomain { domid: 0 }).0;
        result(name, code, EPERM);
    }
}

/// Grants that nobody has given us.
pub fn grants() {
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let mut okay = 0_u32;
    for reference in 0..1024 {
        let request = GnttabMapGrantRef {
            host_addr: window.base,
            flags: GNTMAP_host_map,
            r#ref: reference,
            dom: 0,
            ..GnttabMapGrantRef::default()
        };
        okay += u32::from(op(GNTTABOP_map_grant_ref, &request).1.status == GNTST_okay);
    }
    same("references of dom0 that can be mapped", okay, 0);
    let page = Page::take();
    let mut copied = 0_u32;
    for reference in 0..1024 {
        let side = |u: u64, domid: u16| GnttabCopyPtr {
            u,
            domid,
            ..GnttabCopyPtr::default()
        };
        let request = GnttabCopy {
            source: side(reference, 0),
            dest: side(page.machine(), DOMID_SELF),
            len: 8,
            flags: GNTCOPY_source_gref,
            ..GnttabCopy::default()
        };
        copied += u32::from(op(GNTTABOP_copy, &request).1.status == GNTST_okay);
    }
    same("references of dom0 that can be copied", copied, 0);
    let size = GnttabQuerySize {
        dom: 0,
        ..GnttabQuerySize::default()
    };
    let status = op(GNTTABOP_query_size, &size).1.status;
    same("the size of dom0's table", status, GNTST_permission_denied);
    result("close", window.close(), 0);
}
