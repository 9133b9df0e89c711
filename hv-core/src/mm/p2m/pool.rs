//! The pages of one tree's tables. They are chained through their own first words, so that keeping them costs nothing.

use core::sync::atomic::Ordering;

use super::Frames;
use crate::base::Mfn;

/// Pages chained through their first words. A link is no present entry in any format, for a processor that still walks a retired table.
#[derive(Default)]
pub struct Chain {
    ends: Option<(Mfn, Mfn)>,
    length: u64,
}

/// A link to a page; zero is none.
const fn link(to: Option<Mfn>) -> u64 {
    match to {
        Some(mfn) => (mfn.0 + 1) << 12,
        None => 0,
    }
}

impl Chain {
    /// Number of pages.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn push<F: Frames + ?Sized>(&mut self, m: &F, page: Mfn) {
        let next = self.ends.map(|(first, _)| first);
        m.table(page)[0].store(link(next), Ordering::Release);
        self.ends = Some((page, self.ends.map_or(page, |(_, last)| last)));
        self.length += 1;
    }

    fn pop<F: Frames + ?Sized>(&mut self, m: &F) -> Option<Mfn> {
        let (first, last) = self.ends?;
        let next = (m.table(first)[0].load(Ordering::Acquire) >> 12).checked_sub(1);
        self.ends = next.map(|mfn| (Mfn(mfn), last));
        self.length -= 1;
        Some(first)
    }

    /// Puts all pages of another chain in front.
    fn join<F: Frames + ?Sized>(&mut self, m: &F, front: Self) {
        let Some((first, last)) = front.ends else {
            return;
        };
        let next = self.ends.map(|(first, _)| first);
        m.table(last)[0].store(link(next), Ordering::Release);
        self.ends = Some((first, self.ends.map_or(last, |(_, end)| end)));
        self.length += front.length;
    }
}

/// Pages set aside for the tables of one tree.
#[derive(Default)]
pub struct Pool {
    pages: u64,
    free: Chain,
    retired: Chain,
}

impl Pool {
    /// Without pages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All pages, also those in use as tables.
    #[must_use]
    pub const fn pages(&self) -> u64 {
        self.pages
    }

    /// Pages that can become tables now.
    #[must_use]
    pub const fn free(&self) -> u64 {
        self.free.len()
    }

    /// Pages that can be used again after a flush.
    #[must_use]
    pub const fn retired(&self) -> u64 {
        self.retired.len()
    }

    /// Adds a page that nobody else has.
    pub fn grow<F: Frames + ?Sized>(&mut self, m: &F, page: Mfn) {
        self.free.push(m, page);
        self.pages += 1;
    }

    /// Takes a page that is in no use out of the pool.
    pub fn shrink<F: Frames + ?Sized>(&mut self, m: &F) -> Option<Mfn> {
        let page = self.free.pop(m)?;
        self.pages -= 1;
        Some(page)
    }

    /// A zeroed page for a table.
    pub fn take<F: Frames + ?Sized>(&mut self, m: &F) -> Option<Mfn> {
        let page = self.free.pop(m)?;
        for word in m.table(page) {
            word.store(0, Ordering::Relaxed);
        }
        Some(page)
    }

    /// Takes back a table that was unlinked; it is used again after the next flush.
    pub fn retire<F: Frames + ?Sized>(&mut self, m: &F, table: Mfn) {
        self.retired.push(m, table);
    }

    /// Takes back a table that was unlinked before a flush that is over.
    pub fn give_back<F: Frames + ?Sized>(&mut self, m: &F, table: Mfn) {
        self.free.push(m, table);
    }

    /// The tables retired up to now. When the owner has flushed, they are for [`Self::after_flush`].
    #[must_use]
    pub fn before_flush(&mut self) -> Chain {
        core::mem::take(&mut self.retired)
    }

    /// What a flush covered can be used again.
    pub fn after_flush<F: Frames + ?Sized>(&mut self, m: &F, covered: Chain) {
        self.free.join(m, covered);
    }
}
