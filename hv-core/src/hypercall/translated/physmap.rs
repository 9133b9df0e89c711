//! What stands behind a guest frame of a translated domain (`XENMEM_add_to_physmap` and its kin).

use alloc::sync::Arc;

use xen_abi::errno::Errno;
use xen_abi::memory::{self as abi, AddToPhysmap, AddToPhysmapBatch};

use super::{Target, demand};
use crate::base::{Gfn, Mfn};
use crate::domain::translated::After;
use crate::domain::{Domain, Removed};
use crate::grants::FrameKind;
use crate::hypercall::context::{AnyCtx, DONE, Host, Reply};
use crate::hypercall::memory::go_on_at;
use crate::mm::p2m::P2mKind;

/// What is to be mapped: an index in a space (`XENMAPSPACE_*`).
#[derive(Clone, Copy)]
struct Source<'a> {
    space: u32,
    index: u64,
    /// Whose frame it is, in the space of foreign ones.
    foreign: Option<&'a Arc<Domain>>,
}

/// add_to_physmap: maps one thing at a guest frame, or moves a range of guest frames; goes on at page `start` of that.
///
/// # Errors
/// `EILSEQ` and `EOVERFLOW` for a range that makes no sense; as [`map_one`].
pub(in crate::hypercall) fn add<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    request: &AddToPhysmap,
    (start, at): (u64, u64),
) -> Reply {
    let source = |space, index| Source {
        space,
        index,
        foreign: None,
    };
    if request.space != abi::XENMAPSPACE_gmfn_range {
        map_one(
            cx,
            target,
            source(request.space, request.idx),
            Gfn(request.gpfn),
        )?;
        return DONE;
    }
    let size = u64::from(request.size);
    if start > size {
        return Err(Errno::EILSEQ);
    }
    let ends = (
        request.idx.checked_add(size),
        request.gpfn.checked_add(size),
    );
    let (Some(_), Some(_)) = ends else {
        return Err(Errno::EOVERFLOW);
    };
    for page in start..size {
        if page != start && cx.host.preempt_pending() {
            return Ok(go_on_at(abi::XENMEM_add_to_physmap.into(), page, at));
        }
        let one = source(abi::XENMAPSPACE_gmfn, request.idx + page);
        map_one(cx, target, one, Gfn(request.gpfn + page))?;
    }
    DONE
}

/// add_to_physmap_batch: the same for a list, with an error for each; goes on at element `start`.
///
/// # Errors
/// `EOPNOTSUPP` for ranges, `EILSEQ`, `ESRCH` for a foreign domain that does not exist, `EFAULT`.
pub(in crate::hypercall) fn add_batch<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    request: &AddToPhysmapBatch,
    (start, at): (u64, u64),
) -> Reply {
    let space = u32::from(request.space);
    if space == abi::XENMAPSPACE_gmfn_range {
        return Err(Errno::EOPNOTSUPP);
    }
    let size = u64::from(request.size);
    if start > size {
        return Err(Errno::EILSEQ);
    }
    let foreign = match space {
        abi::XENMAPSPACE_gmfn_foreign => Some(cx.named(request.u)?),
        _ => None,
    };
    for element in start..size {
        if element != start && cx.host.preempt_pending() {
            let command = abi::XENMEM_add_to_physmap_batch.into();
            return Ok(go_on_at(command, element, at));
        }
        let index = cx.read(cx.element::<u64>(request.idxs.address(), element)?)?;
        let gpfn = cx.read(cx.element::<u64>(request.gpfns.address(), element)?)?;
        let source = Source {
            space,
            index,
            foreign: foreign.as_ref(),
        };
        let done = map_one(cx, target, source, Gfn(gpfn));
        let error = done.map_or_else(|why| why.to_ret() as i32, |()| 0);
        cx.write(cx.element::<i32>(request.errs.address(), element)?, &error)?;
    }
    DONE
}

/// remove_from_physmap: takes what is behind a guest frame out of the map. A page of the domain's own stays in its account; of a promise
/// nothing stays.
///
/// # Errors
/// `ENOENT` when there is no memory; `EINVAL` where a grant is mapped, which is for the grant's unmapping.
pub(in crate::hypercall) fn remove(target: Target<'_>, gfn: Gfn) -> Reply {
    let mut removed = Removed::new();
    let kind = target.map.mapping(gfn).kind;
    if !kind.is_memory() && kind != P2mKind::OnDemand {
        return Err(Errno::ENOENT);
    }
    let done = target.map.remove(gfn, 1, &mut removed);
    target.domain.settle_map(&mut removed, After::Keep);
    done?;
    if kind == P2mKind::OnDemand {
        demand::trim(target, 1);
    }
    DONE
}

/// Maps one thing at a guest frame, in the place of what is there: a page of the domain's own that was is free then.
///
/// # Errors
/// `EINVAL` for what does not exist or cannot be mapped there, `ENOMEM`, `EPERM` for frames of a domain over which the
/// target has no rights.
fn map_one<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    source: Source<'_>,
    at: Gfn,
) -> Result<(), Errno> {
    let domain = target.domain;
    match source.space {
        abi::XENMAPSPACE_shared_info if source.index == 0 => lend(target, domain.shared_info, at),
        abi::XENMAPSPACE_grant_table => lend(target, grant_frame(domain, source.index)?, at),
        abi::XENMAPSPACE_gmfn => move_page(target, Gfn(source.index), at),
        abi::XENMAPSPACE_gmfn_foreign => {
            let owner = source.foreign.ok_or(Errno::EINVAL)?;
            map_foreign(cx, target, owner, Gfn(source.index), at)
        }
        // Registers of devices are mapped on Arm only.
        _ => Err(Errno::EINVAL),
    }
}

/// A frame of the grant table, which grows for it.
fn grant_frame(domain: &Domain, index: u64) -> Result<Mfn, Errno> {
    let kind = if index & abi::XENMAPIDX_grant_table_status == 0 {
        FrameKind::Shared
    } else {
        FrameKind::Status
    };
    let index = u32::try_from(index & !abi::XENMAPIDX_grant_table_status);
    let index = index.map_err(|_| Errno::EINVAL)?;
    domain.grants.grown_frame(kind, index, &domain.grant_pool())
}

/// Maps a page that is lent to the domain; it leaves where it was mapped before.
fn lend(target: Target<'_>, page: Mfn, to: Gfn) -> Result<(), Errno> {
    put(target, page, target.map.gfn_of(page), to)
}

/// Moves a page of the domain's own.
fn move_page(target: Target<'_>, from: Gfn, to: Gfn) -> Result<(), Errno> {
    target.domain.back(from);
    let (page, kind) = target.map.lookup(from).ok_or(Errno::EINVAL)?;
    // Kept meanwhile: between the two places nothing else would.
    let held = target.map.hold(from, false).ok_or(Errno::EINVAL)?;
    if held.mfn() != page || !kind.is_ram() {
        return Err(Errno::EINVAL);
    }
    put(target, page, Some(from), to)
}

/// Maps a page at `to`, and no longer at `from`.
fn put(target: Target<'_>, page: Mfn, from: Option<Gfn>, to: Gfn) -> Result<(), Errno> {
    let Target { domain, map } = target;
    if from == Some(to) {
        return Ok(());
    }
    // What cannot be in the new place shall not leave the old one.
    if to.0 >= map.limit() || map.mapping(to).kind.is_grant() {
        return Err(Errno::EINVAL);
    }
    let (mut left, mut replaced) = (Removed::new(), Removed::new());
    let done = from
        .map_or(Ok(1), |from| map.remove(from, 1, &mut left))
        .and_then(|_| map.add_ram(to, page, 0, &mut replaced));
    if let (Err(why), Some(from), false) = (done, from, left.is_empty())
        && let Err(lost) = map.add_ram(from, page, 0, &mut replaced)
    {
        log::info!(
            "d{}: frame {:#x} is not at {:#x} ({why}) and left {:#x} ({lost})",
            domain.id,
            page.0,
            to.0,
            from.0
        );
    }
    domain.settle_map(&mut left, After::Keep);
    domain.settle_map(&mut replaced, After::Relinquish);
    done
}

/// Maps a frame of another domain: to be written where that domain could.
fn map_foreign<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    owner: &Arc<Domain>,
    frame: Gfn,
    at: Gfn,
) -> Result<(), Errno> {
    let Target { domain, map } = target;
    if owner.id == domain.id || !cx.host.may_map_foreign(domain.id, owner.id) {
        return Err(Errno::EPERM);
    }
    let mut removed = Removed::new();
    let done = match &owner.translated {
        Some(theirs) => {
            owner.back(frame);
            let (_, kind) = theirs.lookup(frame).ok_or(Errno::EINVAL)?;
            let write = kind != P2mKind::RamReadOnly;
            let held = theirs.hold(frame, write).filter(|_| kind.is_ram());
            let page = held.ok_or(Errno::EINVAL)?;
            map.add_foreign(at, page.mfn(), owner.id, write, &mut removed)
        }
        None => {
            let page = Mfn(frame.0);
            map.add_foreign(at, page, owner.id, true, &mut removed)
                .or_else(|_| map.add_foreign(at, page, owner.id, false, &mut removed))
        }
    };
    domain.settle_map(&mut removed, After::Relinquish);
    done
}
