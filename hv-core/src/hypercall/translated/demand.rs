//! Memory on demand as toolstacks order it (`XENMEM_set_pod_target`, `XENMEM_get_pod_target`, `XENMEMF_populate_on_demand`).

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::memory::{self as abi, PodTarget};

use super::Target;
use super::reservation::give_up;
use crate::base::{Gfn, Mfn};
use crate::domain::translated::demand::goal;
use crate::hypercall::context::{AnyCtx, DONE, Host, Reply};
use crate::hypercall::memory;

/// log2 of the pages that are set aside at once, where there are so many beside each other.
const BLOCK: u32 = 9;
/// log2 of the guest frames of the entries that a promise can be, the largest first.
const ENTRIES: [u32; 3] = [18, 9, 0];
/// log2 of the guest frames at whose multiples larger extents begin, so that they are few entries.
const ALIGNED: u32 = 9;

/// Answers what is set aside for a domain and what is promised, and brings the former to what a new target asks for.
///
/// # Errors
/// `EINVAL` for more than the domain may have; `ENOMEM` when memory has run out, or the pool for tables; `ESRCH`.
pub(in crate::hypercall) fn pod_target<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    command: u32,
    mut request: PodTarget,
    at: u64,
) -> Reply {
    let Target { domain, map } = target;
    if command == abi::XENMEM_set_pod_target {
        if request.target_pages > domain.max_pages.load(Ordering::Relaxed) {
            return Err(Errno::EINVAL);
        }
        while step(target, request.target_pages)? {
            if cx.host.preempt_pending() {
                return Ok(memory::go_on_at(command.into(), 0, at));
            }
        }
    }
    let size = map.demand();
    request.tot_pages = domain.pages.load(Ordering::Relaxed);
    request.pod_cache_pages = size.cached;
    request.pod_entries = size.promised;
    cx.write(at, &request)?;
    DONE
}

/// Brings what is set aside nearer to a target for all pages of the domain, by a block at most; `false`: it is there.
fn step(target: Target<'_>, pages: u64) -> Result<bool, Errno> {
    let Target { domain, map } = target;
    let size = map.demand();
    let Some(goal) = goal(domain.pages.load(Ordering::Relaxed), size, pages) else {
        return Ok(false);
    };
    if goal > size.cached {
        let grown = grow(target, goal - size.cached);
        return grown.map(|()| true).inspect_err(|why| {
            memory::tell_of_shortage(domain, size.cached, goal, *why);
        });
    }
    for _ in 0..(size.cached - goal).min(1 << BLOCK) {
        let Some(page) = map.take_aside() else { break };
        give_up(target, (page, 1));
    }
    Ok(goal < size.cached)
}

/// Sets a block of new pages aside, or one page.
fn grow(target: Target<'_>, most: u64) -> Result<(), Errno> {
    let Target { domain, map } = target;
    let block = if most < 1 << BLOCK {
        Err(Errno::ENOMEM)
    } else {
        memory::take_block(domain, BLOCK, 0).map(|first| (first, 1 << BLOCK))
    };
    let (first, pages) = match block {
        Ok(block) => block,
        Err(_) => (memory::take_block(domain, 0, 0)?, 1),
    };
    memory::hand_over(domain, first, pages, None)?;
    for page in 0..pages {
        let next = Mfn(first.0 + page);
        if let Err(why) = map.set_aside(next) {
            give_up(target, (next, pages - page));
            return Err(why);
        }
    }
    Ok(())
}

/// Promises an extent of `1 << order` guest frames. What fails in the middle leaves those before promised.
///
/// # Errors
/// `EINVAL` for a large extent that is not aligned; as [`Translated::promise`](crate::domain::Translated::promise).
pub(super) fn promise(target: Target<'_>, first: Gfn, order: u32) -> Result<(), Errno> {
    if order > ALIGNED && !first.0.is_multiple_of(1 << ALIGNED) {
        return Err(Errno::EINVAL);
    }
    let pages = 1u64 << order;
    let mut done = 0;
    while done < pages {
        let at = Gfn(first.0 + done);
        done += one(target, at, pages - done)?;
    }
    Ok(())
}

/// Promises the largest entry that can be at a guest frame; returns its guest frames.
fn one(target: Target<'_>, at: Gfn, most: u64) -> Result<u64, Errno> {
    let fits = |order: &u32| 1 << order <= most && at.0.is_multiple_of(1 << order);
    let mut last = Errno::EINVAL;
    for order in ENTRIES.into_iter().filter(fits) {
        match target.map.promise(at, order) {
            Ok(()) => return Ok(1 << order),
            // Smaller entries are there.
            Err(Errno::EEXIST) => last = Errno::EEXIST,
            Err(why) => return Err(why),
        }
    }
    Err(last)
}

/// Gives up what is set aside beyond what is promised, at most so many pages.
pub(super) fn trim(target: Target<'_>, most: u64) {
    for _ in 0..most {
        let Some(page) = target.map.take_surplus() else {
            return;
        };
        give_up(target, (page, 1));
    }
}
