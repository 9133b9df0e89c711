//! Checking all entries of a table (or all descriptors of a page) and dropping what they hold.
//!
//! Runs while the frame's type word is claimed, so the contents change by nobody's hand but
//! the processor's accessed and dirty bits. Entries below the index in the frame's `progress` hold their
//! references, those from it on do not: that is all the state an interruption needs. A table below
//! that is itself half done keeps its own progress, and the entry is simply tried again.

use super::descriptors::check_descriptor;
use super::entries::{self, Whose};
use super::frames::{Frame, Owner};
use super::pte::{ENTRIES, HYPERVISOR_SLOT_FIRST, Level, Pte, is_hypervisor_slot};
use super::types::PageType;
use super::{PtMachine, Refusal, Stop};
use crate::base::{DomId, Mfn};
use core::sync::atomic::{AtomicU64, Ordering};

/// How far work on a frame has come; kept in its `progress` while it is interrupted.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    /// Entries below this hold their references.
    pub(super) index: usize,
    /// The work is going down, not up.
    pub(super) undoing: bool,
}

impl Progress {
    /// Nothing done yet.
    pub(super) const START: Self = Self {
        index: 0,
        undoing: false,
    };
    const UNDOING: u16 = 1 << 15;

    pub(super) fn load(frame: &Frame) -> Self {
        let kept = frame.progress();
        Self {
            index: usize::from(kept & !Self::UNDOING).min(ENTRIES),
            undoing: kept & Self::UNDOING != 0,
        }
    }

    pub(super) fn store(self, frame: &Frame) {
        frame.set_progress(self.index as u16 | if self.undoing { Self::UNDOING } else { 0 });
    }
}

/// How a pass over a frame ended.
pub(super) enum Scan {
    /// All done.
    Complete,
    /// Interrupted; entries below the index hold their references.
    Suspended(usize),
    /// An entry did not pass; entries below the index hold their references.
    Failed(Refusal, usize),
}

/// Checks a frame as `want`, from entry `start` on.
pub(super) fn check<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    want: PageType,
    start: usize,
) -> Scan {
    let owner = match (want, frame.owner()) {
        (PageType::None | PageType::Writable, _) => return Scan::Complete,
        (_, Owner::Domain(owner)) => owner,
        (_, Owner::Free | Owner::Xen | Owner::Io) => return Scan::Failed(Refusal::Invalid, start),
    };
    match want.level() {
        None => check_segments(m, mfn),
        Some(Level::L1) => check_l1(m, mfn, owner, start),
        Some(level) => check_upper(m, mfn, owner, level, start),
    }
}

/// Whose it is, for messages: their rate is limited by the name that they begin with.
fn owner<M: PtMachine>(m: &M, mfn: Mfn) -> Owner {
    m.frame(mfn).map_or(Owner::Io, Frame::owner)
}

fn check_segments<M: PtMachine>(m: &M, mfn: Mfn) -> Scan {
    for (slot, word) in m.table(mfn).iter().enumerate() {
        let raw = word.load(Ordering::Relaxed);
        match check_descriptor(raw) {
            Ok(fixed) if fixed == raw => {}
            Ok(fixed) => word.store(fixed, Ordering::Relaxed),
            Err(why) => {
                m.note(format_args!(
                    "{}: descriptor page {:#x}: entry {slot} ({raw:#x}) is {why}",
                    owner(m, mfn),
                    mfn.0
                ));
                return Scan::Failed(Refusal::Invalid, 0);
            }
        }
    }
    Scan::Complete
}

/// Entries that are looked at in one go.
const GROUP: usize = 8;

/// Whether one of the entries is present: tables of processes are mostly empty, and a kernel makes and drops
/// them at every fork.
#[inline(always)]
fn any_present([a, b, c, d, e, f, g, h]: &[AtomicU64; GROUP]) -> bool {
    let raw = |word: &AtomicU64| word.load(Ordering::Relaxed);
    Pte(raw(a) | raw(b) | raw(c) | raw(d) | raw(e) | raw(f) | raw(g) | raw(h)).is_present()
}

fn groups(table: &[AtomicU64; ENTRIES]) -> &[[AtomicU64; GROUP]] {
    table.as_chunks().0
}

fn check_l1<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId, start: usize) -> Scan {
    let whose = Whose::own(owner);
    let table = groups(m.table(mfn));
    for (group, words) in table.iter().enumerate().skip(start / GROUP) {
        if !any_present(words) {
            continue;
        }
        for (word, slot) in words.iter().zip(group * GROUP..) {
            let raw = Pte(word.load(Ordering::Relaxed));
            if !raw.is_present() || slot < start {
                continue;
            }
            match entries::take_l1(m, &whose, raw) {
                Ok(entry) => adjust(word, raw, entry),
                Err(stop) => return stopped(m, mfn, slot, raw, stop),
            }
            // Writing back a page's lines takes some microseconds; all else here is short.
            if raw.has_cache_bits() && m.preempt_pending() {
                return Scan::Suspended(slot + 1);
            }
        }
    }
    Scan::Complete
}

fn check_upper<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId, level: Level, start: usize) -> Scan {
    let table = m.table(mfn);
    for (group, words) in groups(table).iter().enumerate().skip(start / GROUP) {
        if !any_present(words) {
            continue;
        }
        for (word, slot) in words.iter().zip(group * GROUP..) {
            let raw = Pte(word.load(Ordering::Relaxed));
            let ours = level == Level::L4 && is_hypervisor_slot(slot);
            if !raw.is_present() || slot < start || ours {
                continue;
            }
            match entries::take_upper(m, owner, level, raw) {
                Ok(entry) => adjust(word, raw, entry),
                Err(stop) => return stopped(m, mfn, slot, raw, stop),
            }
            if m.preempt_pending() {
                return Scan::Suspended(slot + 1);
            }
        }
    }
    if level == Level::L4 {
        let ours = m.hypervisor_slots(owner);
        for (word, value) in table[HYPERVISOR_SLOT_FIRST..].iter().zip(ours) {
            word.store(*value, Ordering::Relaxed);
        }
        // Machine-to-physical: shown to roots of kernels only, once they are such.
        table[HYPERVISOR_SLOT_FIRST].store(0, Ordering::Relaxed);
    }
    Scan::Complete
}

/// Writes an entry back as the processor is to see it. A plain store: no root leads here yet.
fn adjust(word: &AtomicU64, raw: Pte, entry: Pte) {
    if entry != raw {
        word.store(entry.0, Ordering::Relaxed);
    }
}

fn stopped<M: PtMachine>(m: &M, mfn: Mfn, slot: usize, entry: Pte, stop: Stop) -> Scan {
    match stop {
        Stop::Restart => Scan::Suspended(slot),
        Stop::Refused(why) => {
            m.note(format_args!(
                "{}: table {:#x}: entry {slot} ({entry:?}) does not pass",
                owner(m, mfn),
                mfn.0
            ));
            Scan::Failed(why, slot)
        }
    }
}

/// Drops what the entries below `end` hold, from the top down. Never `Failed`.
pub(super) fn take_apart<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame, end: usize) -> Scan {
    let Some(level) = frame.ty.state().page_type().level() else {
        return Scan::Complete;
    };
    let end = end.min(ENTRIES);
    let table = groups(m.table(mfn));
    for (group, words) in table.iter().enumerate().take(end.div_ceil(GROUP)).rev() {
        if !any_present(words) {
            continue;
        }
        for (place, word) in words.iter().enumerate().rev() {
            let (slot, entry) = (group * GROUP + place, Pte(word.load(Ordering::Relaxed)));
            let ours = level == Level::L4 && is_hypervisor_slot(slot);
            if !entry.is_present() || slot >= end || ours {
                continue;
            }
            if level == Level::L1 {
                entries::drop_l1(m, entry);
                continue;
            }
            if entries::drop_upper(m, entry).is_err() {
                return Scan::Suspended(slot + 1);
            }
            if slot > 0 && m.preempt_pending() {
                return Scan::Suspended(slot);
            }
        }
    }
    Scan::Complete
}
