//! The references that one present page-table entry holds.

use super::frames::{Frame, Owner};
use super::pte::{Level, Pte};
use super::refs::{
    get_page, get_page_and_type, get_writable, put_page, put_page_and_type, put_writable,
};
use super::types::{PageType, Reach};
use super::{IoAccess, PtMachine, PtResult, Refusal, Stop};
use crate::base::{DomId, Mfn};

/// Whose pages an update maps (the ABI's foreign domain).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// A domain's; also frames that are no RAM, by that domain's rights.
    Of(DomId),
    /// Only frames that are no RAM, by the caller's rights (`DOMID_IO`).
    Io,
    /// Frames of ours that privileged domains may read (`DOMID_XEN`).
    Xen,
    /// A domain's, by a grant that the caller has checked.
    Granted(DomId),
}

/// On whose behalf an entry is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Whose {
    /// The domain that makes the call.
    pub by: DomId,
    /// The owner of the tables.
    pub table_owner: DomId,
    /// Whose pages are mapped.
    pub pages: Pages,
}

impl Whose {
    /// A domain that maps its own pages in its own tables.
    #[must_use]
    pub const fn own(id: DomId) -> Self {
        Self {
            by: id,
            table_owner: id,
            pages: Pages::Of(id),
        }
    }
}

/// The frame's entry if the number names RAM.
#[inline(always)]
fn ram<M: PtMachine>(m: &M, mfn: Mfn) -> Option<&Frame> {
    m.frame(mfn).filter(|f| !f.is_io())
}

/// Takes the references of an L1 entry and returns it as the processor gets it. An entry that is not
/// present holds none.
///
/// Errors: Invalid for forbidden bits; Busy for RAM of the wrong owner or in use as a table; Denied where
/// the right is missing. Restart while another CPU changes the frame's type.
#[inline(always)]
pub fn take_l1<M: PtMachine>(m: &M, whose: &Whose, entry: Pte) -> PtResult<Pte> {
    if !entry.is_present() {
        return Ok(entry);
    }
    if entry.forbidden_bits(Level::L1) != 0 {
        return Err(Refusal::Invalid.into());
    }
    let granted = match ram(m, entry.mfn()) {
        Some(frame) => take_ram(m, whose, frame, entry)?,
        None => check_io(m, whose, entry)?,
    };
    Ok(granted.adjusted(Level::L1, m.globals()))
}

#[inline(always)]
fn take_ram<M: PtMachine>(m: &M, whose: &Whose, frame: &Frame, entry: Pte) -> PtResult<Pte> {
    let mfn = entry.mfn();
    if entry.has_cache_bits() && !m.may_bypass_caches(whose.by) {
        return Err(Refusal::Invalid.into());
    }
    let owner = match whose.pages {
        Pages::Of(id) if id == whose.table_owner && frame.belongs_to(id) => id,
        Pages::Of(id) => lender(m, whose, frame, id)?,
        Pages::Granted(id) => id,
        Pages::Io => return Err(Refusal::Denied.into()),
        Pages::Xen => return take_ours(m, whose, entry),
    };
    if !entry.is_writable() {
        get_page(m, mfn, Owner::Domain(owner)).map_err(|why| {
            m.note(format_args!(
                "d{}: frame {:#x} of d{owner} not to be mapped: {why:?}",
                whose.by, mfn.0
            ));
            Refusal::Busy
        })?;
        uncache(m, entry);
        return Ok(entry);
    }
    let reach = if owner == whose.table_owner {
        Reach::Owner
    } else {
        Reach::Foreign
    };
    get_writable(m, mfn, frame, owner, reach).map_err(|stop| match stop {
        Stop::Refused(_) => Stop::Refused(Refusal::Busy),
        Stop::Restart => Stop::Restart,
    })?;
    if entry.has_cache_bits() {
        frame.ty.mark_incoherent();
        uncache(m, entry);
    }
    Ok(entry)
}

/// Before RAM is mapped past the caches (frame buffers, memory of graphics cards) they must not hold what
/// memory does not: such a mapping would show what the frame's former owner left there.
#[inline]
fn uncache<M: PtMachine>(m: &M, entry: Pte) {
    if entry.has_cache_bits() {
        m.write_back(entry.mfn());
    }
}

/// The domain whose frame this is, if the mapping is allowed. The owner is looked at without a
/// reference; taking the reference checks it again.
fn lender<M: PtMachine>(m: &M, whose: &Whose, frame: &Frame, named: DomId) -> PtResult<DomId> {
    let owner = match frame.owner() {
        Owner::Domain(id) => id,
        Owner::Free | Owner::Xen | Owner::Io => return Err(Refusal::Busy.into()),
    };
    // A domain with rights over another may map that one's frames without naming it.
    if owner != named && !m.may_map_foreign(named, owner) {
        return Err(Refusal::Busy.into());
    }
    if owner != whose.table_owner && !m.may_map_foreign(whose.by, owner) {
        m.note(format_args!(
            "d{}: no right to map frames of d{owner}",
            whose.by
        ));
        return Err(Refusal::Denied.into());
    }
    Ok(owner)
}

fn take_ours<M: PtMachine>(m: &M, whose: &Whose, entry: Pte) -> PtResult<Pte> {
    let mfn = entry.mfn();
    if entry.is_writable() || !m.shares_read_only(whose.by, mfn) {
        m.note(format_args!(
            "d{}: hypervisor frame {:#x} is not shared that way",
            whose.by, mfn.0
        ));
        return Err(Refusal::Denied.into());
    }
    get_page(m, mfn, Owner::Xen).map_err(|_| Refusal::Invalid)?;
    Ok(entry)
}

fn check_io<M: PtMachine>(m: &M, whose: &Whose, entry: Pte) -> PtResult<Pte> {
    let mfn = entry.mfn();
    let holder = match whose.pages {
        Pages::Of(id) => id,
        Pages::Io => whose.by,
        Pages::Xen | Pages::Granted(_) => return Err(Refusal::Invalid.into()),
    };
    match m.io_access(holder, mfn) {
        IoAccess::Full => Ok(entry),
        IoAccess::ReadOnly => Ok(entry.read_only()),
        // The largest number that fits is how guests write "no frame": wrong, not forbidden.
        IoAccess::Denied if mfn == Pte(Pte::MFN).mfn() => Err(Refusal::Invalid.into()),
        IoAccess::Denied => {
            m.note(format_args!(
                "d{}: no right to map I/O frame {:#x}",
                whose.by, mfn.0
            ));
            Err(Refusal::Denied.into())
        }
    }
}

/// Drops the references of an L1 entry that was taken out of a table.
#[inline(always)]
pub fn drop_l1<M: PtMachine>(m: &M, entry: Pte) {
    if !entry.is_present() || ram(m, entry.mfn()).is_none() {
        return;
    }
    if entry.is_writable() {
        put_writable(m, entry.mfn());
    } else {
        put_page(m, entry.mfn());
    }
}

/// Takes the reference of an entry in an L2 to L4 table of `owner`, checking the table below where
/// that is new, and returns the entry as the processor gets it.
pub fn take_upper<M: PtMachine>(m: &M, owner: DomId, level: Level, entry: Pte) -> PtResult<Pte> {
    if !entry.is_present() {
        return Ok(entry);
    }
    let Some(below) = level.below() else {
        return Err(Refusal::Invalid.into());
    };
    let bad = entry.forbidden_bits(level);
    if bad != 0 {
        m.note(format_args!(
            "d{owner}: {level:?} entry {entry:?} has forbidden bits {bad:#x}"
        ));
        return Err(Refusal::Invalid.into());
    }
    get_page_and_type(
        m,
        entry.mfn(),
        owner,
        PageType::of_table(below),
        Reach::Owner,
    )?;
    Ok(entry.adjusted(level, m.globals()))
}

/// Drops the reference of an L2 to L4 entry. On [`Stop::Restart`] the caller still owns it.
pub fn drop_upper<M: PtMachine>(m: &M, entry: Pte) -> Result<(), Stop> {
    if entry.is_present() {
        put_page_and_type(m, entry.mfn())
    } else {
        Ok(())
    }
}
