//! Grant tables (grant_table.h): how a domain lets others map or copy its pages.
//!
//! A domain fills entries in pages it shares with the hypervisor (`entry`); a peer names one by
//! its index and maps it ([`map`]) or copies through it ([`copy`]). The functions here handle *one*
//! element of a batch: they decide and account, while pages and page tables change through
//! [`GrantHost`].
//!
//! Accounting, for each entry of the granting domain (`table`): pin counts for host and device,
//! reading and writing. The first pin fixes which frame is meant; each pinned part holds one
//! reference on the page; the flags `GTF_reading` and `GTF_writing` that the granter sees are set
//! exactly while such pins exist. For each mapping the mapping domain has a handle (`maptrack`).
//!
//! Locks: one for each table and one for each maptrack; no two are ever held together. The methods
//! of [`GrantHost`] that say so are called with one table locked and must not come back here.
//!
//! Callers resolve `DOMID_SELF` and check privilege for operations that name another domain's
//! table; they copy arguments in and results out, bound the batch and restart it.

pub mod cache;
pub mod copy;
pub mod dump;
mod entry;
pub mod frames;
mod host;
pub mod map;
mod maptrack;
mod pins;
pub mod status;
mod swap;
mod table;
pub mod teardown;
mod transfer;
mod version;

#[cfg(test)]
mod tests;

pub use frames::{FrameKind, FramePool, SharedFrame};
pub use host::{Access, GrantHost, HasGrants, HostMapping, Paging, Unmapping};
pub use map::{MapOutcome, MapRequest, PendingUnmap, UnmapRequest};
pub use status::GrantError;
pub use table::{Limits, TableSize, Transitive};
pub use version::Version;

use crate::base::lock::{Mutex, rank};
use crate::base::{DomId, Mfn};
use maptrack::Maptrack;
use table::GrantTable;
use xen_abi::errno::Errno;
pub use xen_abi::grant_table::{GrantHandle, GrantRef};

/// The grant state of one domain: what it grants, and what it has mapped from others.
#[derive(Debug)]
pub struct Grants {
    dom: DomId,
    born: u64,
    table: Mutex<GrantTable>,
    maptrack: Mutex<Maptrack>,
}

impl Grants {
    /// State of a new domain with a table of one frame and version 1. `born` is its alone among those that have ever had
    /// its number.
    ///
    /// # Errors
    /// `EINVAL` when the limits make no sense, `ENOMEM` when memory is short.
    pub fn new(dom: DomId, limits: Limits, born: u64, pool: &dyn FramePool) -> Result<Self, Errno> {
        let mut table = GrantTable::new(dom, limits)?;
        table.grow(1, pool)?;
        Ok(Self {
            dom,
            born,
            table: Mutex::new(rank::GRANTS, table),
            maptrack: Mutex::new(rank::MAPTRACK, Maptrack::new(limits.max_handles)),
        })
    }

    /// The domain this is the state of.
    #[must_use]
    pub const fn dom(&self) -> DomId {
        self.dom
    }

    /// `GNTTABOP_query_size`: frames of the shared table now and at most.
    #[must_use]
    pub fn query_size(&self) -> TableSize {
        self.table.lock().size()
    }

    /// `GNTTABOP_get_version`.
    #[must_use]
    pub fn version(&self) -> Version {
        self.table.lock().version()
    }

    /// `GNTTABOP_setup_table`: grows the table to at least `frames` frames. The caller then lists
    /// them with [`Self::frame`].
    ///
    /// # Errors
    /// [`GrantError::General`] above the limit or when memory is short.
    pub fn setup_table(&self, frames: u32, pool: &dyn FramePool) -> Result<(), GrantError> {
        let grown = self.table.lock().grow(frames, pool);
        grown.map_err(|_| GrantError::General)
    }

    /// `GNTTABOP_get_status_frames`: checks that the table is of version 2 and has `frames` status
    /// frames. The caller then lists them with [`Self::frame`].
    ///
    /// # Errors
    /// [`GrantError::General`] when it is not so.
    pub fn check_status_frames(&self, frames: u32) -> Result<(), GrantError> {
        let table = self.table.lock();
        if table.version() == Version::V2 && frames <= table.status_frames() {
            Ok(())
        } else {
            Err(GrantError::General)
        }
    }

    /// The frame of this kind and index, if the table is that large.
    #[must_use]
    pub fn frame(&self, kind: FrameKind, index: u32) -> Option<Mfn> {
        self.table.lock().frame(kind, index)
    }

    /// Whether a frame is one of the table's own.
    #[must_use]
    pub fn has_frame(&self, mfn: Mfn) -> bool {
        let table = self.table.lock();
        [FrameKind::Shared, FrameKind::Status]
            .into_iter()
            .any(|kind| (0..).map_while(|i| table.frame(kind, i)).any(|f| f == mfn))
    }

    /// As [`Self::frame`], growing the table up to that index: for `XENMEM_add_to_physmap` and
    /// `XENMEM_acquire_resource`.
    ///
    /// # Errors
    /// `EINVAL` beyond the limit or for status frames of a table of version 1, `ENOMEM`.
    pub fn grown_frame(
        &self,
        kind: FrameKind,
        index: u32,
        pool: &dyn FramePool,
    ) -> Result<Mfn, Errno> {
        self.table.lock().grown_frame(kind, index, pool)
    }

    /// Frames of this kind that there may be.
    #[must_use]
    pub fn most_frames(&self, kind: FrameKind) -> u32 {
        self.table.lock().most_frames(kind)
    }

    /// `GNTTABOP_set_version`, on the domain's own table. Returns nothing: the version in effect
    /// afterwards, which the call reports even when it fails, is [`Self::version`].
    ///
    /// # Errors
    /// `EINVAL` for an unknown version, `ENOSYS` for one above the domain's limit, `EBUSY` while
    /// entries beyond the reserved ones are in use, `ENOMEM`.
    pub fn set_version(&self, version: u32, pool: &dyn FramePool) -> Result<(), Errno> {
        self.table.lock().set_version(version, pool)
    }

    /// `GNTTABOP_swap_grant_ref`, on the domain's own table.
    ///
    /// # Errors
    /// [`GrantError::BadGntref`], and [`GrantError::Eagain`] while one of them is in use.
    pub fn swap(&self, a: GrantRef, b: GrantRef) -> Result<(), GrantError> {
        self.table.lock().swap(a, b)
    }

    /// How many mappings of other domains' grants this domain has.
    #[must_use]
    pub fn mappings(&self) -> u32 {
        self.maptrack.lock().used()
    }
}
