//! References that outlive a call: pins, the roots a vCPU runs on, interrupted puts; and teardown.

use super::frames::{Frame, Owner};
use super::pte::Level;
use super::refs::{
    finish_closing, get_page, get_page_and_type, put_page, put_page_and_type, reap_orphan,
};
use super::types::{Leave, PageType, Reach};
use super::{PtMachine, PtResult, Refusal, Stop};
use crate::base::{DomId, Mfn};

/// Type references whose dropping was interrupted. One list for each vCPU: the page-table functions
/// finish it before they begin, and teardown of the domain finishes it too.
///
/// A call leaves at most two: the entry it replaced and the table it worked on. The other two
/// places are for the roots of a vCPU that ends meanwhile.
#[derive(Default, Debug)]
pub struct OwedPuts {
    frames: [Mfn; 4],
    /// How many of them are owed.
    count: usize,
}

impl OwedPuts {
    /// An empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frames: [Mfn(0); 4],
            count: 0,
        }
    }

    /// Whether nothing is owed.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frames on the list.
    pub fn pending(&self) -> impl Iterator<Item = Mfn> + '_ {
        self.frames.iter().copied().take(self.count)
    }

    /// Goes on with what is owed. Restart: some remains, call again before anything else.
    #[inline(always)]
    pub fn finish<M: PtMachine>(&mut self, m: &M) -> PtResult {
        if self.is_empty() {
            Ok(())
        } else {
            self.go_on(m)
        }
    }

    #[cold]
    fn go_on<M: PtMachine>(&mut self, m: &M) -> PtResult {
        while let Some(&mfn) = self.frames[..self.count].last() {
            put_page_and_type(m, mfn)?;
            self.count -= 1;
        }
        Ok(())
    }

    /// Drops a type reference, or keeps it on the list and says Restart. In no case does the
    /// caller hold it afterwards.
    #[inline(always)]
    pub fn put<M: PtMachine>(&mut self, m: &M, mfn: Mfn) -> PtResult {
        self.defer(m, mfn);
        if self.is_empty() {
            Ok(())
        } else {
            Err(Stop::Restart)
        }
    }

    /// Drops a type reference, now or (then it is on the list) later.
    #[inline(always)]
    pub fn defer<M: PtMachine>(&mut self, m: &M, mfn: Mfn) {
        if put_page_and_type(m, mfn).is_err() {
            self.keep(m, mfn);
        }
    }

    #[cold]
    fn keep<M: PtMachine>(&mut self, m: &M, mfn: Mfn) {
        while self.count == self.frames.len() {
            // A caller that did not finish the list before: late is better than lost.
            debug_assert!(false, "the list of owed puts is full");
            if put_page_and_type(m, mfn).is_ok() {
                return;
            }
        }
        self.frames[self.count] = mfn;
        self.count += 1;
    }
}

/// Pins a frame of `owner` as a table of this level (`MMUEXT_PIN_L*_TABLE`), checking it all.
///
/// Errors: Invalid where it cannot be such a table or is pinned already.
pub fn pin<M: PtMachine>(
    m: &M,
    owner: DomId,
    mfn: Mfn,
    level: Level,
    owed: &mut OwedPuts,
) -> PtResult {
    owed.finish(m)?;
    get_page_and_type(m, mfn, owner, PageType::of_table(level), Reach::Owner)?;
    let Some(frame) = m.frame(mfn) else {
        return Err(Refusal::Invalid.into());
    };
    if frame.ty.pin() {
        return Ok(());
    }
    m.note(format_args!(
        "d{owner}: frame {:#x} is pinned already",
        mfn.0
    ));
    owed.put(m, mfn)?;
    Err(Refusal::Invalid.into())
}

/// Removes the pin of a frame of `owner` (`MMUEXT_UNPIN_TABLE`). The table is taken apart if nothing
/// else uses it.
///
/// Errors: Invalid where it is not `owner`'s or not pinned.
pub fn unpin<M: PtMachine>(m: &M, owner: DomId, mfn: Mfn, owed: &mut OwedPuts) -> PtResult {
    owed.finish(m)?;
    get_page(m, mfn, Owner::Domain(owner)).map_err(|_| Stop::Refused(Refusal::Invalid))?;
    let done = match m.frame(mfn) {
        Some(frame) => drop_pin(m, mfn, frame),
        None => Err(Refusal::Invalid.into()),
    };
    put_page(m, mfn);
    if done == Err(Stop::Refused(Refusal::Invalid)) {
        m.note(format_args!("d{owner}: frame {:#x} is not pinned", mfn.0));
    }
    done
}

fn drop_pin<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame) -> PtResult {
    match frame.ty.unpin() {
        Leave::Left => Ok(()),
        Leave::Closing { claim, resumed } => finish_closing(m, mfn, frame, claim, resumed),
        Leave::Contended => Err(Stop::Restart),
        Leave::Missing => Err(Refusal::Invalid.into()),
    }
}

/// The roots of a vCPU; each set one is a type reference to an L4 table.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Roots {
    /// Runs the guest's kernel.
    pub kernel: Option<Mfn>,
    /// Runs the guest's user code.
    pub user: Option<Mfn>,
}

/// Which root.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootKind {
    /// `MMUEXT_NEW_BASEPTR`.
    Kernel,
    /// `MMUEXT_NEW_USER_BASEPTR`.
    User,
}

impl Roots {
    const fn of(&mut self, kind: RootKind) -> &mut Option<Mfn> {
        match kind {
            RootKind::Kernel => &mut self.kernel,
            RootKind::User => &mut self.user,
        }
    }
}

/// A root that is no longer set but may still be in a CPU's CR3. To be dropped by
/// [`drop_root`] after CR3 has been loaded anew.
#[must_use = "the old root's reference must be dropped once CR3 has left it"]
#[derive(Debug)]
pub struct OldRoot(Mfn);

/// Makes a frame of `owner` a root of the vCPU, checking it all where it is no L4 table yet.
///
/// `None` as the new root is accepted for the user root only (the guest's kernel then has none).
/// Returns the root that this replaces. Errors: Invalid where the frame cannot be a root.
pub fn set_base<M: PtMachine>(
    m: &M,
    owner: DomId,
    roots: &mut Roots,
    kind: RootKind,
    new: Option<Mfn>,
    owed: &mut OwedPuts,
) -> PtResult<Option<OldRoot>> {
    owed.finish(m)?;
    if new.is_none() && kind == RootKind::Kernel {
        return Err(Refusal::Invalid.into());
    }
    let current = roots.of(kind);
    if *current == new {
        return Ok(None);
    }
    if let Some(mfn) = new {
        get_page_and_type(m, mfn, owner, PageType::L4, Reach::Owner)?;
    }
    Ok(core::mem::replace(current, new).map(OldRoot))
}

/// Drops the reference of a replaced root. On Restart the rest is owed.
pub fn drop_root<M: PtMachine>(m: &M, old: OldRoot, owed: &mut OwedPuts) -> PtResult {
    owed.put(m, old.0)
}

/// Takes both roots from a vCPU that will not run again, after every CPU has left them. Both are
/// gone afterwards; on Restart the rest is owed.
pub fn clear_roots<M: PtMachine>(m: &M, roots: &mut Roots, owed: &mut OwedPuts) -> PtResult {
    for kind in [RootKind::User, RootKind::Kernel] {
        if let Some(mfn) = roots.of(kind).take() {
            owed.defer(m, mfn);
        }
    }
    if owed.is_empty() {
        Ok(())
    } else {
        Err(Stop::Restart)
    }
}

/// Takes a frame from a dying domain: drops its pin, undoes interrupted checks and drops the owner's
/// reference. The frame is released when the last user elsewhere lets go.
///
/// Called for each frame of the domain, after its vCPUs' roots and owed puts are gone. Calling it
/// again for a frame that is done does nothing.
pub fn relinquish<M: PtMachine>(m: &M, owner: DomId, mfn: Mfn) -> PtResult {
    if get_page(m, mfn, Owner::Domain(owner)).is_err() {
        return Ok(());
    }
    let done = match m.frame(mfn) {
        Some(frame) => relinquish_held(m, mfn, frame),
        None => Ok(()),
    };
    put_page(m, mfn);
    done
}

fn relinquish_held<M: PtMachine>(m: &M, mfn: Mfn, frame: &Frame) -> PtResult {
    // Somebody is about to make it a table, or no longer one: it is looked at again when that is done, or interrupted.
    if frame.type_state().is_busy() {
        return Err(Stop::Restart);
    }
    reap_orphan(m, mfn, frame)?;
    if frame.type_state().is_pinned() && drop_pin(m, mfn, frame) == Err(Stop::Restart) {
        return Err(Stop::Restart);
    }
    if frame.take_allocation() {
        put_page(m, mfn);
    }
    Ok(())
}
