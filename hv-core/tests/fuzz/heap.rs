//! The system's allocator, which counts what one thread allocates while that is measured.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What a measured thread has allocated: bytes now (less than none: it freed what was there before), and at most.
#[derive(Clone, Copy)]
struct Count {
    now: isize,
    peak: isize,
}

thread_local! {
    static COUNT: Cell<Option<Count>> = const { Cell::new(None) };
}

/// Beyond this an allocation is refused, as on a machine that has no more.
const LIMIT: isize = 2 << 30;

struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

/// Notes an allocation; false: it is one too many.
fn more(bytes: usize) -> bool {
    let Some(count) = COUNT.get() else {
        return true;
    };
    let now = count.now.saturating_add_unsigned(bytes);
    let peak = count.peak.max(now);
    COUNT.set(Some(Count { now, peak }));
    now <= LIMIT
}

fn less(bytes: usize) {
    if let Some(count) = COUNT.get() {
        let now = count.now.saturating_sub_unsigned(bytes);
        COUNT.set(Some(Count { now, ..count }));
    }
}

// SAFETY: all memory is the system allocator's; what is added is counting.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !more(layout.size()) {
            less(layout.size());
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !more(layout.size()) {
            less(layout.size());
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        less(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Bytes that `what` had allocated at its worst.
pub fn peak_of(what: impl FnOnce()) -> usize {
    COUNT.set(Some(Count { now: 0, peak: 0 }));
    what();
    let count = COUNT.take();
    count.map_or(0, |count| count.peak.unsigned_abs())
}
