//! Grants of and to translated domains.

use xen_abi::grant_table as gt;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op as CALL;
use xen_abi::xen::DOMID_SELF;

use super::*;
use crate::grants::FrameKind;
use crate::hypercall::narrow::tests::make;
use crate::mm::refs::get_page_and_type;
use crate::mm::{PageType, Pte, Reach};

/// Writes an entry that grants a frame to a domain.
pub fn grant(of: &Domain, reference: usize, number: u64, to: u16, flags: u16) {
    let frame = of.grants.frame(FrameKind::Shared, 0).unwrap();
    let words = of.machine.words32(frame);
    words[reference * 2 + 1].store(number as u32, Ordering::SeqCst);
    let head = u32::from(to) << 16 | u32::from(gt::GTF_permit_access | flags);
    words[reference * 2].store(head, Ordering::SeqCst);
}

/// A world with d2, a PV domain that grants one page to d1 at reference 8, and one read-only at 9.
fn with_peer() -> (World, Arc<Domain>, [Mfn; 2]) {
    let w = World::new();
    let peer = w.f.add(2);
    let pages = [w.f.machine.page_of(2), w.f.machine.page_of(2)];
    grant(&peer, 8, pages[0].0, TARGET, 0);
    grant(&peer, 9, pages[1].0, TARGET, gt::GTF_readonly);
    (w, peer, pages)
}

impl World {
    pub fn grant_op<T>(&mut self, cmd: u32, op: T) -> T
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
    {
        self.f.put(LIST, &op);
        assert_eq!(self.f.call(CALL, &[cmd.into(), LIST, 1]), Ok(0));
        self.f.get(LIST)
    }

    fn map_grant(&mut self, reference: u32, gfn: u64, flags: u32) -> Result<u32, i16> {
        let op = gt::GnttabMapGrantRef {
            host_addr: gfn << 12,
            flags: gt::GNTMAP_host_map | flags,
            r#ref: reference,
            dom: 2,
            ..Default::default()
        };
        let done = self.grant_op(gt::GNTTABOP_map_grant_ref, op);
        match done.status {
            gt::GNTST_okay => Ok(done.handle),
            why => Err(why),
        }
    }

    fn unmap_grant(&mut self, handle: u32, gfn: u64) -> i16 {
        let op = gt::GnttabUnmapGrantRef {
            host_addr: gfn << 12,
            handle,
            ..Default::default()
        };
        self.grant_op(gt::GNTTABOP_unmap_grant_ref, op).status
    }
}

#[test]
fn a_grant_is_mapped_at_a_guest_frame() {
    let (mut w, _peer, pages) = with_peer();
    w.by_target();
    let before = pages.map(|page| w.references(page));
    let first = w.map_grant(8, 0x50, 0).unwrap();
    let second = w.map_grant(9, 0x51, gt::GNTMAP_readonly).unwrap();
    assert_eq!(w.at(0x50), Some((pages[0], P2mKind::GrantWrite)));
    assert_eq!(w.at(0x51), Some((pages[1], P2mKind::GrantRead)));
    assert!(w.references(pages[0]) > before[0] && w.references(pages[1]) > before[1]);
    // It is for its unmapping only.
    let gone = RemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn: 0x50,
        ..Default::default()
    };
    assert_eq!(
        w.memory(XENMEM_remove_from_physmap, &gone),
        Err(Errno::EINVAL)
    );
    assert_eq!((w.decrease(0x50, 1, 0), w.populate(0x50, 1, 0)), (0, 0));
    assert_eq!(w.add(XENMAPSPACE_gmfn, 1, 0x50), Err(Errno::EINVAL));
    assert_eq!(w.add(XENMAPSPACE_gmfn, 0x50, 9), Err(Errno::EINVAL));
    assert!(w.at(1).is_some());
    // Not in the wrong place, not twice.
    assert_eq!(w.unmap_grant(first, 0x51), gt::GNTST_general_error);
    assert_eq!(w.map_grant(8, 0x51, 0), Err(gt::GNTST_general_error));
    let flushes = w.map().generation();
    assert_eq!(w.unmap_grant(first, 0x50), gt::GNTST_okay);
    assert!(w.map().generation() > flushes);
    assert_eq!(w.unmap_grant(first, 0x50), gt::GNTST_bad_handle);
    assert_eq!(w.unmap_grant(second, 0x51), gt::GNTST_okay);
    assert_eq!((w.at(0x50), w.at(0x51)), (None, None));
    assert_eq!(pages.map(|page| w.references(page)), before);
    w.f.machine.relinquish(pages[0], 2).unwrap();
    assert_eq!(w.target.grants.mappings(), 0);
}

#[test]
fn an_entry_that_allows_writing_needs_a_pin_that_does() {
    let (mut w, peer, pages) = with_peer();
    grant(&peer, 10, pages[0].0, TARGET, 0);
    w.by_target();
    let write = w.map_grant(8, 0x50, 0).unwrap();
    let read = w.map_grant(10, 0x51, gt::GNTMAP_readonly).unwrap();
    // The same page: unmapped crosswise, the entry for writing would stay with a pin for reading.
    assert_eq!(w.unmap_grant(write, 0x51), gt::GNTST_general_error);
    assert_eq!(w.unmap_grant(read, 0x50), gt::GNTST_general_error);
    assert_eq!(w.at(0x50), Some((pages[0], P2mKind::GrantWrite)));
    assert_eq!(w.at(0x51), Some((pages[0], P2mKind::GrantRead)));
    assert_eq!(w.unmap_grant(write, 0x50), gt::GNTST_okay);
    assert_eq!(w.unmap_grant(read, 0x51), gt::GNTST_okay);
}

#[test]
fn forms_of_pv_domains_are_refused() {
    let (mut w, _peer, pages) = with_peer();
    w.by_target();
    for flags in [
        gt::GNTMAP_device_map,
        gt::GNTMAP_application_map,
        gt::GNTMAP_contains_pte,
    ] {
        assert_eq!(w.map_grant(8, 0x50, flags), Err(gt::GNTST_general_error));
    }
    let handle = w.map_grant(8, 0x50, 0).unwrap();
    let replace = gt::GnttabUnmapAndReplace {
        host_addr: 0x50 << 12,
        new_addr: 0x1000,
        handle,
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_unmap_and_replace, replace);
    assert_eq!(done.status, gt::GNTST_general_error);
    assert_eq!(w.frame(0x50), pages[0]);
    let give = gt::GnttabTransfer {
        mfn: 1,
        domid: 2,
        r#ref: 3,
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_transfer, give);
    assert_eq!(done.status, gt::GNTST_general_error);
    assert!(w.at(1).is_some() && w.has() == 8);
    for gfn in [w.map().limit(), u64::MAX >> 12] {
        assert_eq!(w.map_grant(8, gfn, 0), Err(gt::GNTST_general_error));
    }
}

#[test]
fn what_it_grants_are_guest_frames() {
    let mut w = World::new();
    let (page, target) = (w.frame(5), w.target.clone());
    let before = w.references(page);
    grant(&target, 8, 5, 0, 0);
    // To a hole.
    grant(&target, 9, 0x77, 0, 0);
    // A page that it maps by a grant itself is none of its own to grant.
    let copy = |reference, back: bool| {
        let granted = gt::GnttabCopyPtr {
            u: reference,
            domid: TARGET,
            offset: 16,
            ..Default::default()
        };
        let own = gt::GnttabCopyPtr {
            domid: DOMID_SELF,
            ..Default::default()
        };
        gt::GnttabCopy {
            source: if back { granted } else { own },
            dest: if back { own } else { granted },
            len: 8,
            flags: if back {
                gt::GNTCOPY_source_gref
            } else {
                gt::GNTCOPY_dest_gref
            },
            ..Default::default()
        }
    };
    let own = w.f.machine.page_of(0);
    w.f.machine.words(own)[0].store(0x1234, Ordering::Relaxed);
    let mut op = copy(8, false);
    op.source.u = own.0;
    assert_eq!(w.grant_op(gt::GNTTABOP_copy, op).status, gt::GNTST_okay);
    let word = w.f.machine.words(page)[2].load(Ordering::Relaxed);
    assert_eq!((word, w.references(page)), (0x1234, before));
    let mut op = copy(9, true);
    op.dest.u = own.0;
    assert_eq!(w.grant_op(gt::GNTTABOP_copy, op).status, gt::GNTST_bad_page);
    // Read-only to the guest itself: nobody writes it on its behalf.
    w.map().set_kind(Gfn(5), P2mKind::RamReadOnly).unwrap();
    let mut op = copy(8, false);
    op.source.u = own.0;
    let done = w.grant_op(gt::GNTTABOP_copy, op);
    assert_eq!(done.status, gt::GNTST_permission_denied);
    w.free -= 1;
    w.end();
}

#[test]
fn writes_through_grants_are_logged() {
    let mut w = World::new();
    grant(&w.target.clone(), 8, 5, 0, 0);
    let (hv, own) = (w.f.hv, w.f.machine.page_of(0));
    while w.map().set_log(true, 64).unwrap() != crate::domain::Step::Done {}
    hv.count_write_log(true);
    let op = gt::GnttabCopy {
        source: gt::GnttabCopyPtr {
            u: own.0,
            domid: DOMID_SELF,
            ..Default::default()
        },
        dest: gt::GnttabCopyPtr {
            u: 8,
            domid: TARGET,
            ..Default::default()
        },
        len: 8,
        flags: gt::GNTCOPY_dest_gref,
        ..Default::default()
    };
    assert_eq!(w.grant_op(gt::GNTTABOP_copy, op).status, gt::GNTST_okay);
    let mut bits = [0; 1];
    assert_eq!(w.map().log_read(Gfn(0), &mut bits, true), 1);
    assert_eq!(bits, [1 << 5]);
    hv.count_write_log(false);
}

#[test]
fn it_copies_by_its_guest_frames() {
    let (mut w, _peer, pages) = with_peer();
    w.by_target();
    let page = w.frame(6);
    w.f.machine.words(page)[1].store(77, Ordering::Relaxed);
    let op = |source: u64| gt::GnttabCopy {
        source: gt::GnttabCopyPtr {
            u: source,
            domid: DOMID_SELF,
            offset: 8,
            ..Default::default()
        },
        dest: gt::GnttabCopyPtr {
            u: 8,
            domid: 2,
            ..Default::default()
        },
        len: 8,
        flags: gt::GNTCOPY_dest_gref,
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_copy, op(6));
    assert_eq!(done.status, gt::GNTST_okay);
    let word = w.f.machine.words(pages[0])[0].load(Ordering::Relaxed);
    assert_eq!(word, 77);
    let done = w.grant_op(gt::GNTTABOP_copy, op(page.0 + 0x1000));
    assert_eq!(done.status, gt::GNTST_bad_page);
}

#[test]
fn the_table_is_listed_where_it_is_mapped() {
    let mut w = World::new();
    w.by_target();
    w.add(XENMAPSPACE_grant_table, 1, 0x60).unwrap();
    let op = gt::GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 2,
        frame_list: GuestHandle::new(SECOND),
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_setup_table, op);
    assert_eq!(done.status, gt::GNTST_okay);
    assert_eq!(w.f.get::<[u64; 2]>(SECOND), [u64::MAX, 0x60]);
    w.end();
}

#[test]
fn mapped_grants_end_with_the_domain() {
    for patience in [u32::MAX, 1] {
        let (mut w, _peer, pages) = with_peer();
        let before = pages.map(|page| w.references(page));
        w.by_target();
        w.map_grant(8, 0x50, 0).unwrap();
        w.map_grant(9, 0x51, gt::GNTMAP_readonly).unwrap();
        w.by_control();
        w.f.host.preempt_every(patience);
        plain(&mut w.f, abi::XEN_DOMCTL_destroydomain, TARGET).unwrap();
        assert_eq!(pages.map(|page| w.references(page)), before);
        let World { f, target, .. } = w;
        drop(target);
        f.hv.forget_dead();
        assert!(f.hv.domain(TARGET).is_none());
    }
}

/// dom0, whose backends map what guests grant, has a page mapped while the log is read.
#[test]
fn what_was_written_through_a_mapping_is_in_the_log_after_it() {
    let mut w = World::new();
    let page = w.frame(5);
    grant(&w.target.clone(), 8, 5, 0, 0);
    let table = w.f.machine.page_of(0);
    get_page_and_type(w.f.machine, table, 0, PageType::L1, Reach::Owner).unwrap();
    while w.map().set_log(true, 64).unwrap() != crate::domain::Step::Done {}
    w.f.hv.count_write_log(true);
    let op = gt::GnttabMapGrantRef {
        host_addr: table.addr().0,
        flags: gt::GNTMAP_host_map | gt::GNTMAP_contains_pte,
        r#ref: 8,
        dom: TARGET,
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_map_grant_ref, op);
    assert_eq!(done.status, gt::GNTST_okay);
    let entry = Pte(w.f.machine.words(table)[0].load(Ordering::Relaxed));
    assert_eq!((entry.mfn(), entry.is_writable()), (page, true));
    let mut bits = [0; 1];
    for written in [1, 0] {
        assert_eq!(w.map().log_read(Gfn(0), &mut bits, true), written);
    }
    let unmap = gt::GnttabUnmapGrantRef {
        host_addr: table.addr().0,
        handle: done.handle,
        ..Default::default()
    };
    let done = w.grant_op(gt::GNTTABOP_unmap_grant_ref, unmap);
    assert_eq!(done.status, gt::GNTST_okay);
    assert_eq!(w.map().log_read(Gfn(0), &mut bits, true), 1);
    assert_eq!(bits, [1 << 5]);
    w.f.hv.count_write_log(false);
}

/// gnttab_copy of 32-bit code: two sides of frame, domain and offset; then length, flags, status.
fn narrow_copy(from: [u16; 2], to: [u16; 2], length: u16) -> [u16; 12] {
    let [source, source_offset] = from;
    let [dest, dest_offset] = to;
    let (own, status) = (DOMID_SELF, 0x7777);
    let sides = [source, 0, own, source_offset, dest, 0, own, dest_offset];
    let mut words = [0; 12];
    words[..8].copy_from_slice(&sides);
    words[8..].copy_from_slice(&[length, 0, status, 0x5555]);
    words
}

#[test]
fn a_batch_of_32_bit_code_is_made_element_by_element() {
    let mut w = World::new();
    w.f.caller = w.target.clone();
    let (five, six) = (w.frame(5), w.frame(6));
    w.f.machine.words(five)[0].store(0x1234, Ordering::Relaxed);
    let list = [
        narrow_copy([5, 0], [6, 16], 8),
        narrow_copy([0x77, 0], [6, 0], 8),
        narrow_copy([6, 16], [6, 24], 8),
        narrow_copy([5, 4092], [6, 0], 8),
    ];
    // What they come to, where they are interrupted behind each and where they are not.
    for patience in [1, u32::MAX] {
        w.f.machine.words(six)[2].store(0, Ordering::Relaxed);
        w.f.put(LIST, &list);
        w.f.host.preempt_every(patience);
        w.f.restarts = 0;
        let args = [gt::GNTTABOP_copy, LIST as u32, list.len() as u32];
        assert_eq!(make(&mut w.f, CALL, args), 0);
        assert_eq!(w.f.restarts, if patience == 1 { 3 } else { 0 });
        let done: [[u16; 12]; 4] = w.f.get(LIST);
        let wanted = [
            gt::GNTST_okay,
            gt::GNTST_bad_page,
            gt::GNTST_okay,
            gt::GNTST_bad_copy_arg,
        ];
        assert_eq!(done.map(|op| op[10] as i16), wanted);
        // Of each only the status is written.
        for (after, before) in done.iter().zip(&list) {
            assert_eq!((&after[..10], after[11]), (&before[..10], before[11]));
        }
        let words = w.f.machine.words(six);
        let copied = [
            words[2].load(Ordering::Relaxed),
            words[3].load(Ordering::Relaxed),
        ];
        assert_eq!(copied, [0x1234, 0x1234]);
    }
    // Nothing gives frames away in a container: it is said of each.
    let transfer = [5_u32, 2, 8, 0x5555_7777];
    w.f.put(LIST, &[transfer; 2]);
    assert_eq!(
        make(&mut w.f, CALL, [gt::GNTTABOP_transfer, LIST as u32, 2]),
        0
    );
    let done: [[u32; 4]; 2] = w.f.get(LIST);
    let refused = u32::from(gt::GNTST_general_error as u16) | 0x5555 << 16;
    assert_eq!(done, [[5, 2, 8, refused]; 2]);
    // Lists that are too long, or end outside of memory.
    let too_long = [gt::GNTTABOP_copy, LIST as u32, 1 << 31];
    assert_eq!(
        make(&mut w.f, CALL, too_long),
        Errno::EINVAL.to_ret() as i32
    );
    let nowhere = [gt::GNTTABOP_copy, u32::MAX - 8, 1];
    assert_eq!(make(&mut w.f, CALL, nowhere), Errno::EFAULT.to_ret() as i32);
    w.end();
}
