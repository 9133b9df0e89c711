//! `GNTTABOP_cache_flush`: cache maintenance on part of an own page or of one mapped through a
//! grant.

use super::GrantHandle;
use super::host::{Access, GrantHost, HasGrants};
use super::maptrack::Found;
use crate::base::{PAGE_SIZE, PhysAddr};
use xen_abi::errno::Errno;
use xen_abi::grant_table as abi;

/// Handles looked at before a restart.
const BUDGET: u32 = 4096;

/// How far a flush has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Flush {
    /// Done.
    Done,
    /// Call again with this.
    Later(GrantHandle),
}

/// Flushes as `op` says; `from` is 0 or what [`Flush::Later`] carried. On x86 the caches are
/// coherent, so that dropping a line without writing it back is never useful and is not offered:
/// both operations write back.
///
/// # Errors
/// `EINVAL` for a range beyond the page or unknown bits, `EOPNOTSUPP` for the form that names a
/// grant reference, `EPERM` for a page that is neither the caller's nor mapped by it.
pub fn flush_cache<H: GrantHost>(
    host: &H,
    op: &abi::GnttabCacheFlush,
    from: GrantHandle,
) -> Result<Flush, Errno> {
    const ACTIONS: u32 = abi::GNTTAB_CACHE_CLEAN | abi::GNTTAB_CACHE_INVAL;
    let end = usize::from(op.offset) + usize::from(op.length);
    if end > PAGE_SIZE || op.op & !(ACTIONS | abi::GNTTAB_CACHE_SOURCE_GREF) != 0 {
        return Err(Errno::EINVAL);
    }
    if op.length == 0 || op.op & ACTIONS == 0 {
        return Ok(Flush::Done);
    }
    if op.op & abi::GNTTAB_CACHE_SOURCE_GREF != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let mfn = PhysAddr(op.a).mfn();
    let caller = host.caller();
    if host.take_page(caller, mfn, Access::Read).is_ok() {
        host.flush_cache((mfn, op.offset), op.length);
        host.put_page(mfn, Access::Read);
        return Ok(Flush::Done);
    }
    let found = caller
        .grants()
        .maptrack
        .lock()
        .find_frame(mfn, from, BUDGET);
    match found {
        Found::Yes => {
            host.flush_cache((mfn, op.offset), op.length);
            Ok(Flush::Done)
        }
        Found::No => Err(Errno::EPERM),
        Found::Later(handle) => Ok(Flush::Later(handle)),
    }
}
