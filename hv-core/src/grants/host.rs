//! What grant operations need of the rest of the hypervisor.

use super::{GrantError, Grants};
use crate::base::{DomId, Gfn, Mfn};
use xen_abi::grant_table as abi;

/// Reading, or reading and writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The page is read only: needs a reference to the page.
    Read,
    /// The page is written too: needs a reference to the page as writable memory.
    Write,
}

/// How a domain's own memory is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// PV: the domain's page tables hold machine frames.
    Direct,
    /// PVH and HVM: through nested page tables.
    Translated,
}

/// How a host mapping is to look (`GNTMAP_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostMapping {
    /// Address in the caller's current address space, or machine address of the page-table entry
    /// ([`HostMapping::contains_pte`]); a guest physical address under [`Paging::Translated`].
    pub addr: u64,
    /// Frame to map.
    pub mfn: Mfn,
    /// Whether the mapping allows writing.
    pub access: Access,
    /// The request's `GNTMAP_*` bits.
    pub flags: u32,
}

impl HostMapping {
    /// `addr` is the machine address of an entry (`GNTMAP_contains_pte`).
    #[must_use]
    pub const fn contains_pte(&self) -> bool {
        self.flags & abi::GNTMAP_contains_pte != 0
    }

    /// User mode may use the mapping too (`GNTMAP_application_map`).
    #[must_use]
    pub const fn for_application(&self) -> bool {
        self.flags & abi::GNTMAP_application_map != 0
    }

    /// The 16 bits for the entry's software-available bits (`GNTMAP_guest_avail_mask`).
    #[must_use]
    pub const fn available_bits(&self) -> u16 {
        (self.flags >> abi::_GNTMAP_guest_avail0) as u16
    }
}

/// What takes the place of a host mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmapping {
    /// Nothing.
    Clear,
    /// The entry that maps this linear address, which itself becomes empty.
    Replace(u64),
}

/// Something that leads to a domain's grants and keeps the domain alive.
pub trait HasGrants {
    /// The domain's grant state.
    fn grants(&self) -> &Grants;
}

impl HasGrants for &Grants {
    fn grants(&self) -> &Grants {
        self
    }
}

/// The rest of the hypervisor, seen by one grant operation of one calling domain.
///
/// References to pages: every `take_*` that succeeds is matched by one [`Self::put_page`] of the
/// same access, or passes to a page-table entry (see [`Self::create_host_mapping`]).
pub trait GrantHost {
    /// A counted reference to a domain.
    type Peer: HasGrants;

    /// The calling domain; in a teardown, the dying one.
    fn caller(&self) -> &Self::Peer;

    /// How the calling domain's memory is translated.
    fn paging(&self) -> Paging;

    /// The domain with this id, also while it is dying; never the `DOMID_*` pseudo ids.
    fn peer(&self, dom: DomId) -> Option<Self::Peer>;

    /// Finds the frame behind `gfn` of `owner`, checks that it is `owner`'s ordinary memory and
    /// takes a reference to it, all as one step. May be called with `owner`'s table locked.
    ///
    /// # Errors
    /// Usually [`GrantError::BadPage`], or [`GrantError::PermissionDenied`] when it may not be
    /// written; [`GrantError::Eagain`] when a later try can succeed.
    fn take_frame(&self, owner: &Self::Peer, gfn: Gfn, access: Access) -> Result<Mfn, GrantError>;

    /// Takes another reference to a page if it still is `owner`'s. May be called with `owner`'s
    /// table locked.
    ///
    /// # Errors
    /// As [`Self::take_frame`].
    fn take_page(&self, owner: &Self::Peer, mfn: Mfn, access: Access) -> Result<(), GrantError>;

    /// Drops a reference. Called without locks, except to undo a `take_*` of the same operation.
    fn put_page(&self, mfn: Mfn, access: Access);

    /// Enters the frame in the caller's page tables; what the entry held before is dropped.
    /// Nothing is taken: on success the reference taken before belongs to the new entry, so that
    /// under [`Paging::Direct`] whoever clears that entry by other means drops the reference.
    ///
    /// # Errors
    /// [`GrantError::BadVirtAddr`], [`GrantError::General`]: nothing was changed.
    fn create_host_mapping(&self, mapping: &HostMapping) -> Result<(), GrantError>;

    /// Removes the entry at `mapping.addr` if it maps exactly `mapping.mfn` with that access. The
    /// reference passes back to the caller of this method, who drops it after a TLB flush.
    ///
    /// # Errors
    /// [`GrantError::BadVirtAddr`], [`GrantError::General`]: nothing was changed.
    fn destroy_host_mapping(
        &self,
        mapping: &HostMapping,
        instead: Unmapping,
    ) -> Result<(), GrantError>;

    /// Copies inside memory both ends of which are pinned; the ranges may overlap. Offset and
    /// length never leave the frames.
    fn copy_bytes(&self, from: (Mfn, u16), to: (Mfn, u16), len: u16);

    /// Writes back, or writes back and drops, the caches for part of a pinned frame.
    fn flush_cache(&self, at: (Mfn, u16), len: u16);
}
