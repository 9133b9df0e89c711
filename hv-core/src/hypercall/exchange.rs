//! XENMEM_exchange: a domain gives pages and gets as many others, of another extent size or in a part
//! of memory that its devices can reach.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;
use xen_abi::memory::MemoryExchange;

use super::context::{AnyCtx, Args, Host, Outcome, Reply};
use super::memory::{address_bits, hand_over};
use crate::base::{Mfn, PAGE_SHIFT};
use crate::domain::Domain;

/// Largest extent on either side: 4 MiB.
const MAX_ORDER: u32 = 10;
/// Largest extent that the control domain could have the right to.
const CONTROL_ORDER: u32 = 18;
/// Largest extent that others have the right to.
const GUEST_ORDER: u32 = 9;

/// Sizes of one step of the exchange: the smallest number of whole extents on both sides.
struct Chunk {
    pages: u64,
    inputs: u64,
    outputs: u64,
    out_order: u32,
    in_order: u32,
    address_bits: u32,
}

/// Runs the exchange chunk by chunk; `nr_exchanged` tells how far it came.
///
/// # Errors
/// `EINVAL`, `EPERM`, `ESRCH`, `EFAULT`; `EOPNOTSUPP` for a domain whose frames are translated; `ENOMEM` when the chunk that is asked for does not exist (the
/// domain keeps the pages of that chunk).
pub fn exchange<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let at = args[1];
    let mut request: MemoryExchange = cx.read(at)?;
    let target = cx.target(request.r#in.domid)?;
    // Which machine frames are behind its own is nothing that such a domain could wish for.
    if target.translated.is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let permitted = if cx.domain.is_control() {
        CONTROL_ORDER
    } else {
        GUEST_ORDER
    };
    let chunk = check(&request, permitted)?;
    while request.nr_exchanged < request.r#in.nr_extents {
        let result = one_chunk(cx, &target, &request, &chunk);
        if result.is_ok() {
            request.nr_exchanged += chunk.inputs;
        }
        let field = at
            .checked_add(core::mem::offset_of!(MemoryExchange, nr_exchanged) as u64)
            .ok_or(Errno::EFAULT)?;
        cx.write(field, &request.nr_exchanged)?;
        result?;
        if request.nr_exchanged < request.r#in.nr_extents && cx.host.preempt_pending() {
            return Ok(Outcome::Restart(args));
        }
    }
    Ok(Outcome::Return(0))
}

fn check(request: &MemoryExchange, permitted: u32) -> Result<Chunk, Errno> {
    let (give, get) = (&request.r#in, &request.out);
    if give.extent_order.max(get.extent_order) > permitted {
        return Err(Errno::EPERM);
    }
    // A list of that many frames fits no address space.
    if [give, get]
        .iter()
        .any(|r| r.nr_extents.checked_mul(8).is_none())
    {
        return Err(Errno::EFAULT);
    }
    if give.domid != get.domid || give.extent_order > MAX_ORDER || get.extent_order > MAX_ORDER {
        return Err(Errno::EINVAL);
    }
    let total = |extents: u64, order: u32| {
        extents
            .checked_mul(1 << order)
            .filter(|n| *n <= 1 << (52 - PAGE_SHIFT))
    };
    let (Some(given), Some(gotten)) = (
        total(give.nr_extents, give.extent_order),
        total(get.nr_extents, get.extent_order),
    ) else {
        return Err(Errno::EINVAL);
    };
    let order = give.extent_order.max(get.extent_order);
    let chunk = Chunk {
        pages: 1 << order,
        inputs: 1 << (order - give.extent_order),
        outputs: 1 << (order - get.extent_order),
        out_order: get.extent_order,
        in_order: give.extent_order,
        address_bits: address_bits(get.mem_flags),
    };
    let fits = given == gotten
        && given.is_multiple_of(chunk.pages)
        && request.nr_exchanged <= give.nr_extents
        && request.nr_exchanged.is_multiple_of(chunk.inputs);
    if fits { Ok(chunk) } else { Err(Errno::EINVAL) }
}

fn one_chunk<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: &Domain,
    request: &MemoryExchange,
    chunk: &Chunk,
) -> Result<(), Errno> {
    // First what can fail without harm: the new pages, then the lists, then the old pages.
    let mut new = reserve(chunk.outputs as usize)?;
    let mut old = reserve(chunk.pages as usize)?;
    let result = (|| {
        for _ in 0..chunk.outputs {
            new.push(
                target
                    .machine
                    .alloc_block(chunk.out_order, chunk.address_bits, 0)
                    .ok_or(Errno::ENOMEM)?,
            );
        }
        let position = request.nr_exchanged / chunk.inputs * chunk.outputs;
        let gpfns = cx.read_array::<u64>(
            cx.element::<u64>(request.out.extent_start.address(), position)?,
            chunk.outputs as usize,
        )?;
        take_old(cx, target, request, chunk, &mut old)?;
        Ok((position, gpfns))
    })();
    let (position, gpfns) = match result {
        Ok(x) => x,
        Err(e) => {
            give_back(target, chunk, &new, &old);
            return Err(e);
        }
    };
    for mfn in old {
        target.machine.set_m2p(mfn, u64::MAX);
        target.machine.free_page(mfn);
    }
    // What a domain that begins to die does not get is free again.
    let mut outcome = Ok(());
    for (first, gpfn) in new.iter().zip(gpfns) {
        outcome = outcome.and(hand_over(target, *first, 1 << chunk.out_order, Some(gpfn)));
    }
    outcome?;
    for (index, first) in new.iter().enumerate() {
        let at = request.out.extent_start.address();
        cx.write(cx.element::<u64>(at, position + index as u64)?, &first.0)?;
    }
    Ok(())
}

fn reserve<T>(count: usize) -> Result<Vec<T>, Errno> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    Ok(list)
}

/// Takes the pages of the chunk's inputs from the domain; each must be used by nobody.
fn take_old<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: &Domain,
    request: &MemoryExchange,
    chunk: &Chunk,
    old: &mut Vec<Mfn>,
) -> Result<(), Errno> {
    for extent in 0..chunk.inputs {
        let slot = cx.element::<u64>(
            request.r#in.extent_start.address(),
            request.nr_exchanged + extent,
        )?;
        let first: u64 = cx.read(slot)?;
        for page in 0..1u64 << chunk.in_order {
            let mfn = Mfn(first.checked_add(page).ok_or(Errno::EINVAL)?);
            target.machine.steal(mfn, &target.holdings)?;
            old.push(mfn);
        }
    }
    Ok(())
}

fn give_back(target: &Domain, chunk: &Chunk, new: &[Mfn], old: &[Mfn]) {
    for mfn in old {
        if target.machine.assign(*mfn, &target.holdings).is_err() {
            target.pages.fetch_sub(1, Ordering::Relaxed);
            target.machine.free_page(*mfn);
        }
    }
    for first in new {
        for page in 0..1u64 << chunk.out_order {
            target.machine.free_page(Mfn(first.0 + page));
        }
    }
}
