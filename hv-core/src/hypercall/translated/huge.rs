//! Extents of 1 GiB, of which the domain gets 2 MiB at a time ([`Growing`]): the call is interrupted in between, and goes on at the same
//! extent. The last 2 MiB make one mapping of all.
//!
//! Such an extent is given only where nothing is at all. So a request that comes back and has lost its block to another one ends there, and what
//! it has mapped stays as it is.

use xen_abi::errno::Errno;

use super::Target;
use super::reservation::{enter, give_up};
use crate::base::Gfn;
use crate::domain::translated::{Growing, HUGE, LARGE};
use crate::domain::{Removed, Step};
use crate::hypercall::context::{AnyCtx, Host};
use crate::hypercall::memory;
use crate::mm::p2m::P2mKind;

/// Gives an extent to the domain, or goes on with it.
///
/// # Errors
/// `EINVAL` for guest frames that are not aligned, `EEXIST` where something is; `ENOMEM`, also when there is no such block; `ESRCH`. What the
/// domain has got of it, it keeps.
pub(super) fn give<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    mem_flags: u32,
    first: Gfn,
    removed: &mut Removed,
) -> Result<Step, Errno> {
    let mut growing = resume(target, mem_flags, first)?;
    loop {
        match part(target, &mut growing, removed) {
            Ok(Step::More) if cx.host.preempt_pending() => {
                target.domain.keep_growing(growing);
                return Ok(Step::More);
            }
            Ok(Step::More) => {}
            Ok(Step::Done) => {
                target.map.join(first);
                if target.map.mapping(first).order == HUGE {
                    let id = target.domain.id;
                    log::debug!(
                        "d{id}: 1 GiB from guest frame {:#x} on is one mapping",
                        first.0
                    );
                }
                return Ok(Step::Done);
            }
            Err(why) => {
                target.domain.give_back(growing);
                return Err(why);
            }
        }
    }
}

/// What was left of the extent, or a block for a new one. Whatever else was left has no place beside it.
fn resume(target: Target<'_>, mem_flags: u32, first: Gfn) -> Result<Growing, Errno> {
    let Target { domain, map } = target;
    match map.take_growing() {
        Some(left) if left.gfn() == first => return Ok(left),
        Some(other) => domain.give_back(other),
        None => {}
    }
    if !first.0.is_multiple_of(1 << HUGE) {
        return Err(Errno::EINVAL);
    }
    let there = map.mapping(first);
    if there.kind != P2mKind::Hole || there.order < HUGE {
        return Err(Errno::EEXIST);
    }
    let (block, claimed) = memory::take_unzeroed(domain, HUGE, mem_flags)?;
    Ok(Growing::new(first, block, claimed))
}

/// Gives the next 2 MiB to the domain.
fn part(target: Target<'_>, growing: &mut Growing, removed: &mut Removed) -> Result<Step, Errno> {
    let Some((gfn, mfn)) = growing.next() else {
        return Ok(Step::Done);
    };
    let pages = 1 << LARGE;
    target.domain.machine.zero_pages(mfn, pages);
    growing.pass();
    memory::hand_over(target.domain, mfn, pages, None)?;
    enter(target, (gfn, LARGE), mfn, removed).inspect_err(|_| give_up(target, (mfn, pages)))?;
    Ok(match growing.left() {
        0 => Step::Done,
        _ => Step::More,
    })
}
