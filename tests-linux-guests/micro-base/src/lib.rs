//! What the small guest kernels share, whatever their kind: memory that others change too, a console on a ring, the
//! entry of a trap, words of the command line, and the measuring of short work.
#![no_std]

use core::alloc::{GlobalAlloc, Layout};

pub mod console;
pub mod measure;
pub mod memory;
pub mod trap;

/// The kernels have no heap; a crate they use asks that there be an allocator.
#[derive(Debug)]
pub struct NoHeap;

// SAFETY: it never hands out memory.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// What stands behind `key=` on the command line.
#[must_use]
pub fn word<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.split_ascii_whitespace()
        .find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
}
