//! Taking and dropping references to frames, with what a change of type entails.

use super::frames::{Dropped, Frame, GetError, Owner, RefError, Standing};
use super::holdings::Holdings;
use super::types::{Claim, Join, Leave, PageType, Reach};
use super::validate::{self, Progress, Scan};
use super::{PtMachine, PtResult, Refusal, Stop, TlbScope};
use crate::base::{DomId, Mfn};

/// Turns of waiting for another CPU that is at work on a frame. Far longer than a flush takes;
/// whoever takes longer is checking a table, and then the waiter restarts.
const PATIENCE: u32 = 4096;

/// Takes a general reference to a frame of `owner`; it keeps the frame with its owner until
/// [`put_page`].
#[inline(always)]
pub fn get_page<M: PtMachine>(m: &M, mfn: Mfn, owner: Owner) -> Result<(), RefError> {
    get_frame(m, mfn, m.frame(mfn).ok_or(RefError::NotRam)?, owner)
}

#[inline(always)]
fn get_frame<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame, owner: Owner) -> Result<(), RefError> {
    match frame.get(owner) {
        Ok(()) => Ok(()),
        Err(GetError::Refused(why)) => Err(why),
        Err(GetError::Stray) => {
            drop_general(m, mfn, frame);
            Err(RefError::WrongOwner)
        }
    }
}

/// Drops a general reference. The last one gives the frame back to the allocator.
#[inline(always)]
pub fn put_page<M: PtMachine>(m: &M, mfn: Mfn) {
    if let Some(frame) = m.frame(mfn) {
        drop_general(m, mfn, frame);
    }
}

#[inline]
fn drop_general<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame) {
    match frame.put() {
        Dropped::Alive => {}
        Dropped::Last => {
            // Read-only mappings may still be cached; the allocator flushes by this stamp.
            frame.set_stamp(m.tlb_clock());
            m.release(mfn);
        }
    }
}

/// Takes a reference to a frame of `owner` as `want`: waits out or flushes what is stale and checks
/// a table's or descriptor page's contents where this is the first.
///
/// `Reach::Foreign` says that the mapping will be in the tables of another domain than the owner.
/// Restart keeps progress in the frame. Errors: Invalid where the frame is not `owner`'s, is
/// in use as something else, does not pass the checks, or is to be more than a page and is lent.
pub fn get_page_and_type<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    owner: DomId,
    want: PageType,
    reach: Reach,
) -> PtResult {
    let Some(frame) = m.frame(mfn) else {
        return Err(Refusal::Invalid.into());
    };
    if want == PageType::Writable {
        return get_writable(m, mfn, frame, owner, reach);
    }
    take_use(m, mfn, frame, owner, want, reach)
}

/// As [`get_page_and_type`] for a frame that is perhaps not in use as `want` yet.
fn take_use<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    owner: DomId,
    want: PageType,
    reach: Reach,
) -> PtResult {
    let owner = Owner::Domain(owner);
    if want == PageType::None || get_frame(m, mfn, frame, owner).is_err() {
        return Err(Refusal::Invalid.into());
    }
    if want == PageType::Writable && frame.ty.open_writable(reach) {
        return Ok(());
    }
    // A pin or a check that was interrupted keeps a frame, and the owner's end looks at its own frames only.
    if want != PageType::Writable && frame.standing() == Standing::Lent {
        drop_general(m, mfn, frame);
        return Err(Refusal::Invalid.into());
    }
    let (outcome, general) = acquire(m, mfn, frame, want, reach);
    match general {
        General::Kept => {}
        General::Spare => drop_general(m, mfn, frame),
    }
    outcome
}

/// Adds a reference to a frame that is held as writable already, the common case; `None` where it is not.
#[inline(always)]
fn join_writable<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    owner: DomId,
    reach: Reach,
) -> Option<PtResult> {
    if !frame.belongs_to(owner) || !frame.ty.join_held(PageType::Writable, reach) {
        return None;
    }
    if frame.belongs_to(owner) {
        return Some(Ok(()));
    }
    // The frame changed hands between the look and the reference.
    put_writable(m, mfn);
    Some(Err(Refusal::Invalid.into()))
}

/// As [`get_page_and_type`] for [`PageType::Writable`], with the common case in place.
#[inline(always)]
pub(super) fn get_writable<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    owner: DomId,
    reach: Reach,
) -> PtResult {
    match join_writable(m, mfn, frame, owner, reach) {
        Some(outcome) => outcome,
        None => take_use(m, mfn, frame, owner, PageType::Writable, reach),
    }
}

/// What became of the general reference that a join brought along.
enum General {
    /// It now belongs to the type references.
    Kept,
    /// They have one already, or there are none.
    Spare,
}

fn acquire<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    want: PageType,
    reach: Reach,
) -> (PtResult, General) {
    for _ in 0..PATIENCE {
        match frame.ty.join(want, reach) {
            Join::Shared => return (Ok(()), General::Spare),
            Join::First => return (Ok(()), General::Kept),
            Join::Opened {
                claim,
                from,
                foreign,
                incoherent,
            } => {
                if from != PageType::None && from != want {
                    flush_former_use(m, frame, foreign);
                }
                if incoherent {
                    // What is checked must be what the processor's table walk will read.
                    m.write_back(mfn);
                }
                return settle(m, mfn, frame, want, claim, Progress::START, General::Kept);
            }
            Join::Resumed { claim } => {
                let at = Progress::load(frame);
                return settle(m, mfn, frame, want, claim, at, General::Spare);
            }
            Join::Contended => core::hint::spin_loop(),
            Join::Refused(now) => {
                m.note(format_args!(
                    "{}: frame {:#x} is in use as {now:?}, not to be had as {want:?}",
                    frame.owner(),
                    mfn.0
                ));
                return (Err(Refusal::Invalid.into()), General::Spare);
            }
            Join::Full => return (Err(Refusal::Busy.into()), General::Spare),
        }
    }
    (Err(Stop::Restart), General::Spare)
}

/// Flushes what TLBs may hold of the frame's former use. The word is claimed for the new type, so
/// no mapping of the old one can come up meanwhile.
fn flush_former_use<M: PtMachine>(m: &M, frame: &Frame, foreign: bool) {
    let scope = match frame.owner() {
        Owner::Domain(id) if !foreign => TlbScope::Domain(id),
        Owner::Domain(_) | Owner::Xen | Owner::Free | Owner::Io => TlbScope::All,
    };
    m.flush_stale(scope, frame.stamp());
}

/// Brings a claimed word to its next state: checks what is to be checked, or undoes a failed check.
/// `general` is where the reference brought along goes if the word keeps a count.
fn settle<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    want: PageType,
    claim: Claim,
    at: Progress,
    general: General,
) -> (PtResult, General) {
    let scan = if at.undoing && !claim.is_borrowed() {
        Scan::Failed(Refusal::Invalid, at.index)
    } else {
        validate::check(m, mfn, frame, want, at.index)
    };
    match scan {
        Scan::Complete => {
            frame.ty.finish_valid(claim);
            (Ok(()), general)
        }
        Scan::Suspended(index) => {
            Progress {
                index,
                undoing: false,
            }
            .store(frame);
            frame.ty.finish_suspended(claim);
            (Err(Stop::Restart), general)
        }
        Scan::Failed(why, index) if claim.is_borrowed() => {
            // The interrupted put comes back and takes the rest apart.
            Progress {
                index,
                undoing: true,
            }
            .store(frame);
            frame.ty.finish_suspended(claim);
            (Err(why.into()), General::Spare)
        }
        Scan::Failed(why, index) => undo(m, mfn, frame, claim, index, why, general),
    }
}

fn undo<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    claim: Claim,
    index: usize,
    why: Refusal,
    general: General,
) -> (PtResult, General) {
    match validate::take_apart(m, mfn, frame, index) {
        Scan::Complete => {}
        Scan::Suspended(index) | Scan::Failed(_, index) => {
            Progress {
                index,
                undoing: true,
            }
            .store(frame);
            frame.ty.finish_suspended(claim);
            return (Err(Stop::Restart), general);
        }
    }
    close(m, frame, claim);
    // A resumed word had a general reference of its own beside the caller's.
    if matches!(general, General::Spare) {
        drop_general(m, mfn, frame);
    }
    (Err(why.into()), General::Spare)
}

/// Busy to Idle; the stamp comes first, while nobody can join.
fn close<M: PtMachine>(m: &M, frame: &Frame, claim: Claim) {
    frame.set_stamp(m.tlb_clock());
    frame.ty.finish_idle(claim);
}

/// Drops a type reference. The last one takes a table apart, which can be interrupted: on
/// [`Stop::Restart`] the caller still owns the reference and must call again. No other error.
#[inline(always)]
pub fn put_page_and_type<M: PtMachine>(m: &M, mfn: Mfn) -> PtResult {
    match m.frame(mfn) {
        Some(frame) if !frame.ty.leave_shared() => put_last(m, mfn, frame),
        Some(_) | None => Ok(()),
    }
}

#[inline(never)]
fn put_last<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame) -> PtResult {
    for _ in 0..PATIENCE {
        match frame.ty.leave() {
            Leave::Left => return Ok(()),
            Leave::Closing { claim, resumed } => {
                return finish_closing(m, mfn, frame, claim, resumed);
            }
            Leave::Contended => core::hint::spin_loop(),
            Leave::Missing => {
                debug_assert!(false, "a type reference was dropped twice");
                return Ok(());
            }
        }
    }
    Err(Stop::Restart)
}

/// Takes apart and idles a word whose last reference goes.
pub(super) fn finish_closing<M: PtMachine>(
    m: &M,
    mfn: Mfn,
    frame: &Frame,
    claim: Claim,
    resumed: bool,
) -> PtResult {
    if frame.ty.state().page_type().level().is_some() {
        let start = if resumed {
            Progress::load(frame).index
        } else {
            super::pte::ENTRIES
        };
        match validate::take_apart(m, mfn, frame, start) {
            Scan::Complete => {}
            Scan::Suspended(index) | Scan::Failed(_, index) => {
                Progress {
                    index,
                    undoing: true,
                }
                .store(frame);
                frame.ty.finish_interrupted(claim);
                return Err(Stop::Restart);
            }
        }
    }
    close(m, frame, claim);
    drop_general(m, mfn, frame);
    Ok(())
}

/// Undoes an orphaned interrupted check, for teardown. `Ok` also where there is none.
pub(super) fn reap_orphan<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame) -> PtResult {
    let Some(claim) = frame.ty.adopt_orphan() else {
        return Ok(());
    };
    let index = Progress::load(frame).index;
    match undo(
        m,
        mfn,
        frame,
        claim,
        index,
        Refusal::Invalid,
        General::Spare,
    ) {
        (Err(Stop::Restart), _) => Err(Stop::Restart),
        _ => Ok(()),
    }
}

/// Gives a free frame of ours to a domain as a page that both write (shared info, grant frames,
/// rings). Our `Writable` reference keeps it alive, and from becoming a table, until
/// [`unshare_page`], whatever the domain does.
///
/// Errors: as [`Holdings::enter`].
pub fn share_page<M: PtMachine>(m: &M, mfn: Mfn, with: &Holdings) -> Result<(), RefError> {
    with.enter(m, mfn, Standing::Lent)?;
    // A frame just assigned has no type, so this can neither wait nor fail.
    get_page_and_type(m, mfn, with.id(), PageType::Writable, Reach::Owner)
        .map_err(|_| RefError::InUse)
}

/// Ends what [`share_page`] began. The frame is released when the domain's last mapping goes.
pub fn unshare_page<M: PtMachine>(m: &M, mfn: Mfn) {
    let Some(frame) = m.frame(mfn) else { return };
    let allocation = frame.take_allocation();
    put_writable(m, mfn);
    if allocation {
        put_page(m, mfn);
    }
}

/// Drops the claim of an owner that lives on to a page of its account (`decrease_reservation`).
///
/// Errors: [`RefError::WrongOwner`] also for lent pages and for those given up already; as [`get_page`].
pub fn relinquish_page<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId) -> Result<(), RefError> {
    get_page(m, mfn, Owner::Domain(owner))?;
    let ours = m
        .frame(mfn)
        .is_some_and(|f| f.standing() == Standing::Own && f.take_allocation());
    if ours {
        put_page(m, mfn);
    }
    put_page(m, mfn);
    if ours {
        Ok(())
    } else {
        Err(RefError::WrongOwner)
    }
}

/// References to a page of the owner's account beside its claim, at this moment; nothing where it is none, or was given up.
pub fn users<M: PtMachine>(m: &M, mfn: Mfn, owner: DomId) -> Option<u64> {
    let frame = m.frame(mfn)?;
    let own = frame.belongs_to(owner) && frame.standing() == Standing::Own;
    (own && frame.is_allocated()).then(|| frame.references().saturating_sub(1))
}

/// Drops a `Writable` reference, which cannot be interrupted: nothing is taken apart, and no other
/// CPU can have claimed a writable word that is referenced.
#[inline(always)]
pub fn put_writable<M: PtMachine>(m: &M, mfn: Mfn) {
    let done = put_page_and_type(m, mfn);
    debug_assert!(
        done.is_ok(),
        "dropping a writable reference waited for a claim"
    );
}
