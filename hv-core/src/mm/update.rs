//! Changing one entry of a page table that may be live.
//!
//! The order is: take the references of the new entry, compare-and-swap it in (the processor sets
//! accessed and dirty bits meanwhile, other vCPUs race), then drop the references of the old one. Who swaps an entry
//! out owns its references, so no lock is needed. A table is kept one by a [`Hold`]: a type reference of
//! the caller for as long as it works on it; batches keep theirs from entry to entry.

use super::entries::{self, Whose};
use super::frames::{Frame, Owner};
use super::pins::OwedPuts;
use super::pte::{Level, Pte, is_hypervisor_slot};
use super::refs::{get_page, get_page_and_type, put_page, put_writable};
use super::types::{PageType, Reach};
use super::{PtMachine, PtResult, Refusal, Stop};
use crate::base::{DomId, GuestVa, Mfn, PhysAddr};
use core::sync::atomic::{AtomicU64, Ordering};

/// Times an update meets somebody else's change before it restarts.
const RACES: u32 = 64;

/// A table in use, kept so by a type reference until [`release_table`].
#[must_use = "a hold is a reference and must be released"]
#[derive(Debug)]
pub struct Hold {
    mfn: Mfn,
    level: Level,
    owner: DomId,
}

impl Hold {
    /// The table's frame.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// The table's level.
    #[must_use]
    pub const fn level(&self) -> Level {
        self.level
    }
}

/// How the new value relates to the old.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// The value is stored as it is (`MMU_NORMAL_PT_UPDATE`, `MMU_PT_UPDATE_NO_TRANSLATE`).
    Nothing,
    /// Accessed and dirty bits of the old entry are kept (`MMU_PT_UPDATE_PRESERVE_AD`).
    AccessedDirty,
}

impl Keep {
    const fn apply(self, old: u64, val: u64) -> u64 {
        match self {
            Self::Nothing => val,
            Self::AccessedDirty => val | old & (Pte::ACCESSED | Pte::DIRTY),
        }
    }
}

/// Outcome of one attempt to swap an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swap {
    /// The entry now has the new value.
    Done,
    /// The entry was no longer what the caller saw; nothing changed.
    Raced,
}

/// Takes hold of a frame of `owner` if it is a page table in use, of whatever level.
///
/// Errors: Invalid where it is not `owner`'s, Busy where it is no table in use.
#[inline]
pub fn hold_table<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    owner: DomId,
    owed: &mut OwedPuts,
) -> PtResult<Hold> {
    let Some(frame) = m.frame(mfn) else {
        return Err(Refusal::Invalid.into());
    };
    let Some(level) = frame.type_state().live_level() else {
        return Err(Refusal::Busy.into());
    };
    if !frame.belongs_to(owner) {
        return Err(Refusal::Invalid.into());
    }
    if !frame.ty.join_held(PageType::of_table(level), Reach::Owner) {
        return Err(Refusal::Busy.into());
    }
    // A page table in use belongs to its owner until the last reference goes, and ours is one.
    if frame.belongs_to(owner) {
        return Ok(Hold { mfn, level, owner });
    }
    // The frame changed hands between the look and the reference.
    owed.put(m, mfn)?;
    Err(Refusal::Invalid.into())
}

/// Ends a hold. If it was the table's last reference the table is taken apart, perhaps later (`owed`).
#[inline(always)]
pub fn release_table<M: PtMachine>(m: &M, hold: Hold, owed: &mut OwedPuts) -> PtResult {
    owed.put(m, hold.mfn)
}

#[inline(always)]
fn entry<'m, M: PtMachine>(m: &'m M, hold: &Hold, slot: usize) -> PtResult<&'m AtomicU64> {
    m.table(hold.mfn)
        .get(slot)
        .ok_or(Stop::Refused(Refusal::Invalid))
}

/// Reads an entry of a held table.
pub fn read_entry<M: PtMachine>(m: &M, hold: &Hold, slot: usize) -> PtResult<u64> {
    Ok(entry(m, hold, slot)?.load(Ordering::Acquire))
}

/// Sets an entry of a held table, with all checks.
///
/// Errors: as [`entries::take_l1`] and [`entries::take_upper`]; nothing changed then. After
/// Restart the entry may already have its new value: doing the update again is harmless.
pub fn update_entry<M: PtMachine>(
    m: &M,
    whose: &Whose,
    hold: &Hold,
    slot: usize,
    val: u64,
    keep: Keep,
    owed: &mut OwedPuts,
) -> PtResult {
    let word = entry(m, hold, slot)?;
    for _ in 0..RACES {
        let seen = word.load(Ordering::Acquire);
        let new = keep.apply(seen, val);
        let swap = swap_entry(m, whose, hold, slot, seen, new, owed)?;
        if !owed.is_empty() {
            return Err(Stop::Restart);
        }
        if swap == Swap::Done {
            return Ok(());
        }
    }
    Err(Stop::Restart)
}

/// Replaces an entry of a held table if it is still `seen`, with all checks. `owed` is empty before; afterwards it
/// may hold a reference whose dropping was interrupted, and the outcome stands all the same.
///
/// Errors: as [`update_entry`]; nothing changed then.
#[inline(always)]
pub fn swap_entry<M: PtMachine>(
    m: &M,
    whose: &Whose,
    hold: &Hold,
    slot: usize,
    seen: u64,
    new: u64,
    owed: &mut OwedPuts,
) -> PtResult<Swap> {
    let word = entry(m, hold, slot)?;
    match hold.level {
        Level::L1 => swap_l1(m, whose, word, Pte(seen), Pte(new)),
        Level::L2 | Level::L3 | Level::L4 => {
            swap_upper(m, hold, slot, word, Pte(seen), Pte(new), owed)
        }
    }
}

#[inline]
fn exchange(word: &AtomicU64, seen: Pte, new: Pte) -> Swap {
    match word.compare_exchange(seen.0, new.0, Ordering::AcqRel, Ordering::Relaxed) {
        Ok(_) => Swap::Done,
        Err(_) => Swap::Raced,
    }
}

#[inline(always)]
fn swap_l1<M: PtMachine>(
    m: &M,
    whose: &Whose,
    word: &AtomicU64,
    seen: Pte,
    new: Pte,
) -> PtResult<Swap> {
    // Same frame, same rights: the old entry's references become the new one's.
    if seen.is_same_mapping(new) && new.forbidden_bits(Level::L1) == 0 {
        return Ok(exchange(word, seen, new.adjusted(Level::L1, m.globals())));
    }
    let new = entries::take_l1(m, whose, new)?;
    let swap = exchange(word, seen, new);
    entries::drop_l1(m, if swap == Swap::Done { seen } else { new });
    Ok(swap)
}

fn swap_upper<M: PtMachine>(
    m: &M,
    hold: &Hold,
    slot: usize,
    word: &AtomicU64,
    seen: Pte,
    new: Pte,
    owed: &mut OwedPuts,
) -> PtResult<Swap> {
    if hold.level == Level::L4 && is_hypervisor_slot(slot) {
        m.note(format_args!(
            "d{}: L4 slot {slot} belongs to the hypervisor",
            hold.owner
        ));
        return Err(Refusal::Invalid.into());
    }
    let same = seen.is_present() && new.is_present() && seen.mfn() == new.mfn();
    if same && new.forbidden_bits(hold.level) == 0 {
        let new = new.adjusted(hold.level, m.globals());
        let swap = exchange(word, seen, new);
        if swap == Swap::Done && seen != new {
            m.flush_paging_structures(hold.owner);
        }
        return Ok(swap);
    }
    let new = entries::take_upper(m, hold.owner, hold.level, new)?;
    let swap = exchange(word, seen, new);
    if swap == Swap::Done && (seen.is_present() || hold.level == Level::L4) {
        m.flush_paging_structures(hold.owner);
    }
    let loser = if swap == Swap::Done { seen } else { new };
    if loser.is_present() {
        owed.defer(m, loser.mfn());
    }
    Ok(swap)
}

/// One element of an `mmu_update` batch: sets the entry at machine address `at` (command bits cleared).
///
/// `held` carries the table from element to element; the caller ends the batch with
/// [`end_batch`], whatever the outcome. A frame that is no table in use is written as the data page
/// it is, if it can be had writable: guests fill tables that way before they hook them in.
///
/// Errors: Invalid for an address that is no entry of a frame of `whose.table_owner`; as [`update_entry`].
pub fn mmu_update<M: PtMachine>(
    m: &M,
    whose: &Whose,
    held: &mut Option<Hold>,
    at: PhysAddr,
    val: u64,
    keep: Keep,
    owed: &mut OwedPuts,
) -> PtResult {
    owed.finish(m)?;
    if !at.0.is_multiple_of(8) {
        return Err(Refusal::Invalid.into());
    }
    let slot = at.offset() / 8;
    let same = held
        .as_ref()
        .is_some_and(|h| h.mfn == at.mfn() && h.owner == whose.table_owner);
    if !same {
        end_batch(m, held, owed)?;
        match hold_table(m, at.mfn(), whose.table_owner, owed) {
            Ok(hold) => *held = Some(hold),
            Err(Stop::Refused(Refusal::Busy)) => {
                return write_data(m, whose, at.mfn(), slot, val, keep);
            }
            Err(stop) => return Err(stop),
        }
    }
    match held {
        Some(hold) => update_entry(m, whose, hold, slot, val, keep, owed),
        None => Err(Stop::Restart),
    }
}

/// Releases the table that a batch of [`mmu_update`] still holds. On Restart the rest is owed.
pub fn end_batch<M: PtMachine>(m: &M, held: &mut Option<Hold>, owed: &mut OwedPuts) -> PtResult {
    match held.take() {
        Some(hold) => release_table(m, hold, owed),
        None => Ok(()),
    }
}

/// The commonest update in the shortest way: one entry of an L1 table of the caller's, with a page of its own.
///
/// `false`: nothing is decided, and [`mmu_update`] is to do it. The entry may already have its new value, in which
/// case doing it again is harmless.
#[inline(always)]
pub fn update_own_l1<M: PtMachine>(
    m: &M,
    owner: DomId,
    at: PhysAddr,
    val: u64,
    keep: Keep,
    owed: &mut OwedPuts,
) -> bool {
    let mfn = at.mfn();
    let Some(frame) = m.frame(mfn) else {
        return false;
    };
    let common = owed.is_empty() && at.0.is_multiple_of(8) && frame.belongs_to(owner);
    if !common || !frame.ty.join_held(PageType::L1, Reach::Owner) {
        return false;
    }
    let mut done = false;
    // Between the look and the reference the frame could have changed hands.
    if frame.belongs_to(owner)
        && let Some(word) = m.table(mfn).get(at.offset() / 8)
    {
        let seen = word.load(Ordering::Acquire);
        let new = Pte(keep.apply(seen, val));
        done = swap_l1(m, &Whose::own(owner), word, Pte(seen), new) == Ok(Swap::Done);
    }
    owed.put(m, mfn).is_ok() && done
}

fn write_data<M: PtMachine>(
    m: &M,
    whose: &Whose,
    mfn: Mfn,
    slot: usize,
    val: u64,
    keep: Keep,
) -> PtResult {
    get_page_and_type(m, mfn, whose.table_owner, PageType::Writable, Reach::Owner)?;
    if let Some(word) = m.table(mfn).get(slot) {
        let old = word.load(Ordering::Relaxed);
        word.store(keep.apply(old, val), Ordering::Relaxed);
    }
    put_writable(m, mfn);
    Ok(())
}

/// Where an address is mapped: an entry of an L1 table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// The L1 table.
    pub table: Mfn,
    /// Index of the entry.
    pub index: usize,
}

/// Finds the L1 entry for an address in the tables below `root`, whose owner is `owner`.
///
/// The caller keeps the root alive; tables below can change while this looks, so the result is
/// a claim that [`hold_table`] checks. `None` for addresses that no table covers or that are ours.
#[must_use]
pub fn walk<M: PtMachine>(m: &M, owner: DomId, root: Mfn, va: GuestVa) -> Option<Slot> {
    if !va.is_canonical() || is_hypervisor_slot(Level::L4.slot(va.0)) {
        return None;
    }
    let table = below(m, owner, root, Level::L4, va)?;
    let table = below(m, owner, table, Level::L3, va)?;
    let table = below(m, owner, table, Level::L2, va)?;
    table_of(m, owner, table)?;
    Some(Slot {
        table,
        index: Level::L1.slot(va.0),
    })
}

/// The table that an entry of this one leads to, if it is present.
#[inline(always)]
fn below<M: PtMachine>(m: &M, owner: DomId, table: Mfn, level: Level, va: GuestVa) -> Option<Mfn> {
    let word = table_of(m, owner, table)?.get(level.slot(va.0))?;
    let entry = Pte(word.load(Ordering::Acquire));
    entry.is_present().then(|| entry.mfn())
}

/// The entry that maps an address, for looking only. The guest may change it at any time.
#[must_use]
pub fn look_up<M: PtMachine>(m: &M, owner: DomId, root: Mfn, va: GuestVa) -> Option<Pte> {
    let slot = walk(m, owner, root, va)?;
    let entry = Pte(table_of(m, owner, slot.table)?
        .get(slot.index)?
        .load(Ordering::Acquire));
    entry.is_present().then_some(entry)
}

#[inline(always)]
fn table_of<M: PtMachine>(m: &M, owner: DomId, mfn: Mfn) -> Option<&[AtomicU64; 512]> {
    let frame: &Frame = m.frame(mfn)?;
    frame.belongs_to(owner).then(|| m.table(mfn))
}

/// `update_va_mapping`: sets the L1 entry for an address in the tables below `root`.
///
/// Errors: Invalid where no L1 table covers the address; as [`update_entry`].
pub fn update_va_mapping<M: PtMachine>(
    m: &M,
    whose: &Whose,
    root: Mfn,
    va: GuestVa,
    val: u64,
    owed: &mut OwedPuts,
) -> PtResult {
    owed.finish(m)?;
    let slot = walk(m, whose.table_owner, root, va).ok_or(Refusal::Invalid)?;
    let hold = hold_l1(m, slot.table, whose.table_owner, owed)?;
    let updated = update_entry(m, whose, &hold, slot.index, val, Keep::Nothing, owed);
    let released = release_table(m, hold, owed);
    updated.and(released)
}

/// Holds an L1 table that a walk found; Invalid where it no longer is one.
#[inline(always)]
pub fn hold_l1<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId, owed: &mut OwedPuts) -> PtResult<Hold> {
    let hold = hold_table(m, mfn, owner, owed).map_err(|stop| match stop {
        Stop::Refused(Refusal::Busy) => Stop::Refused(Refusal::Invalid),
        other => other,
    })?;
    if hold.level == Level::L1 {
        return Ok(hold);
    }
    release_table(m, hold, owed)?;
    Err(Refusal::Invalid.into())
}

/// Whether an `MMU_MACHPHYS_UPDATE` may change the M2P entry of this frame: it must be `owner`'s.
/// On success the caller holds a general reference, writes the entry and calls [`put_page`].
pub fn check_m2p_update<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId) -> PtResult {
    get_page(m, mfn, Owner::Domain(owner)).map_err(|_| Stop::Refused(Refusal::Invalid))
}

/// Ends what [`check_m2p_update`] began.
pub fn end_m2p_update<M: PtMachine>(m: &M, mfn: Mfn) {
    put_page(m, mfn);
}
