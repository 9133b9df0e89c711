//! Grants of ours to ourselves: what a valid grant allows, and no more.

use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use xen_abi::xen::{DOMID_SELF, UVMF_INVLPG};

use super::grants::op;
use crate::kernel;
use crate::memory::{PAGE, Page};
use crate::report::{result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap::{self, page_fault};

/// The reference used.
const REFERENCE: u32 = 40;

/// Our first grant table frame, mapped at the page.
pub fn map_table(page: &Page) -> i64 {
    let list = Page::take();
    let setup = GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 1,
        frame_list: GuestHandle::new(list.address()),
        ..GnttabSetupTable::default()
    };
    op(GNTTABOP_setup_table, &setup);
    let frame = list.word(0);
    list.give_back();
    tables::map(page.address(), (frame * PAGE) | WRITABLE, UVMF_INVLPG)
}

fn grant(table: &Page, flags: u16, frame: u64) {
    grant_to(kernel::domain(), table, flags, frame);
}

fn grant_to(domid: u16, table: &Page, flags: u16, frame: u64) {
    let entry = GrantEntryV1 {
        flags,
        domid,
        frame: frame as u32,
    };
    table.put(u64::from(REFERENCE) * 8, &entry);
}

/// Grants a page of ours to dom0 for good; returns the reference.
pub fn lend_to_dom0(page: &Page) -> u32 {
    let table = Page::take();
    result("map the grant table", map_table(table), 0);
    grant_to(0, table, GTF_permit_access, page.machine());
    REFERENCE
}

fn flags_of(table: &Page) -> u16 {
    table.get(u64::from(REFERENCE) * 8)
}

fn map(host_addr: u64, flags: u32) -> (i16, u32) {
    let request = GnttabMapGrantRef {
        host_addr,
        flags,
        r#ref: REFERENCE,
        dom: kernel::domain(),
        ..GnttabMapGrantRef::default()
    };
    let answer = op(GNTTABOP_map_grant_ref, &request).1;
    (answer.status, answer.handle)
}

fn unmap(host_addr: u64, handle: u32) -> i16 {
    let request = GnttabUnmapGrantRef {
        host_addr,
        handle,
        ..GnttabUnmapGrantRef::default()
    };
    op(GNTTABOP_unmap_grant_ref, &request).1.status
}

/// All of it.
pub fn check() {
    let table = Page::take();
    result("map the grant table", map_table(table), 0);
    let (_, window) = Window::open(super::mmu::SLOT);
    let page = Page::take();
    page.set_word(0, 0x4711);
    let at = window.base;
    lives(table, page, at);
    places(page, &window);
    refused(table, page, at);
    tables_granted(table, page, at);
    grant(table, 0, 0);
    result("close", window.close(), 0);
    // The table's own page goes back to its place.
    let back = tables::map(
        table.address(),
        (table.machine() * PAGE) | WRITABLE,
        UVMF_INVLPG,
    );
    result("unmap the grant table", back, 0);
    page.give_back();
    table.give_back();
}

/// Two mappings of one grant.
fn lives(table: &Page, page: &Page, at: u64) {
    grant(table, GTF_permit_access, page.machine());
    let (status, handle) = map(at, GNTMAP_host_map);
    same("map", status, GNTST_okay);
    same("read there", trap::try_read(at), Ok(0x4711));
    same(
        "the entry",
        flags_of(table),
        GTF_permit_access | GTF_reading | GTF_writing,
    );
    let (status, second) = map(at + PAGE, GNTMAP_host_map | GNTMAP_readonly);
    same("map read-only", status, GNTST_okay);
    same(
        "write there",
        trap::try_write(at + PAGE, 1),
        page_fault(3, at + PAGE),
    );
    same(
        "unmap elsewhere",
        unmap(at + 2 * PAGE, handle),
        GNTST_general_error,
    );
    same(
        "unmap of the wrong handle",
        unmap(at, second),
        GNTST_general_error,
    );
    same("unmap", unmap(at, handle), GNTST_okay);
    same(
        "the entry then",
        flags_of(table),
        GTF_permit_access | GTF_reading,
    );
    same(
        "read there then",
        trap::try_read(at).err(),
        page_fault(0, at),
    );
    same("unmap twice", unmap(at, handle), GNTST_bad_handle);
    same("unmap the second", unmap(at + PAGE, second), GNTST_okay);
    same("the entry at last", flags_of(table), GTF_permit_access);
}

/// Grants that do not allow what is asked for.
fn refused(table: &Page, page: &Page, at: u64) {
    grant(table, GTF_permit_access | GTF_readonly, page.machine());
    same(
        "map a read-only grant writable",
        map(at, GNTMAP_host_map).0,
        GNTST_general_error,
    );
    let (status, handle) = map(at, GNTMAP_host_map | GNTMAP_readonly);
    same("map it read-only", status, GNTST_okay);
    same("unmap it", unmap(at, handle), GNTST_okay);
    for (owner, frame) in super::bad::frames().into_iter().take(3) {
        grant(table, GTF_permit_access, frame);
        let name = format_args!("map a grant of a frame {owner}");
        let (status, handle) = map(at, GNTMAP_host_map);
        same(name, status, GNTST_bad_page);
        if status == GNTST_okay {
            unmap(at, handle);
        }
    }
    grant_to(9, table, GTF_permit_access, page.machine());
    same(
        "map a grant to another",
        map(at, GNTMAP_host_map).0,
        GNTST_general_error,
    );
    for kind in [GTF_invalid, GTF_accept_transfer, GTF_transitive] {
        grant(table, kind, page.machine());
        let name = format_args!("map a grant of kind {kind}");
        same(name, map(at, GNTMAP_host_map).0, GNTST_general_error);
    }
}

/// Places at which a grant, valid now, cannot be mapped.
fn places(page: &Page, window: &Window) {
    let at = window.base;
    for (what, address, want) in [
        ("where no table is", 0x7000_0000_0000, GNTST_general_error),
        ("at null", 0, GNTST_general_error),
        (
            "at the hypervisor's",
            0xffff_8300_0000_0000,
            GNTST_general_error,
        ),
        ("where it is not canonical", 1 << 47, GNTST_general_error),
        ("not aligned", at + 8, GNTST_okay),
    ] {
        let (status, handle) = map(address, GNTMAP_host_map);
        same(format_args!("map {what}"), status, want);
        if status == GNTST_okay {
            unmap(address, handle);
        }
    }
    let by_entry = GNTMAP_host_map | GNTMAP_contains_pte;
    let (status, handle) = map(window.l1.entry(9), by_entry);
    same("map by entry", status, GNTST_okay);
    same(
        "unmap by entry",
        unmap(window.l1.entry(9), handle),
        GNTST_okay,
    );
    for (what, entry) in [
        ("a page's word", page.entry(0)),
        ("an L2 entry", window.l2.entry(9)),
        ("an L4 entry", tables::root_entry(300)),
        ("the hypervisor's", super::bad::hypervisor_frame() * PAGE),
        ("behind RAM", super::bad::beyond_ram() * PAGE),
        ("all ones", !7),
    ] {
        let name = format_args!("map by entry: {what}");
        same(name, map(entry, by_entry).0, GNTST_general_error);
    }
}

/// A page table that is granted can be mapped read-only but not writable.
fn tables_granted(table: &Page, page: &Page, at: u64) {
    page.clear();
    tables::protect(page, READ_ONLY);
    result("pin it", tables::extended(0, page.machine(), 0), 0);
    grant(table, GTF_permit_access, page.machine());
    same(
        "map a page table writable",
        map(at, GNTMAP_host_map).0,
        GNTST_general_error,
    );
    same("the entry after that", flags_of(table), GTF_permit_access);
    let (status, handle) = map(at, GNTMAP_host_map | GNTMAP_readonly);
    same("map a page table read-only", status, GNTST_okay);
    same("unmap it", unmap(at, handle), GNTST_okay);
    result("unpin it", tables::release(page), 0);
    let (_, handle) = map(at, GNTMAP_host_map);
    tables::protect(page, READ_ONLY);
    let pinned = tables::extended(0, page.machine(), 0);
    result(
        "pin while granted writable",
        pinned,
        xen_abi::errno::Errno::EINVAL,
    );
    same("unmap that", unmap(at, handle), GNTST_okay);
    result("pin afterwards", tables::extended(0, page.machine(), 0), 0);
    result("and unpin", tables::release(page), 0);
}
