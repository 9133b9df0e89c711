//! grant_table_op of 32-bit callers.

use core::mem::offset_of;

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::grant_table::{
    self as abi, GnttabCopy, GnttabCopyPtr, GnttabGetStatusFrames, GnttabSetupTable, GnttabTransfer,
};
use xen_abi::hypercall as nr;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::overlay::{ARRAY, Structure};
use super::widened;
use crate::hypercall::context::{AnyCtx, Args, DONE, Host, Outcome, Reply};
use crate::hypercall::front;

/// gnttab_setup_table as 32-bit code has it: domain, number of frames, status, list.
type NarrowSetup = [u32; 4];
/// gnttab_get_status_frames likewise: number of frames, domain and status in one word, list.
type NarrowStatusFrames = [u32; 3];

/// One side of gnttab_copy likewise: entry or frame, then domain and offset in one word.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct NarrowSide {
    u: u32,
    domid: u16,
    offset: u16,
}

/// gnttab_copy likewise.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct NarrowCopy {
    source: NarrowSide,
    dest: NarrowSide,
    len: u16,
    flags: u16,
    status: i16,
    _pad: u16,
}

/// gnttab_transfer likewise.
#[repr(C)]
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable)]
struct NarrowTransfer {
    mfn: u32,
    domid: u16,
    _pad0: u16,
    r#ref: u32,
    status: i16,
    _pad1: u16,
}

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
        abi::GNTTABOP_copy => each::<H, NarrowCopy>(cx, args),
        abi::GNTTABOP_transfer => each::<H, NarrowTransfer>(cx, args),
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

impl NarrowSide {
    fn widen(self) -> GnttabCopyPtr {
        GnttabCopyPtr {
            u: self.u.into(),
            domid: self.domid,
            offset: self.offset,
            ..GnttabCopyPtr::default()
        }
    }
}

impl Batched for NarrowCopy {
    const STATUS: usize = offset_of!(Self, status);
    const WIDE_STATUS: usize = offset_of!(GnttabCopy, status);

    fn widen(self) -> impl IntoBytes + Immutable {
        GnttabCopy {
            source: self.source.widen(),
            dest: self.dest.widen(),
            len: self.len,
            flags: self.flags,
            ..GnttabCopy::default()
        }
    }
}

impl Batched for NarrowTransfer {
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
