//! `GNTTABOP_map_grant_ref`, `GNTTABOP_unmap_grant_ref` and `GNTTABOP_unmap_and_replace`.
//!
//! Unmapping has two phases, so that a whole batch needs one TLB flush: [`prepare_unmap`] removes
//! the mapping, the caller flushes, [`PendingUnmap::finish`] lets go of page and entry. Only then
//! may the granter reuse the page.

use super::entry::{Purpose, Terms};
use super::host::{Access, GrantHost, HasGrants, HostMapping, Paging, Unmapping};
use super::maptrack::Mapping;
use super::pins::Parts;
use super::table::{PageRange, Target, Use};
use super::{GrantError, GrantHandle, GrantRef};
use crate::base::{DomId, Mfn};
use xen_abi::grant_table as abi;

/// What to map, and how: the inputs of `GnttabMapGrantRef`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Granting domain.
    pub dom: DomId,
    /// Its entry.
    pub reference: GrantRef,
    /// See [`HostMapping::addr`].
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
}

impl From<&abi::GnttabMapGrantRef> for MapRequest {
    fn from(op: &abi::GnttabMapGrantRef) -> Self {
        Self {
            dom: op.dom,
            reference: op.r#ref,
            host_addr: op.host_addr,
            flags: op.flags,
        }
    }
}

impl MapRequest {
    const fn access(&self) -> Access {
        if self.flags & abi::GNTMAP_readonly != 0 {
            Access::Read
        } else {
            Access::Write
        }
    }

    fn parts(&self) -> Parts {
        let mut parts = Parts::empty();
        parts.set(Parts::HOST, self.flags & abi::GNTMAP_host_map != 0);
        parts.set(Parts::DEVICE, self.flags & abi::GNTMAP_device_map != 0);
        parts
    }

    /// The parts asked for, if the flags make sense for this kind of caller.
    fn checked_parts(&self, paging: Paging) -> Result<Parts, GrantError> {
        const ONLY_DIRECT: u32 =
            abi::GNTMAP_device_map | abi::GNTMAP_application_map | abi::GNTMAP_contains_pte;
        let parts = self.parts();
        if parts.is_empty() {
            Err(GrantError::BadGntref)
        } else if paging == Paging::Translated && self.flags & ONLY_DIRECT != 0 {
            Err(GrantError::General)
        } else {
            Ok(parts)
        }
    }
}

/// Result of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapOutcome {
    /// Names the mapping in later calls.
    pub handle: GrantHandle,
    /// Address for devices; given for host mappings too, as Linux takes the frame number from it.
    pub dev_bus_addr: u64,
}

/// Maps a granted page for the caller.
///
/// # Errors
/// [`GrantError::BadGntref`] without a part to map or for a reference beyond the table,
/// [`GrantError::BadDomain`], [`GrantError::NoSpace`] when the caller has no handle left,
/// [`GrantError::General`] when the entry does not grant it, and those of [`GrantHost`].
pub fn map_grant_ref<H: GrantHost>(
    host: &H,
    request: &MapRequest,
) -> Result<MapOutcome, GrantError> {
    let parts = request.checked_parts(host.paging())?;
    let peer = host.peer(request.dom).ok_or(GrantError::BadDomain)?;
    let maptrack = &host.caller().grants().maptrack;
    let handle = maptrack.lock().reserve()?;
    match pin_and_map(host, &peer, request, parts) {
        Ok(mfn) => {
            let mapping = Mapping {
                peer: request.dom,
                born: peer.grants().born,
                reference: request.reference,
                mfn,
                access: request.access(),
                flags: request.flags,
                parts,
            };
            maptrack.lock().commit(handle, mapping);
            let dev_bus_addr = mfn.addr().0;
            Ok(MapOutcome {
                handle,
                dev_bus_addr,
            })
        }
        Err(error) => {
            maptrack.lock().abandon(handle);
            Err(error)
        }
    }
}

/// Pins the entry and makes the host mapping, or neither.
fn pin_and_map<H: GrantHost>(
    host: &H,
    peer: &H::Peer,
    request: &MapRequest,
    parts: Parts,
) -> Result<Mfn, GrantError> {
    let access = request.access();
    let wanted = Use {
        reference: request.reference,
        parts,
        terms: Terms {
            grantee: host.caller().grants().dom,
            access,
            purpose: Purpose::Map,
        },
    };
    let target = peer.grants().table.lock().pin(host, peer, &wanted)?;
    let Target::Page(PageRange { mfn, .. }) = target else {
        // Mapping never gets an entry that stands for another one; see `entry`.
        unpin(host, peer, request.reference, parts, access, None);
        return Err(GrantError::General);
    };
    if parts.contains(Parts::HOST) {
        let mapping = HostMapping {
            addr: request.host_addr,
            mfn,
            access,
            flags: request.flags,
        };
        host.create_host_mapping(&mapping).inspect_err(|_| {
            unpin(host, peer, request.reference, parts, access, Some(mfn));
        })?;
    }
    Ok(mfn)
}

/// Ends a use: pins first, then the page references, so that `mfn` is ours to the end.
pub(super) fn unpin<H: GrantHost>(
    host: &H,
    peer: &H::Peer,
    reference: GrantRef,
    parts: Parts,
    access: Access,
    mfn: Option<Mfn>,
) {
    peer.grants().table.lock().unpin(reference, parts, access);
    if let Some(mfn) = mfn {
        for _ in 0..parts.count() {
            host.put_page(mfn, access);
        }
    }
}

/// What to unmap: the inputs of `GnttabUnmapGrantRef` or `GnttabUnmapAndReplace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnmapRequest {
    /// The mapping.
    pub handle: GrantHandle,
    /// Where the host part is; 0 leaves that part alone.
    pub host_addr: u64,
    /// Address of the device part; 0 leaves that part alone.
    pub dev_bus_addr: u64,
    /// What the host part is replaced with.
    pub instead: Unmapping,
}

impl From<&abi::GnttabUnmapGrantRef> for UnmapRequest {
    fn from(op: &abi::GnttabUnmapGrantRef) -> Self {
        Self {
            handle: op.handle,
            host_addr: op.host_addr,
            dev_bus_addr: op.dev_bus_addr,
            instead: Unmapping::Clear,
        }
    }
}

impl From<&abi::GnttabUnmapAndReplace> for UnmapRequest {
    fn from(op: &abi::GnttabUnmapAndReplace) -> Self {
        Self {
            handle: op.handle,
            host_addr: op.host_addr,
            dev_bus_addr: 0,
            instead: Unmapping::Replace(op.new_addr),
        }
    }
}

/// A mapping that is gone from the page tables but maybe not from a TLB: page and grant are still
/// held. It must be finished; dropping it leaks both.
#[derive(Debug)]
#[must_use = "page and grant are held until it is finished"]
pub struct PendingUnmap<P> {
    peer: P,
    handle: GrantHandle,
    /// With the parts that were unmapped.
    mapping: Mapping,
}

/// First phase: removes the parts of a mapping that `request` names and that exist.
///
/// # Errors
/// [`GrantError::BadHandle`] for a handle without a mapping (or one being unmapped elsewhere),
/// [`GrantError::BadDevAddr`], [`GrantError::General`], and those of
/// [`GrantHost::destroy_host_mapping`]; the mapping then stays as it was.
pub fn prepare_unmap<H: GrantHost>(
    host: &H,
    request: &UnmapRequest,
) -> Result<PendingUnmap<H::Peer>, GrantError> {
    let mut wanted = Parts::empty();
    wanted.set(Parts::HOST, request.host_addr != 0);
    wanted.set(Parts::DEVICE, request.dev_bus_addr != 0);
    let maptrack = &host.caller().grants().maptrack;
    let mapping = maptrack.lock().claim(request.handle, wanted)?;
    unmap_claimed(host, request, &mapping)
        .map(|peer| PendingUnmap {
            peer,
            handle: request.handle,
            mapping,
        })
        .inspect_err(|_| maptrack.lock().unclaim(request.handle, mapping.parts))
}

/// Who granted it, if there still is one: its page references keep it, but those of a host mapping go with the entry,
/// which a guest may overwrite. Its number may be another's then.
pub(super) fn granter<H: GrantHost>(host: &H, mapping: &Mapping) -> Option<H::Peer> {
    host.peer(mapping.peer)
        .filter(|peer| peer.grants().born == mapping.born)
}

fn unmap_claimed<H: GrantHost>(
    host: &H,
    request: &UnmapRequest,
    mapping: &Mapping,
) -> Result<H::Peer, GrantError> {
    let peer = granter(host, mapping).ok_or(GrantError::General)?;
    let device = mapping.parts.contains(Parts::DEVICE);
    if device && request.dev_bus_addr != mapping.mfn.addr().0 {
        return Err(GrantError::BadDevAddr);
    }
    if mapping.parts.contains(Parts::HOST) {
        let host_mapping = HostMapping {
            addr: request.host_addr,
            mfn: mapping.mfn,
            access: mapping.access,
            flags: mapping.flags,
        };
        if request.instead != Unmapping::Clear && host_mapping.contains_pte() {
            return Err(GrantError::General);
        }
        host.destroy_host_mapping(&host_mapping, request.instead)?;
    }
    Ok(peer)
}

impl<P: HasGrants> PendingUnmap<P> {
    /// Whether TLBs may hold the mapping, so that a flush is needed before [`Self::finish`].
    #[must_use]
    pub const fn needs_flush(&self) -> bool {
        self.mapping.parts.contains(Parts::HOST)
    }

    /// Second phase, after the flush: lets go of page, entry and, with its last part, the handle.
    pub fn finish<H: GrantHost<Peer = P>>(self, host: &H) {
        let Mapping {
            reference,
            mfn,
            access,
            parts,
            ..
        } = self.mapping;
        if !parts.is_empty() {
            unpin(host, &self.peer, reference, parts, access, Some(mfn));
        }
        let maptrack = &host.caller().grants().maptrack;
        maptrack.lock().remove(self.handle, parts);
    }
}
