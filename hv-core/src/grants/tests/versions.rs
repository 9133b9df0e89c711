//! Version 2 and the change between the versions.

use super::world::*;
use crate::base::Gfn;
use crate::grants::copy::{CopyRequest, Place};
use crate::grants::*;
use std::sync::atomic::Ordering;
use xen_abi::errno::Errno;
use xen_abi::grant_table::*;

const RW: u16 = GTF_permit_access;

fn world(limits: Limits) -> World {
    let w = World::new(3, limits);
    for dom in &w.domains {
        dom.set_version(2, &w.pool).unwrap();
    }
    w
}

fn copy_from(w: &World, dom: u16, reference: u32, offset: u16, len: u16) -> Result<(), GrantError> {
    let source = Place::Granted {
        dom: Some(dom),
        reference,
    };
    let dest = Place::Own(Gfn(page_of(0, 7)));
    let request = CopyRequest::new((source, offset), (dest, 0), len)?;
    copy(&w.host(0), &request)
}

fn put(w: &World, dom: u16, reference: u32, word: usize, value: u32) {
    w.entry_word(dom, reference, word)
        .store(value, Ordering::SeqCst);
}

#[test]
fn marks_are_kept_in_the_status_words() {
    let w = world(Limits::default());
    for reference in [4, 5] {
        w.grant(1, reference, 0, page_of(1, 0), RW);
    }
    let host = w.host(0);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    assert_eq!(w.status(1, 5), GTF_reading | GTF_writing);
    assert_eq!(w.status(1, 4), 0);
    let even = map_host(&host, 1, 4, 0x2000, GNTMAP_readonly)
        .unwrap()
        .handle;
    assert_eq!(w.status(1, 4), GTF_reading);
    assert_eq!(w.entry_word(1, 5, 0).load(Ordering::SeqCst), u32::from(RW));
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!((w.status(1, 4), w.status(1, 5)), (GTF_reading, 0));
    unmap(&host, even, 0x2000, 0).unwrap();
    assert_eq!(w.total_refs(), 0);
}

#[test]
fn refused_use_leaves_the_status_alone() {
    let w = world(Limits::default());
    w.grant(1, 5, 0, page_of(1, 0), RW | GTF_readonly);
    let host = w.host(0);
    assert_eq!(map_host(&host, 1, 5, 0x1000, 0), Err(GrantError::General));
    assert_eq!(w.status(1, 5), 0);
    map_host(&host, 1, 5, 0x1000, GNTMAP_readonly).unwrap();
    assert_eq!(map_host(&host, 1, 5, 0x2000, 0), Err(GrantError::General));
    assert_eq!(w.status(1, 5), GTF_reading);
}

#[test]
fn frames_above_32_bits_are_whole() {
    let w = world(Limits::default());
    w.grant(1, 5, 0, page_of(1, 0) | 1 << 32, RW);
    let result = map_host(&w.host(0), 1, 5, 0x1000, 0);
    assert_eq!(result, Err(GrantError::BadPage));
}

#[test]
fn part_of_a_page_is_copied_but_never_mapped() {
    let w = world(Limits::default());
    w.grant(1, 5, 0, page_of(1, 0), RW | GTF_sub_page);
    put(&w, 1, 5, 1, 100 | 50 << 16);
    assert_eq!(copy_from(&w, 1, 5, 100, 50), Ok(()));
    assert_eq!(copy_from(&w, 1, 5, 99, 10), Err(GrantError::General));
    assert_eq!(copy_from(&w, 1, 5, 140, 11), Err(GrantError::General));
    let mapped = map_host(&w.host(0), 1, 5, 0x1000, GNTMAP_readonly);
    assert_eq!(mapped, Err(GrantError::General));
    put(&w, 1, 5, 1, 0xffff_fff0);
    assert_eq!(copy_from(&w, 1, 5, 0, 1), Err(GrantError::General));
    assert_eq!((w.total_refs(), w.status(1, 5)), (0, 0));
}

#[test]
fn copy_follows_one_step_to_a_third_domain() {
    let w = world(Limits::default());
    w.grant(2, 6, 1, page_of(2, 0), RW);
    w.set_header(1, 5, 0, GTF_transitive);
    put(&w, 1, 5, 1, 2);
    put(&w, 1, 5, 2, 6);
    assert_eq!(copy_from(&w, 1, 5, 0, 16), Ok(()));
    let got = w.pages.borrow()[&page_of(0, 7)].bytes[3];
    assert_eq!(got, page_of(2, 0) as u8);
    let mapped = map_host(&w.host(0), 1, 5, 0x1000, GNTMAP_readonly);
    assert_eq!(mapped, Err(GrantError::General));
    // A second step is one too many; so is an entry that grants to the wrong domain.
    w.set_header(2, 6, 1, GTF_transitive);
    assert_eq!(copy_from(&w, 1, 5, 0, 16), Err(GrantError::General));
    w.grant(2, 6, 0, page_of(2, 0), RW);
    assert_eq!(copy_from(&w, 1, 5, 0, 16), Err(GrantError::General));
    put(&w, 1, 5, 1, 77);
    assert_eq!(copy_from(&w, 1, 5, 0, 16), Err(GrantError::BadDomain));
    assert_eq!((w.status(1, 5), w.status(2, 6), w.total_refs()), (0, 0, 0));
}

#[test]
fn transitive_entries_can_be_switched_off() {
    let w = world(Limits {
        transitive: Transitive::Refused,
        ..Limits::default()
    });
    w.grant(2, 6, 1, page_of(2, 0), RW);
    w.set_header(1, 5, 0, GTF_transitive);
    put(&w, 1, 5, 1, 2);
    put(&w, 1, 5, 2, 6);
    assert_eq!(copy_from(&w, 1, 5, 0, 16), Err(GrantError::General));
}

#[test]
fn reserved_entries_survive_the_change_even_in_use() {
    let w = World::new(2, Limits::default());
    w.grant(1, 0, 0, page_of(1, 0), RW);
    w.grant(1, 1, 0, page_of(1, 1), RW | GTF_readonly);
    w.grant(1, 8, 0, page_of(1, 2), RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 0, 0x1000, 0).unwrap().handle;
    let table = w.grants(1);
    table.set_version(2, &w.pool).unwrap();
    assert_eq!(w.status(1, 0), GTF_reading | GTF_writing);
    assert_eq!(w.entry_word(1, 0, 0).load(Ordering::SeqCst), u32::from(RW));
    assert_eq!(w.flags(1, 1), RW | GTF_readonly);
    assert_eq!(w.flags(1, 8), 0, "others are cleared");
    map_host(&host, 1, 1, 0x2000, GNTMAP_readonly).unwrap();
    assert_eq!(w.refs(page_of(1, 1)), (1, 0));
    table.set_version(1, &w.pool).unwrap();
    assert_eq!(w.flags(1, 0), RW | GTF_reading | GTF_writing);
    assert_eq!(w.flags(1, 1), RW | GTF_readonly | GTF_reading);
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.flags(1, 0), RW);
}

#[test]
fn change_is_refused_while_others_are_in_use() {
    let w = World::new(2, Limits::default());
    w.grant(1, 8, 0, page_of(1, 0), RW);
    let host = w.host(0);
    let handle = map_host(&host, 1, 8, 0x1000, 0).unwrap().handle;
    let table = w.grants(1);
    assert_eq!(table.set_version(2, &w.pool), Err(Errno::EBUSY));
    assert_eq!(table.set_version(1, &w.pool), Ok(()));
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(table.set_version(3, &w.pool), Err(Errno::EINVAL));
    assert_eq!(table.set_version(0, &w.pool), Err(Errno::EINVAL));
    w.pool.left.set(Some(0));
    assert_eq!(table.set_version(2, &w.pool), Err(Errno::ENOMEM));
    assert_eq!((table.version(), w.flags(1, 8)), (Version::V1, RW));
    w.pool.left.set(None);
    assert_eq!(table.set_version(2, &w.pool), Ok(()));
    assert_eq!(table.version().number(), 2);
}

#[test]
fn version_has_a_limit() {
    let limits = Limits {
        max_version: Version::V1,
        ..Limits::default()
    };
    let w = World::new(1, limits);
    assert_eq!(w.grants(0).set_version(2, &w.pool), Err(Errno::ENOSYS));
}

#[test]
fn status_frames_grow_with_the_table() {
    let w = World::new(2, Limits::default());
    let table = w.grants(1);
    assert_eq!(table.check_status_frames(0), Err(GrantError::General));
    table.set_version(2, &w.pool).unwrap();
    assert_eq!(table.check_status_frames(1), Ok(()));
    assert_eq!(table.check_status_frames(2), Err(GrantError::General));
    table.setup_table(9, &w.pool).unwrap();
    assert_eq!(table.check_status_frames(2), Ok(()));
    w.grant(1, 9 * 256 - 1, 0, page_of(1, 0), RW);
    map_host(&w.host(0), 1, 9 * 256 - 1, 0x1000, 0).unwrap();
    assert_eq!(w.status(1, 9 * 256 - 1), GTF_reading | GTF_writing);
    let mfn = table.grown_frame(FrameKind::Status, 4, &w.pool).unwrap();
    assert_eq!(table.frame(FrameKind::Status, 4), Some(mfn));
    assert_eq!(table.query_size().frames, 33);
    assert!(table.grown_frame(FrameKind::Status, 8, &w.pool).is_err());
    assert!(table.grown_frame(FrameKind::Status, !0, &w.pool).is_err());
}

#[test]
fn swap_moves_whole_entries() {
    let w = world(Limits::default());
    w.grant(1, 5, 0, page_of(1, 0), RW);
    w.grant(1, 6, 2, page_of(1, 1) | 7 << 32, RW);
    w.grants(1).swap(5, 6).unwrap();
    assert_eq!(w.entry_word(1, 5, 3).load(Ordering::SeqCst), 7);
    assert!(map_host(&w.host(0), 1, 6, 0x1000, 0).is_ok());
}
