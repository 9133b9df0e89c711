//! memory_op for domains whose memory the hypervisor translates, and what toolstacks ask about any domain. PV
//! domains translate their own memory: part of this tells them so.

use alloc::vec::Vec;

use xen_abi::e820::E820Entry;
use xen_abi::errno::Errno;
use xen_abi::memory::{
    self as abi, AddToPhysmap, AddToPhysmapBatch, ForeignMemoryMap, MemAcquireResource, MemoryMap,
    MemoryReservation, PodTarget, RemoveFromPhysmap, VnumaTopologyInfo,
};
use xen_abi::xen::DOMID_SELF;

use super::context::{AnyCtx, DONE, Host, Reply};
use super::translated::{self, Target};
use crate::base::Gfn;
use crate::grants::FrameKind;

/// Most entries of a domain's memory map.
const MAX_ENTRIES: u32 = 1024;

/// The commands that are here, with the extent to go on with; `None` for any other.
pub(super) fn command<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    (command, start): (u32, u64),
    at: u64,
) -> Option<Reply> {
    Some(match command {
        abi::XENMEM_add_to_physmap => add(cx, start, at),
        abi::XENMEM_add_to_physmap_batch => add_batch(cx, start, at),
        abi::XENMEM_remove_from_physmap => remove(cx, at),
        abi::XENMEM_set_pod_target | abi::XENMEM_get_pod_target => pod(cx, command, at),
        abi::XENMEM_claim_pages => claim(cx, at),
        abi::XENMEM_memory_map => memory_map(cx, at),
        abi::XENMEM_set_memory_map => set_memory_map(cx, at),
        abi::XENMEM_get_vnumainfo => vnuma(cx, at),
        abi::XENMEM_acquire_resource => acquire(cx, start, at),
        _ => return None,
    })
}

fn add<H: Host>(cx: &AnyCtx<'_, H>, start: u64, at: u64) -> Reply {
    let request: AddToPhysmap = cx.read(at)?;
    // Frames of other domains are for the batch command, which has room to name the domain.
    if request.space == abi::XENMAPSPACE_gmfn_foreign {
        return Err(Errno::ENOSYS);
    }
    let target = cx.target(request.domid)?;
    // Of a PV domain there is nothing to map into.
    let target = Target::of(&target).ok_or(Errno::EACCES)?;
    translated::physmap::add(cx, target, &request, (start, at))
}

fn add_batch<H: Host>(cx: &AnyCtx<'_, H>, start: u64, at: u64) -> Reply {
    let request: AddToPhysmapBatch = cx.read(at)?;
    let target = cx.target(request.domid)?;
    let target = Target::of(&target).ok_or(Errno::EACCES)?;
    translated::physmap::add_batch(cx, target, &request, (start, at))
}

fn remove<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: RemoveFromPhysmap = cx.read(at)?;
    let target = cx.target(request.domid)?;
    let target = Target::of(&target).ok_or(Errno::EACCES)?;
    translated::physmap::remove(target, Gfn(request.gpfn))
}

/// Memory that comes on demand. For a domain that has all its memory nothing changes, and its own balloon does what there is to
/// do: `xl mem-set` asks each time.
fn pod<H: Host>(cx: &AnyCtx<'_, H>, command: u32, at: u64) -> Reply {
    let request: PodTarget = cx.read(at)?;
    let target = cx.target(request.domid)?;
    let target = Target::of(&target).ok_or(Errno::EINVAL)?;
    cx.require_control()?;
    translated::demand::pod_target(cx, target, command, request, at)
}

/// Keeps pages free for a domain that is about to be built.
fn claim<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: MemoryReservation = cx.read(at)?;
    cx.require_control()?;
    let target = (request.domid != DOMID_SELF).then(|| cx.hv.domain(request.domid));
    let plain = request.extent_order == 0 && request.mem_flags == 0;
    let pages = u32::try_from(request.nr_extents);
    match (target.flatten(), pages) {
        (Some(target), Ok(pages)) if plain => {
            target.claim_pages(pages.into()).inspect_err(|why| {
                let (free, claimed) = (target.machine.free_pages(), target.machine.claimed());
                log::info!(
                    "d{}: {pages} pages not claimed: {why}; {free} are free, {claimed} claimed",
                    target.id
                );
            })?;
            DONE
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The map that a toolstack has made for the caller.
fn memory_map<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut map = Vec::new();
    {
        let kept = cx.domain.memory_map.lock();
        map.try_reserve_exact(kept.len())
            .map_err(|_| Errno::ENOMEM)?;
        map.extend_from_slice(&kept);
    }
    if map.is_empty() {
        return Err(Errno::ENOSYS);
    }
    let mut request: MemoryMap = cx.read(at)?;
    let room = (request.nr_entries as usize).min(map.len());
    for (index, entry) in map[..room].iter().enumerate() {
        let slot = cx.element::<E820Entry>(request.buffer.address(), index as u64)?;
        cx.write(slot, entry)?;
    }
    request.nr_entries = room as u32;
    cx.write(at, &request)?;
    DONE
}

/// A toolstack makes the map; a guest's boot loader may put another in its place for the kernel that it starts.
fn set_memory_map<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: ForeignMemoryMap = cx.read(at)?;
    if request.map.nr_entries > MAX_ENTRIES {
        return Err(Errno::EINVAL);
    }
    let target = cx.target(request.domid)?;
    let count = request.map.nr_entries as usize;
    let new: Vec<E820Entry> = cx.read_array(request.map.buffer.address(), count)?;
    // The old one is dropped after the lock.
    let _old = core::mem::replace(&mut *target.memory_map.lock(), new);
    DONE
}

/// No domain has been given a topology.
fn vnuma<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let request: VnumaTopologyInfo = cx.read(at)?;
    if request.pad != 0 {
        return Err(Errno::EINVAL);
    }
    cx.target(request.domid)?;
    Err(Errno::EOPNOTSUPP)
}

fn acquire<H: Host>(cx: &AnyCtx<'_, H>, start: u64, at: u64) -> Reply {
    let mut request: MemAcquireResource = cx.read(at)?;
    if request.pad != 0 {
        return Err(Errno::EINVAL);
    }
    let target = cx.named(request.domid)?;
    // Resources are for who runs another domain.
    if target.id == cx.domain.id || !cx.domain.is_control() {
        return Err(Errno::EPERM);
    }
    // It would get them at guest frames of its own.
    if cx.domain.translated.is_some() {
        return Err(Errno::EOPNOTSUPP);
    }
    let kind = match (request.r#type, request.id) {
        (abi::XENMEM_resource_grant_table, abi::XENMEM_resource_grant_table_id_shared) => {
            FrameKind::Shared
        }
        (abi::XENMEM_resource_grant_table, abi::XENMEM_resource_grant_table_id_status) => {
            FrameKind::Status
        }
        // Those of HVM domains, and of domains that are traced.
        _ => return Err(Errno::EINVAL),
    };
    let most = target.grants.most_frames(kind);
    if request.frame_list.is_null() {
        if request.nr_frames != 0 || request.frame != 0 {
            return Err(Errno::EINVAL);
        }
        request.nr_frames = most;
        cx.write(at, &request)?;
        return DONE;
    }
    let last = request.frame.checked_add(u64::from(request.nr_frames));
    if last.is_none_or(|end| end > u64::from(most)) {
        return Err(Errno::EINVAL);
    }
    let first = request.frame as u32;
    // The last first: the table grows at once as far as it must.
    let left = u64::from(request.nr_frames).checked_sub(start);
    for index in (0..left.ok_or(Errno::EINVAL)?).rev() {
        let done = u64::from(request.nr_frames) - 1 - index;
        if done != start && cx.host.preempt_pending() {
            let command = abi::XENMEM_acquire_resource.into();
            return Ok(super::memory::go_on_at(command, done, at));
        }
        let mfn = target
            .grants
            .grown_frame(kind, first + index as u32, &target.grant_pool())?;
        let slot = cx.element::<u64>(request.frame_list.address(), index)?;
        cx.write(slot, &mfn.0)?;
    }
    DONE
}
