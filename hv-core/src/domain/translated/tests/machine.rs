//! A machine with pages for tables, and pages that only have counts.

use std::alloc::Layout;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::{ME, PEER};
use crate::base::{CpuId, DomId, Mfn, Nanos};
use crate::domain::{CpuWay, Domain, IdleTimes, Machine, Progress, ShutdownReason, SleepRequest};
use crate::mm::Holdings;
use crate::sched::Unit;

/// Pages for tables: 1 and up.
const TABLES: u64 = 40;
/// First page of the domain's own.
pub const OWN: u64 = 1024;
/// First page of the other domain.
pub const OTHER: u64 = OWN + COUNT;
/// Pages of each.
pub const COUNT: u64 = 2048;
/// First page of 1 GiB of the domain's own, where the machine has that.
pub const GIB: u64 = 1 << 18;
/// The first of the domain's own that can be looked into.
pub const CONTENTS: u64 = 16;

#[derive(Default)]
struct Refs {
    write: AtomicI64,
    plain: AtomicI64,
}

pub struct Bank {
    words: &'static [[AtomicU64; 512]],
    contents: &'static [[AtomicU64; 512]],
    free: Mutex<Vec<u64>>,
    refs: Vec<Refs>,
    m2p: Vec<AtomicU64>,
    relinquished: Mutex<Vec<u64>>,
    /// References dropped so far.
    pub drops: AtomicU64,
}

impl Bank {
    pub fn new() -> &'static Self {
        Self::with_pages(OTHER + COUNT)
    }

    /// With the pages from [`GIB`] on.
    pub fn with_gib() -> &'static Self {
        Self::with_pages(2 * GIB)
    }

    fn with_pages(end: u64) -> &'static Self {
        let page = || std::array::from_fn(|_| AtomicU64::new(0x1234_5678));
        Box::leak(Box::new(Self {
            words: (0..=TABLES).map(|_| page()).collect::<Vec<_>>().leak(),
            contents: (0..CONTENTS).map(|_| page()).collect::<Vec<_>>().leak(),
            free: Mutex::new((1..=TABLES).collect()),
            refs: (0..end).map(|_| Refs::default()).collect(),
            m2p: (0..end).map(|_| AtomicU64::new(u64::MAX)).collect(),
            relinquished: Mutex::new(Vec::new()),
            drops: AtomicU64::new(0),
        }))
    }

    /// References to write, and plain ones.
    pub fn refs(&self, mfn: u64) -> (i64, i64) {
        let refs = &self.refs[mfn as usize];
        let load = |count: &AtomicI64| count.load(Ordering::Relaxed);
        (load(&refs.write), load(&refs.plain))
    }

    pub fn relinquished(&self) -> Vec<u64> {
        self.relinquished.lock().unwrap().clone()
    }

    /// Nothing is referenced, and no page is missing.
    pub fn assert_all_back(&self) {
        for mfn in OWN..self.refs.len() as u64 {
            assert_eq!(self.refs(mfn), (0, 0), "page {mfn:#x}");
        }
        let mut free = self.free.lock().unwrap().clone();
        free.sort_unstable();
        assert_eq!(free, (1..=TABLES).collect::<Vec<_>>());
        let mut known = self.m2p.iter();
        assert!(known.all(|gfn| gfn.load(Ordering::Relaxed) == u64::MAX));
    }
}

impl Machine for Bank {
    fn words(&self, mfn: Mfn) -> &'static [AtomicU64; 512] {
        match mfn.0.checked_sub(OWN) {
            Some(own) => &self.contents[own as usize],
            None => &self.words[mfn.0 as usize],
        }
    }
    fn take_writable(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        self.take_mapped(mfn, owner, true)
    }
    fn drop_writable(&self, mfn: Mfn) {
        self.drop_mapped(mfn, true);
    }
    fn owner_of(&self, mfn: Mfn) -> Option<DomId> {
        match mfn.0 {
            OWN..OTHER => Some(ME),
            n if (OTHER..OTHER + COUNT).contains(&n) => Some(PEER),
            n if n >= GIB && n < self.refs.len() as u64 => Some(ME),
            _ => None,
        }
    }
    fn take_mapped(&self, mfn: Mfn, owner: DomId, write: bool) -> Result<(), Errno> {
        if self.owner_of(mfn) != Some(owner) {
            return Err(Errno::EINVAL);
        }
        let refs = &self.refs[mfn.0 as usize];
        let count = if write { &refs.write } else { &refs.plain };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn drop_mapped(&self, mfn: Mfn, write: bool) {
        let refs = &self.refs[mfn.0 as usize];
        let count = if write { &refs.write } else { &refs.plain };
        assert!(count.fetch_sub(1, Ordering::Relaxed) > 0);
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
    fn relinquish(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        assert_eq!(self.owner_of(mfn), Some(owner));
        self.relinquished.lock().unwrap().push(mfn.0);
        Ok(())
    }
    fn users(&self, mfn: Mfn, owner: DomId) -> Option<u64> {
        let (write, plain) = self.refs(mfn.0);
        let own = self.owner_of(mfn) == Some(owner);
        own.then_some((write + plain) as u64)
    }
    fn alloc_page(&self) -> Option<Mfn> {
        self.free.lock().unwrap().pop().map(Mfn)
    }
    fn free_page(&self, mfn: Mfn) {
        // Whoever has it next writes what he likes.
        for word in self.words(mfn) {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        self.free.lock().unwrap().push(mfn.0);
    }
    fn set_m2p(&self, mfn: Mfn, gfn: u64) {
        self.m2p[mfn.0 as usize].store(gfn, Ordering::Relaxed);
    }
    fn m2p(&self, mfn: Mfn) -> u64 {
        let entry = self.m2p.get(mfn.0 as usize);
        entry.map_or(u64::MAX, |gfn| gfn.load(Ordering::Relaxed))
    }

    fn words32(&self, _: Mfn) -> &'static [AtomicU32; 1024] {
        unreachable!()
    }
    fn flush_domain(&self, _: &Domain) {
        unreachable!()
    }
    fn share_with(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        unreachable!()
    }
    fn assign(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        unreachable!()
    }
    fn steal(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        unreachable!()
    }
    fn alloc_unzeroed(&self, _: u32, _: u32, _: u64) -> Option<Mfn> {
        unreachable!()
    }
    fn zero_pages(&self, _: Mfn, _: u64) {
        unreachable!()
    }
    fn free_block(&self, _: Mfn, _: u64, _: u64) {
        unreachable!()
    }
    fn claim(&self, _: u64) -> Result<(), Errno> {
        unreachable!()
    }
    fn drop_claim(&self, _: u64) {
        unreachable!()
    }
    fn claimed(&self) -> u64 {
        unreachable!()
    }
    fn free_pages(&self) -> u64 {
        unreachable!()
    }
    fn now(&self) -> Nanos {
        unreachable!()
    }
    fn this_cpu(&self) -> CpuId {
        unreachable!()
    }
    fn interrupt(&self, _: CpuId) {
        unreachable!()
    }
    fn reschedule(&self, _: CpuId) {
        unreachable!()
    }
    fn hardware_shutdown(&self, _: ShutdownReason) {
        unreachable!()
    }
    fn enter_sleep(&self, _: SleepRequest) -> Result<(), Errno> {
        unreachable!()
    }
    fn idle(&self, _: CpuId) -> IdleTimes {
        unreachable!()
    }
    fn move_cpu(&self, _: CpuId, _: CpuWay) -> Result<Progress, Errno> {
        unreachable!()
    }
    fn load_microcode(&self, _: &[u8]) -> Result<(), Errno> {
        unreachable!()
    }
    fn arm_vcpu_timer(&self, _: Unit, _: Option<Nanos>) {
        unreachable!()
    }
    fn set_aside(&self, _: Layout) -> Result<(), Errno> {
        unreachable!()
    }
    fn unshare(&self, _: Mfn) {
        unreachable!()
    }
}
