//! grant_table_op of 32-bit callers.

use core::mem::offset_of;

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::grant_table::{
    self as abi, GnttabCopy, GnttabCopyPtr, GnttabGetStatusFrames, GnttabSetupTable, GnttabTransfer,
};
use xen_abi::hypercall as nr;
use xen_abi::narrow;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::overlay::{ARRAY, Structure};
use super::widened;
use crate::hypercall::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::hypercall::front;

/// Bits of the command that are the command; above stands where a cache flush goes on.
const COMMAND: u32 = 0xfff;

/// The status of a set-up stands at the same place for both widths, that of a list too.
const SETUP_STATUS: usize = offset_of!(GnttabSetupTable, status);
const LIST_STATUS: usize = offset_of!(GnttabGetStatusFrames, status);

/// grant_table_op(cmd, list, count).
pub(super) fn grant_table_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    match args[0] as u32 & COMMAND {
        abi::GNTTABOP_setup_table => setup_table(cx, args),
        abi::GNTTABOP_get_status_frames => status_frames(cx, args),
        abi::GNTTABOP_copy => each::<H, narrow::GnttabCopy>(cx, args),
        abi::GNTTABOP_transfer => each::<H, narrow::GnttabTransfer>(cx, args),
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

/// A structure of a batch, that names frames by words of the caller's.
trait Batched: FromBytes + IntoBytes + Immutable {
    /// Where its status is.
    const STATUS: usize;
    /// Where the wide one has it.
    const WIDE_STATUS: usize;

    /// The same with wide words.
    fn widen(self) -> impl IntoBytes + Immutable;
}

fn side(narrow: narrow::GnttabCopyPtr) -> GnttabCopyPtr {
    GnttabCopyPtr {
        u: narrow.u.into(),
        domid: narrow.domid,
        offset: narrow.offset,
        ..GnttabCopyPtr::default()
    }
}

impl Batched for narrow::GnttabCopy {
    const STATUS: usize = offset_of!(Self, status);
    const WIDE_STATUS: usize = offset_of!(GnttabCopy, status);

    fn widen(self) -> impl IntoBytes + Immutable {
        GnttabCopy {
            source: side(self.source),
            dest: side(self.dest),
            len: self.len,
            flags: self.flags,
            ..GnttabCopy::default()
        }
    }
}

impl Batched for narrow::GnttabTransfer {
    const STATUS: usize = offset_of!(Self, status);
    const WIDE_STATUS: usize = offset_of!(GnttabTransfer, status);

    fn widen(self) -> impl IntoBytes + Immutable {
        GnttabTransfer {
            mfn: self.mfn.into(),
            domid: self.domid,
            r#ref: self.r#ref,
            ..GnttabTransfer::default()
        }
    }
}

/// Makes the elements of a batch one by one; of each only the status is written back. The position is kept in the caller's
/// own arguments.
fn each<H: Host, T: Batched>(cx: &mut AnyCtx<'_, H>, [cmd, mut at, count, ..]: Args) -> Reply {
    let number = nr::__HYPERVISOR_grant_table_op;
    let mut left = count as u32;
    if cmd as u32 > COMMAND || i32::try_from(left).is_err() {
        return Err(Errno::EINVAL);
    }
    while left != 0 {
        let wide = cx.read::<T>(at)?.widen();
        let one = [cmd, at, 1, 0, 0, 0];
        let (outcome, after) = widened(cx, number, one, wide.as_bytes(), None)?;
        match outcome {
            Outcome::Return(_) => {
                cx.write(at + T::STATUS as u64, &word_at(&after, T::WIDE_STATUS))?;
                at += size_of::<T>() as u64;
                left -= 1;
            }
            // It did not come to its turn: that is owed to others, and is made again.
            Outcome::Restart(_) => return Ok(Outcome::Restart([cmd, at, left.into(), 0, 0, 0])),
            other => return Ok(other),
        }
        if left != 0 && cx.host.preempt_pending() {
            return Ok(Outcome::Restart([cmd, at, left.into(), 0, 0, 0]));
        }
    }
    DONE
}

/// Frame numbers are words of the caller's.
fn setup_table<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let narrow: narrow::GnttabSetupTable = cx.read(args[1])?;
    let wide = GnttabSetupTable {
        dom: narrow.dom,
        nr_frames: narrow.nr_frames,
        frame_list: GuestHandle::new(ARRAY),
        ..GnttabSetupTable::default()
    };
    let list = Some(narrow.frame_list);
    single(cx, args, wide.as_bytes(), list, SETUP_STATUS)
}

/// Here frame numbers have 64 bits for any caller.
fn status_frames<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let narrow: narrow::GnttabGetStatusFrames = cx.read(args[1])?;
    let wide = GnttabGetStatusFrames {
        nr_frames: narrow.nr_frames,
        dom: narrow.dom,
        frame_list: GuestHandle::new(narrow.frame_list.into()),
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
