//! Pages that a daemon in another domain reads and writes at the same time.

use core::sync::atomic::{Ordering, fence};

use xen_abi::ring::RingPage;

use crate::memory;

/// Such a page, by its address.
#[derive(Clone, Copy)]
pub struct Shared(pub u64);

impl RingPage for Shared {
    fn index(&self, at: usize) -> u32 {
        let index = memory::read(self.0 + at as u64);
        fence(Ordering::Acquire);
        index
    }

    fn set_index(&self, at: usize, value: u32) {
        fence(Ordering::Release);
        memory::write(self.0 + at as u64, value);
    }

    fn byte(&self, at: usize) -> u8 {
        memory::read(self.0 + at as u64)
    }

    fn set_byte(&self, at: usize, value: u8) {
        memory::write(self.0 + at as u64, value);
    }
}
