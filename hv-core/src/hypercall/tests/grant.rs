use std::sync::Arc;
use std::sync::atomic::Ordering;

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::grant_table as abi;
use xen_abi::hypercall::__HYPERVISOR_grant_table_op as CALL;
use xen_abi::xen::DOMID_SELF;

use crate::base::Mfn;
use crate::domain::{Domain, Machine};
use crate::grants::FrameKind;
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};
use crate::mm::refs::{get_page_and_type, put_page_and_type};
use crate::mm::{PageType, Pte, Reach};

const LIST: u64 = GUEST + 0x1000;
const KERNEL_RW: u64 = Pte::PRESENT | Pte::RW;

/// dom0 with an L1 table of its own, and d1 that grants its pages.
struct World {
    f: Fixture,
    granter: Arc<Domain>,
    table: Mfn,
}

impl World {
    fn new() -> Self {
        let f = Fixture::control();
        let granter = f.add(1);
        let table = f.machine.page_of(0);
        get_page_and_type(f.machine, table, 0, PageType::L1, Reach::Owner).unwrap();
        Self { f, granter, table }
    }

    /// Lets d1 grant one of its pages to dom0.
    fn grant(&self, reference: usize, flags: u16) -> Mfn {
        let mfn = self.f.machine.page_of(1);
        let frame = self.granter.grants.frame(FrameKind::Shared, 0).unwrap();
        let words = self.f.machine.words32(frame);
        words[reference * 2 + 1].store(mfn.0 as u32, Ordering::SeqCst);
        // Domain 0 in the upper half.
        words[reference * 2].store((abi::GTF_permit_access | flags).into(), Ordering::SeqCst);
        mfn
    }

    fn pte_address(&self, slot: usize) -> u64 {
        self.table.addr().0 + slot as u64 * 8
    }

    fn pte(&self, slot: usize) -> Pte {
        Pte(self.f.machine.words(self.table)[slot].load(Ordering::SeqCst))
    }

    fn request(&self, slot: usize, reference: u32, flags: u32) -> abi::GnttabMapGrantRef {
        abi::GnttabMapGrantRef {
            host_addr: self.pte_address(slot),
            flags: abi::GNTMAP_host_map | abi::GNTMAP_contains_pte | flags,
            r#ref: reference,
            dom: 1,
            ..Default::default()
        }
    }

    fn map(&mut self, ops: &[abi::GnttabMapGrantRef]) -> Vec<abi::GnttabMapGrantRef> {
        self.f.put(LIST, ops);
        let cmd = abi::GNTTABOP_map_grant_ref.into();
        assert_eq!(self.f.call(CALL, &[cmd, LIST, ops.len() as u64]), Ok(0));
        let size = size_of::<abi::GnttabMapGrantRef>() as u64;
        (0..ops.len() as u64)
            .map(|i| self.f.get(LIST + i * size))
            .collect()
    }

    fn unmap(&mut self, ops: &[abi::GnttabUnmapGrantRef]) -> Vec<i16> {
        self.f.put(LIST, ops);
        let cmd = abi::GNTTABOP_unmap_grant_ref.into();
        assert_eq!(self.f.call(CALL, &[cmd, LIST, ops.len() as u64]), Ok(0));
        let size = size_of::<abi::GnttabUnmapGrantRef>() as u64;
        let status = |i| {
            self.f
                .get::<abi::GnttabUnmapGrantRef>(LIST + i * size)
                .status
        };
        (0..ops.len() as u64).map(status).collect()
    }

    fn references(&self, mfn: Mfn) -> u64 {
        self.f.machine.frame_of(mfn).references()
    }

    fn single<T>(&mut self, cmd: u32, op: T) -> Result<T, Errno>
    where
        T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable,
    {
        self.f.put(LIST, &op);
        self.f.call(CALL, &[cmd.into(), LIST, 1])?;
        Ok(self.f.get(LIST))
    }
}

#[test]
fn granted_page_is_mapped_and_unmapped() {
    let mut w = World::new();
    let mfn = w.grant(8, 0);
    let before = w.references(mfn);
    let avail = 1 << abi::_GNTMAP_guest_avail0;
    let done = w.map(&[w.request(5, 8, abi::GNTMAP_application_map | avail)])[0];
    assert_eq!(
        (done.status, done.dev_bus_addr),
        (abi::GNTST_okay, mfn.addr().0)
    );
    let pte = w.pte(5);
    assert_eq!((pte.mfn(), pte.is_writable()), (mfn, true));
    assert_ne!(
        pte.0 & 1 << 9,
        0,
        "the bit that Linux marks such entries with"
    );
    assert_eq!(pte.0 & Pte::GUEST_KERNEL, 0);
    assert!(w.references(mfn) > before);

    let unmap = abi::GnttabUnmapGrantRef {
        host_addr: w.pte_address(5),
        handle: done.handle,
        ..Default::default()
    };
    assert_eq!(w.unmap(&[unmap]), [abi::GNTST_okay]);
    assert_eq!(w.pte(5), Pte(0));
    assert_eq!(w.references(mfn), before);
    assert_eq!(w.f.host.flushes.load(Ordering::Relaxed), 1);
    assert_eq!(w.unmap(&[unmap]), [abi::GNTST_bad_handle]);
}

#[test]
fn read_only_mapping_of_the_kernel() {
    let mut w = World::new();
    let mfn = w.grant(8, abi::GTF_readonly);
    assert_eq!(
        w.map(&[w.request(1, 8, 0)])[0].status,
        abi::GNTST_general_error
    );
    let done = w.map(&[w.request(1, 8, abi::GNTMAP_readonly)])[0];
    assert_eq!(done.status, abi::GNTST_okay);
    assert!(!w.pte(1).is_writable());
    assert_ne!(w.pte(1).0 & Pte::GUEST_KERNEL, 0);
    assert_eq!(w.pte(1).mfn(), mfn);
}

#[test]
fn guest_that_clears_the_entry_itself_gives_up_the_page() {
    let mut w = World::new();
    let mfn = w.grant(8, 0);
    let before = w.references(mfn);
    let done = w.map(&[w.request(5, 8, 0)])[0];
    // As an mmu_update would.
    w.f.machine.words(w.table)[5].store(0, Ordering::SeqCst);
    put_page_and_type(w.f.machine, mfn).unwrap();
    let unmap = abi::GnttabUnmapGrantRef {
        host_addr: w.pte_address(5),
        handle: done.handle,
        ..Default::default()
    };
    assert_eq!(
        w.unmap(&[unmap]),
        [abi::GNTST_general_error],
        "not mapped there"
    );
    let pinned = w.references(mfn);
    assert!(pinned >= before);
    // An entry that maps something else is not touched.
    let other = w.f.machine.page_of(0);
    let entry = other.addr().0 | KERNEL_RW;
    w.f.machine.words(w.table)[5].store(entry, Ordering::SeqCst);
    assert_eq!(w.unmap(&[unmap]), [abi::GNTST_general_error]);
    assert_eq!(w.pte(5), Pte(entry));
}

#[test]
fn bad_requests_get_a_status() {
    let mut w = World::new();
    let mfn = w.grant(8, 0);
    let before = w.references(mfn);
    let good = w.request(5, 8, 0);
    type Op = abi::GnttabMapGrantRef;
    let cases = [
        (Op { dom: 77, ..good }, abi::GNTST_bad_domain),
        (
            Op {
                dom: DOMID_SELF,
                ..good
            },
            abi::GNTST_bad_domain,
        ),
        (
            Op {
                r#ref: 1 << 20,
                ..good
            },
            abi::GNTST_bad_gntref,
        ),
        (
            Op {
                flags: abi::GNTMAP_readonly,
                ..good
            },
            abi::GNTST_bad_gntref,
        ),
        (
            Op {
                host_addr: good.host_addr + 1,
                ..good
            },
            abi::GNTST_general_error,
        ),
        (
            Op {
                host_addr: !7,
                ..good
            },
            abi::GNTST_general_error,
        ),
        (
            Op {
                host_addr: mfn.addr().0,
                ..good
            },
            abi::GNTST_general_error,
        ),
        // There are no tables below a root to find a linear address in.
        (
            Op {
                flags: abi::GNTMAP_host_map,
                ..good
            },
            abi::GNTST_general_error,
        ),
    ];
    let ops: Vec<Op> = cases.iter().map(|c| c.0).collect();
    let done: Vec<i16> = w.map(&ops).iter().map(|op| op.status).collect();
    let want: Vec<i16> = cases.iter().map(|c| c.1).collect();
    assert_eq!(done, want);
    assert_eq!(w.references(mfn), before);
}

#[test]
fn batches_survive_preemption() {
    let mut w = World::new();
    let ops: Vec<_> = (0..20)
        .map(|i| {
            w.grant(i + 8, 0);
            w.request(i, i as u32 + 8, 0)
        })
        .collect();
    w.f.host.preempt_every(1);
    let done = w.map(&ops);
    assert!(done.iter().all(|op| op.status == abi::GNTST_okay));
    assert_eq!(w.f.restarts, 19);
    let unmaps: Vec<_> = done
        .iter()
        .map(|op| abi::GnttabUnmapGrantRef {
            host_addr: op.host_addr,
            handle: op.handle,
            ..Default::default()
        })
        .collect();
    assert!(w.unmap(&unmaps).iter().all(|s| *s == abi::GNTST_okay));
    assert_eq!(w.f.restarts, 20);
    assert_eq!(
        w.f.host.flushes.load(Ordering::Relaxed),
        2,
        "one for each group"
    );
    assert_eq!(w.f.caller.grants.mappings(), 0);
}

#[test]
fn bytes_are_copied_through_grants() {
    let mut w = World::new();
    let theirs = w.grant(8, 0);
    let own = w.f.machine.page_of(0);
    w.f.machine.words(own)[0].store(0x8877_6655_4433_2211, Ordering::SeqCst);
    let end = |u, domid, offset| abi::GnttabCopyPtr {
        u,
        domid,
        offset,
        _pad0: [0; 4],
    };
    let op = abi::GnttabCopy {
        source: end(own.0, DOMID_SELF, 1),
        dest: end(8, 1, 6),
        len: 4,
        flags: abi::GNTCOPY_dest_gref,
        status: -77,
        _pad0: [3, 4],
    };
    let done = w.single(abi::GNTTABOP_copy, op).unwrap();
    // The rest of the request is as it was.
    let status = abi::GNTST_okay;
    assert_eq!(done, abi::GnttabCopy { status, ..op });
    let words = w.f.machine.words(theirs);
    assert_eq!(words[0].load(Ordering::SeqCst), 0x3322_0000_0000_0000);
    assert_eq!(words[1].load(Ordering::SeqCst), 0x5544);
    let far = abi::GnttabCopy { len: 4096, ..op };
    let done = w.single(abi::GNTTABOP_copy, far).unwrap();
    assert_eq!(done.status, abi::GNTST_bad_copy_arg);
    let foreign = abi::GnttabCopy {
        source: end(theirs.0, 1, 0),
        ..op
    };
    let done = w.single(abi::GNTTABOP_copy, foreign).unwrap();
    let status = abi::GNTST_permission_denied;
    assert_eq!(done, abi::GnttabCopy { status, ..foreign });
}

#[test]
fn table_is_sized_and_listed() {
    let mut w = World::new();
    let query = abi::GnttabQuerySize {
        dom: DOMID_SELF,
        ..Default::default()
    };
    let size = w.single(abi::GNTTABOP_query_size, query).unwrap();
    assert_eq!(
        (size.status, size.nr_frames, size.max_nr_frames),
        (0, 1, 64)
    );
    let setup = abi::GnttabSetupTable {
        dom: DOMID_SELF,
        nr_frames: 3,
        frame_list: GuestHandle::new(GUEST),
        ..Default::default()
    };
    let done = w.single(abi::GNTTABOP_setup_table, setup).unwrap();
    assert_eq!(done.status, abi::GNTST_okay);
    for index in 0..3 {
        let frame = w.f.caller.grants.frame(FrameKind::Shared, index).unwrap();
        assert_eq!(w.f.get::<u64>(GUEST + u64::from(index) * 8), frame.0);
    }
    let many = abi::GnttabSetupTable {
        nr_frames: 65,
        ..setup
    };
    let done = w.single(abi::GNTTABOP_setup_table, many).unwrap();
    assert_eq!(done.status, abi::GNTST_general_error);
    let fault = abi::GnttabSetupTable {
        frame_list: GuestHandle::new(NOWHERE),
        ..setup
    };
    let done = w.single(abi::GNTTABOP_setup_table, fault).unwrap();
    assert_eq!(done.status, abi::GNTST_bad_virt_addr);
    let theirs = abi::GnttabSetupTable {
        frame_list: GuestHandle::new(0xffff_8300_0000_0000),
        ..setup
    };
    assert_eq!(
        w.single(abi::GNTTABOP_setup_table, theirs),
        Err(Errno::EFAULT),
        "not the guest's to write to"
    );
    let other = abi::GnttabQuerySize { dom: 77, ..query };
    let done = w.single(abi::GNTTABOP_query_size, other).unwrap();
    assert_eq!(done.status, abi::GNTST_bad_domain);
}

#[test]
fn versions_and_swaps() {
    let mut w = World::new();
    let set = |w: &mut World, version| {
        w.single(abi::GNTTABOP_set_version, abi::GnttabSetVersion { version })
    };
    assert_eq!(set(&mut w, 2).unwrap().version, 2);
    let get = abi::GnttabGetVersion {
        dom: 0,
        ..Default::default()
    };
    assert_eq!(w.single(abi::GNTTABOP_get_version, get).unwrap().version, 2);
    let status = abi::GnttabGetStatusFrames {
        nr_frames: 1,
        dom: DOMID_SELF,
        frame_list: GuestHandle::new(GUEST),
        ..Default::default()
    };
    let done = w.single(abi::GNTTABOP_get_status_frames, status).unwrap();
    assert_eq!(done.status, abi::GNTST_okay);
    assert_ne!(w.f.get::<u64>(GUEST), 0);
    assert_eq!(set(&mut w, 3), Err(Errno::EINVAL));
    assert_eq!(w.f.get::<u32>(LIST), 2, "the version in effect");
    let swap = abi::GnttabSwapGrantRef {
        ref_a: 9,
        ref_b: 1 << 20,
        ..Default::default()
    };
    let done = w.single(abi::GNTTABOP_swap_grant_ref, swap).unwrap();
    assert_eq!(done.status, abi::GNTST_bad_gntref);
}

#[test]
fn transfers_are_checked() {
    let mut w = World::new();
    let call = |w: &mut World, mfn: u64, domid| {
        let request = abi::GnttabTransfer {
            mfn,
            domid,
            ..Default::default()
        };
        w.f.put(LIST, &request);
        let done = w.f.call(CALL, &[abi::GNTTABOP_transfer.into(), LIST, 1]);
        done.map(|_| w.f.get::<abi::GnttabTransfer>(LIST).status)
    };
    let (own, used) = (w.f.machine.page_of(0).0, w.table.0);
    let theirs = w.f.machine.page_of(1).0;
    for mfn in [used, theirs, 1 << 40, u64::MAX] {
        assert_eq!(call(&mut w, mfn, 1), Ok(abi::GNTST_bad_page));
    }
    let free = w.f.machine.free_pages();
    // Refused or not, the page is the caller's no longer.
    assert_eq!(call(&mut w, own, 77), Ok(abi::GNTST_bad_domain));
    let another = w.f.machine.page_of(0).0;
    assert_eq!(call(&mut w, another, 1), Ok(abi::GNTST_general_error));
    assert_eq!(w.f.machine.free_pages(), free + 1);
    let transfer = u64::from(abi::GNTTABOP_transfer);
    assert_eq!(w.f.call(CALL, &[transfer, NOWHERE, 1]), Err(Errno::EFAULT));
    assert_eq!(w.f.call(CALL, &[transfer, NOWHERE, 0]), Ok(0));
}

#[test]
fn a_page_goes_to_who_accepts_it() {
    for version in [1_u32, 2] {
        let mut w = World::new();
        let granter = w.granter.clone();
        let pool = granter.grant_pool();
        granter.grants.set_version(version, &pool).unwrap();
        let shared = w.granter.grants.frame(FrameKind::Shared, 0).unwrap();
        let words = w.f.machine.words32(shared);
        let (first, number) = if version == 1 { (2 * 9, 1) } else { (4 * 9, 2) };
        let accept = |value: u16| words[first].store(value.into(), Ordering::SeqCst);
        let call = |w: &mut World, mfn: Mfn| {
            let request = abi::GnttabTransfer {
                mfn: mfn.0,
                domid: 1,
                r#ref: 9,
                ..Default::default()
            };
            w.single(abi::GNTTABOP_transfer, request).unwrap().status
        };
        let has = |w: &World| {
            let of = |id| w.f.hv.domain(id).unwrap().pages.load(Ordering::Relaxed);
            (of(0), of(1))
        };
        let (before, free) = (has(&w), w.f.machine.free_pages());
        let given = w.f.machine.page_of(0);
        w.f.machine.words(given)[7].store(77, Ordering::SeqCst);
        accept(abi::GTF_accept_transfer);
        assert_eq!(call(&mut w, given), abi::GNTST_okay);
        assert!(w.f.machine.frame_of(given).belongs_to(1));
        assert_eq!(w.f.machine.words(given)[7].load(Ordering::SeqCst), 77);
        assert_eq!(has(&w), (before.0, before.1 + 1));
        assert_eq!(words[first + number].load(Ordering::SeqCst), given.0 as u32);
        let done = abi::GTF_transfer_committed | abi::GTF_transfer_completed;
        let shown = words[first].load(Ordering::SeqCst);
        assert_eq!(shown, u32::from(abi::GTF_accept_transfer | done));
        // Once each, and not more than it may have.
        let late = w.f.machine.page_of(0);
        assert_eq!(call(&mut w, late), abi::GNTST_general_error);
        accept(abi::GTF_accept_transfer);
        w.granter.max_pages.store(before.1 + 1, Ordering::Relaxed);
        let more = w.f.machine.page_of(0);
        assert_eq!(call(&mut w, more), abi::GNTST_general_error);
        assert_eq!(has(&w), (before.0, before.1 + 1));
        assert_eq!(w.f.machine.free_pages(), free - 1);
    }
}

#[test]
fn calls_that_make_no_sense() {
    let mut w = World::new();
    let map = u64::from(abi::GNTTABOP_map_grant_ref);
    assert_eq!(w.f.call(CALL, &[map, NOWHERE, 1]), Err(Errno::EFAULT));
    assert_eq!(w.f.call(CALL, &[map, NOWHERE, 0]), Ok(0));
    assert_eq!(w.f.call(CALL, &[map, LIST, 1 << 31]), Err(Errno::EINVAL));
    assert_eq!(
        w.f.call(CALL, &[map | 1 << 12, LIST, 1]),
        Err(Errno::EINVAL)
    );
    let query = u64::from(abi::GNTTABOP_query_size);
    assert_eq!(w.f.call(CALL, &[query, LIST, 2]), Err(Errno::EINVAL));
    for unknown in [abi::GNTTABOP_dump_table.into(), 13] {
        let refused = w.f.call(CALL, &[unknown, LIST, 1]);
        assert_eq!(refused, Err(Errno::ENOSYS));
    }
}

#[test]
fn a_guest_writes_its_own_pages_back() {
    let mut f = Fixture::guest();
    let page = f.machine.page_of(f.caller.id);
    let flush = |f: &mut Fixture, offset| {
        let op = abi::GnttabCacheFlush {
            a: page.addr().0,
            offset,
            length: 64,
            op: abi::GNTTAB_CACHE_CLEAN,
        };
        f.put(LIST, &op);
        f.call(CALL, &[abi::GNTTABOP_cache_flush.into(), LIST, 1])
    };
    assert_eq!(flush(&mut f, 0), Ok(0));
    assert_eq!(flush(&mut f, 4090), Err(Errno::EINVAL), "behind the page");
}
