//! The allocator of machine pages: blocks of 2^order frames, each aligned to its size.
//!
//! It works on frame numbers and never touches the frames. RAM is a set of regions; each has, for
//! every order, one bit per block that says "free", with summary bits above (`bits::BitTree`), about
//! 2.1 bits per page in all. A second set of trees says which regions have a free block of an
//! order. So every operation takes O(orders * log64(size)) steps whatever the amount of RAM, and
//! none allocates memory once its region is added.
//!
//! Low memory is precious: devices and `XENMEM_exchange` ask for addresses below 2^32. Requests are
//! therefore served from the highest window that may serve them: above 4 GiB, then 16 MiB to
//! 4 GiB, then the rest; within a window from the smallest block that is large enough, and of
//! those from the highest.

mod bits;
mod region;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::ops::Range;

use crate::base::{Mfn, PAGE_SHIFT};

use bits::BitTree;
use region::Region;

/// Largest order: blocks of 1 GiB.
pub const MAX_ORDER: u32 = 18;
/// Orders there are.
const ORDERS: usize = MAX_ORDER as usize + 1;
/// Most regions.
pub const MAX_REGIONS: usize = 4096;
/// Frames above every physical address (52 bits).
const FRAME_LIMIT: u64 = 1 << (52 - PAGE_SHIFT);
/// Boundaries of the windows in frames: 4 GiB and 16 MiB.
const BOUNDARIES: [u64; 2] = [1 << (32 - PAGE_SHIFT), 1 << (24 - PAGE_SHIFT)];

/// Why a region was not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionError {
    /// The range is empty or reaches beyond the physical address space.
    BadRange,
    /// It overlaps a region that is there.
    Overlap,
    /// There are [`MAX_REGIONS`] already.
    TooMany,
    /// There is no memory for the bits, or the words lent for them are too few.
    NoMemory,
}

/// Why frames were not freed or taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The order is too large, or the frame is not a multiple of the block's size.
    BadBlock,
    /// The block does not lie inside one region: these frames are not ours to manage.
    Foreign,
    /// Freeing: some of the block is free already.
    AlreadyFree,
    /// Taking: some of the block is in use.
    InUse,
}

/// The allocator.
#[derive(Default)]
pub struct Buddy {
    /// Ascending, without overlaps.
    regions: Vec<Region>,
    /// For each order, the regions that have a free block of it.
    filled: [RegionSet; ORDERS],
    free_pages: u64,
    total_pages: u64,
}

impl Buddy {
    /// An allocator without memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Words of 64 bits that [`Buddy::add_region_in`] needs for a region of `frames`.
    #[must_use]
    pub fn words_for(frames: &Range<Mfn>) -> usize {
        Region::words_for(frames.start.0..frames.end.0)
    }

    /// Adds free frames. The bits are allocated from the heap.
    ///
    /// # Errors
    /// A [`RegionError`]; nothing was added then.
    pub fn add_region(&mut self, frames: Range<Mfn>) -> Result<(), RegionError> {
        self.check_range(&frames)?;
        let words = Self::words_for(&frames);
        let mut store = Vec::new();
        store
            .try_reserve_exact(words)
            .map_err(|_| RegionError::NoMemory)?;
        store.resize(words, 0);
        self.insert(Region::new(frames.start.0..frames.end.0, store.into()))
    }

    /// Adds free frames, with the bits in `store`: at least [`Buddy::words_for`] words, of any
    /// content. For regions whose bits would be too large for the heap.
    ///
    /// # Errors
    /// A [`RegionError`]; nothing was added then.
    pub fn add_region_in(
        &mut self,
        frames: Range<Mfn>,
        store: &'static mut [u64],
    ) -> Result<(), RegionError> {
        self.check_range(&frames)?;
        let words = Self::words_for(&frames);
        let store = store.get_mut(..words).ok_or(RegionError::NoMemory)?;
        store.fill(0);
        self.insert(Region::new(frames.start.0..frames.end.0, store.into()))
    }

    /// Allocates 2^`order` frames that lie below 2^`address_bits` bytes (64 for anywhere).
    /// `None` when there are none.
    #[must_use]
    pub fn alloc(&mut self, order: u32, address_bits: u32) -> Option<Mfn> {
        if order > MAX_ORDER {
            return None;
        }
        let limit = frame_limit(address_bits);
        let size = 1 << order;
        if limit < size {
            return None;
        }
        let (index, found) = windows(limit).find_map(|window| self.find(order, window))?;
        // The block may reach beyond the limit, which is a power of two as the block's size is:
        // then its part below the limit is what counts.
        let end = found.first + (1 << found.order);
        let first = end.min(limit) - size;
        self.split(index, found, first, order);
        self.free_pages -= size;
        Some(Mfn(first))
    }

    /// Frees 2^`order` frames, which need not have been allocated as one block.
    ///
    /// # Errors
    /// [`FrameError::AlreadyFree`] for a double free, [`FrameError::Foreign`] and
    /// [`FrameError::BadBlock`] for frames that cannot have come from here. Nothing was freed then.
    pub fn free(&mut self, mfn: Mfn, order: u32) -> Result<(), FrameError> {
        let index = self.region_of(mfn, order)?;
        let region = &mut self.regions[index];
        if region.block_over(mfn.0, order).is_some() || region.has_free_inside(mfn.0, order) {
            return Err(FrameError::AlreadyFree);
        }
        self.free_pages += 1 << order;
        self.put_merged(index, mfn.0, order);
        Ok(())
    }

    /// Takes exactly these 2^`order` frames, all of which must be free.
    ///
    /// # Errors
    /// [`FrameError::InUse`] when any of them is not free; else as for [`Buddy::free`].
    pub fn take(&mut self, mfn: Mfn, order: u32) -> Result<(), FrameError> {
        let index = self.region_of(mfn, order)?;
        // Free buddies always merge, so a free aligned block lies inside one free block.
        let over = self.regions[index].block_over(mfn.0, order);
        let order_over = over.ok_or(FrameError::InUse)?;
        let block = Block {
            first: mfn.0 >> order_over << order_over,
            order: order_over,
        };
        self.split(index, block, mfn.0, order);
        self.free_pages -= 1 << order;
        Ok(())
    }

    /// Whether the frame is free; `None` for a frame that is in no region.
    #[must_use]
    pub fn is_free(&self, mfn: Mfn) -> Option<bool> {
        let index = self.region_of(mfn, 0).ok()?;
        Some(self.regions[index].block_over(mfn.0, 0).is_some())
    }

    /// Free frames.
    #[must_use]
    pub fn free_pages(&self) -> u64 {
        self.free_pages
    }

    /// Frames managed, free or not.
    #[must_use]
    pub fn total_pages(&self) -> u64 {
        self.total_pages
    }

    fn check_range(&self, frames: &Range<Mfn>) -> Result<(), RegionError> {
        let Range { start, end } = *frames;
        if start >= end || end.0 > FRAME_LIMIT {
            return Err(RegionError::BadRange);
        }
        let next = self
            .regions
            .partition_point(|region| region.end() <= start.0);
        let follower = self.regions.get(next);
        if follower.is_some_and(|region| region.start() < end.0) {
            return Err(RegionError::Overlap);
        }
        if self.regions.len() >= MAX_REGIONS {
            return Err(RegionError::TooMany);
        }
        Ok(())
    }

    /// Puts a checked region in its place, all of it free.
    fn insert(&mut self, region: Region) -> Result<(), RegionError> {
        let (start, end) = (region.start(), region.end());
        let no_memory = |_| RegionError::NoMemory;
        self.regions.try_reserve(1).map_err(no_memory)?;
        if self.regions.is_empty() {
            for set in &mut self.filled {
                *set = RegionSet::new()?;
            }
        }
        let at = self.regions.partition_point(|other| other.end() <= start);
        self.regions.insert(at, region);
        let mut first = start;
        while first < end {
            let fits = (end - first).ilog2();
            let order = first.trailing_zeros().min(fits).min(MAX_ORDER);
            self.regions[at].put(first, order);
            first += 1 << order;
        }
        self.total_pages += end - start;
        self.free_pages += end - start;
        self.list_from(at);
        Ok(())
    }

    /// Sets anew which regions from position `at` on, which have moved, have free blocks.
    fn list_from(&mut self, at: usize) {
        for (index, region) in self.regions.iter().enumerate().skip(at) {
            for (order, set) in self.filled.iter_mut().enumerate() {
                if region.count(order as u32) > 0 {
                    set.insert(index);
                } else {
                    set.remove(index);
                }
            }
        }
    }

    /// The position of the region that holds a whole block.
    fn region_of(&self, mfn: Mfn, order: u32) -> Result<usize, FrameError> {
        if order > MAX_ORDER || mfn.0 & ((1 << order) - 1) != 0 {
            return Err(FrameError::BadBlock);
        }
        let end = mfn.0.checked_add(1 << order).ok_or(FrameError::BadBlock)?;
        let index = self.regions.partition_point(|region| region.end() <= mfn.0);
        let region = self.regions.get(index).ok_or(FrameError::Foreign)?;
        if region.start() <= mfn.0 && end <= region.end() {
            Ok(index)
        } else {
            Err(FrameError::Foreign)
        }
    }

    /// The smallest free block of at least `order` that begins inside `window`, of those the
    /// highest; with the position of its region.
    fn find(&self, order: u32, window: Range<u64>) -> Option<(usize, Block)> {
        (order..=MAX_ORDER).find_map(|order| self.find_order(order, &window))
    }

    /// The highest free block of exactly `order` that begins inside `window`.
    fn find_order(&self, order: u32, window: &Range<u64>) -> Option<(usize, Block)> {
        let set = &self.filled[order as usize];
        // Only the highest and the lowest region that the window touches can disappoint: they may
        // have their free blocks on the other side of its edge.
        let mut below = self
            .regions
            .partition_point(|region| region.start() < window.end);
        while let Some(index) = set.highest_below(below) {
            let region = &self.regions[index];
            if region.end() <= window.start {
                return None;
            }
            if let Some(first) = region.highest(order, window) {
                return Some((index, Block { first, order }));
            }
            below = index;
        }
        None
    }

    /// Takes a free block apart until the block of `order` at `first` is left, and takes that.
    fn split(&mut self, index: usize, block: Block, first: u64, order: u32) {
        self.take_bit(index, block.first, block.order);
        for half in (order..block.order).rev() {
            // Of the two halves, the one without `first` stays free.
            let buddy = (first >> half ^ 1) << half;
            self.put_bit(index, buddy, half);
        }
    }

    /// Puts a block back, merged with its free buddies.
    fn put_merged(&mut self, index: usize, mut first: u64, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = first ^ 1 << order;
            if !self.regions[index].is_free_block(buddy, order) {
                break;
            }
            self.take_bit(index, buddy, order);
            first = first.min(buddy);
            order += 1;
        }
        self.put_bit(index, first, order);
    }

    /// Marks a block free.
    fn put_bit(&mut self, index: usize, first: u64, order: u32) {
        self.regions[index].put(first, order);
        self.filled[order as usize].insert(index);
    }

    /// Marks a block not free.
    fn take_bit(&mut self, index: usize, first: u64, order: u32) {
        let region = &mut self.regions[index];
        region.take(first, order);
        if region.count(order) == 0 {
            self.filled[order as usize].remove(index);
        }
    }
}

/// A free block.
#[derive(Clone, Copy)]
struct Block {
    first: u64,
    order: u32,
}

/// First frame that does not lie below 2^`address_bits` bytes.
fn frame_limit(address_bits: u32) -> u64 {
    match address_bits.checked_sub(PAGE_SHIFT) {
        None => 0,
        Some(bits) => 1_u64
            .checked_shl(bits)
            .unwrap_or(FRAME_LIMIT)
            .min(FRAME_LIMIT),
    }
}

/// The windows in which a request below `limit` is tried, from the most to the least expendable.
fn windows(limit: u64) -> impl Iterator<Item = Range<u64>> {
    let [high, low] = BOUNDARIES;
    [high..limit, low..limit.min(high), 0..limit.min(low)]
        .into_iter()
        .filter(|window| window.start < window.end)
}

/// A set of positions of regions.
#[derive(Default)]
struct RegionSet {
    tree: BitTree,
    words: Vec<u64>,
}

impl RegionSet {
    /// An empty set for all positions there can be.
    fn new() -> Result<Self, RegionError> {
        let tree = BitTree::new(MAX_REGIONS as u64, 0);
        let mut words = Vec::new();
        words
            .try_reserve_exact(tree.end())
            .map_err(|_| RegionError::NoMemory)?;
        words.resize(tree.end(), 0);
        Ok(Self { tree, words })
    }

    fn insert(&mut self, index: usize) {
        self.tree.insert(&mut self.words, index as u64);
    }

    fn remove(&mut self, index: usize) {
        self.tree.remove(&mut self.words, index as u64);
    }

    /// The highest member below `index`.
    fn highest_below(&self, index: usize) -> Option<usize> {
        let found = self.tree.highest_below(&self.words, index as u64)?;
        usize::try_from(found).ok()
    }
}
