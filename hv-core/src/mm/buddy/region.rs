//! One run of frames with its bits.

use alloc::vec::Vec;
use core::ops::Range;

use super::bits::BitTree;
use super::{MAX_ORDER, ORDERS};

/// Where a region's bits are kept.
pub(super) enum Store {
    /// On the heap.
    Owned(Vec<u64>),
    /// In memory lent for good.
    Lent(&'static mut [u64]),
}

impl From<Vec<u64>> for Store {
    fn from(words: Vec<u64>) -> Self {
        Self::Owned(words)
    }
}

impl From<&'static mut [u64]> for Store {
    fn from(words: &'static mut [u64]) -> Self {
        Self::Lent(words)
    }
}

/// A run of frames. A block of some order has the number of its first frame shifted by the order,
/// counted from the block that holds the region's first frame; blocks that lie in the region only
/// in part have a bit too, which is never set.
pub(super) struct Region {
    frames: Range<u64>,
    trees: [BitTree; ORDERS],
    /// Free blocks of each order.
    counts: [u64; ORDERS],
    store: Store,
}

impl Region {
    /// The trees for a run of frames.
    fn trees(frames: &Range<u64>) -> [BitTree; ORDERS] {
        let mut start = 0;
        core::array::from_fn(|order| {
            let blocks = ((frames.end - 1) >> order) - (frames.start >> order) + 1;
            let tree = BitTree::new(blocks, start);
            start = tree.end();
            tree
        })
    }

    /// Words that the bits of a run of frames take; 0 for an empty run.
    pub(super) fn words_for(frames: Range<u64>) -> usize {
        if frames.is_empty() {
            return 0;
        }
        Self::trees(&frames)[MAX_ORDER as usize].end()
    }

    /// A region without free blocks; `store` has [`Region::words_for`] words of 0, and `frames`
    /// is not empty.
    pub(super) fn new(frames: Range<u64>, store: Store) -> Self {
        Self {
            trees: Self::trees(&frames),
            frames,
            counts: [0; ORDERS],
            store,
        }
    }

    pub(super) fn start(&self) -> u64 {
        self.frames.start
    }

    pub(super) fn end(&self) -> u64 {
        self.frames.end
    }

    /// Free blocks of an order.
    pub(super) fn count(&self, order: u32) -> u64 {
        self.counts[order as usize]
    }

    /// Marks a block free, which it was not.
    pub(super) fn put(&mut self, first: u64, order: u32) {
        let index = self.index(first, order);
        self.counts[order as usize] += 1;
        let tree = self.trees[order as usize];
        tree.insert(self.words_mut(), index);
    }

    /// Marks a free block not free.
    pub(super) fn take(&mut self, first: u64, order: u32) {
        let index = self.index(first, order);
        self.counts[order as usize] -= 1;
        let tree = self.trees[order as usize];
        tree.remove(self.words_mut(), index);
    }

    /// Whether exactly this block is free as one; `first` may lie outside the region.
    pub(super) fn is_free_block(&self, first: u64, order: u32) -> bool {
        let base = self.frames.start >> order;
        let Some(index) = (first >> order).checked_sub(base) else {
            return false;
        };
        self.trees[order as usize].contains(self.words(), index)
    }

    /// The order of the free block, of at least `order`, that holds the block at `first`.
    pub(super) fn block_over(&self, first: u64, order: u32) -> Option<u32> {
        (order..=MAX_ORDER).find(|&over| self.is_free_block(first, over))
    }

    /// Whether a smaller block inside the block at `first` is free.
    pub(super) fn has_free_inside(&self, first: u64, order: u32) -> bool {
        let end = first + (1 << order);
        (0..order).any(|inside| self.highest(inside, &(first..end)).is_some())
    }

    /// First frame of the highest free block of `order` that begins inside `window`.
    pub(super) fn highest(&self, order: u32, window: &Range<u64>) -> Option<u64> {
        if self.counts[order as usize] == 0 {
            return None;
        }
        let base = self.frames.start >> order;
        // Blocks that begin before the window's end.
        let limit = window.end.div_ceil(1 << order).checked_sub(base)?;
        let index = self.trees[order as usize].highest_below(self.words(), limit)?;
        let first = (base + index) << order;
        (first >= window.start).then_some(first)
    }

    fn index(&self, first: u64, order: u32) -> u64 {
        (first >> order) - (self.frames.start >> order)
    }

    fn words(&self) -> &[u64] {
        match &self.store {
            Store::Owned(words) => words,
            Store::Lent(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match &mut self.store {
            Store::Owned(words) => words,
            Store::Lent(words) => words,
        }
    }
}
