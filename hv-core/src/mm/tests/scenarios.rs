//! Behaviour of single operations.

use super::checker::check;
use super::machine::*;
use crate::base::{GuestVa, Mfn, PhysAddr};
use crate::mm::entries::{Pages, Whose};
use crate::mm::pins::*;
use crate::mm::refs::*;
use crate::mm::update::*;
use crate::mm::*;

const INVALID: PtResult = Err(Stop::Refused(Refusal::Invalid));
const BUSY: PtResult = Err(Stop::Refused(Refusal::Busy));
const DENIED: PtResult = Err(Stop::Refused(Refusal::Denied));

/// Frames 0..4 are L4..L1 over each other, slot 0; the L1 maps 4 writable in slot 0.
pub fn chain() -> Fake {
    let m = Fake::with_domain(12);
    for t in 0..3 {
        m.poke(t, 0, pte(t + 1, P | RW | US));
    }
    m.poke(3, 0, pte(4, P | RW | US));
    m
}

pub fn pin_ok(m: &Fake, mfn: u64, level: Level) {
    assert_eq!(pin(m, DOM, Mfn(mfn), level, &mut OwedPuts::new()), Ok(()));
    check(m, &[]);
}

pub fn set(m: &Fake, mfn: u64, slot: u64, val: u64) -> PtResult {
    set_as(m, &Whose::own(DOM), mfn, slot, val)
}

fn set_as(m: &Fake, whose: &Whose, mfn: u64, slot: u64, val: u64) -> PtResult {
    let (mut held, mut owed) = (None, OwedPuts::new());
    let at = PhysAddr((mfn << 12) | (slot * 8));
    let r = mmu_update(m, whose, &mut held, at, val, Keep::Nothing, &mut owed);
    assert_eq!(end_batch(m, &mut held, &mut owed), Ok(()));
    check(m, &[]);
    r
}

#[test]
fn pin_checks_the_whole_tree_and_unpin_undoes_it() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    assert_eq!(m.f(3).type_state().live_level(), Some(Level::L1));
    assert_eq!(m.f(4).type_state().page_type(), PageType::Writable);
    // Only roots of kernels get the first, see `show_m2p`.
    assert_eq!((m.peek(0, 256), m.peek(0, 257)), (0, m.slots[1]));
    assert_eq!(m.peek(0, 271), m.slots[15]);
    assert_eq!(unpin(&m, DOM, Mfn(0), &mut OwedPuts::new()), Ok(()));
    check(&m, &[]);
    for f in &m.frames {
        assert_eq!((f.type_state().count(), f.references()), (0, 1));
    }
}

#[test]
fn pin_twice_unpin_twice_and_wrong_levels_are_refused() {
    let m = chain();
    let owed = &mut OwedPuts::new();
    pin_ok(&m, 0, Level::L4);
    assert_eq!(pin(&m, DOM, Mfn(0), Level::L4, owed), INVALID);
    assert_eq!(pin(&m, DOM, Mfn(0), Level::L3, owed), INVALID);
    assert_eq!(pin(&m, OTHER, Mfn(0), Level::L4, owed), INVALID);
    assert_eq!(unpin(&m, OTHER, Mfn(0), owed), INVALID);
    assert_eq!(unpin(&m, DOM, Mfn(0), owed), Ok(()));
    assert_eq!(unpin(&m, DOM, Mfn(0), owed), INVALID);
    assert_eq!(pin(&m, DOM, Mfn(999), Level::L4, owed), INVALID);
    check(&m, &[]);
}

#[test]
fn the_short_way_of_an_update_is_the_long_one() {
    let live = || {
        let m = chain();
        pin_ok(&m, 0, Level::L4);
        m
    };
    let counts = |m: &Fake| -> Vec<_> {
        let both = |f: &Frame| (f.type_state().count(), f.references());
        m.frames.iter().map(both).collect()
    };
    let values = [
        0,
        0x1230,
        pte(4, P | US),
        pte(4, P | RW),
        pte(5, P | RW | US),
    ];
    // A table, a device's frame, one that there is not, a memory type.
    let refused = [
        pte(3, P | RW),
        pte(0, P),
        pte(999, P),
        pte(5, P | US | 1 << 3),
    ];
    let mut shortened = 0;
    for (table, slot) in [(3, 0), (3, 7), (2, 1), (4, 0), (6, 0)] {
        for val in values.into_iter().chain(refused) {
            let (short, long) = (live(), live());
            let at = PhysAddr(table << 12 | slot << 3);
            let owed = &mut OwedPuts::new();
            let done = update_own_l1(&short, DOM, at, val, Keep::Nothing, owed);
            check(&short, &[]);
            if done {
                shortened += 1;
                assert_eq!(
                    set(&long, table, slot, val),
                    Ok(()),
                    "{table} {slot} {val:#x}"
                );
            }
            assert_eq!(counts(&short), counts(&long), "{table} {slot} {val:#x}");
            let entry = |m: &Fake| m.peek(table, slot as usize);
            assert_eq!(entry(&short), entry(&long));
        }
    }
    assert!(
        shortened >= 10,
        "only {shortened} updates went the short way"
    );
    let m = live();
    let owed = &mut OwedPuts::new();
    let at = PhysAddr(3 << 12 | 4);
    assert!(
        !update_own_l1(&m, DOM, at, 0, Keep::Nothing, owed),
        "not aligned"
    );
    let at = PhysAddr(3 << 12);
    assert!(
        !update_own_l1(&m, OTHER, at, 0, Keep::Nothing, owed),
        "not theirs"
    );
    check(&m, &[]);
}

#[test]
fn a_table_is_never_mapped_writable() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    for table in 0..4 {
        assert_eq!(set(&m, 3, 5, pte(table, P | RW | US)), BUSY);
        assert_eq!(set(&m, 3, 5, pte(table, P | US)), Ok(()));
    }
    assert_eq!(
        pin(&m, DOM, Mfn(4), Level::L1, &mut OwedPuts::new()),
        INVALID,
        "4 is mapped writable"
    );
    assert_eq!(set(&m, 3, 0, pte(4, P | US)), Ok(()));
    pin_ok(&m, 4, Level::L1);
}

#[test]
fn a_table_that_maps_itself_writable_does_not_pass() {
    let m = chain();
    m.poke(3, 7, pte(3, P | RW));
    let owed = &mut OwedPuts::new();
    assert_eq!(pin(&m, DOM, Mfn(3), Level::L1, owed), BUSY);
    assert_eq!(pin(&m, DOM, Mfn(0), Level::L4, owed), BUSY);
    m.poke(3, 7, pte(0, P | RW));
    assert_eq!(
        pin(&m, DOM, Mfn(0), Level::L4, owed),
        BUSY,
        "the root above is being checked"
    );
    check(&m, &[]);
    m.poke(3, 7, pte(0, P));
    pin_ok(&m, 0, Level::L4);
}

#[test]
fn linear_tables_and_large_pages_are_refused() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    for table in 0..3 {
        assert_eq!(set(&m, table, 9, pte(table, P | RW)), INVALID);
        assert_eq!(set(&m, table, 9, pte(8, P | RW | 1 << 7)), INVALID);
    }
}

#[test]
fn hypervisor_slots_refuse_writes() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    for slot in 256..272 {
        assert_eq!(set(&m, 0, slot, 0), INVALID);
    }
    assert_eq!(set(&m, 0, 255, pte(1, P | RW)), Ok(()));
    assert_eq!(set(&m, 0, 272, pte(1, P | RW)), Ok(()));
    assert_eq!(m.peek(0, 260), m.slots[4]);
}

#[test]
fn entries_are_adjusted() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    assert_eq!(set(&m, 3, 1, pte(5, P | RW | Pte::GLOBAL)), Ok(()));
    assert_eq!(m.peek(3, 1), pte(5, P | RW | US) | Pte::GUEST_KERNEL);
    assert_eq!(set(&m, 3, 2, pte(5, P | US)), Ok(()));
    assert_eq!(m.peek(3, 2), pte(5, P | US) | Pte::GLOBAL);
    assert_eq!(set(&m, 2, 3, pte(7, P | RW)), Ok(()));
    assert_eq!(m.peek(2, 3), pte(7, P | RW | US));
}

#[test]
fn flags_change_without_counts_and_keep_accessed_and_dirty() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    let ad = Pte::ACCESSED | Pte::DIRTY;
    m.poke(3, 0, m.peek(3, 0) | ad);
    let (mut held, mut owed) = (None, OwedPuts::new());
    let at = PhysAddr(3 << 12);
    let val = pte(4, P | RW | US);
    mmu_update(
        &m,
        &Whose::own(DOM),
        &mut held,
        at,
        val,
        Keep::AccessedDirty,
        &mut owed,
    )
    .unwrap();
    assert_eq!(m.peek(3, 0), val | ad | Pte::GLOBAL);
    mmu_update(
        &m,
        &Whose::own(DOM),
        &mut held,
        at,
        val,
        Keep::Nothing,
        &mut owed,
    )
    .unwrap();
    assert_eq!(m.peek(3, 0), val | Pte::GLOBAL);
    end_batch(&m, &mut held, &mut owed).unwrap();
    assert_eq!(m.f(4).type_state().count(), 1);
    check(&m, &[]);
}

#[test]
fn a_data_page_takes_plain_stores() {
    let m = chain();
    assert_eq!(set(&m, 6, 3, 0x1234), Ok(()));
    assert_eq!(m.peek(6, 3), 0x1234);
    assert_eq!(m.f(6).type_state().count(), 0);
    assert_eq!(set_as(&m, &Whose::own(OTHER), 6, 3, 1), INVALID);
    let (mut held, mut owed) = (None, OwedPuts::new());
    let odd = PhysAddr(6 << 12 | 4);
    assert_eq!(
        mmu_update(
            &m,
            &Whose::own(DOM),
            &mut held,
            odd,
            0,
            Keep::Nothing,
            &mut owed
        ),
        INVALID
    );
}

#[test]
fn foreign_pages_need_the_right() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    // Frames 8.. go to OTHER: its L1 is 8.
    for n in 8..12 {
        m.take_away(n, DOM);
        m.give(n, OTHER);
    }
    assert_eq!(
        pin(&m, OTHER, Mfn(8), Level::L1, &mut OwedPuts::new()),
        Ok(())
    );
    let dom0 = Whose {
        by: OTHER,
        table_owner: OTHER,
        pages: Pages::Of(DOM),
    };
    assert_eq!(set_as(&m, &dom0, 8, 0, pte(5, P | RW)), Ok(()));
    assert_eq!(
        set_as(&m, &dom0, 8, 1, pte(3, P | RW)),
        BUSY,
        "a table of the other domain"
    );
    assert_eq!(set_as(&m, &dom0, 8, 1, pte(3, P)), Ok(()));
    m.privileged
        .store(false, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(set_as(&m, &dom0, 8, 2, pte(6, P)), DENIED);
    let reverse = Whose {
        by: DOM,
        table_owner: DOM,
        pages: Pages::Of(OTHER),
    };
    assert_eq!(set_as(&m, &reverse, 3, 2, pte(9, P)), DENIED);
    assert_eq!(set(&m, 3, 2, pte(9, P)), BUSY);
    let granted = Whose {
        pages: Pages::Granted(OTHER),
        ..reverse
    };
    assert_eq!(set_as(&m, &granted, 3, 2, pte(9, P | RW)), Ok(()));
    assert_eq!(
        set_as(&m, &granted, 3, 3, pte(6, P | RW)),
        BUSY,
        "not the granter's"
    );
}

#[test]
fn foreign_writable_mapping_makes_the_type_change_flush_everybody() {
    let m = chain();
    m.take_away(8, DOM);
    m.give(8, OTHER);
    assert_eq!(
        pin(&m, OTHER, Mfn(8), Level::L1, &mut OwedPuts::new()),
        Ok(())
    );
    let dom0 = Whose {
        by: OTHER,
        table_owner: OTHER,
        pages: Pages::Of(DOM),
    };
    assert_eq!(set_as(&m, &dom0, 8, 0, pte(3, P | RW)), Ok(()));
    m.cpus[1].lock().unwrap().writable.insert(3);
    assert_eq!(set_as(&m, &dom0, 8, 0, 0), Ok(()));
    assert!(
        m.cpus[1].lock().unwrap().writable.contains(&3),
        "nothing forces a flush yet"
    );
    pin_ok(&m, 3, Level::L1);
    assert!(m.cpus[1].lock().unwrap().writable.is_empty());
}

#[test]
fn io_and_shared_frames() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    let uc = 1 << 4;
    assert_eq!(set(&m, 3, 1, pte(IO_BASE, P | RW | uc)), Ok(()));
    assert_eq!(set(&m, 3, 1, pte(IO_READ_ONLY, P | RW)), Ok(()));
    assert_eq!(m.peek(3, 1) & RW, 0);
    assert_eq!(set(&m, 3, 1, pte(IO_BASE + 99, P)), DENIED);
    assert_eq!(
        set(&m, 3, 1, Pte::MFN | P),
        INVALID,
        "the number of no frame"
    );
    let io = Whose {
        pages: Pages::Io,
        ..Whose::own(DOM)
    };
    assert_eq!(set_as(&m, &io, 3, 2, pte(IO_BASE, P | RW)), Ok(()));
    assert_eq!(set_as(&m, &io, 3, 2, pte(5, P | RW)), DENIED);
    m.take_away(9, DOM);
    m.f(9).assign(Owner::Xen).unwrap();
    assert_eq!(set(&m, 3, 4, pte(9, P)), BUSY);
    let xen = Whose {
        pages: Pages::Xen,
        ..Whose::own(DOM)
    };
    assert_eq!(set_as(&m, &xen, 3, 4, pte(9, P | RW)), DENIED);
    assert_eq!(set_as(&m, &xen, 3, 4, pte(9, P)), Ok(()));
    assert_eq!(m.f(9).references(), 2);
    assert_eq!(set(&m, 3, 4, 0), Ok(()));
    assert_eq!(m.f(9).references(), 1);
}

#[test]
fn va_mapping_walks_the_root() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    let owed = &mut OwedPuts::new();
    let own = Whose::own(DOM);
    assert_eq!(
        update_va_mapping(&m, &own, Mfn(0), GuestVa(0x5000), pte(6, P | RW | US), owed),
        Ok(())
    );
    assert_eq!(
        look_up(&m, DOM, Mfn(0), GuestVa(0x5123)).unwrap().mfn(),
        Mfn(6)
    );
    for va in [
        1 << 21,
        1 << 39,
        0xffff_8000_0000_0000,
        0x8000_0000_0000_0000,
    ] {
        assert_eq!(
            update_va_mapping(&m, &own, Mfn(0), GuestVa(va), 0, owed),
            INVALID
        );
    }
    assert_eq!(walk(&m, OTHER, Mfn(0), GuestVa(0x5000)), None);
    check(&m, &[]);
}

#[test]
fn roots_hold_their_tables_until_dropped() {
    let m = chain();
    let (mut roots, mut owed) = (Roots::default(), OwedPuts::new());
    assert!(
        set_base(
            &m,
            DOM,
            &mut roots,
            RootKind::Kernel,
            Some(Mfn(0)),
            &mut owed
        )
        .unwrap()
        .is_none()
    );
    check(&m, &[0]);
    assert!(
        set_base(
            &m,
            DOM,
            &mut roots,
            RootKind::Kernel,
            Some(Mfn(1)),
            &mut owed
        )
        .is_err()
    );
    assert!(set_base(&m, DOM, &mut roots, RootKind::Kernel, None, &mut owed).is_err());
    assert!(
        set_base(&m, DOM, &mut roots, RootKind::User, Some(Mfn(0)), &mut owed)
            .unwrap()
            .is_none()
    );
    check(&m, &[0, 0]);
    let old = set_base(&m, DOM, &mut roots, RootKind::User, None, &mut owed)
        .unwrap()
        .unwrap();
    drop_root(&m, old, &mut owed).unwrap();
    clear_roots(&m, &mut roots, &mut owed).unwrap();
    check(&m, &[]);
    assert_eq!(m.f(0).type_state().count(), 0);
}

#[test]
fn descriptor_pages_exclude_writes_and_are_fixed_up() {
    let m = chain();
    let kernel_code = 0x00af_9b00_0000_ffff_u64;
    m.poke(6, 2, kernel_code);
    assert_eq!(
        get_page_and_type(&m, Mfn(6), DOM, PageType::SegDesc, Reach::Owner),
        Ok(())
    );
    assert_eq!(m.peek(6, 2), kernel_code | 3 << 45);
    pin_ok_with(&m, 0, &[6]);
    let (mut held, mut owed) = (None, OwedPuts::new());
    let at = PhysAddr(3 << 12 | 8);
    let r = mmu_update(
        &m,
        &Whose::own(DOM),
        &mut held,
        at,
        pte(6, P | RW),
        Keep::Nothing,
        &mut owed,
    );
    assert_eq!(r, BUSY);
    end_batch(&m, &mut held, &mut owed).unwrap();
    put_page_and_type(&m, Mfn(6)).unwrap();
    m.poke(6, 3, 0x0000_ec00_0000_0000);
    assert_eq!(
        get_page_and_type(&m, Mfn(6), DOM, PageType::SegDesc, Reach::Owner),
        INVALID
    );
    check(&m, &[]);
}

fn pin_ok_with(m: &Fake, mfn: u64, extra: &[u64]) {
    assert_eq!(
        pin(m, DOM, Mfn(mfn), Level::L4, &mut OwedPuts::new()),
        Ok(())
    );
    check(m, extra);
}

#[test]
fn a_shared_page_lives_until_both_let_go() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    m.take_away(9, DOM);
    share_page(&m, Mfn(9), m.holdings_of(DOM)).unwrap();
    assert_eq!(
        share_page(&m, Mfn(9), m.holdings_of(DOM)),
        Err(RefError::InUse)
    );
    check(&m, &[9]);
    let owed = &mut OwedPuts::new();
    assert_eq!(pin(&m, DOM, Mfn(9), Level::L1, owed), INVALID);
    // The guest gives it back; ours keeps it.
    assert_eq!(relinquish(&m, DOM, Mfn(9)), Ok(()));
    check(&m, &[9]);
    unshare_page(&m, Mfn(9));
    assert_eq!(*m.released.lock().unwrap(), [9]);
    check(&m, &[]);
}

#[test]
fn a_shared_page_that_is_taken_back_becomes_no_table() {
    let m = Fake::with_domain(12);
    m.take_away(9, DOM);
    share_page(&m, Mfn(9), m.holdings_of(DOM)).unwrap();
    // The guest has it mapped when we let go, as where a grant table could not grow.
    get_page(&m, Mfn(9), Owner::Domain(DOM)).unwrap();
    unshare_page(&m, Mfn(9));
    let owed = &mut OwedPuts::new();
    for level in [Level::L1, Level::L2, Level::L3, Level::L4] {
        assert_eq!(pin(&m, DOM, Mfn(9), level, owed), INVALID);
    }
    let descriptors = get_page_and_type(&m, Mfn(9), DOM, PageType::SegDesc, Reach::Owner);
    assert_eq!(descriptors, INVALID);
    assert_eq!(m.f(9).references(), 1);
    put_page(&m, Mfn(9));
    assert_eq!(*m.released.lock().unwrap(), [9]);
}

#[test]
fn a_released_frame_carries_the_moment_of_its_release() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    assert_eq!(set(&m, 3, 1, pte(9, P)), Ok(()));
    // Flushed, then cached again, read-only: only the release can tell the allocator.
    m.flush_cpu(0);
    m.cpus[0].lock().unwrap().readable.insert(9);
    assert_eq!(set(&m, 3, 1, 0), Ok(()));
    assert_eq!(relinquish(&m, DOM, Mfn(9)), Ok(()));
    m.flush_stale(TlbScope::All, m.f(9).stamp());
    assert!(m.cpus[0].lock().unwrap().readable.is_empty());
}

#[test]
fn stolen_and_free_frames_give_no_references() {
    let m = Fake::with_domain(2);
    assert_eq!(
        get_page(&m, Mfn(0), Owner::Domain(OTHER)),
        Err(RefError::WrongOwner)
    );
    assert_eq!(
        get_page(&m, Mfn(7), Owner::Domain(DOM)),
        Err(RefError::NotRam)
    );
    assert_eq!(get_page(&m, Mfn(0), Owner::Domain(DOM)), Ok(()));
    assert_eq!(m.f(0).steal(DOM), Err(RefError::InUse));
    put_page(&m, Mfn(0));
    assert_eq!(m.f(0).steal(OTHER), Err(RefError::WrongOwner));
    assert_eq!(m.f(0).steal(DOM), Ok(()));
    assert_eq!(
        get_page(&m, Mfn(0), Owner::Domain(DOM)),
        Err(RefError::Unreferenced)
    );
    assert_eq!(m.f(1).assign(Owner::Xen), Err(RefError::InUse));
    assert!(m.f(1).take_allocation());
    assert!(!m.f(1).take_allocation());
    put_page(&m, Mfn(1));
    assert_eq!(*m.released.lock().unwrap(), [1]);
    assert_eq!(m.f(1).owner(), Owner::Free);
}
