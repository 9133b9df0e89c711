//! dom0 maps frames of a translated domain, by guest frames.

use xen_abi::hypercall::*;
use xen_abi::xen::*;

use super::*;
use crate::mm::Pte;

const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;

impl World {
    /// A pinned, empty L1 table of dom0.
    fn table(&mut self) -> u64 {
        let table = self.f.machine.page_of(0).0;
        self.extended(MMUEXT_PIN_L1_TABLE, table, DOMID_SELF)
            .unwrap();
        table
    }

    fn extended(&mut self, cmd: u32, mfn: u64, of: u16) -> Result<u64, Errno> {
        let op = MmuextOp {
            cmd,
            arg1: mfn,
            ..MmuextOp::default()
        };
        self.f.put(GUEST, &op);
        let args = [GUEST, 1, 0, of.into()];
        self.f.call(__HYPERVISOR_mmuext_op, &args)
    }

    fn update(&mut self, ptr: u64, val: u64, foreign: u64) -> Result<u64, Errno> {
        self.f.put(GUEST, &MmuUpdate { ptr, val });
        self.f
            .call(__HYPERVISOR_mmu_update, &[GUEST, 1, 0, foreign])
    }

    fn pte(&self, table: u64, slot: usize) -> Pte {
        Pte(self.f.machine.words(Mfn(table))[slot].load(Ordering::Relaxed))
    }
}

#[test]
fn guest_frames_become_machine_frames() {
    let mut w = World::new();
    let table = w.table();
    let (page, of) = (w.frame(3), TARGET.into());
    let before = w.references(page);
    for flags in [P | US, P | RW | US] {
        assert_eq!(w.update(table << 12, 3 << 12 | flags, of), Ok(0));
        let entry = w.pte(table, 0);
        assert_eq!((entry.mfn(), entry.is_writable()), (page, flags & RW != 0));
        assert_eq!(w.update(table << 12, 0, of), Ok(0));
        assert_eq!(w.references(page), before);
    }
    // A hole, and what nobody has.
    for gfn in [8, 0x100, u64::MAX >> 24] {
        let refused = w.update(table << 12, gfn << 12 | P | US, of);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    // As a machine frame, for what XENMEM_acquire_resource has told.
    let plain = table << 12 | MMU_PT_UPDATE_NO_TRANSLATE;
    assert_eq!(w.update(plain, page.0 << 12 | P | US, of), Ok(0));
    assert_eq!(w.pte(table, 0).mfn(), page);
    assert_eq!(w.update(table << 12, 0, of), Ok(0));
    w.extended(MMUEXT_UNPIN_TABLE, table, DOMID_SELF).unwrap();
    w.free -= 1;
    w.end();
}

#[test]
fn a_batch_ends_at_a_hole_and_says_where() {
    let mut w = World::new();
    let table = w.table();
    for (n, gfn) in [0u64, 1, 99, 2].into_iter().enumerate() {
        let update = MmuUpdate {
            ptr: (table << 12) + 8 * n as u64,
            val: gfn << 12 | P | US,
        };
        w.f.put(LIST + 16 * n as u64, &update);
    }
    let args = [LIST, 4, SECOND, TARGET.into()];
    let ended = w.f.call(__HYPERVISOR_mmu_update, &args);
    assert_eq!(ended, Err(Errno::EINVAL));
    assert_eq!(w.f.get::<u32>(SECOND), 2);
    assert_eq!(w.pte(table, 1).mfn(), w.frame(1));
    assert_eq!(w.pte(table, 2), Pte(0));
}

#[test]
fn a_mapped_page_outlives_the_domain() {
    let mut w = World::new();
    let table = w.table();
    let page = w.frame(3);
    w.update(table << 12, 3 << 12 | P | RW | US, TARGET.into())
        .unwrap();
    // The guest gives it back, and gets another.
    assert_eq!((w.decrease(3, 1, 0), w.has()), (1, 8));
    assert_eq!(w.populate(3, 1, 0), 1);
    assert_ne!(w.frame(3), page);
    plain(&mut w.f, abi::XEN_DOMCTL_destroydomain, TARGET).unwrap();
    assert_eq!(w.has(), 1);
    w.f.hv.forget_dead();
    assert!(w.f.hv.domain(TARGET).is_some(), "a zombie");
    assert_eq!(w.f.machine.free_pages(), w.free - 2);
    // Of one that is dying nothing more is mapped.
    let refused = w.update((table << 12) + 8, 1 << 12 | P | US, TARGET.into());
    assert_eq!(refused, Err(Errno::EINVAL));
    w.update(table << 12, 0, DOMID_SELF.into()).unwrap();
    w.free -= 1;
    w.end_of_zombie();
}

impl World {
    fn end_of_zombie(self) {
        let Self { f, target, free } = self;
        drop(target);
        f.hv.forget_dead();
        assert!(f.hv.domain(TARGET).is_none());
        assert_eq!(f.machine.free_pages(), free);
    }
}

#[test]
fn only_what_the_guest_could_write_is_writable() {
    let mut w = World::new();
    let table = w.table();
    w.map().set_kind(Gfn(2), P2mKind::RamReadOnly).unwrap();
    let of = TARGET.into();
    let refused = w.update(table << 12, 2 << 12 | P | RW | US, of);
    assert_eq!(refused, Err(Errno::EINVAL));
    assert_eq!(w.update(table << 12, 2 << 12 | P | US, of), Ok(0));
}

#[test]
fn a_writable_mapping_counts_as_a_store() {
    let mut w = World::new();
    let table = w.table();
    while w.map().set_log(true, 64).unwrap() != crate::domain::Step::Done {}
    let of = TARGET.into();
    w.update(table << 12, 2 << 12 | P | US, of).unwrap();
    w.update((table << 12) + 8, 3 << 12 | P | RW | US, of)
        .unwrap();
    let mut bits = [0; 1];
    assert_eq!(w.map().log_read(Gfn(0), &mut bits, false), 1);
    assert_eq!(bits, [1 << 3]);
}

#[test]
fn its_tables_are_nobodys() {
    let mut w = World::new();
    let table = w.table();
    let page = w.frame(1).0;
    for cmd in [MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, MMUEXT_CLEAR_PAGE] {
        assert_eq!(w.extended(cmd, page, TARGET), Err(Errno::EINVAL));
    }
    let tables_of = (u64::from(TARGET) + 1) << 16 | u64::from(DOMID_SELF);
    assert_eq!(w.update(page << 12, 7, tables_of), Err(Errno::EINVAL));
    let own = table << 12;
    let m2p = page << 12 | MMU_MACHPHYS_UPDATE;
    assert_eq!(w.update(m2p, 7, TARGET.into()), Err(Errno::EINVAL));
    assert_eq!(w.f.machine.m2p(Mfn(page)), 1);
    // Another guest has no rights over it, whichever number it names.
    w.f.caller = w.f.add(2);
    for number in [1, page] {
        let refused = w.update(own, number << 12 | P | US, TARGET.into());
        assert_eq!(refused, Err(Errno::EPERM));
    }
    // And it has no such calls itself.
    w.by_target();
    let refused = w.update(own, 1 << 12 | P, DOMID_SELF.into());
    assert_eq!(refused, Err(Errno::ENOSYS));
}
