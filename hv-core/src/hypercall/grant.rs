//! grant_table_op: batches of grant operations (xen/grant_table.h). Each element is decided by
//! `grants`; this copies arguments and results, and bounds how long a batch runs.

use alloc::sync::Arc;
use core::cell::RefCell;
use core::mem::offset_of;
use core::sync::atomic::Ordering;

use arrayvec::ArrayVec;
use xen_abi::arch_x86::HYPERVISOR_VIRT_END;
use xen_abi::errno::Errno;
use xen_abi::grant_table as abi;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{FromBytes, Immutable, IntoBytes, transmute};

use super::context::{AnyCtx, Args, DONE, Flush, Host, Outcome, Reply};
use super::grant_host::Caller;
use super::memory::charge;
use crate::base::{DomId, Mfn, PhysAddr};
use crate::domain::translated::After;
use crate::domain::{Domain, Family, Removed};
use crate::grants::copy::{Copies, CopyRequest};
use crate::grants::map::{map_grant_ref, prepare_unmap};
use crate::grants::status::code;
use crate::grants::{
    FrameKind, GrantError, GrantHandle, MapRequest, PendingUnmap, UnmapRequest, Version, cache,
};
use crate::sched::CpuSet;

/// Bits of the command that are the command; above stands where a cache flush goes on.
const COMMAND: u32 = 0xfff;
/// First address above the low canonical half.
const LOW_END: u64 = 1 << 47;
/// Unmappings that share one TLB flush.
const UNMAPS: usize = 16;
/// A request to copy: its bytes, its words, and where its status stands, which is half a word with nothing behind it.
const COPY_SIZE: u64 = size_of::<abi::GnttabCopy>() as u64;
const COPY_WORDS: usize = size_of::<abi::GnttabCopy>() / 8;
const COPY_STATUS: u64 = offset_of!(abi::GnttabCopy, status) as u64;

/// grant_table_op(cmd, list, count).
///
/// # Errors
/// `EINVAL` for a count that makes no sense, `EFAULT`, `EOPNOTSUPP` for what is not implemented,
/// `ENOSYS` for an unknown command. What becomes of an element is in its status.
pub fn grant_table_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    // What is owed of page tables comes before anything else with them.
    if cx.state.owed_puts().finish(cx.host).is_err() {
        return Ok(Outcome::Restart(args));
    }
    let (cmd, from) = (
        args[0] as u32 & COMMAND,
        args[0] as u32 >> COMMAND.count_ones(),
    );
    let count = args[2] as u32;
    if i32::try_from(count).is_err() || (from != 0 && cmd != abi::GNTTABOP_cache_flush) {
        return Err(Errno::EINVAL);
    }
    let args = [args[0], args[1], count.into(), 0, 0, 0];
    match cmd {
        abi::GNTTABOP_map_grant_ref => each(cx, args, map),
        abi::GNTTABOP_unmap_grant_ref => unmap::<H, abi::GnttabUnmapGrantRef>(cx, args),
        abi::GNTTABOP_unmap_and_replace => unmap::<H, abi::GnttabUnmapAndReplace>(cx, args),
        abi::GNTTABOP_transfer => each(cx, args, transfer),
        abi::GNTTABOP_copy => copy(cx, args),
        abi::GNTTABOP_swap_grant_ref => each(cx, args, swap),
        abi::GNTTABOP_query_size => single(cx, args, query_size),
        abi::GNTTABOP_get_version => single(cx, args, get_version),
        abi::GNTTABOP_setup_table => single(cx, args, setup_table),
        abi::GNTTABOP_get_status_frames => single(cx, args, status_frames),
        abi::GNTTABOP_set_version => set_version(cx, args),
        abi::GNTTABOP_cache_flush => flush_cache(cx, args, from),
        // Dumping a table is in the ABI, but was never made by anybody.
        _ => Err(Errno::ENOSYS),
    }
}

/// An argument of the ABI, as plain bytes.
trait Element: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Element for T {}

/// Runs over a batch; the position is kept in the guest's own arguments.
fn each<H: Host, T: Element>(
    cx: &mut AnyCtx<'_, H>,
    [cmd, mut at, mut left, ..]: Args,
    mut work: impl FnMut(&mut AnyCtx<'_, H>, &mut T),
) -> Reply {
    let mut op = T::new_zeroed();
    while left != 0 {
        cx.read_here(&mut op, at)?;
        work(cx, &mut op);
        cx.write_here(at, &op)?;
        at = cx.element::<T>(at, 1)?;
        left -= 1;
        let owing = cx.state.owed_puts().finish(cx.host).is_err();
        if left != 0 && (owing || cx.host.preempt_pending()) {
            return Ok(Outcome::Restart([cmd, at, left, 0, 0, 0]));
        }
    }
    DONE
}

/// Runs an operation that is made for one element only.
fn single<H: Host, T: Element>(
    cx: &mut AnyCtx<'_, H>,
    args: Args,
    work: fn(&mut AnyCtx<'_, H>, &mut T) -> Result<(), Errno>,
) -> Reply {
    if args[2] != 1 {
        return Err(Errno::EINVAL);
    }
    let mut op: T = cx.read(args[1])?;
    work(cx, &mut op)?;
    cx.write(args[1], &op)?;
    DONE
}

fn map<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut abi::GnttabMapGrantRef) {
    let result = map_grant_ref(&Caller::new(cx), &MapRequest::from(&*op));
    op.status = code(&result);
    if let Ok(mapped) = result {
        op.handle = mapped.handle;
        op.dev_bus_addr = mapped.dev_bus_addr;
    }
}

/// Gives a page of the caller's away, to a domain that accepts it at one of its entries. Whatever comes of it, the page is
/// the caller's no longer, unless it was none that it could give (grant_table.h).
fn transfer<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut abi::GnttabTransfer) {
    // Nothing gives pages away by guest frames any more.
    if cx.domain.translated.is_some() {
        let (family, number) = (Family::Grant, abi::GNTTABOP_transfer);
        let name = "grant_table_op transfer by a domain whose frames are translated";
        cx.hv.note_missing_once(cx.domain.id, family, number, name);
        op.status = GrantError::General.code();
        return;
    }
    let (machine, mfn) = (cx.domain.machine, Mfn(op.mfn));
    // A page that is used by anything, a mapping for one, cannot be taken from its owner.
    if machine.steal(mfn, &cx.domain.holdings).is_err() {
        op.status = GrantError::BadPage.code();
        return;
    }
    cx.domain.pages.fetch_sub(1, Ordering::Relaxed);
    machine.set_m2p(mfn, u64::MAX);
    let given = give(cx, op, mfn);
    if given.is_err() {
        machine.free_page(mfn);
    }
    op.status = code(&given);
}

/// Gives a page that is nobody's to who accepts it.
fn give<H: Host>(cx: &AnyCtx<'_, H>, op: &abi::GnttabTransfer, mfn: Mfn) -> Result<(), GrantError> {
    let to = cx.hv.domain(op.domid).ok_or(GrantError::BadDomain)?;
    if to.translated.is_some() {
        return Err(GrantError::General);
    }
    charge(&to, 1).map_err(|_| GrantError::General)?;
    let accepted = to.grants.commit_transfer(op.r#ref, cx.domain.id);
    let given = accepted.and_then(|()| {
        let assigned = to.machine.assign(mfn, &to.holdings);
        assigned.map_err(|_| GrantError::General)
    });
    match given {
        Ok(()) => to.grants.complete_transfer(op.r#ref, mfn),
        Err(_) => drop(to.pages.fetch_sub(1, Ordering::Relaxed)),
    }
    given
}

fn copy<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let host = cx.host;
    let caller = Caller::new(cx);
    let mut copies = Copies::default();
    let reply = copy_list(host, &caller, &mut copies, args);
    copies.finish(&caller);
    reply
}

/// As [`each`], for what must be fast: of a request only the status is written back, and a copy owes nothing.
#[inline(always)]
fn copy_list<H: Host>(
    host: &H,
    caller: &Caller<'_, H>,
    copies: &mut Copies<Arc<Domain>>,
    [cmd, mut at, mut left, ..]: Args,
) -> Reply {
    while left != 0 {
        let next = at.checked_add(COPY_SIZE).ok_or(Errno::EFAULT)?;
        let op: abi::GnttabCopy = transmute!(host.load_words::<COPY_WORDS>(at)?);
        let request = CopyRequest::try_from(&op);
        let done = request.and_then(|request| copies.copy(caller, &request));
        let padding = u32::from(u16::from_le_bytes(op._pad0));
        let status = u32::from(code(&done) as u16);
        host.store_u32(at + COPY_STATUS, padding << 16 | status)?;
        at = next;
        left -= 1;
        if left != 0 && host.preempt_pending() {
            return Ok(Outcome::Restart([cmd, at, left, 0, 0, 0]));
        }
    }
    DONE
}

fn swap<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut abi::GnttabSwapGrantRef) {
    op.status = code(&cx.domain.grants.swap(op.ref_a, op.ref_b));
}

/// The two forms of unmapping.
trait UnmapOp: Element {
    fn request(&self) -> UnmapRequest;
    fn set_status(&mut self, status: i16);
}

impl UnmapOp for abi::GnttabUnmapGrantRef {
    fn request(&self) -> UnmapRequest {
        UnmapRequest::from(self)
    }

    fn set_status(&mut self, status: i16) {
        self.status = status;
    }
}

impl UnmapOp for abi::GnttabUnmapAndReplace {
    fn request(&self) -> UnmapRequest {
        UnmapRequest::from(self)
    }

    fn set_status(&mut self, status: i16) {
        self.status = status;
    }
}

/// Unmaps in groups: remove the entries, flush once, let go of the pages, report.
fn unmap<H: Host, T: UnmapOp>(cx: &mut AnyCtx<'_, H>, [cmd, mut at, mut left, ..]: Args) -> Reply {
    while left != 0 {
        let size = left.min(UNMAPS as u64);
        let mut ops: ArrayVec<T, UNMAPS> = ArrayVec::new();
        ops.extend(core::iter::repeat_with(T::new_zeroed).take(size as usize));
        cx.read_into(&mut ops[..], at)?;
        let done = unmap_group(cx, &mut ops);
        cx.write(at, &ops[..done])?;
        at = cx.element::<T>(at, done as u64)?;
        left -= done as u64;
        if left != 0 && (!cx.state.owed_puts().is_empty() || cx.host.preempt_pending()) {
            return Ok(Outcome::Restart([cmd, at, left, 0, 0, 0]));
        }
    }
    DONE
}

/// Unmaps a group; returns how many elements were dealt with, at least one.
fn unmap_group<H: Host, T: UnmapOp>(cx: &mut AnyCtx<'_, H>, ops: &mut [T]) -> usize {
    let mut pending: ArrayVec<PendingUnmap<Arc<Domain>>, UNMAPS> = ArrayVec::new();
    let removed = RefCell::new(Removed::new());
    let mut done = 0;
    for op in ops {
        let result = prepare_unmap(&Caller::collecting(cx, &removed), &op.request());
        op.set_status(code(&result));
        if let Ok(unmap) = result {
            pending.push(unmap);
        }
        done += 1;
        if cx.state.owed_puts().finish(cx.host).is_err() {
            break;
        }
    }
    if cx.domain.translated.is_some() {
        cx.domain.settle_map(&mut removed.borrow_mut(), After::Keep);
    } else if pending.iter().any(PendingUnmap::needs_flush) {
        cx.host.flush_on(&CpuSet::ALL, cx.domain, Flush::All);
    }
    let caller = Caller::new(cx);
    while let Some(unmap) = pending.pop() {
        unmap.finish(&caller);
    }
    done
}

/// The domain whose table is meant, with the status that tells why it cannot be.
fn table_of<H: Host>(cx: &AnyCtx<'_, H>, id: DomId) -> Result<Arc<Domain>, GrantError> {
    if id == DOMID_SELF {
        return Ok(cx.domain.clone());
    }
    cx.target(id).map_err(|e| match e {
        Errno::EPERM => GrantError::PermissionDenied,
        _ => GrantError::BadDomain,
    })
}

fn query_size<H: Host>(cx: &mut AnyCtx<'_, H>, op: &mut abi::GnttabQuerySize) -> Result<(), Errno> {
    let found = table_of(cx, op.dom).map(|d| d.grants.query_size());
    op.status = code(&found);
    if let Ok(size) = found {
        op.nr_frames = size.frames;
        op.max_nr_frames = size.max_frames;
    }
    Ok(())
}

fn get_version<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    op: &mut abi::GnttabGetVersion,
) -> Result<(), Errno> {
    // This operation alone has no status: errors are the call's.
    op.version = cx.target(op.dom)?.grants.version().number();
    Ok(())
}

fn setup_table<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    op: &mut abi::GnttabSetupTable,
) -> Result<(), Errno> {
    let grown = table_of(cx, op.dom).and_then(|domain| {
        domain
            .grants
            .setup_table(op.nr_frames, &domain.grant_pool())?;
        Ok(domain)
    });
    op.status = code(&grown);
    let Ok(domain) = grown else { return Ok(()) };
    let list = op.frame_list.address();
    if list_frames(cx, &domain, FrameKind::Shared, op.nr_frames, list)? == Listed::NotWritable {
        op.status = GrantError::BadVirtAddr.code();
    }
    Ok(())
}

fn status_frames<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    op: &mut abi::GnttabGetStatusFrames,
) -> Result<(), Errno> {
    let checked = table_of(cx, op.dom).and_then(|domain| {
        domain.grants.check_status_frames(op.nr_frames)?;
        Ok(domain)
    });
    op.status = code(&checked);
    let Ok(domain) = checked else { return Ok(()) };
    let list = op.frame_list.address();
    if list_frames(cx, &domain, FrameKind::Status, op.nr_frames, list)? == Listed::NotWritable {
        op.status = GrantError::BadVirtAddr.code();
    }
    Ok(())
}

/// What became of a list.
#[derive(PartialEq, Eq)]
enum Listed {
    Written,
    /// The guest has nothing mapped writable there: for the status of the operation.
    NotWritable,
}

/// Writes frame numbers, as their domain has them. Their count was checked against the size of the table.
///
/// Errors: `EFAULT` for a list at addresses that cannot be the guest's.
fn list_frames<H: Host>(
    cx: &AnyCtx<'_, H>,
    domain: &Domain,
    kind: FrameKind,
    count: u32,
    list: u64,
) -> Result<Listed, Errno> {
    if cx.domain.translated.is_none() && (LOW_END..HYPERVISOR_VIRT_END).contains(&list) {
        return Err(Errno::EFAULT);
    }
    for index in 0..count {
        let frame = domain.grants.frame(kind, index).ok_or(Errno::EINVAL)?;
        let at = cx.element::<u64>(list, index.into());
        let number = domain.own_number(frame);
        if at.and_then(|at| cx.write(at, &number)).is_err() {
            return Ok(Listed::NotWritable);
        }
    }
    Ok(Listed::Written)
}

/// Reports the version in effect also when it could not be changed.
fn set_version<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    if args[2] != 1 {
        return Err(Errno::EINVAL);
    }
    let mut op: abi::GnttabSetVersion = cx.read(args[1])?;
    let wanted = op.version;
    let changed = cx
        .domain
        .grants
        .set_version(wanted, &cx.domain.grant_pool());
    op.version = Version::number(cx.domain.grants.version());
    cx.write(args[1], &op)?;
    changed?;
    DONE
}

/// Caches are coherent with devices on x86: the lines of the page are written back, which is all that both operations
/// ask for.
fn flush_cache<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    [_, mut at, mut left, ..]: Args,
    mut from: GrantHandle,
) -> Reply {
    let command = u64::from(abi::GNTTABOP_cache_flush);
    while left != 0 {
        let op: abi::GnttabCacheFlush = cx.read(at)?;
        let flushed = cache::flush_cache(&Caller::new(cx), &op, from).map_err(|e| match e {
            Errno::EPERM if cx.host.frame(PhysAddr(op.a).mfn()).is_none() => Errno::EINVAL,
            e => e,
        });
        match flushed? {
            cache::Flush::Done => {}
            cache::Flush::Later(handle) => {
                let command = command | u64::from(handle) << COMMAND.count_ones();
                return Ok(Outcome::Restart([command, at, left, 0, 0, 0]));
            }
        }
        from = 0;
        at = cx.element::<abi::GnttabCacheFlush>(at, 1)?;
        left -= 1;
        if left != 0 && cx.host.preempt_pending() {
            return Ok(Outcome::Restart([command, at, left, 0, 0, 0]));
        }
    }
    DONE
}
