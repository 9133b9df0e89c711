//! A guest that changes an entry while it is being mapped.

use super::world::*;
use crate::grants::entry::{Entry, Purpose, Terms};
use crate::grants::pins::Hold;
use crate::grants::*;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::thread::ScopedJoinHandle;
use xen_abi::grant_table::*;

/// Uses that must have met a guest at work before a race counts as tried.
const USES: u32 = 20_000;
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

/// Begins and ends uses until there were enough; `check` runs while the entry is in use.
fn use_often(done: &AtomicBool, entry: Entry<'_>, check: impl Fn()) {
    let mut uses = 0;
    while uses < USES {
        if entry.begin(&TERMS, Hold::Idle).is_ok() {
            uses += 1;
            check();
            entry.settle(Hold::Idle);
        }
    }
    done.store(true, SeqCst);
}

/// Rounds of the guest, each leaving the entry granted for another short while, until the user is
/// done (or has failed and gone).
fn revoke_often(done: &AtomicBool, user: &ScopedJoinHandle<'_, ()>, round: impl Fn()) {
    let mut delay = 0;
    while !done.load(SeqCst) && !user.is_finished() {
        round();
        delay = (delay + 7) % 64;
        for _ in 0..delay {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn version_1_entry_in_use_cannot_be_revoked() {
    let (shared, done) = ([frame()], AtomicBool::new(false));
    let entry = Entry::locate(Version::V1, &shared, &[], 3).unwrap();
    let word = &entry.words()[0];
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            use_often(&done, entry, || {
                let in_use = u32::from(GTF_reading | GTF_writing);
                assert_eq!(word.load(SeqCst), GRANTED | in_use);
            });
        });
        let delay = AtomicU32::new(0);
        revoke_often(&done, &user, || {
            word.store(GRANTED, SeqCst);
            let spins = delay.fetch_add(5, SeqCst) % 128;
            (0..spins).for_each(|_| std::hint::spin_loop());
            while word.compare_exchange(GRANTED, 0, SeqCst, SeqCst).is_err() && !user.is_finished()
            {
                std::hint::spin_loop();
            }
        });
        user.join().expect("an entry in use was revoked");
    });
}

#[test]
fn version_2_revocation_sees_the_use_or_prevents_it() {
    let (shared, status) = ([frame()], [frame()]);
    let (done, revoked) = (AtomicBool::new(false), AtomicBool::new(true));
    let entry = Entry::locate(Version::V2, &shared, &status, 3).unwrap();
    let word = &entry.words()[0];
    let marks = || status[0].words()[1].load(SeqCst) >> 16;
    std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            use_often(&done, entry, || {
                assert!(!revoked.load(SeqCst));
            });
        });
        let delay = AtomicU32::new(0);
        revoke_often(&done, &user, || {
            revoked.store(false, SeqCst);
            word.store(GRANTED, SeqCst);
            let spins = delay.fetch_add(5, SeqCst) % 128;
            (0..spins).for_each(|_| std::hint::spin_loop());
            word.store(0, SeqCst);
            while marks() != 0 && !user.is_finished() {
                std::hint::spin_loop();
            }
            revoked.store(true, SeqCst);
        });
        user.join().expect("a revoked entry was used");
    });
    assert_eq!(marks(), 0);
}

#[test]
fn revocation_just_before_the_mark_wins() {
    let (shared, status) = ([frame()], [frame()]);
    for version in [Version::V1, Version::V2] {
        let entry = Entry::locate(version, &shared, &status, 3).unwrap();
        let word = &entry.words()[0];
        word.store(GRANTED, SeqCst);
        let result = entry.begin_while(&TERMS, Hold::Idle, || word.store(0, SeqCst));
        assert_eq!(result, Err(GrantError::General));
        assert_eq!(entry.all_flags(), 0, "no mark is left behind");
    }
}

#[test]
fn change_to_read_only_just_before_the_mark_wins() {
    let (shared, status) = ([frame()], [frame()]);
    for version in [Version::V1, Version::V2] {
        let entry = Entry::locate(version, &shared, &status, 3).unwrap();
        let word = &entry.words()[0];
        word.store(GRANTED, SeqCst);
        let reading = Terms {
            access: Access::Read,
            ..TERMS
        };
        entry.begin(&reading, Hold::Idle).unwrap();
        let readonly = || {
            word.fetch_or(u32::from(GTF_readonly), SeqCst);
        };
        let result = entry.begin_while(&TERMS, Hold::Reading, readonly);
        assert_eq!(result, Err(GrantError::General));
        let flags = GTF_permit_access | GTF_readonly | GTF_reading;
        assert_eq!(entry.all_flags(), flags, "the earlier use is still shown");
        entry.settle(Hold::Idle);
        word.store(0, SeqCst);
    }
}

#[test]
fn guest_that_never_leaves_an_entry_alone_is_given_up_on() {
    let shared = [frame()];
    let entry = Entry::locate(Version::V1, &shared, &[], 3).unwrap();
    let word = &entry.words()[0];
    word.store(GRANTED, SeqCst);
    let fidget = || {
        word.fetch_xor(u32::from(GTF_PWT), SeqCst);
    };
    let result = entry.begin_while(&TERMS, Hold::Idle, fidget);
    assert_eq!(result, Err(GrantError::General));
    let once = AtomicBool::new(true);
    let result = entry.begin_while(&TERMS, Hold::Idle, || {
        if once.swap(false, SeqCst) {
            fidget();
        }
    });
    assert!(result.is_ok(), "one change is forgiven");
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
