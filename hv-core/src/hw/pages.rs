//! The machine's free pages: a bump pointer while the boot prepares, then the buddy allocator.
//!
//! A page that a guest had may still be in a TLB. It waits in a quarantine until every CPU has flushed
//! since it was given back; so whoever takes a page from the allocator, ourselves included, has it alone.

use core::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;
use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::mm::buddy::{Buddy, MAX_ORDER};

use super::layout::direct_frame;
use super::{percpu, tlb};

#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and it ends as the large variant"
)]
enum State {
    /// Pages `first..end` of one run, taken from the top.
    Early {
        first: u64,
        end: u64,
    },
    Ready(Buddy),
}

static PAGES: Mutex<State> = Mutex::new(rank::PAGES, State::Early { first: 0, end: 0 });

/// Free pages that are kept for domains; changed under the lock of the pages.
static CLAIMED: AtomicU64 = AtomicU64::new(0);

/// Pages that wait for a flush; one flush serves so many.
static QUARANTINE: Mutex<ArrayVec<Mfn, 128>> = Mutex::new(rank::QUARANTINE, ArrayVec::new_const());

/// Gives the boot a run to take pages from: frames `first..end`, mapped in the direct map. Returns what
/// is left of the run before.
pub fn start_early(first: Mfn, end: Mfn) -> (Mfn, Mfn) {
    match core::mem::replace(
        &mut *PAGES.lock(),
        State::Early {
            first: first.0,
            end: end.0,
        },
    ) {
        State::Early { first, end } => (Mfn(first), Mfn(end)),
        State::Ready(_) => (Mfn(0), Mfn(0)),
    }
}

/// Ends the early phase: `buddy` holds all free pages from now on.
pub fn start_buddy(buddy: Buddy) {
    *PAGES.lock() = State::Ready(buddy);
}

/// Takes `count` consecutive pages, not zeroed.
pub fn alloc_run(count: usize) -> Option<Mfn> {
    try_run(count).or_else(|| {
        drain();
        try_run(count)
    })
}

fn try_run(count: usize) -> Option<Mfn> {
    let count = count as u64;
    match &mut *PAGES.lock() {
        State::Early { first, end } => {
            *end = end.checked_sub(count).filter(|e| *e >= *first)?;
            Some(Mfn(*end))
        }
        State::Ready(buddy) => {
            let order = count.next_power_of_two().trailing_zeros();
            unclaimed(buddy, count, 0)?;
            let mfn = buddy.alloc(order, 64)?;
            give(buddy, mfn.0 + count..mfn.0 + (1 << order));
            Some(mfn)
        }
    }
}

/// Gives back what `alloc_run` gave and no guest has had. During the early phase the pages are lost
/// unless they were the last taken.
pub fn free_run(mfn: Mfn, count: usize) {
    match &mut *PAGES.lock() {
        State::Early { end, .. } => {
            if *end == mfn.0 {
                *end += count as u64;
            }
        }
        State::Ready(buddy) => give(buddy, mfn.0..mfn.0 + count as u64),
    }
}

/// Pages that the allocator does not take back stay unused: that is a defect of ours, but no reason to
/// stop the machine.
fn give(buddy: &mut Buddy, frames: core::ops::Range<u64>) {
    let mut first = frames.start;
    while first < frames.end {
        let fits = (frames.end - first).ilog2();
        let order = first.trailing_zeros().min(fits).min(MAX_ORDER);
        if buddy.free(Mfn(first), order).is_ok() {
            first += 1 << order;
            continue;
        }
        // Where two regions of the allocator meet, a block may lie in both: page by page, then.
        let given = buddy.free(Mfn(first), 0);
        debug_assert!(
            given.is_ok(),
            "a page is freed once, and came from the allocator"
        );
        first += 1;
    }
}

/// Takes a block of `1 << order` pages below `1 << bits` bytes, not zeroed, `claimed` of it from what is claimed.
pub fn alloc_block(order: u32, bits: u32, claimed: u64) -> Option<Mfn> {
    try_block(order, bits, claimed).or_else(|| {
        drain();
        try_block(order, bits, claimed)
    })
}

fn try_block(order: u32, bits: u32, claimed: u64) -> Option<Mfn> {
    match &mut *PAGES.lock() {
        State::Early { .. } => None,
        State::Ready(buddy) => {
            unclaimed(buddy, 1 << order, claimed)?;
            let block = buddy.alloc(order, bits)?;
            CLAIMED.fetch_sub(claimed, Ordering::Relaxed);
            Some(block)
        }
    }
}

/// Gives back pages of a block that no guest has had; `claimed` of them are claimed again.
pub fn free_block(first: Mfn, pages: u64, claimed: u64) {
    if let State::Ready(buddy) = &mut *PAGES.lock() {
        give(buddy, first.0..first.0 + pages);
        CLAIMED.fetch_add(claimed, Ordering::Relaxed);
    }
}

/// Whether so many pages are free beside what others have claimed.
fn unclaimed(buddy: &Buddy, pages: u64, own: u64) -> Option<()> {
    let others = CLAIMED.load(Ordering::Relaxed) - own;
    (buddy.free_pages() >= pages + others).then_some(())
}

/// Keeps pages for those who may take them from the claim; `false`: so many are not free and unclaimed.
pub fn claim(pages: u64) -> bool {
    let claim = || match &*PAGES.lock() {
        State::Ready(buddy) if unclaimed(buddy, pages, 0).is_some() => {
            CLAIMED.fetch_add(pages, Ordering::Relaxed);
            true
        }
        State::Early { .. } | State::Ready(_) => false,
    };
    claim() || {
        drain();
        claim()
    }
}

/// Ends a claim.
pub fn drop_claim(pages: u64) {
    let _in_turn = PAGES.lock();
    CLAIMED.fetch_sub(pages, Ordering::Relaxed);
}

/// Pages that are claimed.
pub fn claimed() -> u64 {
    CLAIMED.load(Ordering::Relaxed)
}

/// Gives back a page that a guest may have had: it is free after the next flush of all CPUs.
pub fn free(mfn: Mfn) {
    let full = {
        let mut waiting = QUARANTINE.lock();
        waiting.push(mfn);
        waiting.is_full()
    };
    if full {
        drain();
    }
}

/// Flushes for all pages in quarantine at once and frees them.
fn drain() {
    let pages = core::mem::take(&mut *QUARANTINE.lock());
    if pages.is_empty() {
        return;
    }
    // All of them were unmapped before now: who has flushed after this moment is clean.
    tlb::flush_stale(percpu::online(), tlb::clock());
    if let State::Ready(buddy) = &mut *PAGES.lock() {
        // Pages often come back in their order, up or down: as many at once as follow each other.
        let mut run = 0..0;
        for Mfn(page) in pages {
            if page == run.end {
                run.end += 1;
            } else if page + 1 == run.start {
                run.start = page;
            } else {
                give(buddy, core::mem::replace(&mut run, page..page + 1));
            }
        }
        give(buddy, run);
    }
}

/// Takes one page of zeros.
pub fn alloc_zeroed() -> Option<Mfn> {
    let mfn = alloc_run(1)?;
    zero(mfn);
    Some(mfn)
}

/// Pages that nobody has.
pub fn free_count() -> u64 {
    let waiting = QUARANTINE.lock().len() as u64;
    match &*PAGES.lock() {
        State::Early { first, end } => end - first,
        State::Ready(buddy) => buddy.free_pages() + waiting,
    }
}

/// Fills a page with zeros.
pub fn zero(mfn: Mfn) {
    // SAFETY: RAM is in the direct map for good, and what is in a page that others may use is only accessed
    // as atomics.
    unsafe {
        core::arch::asm!(
            "rep stosq",
            inout("rcx") PAGE_SIZE / 8 => _, inout("rdi") direct_frame(mfn) => _, in("rax") 0u64,
            options(nostack, preserves_flags)
        )
    };
}

/// Copies bytes from one page to another that guests may be using; both may be the same one, and the ranges overlap. What
/// leaves a page is not copied.
pub fn copy(from: (Mfn, u16), to: (Mfn, u16), len: u16) {
    let room = PAGE_SIZE.saturating_sub(from.1.max(to.1).into());
    let len = usize::from(len).min(room);
    let address = |(mfn, offset): (Mfn, u16)| direct_frame(mfn) + u64::from(offset);
    // SAFETY: RAM is in the direct map for good. For Rust what is in a page that others may use is atomics; the function
    // is assembly and writes the bytes that are copied, no others.
    unsafe { fast_memmove(address(to), address(from), len) };
}

unsafe extern "C" {
    /// See `mem.S`.
    fn fast_memmove(to: u64, from: u64, bytes: usize) -> u64;
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
