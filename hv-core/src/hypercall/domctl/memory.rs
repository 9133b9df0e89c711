//! What a domain's frames are, and which of them were written (domctl getpageframeinfo3, shadow_op).
//!
//! # The log of written pages
//! `xl migrate` sends a running guest's memory in rounds and asks before each which pages were written since the last.
//! For translated domains see [`paging`]. Writes of PV guests are not caught, so every page is reported each time. That is more than is true and never
//! less: after its last round the tool stops the guest and sends all of it.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use xen_abi::domctl as abi;
use xen_abi::errno::Errno;

use super::super::context::{AnyCtx, Host};
use super::{After, paging, refused};
use crate::base::{Gfn, Mfn};
use crate::domain::Domain;
use crate::mm::pte::Level;
use crate::mm::{Owner, PtMachine, Standing, refs};

/// Most frames that are asked about at once.
const MOST_FRAMES: u64 = 1024;
/// Bytes of the log that are written between two looks for other work.
const CHUNK: usize = 1024;

/// getpageframeinfo3: replaces each frame number of a list by what the frame is.
///
/// # Errors
/// `E2BIG` for a list that is too long; `EFAULT`, `ENOMEM`.
pub(super) fn frame_types<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &abi::DomctlGetPageFrameInfo3,
) -> Result<After, Errno> {
    if request.num > MOST_FRAMES {
        return Err(Errno::E2BIG);
    }
    let at = request.array.address();
    let mut list: Vec<u64> = cx.read_array(at, request.num as usize)?;
    for entry in &mut list {
        let frame = match &domain.translated {
            None => Some(Mfn(*entry)),
            Some(map) => map.lookup(Gfn(*entry)).map(|(mfn, _)| mfn),
        };
        let kind = frame.map_or(abi::XEN_DOMCTL_PFINFO_XTAB, |mfn| {
            frame_type(cx.host, domain, mfn)
        });
        *entry = kind.into();
    }
    cx.write(at, list.as_slice())?;
    Ok(After::Nothing)
}

/// `XEN_DOMCTL_PFINFO_*` of a frame. Pages of ours that are lent to the domain are none of its memory.
fn frame_type<M: PtMachine>(m: &M, domain: &Domain, mfn: Mfn) -> u32 {
    if refs::get_page(m, mfn, Owner::Domain(domain.id)).is_err() {
        return abi::XEN_DOMCTL_PFINFO_XTAB;
    }
    let kind = match m.frame(mfn) {
        Some(frame) if frame.standing() == Standing::Own => {
            let state = frame.type_state();
            let level = match state.page_type().level().filter(|_| state.count() != 0) {
                None => abi::XEN_DOMCTL_PFINFO_NOTAB,
                Some(Level::L1) => abi::XEN_DOMCTL_PFINFO_L1TAB,
                Some(Level::L2) => abi::XEN_DOMCTL_PFINFO_L2TAB,
                Some(Level::L3) => abi::XEN_DOMCTL_PFINFO_L3TAB,
                Some(Level::L4) => abi::XEN_DOMCTL_PFINFO_L4TAB,
            };
            let pinned = if state.is_pinned() {
                abi::XEN_DOMCTL_PFINFO_LPINTAB
            } else {
                0
            };
            level | pinned
        }
        Some(_) | None => abi::XEN_DOMCTL_PFINFO_XTAB,
    };
    refs::put_page(m, mfn);
    kind
}

/// shadow_op: begins, reads and ends the log of written pages; page tables are never shadowed.
///
/// # Errors
/// `EINVAL` for what does not fit the log's state and for the caller itself, `EOPNOTSUPP` for everything else; `EFAULT`.
pub(super) fn shadow<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut abi::DomctlShadowOp,
) -> Result<After, Errno> {
    if domain.id == cx.domain.id {
        return Err(Errno::EINVAL);
    }
    if let Some(map) = &domain.translated {
        return paging::shadow(cx, (domain, map), request);
    }
    let log = &domain.dirty_log;
    let on = log.load(Ordering::Relaxed) != 0;
    match request.op {
        abi::XEN_DOMCTL_SHADOW_OP_OFF if on => {
            log.store(0, Ordering::Relaxed);
            Ok(After::Nothing)
        }
        abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY if !on => {
            log.store(1, Ordering::Relaxed);
            Ok(After::Nothing)
        }
        abi::XEN_DOMCTL_SHADOW_OP_CLEAN | abi::XEN_DOMCTL_SHADOW_OP_PEEK
            if on && request.mode & !abi::XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL == 0 =>
        {
            report_all(cx, domain, request)
        }
        abi::XEN_DOMCTL_SHADOW_OP_OFF
        | abi::XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY
        | abi::XEN_DOMCTL_SHADOW_OP_CLEAN
        | abi::XEN_DOMCTL_SHADOW_OP_PEEK => Err(Errno::EINVAL),
        _ => {
            let why = "page tables of PV domains are not shadowed";
            Err(refused(domain, "shadow_op", why, Errno::EOPNOTSUPP))
        }
    }
}

/// Reports every page as written. `dirty_log` is one more than the chunk to go on with.
fn report_all<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    request: &mut abi::DomctlShadowOp,
) -> Result<After, Errno> {
    let bytes = request.pages.div_ceil(8);
    let mut done = (domain.dirty_log.load(Ordering::Relaxed) - 1).saturating_mul(CHUNK as u64);
    // A handle of null asks for the numbers only.
    while !request.dirty_bitmap.is_null() && done < bytes {
        let size = (bytes - done).min(CHUNK as u64) as usize;
        let at = cx.element::<u8>(request.dirty_bitmap.address(), done)?;
        let written = cx.write(at, &[0xff_u8; CHUNK][..size]);
        done += size as u64;
        if written.is_ok() && done < bytes && cx.host.preempt_pending() {
            domain
                .dirty_log
                .store(1 + done / CHUNK as u64, Ordering::Relaxed);
            return Ok(After::Again);
        }
        written.inspect_err(|_| domain.dirty_log.store(1, Ordering::Relaxed))?;
    }
    // The next report begins with the first page, whatever this one was about.
    domain.dirty_log.store(1, Ordering::Relaxed);
    let has = domain.pages.load(Ordering::Relaxed).min(request.pages);
    request.stats.fault_count = 0;
    request.stats.dirty_count = u32::try_from(has).unwrap_or(u32::MAX);
    Ok(After::WriteBack)
}
