//! grant_table_op of 32-bit callers.

use core::mem::offset_of;

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::grant_table::{self as abi, GnttabGetStatusFrames, GnttabSetupTable};
use xen_abi::hypercall as nr;
use zerocopy::IntoBytes;

use super::overlay::{ARRAY, Structure};
use super::widened;
use crate::hypercall::context::{AnyCtx, Args, Host, Reply};
use crate::hypercall::front;

/// gnttab_setup_table as 32-bit code has it: domain, number of frames, status, list.
type NarrowSetup = [u32; 4];
/// gnttab_get_status_frames likewise: number of frames, domain and status in one word, list.
type NarrowStatusFrames = [u32; 3];

/// Bits of the command that are the command; above stands where a cache flush goes on.
const COMMAND: u32 = 0xfff;

/// The status of a set-up stands at the same place for both widths, that of a list too.
const SETUP_STATUS: usize = offset_of!(GnttabSetupTable, status);
const LIST_STATUS: usize = offset_of!(GnttabGetStatusFrames, status);

/// grant_table_op(cmd, list, count). What names frames in batches, copies and transfers, has no narrow form here.
pub(super) fn grant_table_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    match args[0] as u32 & COMMAND {
        abi::GNTTABOP_setup_table => setup_table(cx, args),
        abi::GNTTABOP_get_status_frames => status_frames(cx, args),
        // Structures of numbers of fixed size, each at a multiple of its size.
        abi::GNTTABOP_map_grant_ref
        | abi::GNTTABOP_unmap_grant_ref
        | abi::GNTTABOP_unmap_and_replace
        | abi::GNTTABOP_query_size
        | abi::GNTTABOP_set_version
        | abi::GNTTABOP_get_version
        | abi::GNTTABOP_swap_grant_ref
        | abi::GNTTABOP_cache_flush => {
            front::dispatch(cx, nr::__HYPERVISOR_grant_table_op.into(), args)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Frame numbers are words of the caller's.
fn setup_table<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let [who, nr_frames, _, list] = cx.read::<NarrowSetup>(args[1])?;
    let wide = GnttabSetupTable {
        dom: who as u16,
        nr_frames,
        frame_list: GuestHandle::new(ARRAY),
        ..GnttabSetupTable::default()
    };
    single(cx, args, wide.as_bytes(), Some(list), SETUP_STATUS)
}

/// Here frame numbers have 64 bits for any caller.
fn status_frames<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let [nr_frames, who, list] = cx.read::<NarrowStatusFrames>(args[1])?;
    let wide = GnttabGetStatusFrames {
        nr_frames,
        dom: who as u16,
        frame_list: GuestHandle::new(list.into()),
        ..GnttabGetStatusFrames::default()
    };
    single(cx, args, wide.as_bytes(), None, LIST_STATUS)
}

/// An operation with one element, of which only the status is an answer.
fn single<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    args: Args,
    wide: &[u8],
    list: Option<u32>,
    status: usize,
) -> Reply {
    let number = nr::__HYPERVISOR_grant_table_op;
    let (outcome, after) = widened(cx, number, args, wide, list)?;
    cx.write(args[1] + status as u64, &word_at(&after, status))?;
    Ok(outcome)
}

fn word_at(structure: &Structure, at: usize) -> [u8; 2] {
    [structure[at], structure[at + 1]]
}
