//! Work on page tables that is interrupted, undone or taken over.

use super::checker::check;
use super::machine::*;
use super::scenarios::{chain, pin_ok};
use crate::base::*;
use crate::mm::pins::*;
use crate::mm::refs::*;
use crate::mm::*;

const INVALID: PtResult = Err(Stop::Refused(Refusal::Invalid));

#[test]
fn preempted_pin_and_unpin_make_progress_and_finish() {
    let m = chain();
    for slot in 1..40 {
        m.poke(2, slot, pte(3, P | RW));
    }
    m.preempt.store(!0, core::sync::atomic::Ordering::Relaxed);
    let owed = &mut OwedPuts::new();
    let mut tries = 0;
    while pin(&m, DOM, Mfn(0), Level::L4, owed) == Err(Stop::Restart) {
        check(&m, &[]);
        tries += 1;
        assert!(tries < 100);
    }
    assert!(tries > 10);
    assert!(m.f(0).type_state().is_pinned());
    let mut tries = 0;
    while unpin(&m, DOM, Mfn(0), owed) == Err(Stop::Restart) {
        check(&m, &[]);
        tries += 1;
        assert!(tries < 100);
    }
    assert!(tries > 10);
    assert!(m.frames.iter().all(|f| f.references() == 1));
}

#[test]
fn interrupted_unpin_can_turn_into_use_again() {
    let m = chain();
    for slot in 1..20 {
        m.poke(2, slot, pte(3, P | RW));
    }
    let owed = &mut OwedPuts::new();
    pin_ok(&m, 2, Level::L2);
    m.preempt.store(!0, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(unpin(&m, DOM, Mfn(2), owed), Err(Stop::Restart));
    assert!(m.f(2).type_state().is_owned_partial());
    m.preempt.store(0, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        get_page_and_type(&m, Mfn(2), DOM, PageType::L2, Reach::Owner),
        Ok(())
    );
    check(&m, &[2]);
    assert_eq!(unpin(&m, DOM, Mfn(2), owed), Ok(()));
    check(&m, &[2]);
    put_page_and_type(&m, Mfn(2)).unwrap();
    check(&m, &[]);
}

#[test]
fn failed_check_is_undone_even_when_interrupted() {
    let m = chain();
    for slot in 1..20 {
        m.poke(2, slot, pte(3, P | RW));
    }
    m.poke(2, 20, pte(3, P | 1 << 7));
    m.preempt
        .store(0xaaaa_aaaa_aaaa_aaaa, core::sync::atomic::Ordering::Relaxed);
    let owed = &mut OwedPuts::new();
    let mut tries = 0;
    loop {
        match pin(&m, DOM, Mfn(2), Level::L2, owed) {
            Err(Stop::Restart) => tries += 1,
            other => break assert_eq!(other, INVALID),
        }
        check(&m, &[]);
        assert!(tries < 100);
    }
    assert!(tries > 10);
    assert!(m.frames.iter().all(|f| f.references() == 1));
}

#[test]
fn teardown_takes_pins_orphans_and_frames() {
    let m = chain();
    for slot in 1..20 {
        m.poke(2, slot, pte(3, P | RW));
    }
    pin_ok(&m, 3, Level::L1);
    m.preempt.store(!0, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(
        pin(&m, DOM, Mfn(0), Level::L4, &mut OwedPuts::new()),
        Err(Stop::Restart)
    );
    for n in 0..12 {
        while relinquish(&m, DOM, Mfn(n)).is_err() {}
        assert_eq!(relinquish(&m, DOM, Mfn(n)), Ok(()));
    }
    assert_eq!(m.released.lock().unwrap().len(), 12);
    assert!(
        m.frames
            .iter()
            .all(|f| f.owner() == Owner::Free && f.references() == 0)
    );
}
