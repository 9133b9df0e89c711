//! Guest frames of translated domains in page tables of the control domain, which names a page as its owner does
//! (`mmu_update` and `update_va_mapping_otherdomain` with a foreign domain).
//!
//! The entry gets the machine frame; from then on it is one like any other, and its reference keeps the page whatever becomes of
//! the owner's map. A hole is `EINVAL`, as Xen has it.

use alloc::sync::Arc;

use xen_abi::errno::Errno;

use crate::base::{Gfn, Mfn};
use crate::domain::{Domain, HeldPage};
use crate::hypercall::context::{Ctx, Host};
use crate::mm::entries::{Pages, Whose};
use crate::mm::{Level, PtMachine, Pte};

/// The domain whose guest frames the entries of a call name, if they do.
///
/// # Errors
/// `ESRCH`, `EPERM`.
pub(in crate::hypercall) fn behind<H: Host>(
    cx: &Ctx<'_, H>,
    whose: &Whose,
) -> Result<Option<Arc<Domain>>, Errno> {
    let Pages::Of(id) = whose.pages else {
        return Ok(None);
    };
    if id == cx.domain.id {
        return Ok(None);
    }
    let domain = cx.target(id)?;
    Ok(domain.translated.is_some().then_some(domain))
}

/// Whether a frame is an L1 table now: only such have entries that name pages.
pub(in crate::hypercall) fn is_l1<M: PtMachine>(m: &M, table: Mfn) -> bool {
    m.frame(table)
        .is_some_and(|frame| frame.type_state().live_level() == Some(Level::L1))
}

/// The entry with the machine frame for the guest frame that it names. The page is held until the entry has a reference of its own.
///
/// # Errors
/// `EINVAL` where there is no RAM of the domain's, or none that it could write.
pub(in crate::hypercall) fn entry(
    domain: &Domain,
    entry: Pte,
) -> Result<(Pte, Option<HeldPage<'_>>), Errno> {
    let Some(map) = domain.translated.as_ref().filter(|_| entry.is_present()) else {
        return Ok((entry, None));
    };
    let gfn = Gfn(entry.mfn().0);
    domain.back(gfn);
    let (_, kind) = map.lookup(gfn).ok_or(Errno::EINVAL)?;
    if !kind.is_ram() {
        return Err(Errno::EINVAL);
    }
    let page = map.hold(gfn, entry.is_writable()).ok_or(Errno::EINVAL)?;
    Ok((Pte::new(page.mfn(), entry.0 & !Pte::MFN), Some(page)))
}
