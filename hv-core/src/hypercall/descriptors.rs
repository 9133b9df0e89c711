//! The guest's trap table, GDT and LDT.

use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{
    FIRST_RESERVED_GDT_ENTRY, HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, TrapInfo,
};
use xen_abi::errno::Errno;

use super::context::{Args, Ctx, DONE, Host, Outcome, Reply};
use crate::base::{GuestVa, Mfn, PAGE_SIZE, PhysAddr};
use crate::mm::descriptors::check_descriptor;
use crate::mm::pte::Pte;
use crate::mm::refs::get_page_and_type;
use crate::mm::types::{PageType, Reach};
use crate::mm::{Stop, update};
use crate::pv::state::{GDT_PAGES, LDT_PAGES, TrapEntry};

/// Descriptors in a page.
const PER_PAGE: u32 = (PAGE_SIZE / 8) as u32;
/// Most entries of an LDT.
const MAX_LDT: u64 = 8192;

/// set_trap_table(list): handlers by vector, ended by an entry without address; without a list all go.
///
/// # Errors
/// `EINVAL` for an address that is not canonical, `EFAULT`.
pub fn set_trap_table<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    if args[0] == 0 {
        cx.state.traps.fill(TrapEntry::default());
        return DONE;
    }
    // There is an end to a table without an end: each vector twice.
    for index in 0..512 {
        let at = cx.element::<TrapInfo>(args[0], index)?;
        let info: TrapInfo = cx.read(at)?;
        if info.address == 0 {
            return DONE;
        }
        if !GuestVa(info.address).is_canonical() {
            return Err(Errno::EINVAL);
        }
        cx.state.traps[info.vector as usize] = TrapEntry {
            address: info.address,
            cs: info.cs,
            flags: info.flags,
        };
    }
    DONE
}

/// set_gdt(frames, entries).
///
/// # Errors
/// `EINVAL` for too many entries or a frame that cannot be a descriptor page, `EFAULT`.
pub fn set_gdt<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let entries = u32::try_from(args[1])
        .ok()
        .filter(|n| *n <= FIRST_RESERVED_GDT_ENTRY)
        .ok_or(Errno::EINVAL)?;
    let count = entries.div_ceil(PER_PAGE) as usize;
    let mut frames = [0u64; GDT_PAGES];
    cx.host.copy_in(
        zerocopy::IntoBytes::as_mut_bytes(&mut frames[..count]),
        args[0],
    )?;
    match hold_gdt(cx, &frames[..count])? {
        Some(new) => {
            release_gdt(cx);
            cx.state.gdt_frames = new;
            cx.state.gdt_entries = entries;
            cx.host.load_gdt(cx.state);
            DONE
        }
        None => Ok(Outcome::Restart(args)),
    }
}

/// Takes all frames as descriptor pages; `None` when that was interrupted and must be tried again.
///
/// # Errors
/// `EINVAL`.
pub fn hold_gdt<H: Host>(
    cx: &mut Ctx<'_, H>,
    frames: &[u64],
) -> Result<Option<[Option<Mfn>; GDT_PAGES]>, Errno> {
    let mut held = [None; GDT_PAGES];
    for (slot, &frame) in held.iter_mut().zip(frames) {
        match get_page_and_type(
            cx.host,
            Mfn(frame),
            cx.domain.id,
            PageType::SegDesc,
            Reach::Owner,
        ) {
            Ok(()) => *slot = Some(Mfn(frame)),
            Err(stop) => {
                for mfn in held.into_iter().flatten() {
                    let _owed = cx.state.owed_puts.put(cx.host, mfn);
                }
                return if stop == Stop::Restart {
                    Ok(None)
                } else {
                    Err(Errno::EINVAL)
                };
            }
        }
    }
    Ok(Some(held))
}

fn release_gdt<H: Host>(cx: &mut Ctx<'_, H>) {
    let old = core::mem::replace(&mut cx.state.gdt_frames, [None; GDT_PAGES]);
    cx.state.gdt_entries = 0;
    // The window must not show a frame that is no descriptor page any more.
    cx.host.load_gdt(cx.state);
    for mfn in old.into_iter().flatten() {
        // What is interrupted here is kept on the list of owed puts and finished before the next use.
        let _owed = cx.state.owed_puts.put(cx.host, mfn);
    }
}

/// update_descriptor(machine address, descriptor): writes one entry of a GDT or LDT page.
///
/// # Errors
/// `EINVAL` for a descriptor that a guest may not have or a page that is not its own.
pub fn update_descriptor<H: Host>(cx: &mut Ctx<'_, H>, args: Args) -> Reply {
    let at = PhysAddr(args[0]);
    if !at.0.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let value = check_descriptor(args[1]).map_err(|why| {
        log::debug!("d{}: update_descriptor: {why}", cx.domain.id);
        Errno::EINVAL
    })?;
    let mfn = at.mfn();
    let machine = cx.domain.machine;
    let store = || machine.words(mfn)[at.offset() / 8].store(value, Ordering::SeqCst);
    match get_page_and_type(cx.host, mfn, cx.domain.id, PageType::SegDesc, Reach::Owner) {
        Ok(()) => {
            store();
            let _owed = cx.state.owed_puts.put(cx.host, mfn);
        }
        Err(Stop::Restart) => return Ok(Outcome::Restart(args)),
        Err(Stop::Refused(_)) => {
            // Not (yet) a descriptor page: an ordinary write.
            machine.take_writable(mfn, cx.domain.id)?;
            store();
            machine.drop_writable(mfn);
        }
    }
    DONE
}

/// MMUEXT_SET_LDT(address, entries): pages are mapped when they are first used.
///
/// # Errors
/// `EINVAL`.
pub fn set_ldt<H: Host>(cx: &mut Ctx<'_, H>, address: u64, entries: u64) -> Result<(), Errno> {
    // Only the low half is the count: the upper is padding of the caller.
    let entries = entries & 0xffff_ffff;
    if entries > MAX_LDT
        || !address.is_multiple_of(PAGE_SIZE as u64)
        || !GuestVa(address).is_canonical()
        || (HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END).contains(&address)
    {
        return Err(Errno::EINVAL);
    }
    if (cx.state.ldt_base, u64::from(cx.state.ldt_entries)) != (address, entries) {
        forget_ldt(cx);
        cx.state.ldt_base = address;
        cx.state.ldt_entries = entries as u32;
        cx.host.load_ldt(cx.state);
    }
    Ok(())
}

/// Unmaps the LDT pages that were mapped; they come back when used.
pub fn forget_ldt<H: Host>(cx: &mut Ctx<'_, H>) {
    if cx.state.ldt_frames.iter().all(Option::is_none) {
        return;
    }
    let old = core::mem::replace(&mut cx.state.ldt_frames, [None; LDT_PAGES]);
    cx.host.load_ldt(cx.state);
    for mfn in old.into_iter().flatten() {
        let _owed = cx.state.owed_puts.put(cx.host, mfn);
    }
}

/// Maps the LDT page at byte `offset`, after a segment load missed it; `false` when the guest has no
/// such page, and gets the fault itself.
pub fn map_ldt_page<H: Host>(cx: &mut Ctx<'_, H>, offset: u64) -> bool {
    let page = offset as usize / PAGE_SIZE;
    if offset >= u64::from(cx.state.ldt_entries) * 8 || page >= LDT_PAGES {
        return false;
    }
    if cx.state.ldt_frames[page].is_some() {
        return false;
    }
    let Some(root) = cx.state.roots.kernel else {
        return false;
    };
    let va = GuestVa(cx.state.ldt_base.wrapping_add((page * PAGE_SIZE) as u64));
    let Some(mfn) = update::look_up(cx.host, cx.domain.id, root, va).map(Pte::mfn) else {
        return false;
    };
    // Restart as well: the guest runs into the same fault again.
    match get_page_and_type(cx.host, mfn, cx.domain.id, PageType::SegDesc, Reach::Owner) {
        Ok(()) => {
            cx.state.ldt_frames[page] = Some(mfn);
            cx.host.load_ldt(cx.state);
            true
        }
        Err(Stop::Restart) => true,
        Err(Stop::Refused(_)) => false,
    }
}
