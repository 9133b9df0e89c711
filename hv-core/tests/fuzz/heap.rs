//! The system's allocator, which counts what one thread allocates while that is measured, and has no more for it when
//! that is wanted.
#![allow(
    dead_code,
    reason = "some tests measure, and others let memory run out"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr::NonNull;

/// What a measured thread has allocated: bytes now (less than none: it freed what was there before), and at most.
#[derive(Clone, Copy)]
struct Count {
    now: isize,
    peak: isize,
}

thread_local! {
    static COUNT: Cell<Option<Count>> = const { Cell::new(None) };
    /// Allocations that the thread may make before all are refused.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
    /// A block for the thread's next allocation of its layout.
    static ASIDE: Cell<Option<(Layout, NonNull<u8>)>> = const { Cell::new(None) };
}

/// Beyond this an allocation is refused, as on a machine that has no more.
const LIMIT: isize = 2 << 30;

struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

/// Notes an allocation; false: it is one too many.
fn more(bytes: usize) -> bool {
    let left = LEFT.get();
    if left == Some(0) {
        return false;
    }
    LEFT.set(left.map(|left| left - 1));
    let Some(count) = COUNT.get() else {
        return true;
    };
    let now = count.now.saturating_add_unsigned(bytes);
    if now > LIMIT {
        return false;
    }
    let peak = count.peak.max(now);
    COUNT.set(Some(Count { now, peak }));
    true
}

/// What was set aside for an allocation.
fn aside(layout: Layout) -> Option<*mut u8> {
    let (_, at) = ASIDE.get().filter(|(kept, _)| *kept == layout)?;
    ASIDE.set(None);
    Some(at.as_ptr())
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
        if let Some(kept) = aside(layout) {
            return kept;
        }
        if !more(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !more(layout.size()) {
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

/// What held before, for when this goes.
struct Before(Option<usize>);

impl Drop for Before {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// Does something while the thread gets no more than so many blocks of memory. Where code cannot do without one, the
/// process ends.
pub fn limited<R>(blocks: usize, what: impl FnOnce() -> R) -> R {
    let _before = Before(LEFT.replace(Some(blocks)));
    what()
}

/// Does something inside of [`limited`] that is no part of what is looked at.
pub fn unlimited<R>(what: impl FnOnce() -> R) -> R {
    let _before = Before(LEFT.take());
    what()
}

/// Sets a block aside for the thread's next allocation of its layout; nothing: there is none.
pub fn set_aside(layout: Layout) -> Option<()> {
    assert_ne!(layout.size(), 0, "nothing needs no block");
    // SAFETY: the size is not zero.
    let at = NonNull::new(unsafe { HEAP.alloc(layout) })?;
    assert_eq!(
        ASIDE.replace(Some((layout, at))),
        None,
        "nobody took the last one"
    );
    Some(())
}
