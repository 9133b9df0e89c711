//! mmu_update, mmuext_op and update_va_mapping: the loops around the page-table logic of `mm`.

use xen_abi::errno::Errno;
use xen_abi::xen::{self as abi, MmuUpdate, MmuextOp};

use super::context::{Args, Ctx, Flush, Host, Outcome, Reply};
use super::translated::foreign;
use crate::base::{DomId, GuestVa, Mfn, PhysAddr};
use crate::domain::{Domain, TableWork};
use crate::mm::entries::{Pages, Whose};
use crate::mm::pins::{self, RootKind};
use crate::mm::pte::{HYPERVISOR_SLOT_FIRST, Level, Pte};
use crate::mm::update::{self, Hold, Keep};
use crate::mm::{PtResult, Refusal, Stop};
use crate::sched::CpuSet;

/// Set in `count` when a preempted batch is made again, as the ABI has it (MMU_UPDATE_PREEMPTED).
const PREEMPTED: u64 = 1 << 31;
/// Most elements looked at between two checks for other work.
const BATCH: u64 = 32;

/// How a loop over a batch ends early.
enum End {
    Error(Errno),
    Restart,
}

impl From<Errno> for End {
    fn from(e: Errno) -> Self {
        Self::Error(e)
    }
}

impl From<Stop> for End {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(Refusal::Invalid) => Self::Error(Errno::EINVAL),
            Stop::Refused(Refusal::Denied) => Self::Error(Errno::EPERM),
            Stop::Refused(Refusal::Busy) => Self::Error(Errno::EBUSY),
            Stop::Restart => Self::Restart,
        }
    }
}

/// Turns the outcome of a batch into a reply: `done` counts all elements done so far, over restarts.
#[inline(always)]
fn finish<H: Host>(cx: &Ctx<'_, H>, end: Result<(), End>, progress: Progress, args: Args) -> Reply {
    // The count of elements done is reported also when one failed.
    // A place that cannot be written does not undo what was done: the outcome is that of the batch.
    let written = if args[2] != 0 {
        cx.host.store_u32(args[2], progress.done as u32)
    } else {
        Ok(())
    };
    match end {
        Ok(()) => Ok(Outcome::Return(0)),
        Err(End::Error(e)) => Err(e),
        Err(End::Restart) => {
            // The position is kept in the guest's own arguments: the list advanced, the rest marked.
            // Here it is needed: the count goes on from it.
            written?;
            Ok(Outcome::Restart([
                progress.next,
                progress.left | PREEMPTED,
                args[2],
                args[3],
                0,
                0,
            ]))
        }
    }
}

/// Where a batch stands.
#[derive(Clone, Copy)]
struct Progress {
    /// Guest address of the next element.
    next: u64,
    /// Elements left.
    left: u64,
    /// Elements done, those before a restart included.
    done: u64,
}

impl Progress {
    #[inline(always)]
    fn start<H: Host>(cx: &Ctx<'_, H>, args: Args) -> Result<Self, Errno> {
        let before = if args[1] & PREEMPTED != 0 && args[2] != 0 {
            u64::from(cx.read::<u32>(args[2])?)
        } else {
            0
        };
        Ok(Self {
            next: args[0],
            // The count has 32 bits in the ABI, of which that one is no part of it.
            left: args[1] & (PREEMPTED - 1),
            done: before,
        })
    }

    fn step<T>(&mut self) {
        self.next = self.next.wrapping_add(size_of::<T>() as u64);
        self.left -= 1;
        self.done += 1;
    }
}

/// The domains of a `foreigndom` argument: low half the owner of the pages, upper half (plus one) that
/// of the tables.
#[inline(always)]
fn whose<H: Host>(cx: &Ctx<'_, H>, foreign: u64) -> Result<Whose, Errno> {
    if foreign == u64::from(abi::DOMID_SELF) {
        return Ok(Whose::own(cx.domain.id));
    }
    whose_of_two(cx, foreign)
}

fn whose_of_two<H: Host>(cx: &Ctx<'_, H>, foreign: u64) -> Result<Whose, Errno> {
    let own = cx.domain.id;
    let tables = match (foreign >> 16) as u16 {
        0 => own,
        n => {
            let target = cx.target(n - 1)?;
            target.id
        }
    };
    let pages = match foreign as u16 {
        abi::DOMID_SELF => Pages::Of(tables),
        id @ (abi::DOMID_IO | abi::DOMID_XEN) => {
            cx.require_control()?;
            if id == abi::DOMID_IO {
                Pages::Io
            } else {
                Pages::Xen
            }
        }
        // A domain is foreign or DOMID_SELF.
        id if id == own => return Err(Errno::ESRCH),
        id => Pages::Of(cx.target(id)?.id),
    };
    Ok(Whose {
        by: own,
        table_owner: tables,
        pages,
    })
}

/// Begins work on the tables of another domain, if `owner` is one.
///
/// # Errors
/// `EINVAL` when it is dying: its end would perhaps not find what is pinned or half done afterwards. `EINVAL` also for
/// one whose frames are translated, whose tables are nothing to us.
fn foreign_work<'d, H: Host>(
    cx: &mut Ctx<'_, H>,
    owner: Option<&'d Domain>,
) -> Result<Option<TableWork<'d>>, End> {
    let Some(owner) = owner else { return Ok(None) };
    let own_tables = owner.translated.is_none();
    match owner.work_on_tables().filter(|_| own_tables) {
        Some(work) => Ok(Some(work)),
        None => {
            cx.state.owed_puts.finish(cx.host)?;
            Err(Errno::EINVAL.into())
        }
    }
}

/// mmu_update(list, count, done, foreigndom).
///
/// # Errors
/// `EINVAL`, `EPERM`, `EBUSY`, `ESRCH`, `EFAULT`, `ENOSYS` for an unknown command; the count of elements done is
/// written in any case.
pub fn mmu_update<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    if args[1] == 1 && args[3] == u64::from(abi::DOMID_SELF) && single_update(cx, args[0]) {
        if args[2] != 0 {
            let _unwritable = cx.host.store_u32(args[2], 1);
        }
        return Ok(Outcome::Return(0));
    }
    batch(cx, args)
}

/// One plain update of the caller's own tables; `false`: the general way is to be taken.
#[inline(always)]
fn single_update<H: Host>(cx: &mut Ctx<'_, H>, at: u64) -> bool {
    let Ok([ptr, val]) = cx.host.load_words(at) else {
        return false;
    };
    let keep = match ptr & 3 {
        abi::MMU_NORMAL_PT_UPDATE => Keep::Nothing,
        abi::MMU_PT_UPDATE_PRESERVE_AD => Keep::AccessedDirty,
        _ => return false,
    };
    let owed = &mut cx.state.owed_puts;
    update::update_own_l1(cx.host, cx.domain.id, PhysAddr(ptr & !3), val, keep, owed)
}

#[inline(never)]
fn batch<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let mut progress = Progress::start(cx, args)?;
    let whose = whose(cx, args[3])?;
    let owner = (whose.table_owner != cx.domain.id).then(|| cx.target(whose.table_owner));
    let owner = owner.transpose()?;
    let _work = match foreign_work(cx, owner.as_deref()) {
        Ok(work) => work,
        Err(why) => return finish(cx, Err(why), progress, args),
    };
    let behind = foreign::behind(cx, &whose)?;
    let names = Names {
        whose,
        behind: behind.as_deref(),
    };
    let mut held = None;
    let mut end = mmu_loop(cx, &names, &mut held, &mut progress);
    if let Err(stop) = update::end_batch(cx.host, &mut held, &mut cx.state.owed_puts)
        && end.is_ok()
        && progress.left != 0
    {
        end = Err(stop.into());
    }
    finish(cx, end, progress, args)
}

/// What the numbers of a batch mean.
struct Names<'a> {
    whose: Whose,
    /// The domain whose guest frames the entries name, where it is translated.
    behind: Option<&'a Domain>,
}

fn mmu_loop<H: Host>(
    cx: &mut Ctx<'_, H>,
    names: &Names<'_>,
    held: &mut Option<Hold>,
    progress: &mut Progress,
) -> Result<(), End> {
    let mut since_check = 0;
    while progress.left != 0 {
        since_check += 1;
        if since_check == BATCH {
            since_check = 0;
            if cx.host.preempt_pending() {
                return Err(End::Restart);
            }
        }
        let [ptr, val] = cx.host.load_words(progress.next)?;
        let request = MmuUpdate { ptr, val };
        one_update(cx, names, held, request)?;
        progress.step::<MmuUpdate>();
    }
    Ok(())
}

#[inline]
fn one_update<H: Host>(
    cx: &mut Ctx<'_, H>,
    names: &Names<'_>,
    held: &mut Option<Hold>,
    request: MmuUpdate,
) -> Result<(), End> {
    let at = PhysAddr(request.ptr & !7);
    let command = request.ptr & 7;
    let keep = match command {
        abi::MMU_NORMAL_PT_UPDATE | abi::MMU_PT_UPDATE_NO_TRANSLATE => Keep::Nothing,
        abi::MMU_PT_UPDATE_PRESERVE_AD => Keep::AccessedDirty,
        abi::MMU_MACHPHYS_UPDATE => return machphys_update(cx, names, at.mfn(), request.val),
        _ => return Err(Errno::ENOSYS.into()),
    };
    let owed = &mut cx.state.owed_puts;
    if let Some(domain) = names.behind
        && command != abi::MMU_PT_UPDATE_NO_TRANSLATE
        && foreign::is_l1(cx.host, at.mfn())
    {
        let (entry, _held) = foreign::entry(domain, Pte(request.val))?;
        let done = update::mmu_update(cx.host, &names.whose, held, at, entry.0, keep, owed);
        return Ok(done?);
    }
    let val = request.val;
    let done = update::mmu_update(cx.host, &names.whose, held, at, val, keep, owed);
    Ok(done?)
}

fn machphys_update<H: Host>(
    cx: &Ctx<'_, H>,
    names: &Names<'_>,
    mfn: Mfn,
    gfn: u64,
) -> Result<(), End> {
    // Of a domain whose frames we translate, the table says what we have put there.
    let Pages::Of(owner) = names.whose.pages else {
        return Err(Errno::EINVAL.into());
    };
    if names.behind.is_some() {
        return Err(Errno::EINVAL.into());
    }
    update::check_m2p_update(cx.host, mfn, owner)?;
    cx.domain.machine.set_m2p(mfn, gfn);
    update::end_m2p_update(cx.host, mfn);
    Ok(())
}

/// update_va_mapping(va, value, flags).
///
/// # Errors
/// `EINVAL`, `EPERM`, `EBUSY`; `EFAULT` for a bad set of vCPUs.
pub fn update_va_mapping<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    va_mapping(cx, args, Whose::own(cx.domain.id))
}

/// update_va_mapping_otherdomain(va, value, flags, domid): maps a page of another domain.
///
/// # Errors
/// As `update_va_mapping`; `ESRCH`.
pub fn update_va_mapping_otherdomain<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let whose = whose(cx, args[3] & 0xffff)?;
    va_mapping(cx, args, whose)
}

fn va_mapping<H: Host>(cx: &mut Ctx<'_, H>, args: Args, whose: Whose) -> Reply {
    let (va, value, flags) = (args[0], args[1], args[2]);
    let root = cx.state.roots.kernel.ok_or(Errno::EINVAL)?;
    let behind = foreign::behind(cx, &whose)?;
    let (entry, held) = match &behind {
        Some(domain) => foreign::entry(domain, Pte(value))?,
        None => (Pte(value), None),
    };
    let updated = update::update_va_mapping(
        cx.host,
        &whose,
        root,
        GuestVa(va),
        entry.0,
        &mut cx.state.owed_puts,
    );
    drop(held);
    match updated.map_err(End::from) {
        Ok(()) => {}
        Err(End::Restart) => return Ok(Outcome::Restart(args)),
        Err(End::Error(e)) => return Err(e),
    }
    let what = match flags & abi::UVMF_FLUSHTYPE_MASK {
        abi::UVMF_TLB_FLUSH => Flush::All,
        abi::UVMF_INVLPG => Flush::Page(va),
        _ => return Ok(Outcome::Return(0)),
    };
    match flags & !abi::UVMF_FLUSHTYPE_MASK {
        abi::UVMF_LOCAL => cx.host.flush_here(what),
        abi::UVMF_ALL => cx.host.flush_on(&CpuSet::ALL, cx.domain, what),
        pointer => {
            let cpus = vcpu_mask(cx, pointer)?;
            cx.host.flush_on(&cpus, cx.domain, what);
        }
    }
    Ok(Outcome::Return(0))
}

/// The CPUs on which the vCPUs of a bitmap in the guest run or ran last.
fn vcpu_mask<H: Host>(cx: &Ctx<'_, H>, at: u64) -> Result<CpuSet, Errno> {
    let mut cpus = CpuSet::EMPTY;
    let mut word = 0u8;
    for vcpu in cx.domain.vcpus() {
        if vcpu.id % 8 == 0 {
            word = cx.read(
                at.checked_add(u64::from(vcpu.id / 8))
                    .ok_or(Errno::EFAULT)?,
            )?;
        }
        if word & (1 << (vcpu.id % 8)) != 0 {
            cpus.insert(vcpu.cpu());
        }
    }
    Ok(cpus)
}

/// mmuext_op(list, count, done, foreigndom).
///
/// # Errors
/// As `mmu_update`; `ENOSYS` for an unknown command.
pub fn mmuext_op<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let mut progress = Progress::start(cx, args)?;
    let own = cx.domain.id;
    // The registry's reference keeps a foreign domain while this works on its frames.
    let (target, owner) = match args[3] as u16 {
        abi::DOMID_SELF => (own, None),
        // No tables are ever theirs: what names one of these is refused below.
        id @ (abi::DOMID_IO | abi::DOMID_XEN) => {
            cx.require_control()?;
            (id, None)
        }
        id if id == own => return Err(Errno::ESRCH),
        id => (id, Some(cx.target(id)?)),
    };
    let _work = match foreign_work(cx, owner.as_deref()) {
        Ok(work) => work,
        Err(why) => return finish(cx, Err(why), progress, args),
    };
    let end = mmuext_loop(cx, target, &mut progress);
    finish(cx, end, progress, args)
}

fn mmuext_loop<H: Host>(
    cx: &mut Ctx<'_, H>,
    target: DomId,
    progress: &mut Progress,
) -> Result<(), End> {
    while progress.left != 0 {
        let [cmd, arg1, arg2] = cx.host.load_words(progress.next)?;
        let op = MmuextOp {
            cmd: cmd as u32,
            arg1,
            arg2,
            ..MmuextOp::default()
        };
        one_ext(cx, target, &op)?;
        progress.step::<MmuextOp>();
        if progress.left != 0 && cx.host.preempt_pending() {
            return Err(End::Restart);
        }
    }
    Ok(())
}

fn one_ext<H: Host>(cx: &mut Ctx<'_, H>, target: DomId, op: &MmuextOp) -> Result<(), End> {
    let (mfn, address) = (Mfn(op.arg1), op.arg1);
    match op.cmd {
        abi::MMUEXT_PIN_L1_TABLE => pin(cx, target, mfn, Level::L1),
        abi::MMUEXT_PIN_L2_TABLE => pin(cx, target, mfn, Level::L2),
        abi::MMUEXT_PIN_L3_TABLE => pin(cx, target, mfn, Level::L3),
        abi::MMUEXT_PIN_L4_TABLE => pin(cx, target, mfn, Level::L4),
        abi::MMUEXT_UNPIN_TABLE => Ok(pins::unpin(cx.host, target, mfn, &mut cx.state.owed_puts)?),
        abi::MMUEXT_CLEAR_PAGE => page_op(cx, target, mfn, None),
        abi::MMUEXT_COPY_PAGE => page_op(cx, target, mfn, Some(Mfn(op.arg2))),
        // What follows is about the caller itself.
        _ if target != cx.domain.id => Err(Errno::EPERM.into()),
        abi::MMUEXT_NEW_BASEPTR => new_base(cx, RootKind::Kernel, Some(mfn)),
        abi::MMUEXT_NEW_USER_BASEPTR => new_base(cx, RootKind::User, (mfn.0 != 0).then_some(mfn)),
        abi::MMUEXT_TLB_FLUSH_LOCAL => {
            cx.host.flush_here(Flush::All);
            Ok(())
        }
        abi::MMUEXT_INVLPG_LOCAL => {
            cx.host.flush_here(page(address));
            Ok(())
        }
        abi::MMUEXT_TLB_FLUSH_MULTI => flush_vcpus(cx, op.arg2, Flush::All),
        abi::MMUEXT_INVLPG_MULTI => flush_vcpus(cx, op.arg2, page(address)),
        abi::MMUEXT_TLB_FLUSH_ALL => {
            cx.host.flush_on(&CpuSet::ALL, cx.domain, Flush::All);
            Ok(())
        }
        abi::MMUEXT_INVLPG_ALL => {
            cx.host.flush_on(&CpuSet::ALL, cx.domain, page(address));
            Ok(())
        }
        abi::MMUEXT_FLUSH_CACHE | abi::MMUEXT_FLUSH_CACHE_GLOBAL => flush_cache(cx),
        abi::MMUEXT_SET_LDT => super::descriptors::set_ldt(cx, address, op.arg2).map_err(End::from),
        abi::MMUEXT_MARK_SUPER | abi::MMUEXT_UNMARK_SUPER => Err(Errno::EOPNOTSUPP.into()),
        _ => Err(Errno::ENOSYS.into()),
    }
}

/// An address of ours is flushed as if it were nothing: the guest has no mapping there.
fn page(va: u64) -> Flush {
    Flush::Page(va)
}

fn pin<H: Host>(cx: &mut Ctx<'_, H>, target: DomId, mfn: Mfn, level: Level) -> Result<(), End> {
    let owed = &mut cx.state.owed_puts;
    Ok(pins::pin(cx.host, target, mfn, level, owed)?)
}

/// Replaces a root; CR3 leaves the old one before its reference goes.
///
/// # Errors
/// As the page-table logic says.
pub fn set_root<H: Host>(cx: &mut Ctx<'_, H>, kind: RootKind, root: Option<Mfn>) -> PtResult {
    let state = &mut *cx.state;
    let old = pins::set_base(
        cx.host,
        cx.domain.id,
        &mut state.roots,
        kind,
        root,
        &mut state.owed_puts,
    )?;
    if let Some(root) = root {
        show_m2p(cx.host, cx.domain, kind, root);
    }
    if kind == RootKind::Kernel {
        super::descriptors::forget_ldt(cx);
        // User mappings may be global: those of the old address space must go.
        cx.host.load_space(cx.state);
    }
    if let Some(old) = old
        && let Err(stop) = pins::drop_root(cx.host, old, &mut cx.state.owed_puts)
    {
        // The rest is owed; the root itself is in place, so this is not made again.
        debug_assert_eq!(stop, Stop::Restart);
    }
    Ok(())
}

/// Shows the machine-to-physical table to kernels: a root has it from when it is first one of a kernel, and loses it
/// when it becomes one of user programs if the domain asked for that (xen.h, `VMASST_TYPE_m2p_strict`). A reference
/// holds the root, and nobody else writes this slot.
pub fn show_m2p<H: Host>(host: &H, domain: &Domain, kind: RootKind, root: Mfn) {
    let entry = match kind {
        RootKind::Kernel => host.hypervisor_slots(domain.id)[0],
        RootKind::User if domain.has_assist(abi::VMASST_TYPE_m2p_strict) => 0,
        RootKind::User => return,
    };
    host.table(root)[HYPERVISOR_SLOT_FIRST].store(entry, core::sync::atomic::Ordering::Relaxed);
}

fn new_base<H: Host>(cx: &mut Ctx<'_, H>, kind: RootKind, root: Option<Mfn>) -> Result<(), End> {
    Ok(set_root(cx, kind, root)?)
}

fn flush_vcpus<H: Host>(cx: &Ctx<'_, H>, mask: u64, what: Flush) -> Result<(), End> {
    // Unlike in update_va_mapping, a set that cannot be read is an argument like any other.
    let cpus = vcpu_mask(cx, mask).map_err(|_| Errno::EINVAL)?;
    cx.host.flush_on(&cpus, cx.domain, what);
    Ok(())
}

fn flush_cache<H: Host>(cx: &Ctx<'_, H>) -> Result<(), End> {
    cx.require_control()?;
    cx.host.write_back_caches();
    Ok(())
}

/// Clears a page of the caller's, or copies another one into it.
fn page_op<H: Host>(cx: &Ctx<'_, H>, owner: DomId, to: Mfn, from: Option<Mfn>) -> Result<(), End> {
    use core::sync::atomic::Ordering::Relaxed;
    let machine = cx.domain.machine;
    if let Some(from) = from {
        update::check_m2p_update(cx.host, from, owner)?;
    }
    let taken = machine.take_writable(to, owner);
    if taken.is_ok() {
        let target = machine.words(to);
        match from {
            None => target.iter().for_each(|w| w.store(0, Relaxed)),
            Some(from) => target
                .iter()
                .zip(machine.words(from))
                .for_each(|(t, f)| t.store(f.load(Relaxed), Relaxed)),
        }
        machine.drop_writable(to);
    }
    if let Some(from) = from {
        update::end_m2p_update(cx.host, from);
    }
    Ok(taken?)
}
