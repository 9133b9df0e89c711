//! What was mapped and is no more.

use arrayvec::ArrayVec;

use super::Translated;
use crate::base::Mfn;
use crate::mm::p2m::{Former, P2mKind};

/// Entries or tables in one lot: of at most 512 pages with references each.
const MOST: usize = 16;

/// What becomes of the domain's own pages that were unmapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// They stay the domain's.
    Keep,
    /// The domain gives them up (`decrease_reservation`): they are free when their last user lets go.
    Relinquish,
    /// The same, but while the domain is promised more than is set aside for it, those that nobody else uses are set aside.
    Refill,
}

/// Entries that were taken out of a map, with the references that they held. To be settled
/// ([`Domain::settle_map`](crate::domain::Domain::settle_map)); dropped otherwise, the references are lost, and the pages with them.
#[derive(Default)]
#[must_use = "it holds references"]
pub struct Removed {
    formers: ArrayVec<Former, MOST>,
}

impl Removed {
    /// Nothing yet.
    pub const fn new() -> Self {
        Self {
            formers: ArrayVec::new_const(),
        }
    }

    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.formers.is_empty()
    }

    /// Whether it has to be settled before there can be more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.formers.is_full()
    }

    /// What was taken out, in the order in which it was.
    pub fn formers(&self) -> &[Former] {
        &self.formers
    }

    pub(super) fn push(&mut self, former: Former) {
        let refused = self.formers.try_push(former);
        debug_assert!(
            refused.is_ok(),
            "whoever takes entries out looks for room first"
        );
    }

    /// Drops the references. All CPUs have flushed since the entries were taken out.
    pub(super) fn finish(mut self, map: &Translated, after: After) -> u64 {
        let mut given_up = 0;
        let mut drop_one = |mfn, kind| given_up += u64::from(map.let_go(mfn, kind, after));
        for former in self.formers.take() {
            match former {
                Former::Hole => {}
                Former::Pages {
                    mfn, pages, kind, ..
                } => {
                    // Only RAM comes in more than one page and holds something.
                    for page in 0..if kind == P2mKind::Mmio { 0 } else { pages } {
                        drop_one(Mfn(mfn.0 + page), kind);
                    }
                }
                Former::Table { table, .. } => {
                    for (_, mfn, kind) in map.map.entries(&map.ram, table) {
                        drop_one(mfn, kind);
                    }
                    let pool = &mut map.inner.lock().inventory.pool;
                    pool.give_back(&map.ram, table);
                }
            }
        }
        given_up
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        if !self.formers.is_empty() {
            log::error!(
                "{} entries taken out of a map were not settled",
                self.formers.len()
            );
            debug_assert!(false, "references of a map's entries were lost");
        }
    }
}

impl Translated {
    /// Drops what an entry held of a page; `true` if the domain has given the page up.
    fn let_go(&self, mfn: Mfn, kind: P2mKind, after: After) -> bool {
        match kind {
            P2mKind::Ram | P2mKind::RamReadOnly | P2mKind::RamLogDirty => {
                let goes = match after {
                    After::Keep => false,
                    After::Relinquish => true,
                    After::Refill => !self.take_back(mfn),
                };
                let relinquished = goes && self.machine().relinquish(mfn, self.id).is_ok();
                self.machine().drop_writable(mfn);
                relinquished
            }
            P2mKind::ForeignWrite => {
                self.machine().drop_mapped(mfn, true);
                false
            }
            P2mKind::ForeignRead => {
                self.machine().drop_mapped(mfn, false);
                false
            }
            P2mKind::Hole
            | P2mKind::OnDemand
            | P2mKind::Mmio
            | P2mKind::GrantWrite
            | P2mKind::GrantRead => false,
        }
    }
}
