//! A guest that changes an entry while it is being mapped.

use super::world::*;
use crate::grants::entry::{Entry, Purpose, Terms};
use crate::grants::pins::Hold;
use crate::grants::*;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use xen_abi::grant_table::*;

const ROUNDS: u32 = 20_000;
const GRANTED: u32 = 7 << 16 | GTF_permit_access as u32;
const TERMS: Terms = Terms {
    grantee: 7,
    access: Access::Write,
    purpose: Purpose::Map,
};

fn frame() -> SharedFrame {
    let words = Box::leak(Box::new([const { AtomicU32::new(0) }; frames::WORDS]));
    SharedFrame::new(Mfn(1), words)
}

/// Begins and ends uses until the guest is done; `check` runs while the entry is in use.
fn use_until(stop: &AtomicBool, entry: Entry<'_>, check: impl Fn()) {
    while !stop.load(SeqCst) {
        if entry.begin(&TERMS, Hold::Idle).is_ok() {
            check();
            entry.settle(Hold::Idle);
        }
    }
}

#[test]
fn version_1_entry_in_use_cannot_be_revoked() {
    let (shared, stop) = ([frame()], AtomicBool::new(false));
    let entry = Entry::locate(Version::V1, &shared, &[], 3).unwrap();
    let word = &entry.words()[0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use_until(&stop, entry, || {
                let in_use = u32::from(GTF_reading | GTF_writing);
                assert_eq!(word.load(SeqCst), GRANTED | in_use);
            });
        });
        for _ in 0..ROUNDS {
            word.store(GRANTED, SeqCst);
            while word.compare_exchange(GRANTED, 0, SeqCst, SeqCst).is_err() {
                std::hint::spin_loop();
            }
        }
        stop.store(true, SeqCst);
    });
}

#[test]
fn version_2_revocation_sees_the_use_or_prevents_it() {
    let (shared, status) = ([frame()], [frame()]);
    let (stop, revoked) = (AtomicBool::new(false), AtomicBool::new(true));
    let entry = Entry::locate(Version::V2, &shared, &status, 3).unwrap();
    let word = &entry.words()[0];
    let marks = || status[0].words()[1].load(SeqCst) >> 16;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use_until(&stop, entry, || {
                assert!(!revoked.load(SeqCst));
            });
        });
        for _ in 0..ROUNDS {
            revoked.store(false, SeqCst);
            word.store(GRANTED, SeqCst);
            word.store(0, SeqCst);
            while marks() != 0 {
                std::hint::spin_loop();
            }
            revoked.store(true, SeqCst);
        }
        stop.store(true, SeqCst);
    });
    assert_eq!(marks(), 0);
}

#[test]
fn entry_retyped_while_in_use_is_still_released() {
    let w = World::new(2, Limits::default());
    w.grant(1, 5, 0, page_of(1, 0), GTF_permit_access);
    let host = w.host(0);
    let handle = map_host(&host, 1, 5, 0x1000, 0).unwrap().handle;
    // The guest breaks the rules: another domain, another page, no marks.
    w.grant(1, 5, 1, page_of(1, 3), GTF_permit_access);
    assert!(map_host(&host, 1, 5, 0x2000, GNTMAP_readonly).is_ok());
    assert_eq!(w.refs(page_of(1, 0)), (1, 1), "the first page is meant");
    assert_eq!(w.refs(page_of(1, 3)), (0, 0));
    unmap(&host, handle, 0x1000, 0).unwrap();
    assert_eq!(w.refs(page_of(1, 0)), (1, 0));
}
