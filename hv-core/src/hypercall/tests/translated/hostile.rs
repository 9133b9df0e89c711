//! Calls by a translated domain that nobody means, in any order: whatever they do, references balance, and nothing is left after
//! the domain's end.

use proptest::prelude::*;
use xen_abi::grant_table as gt;
use xen_abi::hypercall as nr;
use xen_abi::xen::DOMID_SELF;

use super::*;
use crate::grants::FrameKind;

/// A guest frame: mostly one of a few.
fn gfn() -> impl Strategy<Value = u64> {
    prop_oneof![
        12 => 0..12u64,
        2 => 0x1f0..0x202u64,
        1 => any::<u64>(),
        1 => prop_oneof![Just(u64::MAX), Just((1 << 28) - 1), Just(1 << 28), Just(1 << 20)],
    ]
}

#[derive(Clone, Debug)]
enum Op {
    Reserve(u32, u64, u64, u32),
    Add(u32, u64, u64, u16),
    Batch(u16, u64, u64),
    Remove(u64),
    Grant(u64, u16),
    Map(u32, u64, u32),
    Unmap(u32, u64),
    Copy(u64, u64, u16),
    Log(bool),
    Clean,
    Kind(u64, bool),
    Patience(u32),
}

fn op() -> impl Strategy<Value = Op> {
    let reservation = prop_oneof![
        Just(XENMEM_populate_physmap),
        Just(XENMEM_decrease_reservation),
        Just(XENMEM_increase_reservation),
    ];
    let flags = prop_oneof![Just(0), Just(gt::GNTMAP_readonly), any::<u32>()];
    prop_oneof![
        4 => (reservation, gfn(), 0..6u64, 0..3u32).prop_map(|(c, g, n, o)| Op::Reserve(c, g, n, o)),
        4 => (0..6u32, gfn(), gfn(), 0..4u16).prop_map(|(s, i, g, n)| Op::Add(s, i, g, n)),
        2 => (0..6u16, gfn(), gfn()).prop_map(|(s, i, g)| Op::Batch(s, i, g)),
        2 => gfn().prop_map(Op::Remove),
        1 => (gfn(), 0..16u16).prop_map(|(g, f)| Op::Grant(g, f)),
        4 => (8..12u32, gfn(), flags).prop_map(|(r, g, f)| Op::Map(r, g, f)),
        3 => (0..6u32, gfn()).prop_map(|(h, g)| Op::Unmap(h, g)),
        2 => (gfn(), gfn(), any::<u16>()).prop_map(|(s, d, f)| Op::Copy(s, d, f)),
        1 => any::<bool>().prop_map(Op::Log),
        1 => Just(Op::Clean),
        1 => (gfn(), any::<bool>()).prop_map(|(g, w)| Op::Kind(g, w)),
        1 => (1..5u32).prop_map(Op::Patience),
    ]
}

fn grant_call<T: IntoBytes + Immutable>(w: &mut World, cmd: u32, op: &T) {
    w.f.put(LIST, op);
    let call = nr::__HYPERVISOR_grant_table_op;
    let _any = w.f.call(call, &[cmd.into(), LIST, 1]);
}

fn run(w: &mut World, op: &Op) {
    match *op {
        Op::Reserve(cmd, first, extents, order) => {
            for n in 0..extents {
                w.f.put(LIST + 8 * n, &first.wrapping_add(n << order));
            }
            let request = MemoryReservation {
                extent_start: GuestHandle::new(LIST),
                nr_extents: extents,
                extent_order: order,
                domid: DOMID_SELF,
                ..MemoryReservation::default()
            };
            let _any = w.memory(cmd, &request);
        }
        Op::Add(space, idx, gpfn, size) => {
            let request = AddToPhysmap {
                domid: DOMID_SELF,
                size,
                space,
                idx,
                gpfn,
            };
            let _any = w.memory(XENMEM_add_to_physmap, &request);
        }
        Op::Batch(space, idx, gpfn) => {
            w.f.put(LIST, &[idx, gpfn]);
            w.f.put(SECOND, &[gpfn, idx]);
            let request = AddToPhysmapBatch {
                domid: DOMID_SELF,
                space,
                size: 2,
                u: 2,
                idxs: GuestHandle::new(LIST),
                gpfns: GuestHandle::new(SECOND),
                errs: GuestHandle::new(THIRD),
            };
            let _any = w.memory(XENMEM_add_to_physmap_batch, &request);
        }
        Op::Remove(gpfn) => {
            let request = RemoveFromPhysmap {
                domid: DOMID_SELF,
                gpfn,
                ..Default::default()
            };
            let _any = w.memory(XENMEM_remove_from_physmap, &request);
        }
        Op::Grant(gfn, reference) => {
            let frame = w.target.grants.frame(FrameKind::Shared, 0).unwrap();
            let words = w.f.machine.words32(frame);
            let at = usize::from(reference) * 2;
            words[at + 1].store(gfn as u32, Ordering::SeqCst);
            let to = u32::from(TARGET) << 16;
            words[at].store(to | u32::from(gt::GTF_permit_access), Ordering::SeqCst);
        }
        Op::Map(reference, gfn, flags) => {
            let map = gt::GnttabMapGrantRef {
                host_addr: gfn << 12,
                flags: gt::GNTMAP_host_map | flags,
                r#ref: reference,
                dom: if reference % 2 == 0 { 2 } else { TARGET },
                ..Default::default()
            };
            grant_call(w, gt::GNTTABOP_map_grant_ref, &map);
        }
        Op::Unmap(handle, gfn) => {
            let unmap = gt::GnttabUnmapGrantRef {
                host_addr: gfn << 12,
                handle,
                ..Default::default()
            };
            grant_call(w, gt::GNTTABOP_unmap_grant_ref, &unmap);
        }
        Op::Copy(source, dest, flags) => {
            let end = |u| gt::GnttabCopyPtr {
                u,
                domid: DOMID_SELF,
                ..Default::default()
            };
            let copy = gt::GnttabCopy {
                source: end(source),
                dest: end(dest),
                len: 8,
                flags,
                ..Default::default()
            };
            grant_call(w, gt::GNTTABOP_copy, &copy);
        }
        Op::Log(on) => while w.map().set_log(on, 64) == Ok(crate::domain::Step::More) {},
        Op::Clean => {
            let mut bits = [0; 0x80];
            let _written = w.map().log_read(Gfn(0), &mut bits, true);
            w.target.flush_translations();
        }
        Op::Kind(gfn, write) => {
            let kind = if write {
                P2mKind::Ram
            } else {
                P2mKind::RamReadOnly
            };
            let _any = w.map().set_kind(Gfn(gfn), kind);
            w.target.flush_translations();
        }
        Op::Patience(n) => w.f.host.preempt_every(n),
    }
}

/// What the entries of the map say: each RAM page is the domain's, and held as writable memory by as many entries.
fn check(w: &World) {
    let mut at = Gfn(0);
    let mut held = std::collections::BTreeMap::<u64, u32>::new();
    loop {
        let (found, next) = w.map().next_mapped(at, 1 << 16);
        if let Some((_, mapping)) = found {
            let frame = w.f.machine.frame_of(mapping.mfn);
            if mapping.kind.is_ram() {
                assert_eq!(frame.owner(), crate::mm::Owner::Domain(TARGET));
                *held.entry(mapping.mfn.0).or_default() += 1;
            }
            if mapping.kind == P2mKind::GrantWrite {
                *held.entry(mapping.mfn.0).or_default() += 1;
            }
        }
        at = next;
        if at.0 >= w.map().limit() {
            break;
        }
    }
    for (mfn, entries) in held {
        let count = w.f.machine.frame_of(Mfn(mfn)).type_state().count();
        assert!(count >= entries.into(), "{mfn:#x}: {count} for {entries}");
    }
}

proptest! {
    #[test]
    fn calls_of_a_guest_leave_nothing(ops in prop::collection::vec(op(), 1..60)) {
        let mut w = World::new();
        let peer = w.f.add(2);
        let pages = [w.f.machine.page_of(2), w.f.machine.page_of(2)];
        let before = pages.map(|page| w.references(page));
        let frame = peer.grants.frame(FrameKind::Shared, 0).unwrap();
        for (n, page) in pages.iter().enumerate() {
            let at = (8 + 2 * n) * 2;
            let words = w.f.machine.words32(frame);
            words[at + 1].store(page.0 as u32, Ordering::SeqCst);
            let to = u32::from(TARGET) << 16;
            words[at].store(to | u32::from(gt::GTF_permit_access), Ordering::SeqCst);
        }
        // Some of its memory comes on demand.
        prop_assert_eq!(w.promise(8, 4, 0), 4);
        prop_assert_eq!(w.promise(0x1f0, 2, 3), 2);
        for _ in 0..6 {
            w.map().set_aside(w.f.machine.page_of(TARGET)).unwrap();
        }
        w.by_target();
        for op in &ops {
            run(&mut w, op);
            check(&w);
        }
        prop_assert!(w.has() <= crate::hypercall::testing::MAX_PAGES);
        w.by_control();
        plain(&mut w.f, abi::XEN_DOMCTL_destroydomain, TARGET).unwrap();
        prop_assert_eq!(pages.map(|page| w.references(page)), before);
        let World { f, target, free } = w;
        drop(target);
        f.hv.forget_dead();
        prop_assert!(f.hv.domain(TARGET).is_none(), "a frame is kept");
        // The peer has two frames of ours, and two pages.
        prop_assert_eq!(f.machine.free_pages(), free - 4);
        f.machine.recycle();
    }
}
