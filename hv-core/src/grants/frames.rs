//! The pages of a grant table: shared live with the guest, hence only ever seen as atomics.

use crate::base::{DomId, Mfn, PAGE_SIZE};
use core::sync::atomic::{AtomicU32, Ordering};

/// 32-bit words in a page.
pub const WORDS: usize = PAGE_SIZE / 4;

/// A page of ours that the guest sees too. All accesses are 32 bits wide.
#[derive(Debug)]
pub struct SharedFrame {
    mfn: Mfn,
    words: &'static [AtomicU32; WORDS],
}

impl SharedFrame {
    /// The frame `mfn` with its content seen through the direct map. The page must stay allocated
    /// until the value is handed to [`FramePool::free`].
    #[must_use]
    pub const fn new(mfn: Mfn, words: &'static [AtomicU32; WORDS]) -> Self {
        Self { mfn, words }
    }

    /// Its frame number.
    #[must_use]
    pub const fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// Its content.
    #[must_use]
    pub const fn words(&self) -> &[AtomicU32; WORDS] {
        self.words
    }

    /// Fills it with zeroes.
    pub fn clear(&self) {
        for word in self.words {
            word.store(0, Ordering::Relaxed);
        }
    }
}

/// Where the pages of grant tables come from.
pub trait FramePool {
    /// A zeroed page that `owner` may map.
    fn alloc(&self, owner: DomId) -> Option<SharedFrame>;

    /// Takes a page back; it is reused once the guest's mappings of it are gone, too.
    fn free(&self, frame: SharedFrame);
}

/// The two kinds of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Grant entries.
    Shared,
    /// Status words of version 2.
    Status,
}
