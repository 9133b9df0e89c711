//! Pages that are mapped other than write-back.

use super::machine::*;
use super::scenarios::{chain, pin_ok, set};
use crate::base::Mfn;
use crate::mm::pins::*;
use crate::mm::*;

#[test]
fn what_was_mapped_past_the_caches_is_written_back_before_it_is_a_table() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    let uc = 1 << 4;
    let written = |m: &Fake| std::mem::take(&mut *m.written_back.lock().unwrap());
    assert_eq!(set(&m, 3, 1, pte(6, P | RW)), Ok(()));
    assert_eq!(set(&m, 3, 1, 0), Ok(()));
    pin_ok(&m, 6, Level::L1);
    assert_eq!(unpin(&m, DOM, Mfn(6), &mut OwedPuts::new()), Ok(()));
    assert_eq!(written(&m), [0; 0], "write-back is coherent");
    assert_eq!(set(&m, 3, 1, pte(6, P | uc)), Ok(()));
    assert_eq!(written(&m), [6], "nothing older shows through");
    assert_eq!(set(&m, 3, 1, pte(6, P | RW | uc)), Ok(()));
    assert_eq!(written(&m), [6]);
    assert_eq!(set(&m, 3, 1, pte(6, P | RW)), Ok(()));
    assert_eq!(set(&m, 3, 1, 0), Ok(()));
    assert_eq!(set(&m, 3, 1, pte(6, P | RW)), Ok(()));
    assert_eq!(set(&m, 3, 1, 0), Ok(()));
    assert_eq!(written(&m), [0; 0]);
    pin_ok(&m, 6, Level::L1);
    assert_eq!(written(&m), [6], "checked as the table walk will see it");
    assert_eq!(unpin(&m, DOM, Mfn(6), &mut OwedPuts::new()), Ok(()));
    pin_ok(&m, 6, Level::L2);
    assert_eq!(written(&m), [0; 0], "once is enough");
}

#[test]
fn only_who_has_devices_maps_past_the_caches() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    m.has_devices
        .store(false, core::sync::atomic::Ordering::Relaxed);
    for bit in [3, 4, 7] {
        let past = pte(6, P | RW | 1 << bit);
        assert_eq!(set(&m, 3, 1, past), Err(Refusal::Invalid.into()));
    }
    assert_eq!(set(&m, 3, 1, pte(6, P | RW)), Ok(()));
}

#[test]
fn what_was_written_past_the_caches_stays_so_for_a_new_owner_who_gets_it_as_it_is() {
    let m = chain();
    pin_ok(&m, 0, Level::L4);
    assert_eq!(set(&m, 3, 1, pte(6, P | RW | 1 << 4)), Ok(()));
    assert_eq!(set(&m, 3, 1, 0), Ok(()));
    m.f(6).steal(DOM).unwrap();
    m.holdings_of(DOM).unlink(&m, Mfn(6));
    m.f(6).free_up().unwrap();
    assert!(!m.holdings_of(DOM).leave());
    m.holdings_of(DOM).enter(&m, Mfn(6), Standing::Own).unwrap();
    m.written_back.lock().unwrap().clear();
    pin_ok(&m, 6, Level::L1);
    assert_eq!(*m.written_back.lock().unwrap(), [6]);
}

#[test]
fn checking_a_table_of_uncached_pages_can_be_interrupted() {
    let m = chain();
    for slot in 0..8 {
        m.poke(6, slot, pte(7, P | RW | 1 << 4));
    }
    let owed = &mut OwedPuts::new();
    m.preempt.store(!0, core::sync::atomic::Ordering::Relaxed);
    for done in 1..8 {
        let again = pin(&m, DOM, Mfn(6), Level::L1, owed);
        assert_eq!(again, Err(Stop::Restart), "{done} entries");
        assert_eq!(m.f(7).type_state().count(), done);
    }
    m.preempt.store(0, core::sync::atomic::Ordering::Relaxed);
    pin_ok(&m, 6, Level::L1);
    assert_eq!(m.f(7).type_state().count(), 8);
    assert_eq!(unpin(&m, DOM, Mfn(6), owed), Ok(()));
    assert_eq!(m.f(7).type_state().count(), 0);
}
