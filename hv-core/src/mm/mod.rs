//! Machine memory: who owns a frame, what it is used as, and the page tables PV guests write.
//!
//! The rule that carries PV security: **a frame is never writable-mapped, in a page table or in any
//! TLB, and a page table (or descriptor page) at once.** How the parts keep it:
//!
//! - [`buddy`]: which frames are free.
//! - [`frames`]: the frame table; owners and general references.
//! - [`types`]: the type word, its states and transitions; the only writer of a frame's type.
//! - [`refs`]: taking and dropping references, with the TLB flush and the checks of a type change.
//! - [`pte`]: the entry format and what a guest may write at each level.
//! - [`entries`]: the references that one present entry holds.
//! - [`validate`]: checking a whole table or descriptor page, and taking it apart; preemptible.
//! - [`update`]: changing one entry of a live table (`mmu_update`, `update_va_mapping`).
//! - [`granted`]: entries that map pages by a grant.
//! - [`pins`]: pins, roots and the teardown of one frame.
//! - [`holdings`]: the list of a domain's frames, and how all of them are taken from it.
//! - [`ptdecode`] and [`ptwrite`]: stores of the guest into its live tables, caught as faults.
//! - [`p2m`]: the other kind of tables: those that translate guest frames for the processor (nested paging).
//! - [`descriptors`]: which segment descriptors a guest may have.
//!
//! # References
//! A present L1 entry holds a general reference (read-only) or a `Writable` type reference; entries
//! of L2 to L4 hold a type reference of the level below. A pin and a root in use hold one each. So a table
//! cannot go away under an entry, and its last reference takes it apart, which drops those of its
//! entries. Linear page tables (an entry naming a table of its own level or above) are refused, so
//! references form no cycle and nothing recurses deeper than four levels.
//!
//! # TLBs
//! A frame is stamped with the TLB clock when its last type reference goes, after the entries that
//! used it were changed. A change of type flushes the CPUs of the owner (all CPUs, where other
//! domains mapped the frame) that were not flushed since. The same covers the processor's
//! paging-structure caches: a table is unlinked before it is stamped, so a CPU flushed later cannot
//! walk into it any more. A frame is stamped again when its last general reference goes, for the allocator.
//!
//! # Caches
//! A guest may map its RAM other than write-back (graphics memory). The lines of such a page are written back before it is
//! mapped so, and once more when it was mapped writable that way and becomes a table: what is checked is then what the
//! processor's table walk reads.
//!
//! # Preemption
//! What can take long ends in [`Stop::Restart`]: the caller encodes a continuation and calls again
//! with the same arguments. Progress is kept in the frame. A reference whose dropping was
//! interrupted is put on the vCPU's [`OwedPuts`](pins::OwedPuts) list, which must be finished before that
//! vCPU does anything else with page tables.

pub mod buddy;
pub mod descriptors;
pub mod entries;
pub mod frames;
pub mod granted;
pub mod holdings;
pub mod p2m;
pub mod pins;
pub mod ptdecode;
pub mod pte;
pub mod ptwrite;
pub mod refs;
pub mod types;
pub mod update;
pub mod validate;

#[cfg(test)]
mod tests;

use crate::base::{DomId, Mfn};
use core::fmt;
use core::sync::atomic::AtomicU64;
use xen_abi::errno::Errno;

pub use frames::{Frame, FrameTable, Owner, RefError, Standing};
pub use holdings::Holdings;
pub use pte::{Globals, Level, Pte};
pub use types::{PageType, Reach};

/// Why the guest's request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The request makes no sense or breaks a rule of page tables (`EINVAL`).
    Invalid,
    /// The caller lacks the right to that frame (`EPERM`).
    Denied,
    /// The frame is used in a way that excludes this (`EBUSY`).
    Busy,
}

impl From<Refusal> for Errno {
    fn from(why: Refusal) -> Self {
        match why {
            Refusal::Invalid => Self::EINVAL,
            Refusal::Denied => Self::EPERM,
            Refusal::Busy => Self::EBUSY,
        }
    }
}

/// How a page-table operation ended without success.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Refused; nothing changed.
    Refused(Refusal),
    /// Not finished: call again with the same arguments after other work had its turn.
    Restart,
}

impl From<Refusal> for Stop {
    fn from(why: Refusal) -> Self {
        Self::Refused(why)
    }
}

/// Result of a page-table operation.
pub type PtResult<T = ()> = Result<T, Stop>;

/// What a domain may do with frames that are no RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoAccess {
    /// Nothing.
    Denied,
    /// Map them read-only; a writable entry is silently made read-only, and stores fault.
    ReadOnly,
    /// Map them as it likes.
    Full,
}

/// Which CPUs a flush concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlbScope {
    /// Those that may hold mappings of this domain, lazily idle ones included.
    Domain(DomId),
    /// All.
    All,
}

/// What page-table logic needs of the machine and of the registry of domains.
///
/// All methods may be called while a frame's type word is claimed, so none may itself wait for one.
pub trait PtMachine {
    /// The frame's entry; `None` where the number is beyond RAM.
    fn frame(&self, mfn: Mfn) -> Option<&Frame>;

    /// The frame seen as a table, through the direct map. Only called for frames whose entry
    /// exists and whose owner is a domain or was one a moment ago; never for [`Owner::Io`].
    fn table(&self, mfn: Mfn) -> &[AtomicU64; pte::ENTRIES];

    /// L4 entries 256 to 271 as every root of this domain must have them.
    fn hypervisor_slots(&self, owner: DomId) -> &[u64; pte::HYPERVISOR_SLOTS];

    /// What a domain may do with a frame that is no RAM.
    fn io_access(&self, by: DomId, mfn: Mfn) -> IoAccess;

    /// Whether a domain may map RAM past the caches: for devices, which it must have.
    fn may_bypass_caches(&self, by: DomId) -> bool;

    /// Whether `by` may map frames of `owner` (and `owner` is not dying).
    fn may_map_foreign(&self, by: DomId, owner: DomId) -> bool;

    /// Whether `by` may map this frame of ours read-only as `DOMID_XEN` (the M2P, statistics). Such a frame must have
    /// been given to [`Owner::Xen`] by [`Frame::assign`].
    fn shares_read_only(&self, by: DomId, mfn: Mfn) -> bool;

    /// Whether the guest's user mappings are made global.
    fn globals(&self) -> Globals;

    /// Whether other work waits for this CPU. Asked between steps; must be cheap.
    fn preempt_pending(&self) -> bool;

    /// Flushes the TLBs, global entries included, and paging-structure caches of the CPUs in scope
    /// whose last flush is not newer than `stamp`, and returns when that is done.
    ///
    /// A CPU that idles lazily on a guest's root must leave that root, not merely flush: it
    /// could refill its caches from a table that is about to become writable.
    fn flush_stale(&self, scope: TlbScope, stamp: u32);

    /// The TLB clock: a frame stamped with this value is flushed by every flush that starts later.
    fn tlb_clock(&self) -> u32;

    /// An entry of a live L2 to L4 table of this domain changed. The machine flushes paging-structure caches of the
    /// domain's CPUs, and with XPTI brings its copies of roots up to date, before those CPUs next run the guest.
    /// Safety does not hang on it (stamps do).
    fn flush_paging_structures(&self, owner: DomId);

    /// Writes the cache lines of a RAM frame back and drops them, on all CPUs.
    fn write_back(&self, mfn: Mfn);

    /// The frame's last reference is gone and it is stamped: take it out of its owner's [`Holdings`] and account, and give
    /// it back to the allocator.
    fn release(&self, mfn: Mfn);

    /// Says why something was refused; the machine limits the rate.
    fn note(&self, why: fmt::Arguments<'_>);
}
