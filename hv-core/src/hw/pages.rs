//! The machine's free pages: a bump pointer while the boot prepares, then the buddy allocator.

use core::sync::atomic::Ordering;

use hv_core::base::{Mfn, PhysAddr};
use hv_core::mm::buddy::Buddy;
use spin::Mutex;

use super::layout::direct_frame;
use super::paging::table;

enum State {
    /// Pages `next..end` of one region, taken from the top.
    Early { first: u64, end: u64 },
    Ready(Buddy),
}

static PAGES: Mutex<State> = Mutex::new(State::Early { first: 0, end: 0 });

/// Gives the boot its region to take pages from: frames `first..end`, reachable in the early map.
pub fn start_early(first: Mfn, end: Mfn) {
    *PAGES.lock() = State::Early { first: first.0, end: end.0 };
}

/// First frame that the boot has not taken and the frame after the region it takes from.
pub fn early_left() -> (Mfn, Mfn) {
    match *PAGES.lock() {
        State::Early { first, end } => (Mfn(first), Mfn(end)),
        State::Ready(_) => (Mfn(0), Mfn(0)),
    }
}

/// Ends the early phase: `buddy` holds all free pages from now on.
pub fn start_buddy(buddy: Buddy) {
    *PAGES.lock() = State::Ready(buddy);
}

/// Does something with the allocator once it is there.
pub fn with_buddy(what: impl FnOnce(&mut Buddy)) {
    if let State::Ready(buddy) = &mut *PAGES.lock() {
        what(buddy);
    }
}

/// Takes `count` consecutive pages, not zeroed.
pub fn alloc_run(count: usize) -> Option<Mfn> {
    let count = count as u64;
    match &mut *PAGES.lock() {
        State::Early { first, end } => {
            *end = end.checked_sub(count).filter(|e| *e >= *first)?;
            Some(Mfn(*end))
        }
        State::Ready(buddy) => {
            let order = count.next_power_of_two().trailing_zeros();
            let mfn = buddy.alloc(order, 64)?;
            for extra in mfn.0 + count..mfn.0 + (1 << order) {
                buddy.free(Mfn(extra), 0).expect("the page was just taken");
            }
            Some(mfn)
        }
    }
}

/// Gives back what `alloc_run` gave. During the early phase the pages are lost only if they were not
/// the last taken.
pub fn free_run(mfn: Mfn, count: usize) {
    match &mut *PAGES.lock() {
        State::Early { end, .. } => {
            if *end == mfn.0 {
                *end += count as u64;
            }
        }
        State::Ready(buddy) => {
            for page in mfn.0..mfn.0 + count as u64 {
                buddy.free(Mfn(page), 0).expect("a run is freed once");
            }
        }
    }
}

/// Takes a block of `1 << order` pages below `1 << bits` bytes.
pub fn alloc_block(order: u32, bits: u32) -> Option<Mfn> {
    match &mut *PAGES.lock() {
        State::Early { .. } => None,
        State::Ready(buddy) => buddy.alloc(order, bits),
    }
}

/// Gives one page back.
pub fn free(mfn: Mfn) {
    free_run(mfn, 1);
}

/// Takes one page of zeros.
pub fn alloc_zeroed() -> Option<Mfn> {
    let mfn = alloc_run(1)?;
    zero(mfn);
    Some(mfn)
}

/// Pages that nobody has.
pub fn free_count() -> u64 {
    match &*PAGES.lock() {
        State::Early { first, end } => end - first,
        State::Ready(buddy) => buddy.free_pages(),
    }
}

/// Fills a page with zeros.
pub fn zero(mfn: Mfn) {
    for word in table(mfn) {
        word.store(0, Ordering::Relaxed);
    }
}

/// Bytes of RAM that is only read, such as a boot module.
///
/// # Safety
/// Nobody may write the range while the slice lives.
pub unsafe fn ram(at: PhysAddr, len: usize) -> &'static [u8] {
    let va = direct_frame(at.mfn()) + at.offset() as u64;
    // SAFETY: RAM is in the direct map for good; the caller keeps writers away.
    unsafe { core::slice::from_raw_parts(va as *const u8, len) }
}

/// Bytes of RAM that is ours to write.
///
/// # Safety
/// The range must belong to the caller alone.
pub unsafe fn ram_mut(at: PhysAddr, len: usize) -> &'static mut [u8] {
    let va = direct_frame(at.mfn()) + at.offset() as u64;
    // SAFETY: as above; the caller is the only user.
    unsafe { core::slice::from_raw_parts_mut(va as *mut u8, len) }
}

/// Gives back the rest of a block.
pub fn free_tail(from: u64, to: u64) {
    free_run(Mfn(from), (to - from) as usize);
}

/// Adds RAM that was in use during the boot.
pub fn add_run(first: Mfn, end: Mfn) {
    with_buddy(|buddy| {
        if let Err(why) = buddy.add_region(first..end) {
            log::warn!("RAM at frame {first:#x} stays unused: {why:?}");
        }
    });
}
