//! The pages set aside for a domain's tables (domctl set_paging_mempool_size; shadow_op with an allocation).

use xen_abi::errno::Errno;

use super::{Ram, Step, Translated};
use crate::mm::p2m::Pool;

/// Pages given back under one hold of the lock.
pub(super) const AT_ONCE: u32 = 64;

/// Pages of 4 KiB set aside for tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolSize {
    /// All.
    pub pages: u64,
    /// Those among them that are tables now, or were until the next flush.
    pub used: u64,
}

/// Gives all pages of a pool that are in no use back to the machine.
pub(super) fn drain(ram: &Ram, pool: &mut Pool) {
    while let Some(page) = pool.shrink(ram) {
        ram.0.free_page(page);
    }
}

impl Translated {
    /// What is set aside for tables.
    #[must_use]
    pub fn pool(&self) -> PoolSize {
        let inner = self.inner.lock();
        let pool = &inner.inventory.pool;
        PoolSize {
            pages: pool.pages(),
            used: pool.pages() - pool.free(),
        }
    }

    /// Whether tables wait for a flush to be used again.
    #[must_use]
    pub fn has_retired(&self) -> bool {
        self.inner.lock().inventory.pool.retired() > 0
    }

    /// Brings the pages set aside to this number, at most `steps` pages nearer. On [`Step::More`]: call again.
    ///
    /// # Errors
    /// `ENOMEM` when memory has run out, or when more pages are in use; the number is between the old one and the new one then. `ESRCH` for a
    /// domain that has died.
    pub fn set_pool(&self, pages: u64, steps: u64) -> Result<Step, Errno> {
        for _ in 0..steps {
            let has = self.pool().pages;
            if has == pages {
                return Ok(Step::Done);
            }
            if has < pages {
                let page = self.machine().alloc_page().ok_or(Errno::ENOMEM)?;
                match self.open() {
                    Ok(mut inner) => inner.inventory.pool.grow(&self.ram, page),
                    Err(why) => {
                        self.machine().free_page(page);
                        return Err(why);
                    }
                }
            } else {
                let page = self.open()?.inventory.pool.shrink(&self.ram);
                self.machine().free_page(page.ok_or(Errno::ENOMEM)?);
            }
        }
        Ok(if self.pool().pages == pages {
            Step::Done
        } else {
            Step::More
        })
    }
}
