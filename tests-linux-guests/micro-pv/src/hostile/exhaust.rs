//! All that there is of something; the domain's end gives it back.

use xen_abi::GuestHandle;
use xen_abi::grant_table::*;
use xen_abi::memory::*;
use xen_abi::xen::DOMID_SELF;

use crate::call::memory;
use crate::checks::granted;
use crate::checks::grants::op;
use crate::checks::mmu::SLOT;
use crate::kernel;
use crate::memory::{PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::Window;

/// Pages until there are no more, and half of them back.
pub fn memory_all() {
    let list = Page::take();
    let reservation = |op: u32, order: u32| {
        let request = MemoryReservation {
            extent_start: GuestHandle::new(list.address()),
            nr_extents: 1,
            extent_order: order,
            domid: DOMID_SELF,
            ..MemoryReservation::default()
        };
        memory(op.into(), &request).0
    };
    let mut got = 0_u64;
    for order in [9, 4, 0] {
        while got < 1 << 20 {
            list.set_word(0, 0x10_0000 + got);
            if reservation(XENMEM_populate_physmap, order) != 1 {
                break;
            }
            got += 1 << order;
        }
    }
    holds("memory has an end", got < 1 << 20, got);
    list.set_word(0, 0);
    let more = reservation(XENMEM_increase_reservation, 0);
    result("and no other way to more", more, 0);
    let (code, _) = memory(
        XENMEM_current_reservation.into(),
        &MemoryDomain { domid: DOMID_SELF },
    );
    let (most, _) = memory(
        XENMEM_maximum_reservation.into(),
        &MemoryDomain { domid: DOMID_SELF },
    );
    same("as many as there may be", code, most);
}

/// Grant frames, in both versions.
pub fn grants() {
    let list = Page::take();
    let setup = |nr_frames: u32| {
        let setup = GnttabSetupTable {
            dom: DOMID_SELF,
            nr_frames,
            frame_list: GuestHandle::new(list.address()),
            ..GnttabSetupTable::default()
        };
        op(GNTTABOP_setup_table, &setup).1.status
    };
    let size = GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::default()
    };
    let most = op(GNTTABOP_query_size, &size).1.max_nr_frames;
    holds("there is a bound", (1..=64).contains(&most), most);
    for frames in 1..=most {
        same(format_args!("{frames} frames"), setup(frames), GNTST_okay);
    }
    same("one more", setup(most + 1), GNTST_general_error);
    let version = op(GNTTABOP_set_version, &GnttabSetVersion { version: 2 });
    result("version 2", version.0, 0);
    same(
        "one more of version 2",
        setup(most + 1),
        GNTST_general_error,
    );
    let status = GnttabGetStatusFrames {
        nr_frames: most,
        dom: DOMID_SELF,
        frame_list: GuestHandle::new(list.address()),
        ..GnttabGetStatusFrames::default()
    };
    let answer = op(GNTTABOP_get_status_frames, &status).1.status;
    holds(
        "status frames for all",
        answer == GNTST_okay || answer == GNTST_general_error,
        answer,
    );
}

/// The first reference that is not for the toolstack.
const FIRST: u32 = 8;
/// Times that one entry is mapped: it counts no further than 127.
const USES: u32 = 100;

/// Handles: one grant is mapped at one place again and again, so that they are lost.
pub fn maptrack() {
    let table = Page::take();
    result("map the grant table", granted::map_table(table), 0);
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let page = Page::take();
    let entry = GrantEntryV1 {
        flags: GTF_permit_access,
        domid: kernel::domain(),
        frame: page.machine() as u32,
    };
    for reference in FIRST..512 {
        table.put(u64::from(reference) * 8, &entry);
    }
    let mut mapped = 0_u32;
    let last = loop {
        let request = GnttabMapGrantRef {
            host_addr: window.base + PAGE * u64::from(mapped % 512),
            flags: GNTMAP_host_map,
            r#ref: FIRST + mapped / USES,
            dom: kernel::domain(),
            ..GnttabMapGrantRef::default()
        };
        let status = op(GNTTABOP_map_grant_ref, &request).1.status;
        if status != GNTST_okay || mapped > 1 << 20 {
            break status;
        }
        mapped += 1;
    };
    same("one handle too many", last, GNTST_no_space);
    holds(
        "how many there are",
        (255..=1 << 16).contains(&mapped),
        mapped,
    );
}
