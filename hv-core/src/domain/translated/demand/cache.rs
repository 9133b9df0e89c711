//! The list of pages that are set aside: a stack of frame numbers.
//!
//! It lies in pages of the map's pool, each with the number of the next and up to 511 frames. The pages that it names are the domain's
//! own, and nothing that we rely on is written into them.

use core::sync::atomic::Ordering;

use xen_abi::errno::Errno;

use crate::base::Mfn;
use crate::mm::p2m::{Frames, Pool};
use crate::mm::pte::ENTRIES;

/// Pages that are set aside.
pub(in crate::domain::translated) struct Cache {
    /// The page of the list that is being filled, and the frames in it, one or more. All below are full.
    top: Option<(Mfn, usize)>,
    length: u64,
}

impl Cache {
    pub(in crate::domain::translated) const fn new() -> Self {
        Self {
            top: None,
            length: 0,
        }
    }

    /// Pages in the list.
    pub(super) const fn len(&self) -> u64 {
        self.length
    }

    /// Adds a page.
    ///
    /// # Errors
    /// `ENOMEM` when the pool has no page for the list.
    pub(super) fn push<F: Frames + ?Sized>(
        &mut self,
        m: &F,
        pool: &mut Pool,
        page: Mfn,
    ) -> Result<(), Errno> {
        let (list, used) = match self.top {
            Some((list, used)) if used < ENTRIES - 1 => (list, used),
            full => {
                let list = pool.take(m).ok_or(Errno::ENOMEM)?;
                let next = full.map_or(0, |(below, _)| below.0 + 1);
                m.table(list)[0].store(next, Ordering::Relaxed);
                (list, 0)
            }
        };
        if let Some(word) = m.table(list).get(used + 1) {
            word.store(page.0, Ordering::Relaxed);
        }
        self.top = Some((list, used + 1));
        self.length += 1;
        Ok(())
    }

    /// Takes out the page that was added last.
    pub(super) fn pop<F: Frames + ?Sized>(&mut self, m: &F, pool: &mut Pool) -> Option<Mfn> {
        let (list, used) = self.top?;
        let page = Mfn(m.table(list).get(used)?.load(Ordering::Relaxed));
        self.length -= 1;
        if used > 1 {
            self.top = Some((list, used - 1));
        } else {
            self.drop_top(m, pool);
        }
        Some(page)
    }

    /// Gives the uppermost page of the list back to the pool.
    fn drop_top<F: Frames + ?Sized>(&mut self, m: &F, pool: &mut Pool) {
        let Some((list, _)) = self.top else { return };
        let below = m.table(list)[0].load(Ordering::Relaxed).checked_sub(1);
        self.top = below.map(|below| (Mfn(below), ENTRIES - 1));
        pool.give_back(m, list);
    }

    /// Forgets the pages, at most `steps` pages of the list at once; `true` when that is done. They stay the domain's.
    pub(in crate::domain::translated) fn forget<F: Frames + ?Sized>(
        &mut self,
        m: &F,
        pool: &mut Pool,
        steps: u32,
    ) -> bool {
        self.length = 0;
        for _ in 0..steps {
            if self.top.is_none() {
                return true;
            }
            self.drop_top(m, pool);
        }
        self.top.is_none()
    }
}
