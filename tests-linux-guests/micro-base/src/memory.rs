//! Memory by its address: all of it may be read and written by somebody else at any time, so it is only ever copied.

use core::sync::atomic::{Ordering, fence};

use xen_abi::ring::RingPage;
use zerocopy::{FromBytes, IntoBytes};

/// Copies a value from an address of ours.
#[must_use]
pub fn read<T: FromBytes>(address: u64) -> T {
    // SAFETY: callers name mapped memory; a wrong address is a page fault, which ends the run
    // with a message.
    unsafe { (address as *const T).read_volatile() }
}

/// Copies a value to an address of ours.
pub fn write<T: IntoBytes>(address: u64, value: T) {
    // SAFETY: as for `read`; callers name pages that Rust code never borrows.
    unsafe { (address as *mut T).write_volatile(value) }
}

/// A page that a daemon in another domain reads and writes at the same time, by its address.
#[derive(Clone, Copy, Debug)]
pub struct Shared(pub u64);

impl RingPage for Shared {
    fn index(&self, at: usize) -> u32 {
        let index = read(self.0 + at as u64);
        fence(Ordering::Acquire);
        index
    }

    fn set_index(&self, at: usize, value: u32) {
        fence(Ordering::Release);
        write(self.0 + at as u64, value);
    }

    fn byte(&self, at: usize) -> u8 {
        read(self.0 + at as u64)
    }

    fn set_byte(&self, at: usize, value: u8) {
        write(self.0 + at as u64, value);
    }
}
