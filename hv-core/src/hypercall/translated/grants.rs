//! Grants of translated domains: an entry names a guest frame, and a grant is mapped at one.

use xen_abi::errno::Errno;

use crate::base::{Gfn, Mfn, PhysAddr};
use crate::domain::translated::After;
use crate::domain::translated::demand::Lack;
use crate::domain::{Domain, Removed, Translated};
use crate::grants::{Access, GrantError, HostMapping, Unmapping};
use crate::mm::p2m::{Former, Mapping, P2mKind};

/// Times that a guest frame may change under a look-up before that gives up.
const RACES: u32 = 16;

/// The page behind a guest frame of the granter's, with a reference by `take`, which `put` drops again.
///
/// # Errors
/// `BadPage` where there is no RAM, `PermissionDenied` where it may not be written, `Eagain`; as `take`.
pub(in crate::hypercall) fn take_frame(
    map: &Translated,
    gfn: Gfn,
    access: Access,
    take: impl Fn(Mfn) -> Result<(), GrantError>,
    put: impl Fn(Mfn),
) -> Result<Mfn, GrantError> {
    for _ in 0..RACES {
        let Mapping {
            mfn: page, kind, ..
        } = map.mapping(gfn);
        match (kind, access) {
            (P2mKind::RamLogDirty, Access::Write) => {
                let _logged = map.log_write(gfn);
                continue;
            }
            // Under the table's lock nobody may wait until one is found.
            (P2mKind::OnDemand, _) => match map.fill(gfn) {
                Ok(()) | Err(Lack::Busy) => continue,
                Err(lack) => {
                    map.starve(gfn, lack);
                    return Err(GrantError::BadPage);
                }
            },
            (P2mKind::RamReadOnly, Access::Write) => return Err(GrantError::PermissionDenied),
            _ if kind.is_ram() => {}
            _ => return Err(GrantError::BadPage),
        }
        take(page)?;
        // It may have been unmapped, and become somebody else's, before the reference was there.
        if map.lookup(gfn).is_some_and(|(now, _)| now == page) {
            return Ok(page);
        }
        put(page);
    }
    Err(GrantError::Eagain)
}

/// Notes that a page of the domain's was written by who had it granted.
#[cold]
pub(in crate::hypercall) fn mark_written(domain: &Domain, page: Mfn) {
    let Some(map) = domain.translated.as_ref().filter(|map| map.log_enabled()) else {
        return;
    };
    if let Some(gfn) = map.gfn_of(page) {
        let _logged = map.log_write(gfn);
    }
}

/// The guest frame at which a mapping is.
const fn place(mapping: &HostMapping) -> Gfn {
    Gfn(PhysAddr(mapping.addr).mfn().0)
}

/// Maps a granted page at a guest frame.
///
/// # Errors
/// `General`: nothing was changed.
pub(in crate::hypercall) fn map(domain: &Domain, mapping: &HostMapping) -> Result<(), GrantError> {
    let map = domain.translated.as_ref().ok_or(GrantError::General)?;
    let write = mapping.access == Access::Write;
    let mut removed = Removed::new();
    let added = map.add_grant(place(mapping), mapping.mfn, write, &mut removed);
    domain.settle_map(&mut removed, After::Keep);
    added.map_err(|why| match why {
        Errno::ENOMEM => GrantError::NoSpace,
        _ => GrantError::General,
    })
}

/// Takes a mapping out of the map. `removed` is to be settled before the pin of the grant is dropped.
///
/// # Errors
/// `General` when it is not there with that page and access, and for what takes its place.
pub(in crate::hypercall) fn unmap(
    domain: &Domain,
    mapping: &HostMapping,
    instead: Unmapping,
    removed: &mut Removed,
) -> Result<(), GrantError> {
    let map = domain.translated.as_ref().ok_or(GrantError::General)?;
    // An entry has no address of its own that could be moved here.
    if !matches!(instead, Unmapping::Clear | Unmapping::Replace(0)) {
        return Err(GrantError::General);
    }
    if removed.is_full() {
        domain.settle_map(removed, After::Keep);
    }
    let (at, write) = (place(mapping), mapping.access == Access::Write);
    map.remove_grant(at, mapping.mfn, removed)
        .map_err(|_| GrantError::General)?;
    let was = match removed.formers().last() {
        Some(Former::Pages { kind, .. }) => *kind,
        Some(Former::Hole | Former::Table { .. }) | None => P2mKind::Hole,
    };
    if (was == P2mKind::GrantWrite) == write {
        return Ok(());
    }
    // Another mapping of the same page, which has another pin: one that allows writing must not outlive the pins for that.
    put_back(domain, mapping, !write, removed);
    Err(GrantError::General)
}

/// Undoes the taking of an entry. If something else is in its place by now it is gone, and its pin stays until the domain ends.
fn put_back(domain: &Domain, mapping: &HostMapping, write: bool, removed: &mut Removed) {
    let Some(map) = &domain.translated else {
        return;
    };
    domain.settle_map(removed, After::Keep);
    let at = place(mapping);
    if map.lookup(at).is_none()
        && let Err(why) = map.add_grant(at, mapping.mfn, write, removed)
    {
        log::info!(
            "d{}: a grant is no longer mapped at {:#x}: {why}",
            domain.id,
            at.0
        );
    }
}
