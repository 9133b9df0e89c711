//! Copies between us and a guest's linear addresses, page by page through its own tables.
//!
//! Each page is translated by [`walk`](super::walk::walk) with the rights of the access. A copy that stops has moved what
//! came before the address that it reports.

use super::walk::{Access, GuestPhysical, Kind, PagingMode, Privilege, Refused, walk};
use crate::base::PAGE_SIZE;

#[cfg(test)]
mod tests;

/// A guest's physical memory, as bytes. Implementations reach RAM only, and hold what they copy to or from in place
/// meanwhile.
pub trait GuestMemory: GuestPhysical {
    /// Copies from guest physical addresses of one page; `None` where there is no RAM.
    fn read(&self, gpa: u64, into: &mut [u8]) -> Option<()>;

    /// Copies to guest physical addresses of one page; `None` where there is no RAM that the guest may write.
    fn write(&self, gpa: u64, from: &[u8]) -> Option<()>;
}

/// Why a copy stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The address leads nowhere.
    Refused(Refused),
    /// It leads to something other than RAM.
    NoMemory {
        /// Guest physical address.
        gpa: u64,
    },
    /// The range goes beyond the end of the address space.
    End,
}

/// A copy that stopped (`EFAULT` for a hypercall).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyFault {
    /// The first address that was not copied.
    pub va: u64,
    /// Bytes that were.
    pub done: usize,
    /// Why.
    pub reason: Reason,
}

/// Copies from the linear address `va` on.
///
/// `privilege` is whose access it is: `Supervisor` for operands of hypercalls.
///
/// # Errors
/// See `CopyFault`.
pub fn copy_in(
    mem: &impl GuestMemory,
    mode: &PagingMode,
    privilege: Privilege,
    va: u64,
    into: &mut [u8],
) -> Result<(), CopyFault> {
    let access = Access {
        kind: Kind::Read,
        privilege,
    };
    copy_in_as(mem, mode, access, va, into)
}

/// As [`copy_in`], for any kind of access that reads: fetches too.
///
/// # Errors
/// See `CopyFault`.
pub fn copy_in_as(
    mem: &impl GuestMemory,
    mode: &PagingMode,
    access: Access,
    va: u64,
    into: &mut [u8],
) -> Result<(), CopyFault> {
    pages(mem, mode, access, va, into.len(), |gpa, from, to| {
        mem.read(gpa, into.get_mut(from..to)?)
    })
}

/// Copies to the linear address `va` on.
///
/// # Errors
/// See `CopyFault`.
pub fn copy_out(
    mem: &impl GuestMemory,
    mode: &PagingMode,
    privilege: Privilege,
    va: u64,
    from: &[u8],
) -> Result<(), CopyFault> {
    let access = Access {
        kind: Kind::Write,
        privilege,
    };
    pages(mem, mode, access, va, from.len(), |gpa, start, end| {
        mem.write(gpa, from.get(start..end)?)
    })
}

/// Calls `part` for each page of a range, with its guest physical address and the part of the buffer.
fn pages(
    mem: &impl GuestPhysical,
    mode: &PagingMode,
    access: Access,
    va: u64,
    length: usize,
    mut part: impl FnMut(u64, usize, usize) -> Option<()>,
) -> Result<(), CopyFault> {
    let mut done = 0;
    while done < length {
        let fault = |reason| CopyFault {
            va: va.wrapping_add(done as u64),
            done,
            reason,
        };
        let at = va
            .checked_add(done as u64)
            .filter(|at| *at <= mode.last_address())
            .ok_or(fault(Reason::End))?;
        let room = PAGE_SIZE - (at as usize & (PAGE_SIZE - 1));
        let end = length.min(done.saturating_add(room));
        let found =
            walk(mem, mode, at, access).map_err(|refused| fault(Reason::Refused(refused)))?;
        let gpa = found.gpa;
        part(gpa, done, end).ok_or(fault(Reason::NoMemory { gpa }))?;
        done = end;
    }
    Ok(())
}
