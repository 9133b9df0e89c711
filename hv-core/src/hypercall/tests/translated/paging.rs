//! domctl: the log of written pages, memory for tables, what frames are.

use xen_abi::domctl::*;

use super::super::domctl::op;
use super::*;
use crate::domain::Step;

impl World {
    fn shadow(&mut self, request: DomctlShadowOp) -> Result<DomctlShadowOp, Errno> {
        op(&mut self.f, XEN_DOMCTL_shadow_op, TARGET, request)
    }

    fn bare(&mut self, op: u32) -> Result<DomctlShadowOp, Errno> {
        self.shadow(DomctlShadowOp {
            op,
            ..Default::default()
        })
    }

    /// Reads the log of the first `pages`; the answer with the bits of the first 64.
    fn read(&mut self, op: u32, pages: u64) -> (DomctlShadowOp, u64) {
        self.f.put(LIST, &u64::MAX);
        let request = DomctlShadowOp {
            op,
            dirty_bitmap: GuestHandle::new(LIST),
            pages,
            ..Default::default()
        };
        let answer = self.shadow(request).unwrap();
        (answer, self.f.get(LIST))
    }

    /// The guest stores to a page.
    fn store(&self, gfn: u64) -> bool {
        self.map().log_write(Gfn(gfn))
    }
}

#[test]
fn written_pages_are_told_once() {
    for patience in [u32::MAX, 1] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        // Beyond one part of the log.
        assert_eq!(w.populate(0x4000, 1, 0), 1);
        assert_eq!(w.bare(XEN_DOMCTL_SHADOW_OP_CLEAN), Err(Errno::EINVAL));
        assert_eq!(w.bare(XEN_DOMCTL_SHADOW_OP_OFF), Err(Errno::EINVAL));
        w.bare(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY).unwrap();
        let again = w.bare(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY);
        assert_eq!(again, Err(Errno::EINVAL));
        assert!(w.store(1) && w.store(5) && !w.store(5) && w.store(0x4000));
        for op in [XEN_DOMCTL_SHADOW_OP_PEEK, XEN_DOMCTL_SHADOW_OP_CLEAN] {
            let before = w.map().generation();
            let (answer, bits) = w.read(op, 0x4001);
            assert_eq!(bits, 1 << 1 | 1 << 5);
            assert_eq!((answer.pages, answer.stats.dirty_count), (0x4001, 3));
            assert_eq!(w.f.get::<u8>(LIST + 0x800), 1);
            let flushed = w.map().generation() != before;
            assert_eq!(flushed, op == XEN_DOMCTL_SHADOW_OP_CLEAN);
        }
        let (answer, bits) = w.read(XEN_DOMCTL_SHADOW_OP_CLEAN, 0x4001);
        assert_eq!((answer.stats.dirty_count, bits), (0, 0));
        // New memory is news; without room for bits all counts.
        assert_eq!(w.populate(0x10, 2, 0), 2);
        let clean = w.bare(XEN_DOMCTL_SHADOW_OP_CLEAN).unwrap();
        assert_eq!(clean.stats.dirty_count, 2);
        assert_eq!(w.read(XEN_DOMCTL_SHADOW_OP_PEEK, 64).1, 0);
        assert!(w.f.hv.logs_writes());
        w.bare(XEN_DOMCTL_SHADOW_OP_OFF).unwrap();
        assert!(!w.f.hv.logs_writes() && !w.store(1));
        w.end();
    }
}

#[test]
fn a_log_ends_with_its_domain() {
    let mut w = World::new();
    w.bare(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY).unwrap();
    let hv = w.f.hv;
    w.end();
    assert!(!hv.logs_writes());
}

#[test]
fn a_log_that_cannot_be_written_is_read_again_from_its_start() {
    let mut w = World::new();
    w.bare(XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY).unwrap();
    let bad = DomctlShadowOp {
        op: XEN_DOMCTL_SHADOW_OP_PEEK,
        dirty_bitmap: GuestHandle::new(crate::hypercall::testing::NOWHERE),
        pages: u64::MAX,
        ..Default::default()
    };
    assert_eq!(w.shadow(bad), Err(Errno::EFAULT));
    assert!(w.store(3));
    assert_eq!(w.read(XEN_DOMCTL_SHADOW_OP_PEEK, 64).1, 1 << 3);
    w.end();
}

#[test]
fn memory_for_tables_is_set_aside() {
    for patience in [u32::MAX, 1] {
        let mut w = World::new();
        w.f.host.preempt_every(patience);
        let pool = DomctlPagingMempool::default();
        let get = |w: &mut World| {
            let got = op(&mut w.f, XEN_DOMCTL_get_paging_mempool_size, TARGET, pool);
            got.map(|pool| pool.size >> 12)
        };
        let set = |w: &mut World, size| {
            let pool = DomctlPagingMempool { size };
            let set = op(&mut w.f, XEN_DOMCTL_set_paging_mempool_size, TARGET, pool);
            set.map(drop)
        };
        assert_eq!(get(&mut w), Ok(16));
        let free = w.f.machine.free_pages();
        assert_eq!(set(&mut w, 20 << 12), Ok(()));
        assert_eq!((get(&mut w), w.f.machine.free_pages()), (Ok(20), free - 4));
        assert_eq!(set(&mut w, 8 << 12), Ok(()));
        assert_eq!((get(&mut w), w.f.machine.free_pages()), (Ok(8), free + 8));
        for (size, why) in [
            (1, Errno::EINVAL),
            (1 << 52, Errno::ERANGE),
            (0, Errno::ENOMEM),
            (1 << 32, Errno::ENOMEM),
        ] {
            assert_eq!(set(&mut w, size), Err(why));
        }
        assert!(w.map().pool().pages >= w.map().pool().used);
        let mib = w.bare(XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION).unwrap().mb;
        assert_eq!(mib, 1);
        w.end();
    }
    let mut w = World::new();
    for cmd in [
        XEN_DOMCTL_get_paging_mempool_size,
        XEN_DOMCTL_set_paging_mempool_size,
    ] {
        let pool = DomctlPagingMempool::default();
        assert_eq!(op(&mut w.f, cmd, 0, pool), Err(Errno::EOPNOTSUPP));
    }
}

#[test]
fn frames_are_ram_or_nothing() {
    let mut w = World::new();
    w.add(XENMAPSPACE_shared_info, 0, 0x20).unwrap();
    w.f.put(LIST, &[0u64, 7, 8, 0x20, u64::MAX]);
    let request = DomctlGetPageFrameInfo3 {
        num: 5,
        array: GuestHandle::new(LIST),
    };
    op(&mut w.f, XEN_DOMCTL_getpageframeinfo3, TARGET, request).unwrap();
    let (ram, none) = (
        u64::from(XEN_DOMCTL_PFINFO_NOTAB),
        u64::from(XEN_DOMCTL_PFINFO_XTAB),
    );
    assert_eq!(w.f.get::<[u64; 5]>(LIST), [ram, ram, none, none, none]);
    w.end();
}

#[test]
fn tools_see_where_the_shared_page_is() {
    let mut w = World::new();
    let info = |w: &mut World| {
        let empty = DomctlGetDomainInfo::default();
        op(&mut w.f, XEN_DOMCTL_getdomaininfo, TARGET, empty)
            .unwrap()
            .shared_info_frame
    };
    assert_eq!(info(&mut w), u64::MAX);
    w.add(XENMAPSPACE_shared_info, 0, 0x20).unwrap();
    assert_eq!(info(&mut w), 0x20);
    assert_ne!(w.map().set_log(true, 64), Ok(Step::More));
    w.end();
}
