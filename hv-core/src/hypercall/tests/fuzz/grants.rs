//! Grant tables of three domains, which also write their entries.

use xen_abi::grant_table::*;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromZeros, Immutable, IntoBytes};

use super::engine::Answer;
use super::steps::{BUFFER, LIST, Step, World, step};
use crate::base::DomId;
use crate::grants::FrameKind;
use crate::grants::teardown::{Progress, release_mappings};
use crate::hypercall::Ctx;
use crate::hypercall::grant_host::Caller;
use crate::hypercall::testing::FakeHost;
use crate::mm::refs::{get_page_and_type, put_page_and_type};
use crate::mm::{Owner, PageType, Reach, Standing};

/// The step that writes entries of one's own table.
const ENTRIES: u8 = 0xff;
/// The step that fills a buffer.
const FILL: u8 = 0xfe;
/// The page of each domain that is an L1 table: mappings are made in its entries.
const TABLE: usize = 0;

fn op<T: IntoBytes + Immutable>(who: u8, cmd: u32, value: &T) -> Vec<u8> {
    let mut words = vec![0; size_of::<T>().div_ceil(8)];
    words.as_mut_bytes()[..size_of::<T>()].copy_from_slice(value.as_bytes());
    step(who, cmd as u8, (1, 0), &words)
}

/// The step that fills an entry of the first version.
fn grant(who: u8, reference: u16, to: DomId, frame: u64, flags: u16) -> Vec<u8> {
    let entry = u64::from(flags) | u64::from(to) << 16 | frame << 32;
    step(who, ENTRIES, (reference, 0), &[entry])
}

/// Good sequences.
pub fn corpus() -> Vec<Vec<u8>> {
    let world = World::new();
    let page = |who: usize, index: usize| world.pages[who][index];
    let map = |who: u8, dom: DomId, reference: u32, slot: u64, flags: u32| {
        let request = GnttabMapGrantRef {
            host_addr: page(who.into(), TABLE).addr().0 + slot * 8,
            flags: GNTMAP_host_map | GNTMAP_contains_pte | flags,
            r#ref: reference,
            dom,
            ..GnttabMapGrantRef::new_zeroed()
        };
        op(who, GNTTABOP_map_grant_ref, &request)
    };
    let unmap = |who: u8, handle: u32, slot: u64| {
        let request = GnttabUnmapGrantRef {
            host_addr: page(who.into(), TABLE).addr().0 + slot * 8,
            handle,
            ..GnttabUnmapGrantRef::new_zeroed()
        };
        op(who, GNTTABOP_unmap_grant_ref, &request)
    };
    let maps = [
        grant(1, 8, 0, page(1, 1).0, GTF_permit_access),
        grant(1, 9, 2, page(1, 2).0, GTF_permit_access | GTF_readonly),
        map(0, 1, 8, 5, 0),
        map(0, 1, 8, 6, GNTMAP_readonly),
        map(2, 1, 9, 1, GNTMAP_readonly),
        unmap(0, 0, 5),
        grant(1, 8, 0, 0, 0),
        unmap(0, 1, 6),
        unmap(2, 0, 1),
    ]
    .concat();
    vec![maps, copies(&world), tables(&world)]
}

/// Copies by frame and by reference.
fn copies(world: &World) -> Vec<u8> {
    let side = |u: u64, domid: DomId, offset: u16| GnttabCopyPtr {
        u,
        domid,
        offset,
        ..GnttabCopyPtr::new_zeroed()
    };
    let copy = |who: u8, source, dest, flags| {
        let request = GnttabCopy {
            source,
            dest,
            len: 64,
            flags,
            ..GnttabCopy::new_zeroed()
        };
        op(who, GNTTABOP_copy, &request)
    };
    let own = |who: usize, index: usize| side(world.pages[who][index].0, DOMID_SELF, 8);
    [
        grant(2, 10, 1, world.pages[2][1].0, GTF_permit_access),
        grant(1, 11, 1, world.pages[1][3].0, GTF_permit_access),
        copy(1, own(1, 1), own(1, 2), 0),
        copy(1, side(10, 2, 0), own(1, 2), GNTCOPY_source_gref),
        copy(1, own(1, 1), side(10, 2, 100), GNTCOPY_dest_gref),
        copy(
            1,
            side(11, 1, 0),
            side(10, 2, 4000),
            GNTCOPY_source_gref | GNTCOPY_dest_gref,
        ),
    ]
    .concat()
}

/// Sizes, versions and the rest.
fn tables(world: &World) -> Vec<u8> {
    let setup = GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 3,
        frame_list: xen_abi::GuestHandle::new(BUFFER),
        ..GnttabSetupTable::new_zeroed()
    };
    let status = GnttabGetStatusFrames {
        nr_frames: 1,
        dom: DOMID_SELF,
        frame_list: xen_abi::GuestHandle::new(BUFFER),
        ..GnttabGetStatusFrames::new_zeroed()
    };
    let size = GnttabQuerySize {
        dom: DOMID_SELF,
        ..GnttabQuerySize::new_zeroed()
    };
    let swap = GnttabSwapGrantRef {
        ref_a: 8,
        ref_b: 12,
        ..GnttabSwapGrantRef::new_zeroed()
    };
    let flush = GnttabCacheFlush {
        a: world.pages[1][1].addr().0,
        offset: 0,
        length: 64,
        op: GNTTAB_CACHE_CLEAN,
    };
    [
        op(1, GNTTABOP_setup_table, &setup),
        op(1, GNTTABOP_query_size, &size),
        grant(1, 8, 0, world.pages[1][1].0, GTF_permit_access),
        op(1, GNTTABOP_swap_grant_ref, &swap),
        op(1, GNTTABOP_set_version, &GnttabSetVersion { version: 2 }),
        op(1, GNTTABOP_get_status_frames, &status),
        op(1, GNTTABOP_cache_flush, &flush),
        op(1, GNTTABOP_set_version, &GnttabSetVersion { version: 1 }),
    ]
    .concat()
}

/// The steps; then all domains let go of what they have mapped, as when they die, and no page is held but by its owner.
/// One that was given away (`GNTTABOP_transfer`) is that of who took it, or nobody's.
pub fn run(input: &[u8]) -> Answer {
    let mut world = World::new();
    for (domain, pages) in world.domains.iter().zip(&world.pages) {
        let kind = PageType::L1;
        get_page_and_type(world.f.machine, pages[TABLE], domain.id, kind, Reach::Owner).unwrap();
    }
    let answer = world.run(input, act);
    for domain in &world.domains {
        world.f.caller = domain.clone();
        let done = |cx: &mut Ctx<'_, FakeHost>| release_mappings(&Caller::new(&mut cx.any()), 1000);
        while world.f.with(done) == Progress::More {}
        assert_eq!(domain.grants.mappings(), 0, "handles are left");
    }
    for pages in &world.pages {
        put_page_and_type(world.f.machine, pages[TABLE]).unwrap();
    }
    assert_eq!(held(&world), [], "pages are held no more");
    answer
}

fn act(w: &mut World, step: &Step) {
    match step.what {
        ENTRIES => {
            let table = &w.domains[step.who].grants;
            if let Some(frame) = table.frame(FrameKind::Shared, u32::from(step.b) % 4) {
                w.poke(frame, step.a, &step.words);
            }
        }
        FILL => {
            let at = BUFFER + u64::from(step.a % 0x1000) * 8;
            w.f.put(at, step.words.as_slice());
        }
        command => {
            w.f.put(LIST, step.words.as_slice());
            let args = [command.into(), LIST, step.a.into(), 0, 0, 0];
            let _ = w.call(__HYPERVISOR_grant_table_op, args);
        }
    }
}

/// Pages of domains that are referenced by more than their owner. Who has which may have changed: pages are given away.
fn held(w: &World) -> Vec<u64> {
    let frames = (0..).zip(&w.f.machine.frames);
    let own = frames.filter(|(_, frame)| {
        matches!(frame.owner(), Owner::Domain(_)) && frame.standing() == Standing::Own
    });
    own.filter(|(_, frame)| frame.references() != 1 || !frame.is_allocated())
        .map(|(mfn, _)| mfn)
        .collect()
}
