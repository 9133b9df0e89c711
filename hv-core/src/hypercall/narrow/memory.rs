//! memory_op of 32-bit callers.

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::hypercall as nr;
use xen_abi::memory::{self as mem, AddToPhysmap, ForeignMemoryMap, MemoryMap, MemoryReservation};
use xen_abi::narrow;
use zerocopy::IntoBytes;

use super::overlay::ARRAY;
use super::widened;
use crate::hypercall::context::{AnyCtx, Args, Host, Outcome, Reply};
use crate::hypercall::front;

/// Bits of the command that are the command; above stands the extent to go on with.
const COMMAND_BITS: u32 = 6;

/// memory_op(cmd, argument).
pub(super) fn memory_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let number = nr::__HYPERVISOR_memory_op;
    match args[0] as u32 & ((1 << COMMAND_BITS) - 1) {
        mem::XENMEM_maximum_ram_page
        | mem::XENMEM_current_reservation
        | mem::XENMEM_maximum_reservation
        | mem::XENMEM_maximum_gpfn
        | mem::XENMEM_get_sharing_freed_pages
        | mem::XENMEM_get_sharing_shared_pages => front::dispatch(cx, number.into(), args),
        mem::XENMEM_increase_reservation
        | mem::XENMEM_decrease_reservation
        | mem::XENMEM_populate_physmap => reservation(cx, args),
        mem::XENMEM_add_to_physmap => {
            let narrow: narrow::AddToPhysmap = cx.read(args[1])?;
            let wide = AddToPhysmap {
                domid: narrow.domid,
                size: narrow.size,
                space: narrow.space,
                idx: narrow.idx.into(),
                gpfn: narrow.gpfn.into(),
            };
            widened(cx, number, args, wide.as_bytes(), None).map(|(outcome, _)| outcome)
        }
        mem::XENMEM_memory_map => {
            let wide = map(cx.read(args[1])?);
            let (outcome, after) = widened(cx, number, args, wide.as_bytes(), None)?;
            // The count, which is the first member of both, is also an answer.
            let count: [u8; 4] = after[..4].try_into().map_err(|_| Errno::EFAULT)?;
            cx.write(args[1], &u32::from_le_bytes(count))?;
            Ok(outcome)
        }
        mem::XENMEM_set_memory_map => {
            let narrow: narrow::ForeignMemoryMap = cx.read(args[1])?;
            let wide = ForeignMemoryMap {
                domid: narrow.domid,
                map: map(narrow.map),
                ..ForeignMemoryMap::default()
            };
            widened(cx, number, args, wide.as_bytes(), None).map(|(outcome, _)| outcome)
        }
        _ => Err(Errno::ENOSYS),
    }
}

fn map(narrow: narrow::MemoryMap) -> MemoryMap {
    MemoryMap {
        nr_entries: narrow.nr_entries,
        buffer: GuestHandle::new(narrow.buffer.into()),
        ..MemoryMap::default()
    }
}

/// The calls with a list of extents. As for wide callers there are no errors: the result is how many are done.
fn reservation<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let start = args[0] >> COMMAND_BITS;
    let Ok(narrow) = cx.read::<narrow::Reservation>(args[1]) else {
        return Ok(Outcome::Return(start));
    };
    // The extent to go on with must fit beside the command.
    if narrow.nr_extents > u32::MAX >> COMMAND_BITS {
        return Ok(Outcome::Return(start));
    }
    let wide = MemoryReservation {
        extent_start: GuestHandle::new(ARRAY),
        nr_extents: narrow.nr_extents.into(),
        extent_order: narrow.extent_order,
        mem_flags: narrow.mem_flags,
        domid: narrow.domid,
        ..MemoryReservation::default()
    };
    let number = nr::__HYPERVISOR_memory_op;
    let list = Some(narrow.extent_start);
    widened(cx, number, args, wide.as_bytes(), list).map(|(outcome, _)| outcome)
}
