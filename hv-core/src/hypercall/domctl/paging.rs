//! The log of written pages, and the memory set aside for tables, of domains whose guest frames are translated (domctl shadow_op,
//! get_paging_mempool_size, set_paging_mempool_size).
//!
//! The log itself is in the domain's map ([`Translated::log_read`]). What tools see of a page they read after the call: so a page counts as
//! not written before the TLBs are flushed, and the call returns after that. What is written in between is in what they read.

use core::sync::atomic::Ordering;

use xen_abi::domctl as abi;
use xen_abi::errno::Errno;

use super::super::context::{AnyCtx, Host};
use super::{After, refused};
use crate::base::{Gfn, PAGE_SHIFT, PAGE_SIZE};
use crate::domain::{Domain, Step, Translated};

/// Entries looked at, or pages set aside, between two looks for other work.
const STEPS: u64 = 64;
/// Bytes of the log that are written between two looks for other work.
const CHUNK: usize = 1024;
/// log2 of the pages of a MiB.
const MIB_SHIFT: u32 = 20 - PAGE_SHIFT;

/// shadow_op on a domain whose guest frames are translated.
///
/// # Errors
/// `EINVAL` for what does not fit the log's state and for unknown operations; `EFAULT`; as [`set_pool`].
pub(super) fn shadow<H: Host>(
    cx: &AnyCtx<'_, H>,
    (domain, map): (&Domain, &Translated),
    request: &mut abi::DomctlShadowOp,
) -> Result<After, Errno> {
    let on = domain.dirty_log.load(Ordering::Relaxed) != 0;
    match request.op {
        abi::XEN_DOMCTL_SHADOW_OP_OFF if on => turn(cx, (domain, map), false),
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE
            if !on && request.mode == abi::XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY =>
        {
            turn(cx, (domain, map), true)
        }
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY if !on => turn(cx, (domain, map), true),
        abi::XEN_DOMCTL_SHADOW_OP_CLEAN | abi::XEN_DOMCTL_SHADOW_OP_PEEK
            if on && request.mode & !abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL == 0 =>
        {
            read_log(cx, (domain, map), request)
        }
        abi::XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION => {
            let mib = map.pool().pages.div_ceil(1 << MIB_SHIFT);
            request.mb = u32::try_from(mib).unwrap_or(u32::MAX);
            Ok(After::WriteBack)
        }
        abi::XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION => {
            resize(cx, (domain, map), u64::from(request.mb) << MIB_SHIFT)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// Turns the log on or off.
fn turn<H: Host>(
    cx: &AnyCtx<'_, H>,
    (domain, map): (&Domain, &Translated),
    on: bool,
) -> Result<After, Errno> {
    while map.set_log(on, STEPS)? == Step::More {
        if cx.host.preempt_pending() {
            return Ok(After::Again);
        }
    }
    domain.flush_translations();
    let before = domain.dirty_log.swap(on.into(), Ordering::SeqCst);
    if (before != 0) != on {
        cx.hv.count_write_log(on);
    }
    Ok(After::Nothing)
}

/// How far reading a log has come, in `Domain::dirty_log`: the low half is one more than the chunk to go on with, the high one
/// the number of written pages so far.
struct Reading {
    chunk: u64,
    written: u64,
}

impl Reading {
    fn of(domain: &Domain) -> Self {
        let word = domain.dirty_log.load(Ordering::Relaxed);
        Self {
            chunk: (word & u64::from(u32::MAX)).saturating_sub(1),
            written: word >> u32::BITS,
        }
    }

    fn keep(&self, domain: &Domain) {
        let word = self.written.min(u32::MAX.into()) << u32::BITS | (self.chunk + 1);
        domain.dirty_log.store(word, Ordering::Relaxed);
    }
}

/// Reports which pages were written, and forgets it where that is asked for.
fn read_log<H: Host>(
    cx: &AnyCtx<'_, H>,
    (domain, map): (&Domain, &Translated),
    request: &mut abi::DomctlShadowOp,
) -> Result<After, Errno> {
    let clean = request.op == abi::XEN_DOMCTL_SHADOW_OP_CLEAN;
    let wants_bits = !request.dirty_bitmap.is_null();
    // Without room for bits, all are meant.
    let pages = if wants_bits {
        request.pages.min(map.limit())
    } else {
        map.max_gfn() + 1
    };
    let bytes = pages.div_ceil(8);
    let mut reading = Reading::of(domain);
    let mut outcome = Ok(After::WriteBack);
    loop {
        let done = reading.chunk * CHUNK as u64;
        if done >= bytes {
            break;
        }
        let mut bits = [0u8; CHUNK];
        let bits = &mut bits[..(bytes - done).min(CHUNK as u64) as usize];
        reading.written += map.log_read(Gfn(done * 8), bits, clean);
        if wants_bits {
            let at = cx.element::<u8>(request.dirty_bitmap.address(), done);
            if let Err(why) = at.and_then(|at| cx.write(at, &*bits)) {
                outcome = Err(why);
                break;
            }
        }
        reading.chunk += 1;
        if done + (CHUNK as u64) < bytes && cx.host.preempt_pending() {
            outcome = Ok(After::Again);
            break;
        }
    }
    if clean {
        domain.flush_translations();
    }
    if outcome == Ok(After::Again) {
        reading.keep(domain);
        return outcome;
    }
    // The next report begins with the first page, whatever this one was about.
    domain.dirty_log.store(1, Ordering::Relaxed);
    request.pages = request.pages.min(pages);
    request.stats.fault_count = 0;
    request.stats.dirty_count = u32::try_from(reading.written).unwrap_or(u32::MAX);
    outcome
}

/// get_paging_mempool_size: bytes set aside for the domain's tables.
///
/// # Errors
/// `EOPNOTSUPP` for a PV domain, which has tables of its own.
pub(super) fn pool(domain: &Domain, request: &mut abi::DomctlPagingMempool) -> Result<(), Errno> {
    let map = domain.translated.as_ref().ok_or(Errno::EOPNOTSUPP)?;
    request.size = map.pool().pages << PAGE_SHIFT;
    Ok(())
}

/// set_paging_mempool_size.
///
/// # Errors
/// `EOPNOTSUPP` for a PV domain, `EINVAL` for parts of pages, `ERANGE` for more than there can be; `ENOMEM` when memory has run out or so many
/// are in use.
pub(super) fn set_pool<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: abi::DomctlPagingMempool,
) -> Result<After, Errno> {
    let map = domain.translated.as_ref().ok_or(Errno::EOPNOTSUPP)?;
    if !request.size.is_multiple_of(PAGE_SIZE as u64) {
        return Err(Errno::EINVAL);
    }
    let pages = request.size >> PAGE_SHIFT;
    if u32::try_from(pages).is_err() {
        return Err(Errno::ERANGE);
    }
    resize(cx, (domain, map), pages)
}

fn resize<H: Host>(
    cx: &AnyCtx<'_, H>,
    (domain, map): (&Domain, &Translated),
    pages: u64,
) -> Result<After, Errno> {
    loop {
        let step = map.set_pool(pages, STEPS).map_err(|why| {
            let what = "no memory, or more pages are in use";
            refused(domain, "set_paging_mempool_size", what, why)
        })?;
        match step {
            Step::Done => return Ok(After::Nothing),
            Step::More if cx.host.preempt_pending() => return Ok(After::Again),
            Step::More => {}
        }
    }
}
