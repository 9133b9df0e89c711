//! memory_op: how domains get and give pages (xen/memory.h).

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use xen_abi::arch_x86::{MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use xen_abi::e820::E820Entry;
use xen_abi::errno::Errno;
use xen_abi::memory::{
    self as abi, MachphysMapping, MachphysMfnList, MemoryDomain, MemoryMap, MemoryReservation,
};

use super::context::{AnyCtx, Args, Host, Outcome, Reply};
use super::translated::{self, Target};
use super::{exchange, physmap};
use crate::base::Mfn;
use crate::domain::Domain;
use crate::domain::translated::HUGE;

/// Bits of the command that are the command; above stands the extent to go on with.
const COMMAND_BITS: u32 = 6;
/// Largest extent that is zeroed in one go: 2 MiB.
pub(super) const MAX_ORDER: u32 = 9;
/// Largest extent of guest frames that are promised: 1 GiB, of which nothing is looked at but the entries.
const MAX_PROMISED_ORDER: u32 = 18;

/// memory_op(cmd, argument).
///
/// # Errors
/// Those of the sub-operations; `ENOSYS` for the unknown.
pub fn memory_op<H: Host>(cx: &mut AnyCtx<'_, H>, args: Args) -> Reply {
    let command = args[0] as u32 & ((1 << COMMAND_BITS) - 1);
    let start = args[0] >> COMMAND_BITS;
    let at = args[1];
    match command {
        abi::XENMEM_increase_reservation => reservation(cx, Change::Increase, start, args),
        abi::XENMEM_decrease_reservation => reservation(cx, Change::Decrease, start, args),
        abi::XENMEM_populate_physmap => reservation(cx, Change::Populate, start, args),
        abi::XENMEM_exchange => exchange::exchange(cx, args),
        abi::XENMEM_maximum_ram_page => Ok(Outcome::Return(cx.hv.facts.max_page.saturating_sub(1))),
        abi::XENMEM_current_reservation => account(cx, at, |d| d.pages.load(Ordering::Relaxed)),
        abi::XENMEM_maximum_reservation => account(cx, at, |d| d.max_pages.load(Ordering::Relaxed)),
        abi::XENMEM_maximum_gpfn => account(cx, at, highest_gpfn),
        // Machine frames are nothing to a caller whose frames are translated.
        abi::XENMEM_machphys_mapping
        | abi::XENMEM_machphys_mfn_list
        | abi::XENMEM_machine_memory_map
            if cx.domain.translated.is_some() =>
        {
            Err(Errno::ENOSYS)
        }
        abi::XENMEM_machphys_mapping => machphys_mapping(cx, at),
        abi::XENMEM_machphys_mfn_list => machphys_mfn_list(cx, at),
        abi::XENMEM_machine_memory_map => machine_memory_map(cx, at),
        // Nothing is ever shared between domains by content: the true answer is none.
        abi::XENMEM_get_sharing_freed_pages | abi::XENMEM_get_sharing_shared_pages => {
            Ok(Outcome::Return(0))
        }
        other => {
            if let Some(reply) = physmap::command(cx, (other, start), at) {
                return reply;
            }
            if cx.hv.first_missing_memory_op(other) {
                cx.hv.note_missing(cx.domain.id, name(other));
            }
            Err(Errno::ENOSYS)
        }
    }
}

fn name(command: u32) -> &'static str {
    match command {
        abi::XENMEM_paging_op => "memory_op paging_op",
        abi::XENMEM_access_op => "memory_op access_op",
        abi::XENMEM_sharing_op => "memory_op sharing_op",
        abi::XENMEM_reserved_device_memory_map => "memory_op reserved_device_memory_map",
        _ => "memory_op (another command)",
    }
}

/// The guest calls again, to go on at an extent.
pub(super) fn go_on_at(command: u64, extent: u64, at: u64) -> Outcome {
    Outcome::Restart([extent << COMMAND_BITS | command, at, 0, 0, 0, 0])
}

/// What a reservation call does to each extent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Gives pages to the domain.
    Increase,
    /// Takes pages from it.
    Decrease,
    /// Gives it pages at certain guest frames.
    Populate,
}

/// Whether the pages of new memory come with the first touch only.
pub(super) const fn on_demand(request: &MemoryReservation) -> bool {
    request.mem_flags & abi::XENMEMF_populate_on_demand != 0
}

/// Runs over the extents of a reservation; the result is the number done, over all restarts. There are no errors: what
/// stops it leaves the rest undone.
fn reservation<H: Host>(cx: &mut AnyCtx<'_, H>, change: Change, start: u64, args: Args) -> Reply {
    let Ok(request) = cx.read::<MemoryReservation>(args[1]) else {
        return Ok(Outcome::Return(start));
    };
    let Ok(target) = cx.target(request.domid) else {
        return Ok(Outcome::Return(start));
    };
    let promised = change == Change::Populate && on_demand(&request);
    // Nobody promises memory to himself, and who knows his machine frames cannot be promised any.
    if promised && (target.id == cx.domain.id || target.translated.is_none()) {
        return Ok(Outcome::Return(start));
    }
    // A count that could overflow the restart encoding is nonsense as well.
    if start > request.nr_extents || request.nr_extents > u64::MAX >> (COMMAND_BITS + 1) {
        return Ok(Outcome::Return(start));
    }
    let most = if promised {
        MAX_PROMISED_ORDER
    } else {
        MAX_ORDER
    };
    let huge = change == Change::Populate && gets_huge(cx, &target, request.extent_order);
    if request.extent_order > most && !huge {
        return Ok(Outcome::Return(start));
    }
    let command = args[0] & ((1 << COMMAND_BITS) - 1);
    if let Some(target) = Target::of(&target) {
        let place = (command, start, args[1]);
        return Ok(translated::reservation::run(
            cx, target, change, &request, place,
        ));
    }
    for index in start..request.nr_extents {
        if index != start && cx.host.preempt_pending() {
            return Ok(go_on_at(command, index, args[1]));
        }
        let Ok(at) = cx.element::<u64>(request.extent_start.address(), index) else {
            return Ok(Outcome::Return(index));
        };
        let done = match change {
            Change::Decrease => decrease(cx, &target, at, request.extent_order),
            Change::Increase => increase(cx, &target, &request, at, None),
            Change::Populate => match cx.read::<u64>(at) {
                Ok(gpfn) => increase(cx, &target, &request, at, Some(gpfn)),
                Err(e) => Err(e),
            },
        };
        if let Err(why) = done {
            if target.id != cx.domain.id && request.extent_order == 0 {
                tell_of_shortage(&target, index, request.nr_extents, why);
            }
            return Ok(Outcome::Return(index));
        }
    }
    Ok(Outcome::Return(request.nr_extents))
}

/// Whether extents of this order are 1 GiB that the control domain may give a domain, which is mapped by 1 GiB then.
fn gets_huge<H: Host>(cx: &AnyCtx<'_, H>, target: &Domain, order: u32) -> bool {
    let map = target.translated.as_ref();
    order == HUGE
        && target.id != cx.domain.id
        && cx.domain.is_control()
        && map.is_some_and(|map| map.has_gib_pages())
}

/// Says why a domain that is being built got no more. Of large extents tools only try whether there are any.
#[cold]
pub(super) fn tell_of_shortage(target: &Domain, done: u64, of: u64, why: Errno) {
    log::info!(
        "d{}: {done} of {of} pages given or taken: {why}; it has {} of {} pages, {} are free, {} claimed",
        target.id,
        target.pages.load(Ordering::Relaxed),
        target.max_pages.load(Ordering::Relaxed),
        target.machine.free_pages(),
        target.machine.claimed()
    );
}

/// Takes the pages of one extent from the domain.
fn decrease<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: &Domain,
    at: u64,
    order: u32,
) -> Result<(), Errno> {
    let first = cx.read::<u64>(at)?;
    for page in 0..1u64 << order {
        let mfn = Mfn(first.checked_add(page).ok_or(Errno::EINVAL)?);
        target.machine.relinquish(mfn, target.id)?;
    }
    Ok(())
}

/// Gives one more extent to the domain and writes its first frame to the guest's list.
fn increase<H: Host>(
    cx: &AnyCtx<'_, H>,
    target: &Domain,
    request: &MemoryReservation,
    at: u64,
    gpfn: Option<u64>,
) -> Result<(), Errno> {
    let first = take_block(target, request.extent_order, request.mem_flags)?;
    hand_over(target, first, 1 << request.extent_order, gpfn)?;
    // Without a list the guest does not want to know which.
    if request.extent_start.is_null() {
        return Ok(());
    }
    cx.write(at, &first.0)
}

/// Allocates a block of `1 << order` pages and charges the domain for it, first out of its claim.
///
/// # Errors
/// `ENOMEM` when the domain has all that it may have, or there is none.
pub(super) fn take_block(target: &Domain, order: u32, mem_flags: u32) -> Result<Mfn, Errno> {
    let (first, _) = take_unzeroed(target, order, mem_flags)?;
    target.machine.zero_pages(first, 1 << order);
    Ok(first)
}

/// The same with whatever is in the pages (see [`Machine::alloc_unzeroed`](crate::domain::Machine::alloc_unzeroed)), and how many
/// pages came out of the claim.
///
/// # Errors
/// As [`take_block`].
pub(super) fn take_unzeroed(
    target: &Domain,
    order: u32,
    mem_flags: u32,
) -> Result<(Mfn, u64), Errno> {
    let pages = 1u64 << order;
    charge(target, pages)?;
    let claimed = target.take_claim(pages);
    let block = target
        .machine
        .alloc_unzeroed(order, address_bits(mem_flags), claimed);
    block.map(|first| (first, claimed)).ok_or_else(|| {
        target.put_back_claim(claimed);
        target.pages.fetch_sub(pages, Ordering::Relaxed);
        Errno::ENOMEM
    })
}

/// Width of the addresses that new pages may have, from the flags of a request.
pub fn address_bits(mem_flags: u32) -> u32 {
    match mem_flags & abi::XENMEMF_ADDRESS_BITS_MASK {
        bits @ 1..64 => bits,
        _ => 64,
    }
}

/// Adds pages to the domain's account.
///
/// # Errors
/// `ENOMEM` when it has all that it may have.
pub fn charge(target: &Domain, pages: u64) -> Result<(), Errno> {
    let limit = target.max_pages.load(Ordering::Relaxed);
    target
        .pages
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |have| {
            have.checked_add(pages).filter(|n| *n <= limit)
        })
        .map(drop)
        .map_err(|_| Errno::ENOMEM)
}

/// Makes freshly allocated and charged pages the domain's own; with a guest frame, the M2P knows them by it.
///
/// # Errors
/// `ESRCH` when the domain began to die meanwhile: pages that it did not get are free again, and off its account.
pub fn hand_over(target: &Domain, first: Mfn, pages: u64, gpfn: Option<u64>) -> Result<(), Errno> {
    let machine = target.machine;
    let mut outcome = Ok(());
    for page in 0..pages {
        let mfn = Mfn(first.0 + page);
        // While nobody has it: its owner may give it away at once.
        if let Some(gpfn) = gpfn {
            machine.set_m2p(mfn, gpfn.wrapping_add(page));
        }
        if let Err(why) = machine.assign(mfn, &target.holdings) {
            target.pages.fetch_sub(1, Ordering::Relaxed);
            machine.set_m2p(mfn, u64::MAX);
            machine.free_page(mfn);
            outcome = Err(why);
        }
    }
    outcome
}

/// Answers a question about a domain's memory.
fn account<H: Host>(cx: &AnyCtx<'_, H>, at: u64, value: impl Fn(&Arc<Domain>) -> u64) -> Reply {
    let which: MemoryDomain = cx.read(at)?;
    Ok(Outcome::Return(value(&cx.target(which.domid)?)))
}

/// The highest guest frame: the highest ever mapped, or what a PV domain itself has put into its shared page (arch.max_pfn).
fn highest_gpfn(domain: &Arc<Domain>) -> u64 {
    use xen_abi::arch_x86::ArchSharedInfo;
    if let Some(map) = &domain.translated {
        return map.max_gfn();
    }
    let offset = xen_abi::xen::SHARED_INFO_ARCH + core::mem::offset_of!(ArchSharedInfo, max_pfn);
    domain.machine.words(domain.shared_info)[offset / 8]
        .load(Ordering::Relaxed)
        .saturating_sub(1)
}

fn machphys_mapping<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let max_mfn = cx.hv.facts.max_page.saturating_sub(1);
    let mapping = MachphysMapping {
        v_start: MACH2PHYS_VIRT_START,
        // Where it may reach; what exists ends with the last frame.
        v_end: MACH2PHYS_VIRT_END,
        max_mfn,
    };
    cx.write(at, &mapping)?;
    Ok(Outcome::Return(0))
}

/// The frames of the M2P, one for each 2 MiB of it that exists.
fn machphys_mfn_list<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    let mut request: MachphysMfnList = cx.read(at)?;
    let mut last = 0;
    let mut count = 0;
    for (index, chunk) in cx
        .hv
        .facts
        .m2p_frames
        .iter()
        .take(request.max_extents as usize)
        .enumerate()
    {
        // A part without RAM behind it repeats the frame before, so that a tool can map the list whole.
        last = chunk.map_or(last, |m| m.0);
        let slot = cx.element::<u64>(request.extent_start.address(), index as u64)?;
        cx.write(slot, &last)?;
        count += 1;
    }
    request.nr_extents = count;
    cx.write(at, &request)?;
    Ok(Outcome::Return(0))
}

fn machine_memory_map<H: Host>(cx: &AnyCtx<'_, H>, at: u64) -> Reply {
    cx.require_control()?;
    let mut request: MemoryMap = cx.read(at)?;
    let entries = &cx.hv.facts.memory_map;
    if entries.len() > request.nr_entries as usize {
        return Err(Errno::EINVAL);
    }
    if !request.buffer.is_null() {
        for (index, entry) in entries.iter().enumerate() {
            // The ABI's entries are packed: 20 bytes each.
            let slot = cx.element::<E820Entry>(request.buffer.address(), index as u64)?;
            cx.write(slot, entry)?;
        }
    }
    request.nr_entries = entries.len() as u32;
    cx.write(at, &request)?;
    Ok(Outcome::Return(0))
}
