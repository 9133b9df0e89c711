//! Memory on demand (Xen's "populate on demand"): guest frames that the domain was promised, and the pages set aside for them.
//!
//! A domain with `maxmem` above `memory` boots with more guest frames than it has pages. The toolstack sets pages aside
//! (`XENMEM_set_pod_target`) and promises guest frames ([`Translated::promise`]); the first touch of such a frame takes a page out of
//! those ([`Translated::fill`]). The guest's balloon then gives back as many frames as were promised too much.
//!
//! - [`cache`]: the list of the pages that are set aside. They are the domain's own, count in its account, and nothing leads to them.
//! - [`sweep`]: when none is left: pages that the guest has, and that are all zero.
//!
//! # Who takes a page
//! The guest by a nested fault, and the hypervisor for whoever names the frame: copies and page walks ([`Domain::hold`]), page tables
//! of the control domain and other domains' maps ([`Domain::back`]). Grants and event queues are looked up under locks, where nobody
//! may wait for a flush: they take what is set aside ([`Translated::hold`]), and for them [`sweep`] keeps a few pages.
//!
//! # What becomes of a domain whose frame gets none
//! It is noted as starved, with the reason, and goes down as crashed at the next exit of one of its vCPUs. Nobody else is concerned.

pub(super) mod cache;
pub(super) mod sweep;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use xen_abi::errno::Errno;

use super::{Inner, Translated};
use crate::base::lock::{Mutex, rank};
use crate::base::{Gfn, Mfn};
use crate::domain::{Domain, HeldPage};
use crate::mm::p2m::{Former, P2mKind};
use sweep::Round;

/// Pages that a sweep keeps set aside while more than these are promised: for who cannot wait for a sweep.
const RESERVE: u64 = 8;
/// Frames that got their pages last, which no sweep takes: what one instruction needs at once, by several vCPUs. The machine of the tests has
/// few pages.
const RECENT: usize = if cfg!(test) { 2 } else { 32 };
/// Sweeps that a look-up waits for; a guest's own touch has no bound, since the guest can be interrupted between two.
const SWEEPS: u32 = 64;

/// Guest frames promised, and pages set aside for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DemandSize {
    /// Guest frames without a page, of 4 KiB (`pod_entries`).
    pub promised: u64,
    /// Pages set aside (`pod_cache_pages`).
    pub cached: u64,
}

/// Pages to be set aside so that a domain of `total` pages has `target`; nothing where that is for the guest's balloon to do
/// (xen/memory.h, `XENMEM_set_pod_target`).
#[must_use]
pub const fn goal(total: u64, size: DemandSize, target: u64) -> Option<u64> {
    let populated = total.saturating_sub(size.cached);
    if (populated > 0 && size.promised == 0) || target < total {
        return None;
    }
    let goal = target - populated;
    // While it is built nothing is promised yet. Later no more is of use than is promised.
    if populated > 0 && goal > size.promised {
        return Some(size.promised);
    }
    Some(goal)
}

/// Why a promised frame got no page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// None is set aside.
    Page,
    /// The map has no page for the tables that lead to it.
    Table,
    /// The page is in use at this moment: try again.
    Busy,
    /// The domain has died.
    Over,
}

/// What is beside the lock of the map.
pub(super) struct Demand {
    starved: AtomicBool,
    /// The frames that got their pages last, plus one, and how many did.
    recent: [AtomicU64; RECENT],
    filled: AtomicUsize,
    /// One sweep at a time.
    round: Mutex<Round>,
}

impl Demand {
    pub(super) const fn new() -> Self {
        Self {
            starved: AtomicBool::new(false),
            recent: [const { AtomicU64::new(0) }; RECENT],
            filled: AtomicUsize::new(0),
            round: Mutex::new(rank::DEMAND, Round::new()),
        }
    }

    /// Notes that a frame got its page.
    fn note_filled(&self, gfn: Gfn) {
        let next = self.filled.fetch_add(1, Ordering::Relaxed) % RECENT;
        if let Some(slot) = self.recent.get(next) {
            slot.store(gfn.0 + 1, Ordering::Relaxed);
        }
    }

    /// Whether a frame is one of those that got their pages last: who touched it has perhaps not come to use it.
    fn is_recent(&self, gfn: Gfn) -> bool {
        let mut recent = self.recent.iter();
        recent.any(|slot| slot.load(Ordering::Relaxed) == gfn.0 + 1)
    }
}

impl Inner {
    pub(super) fn demand(&self) -> DemandSize {
        DemandSize {
            promised: self.inventory.count(P2mKind::OnDemand),
            cached: self.cache.len(),
        }
    }
}

impl Translated {
    /// What is promised and set aside.
    #[must_use]
    pub fn demand(&self) -> DemandSize {
        self.inner.lock().demand()
    }

    /// Whether a guest frame is promised and has no page.
    #[must_use]
    pub fn is_promised(&self, gfn: Gfn) -> bool {
        self.mapping(gfn).kind == P2mKind::OnDemand
    }

    /// Whether a promise was broken: the domain cannot run on.
    #[must_use]
    pub fn is_starved(&self) -> bool {
        self.demand.starved.load(Ordering::Relaxed)
    }

    /// Promises `1 << order` guest frames (order 0, 9 or 18) where nothing is, or only promises are.
    ///
    /// # Errors
    /// `EBUSY` where something is; `EEXIST` where 1 GiB is to replace smaller entries; `EINVAL` for what is beyond the limit or not
    /// aligned; `ENOMEM` when the pool has too few pages; `ESRCH`. Nothing is changed then.
    pub fn promise(&self, gfn: Gfn, order: u32) -> Result<(), Errno> {
        let pages = match order {
            0 | 9 | 18 => 1u64 << order,
            _ => return Err(Errno::EINVAL),
        };
        let last = gfn.0.checked_add(pages - 1).ok_or(Errno::EINVAL)?;
        if !gfn.0.is_multiple_of(pages) || last >= self.limit() {
            return Err(Errno::EINVAL);
        }
        let mut inner = self.open()?;
        let inventory = &mut inner.inventory;
        let first = self.map.see(&self.ram, inventory, gfn);
        if order > 9 && first.order < order {
            return Err(Errno::EEXIST);
        }
        let mut at = gfn;
        while at.0 <= last {
            let found = self.map.see(&self.ram, inventory, at);
            if !matches!(found.kind, P2mKind::Hole | P2mKind::OnDemand) {
                return Err(Errno::EBUSY);
            }
            at = found.next(at);
        }
        let former = self.map.set(
            &self.ram,
            inventory,
            (gfn, order),
            Mfn(0),
            P2mKind::OnDemand,
        )?;
        // It held nothing but promises, and the processor may still walk through it.
        if let Former::Table { table, .. } = former {
            inventory.pool.retire(&self.ram, table);
        }
        self.max_gfn.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }

    /// Sets a page of the domain's own aside to which nothing leads.
    ///
    /// # Errors
    /// `ENOMEM` when the pool has no page for the list; `ESRCH`.
    pub fn set_aside(&self, page: Mfn) -> Result<(), Errno> {
        let mut inner = self.open()?;
        let Inner {
            cache, inventory, ..
        } = &mut *inner;
        cache.push(&self.ram, &mut inventory.pool, page)
    }

    /// A page that is set aside no longer.
    pub fn take_aside(&self) -> Option<Mfn> {
        let mut inner = self.open().ok()?;
        let Inner {
            cache, inventory, ..
        } = &mut *inner;
        cache.pop(&self.ram, &mut inventory.pool)
    }

    /// The same if more is set aside than is promised.
    pub fn take_surplus(&self) -> Option<Mfn> {
        let DemandSize { promised, cached } = self.demand();
        (cached > promised).then(|| self.take_aside()).flatten()
    }

    /// Puts a page that is set aside, zeroed, behind a promised guest frame. Without a promise there is nothing to do.
    ///
    /// # Errors
    /// [`Lack`].
    pub fn fill(&self, gfn: Gfn) -> Result<(), Lack> {
        if !self.is_promised(gfn) {
            return Ok(());
        }
        let page = match self.open() {
            Err(_) => return Err(Lack::Over),
            Ok(mut inner) => {
                let Inner {
                    cache, inventory, ..
                } = &mut *inner;
                cache.pop(&self.ram, &mut inventory.pool)
            }
        };
        let page = page.ok_or(Lack::Page)?;
        let done = self.put_behind(gfn, page);
        match done {
            Ok(true) => return Ok(()),
            // Somebody else was faster.
            Ok(false) | Err(_) => self.put_back(page),
        }
        done.map(drop)
    }

    /// Gives a promised frame this page; `false`: it is promised no longer.
    fn put_behind(&self, gfn: Gfn, page: Mfn) -> Result<bool, Lack> {
        let machine = self.machine();
        machine
            .take_writable(page, self.id)
            .map_err(|_| Lack::Busy)?;
        // It was perhaps the guest's before.
        for word in machine.words(page) {
            word.store(0, Ordering::Relaxed);
        }
        let done = self.enter_promised(gfn, page);
        if done != Ok(true) {
            machine.drop_writable(page);
        }
        done
    }

    fn enter_promised(&self, gfn: Gfn, page: Mfn) -> Result<bool, Lack> {
        let mut inner = self.open().map_err(|_| Lack::Over)?;
        let inventory = &mut inner.inventory;
        if self.map.see(&self.ram, inventory, gfn).kind != P2mKind::OnDemand {
            return Ok(false);
        }
        let set = self
            .map
            .set(&self.ram, inventory, (gfn, 0), page, P2mKind::Ram);
        let former = set.map_err(|_| Lack::Table)?;
        debug_assert_eq!(former, Former::Hole, "a promise holds nothing");
        self.machine().set_m2p(page, gfn.0);
        self.demand.note_filled(gfn);
        Ok(true)
    }

    /// Sets a page aside again. Where that cannot be, the domain has one less.
    fn put_back(&self, page: Mfn) {
        if self.set_aside(page).is_err() {
            let _lost_already = self.machine().relinquish(page, self.id);
        }
    }

    /// Sets a page aside that the guest had and gave back, while more is promised than is set aside. The caller has the
    /// reference of its entry, and nobody has another: who still uses the page would see what it is used for next.
    pub(super) fn take_back(&self, page: Mfn) -> bool {
        if self.machine().users(page, self.id) != Some(1) {
            return false;
        }
        let Ok(mut inner) = self.open() else {
            return false;
        };
        let DemandSize { promised, cached } = inner.demand();
        let Inner {
            cache, inventory, ..
        } = &mut *inner;
        promised > cached && cache.push(&self.ram, &mut inventory.pool, page).is_ok()
    }

    /// For who has looked up a frame under locks and got none: if that is because nothing is set aside, the promise is broken.
    pub fn starve_if_promised(&self, gfn: Gfn) {
        if self.is_promised(gfn) {
            self.starve(gfn, Lack::Page);
        }
    }

    /// Notes that a promise is broken. The domain goes down at the next exit of one of its vCPUs.
    #[cold]
    pub fn starve(&self, gfn: Gfn, lack: Lack) {
        let why = match lack {
            Lack::Page => "no page is set aside, and none of its pages is empty",
            Lack::Table => "no page is left for the tables of its map",
            Lack::Busy => "the page for it stays in use",
            Lack::Over => return,
        };
        if self.demand.starved.swap(true, Ordering::Relaxed) {
            return;
        }
        let DemandSize { promised, cached } = self.demand();
        log::error!(
            "d{}: memory on demand: {why}: frame {:#x} is promised and gets none, {promised} are promised, {cached} set aside; the domain crashes",
            self.id,
            gfn.0
        );
    }
}

impl Domain {
    /// Puts a page behind a promised guest frame, if need be one that a sweep finds. Waits for flushes: to be called with no lock
    /// held.
    ///
    /// # Errors
    /// `EAGAIN`: not yet, try again; `ENOMEM`: there is none, and the domain is starved; `ESRCH`, `EINVAL`.
    pub fn populate(&self, gfn: Gfn) -> Result<(), Errno> {
        let map = self.translated.as_ref().ok_or(Errno::EINVAL)?;
        let all_seen = self.sweep();
        let mut done = map.fill(gfn);
        if done == Err(Lack::Table) && map.has_retired() {
            self.flush_translations();
            done = map.fill(gfn);
        }
        match done {
            Ok(()) => Ok(()),
            Err(Lack::Busy) => Err(Errno::EAGAIN),
            Err(Lack::Page) if !all_seen => Err(Errno::EAGAIN),
            Err(Lack::Over) => Err(Errno::ESRCH),
            Err(lack @ (Lack::Page | Lack::Table)) => {
                map.starve(gfn, lack);
                Err(Errno::ENOMEM)
            }
        }
    }

    /// Sees to it that a promised guest frame has its page, for who names the frame; as [`Self::populate`]. Whether it has one, the
    /// look-up tells.
    pub fn back(&self, gfn: Gfn) {
        let Some(map) = &self.translated else { return };
        if !map.is_promised(gfn) {
            return;
        }
        for _ in 0..SWEEPS {
            if self.populate(gfn) != Err(Errno::EAGAIN) {
                return;
            }
        }
        map.starve(gfn, Lack::Page);
    }

    /// [`Translated::hold`], also of a frame that is promised; as [`Self::populate`].
    #[must_use]
    pub fn hold(&self, gfn: Gfn, write: bool) -> Option<HeldPage<'_>> {
        let map = self.translated.as_ref()?;
        if let Some(held) = map.hold(gfn, write) {
            return Some(held);
        }
        if !map.is_promised(gfn) {
            return None;
        }
        self.back(gfn);
        map.hold(gfn, write)
    }
}
