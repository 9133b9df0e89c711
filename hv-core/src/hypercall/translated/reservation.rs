//! Memory that a translated domain is given and gives back (`XENMEM_populate_physmap`, `XENMEM_decrease_reservation`): extents
//! are named by their first guest frames.

use xen_abi::errno::Errno;
use xen_abi::memory::MemoryReservation;

use super::{Target, demand, huge};
use crate::base::{Gfn, Mfn};
use crate::domain::translated::{After, LARGE};
use crate::domain::{Machine, Removed, Step};
use crate::hypercall::context::{AnyCtx, Host, Outcome};
use crate::hypercall::memory::{self, Change};
use crate::mm::p2m::P2mKind;

/// Runs over the extents of a reservation from `start` on. The result is the number done, over all restarts; what stops it leaves
/// the rest undone.
pub(in crate::hypercall) fn run<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    change: Change,
    request: &MemoryReservation,
    (command, start, at): (u64, u64, u64),
) -> Outcome {
    // Pages that no guest frame leads to are of no use to such a domain.
    if change == Change::Increase {
        return Outcome::Return(start);
    }
    let after = match change {
        Change::Decrease => After::Refill,
        Change::Increase | Change::Populate => After::Keep,
    };
    let mut removed = Removed::new();
    let mut outcome = Outcome::Return(request.nr_extents);
    for index in start..request.nr_extents {
        if index != start && cx.host.preempt_pending() {
            outcome = memory::go_on_at(command, index, at);
            break;
        }
        match extent(cx, target, change, request, index, &mut removed) {
            Ok(Step::Done) => {}
            Ok(Step::More) => {
                outcome = memory::go_on_at(command, index, at);
                break;
            }
            Err(why) => {
                if target.domain.id != cx.domain.id && request.extent_order == 0 {
                    memory::tell_of_shortage(target.domain, index, request.nr_extents, why);
                }
                outcome = Outcome::Return(index);
                break;
            }
        }
    }
    if removed.is_empty() && target.map.has_retired() {
        // Of promises, and of mappings that were made one, nothing came back but tables.
        target.domain.flush_translations();
    }
    target.domain.settle_map(&mut removed, after);
    outcome
}

fn extent<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: Target<'_>,
    change: Change,
    request: &MemoryReservation,
    index: u64,
    removed: &mut Removed,
) -> Result<Step, Errno> {
    let slot = cx.element::<u64>(request.extent_start.address(), index)?;
    let first: u64 = cx.read(slot)?;
    let pages = 1u64 << request.extent_order;
    first
        .checked_add(pages)
        .filter(|end| *end <= target.map.limit())
        .ok_or(Errno::EINVAL)?;
    let done = match change {
        Change::Populate if memory::on_demand(request) => {
            demand::promise(target, Gfn(first), request.extent_order)
        }
        Change::Populate if request.extent_order > memory::MAX_ORDER => {
            return huge::give(cx, target, request.mem_flags, Gfn(first), removed);
        }
        Change::Populate => give(target, request, Gfn(first), removed),
        Change::Decrease => take(target, Gfn(first), pages, removed),
        Change::Increase => Err(Errno::EINVAL),
    };
    done.map(|()| Step::Done)
}

/// Puts one extent of new pages behind guest frames. What was there before stays the domain's, and is not mapped any more.
fn give(
    target: Target<'_>,
    request: &MemoryReservation,
    first: Gfn,
    removed: &mut Removed,
) -> Result<(), Errno> {
    let domain = target.domain;
    let pages = 1u64 << request.extent_order;
    let block = memory::take_block(domain, request.extent_order, request.mem_flags)?;
    memory::hand_over(domain, block, pages, None)?;
    let aligned = first.0.is_multiple_of(1 << LARGE) && block.0.is_multiple_of(1 << LARGE);
    let order = if request.extent_order >= LARGE && aligned {
        LARGE
    } else {
        0
    };
    for page in (0..pages).step_by(1 << order) {
        let (gfn, mfn) = (Gfn(first.0 + page), Mfn(block.0 + page));
        if let Err(why) = enter(target, (gfn, order), mfn, removed) {
            give_up(target, (Mfn(mfn.0), pages - page));
            return Err(why);
        }
    }
    Ok(())
}

/// Maps pages of the domain's own.
pub(super) fn enter(
    target: Target<'_>,
    (gfn, order): (Gfn, u32),
    mfn: Mfn,
    removed: &mut Removed,
) -> Result<(), Errno> {
    if removed.is_full() {
        target.domain.settle_map(removed, After::Keep);
    }
    target.map.add_ram(gfn, mfn, order, removed)
}

/// Takes pages from the domain that it has not got to see.
pub(super) fn give_up(target: Target<'_>, (first, pages): (Mfn, u64)) {
    for page in 0..pages {
        let machine: &dyn Machine = target.domain.machine;
        // One that is dying has perhaps lost it already.
        let _lost = machine.relinquish(Mfn(first.0 + page), target.domain.id);
    }
}

/// Takes guest frames from the domain, which must all be RAM or promised. While more is promised than is set aside, their pages are
/// set aside; what is set aside for promises that went is given up.
fn take(target: Target<'_>, first: Gfn, pages: u64, removed: &mut Removed) -> Result<(), Errno> {
    let (mut passed, mut promised) = (0, 0);
    let mut done = Ok(());
    while passed < pages && done.is_ok() {
        let at = Gfn(first.0 + passed);
        done = take_some(target, at, pages - passed, removed).map(|(frames, kind)| {
            passed += frames;
            if kind == P2mKind::OnDemand {
                promised += frames;
            }
        });
    }
    demand::trim(target, promised);
    done
}

/// Takes what one entry has of a range; returns the guest frames that it was, and their kind.
fn take_some(
    target: Target<'_>,
    at: Gfn,
    most: u64,
    removed: &mut Removed,
) -> Result<(u64, P2mKind), Errno> {
    let Target { domain, map } = target;
    let found = map.mapping(at);
    if !found.kind.is_ram() && found.kind != P2mKind::OnDemand {
        return Err(Errno::EINVAL);
    }
    if removed.is_full() {
        domain.settle_map(removed, After::Refill);
    }
    let most = (found.next(at).0 - at.0).min(most);
    match map.remove(at, most, removed)? {
        0 => Err(Errno::EAGAIN),
        passed => Ok((passed, found.kind)),
    }
}
