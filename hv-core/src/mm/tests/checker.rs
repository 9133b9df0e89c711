//! The brute-force judge: recounts every reference from the tables themselves, knowing nothing of
//! how they were taken, and holds the result against the frame entries.

use super::machine::{Fake, IO_BASE, P, RW};
use crate::mm::types::PageType;
use crate::mm::{Globals, Level, Owner, PtMachine, Pte, Standing};

/// Level of a type, 1 to 4, or 0.
fn level(t: PageType) -> u8 {
    match t.level() {
        None => 0,
        Some(Level::L1) => 1,
        Some(Level::L2) => 2,
        Some(Level::L3) => 3,
        Some(Level::L4) => 4,
    }
}

/// What the tables say a frame must count.
#[derive(Default, Clone)]
struct Expected {
    writable: u64,
    as_table: [u64; 5],
    read_only: u64,
}

/// Counts the entries of all tables in use, wholly or up to where interrupted work has come.
fn count_entries(m: &Fake) -> Vec<Expected> {
    let mut seen = vec![Expected::default(); m.frames.len()];
    for (n, frame) in m.frames.iter().enumerate() {
        let state = frame.type_state();
        let level = level(state.page_type());
        let end = match (state.count(), state.is_validated()) {
            (0, _) => 0,
            (_, true) => 512,
            (_, false) => usize::from(frame.progress() & 0x7fff),
        };
        if level == 0 {
            continue;
        }
        for slot in 0..end {
            let entry = m.peek(n as u64, slot);
            let ours = level == 4 && (256..272).contains(&slot);
            if level == 1 && entry & P != 0 {
                let kept = entry & Pte::GUEST_KERNEL == 0 && m.globals() == Globals::UserMappings;
                assert_eq!(
                    entry & Pte::GLOBAL != 0,
                    kept,
                    "frame {n}, entry {entry:#x}"
                );
            }
            let target = entry >> 12 & 0xff_ffff_ffff;
            if entry & P == 0 || ours || target >= IO_BASE {
                continue;
            }
            let target = &mut seen[target as usize];
            match (level, entry & RW != 0) {
                (1, true) => target.writable += 1,
                (1, false) => target.read_only += 1,
                (l, _) => target.as_table[l as usize - 1] += 1,
            }
        }
    }
    seen
}

/// Asserts that counts, types and cached mappings agree. `extra` are frames on which the test
/// itself holds type references (once for each time they appear).
pub fn check(m: &Fake, extra: &[u64]) {
    check_with(m, extra, &[]);
}

/// As [`check`], with frames on which the test holds general references.
pub fn check_with(m: &Fake, extra: &[u64], general: &[u64]) {
    check_holdings(m);
    let seen = count_entries(m);
    for (n, frame) in m.frames.iter().enumerate() {
        let state = frame.type_state();
        let what = &seen[n];
        let tables: u64 = what.as_table.iter().sum();
        let roles =
            u32::from(what.writable > 0) + what.as_table.iter().filter(|c| **c > 0).count() as u32;
        assert!(roles <= 1, "frame {n} has several roles at once: {state:?}");
        if what.writable > 0 {
            assert_eq!(state.page_type(), PageType::Writable, "frame {n}");
        }
        if tables > 0 {
            assert!(
                what.as_table[level(state.page_type()) as usize] == tables,
                "frame {n}: {state:?}"
            );
        }
        let held = extra.iter().filter(|e| **e == n as u64).count() as u64;
        // A pin is a count; where it is being taken apart the count is still there. An orphan counts itself.
        let own = u64::from(state.is_pinned()) + u64::from(state.is_orphan());
        assert_eq!(
            state.count(),
            what.writable + tables + held + own,
            "types of frame {n}: {state:?}"
        );
        assert!(!state.is_busy(), "frame {n}: nobody is at work");
        let by_hand = general.iter().filter(|e| **e == n as u64).count() as u64;
        let refs = u64::from(frame.is_allocated())
            + what.read_only
            + u64::from(state.count() > 0)
            + by_hand;
        assert_eq!(
            frame.references(),
            refs,
            "references of frame {n}: {state:?}"
        );
        assert_eq!(
            refs == 0,
            frame.owner() == Owner::Free,
            "owner of frame {n}"
        );
        check_caches(
            m,
            n as u64,
            level(state.page_type()),
            state.count(),
            state.page_type(),
        );
    }
}

/// Each domain's list has its own frames, once each; lent ones only count.
fn check_holdings(m: &Fake) {
    for holdings in &m.holdings {
        let owned = |n: &usize| m.frames[*n].belongs_to(holdings.id());
        let all: Vec<usize> = (0..m.frames.len()).filter(owned).collect();
        assert_eq!(holdings.frames(), all.len() as u64, "d{}", holdings.id());
        let mut listed = vec![];
        holdings.for_first(m, usize::MAX, |mfn| listed.push(mfn.0 as usize));
        listed.sort_unstable();
        let own = |n: &usize| m.frames[*n].standing() == Standing::Own;
        let expected: Vec<usize> = all.into_iter().filter(own).collect();
        assert_eq!(listed, expected, "the list of d{}", holdings.id());
    }
}

/// No CPU may hold a writable mapping of a table or descriptor page, nor walk a page that is writable.
fn check_caches(m: &Fake, n: u64, level: u8, count: u64, ty: PageType) {
    for (c, cpu) in m.cpus.iter().enumerate() {
        let cpu = cpu.lock().unwrap();
        if count > 0 && ty != PageType::Writable {
            assert!(
                !cpu.writable.contains(&n),
                "cpu {c} can write {ty:?} frame {n}"
            );
        }
        for (_, cached) in cpu.tables.iter().filter(|(f, _)| *f == n) {
            let fine = count == 0 || level == *cached;
            assert!(
                fine,
                "cpu {c} walks frame {n} as L{cached}, but it is {ty:?}"
            );
        }
    }
}
