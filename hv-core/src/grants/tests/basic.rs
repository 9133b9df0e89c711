//! One behaviour each, version 1.

use super::world::*;
use crate::base::Gfn;
use crate::base::PAGE_SIZE;
use crate::grants::copy::{Copies, CopyRequest, Place};
use crate::grants::teardown::{Progress, release_mappings};
use crate::grants::*;
use xen_abi::grant_table::*;

const RW: u16 = GTF_permit_access;
const RO: u16 = GTF_permit_access | GTF_readonly;

fn world() -> World {
    World::new(3, Limits::default())
}

#[test]
fn map_shows_in_entry_and_page_and_unmap_undoes_it() {
    let w = world();
    let frame = page_of(1, 0);
    w.grant(1, 5, 0, frame, RW);
    let host = w.host(0);
    let mapped = map_host(&host, 1, 5, 0x1000, 0).unwrap();
    assert_eq!(mapped.dev_bus_addr, frame << 12);
    assert_eq!(w.flags(1, 5), RW | GTF_reading | GTF_writing);
    assert_eq!(w.refs(frame), (0, 1));
    assert_eq!(w.grants(0).mappings(), 1);
    unmap(&host, mapped.handle, 0x1000, 0).unwrap();
    assert_eq!(w.flags(1, 5), RW);
    assert_eq!(w.refs(frame), (0, 0));
    assert_eq!(w.grants(0).mappings(), 0);
    assert!(w.entries.borrow().is_empty());
}

#[test]
fn writing_mark_goes_with_the_last_writer() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let reader = map_host(&host, 1, 5, 0x1000, GNTMAP_readonly).unwrap();
    assert_eq!(w.flags(1, 5), RW | GTF_reading);
    let writer = map_host(&host, 1, 5, 0x2000, 0).unwrap();
    assert_eq!(w.flags(1, 5), RW | GTF_reading | GTF_writing);
    unmap(&host, writer.handle, 0x2000, 0).unwrap();
    assert_eq!(w.flags(1, 5), RW | GTF_reading);
    unmap(&host, reader.handle, 0x1000, 0).unwrap();
    assert_eq!(w.flags(1, 5), RW);
}

#[test]
fn entries_that_do_not_grant_it_are_refused() {
    let w = world();
    let host = w.host(0);
    let try_map = |flags| map_host(&host, 1, 5, 0x1000, flags).map(|_| ());
    assert_eq!(try_map(0), Err(GrantError::General), "empty entry");
    w.grant(1, 5, 2, page_of(1, 0), RW);
    assert_eq!(try_map(0), Err(GrantError::General), "for another domain");
    w.grant(1, 5, 0, page_of(1, 0), RO);
    assert_eq!(try_map(0), Err(GrantError::General), "read-only");
    w.grant(1, 5, 0, page_of(1, 0), GTF_accept_transfer);
    assert_eq!(try_map(0), Err(GrantError::General), "transfer");
    w.grant(1, 5, 0, page_of(2, 0), RW);
    assert_eq!(try_map(0), Err(GrantError::BadPage), "not its page");
    assert_eq!(w.flags(1, 5), RW);
    w.grant(1, 5, 0, page_of(1, 0), RO);
    assert_eq!(try_map(GNTMAP_readonly), Ok(()));
    assert_eq!(w.total_refs(), 1);
    assert_eq!(w.grants(0).mappings(), 1);
}

#[test]
fn bad_names_have_their_own_errors() {
    let w = world();
    let host = w.host(0);
    let beyond = Version::V1.entries_per_frame();
    let at = |dom, reference| map_host(&host, dom, reference, 0x1000, 0).map(|_| ());
    assert_eq!(at(9, 0), Err(GrantError::BadDomain));
    assert_eq!(at(1, beyond), Err(GrantError::BadGntref));
    assert_eq!(at(1, u32::MAX), Err(GrantError::BadGntref));
    assert_eq!(unmap(&host, 0, 0x1000, 0), Err(GrantError::BadHandle));
    assert_eq!(unmap(&host, !0, 0x1000, 0), Err(GrantError::BadHandle));
    let nothing = MapRequest {
        dom: 1,
        reference: 0,
        host_addr: 0,
        flags: 0,
    };
    let result = map::map_grant_ref(&host, &nothing);
    assert_eq!(status::code(&result), GNTST_bad_gntref);
}

#[test]
fn device_part_is_unmapped_alone() {
    let w = world();
    let frame = page_of(1, 3);
    w.grant(1, 9, 0, frame, RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 9, 0x1000, GNTMAP_device_map)
        .unwrap()
        .handle;
    assert_eq!(w.refs(frame), (0, 2));
    let wrong = unmap(&host, handle, 0, 0xdead_0000);
    assert_eq!(wrong, Err(GrantError::BadDevAddr));
    unmap(&host, handle, 0, frame << 12).unwrap();
    assert_eq!(w.refs(frame), (0, 1));
    unmap(&host, handle, 0, frame << 12).unwrap();
    assert_eq!(w.refs(frame), (0, 1), "a part that is gone is ignored");
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.refs(frame), (0, 0));
    assert_eq!(unmap(&host, handle, 0x1000, 0), Err(GrantError::BadHandle));
}

#[test]
fn failed_host_mapping_leaves_no_trace() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    for fault in [
        Fault::CreateMapping,
        Fault::Reference(0),
        Fault::Reference(1),
    ] {
        w.fault.set(fault);
        assert!(map_host(&host, 1, 5, 0x1000, GNTMAP_device_map).is_err());
        assert_eq!(w.total_refs(), 0, "{fault:?}");
        assert_eq!(w.flags(1, 5), RW);
        assert_eq!(w.grants(0).mappings(), 0);
    }
}

#[test]
fn failed_unmap_can_be_tried_again() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    assert_eq!(unmap(&host, handle, 0x9000, 0), Err(GrantError::General));
    assert_eq!(w.refs(page_of(1, 0)), (0, 1));
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.total_refs(), 0);
}

#[test]
fn page_is_held_until_the_unmap_is_finished() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    let request = UnmapRequest {
        handle,
        host_addr: 0x1000,
        dev_bus_addr: 0,
        instead: Unmapping::Clear,
    };
    let pending = map::prepare_unmap(&host, &request).unwrap();
    assert!(pending.needs_flush());
    assert!(w.entries.borrow().is_empty());
    assert_eq!(w.refs(page_of(1, 0)), (0, 1));
    assert_eq!(w.flags(1, 5), RW | GTF_reading | GTF_writing);
    let again = map::prepare_unmap(&host, &request).map(|_| ());
    assert_eq!(again, Err(GrantError::BadHandle));
    pending.finish(&host);
    assert_eq!((w.total_refs(), w.flags(1, 5)), (0, RW));
}

#[test]
fn unmap_can_put_another_mapping_in_place() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let own = (Mfn(page_of(0, 1)), Access::Write);
    w.entries.borrow_mut().insert((0, 0x7000), own);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    let request = UnmapRequest {
        handle,
        host_addr: 0x1000,
        dev_bus_addr: 0,
        instead: Unmapping::Replace(0x7000),
    };
    let pending = map::prepare_unmap(&host, &request).unwrap();
    pending.finish(&host);
    assert_eq!(w.entries.borrow().get(&(0, 0x1000)), Some(&own));
    let handle = map_host(&host, 1, 5, 0x2000, GNTMAP_contains_pte)
        .unwrap()
        .handle;
    let by_entry = UnmapRequest {
        handle,
        host_addr: 0x2000,
        ..request
    };
    let refused = map::prepare_unmap(&host, &by_entry).map(|_| ());
    assert_eq!(refused, Err(GrantError::General));
    unmap(&host, handle, 0x2000, 0).unwrap();
}

#[test]
fn translated_guests_have_no_device_or_entry_mappings() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host_with(0, Paging::Translated);
    for flag in [
        GNTMAP_device_map,
        GNTMAP_contains_pte,
        GNTMAP_application_map,
    ] {
        let result = map_host(&host, 1, 5, 0x1000, flag);
        assert_eq!(result, Err(GrantError::General));
    }
    assert!(map_host(&host, 1, 5, 0x1000, 0).is_ok());
}

#[test]
fn grant_to_oneself_works() {
    let w = world();
    w.grant(2, 5, 2, page_of(2, 0), RW);
    let host = w.host(2);
    let handle = map_host(&host, 2, 5, 0x1000, 0).unwrap().handle;
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.total_refs(), 0);
}

#[test]
fn pin_counts_do_not_wrap() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    for i in 0..u64::from(u16::MAX) {
        map_host(&host, 1, 5, 0x1000 * (i + 1), GNTMAP_readonly).unwrap();
    }
    let one_more = map_host(&host, 1, 5, 8, GNTMAP_readonly);
    assert_eq!(one_more, Err(GrantError::General));
    assert_eq!(w.refs(page_of(1, 0)), (u32::from(u16::MAX), 0));
    assert!(map_host(&host, 1, 5, 8, 0).is_ok(), "writers count apart");
}

#[test]
fn handles_run_out_and_come_back() {
    let limits = Limits {
        max_handles: 300,
        ..Limits::default()
    };
    let w = World::new(2, limits);
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let handles: Vec<_> = (1..=300)
        .map(|i| map_host(&host, 1, 5, 0x1000 * i, 0).unwrap().handle)
        .collect();
    let full = map_host(&host, 1, 5, 8, 0);
    assert_eq!(full, Err(GrantError::NoSpace));
    unmap(&host, handles[17], 0x1000 * 18, 0).unwrap();
    assert_eq!(map_host(&host, 1, 5, 8, 0).unwrap().handle, handles[17]);
}

#[test]
fn table_grows_to_its_limit_all_or_nothing() {
    let w = world();
    let table = w.grants(1);
    assert_eq!(
        table.query_size(),
        TableSize {
            frames: 1,
            max_frames: 64
        }
    );
    w.pool.left.set(Some(2));
    assert_eq!(table.setup_table(4, &w.pool), Err(GrantError::General));
    assert_eq!(table.query_size().frames, 1);
    assert_eq!(w.pool.live.get(), 3);
    w.pool.left.set(None);
    table.setup_table(4, &w.pool).unwrap();
    table.setup_table(2, &w.pool).unwrap();
    assert_eq!(table.query_size().frames, 4);
    assert_eq!(table.setup_table(65, &w.pool), Err(GrantError::General));
    assert_eq!(table.frame(FrameKind::Shared, 4), None);
    let grown = table.grown_frame(FrameKind::Shared, 9, &w.pool).unwrap();
    assert_eq!(table.frame(FrameKind::Shared, 9), Some(grown));
    let last = 64;
    assert!(table.grown_frame(FrameKind::Shared, last, &w.pool).is_err());
    assert!(table.grown_frame(FrameKind::Shared, !0, &w.pool).is_err());
    assert!(table.grown_frame(FrameKind::Status, 0, &w.pool).is_err());
    w.grant(1, 9 * 512 + 511, 0, page_of(1, 1), RW);
    assert!(map_host(&w.host(0), 1, 9 * 512 + 511, 0x1000, 0).is_ok());
}

#[test]
fn copies_between_own_and_granted_pages() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RO);
    w.grant(2, 6, 0, page_of(2, 0), RW);
    let host = w.host(0);
    let granted = |dom, reference| Place::Granted {
        dom: Some(dom),
        reference,
    };
    let own = Place::Own(Gfn(page_of(0, 0)));
    let run =
        |from, to, len| CopyRequest::new(from, to, len).and_then(|request| copy(&host, &request));
    assert_eq!(run((granted(1, 5), 10), (granted(2, 6), 20), 30), Ok(()));
    let bytes = w.pages.borrow()[&page_of(2, 0)].bytes;
    let (old, new) = (page_of(2, 0) as u8, page_of(1, 0) as u8);
    assert_eq!(
        (bytes[19], bytes[20], bytes[49], bytes[50]),
        (old, new, new, old)
    );
    assert_eq!(run((granted(1, 5), 0), (own, 0), PAGE_SIZE as u16), Ok(()));
    assert_eq!(
        run((own, 0), (granted(1, 5), 0), 8),
        Err(GrantError::General)
    );
    let crossing = run((own, 4090), (granted(2, 6), 0), 8);
    assert_eq!(crossing, Err(GrantError::BadCopyArg));
    let crossing = run((own, 0), (granted(2, 6), u16::MAX), u16::MAX);
    assert_eq!(crossing, Err(GrantError::BadCopyArg));
    assert_eq!((w.total_refs(), w.flags(1, 5), w.flags(2, 6)), (0, RO, RW));
}

#[test]
fn pages_that_are_named_again_are_held_once_until_the_end() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RO);
    w.grant(1, 6, 0, page_of(1, 1), RO);
    let host = w.host(0);
    let own = Place::Own(Gfn(page_of(0, 0)));
    let from = |reference| {
        let granted = Place::Granted {
            dom: Some(1),
            reference,
        };
        CopyRequest::new((granted, 0), (own, 0), 8).unwrap()
    };
    let mut copies = Copies::default();
    for _ in 0..3 {
        assert_eq!(copies.copy(&host, &from(5)), Ok(()));
        assert_eq!(w.flags(1, 5), RO | GTF_reading);
        assert_eq!((w.refs(page_of(1, 0)), w.total_refs()), ((1, 0), 2));
    }
    // Another page takes its place, as does an error.
    assert_eq!(copies.copy(&host, &from(6)), Ok(()));
    assert_eq!((w.flags(1, 5), w.flags(1, 6)), (RO, RO | GTF_reading));
    assert_eq!(copies.copy(&host, &from(7)), Err(GrantError::General));
    assert_eq!((w.flags(1, 6), w.total_refs()), (RO, 1));
    assert_eq!(copies.copy(&host, &from(5)), Ok(()));
    copies.finish(&host);
    assert_eq!((w.flags(1, 5), w.total_refs()), (RO, 0));
}

#[test]
fn one_call_copies_from_several_domains() {
    let w = world();
    for dom in [1, 2] {
        w.grant(dom, 5, 0, page_of(dom, 0), RO);
        w.grant(dom, 6, 0, page_of(dom, 1), RO);
    }
    let host = w.host(0);
    let own = page_of(0, 0);
    let mut copies = Copies::default();
    let mut from = |dom, reference| {
        let dom = Some(dom);
        let source = (Place::Granted { dom, reference }, 0);
        let request = CopyRequest::new(source, (Place::Own(Gfn(own)), 0), 1).unwrap();
        let done = copies.copy(&host, &request);
        done.map(|()| u64::from(w.pages.borrow()[&own].bytes[0]))
    };
    for (dom, reference, index) in [(1, 5, 0), (2, 5, 0), (2, 6, 1), (1, 6, 1), (1, 5, 0)] {
        let byte = page_of(dom, index) & 0xff;
        let others: Vec<_> = [(1, 5), (1, 6), (2, 5), (2, 6)]
            .into_iter()
            .filter(|other| *other != (dom, reference))
            .collect();
        assert_eq!(from(dom, reference), Ok(byte));
        assert_eq!(w.flags(dom, reference), RO | GTF_reading);
        assert!(
            others
                .iter()
                .all(|(dom, entry)| w.flags(*dom, *entry) == RO)
        );
    }
    // A domain that there is not: the last one's entries are not taken for its.
    assert_eq!(from(77, 5), Err(GrantError::BadDomain));
    assert_eq!((w.flags(1, 5), w.total_refs()), (RO, 1));
    assert_eq!(from(1, 6), Ok(page_of(1, 1) & 0xff));
    copies.finish(&host);
    assert_eq!((w.flags(1, 6), w.total_refs()), (RO, 0));
}

#[test]
fn copy_arguments_are_decoded() {
    let end = |u, domid| GnttabCopyPtr {
        u,
        domid,
        ..Default::default()
    };
    let own = xen_abi::xen::DOMID_SELF;
    let op = GnttabCopy {
        source: end(0xffff_ffff_0000_0005, 1),
        dest: end(0x1_0000_0000, own),
        len: 1,
        flags: GNTCOPY_source_gref,
        ..Default::default()
    };
    let source = Place::Granted {
        dom: Some(1),
        reference: 5,
    };
    let dest = Place::Own(Gfn(0x1_0000_0000));
    assert_eq!(
        CopyRequest::try_from(&op),
        CopyRequest::new((source, 0), (dest, 0), 1)
    );
    let foreign = GnttabCopy { flags: 0, ..op };
    let refused = CopyRequest::try_from(&foreign);
    assert_eq!(refused, Err(GrantError::PermissionDenied));
}

#[test]
fn entries_in_use_are_not_swapped() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    w.grant(1, 6, 2, page_of(1, 1), RO);
    let table = w.grants(1);
    table.swap(5, 6).unwrap();
    assert_eq!(w.flags(1, 5), RO);
    let host = w.host(0);
    map_host(&host, 1, 6, 0x1000, 0).unwrap();
    assert_eq!(w.refs(page_of(1, 0)), (0, 1));
    assert_eq!(table.swap(5, 6), Err(GrantError::Eagain));
    assert_eq!(table.swap(5, 512), Err(GrantError::BadGntref));
    assert_eq!(table.swap(6, 6), Ok(()));
}

#[test]
fn dying_domain_grants_nothing_new_but_ends_what_there_is() {
    let w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    w.grants(1).mark_dying();
    let refused = map_host(&host, 1, 5, 0x2000, 0);
    assert_eq!(refused, Err(GrantError::BadDomain));
    w.grants(1).abandon(&w.pool);
    assert_eq!(w.pool.live.get(), 2);
    // The page is held by the mapping, whatever became of the table.
    assert_eq!(w.refs(page_of(1, 0)), (0, 1));
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.refs(page_of(1, 0)), (0, 0));
    let after = map_host(&host, 1, 5, 0x2000, 0);
    assert_eq!(after, Err(GrantError::BadDomain));
    assert_eq!(w.grants(1).frame(FrameKind::Shared, 0), None);
}

#[test]
fn a_mapping_is_not_that_of_the_next_domain_with_the_number() {
    let mut w = world();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let handle = map_host(&w.host(0), 1, 5, 0x1000, 0).unwrap().handle;
    // The guest overwrites the entry, the granter dies and another has its number and grants.
    w.tear_down_page_tables(0);
    w.domains[1] = Grants::new(1, Limits::default(), 1, &w.pool).unwrap();
    w.grant(1, 5, 0, page_of(1, 0), RW);
    let host = w.host(0);
    map_host(&host, 1, 5, 0x2000, 0).unwrap();
    assert_eq!(unmap(&host, handle, 0x1000, 0), Err(GrantError::General));
    assert_eq!(w.flags(1, 5), RW | GTF_reading | GTF_writing);
    assert_eq!(w.refs(page_of(1, 0)), (0, 1));
}

#[test]
fn teardown_restarts_and_releases_each_mapping_once() {
    for paging in [Paging::Direct, Paging::Translated] {
        let w = world();
        w.grant(1, 5, 0, page_of(1, 0), RW);
        let host = w.host_with(0, paging);
        let handles: Vec<_> = (1..=10)
            .map(|i| map_host(&host, 1, 5, 0x1000 * i, 0).unwrap().handle)
            .collect();
        unmap(&host, handles[3], 0x4000, 0).unwrap();
        let mut calls = 0;
        while release_mappings(&host, 7) == Progress::More {
            calls += 1;
            assert!(calls < 1000);
        }
        assert!(calls > 10, "256 slots in steps of 7");
        assert_eq!(w.flags(1, 5), RW);
        assert_eq!(w.grants(0).mappings(), 0);
        if paging == Paging::Direct {
            w.tear_down_page_tables(0);
        }
        assert_eq!(w.total_refs(), 0);
    }
}

#[test]
fn cache_flush_needs_the_page_or_a_mapping_of_it() {
    use crate::grants::cache::{Flush, flush_cache};
    use xen_abi::errno::Errno;
    let w = world();
    let frame = page_of(1, 0);
    let host = w.host(0);
    let mut op = GnttabCacheFlush {
        a: frame << 12,
        offset: 64,
        length: 128,
        op: GNTTAB_CACHE_CLEAN,
    };
    assert_eq!(flush_cache(&host, &op, 0), Err(Errno::EPERM));
    w.grant(1, 5, 0, frame, RW);
    map_host(&host, 1, 5, 0x1000, 0).unwrap();
    assert_eq!(flush_cache(&host, &op, 0), Ok(Flush::Done));
    op.a = page_of(0, 2) << 12;
    assert_eq!(flush_cache(&host, &op, 0), Ok(Flush::Done));
    let flushed = [(Mfn(frame), 64, 128), (Mfn(page_of(0, 2)), 64, 128)];
    assert_eq!(*w.flushed.borrow(), flushed);
    op.offset = 4000;
    assert_eq!(flush_cache(&host, &op, 0), Err(Errno::EINVAL));
    op.length = 8;
    op.op |= GNTTAB_CACHE_SOURCE_GREF;
    assert_eq!(flush_cache(&host, &op, 0), Err(Errno::EOPNOTSUPP));
    op.op = 8;
    assert_eq!(flush_cache(&host, &op, 0), Err(Errno::EINVAL));
}

#[test]
fn dump_lists_used_entries_in_pieces() {
    let w = world();
    let host = w.host(0);
    for i in 0..20 {
        w.grant(1, i * 7, 0, page_of(1, 0), RW);
        map_host(&host, 1, i * 7, 0x1000 * u64::from(i + 1), 0).unwrap();
    }
    let (mut out, mut next) = (String::new(), Some(0));
    while let Some(from) = next {
        next = w.grants(1).dump(from, &mut out).unwrap();
    }
    assert_eq!(out.lines().count(), 21);
    assert!(out.starts_with("d1: grants v1, 1 of 64 frames, 0 mappings of others' grants\n"));
    assert!(out.contains("d1: grant 133 to d0: host r0 w1 device r0 w0, mfn 0x200 bytes 0+4096\n"));
}

#[test]
fn limits_come_from_the_toolstack_or_the_defaults() {
    let defaults = Limits {
        max_frames: 32,
        ..Limits::default()
    };
    assert_eq!(Limits::for_domain(-1, -1, 2, defaults), Ok(defaults));
    let small = Limits::for_domain(4, 2, 1, defaults).unwrap();
    assert_eq!((small.max_frames, small.max_handles), (4, 512));
    assert_eq!(small.max_version, Version::V1);
    for (frames, maptrack, opts) in [
        (0, 1, 2),
        (i32::MAX, 1, 2),
        (1, i32::MAX, 2),
        (1, 1, 0),
        (1, 1, 0x12),
    ] {
        assert!(Limits::for_domain(frames, maptrack, opts, defaults).is_err());
    }
    let only_v1 = Limits {
        max_version: Version::V1,
        ..defaults
    };
    assert!(Limits::for_domain(-1, -1, 2, only_v1).is_err());
}
