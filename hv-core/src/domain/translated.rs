//! The memory of a domain whose guest frames the hypervisor translates: its map, and what the entries hold.
//!
//! - [`removed`]: what was mapped and is no more, until nobody can reach it.
//! - [`held`]: pages that a look-up has given out.
//! - [`pool`]: the pages of the tables, which the toolstack sets aside for the domain.
//! - [`written`]: the log of written pages.
//! - [`demand`]: guest frames that get their pages with the first touch.
//! - [`growing`]: 1 GiB that comes 2 MiB at a time.
//!
//! # What an entry holds
//! | kind | reference |
//! | --- | --- |
//! | RAM, own or lent | one to each page as writable memory, whatever the guest may do with it |
//! | foreign | one to the page, as writable memory if the guest may write |
//! | grant | none: the pin of the grant holds the page, and is dropped after the entry is gone |
//! | device, on demand | none |
//!
//! So a page that the guest can reach, its owner cannot lose, and nobody can use as a page table.
//!
//! # Protocol
//! A change collects what it took out in a [`Removed`]. [`Domain::settle_map`] flushes the TLBs and then drops what that holds. Nothing
//! drops a reference before the flush.
//!
//! # Locks
//! Look-ups take none. Changes take the map's, and no other under it: references are taken before, and dropped after.

pub mod demand;
pub mod growing;
pub mod held;
pub mod pool;
pub mod removed;
pub mod written;

#[cfg(test)]
mod tests;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::{Domain, Machine};
use crate::base::lock::{Mutex, MutexGuard, rank};
use crate::base::{DomId, Gfn, Mfn};
use crate::mm::p2m::{Format, Former, Frames, Grants, Inventory, Mapping, P2mKind, Pool, Radix};

pub use demand::DemandSize;
pub use growing::Growing;
pub use held::HeldPage;
pub use pool::PoolSize;
pub use removed::{After, Removed};

/// Pages set aside for the tables of a new domain: what Xen gives one, enough for a guest of some hundred MiB. The toolstack sets its own
/// number before it gives the domain memory. The machine of the tests has less.
pub const DEFAULT_POOL: u64 = if cfg!(test) { 16 } else { 256 };

/// Width of guest-physical addresses (bits), where the machine does not have fewer.
pub const ADDRESS_BITS: u32 = 40;

/// log2 of the pages of a large mapping: 2 MiB.
pub const LARGE: u32 = 9;
/// log2 of the pages of a huge mapping: 1 GiB.
pub const HUGE: u32 = 18;

/// Times a look-up begins again before it waits for who changes the map.
const TRIES: u32 = 8;
/// Entries passed under one hold of the lock.
const STEPS: u32 = 1024;

/// Whether work that can be interrupted is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// It is.
    Done,
    /// Call again.
    More,
}

/// The machine's memory as tables.
pub(super) struct Ram(&'static dyn Machine);

impl Frames for Ram {
    fn table(&self, mfn: Mfn) -> &[AtomicU64; 512] {
        self.0.words(mfn)
    }
}

/// What the lock guards, beside the tables.
struct Inner {
    inventory: Inventory,
    log: written::Log,
    /// Pages set aside for what is promised.
    cache: demand::cache::Cache,
    /// What a request that was interrupted goes on with.
    growing: Option<Growing>,
    /// No entry is made any more.
    closed: bool,
    /// How far the end has come.
    ended: u64,
    /// A mapping before that which the end has taken out, as far as its pages were not let go of.
    falling: Former,
}

/// A domain's map of its guest frames.
pub struct Translated {
    id: DomId,
    ram: Ram,
    map: Radix,
    inner: Mutex<Inner>,
    generation: AtomicU64,
    max_gfn: AtomicU64,
    logs: AtomicBool,
    demand: demand::Demand,
    gib_pages: bool,
}

impl Translated {
    /// An empty map in this format for addresses below `1 << address_bits` bytes, with so many pages (one or more) set aside for its tables.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for addresses of fewer than 32 or more than 48 bits.
    pub fn new(
        id: DomId,
        machine: &'static dyn Machine,
        format: Format,
        address_bits: u32,
        pool_pages: u64,
    ) -> Result<Self, Errno> {
        if !(32..=48).contains(&address_bits) {
            return Err(Errno::EINVAL);
        }
        let ram = Ram(machine);
        let mut pool = Pool::new();
        for _ in 0..pool_pages.max(1) {
            match machine.alloc_page() {
                Some(page) => pool.grow(&ram, page),
                None => {
                    pool::drain(&ram, &mut pool);
                    return Err(Errno::ENOMEM);
                }
            }
        }
        let root = pool.take(&ram).ok_or(Errno::ENOMEM)?;
        let inner = Inner {
            inventory: Inventory::new(pool),
            log: written::Log::default(),
            cache: demand::cache::Cache::new(),
            growing: None,
            closed: false,
            ended: 0,
            falling: Former::Hole,
        };
        Ok(Self {
            id,
            ram,
            map: Radix::new(format, root, 1 << (address_bits - 12)),
            inner: Mutex::new(rank::TRANSLATED, inner),
            generation: AtomicU64::new(1),
            max_gfn: AtomicU64::new(0),
            logs: AtomicBool::new(false),
            demand: demand::Demand::new(),
            gib_pages: false,
        })
    }

    fn machine(&self) -> &'static dyn Machine {
        self.ram.0
    }

    /// The table that the processor begins with.
    #[must_use]
    pub fn root(&self) -> Mfn {
        self.map.root()
    }

    /// Counts flushes of the domain's translations.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// The highest guest frame that was ever mapped or promised; 0 while none was.
    #[must_use]
    pub fn max_gfn(&self) -> u64 {
        self.max_gfn.load(Ordering::Relaxed)
    }

    /// The first guest frame number that cannot exist.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.map.limit()
    }

    /// What stands behind a guest frame, and how far: also of a hole.
    #[must_use]
    pub fn mapping(&self, gfn: Gfn) -> Mapping {
        for _ in 0..TRIES {
            if let Ok(found) = self.map.lookup(&self.ram, gfn) {
                return found;
            }
        }
        let inner = self.inner.lock();
        self.map.see(&self.ram, &inner.inventory, gfn)
    }

    /// The page behind a guest frame, at this moment; nothing for a hole or a promise. Nothing keeps the page: see [`Self::hold`].
    #[must_use]
    pub fn lookup(&self, gfn: Gfn) -> Option<(Mfn, P2mKind)> {
        let found = self.mapping(gfn);
        found.kind.has_page().then_some((found.mfn, found.kind))
    }

    /// Where one of the domain's pages is mapped, as far as is known.
    #[must_use]
    pub fn gfn_of(&self, mfn: Mfn) -> Option<Gfn> {
        let gfn = Gfn(self.machine().m2p(mfn));
        let (found, kind) = self.lookup(gfn)?;
        (found == mfn && kind.is_ram()).then_some(gfn)
    }

    /// Finds the first mapping with pages from `from` on, within so many steps over entries and holes.
    /// The second value is where to go on; with no mapping and nothing at or beyond [`Self::limit`] left, there is none.
    #[must_use]
    pub fn next_mapped(&self, from: Gfn, steps: u32) -> (Option<(Gfn, Mapping)>, Gfn) {
        let mut at = from;
        for _ in 0..steps {
            if at.0 > self.max_gfn() {
                return (None, Gfn(self.limit()));
            }
            let found = self.mapping(at);
            let next = found.next(at);
            if found.kind.has_page() {
                return (Some((at, found)), next);
            }
            at = next;
        }
        (None, at)
    }

    /// Guest frames of a kind.
    #[must_use]
    pub fn count(&self, kind: P2mKind) -> u64 {
        self.inner.lock().inventory.count(kind)
    }

    /// The lock, for a change.
    fn open(&self) -> Result<MutexGuard<'_, Inner>, Errno> {
        let inner = self.inner.lock();
        if inner.closed {
            return Err(Errno::ESRCH);
        }
        Ok(inner)
    }

    /// Maps pages, for which the caller has the references. What was there goes into `removed`.
    fn enter(
        &self,
        (gfn, order): (Gfn, u32),
        mfn: Mfn,
        kind: P2mKind,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        debug_assert!(!removed.is_full(), "the caller settles first");
        if removed.is_full() {
            return Err(Errno::EAGAIN);
        }
        let mut inner = self.open()?;
        let former = self
            .map
            .set(&self.ram, &mut inner.inventory, (gfn, order), mfn, kind)?;
        self.note_removed(former, removed);
        if kind.is_ram() {
            for page in 0..1u64 << order {
                self.machine()
                    .set_m2p(Mfn(mfn.0 + page), gfn.0.saturating_add(page));
            }
        }
        let last = gfn.0.saturating_add((1 << order) - 1);
        self.max_gfn.fetch_max(last, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps what a change took out. The M2P forgets its pages at once: they may be mapped elsewhere before they are settled.
    fn note_removed(&self, former: Former, removed: &mut Removed) {
        match former {
            Former::Hole => return,
            Former::Pages {
                gfn,
                mfn,
                pages,
                kind,
            } => {
                for page in 0..if kind.is_ram() { pages } else { 0 } {
                    self.forget(Gfn(gfn.0 + page), Mfn(mfn.0 + page));
                }
            }
            Former::Table { gfn, table } => {
                for (index, mfn, kind) in self.map.entries(&self.ram, table) {
                    if kind.is_ram() {
                        self.forget(Gfn(gfn.0 + index), mfn);
                    }
                }
            }
        }
        removed.push(former);
    }

    fn forget(&self, gfn: Gfn, mfn: Mfn) {
        if self.machine().m2p(mfn) == gfn.0 {
            self.machine().set_m2p(mfn, u64::MAX);
        }
    }

    /// Maps RAM: `1 << order` pages (order 0 or 9) that are the domain's own, or one page that is lent to it. The entry takes its references.
    ///
    /// # Errors
    /// `EINVAL` for pages that are not the domain's, for what is not aligned or beyond the limit, and where a grant is mapped; `ENOMEM` when
    /// the pool has too few pages, `ESRCH` when the domain has died, `EAGAIN` when `removed` is full or a page is being looked at.
    pub fn add_ram(
        &self,
        gfn: Gfn,
        mfn: Mfn,
        order: u32,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        if !matches!(order, 0 | 9) {
            return Err(Errno::EINVAL);
        }
        let pages = 1u64 << order;
        mfn.0.checked_add(pages).ok_or(Errno::EINVAL)?;
        let mut taken = 0;
        let mut outcome = Ok(());
        while taken < pages && outcome.is_ok() {
            outcome = self.machine().take_writable(Mfn(mfn.0 + taken), self.id);
            taken += u64::from(outcome.is_ok());
        }
        let entered = outcome.and_then(|()| self.enter((gfn, order), mfn, P2mKind::Ram, removed));
        if entered.is_err() {
            for page in 0..taken {
                self.machine().drop_writable(Mfn(mfn.0 + page));
            }
        }
        entered
    }

    /// Maps a page of another domain. The entry takes its reference.
    ///
    /// # Errors
    /// As [`Self::add_ram`]; `EINVAL` when the page is not `owner`'s or cannot be had in this way.
    pub fn add_foreign(
        &self,
        gfn: Gfn,
        mfn: Mfn,
        owner: DomId,
        write: bool,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        let kind = if write {
            P2mKind::ForeignWrite
        } else {
            P2mKind::ForeignRead
        };
        self.machine().take_mapped(mfn, owner, write)?;
        self.enter((gfn, 0), mfn, kind, removed)
            .inspect_err(|_| self.machine().drop_mapped(mfn, write))
    }

    /// Maps a page by a grant, whose pin keeps the page until after [`Self::remove_grant`] and a flush.
    ///
    /// # Errors
    /// As [`Self::add_ram`].
    pub fn add_grant(
        &self,
        gfn: Gfn,
        mfn: Mfn,
        write: bool,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        let kind = if write {
            P2mKind::GrantWrite
        } else {
            P2mKind::GrantRead
        };
        self.enter((gfn, 0), mfn, kind, removed)
    }

    /// Unmaps what [`Self::add_grant`] mapped. The caller flushes ([`Domain::settle_map`]) before it drops the pin.
    ///
    /// # Errors
    /// `EINVAL` when no grant of that page is mapped there, `EAGAIN` when `removed` is full.
    pub fn remove_grant(&self, gfn: Gfn, mfn: Mfn, removed: &mut Removed) -> Result<(), Errno> {
        if removed.is_full() {
            return Err(Errno::EAGAIN);
        }
        let mut inner = self.inner.lock();
        if self.map.is_over() {
            return Err(Errno::EINVAL);
        }
        let inventory = &mut inner.inventory;
        let found = self.map.see(&self.ram, inventory, gfn);
        if !found.kind.is_grant() || found.mfn != mfn {
            return Err(Errno::EINVAL);
        }
        let taken = self.map.take(&self.ram, inventory, (gfn, 1), Grants::Go)?;
        self.note_removed(taken.former, removed);
        Ok(())
    }

    /// Maps registers of a device; order 0, 9 or 18. Whether the domain may have them, the caller knows.
    ///
    /// # Errors
    /// As [`Self::add_ram`]; `EEXIST` where 1 GiB is to replace smaller mappings or RAM.
    pub fn add_mmio(
        &self,
        gfn: Gfn,
        mfn: Mfn,
        order: u32,
        removed: &mut Removed,
    ) -> Result<(), Errno> {
        self.enter((gfn, order), mfn, P2mKind::Mmio, removed)
    }

    /// Unmaps from `gfn` on; returns how many guest frames were passed, holes included. That is fewer than `pages` when `removed` is full
    /// or it has taken long: the caller settles and goes on behind them.
    ///
    /// # Errors
    /// `EINVAL` for an empty range or one beyond the limit, and where a grant is mapped; `ENOMEM` when the pool has no page to split a mapping;
    /// `ESRCH`. Nothing was passed then.
    pub fn remove(&self, gfn: Gfn, pages: u64, removed: &mut Removed) -> Result<u64, Errno> {
        let mut inner = self.open()?;
        self.remove_some(&mut inner, (gfn, pages), Grants::Stay, removed)
    }

    fn remove_some(
        &self,
        inner: &mut Inner,
        (gfn, pages): (Gfn, u64),
        grants: Grants,
        removed: &mut Removed,
    ) -> Result<u64, Errno> {
        let mut passed = 0;
        for step in 0..STEPS {
            if (step > 0 && passed >= pages) || removed.is_full() {
                break;
            }
            let rest = (Gfn(gfn.0.saturating_add(passed)), pages - passed);
            match self.map.take(&self.ram, &mut inner.inventory, rest, grants) {
                Ok(taken) => {
                    self.note_removed(taken.former, removed);
                    passed += taken.passed;
                }
                Err(why) if passed == 0 => return Err(why),
                Err(_) => break,
            }
        }
        Ok(passed)
    }

    /// Makes a page of RAM read-only for the guest, or writable again ([`P2mKind::RamReadOnly`], [`P2mKind::Ram`]). The caller
    /// flushes ([`Domain::flush_translations`]).
    ///
    /// # Errors
    /// `EINVAL` for another kind and where there is no RAM; `ENOMEM`, `ESRCH`.
    pub fn set_kind(&self, gfn: Gfn, kind: P2mKind) -> Result<(), Errno> {
        let mut inner = self.open()?;
        let inventory = &mut inner.inventory;
        let found = self.map.see(&self.ram, inventory, gfn);
        let settable = matches!(kind, P2mKind::Ram | P2mKind::RamReadOnly);
        if !settable || !found.kind.is_ram() {
            return Err(Errno::EINVAL);
        }
        self.map.split(&self.ram, inventory, gfn, 0)?;
        self.map.set_kind(&self.ram, inventory, gfn, kind);
        Ok(())
    }

    /// Takes everything out of the map of a domain that has died, a little at a time: to be called until it is done. The domain's vCPUs run no more, and
    /// [`Domain::flush_translations`] was called after that. Grants that it has mapped are let go of behind this: nothing leads to
    /// their pages then.
    pub fn tear_down(&self, steps: u64) -> Step {
        for _ in 0..steps {
            let mut removed = Removed::new();
            let step = self.end_some(&mut removed);
            // Flushed before, and no vCPU has run since.
            removed.finish(self, After::Keep);
            if step == Step::Done {
                return step;
            }
        }
        Step::More
    }

    fn end_some(&self, removed: &mut Removed) -> Step {
        let mut inner = self.inner.lock();
        inner.closed = true;
        if self.map.is_over() {
            return Step::Done;
        }
        if self.end_huge(&mut inner, removed) {
            return Step::More;
        }
        let end = self.limit().min(self.max_gfn().saturating_add(1));
        if inner.ended < end {
            let rest = (Gfn(inner.ended), end - inner.ended);
            match self.remove_some(&mut inner, rest, Grants::Go, removed) {
                Ok(passed) => inner.ended += passed,
                Err(why) => {
                    log::error!("d{}: a mapping at its end: {why}", self.id);
                    inner.ended = end;
                }
            }
            return Step::More;
        }
        self.end_tables(&mut inner)
    }

    /// Gives the pages of the tables back, the root's as the last.
    fn end_tables(&self, inner: &mut Inner) -> Step {
        let pool = &mut inner.inventory.pool;
        let retired = pool.before_flush();
        pool.after_flush(&self.ram, retired);
        if !inner.cache.forget(&self.ram, pool, pool::AT_ONCE) {
            return Step::More;
        }
        for _ in 0..pool::AT_ONCE {
            let Some(page) = pool.shrink(&self.ram) else {
                // Tables that others are about to give back, after a flush.
                if pool.pages() > 1 {
                    return Step::More;
                }
                self.map.end();
                *pool = Pool::new();
                self.machine().free_page(self.map.root());
                return Step::Done;
            };
            self.machine().free_page(page);
        }
        Step::More
    }
}

impl Domain {
    /// Makes all CPUs forget what they know of the domain's map: to be called after an entry was taken out or allows less,
    /// and not with a lock held that others take with interrupts off. Returns when that is done.
    pub fn flush_translations(&self) {
        let Some(map) = &self.translated else { return };
        let covered = map.inner.lock().inventory.pool.before_flush();
        map.generation.fetch_add(1, Ordering::SeqCst);
        self.machine.flush_domain(self);
        let pool = &mut map.inner.lock().inventory.pool;
        pool.after_flush(&map.ram, covered);
    }

    /// Flushes what `removed` has, and drops its references. Returns how many pages of the domain's own it has given up, which is none with
    /// [`After::Keep`].
    pub fn settle_map(&self, removed: &mut Removed, after: After) -> u64 {
        let Some(map) = &self.translated else {
            return 0;
        };
        if removed.is_empty() {
            return 0;
        }
        self.flush_translations();
        core::mem::take(removed).finish(map, after)
    }
}
