//! The global allocator: small objects from a heap that grows by chunks of pages, large ones straight
//! from the page allocator, so that a big buffer of the boot leaves nothing behind.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{CpuId, PAGE_SIZE};
use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;
use xen_abi::errno::Errno;

use super::layout::{DIRECT_MAP, direct, phys_of};
use super::{pages, percpu};

/// From this size on an allocation is whole pages of its own.
const LARGE: usize = 32 << 10;
/// Pages by which the small heap grows.
const GROW_PAGES: usize = 64;

/// Pages that the heap has taken.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The pieces by which the small heap has grown: one that is empty goes back to the page allocator, so that what a
/// domain cost is free again when it is gone.
#[derive(Debug)]
struct Pieces;

type Small = Talc<Pieces, DefaultBinning>;

// SAFETY: nothing is acquired here, and a heap is only ever shrunk to nothing, when nothing of it is in use.
unsafe impl Source for Pieces {
    fn acquire<B: Binning>(_: &mut Talc<Self, B>, _: Layout) -> Result<(), ()> {
        Err(())
    }

    const TRACK_HEAP_END: bool = true;

    unsafe fn resize(&mut self, chunk: *mut u8, end: *mut u8, is_whole: bool) -> *mut u8 {
        // The first piece is in the image.
        if !is_whole || (end as u64) < DIRECT_MAP {
            return end;
        }
        // What lies before the first chunk is smaller than a page.
        let first = phys_of(chunk as u64 - 1).mfn();
        TAKEN.fetch_sub(GROW_PAGES, Ordering::Relaxed);
        pages::free_run(first, GROW_PAGES);
        chunk
    }
}

/// A block that is for one CPU's next request of its layout.
struct Aside {
    cpu: CpuId,
    layout: Layout,
    at: NonNull<u8>,
}

// SAFETY: the block belongs to nobody until it is taken, by one CPU.
unsafe impl Send for Aside {}

struct Blocks {
    small: Small,
    aside: Option<Aside>,
}

impl Blocks {
    /// What was set aside for this request.
    fn take_aside(&mut self, layout: Layout) -> Option<NonNull<u8>> {
        let wanted = |aside: &mut Aside| aside.layout == layout && aside.cpu == percpu::this().id;
        self.aside.take_if(wanted).map(|aside| aside.at)
    }
}

struct Heap(Mutex<Blocks>);

#[global_allocator]
static HEAP: Heap = Heap(Mutex::new(
    rank::HEAP,
    Blocks {
        small: Talc::new(Pieces),
        aside: None,
    },
));

// SAFETY: memory comes from the page allocator, which hands each page out once; the small heap is
// guarded by its lock.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut blocks = self.0.lock();
        if let Some(p) = blocks.take_aside(layout) {
            return p.as_ptr();
        }
        if is_large(layout) {
            drop(blocks);
            return alloc_large(layout);
        }
        loop {
            // SAFETY: the layout is valid by GlobalAlloc's contract.
            if let Some(p) = unsafe { blocks.small.try_allocate(layout) } {
                return p.as_ptr();
            }
            if !grow(&mut blocks.small) {
                return null_mut();
            }
        }
    }

    // SAFETY: the caller gives back what it was given by `alloc`, with the same layout.
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if is_large(layout) {
            let first = phys_of(ptr as u64).mfn();
            let count = layout.size().div_ceil(PAGE_SIZE);
            TAKEN.fetch_sub(count, Ordering::Relaxed);
            pages::free_run(first, count);
            return;
        }
        // SAFETY: the pointer came from this heap with this layout.
        unsafe { self.0.lock().small.deallocate(ptr, layout) };
    }
}

const fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE || layout.align() >= PAGE_SIZE
}

/// Sets a block aside for this CPU; see `Machine::set_aside`. One that is there still, as nobody took it, is freed.
///
/// # Errors
/// `ENOMEM`.
pub fn set_aside(layout: Layout) -> Result<(), Errno> {
    debug_assert_ne!(layout.size(), 0, "nothing needs no block");
    // SAFETY: the size is not zero.
    let at = NonNull::new(unsafe { HEAP.alloc(layout) }).ok_or(Errno::ENOMEM)?;
    let cpu = percpu::this().id;
    let before = HEAP.0.lock().aside.replace(Aside { cpu, layout, at });
    if let Some(Aside { layout, at, .. }) = before {
        // SAFETY: it came from `alloc` with this layout.
        unsafe { HEAP.dealloc(at.as_ptr(), layout) };
    }
    Ok(())
}

/// Gives the small heap more pages; `false` when there are none.
fn grow(talc: &mut Small) -> bool {
    let Some(first) = pages::alloc_run(GROW_PAGES) else {
        return false;
    };
    TAKEN.fetch_add(GROW_PAGES, Ordering::Relaxed);
    // SAFETY: the pages were just taken from the allocator and belong to nobody else.
    unsafe { talc.claim(direct(first.addr()) as *mut u8, GROW_PAGES * PAGE_SIZE) }.is_some()
}

fn alloc_large(layout: Layout) -> *mut u8 {
    if layout.align() > PAGE_SIZE {
        return null_mut();
    }
    let count = layout.size().div_ceil(PAGE_SIZE);
    match pages::alloc_run(count) {
        Some(first) => {
            TAKEN.fetch_add(count, Ordering::Relaxed);
            direct(first.addr()) as *mut u8
        }
        None => null_mut(),
    }
}

/// Pages that the heap has, used or not.
pub fn pages() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

/// The pages that a buffer has for itself; none when it lies in the small heap.
pub fn pages_of(buffer: &Vec<u8>) -> Range<u64> {
    let first = phys_of(buffer.as_ptr() as u64).mfn().0;
    if buffer.capacity() < LARGE {
        return first..first;
    }
    first..first + buffer.capacity().div_ceil(PAGE_SIZE) as u64
}

/// Ends a buffer, but not the pages that it has for itself: they are the caller's now, as from
/// [`pages::alloc_run`].
pub fn take_pages(buffer: Vec<u8>) -> Range<u64> {
    let own = pages_of(&buffer);
    if !own.is_empty() {
        TAKEN.fetch_sub((own.end - own.start) as usize, Ordering::Relaxed);
        core::mem::forget(buffer);
    }
    own
}

/// Gives the small heap its first memory.
///
/// # Safety
/// The range must be unused and stay so.
pub unsafe fn add(base: *mut u8, size: usize) {
    // SAFETY: the caller gives the range away.
    let claimed = unsafe { HEAP.0.lock().small.claim(base, size) };
    debug_assert!(claimed.is_some(), "the first heap is large enough");
}
