//! The page of a VMCB by bytes. The CPU reads and writes it during VMRUN only, and then nobody else does; it is made of
//! atomics because that is what a page without a Rust owner is (`Machine::words`).

use core::sync::atomic::{AtomicU64, Ordering};

/// The words of a page.
pub type Words = [AtomicU64; 512];

/// A page, by byte offsets that are inside and aligned to what is accessed.
#[derive(Clone, Copy)]
pub struct Page(pub &'static Words);

impl Page {
    #[inline]
    fn word(self, offset: usize) -> &'static AtomicU64 {
        // All offsets are constants below 4096.
        &self.0[(offset / 8) & 511]
    }

    /// 8 bytes.
    #[inline]
    pub fn get(self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Relaxed)
    }

    /// Changes 8 bytes.
    #[inline]
    pub fn set(self, offset: usize, value: u64) {
        self.word(offset).store(value, Ordering::Relaxed);
    }

    /// 4 bytes.
    #[inline]
    pub fn get32(self, offset: usize) -> u32 {
        (self.get(offset) >> (8 * (offset & 4))) as u32
    }

    /// Changes 4 bytes.
    #[inline]
    pub fn set32(self, offset: usize, value: u32) {
        let shift = 8 * (offset & 4);
        let rest = self.get(offset) & !(0xffff_ffff << shift);
        self.set(offset, rest | u64::from(value) << shift);
    }

    /// Turns bits of 4 bytes on or off; whether something changed.
    pub fn switch32(self, offset: usize, bits: u32, on: bool) -> bool {
        let old = self.get32(offset);
        let new = if on { old | bits } else { old & !bits };
        self.set32(offset, new);
        new != old
    }
}
