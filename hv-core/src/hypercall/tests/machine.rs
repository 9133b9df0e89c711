//! RAM of a few frames, with the page-table logic's view of it.

use std::alloc::Layout;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use xen_abi::errno::Errno;

use super::fuzz::heap;
use crate::base::{CpuId, DomId, Mfn, Nanos};
use crate::boot::microcode::{self, Maker, Target};
use crate::domain::{
    CpuWay, Domain, Hypervisor, IdleTimes, Machine, Progress, ShutdownReason, SleepRequest,
};
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::refs::{
    get_page, get_page_and_type, put_page, put_writable, relinquish_page, unshare_page,
};
use crate::mm::{
    Frame, Globals, Holdings, IoAccess, Owner, PageType, PtMachine, Reach, RefError, Standing,
    TlbScope,
};
use crate::sched::Unit;

/// Frames of RAM.
pub const FRAMES: usize = 96;

/// What L4 entry 256 of every root is; those behind it count up.
pub const FIRST_SLOT: u64 = 0x5000;

/// Pages of the block that a machine has beside its frames when it has one.
pub const BLOCK: u64 = 1 << 18;

/// What is known of a page of the block, which has no contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    /// Nobody has it.
    Free,
    /// Taken, and what somebody left is in it.
    Left,
    /// Taken and zeroed.
    Zeroed,
}

/// The machine. Frames stay for good, as RAM does.
pub struct FakeMachine {
    pub frames: Vec<Frame>,
    words: &'static [[AtomicU64; ENTRIES]],
    free: Mutex<Vec<u64>>,
    /// The pages from [`BLOCK`] on.
    block: Mutex<Vec<Content>>,
    pub now: AtomicU64,
    slots: [u64; HYPERVISOR_SLOTS],
    /// CPUs that were asked to reschedule or interrupted.
    pub kicked: Mutex<Vec<CpuId>>,
    pub sleep: Mutex<Option<SleepRequest>>,
    cpu_steps: AtomicU32,
    cpu_fails: AtomicBool,
    /// Flushes asked for by page-table logic or handlers.
    pub flushes: AtomicU32,
    m2p: Vec<AtomicU64>,
    claimed: AtomicU64,
    /// Who knows the owners of frames; set once it is there.
    pub hv: OnceLock<&'static Hypervisor>,
}

/// Memory of machines that are over, for the next ones.
static USED: Mutex<Vec<&'static [[AtomicU64; ENTRIES]]>> = Mutex::new(Vec::new());

/// Zeroed memory, for good.
fn memory() -> &'static [[AtomicU64; ENTRIES]] {
    let Some(used) = USED.lock().unwrap().pop() else {
        let fresh = (0..FRAMES).map(|_| [const { AtomicU64::new(0) }; ENTRIES]);
        return fresh.collect::<Vec<_>>().leak();
    };
    for word in used.as_flattened() {
        word.store(0, Ordering::Relaxed);
    }
    used
}

impl FakeMachine {
    pub fn new() -> &'static Self {
        Self::with_pages(0)
    }

    /// One that has 1 GiB of pages besides, which can be had as blocks of 2 MiB and 1 GiB. Nothing can be looked at in them.
    pub fn with_block() -> &'static Self {
        Self::with_pages(BLOCK)
    }

    fn with_pages(block: u64) -> &'static Self {
        let frames = match block {
            0 => FRAMES as u64,
            _ => BLOCK + block,
        };
        Box::leak(Box::new(Self {
            frames: (0..frames).map(|_| Frame::free()).collect(),
            block: Mutex::new(vec![Content::Free; block as usize]),
            words: memory(),
            // Frame 0 is never given out: its number would pass for "none".
            free: Mutex::new((1..FRAMES as u64).rev().collect()),
            now: AtomicU64::new(1_000_000),
            slots: std::array::from_fn(|i| FIRST_SLOT + i as u64),
            kicked: Mutex::new(Vec::new()),
            sleep: Mutex::new(None),
            cpu_steps: AtomicU32::new(0),
            cpu_fails: AtomicBool::new(false),
            flushes: AtomicU32::new(0),
            m2p: (0..frames).map(|_| AtomicU64::new(u64::MAX)).collect(),
            claimed: AtomicU64::new(0),
            hv: OnceLock::new(),
        }))
    }

    /// Its memory becomes that of a machine to come: nothing may look at this one any more.
    pub fn recycle(&self) {
        USED.lock().unwrap().push(self.words);
    }

    /// A frame that belongs to `owner`.
    pub fn page_of(&self, owner: DomId) -> Mfn {
        let mfn = self.alloc_page().expect("the test machine has frames");
        match self.domain(owner) {
            Some(d) => {
                d.pages.fetch_add(1, Ordering::Relaxed);
                self.assign(mfn, &d.holdings).expect("the domain lives");
            }
            None => self.frame_of(mfn).assign(Owner::Domain(owner)).unwrap(),
        }
        mfn
    }

    fn domain(&self, id: DomId) -> Option<Arc<Domain>> {
        self.hv.get()?.domain(id)
    }

    /// Blocks of any order, of the frames that are free.
    fn small_block(&self, order: u32) -> Option<Mfn> {
        let size = 1 << order;
        let mut free = self.free.lock().unwrap();
        let all_free = |first: &u64| (*first..first + size).all(|n| free.contains(&n));
        let first = (0..FRAMES as u64).step_by(size as usize).find(all_free)?;
        free.retain(|n| !(first..first + size).contains(n));
        Some(Mfn(first))
    }

    /// Blocks of 2 MiB and more.
    fn large_block(&self, order: u32) -> Option<Mfn> {
        let mut block = self.block.lock().unwrap();
        let mut parts = block.chunks_exact(1 << order);
        let first = parts.position(|part| part.iter().all(|c| *c == Content::Free))? << order;
        block[first..first + (1 << order)].fill(Content::Left);
        Some(Mfn(BLOCK + first as u64))
    }

    /// Whether CPUs that are sent for do not answer.
    pub fn cpu_fails(&self, fails: bool) {
        self.cpu_fails.store(fails, Ordering::Relaxed);
    }

    pub fn frame_of(&self, mfn: Mfn) -> &Frame {
        &self.frames[mfn.0 as usize]
    }
}

impl Machine for FakeMachine {
    fn words(&self, mfn: Mfn) -> &'static [AtomicU64; 512] {
        &self.words[mfn.0 as usize]
    }

    fn words32(&self, mfn: Mfn) -> &'static [AtomicU32; 1024] {
        let words: *const [AtomicU64; 512] = self.words(mfn);
        // SAFETY: same size, smaller alignment, both are plain memory with interior mutability, and
        // it is leaked. Mixed-size atomics are what guests do to real pages as well.
        unsafe { &*words.cast() }
    }

    fn take_writable(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        get_page_and_type(self, mfn, owner, PageType::Writable, Reach::Owner)
            .map_err(|_| Errno::EINVAL)
    }

    fn drop_writable(&self, mfn: Mfn) {
        put_writable(self, mfn);
    }

    fn owner_of(&self, mfn: Mfn) -> Option<DomId> {
        match self.frame(mfn)?.owner() {
            Owner::Domain(id) => Some(id),
            _ => None,
        }
    }

    fn take_mapped(&self, mfn: Mfn, owner: DomId, write: bool) -> Result<(), Errno> {
        if write {
            get_page_and_type(self, mfn, owner, PageType::Writable, Reach::Foreign)
                .map_err(|_| Errno::EINVAL)
        } else {
            get_page(self, mfn, Owner::Domain(owner)).map_err(|_| Errno::EINVAL)
        }
    }

    fn drop_mapped(&self, mfn: Mfn, write: bool) {
        if write {
            put_writable(self, mfn);
        } else {
            put_page(self, mfn);
        }
    }

    fn flush_domain(&self, _: &Domain) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn share_with(&self, mfn: Mfn, with: &Holdings) -> Result<(), Errno> {
        with.enter(self, mfn, Standing::Lent)
            .map_err(|_| Errno::ESRCH)?;
        self.take_writable(mfn, with.id())
    }

    fn assign(&self, mfn: Mfn, to: &Holdings) -> Result<(), Errno> {
        if let Some(page) = mfn.0.checked_sub(BLOCK) {
            let content = self.block.lock().unwrap()[page as usize];
            assert_eq!(content, Content::Zeroed, "whose it was may be in it");
        }
        to.enter(self, mfn, Standing::Own).map_err(|_| Errno::ESRCH)
    }

    fn steal(&self, mfn: Mfn, from: &Holdings) -> Result<(), Errno> {
        let frame = self.frame(mfn).ok_or(Errno::EINVAL)?;
        frame.steal(from.id()).map_err(|why| match why {
            RefError::InUse => Errno::EBUSY,
            _ => Errno::EINVAL,
        })?;
        from.unlink(self, mfn);
        frame.free_up().unwrap();
        assert!(!from.leave(), "the tests keep a page of each domain");
        Ok(())
    }

    fn relinquish(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        relinquish_page(self, mfn, owner).map_err(|_| Errno::EINVAL)
    }

    fn users(&self, mfn: Mfn, owner: DomId) -> Option<u64> {
        crate::mm::refs::users(self, mfn, owner)
    }

    fn alloc_page(&self) -> Option<Mfn> {
        self.free.lock().unwrap().pop().map(Mfn)
    }

    fn alloc_unzeroed(&self, order: u32, _: u32, claimed: u64) -> Option<Mfn> {
        let others = self.claimed.load(Ordering::Relaxed) - claimed;
        if self.free_pages() < (1 << order) + others {
            return None;
        }
        let first = match order {
            0..9 => self.small_block(order),
            _ => self.large_block(order),
        }?;
        self.claimed.fetch_sub(claimed, Ordering::Relaxed);
        Some(first)
    }

    fn zero_pages(&self, first: Mfn, pages: u64) {
        let Some(start) = first.0.checked_sub(BLOCK) else {
            let pages = (first.0..first.0 + pages).map(|n| self.words(Mfn(n)));
            return pages
                .flatten()
                .for_each(|word| word.store(0, Ordering::Relaxed));
        };
        for content in &mut self.block.lock().unwrap()[start as usize..][..pages as usize] {
            assert_eq!(*content, Content::Left);
            *content = Content::Zeroed;
        }
    }

    fn free_block(&self, first: Mfn, pages: u64, claimed: u64) {
        for page in 0..pages {
            self.free_page(Mfn(first.0 + page));
        }
        self.claimed.fetch_add(claimed, Ordering::Relaxed);
    }

    fn claim(&self, pages: u64) -> Result<(), Errno> {
        if self.free_pages() < pages + self.claimed() {
            return Err(Errno::ENOMEM);
        }
        self.claimed.fetch_add(pages, Ordering::Relaxed);
        Ok(())
    }

    fn drop_claim(&self, pages: u64) {
        self.claimed.fetch_sub(pages, Ordering::Relaxed);
    }

    fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    fn free_page(&self, mfn: Mfn) {
        let Some(page) = mfn.0.checked_sub(BLOCK) else {
            return self.free.lock().unwrap().push(mfn.0);
        };
        let content = &mut self.block.lock().unwrap()[page as usize];
        assert_ne!(*content, Content::Free, "a page is freed once");
        *content = Content::Free;
    }

    fn free_pages(&self) -> u64 {
        let block = self.block.lock().unwrap();
        let free = block.iter().filter(|c| **c == Content::Free);
        free.count() as u64 + self.free.lock().unwrap().len() as u64
    }

    fn set_m2p(&self, mfn: Mfn, gfn: u64) {
        self.m2p[mfn.0 as usize].store(gfn, Ordering::Relaxed);
    }

    fn m2p(&self, mfn: Mfn) -> u64 {
        let entry = self.m2p.get(mfn.0 as usize);
        entry.map_or(u64::MAX, |gfn| gfn.load(Ordering::Relaxed))
    }

    fn now(&self) -> Nanos {
        self.now.load(Ordering::Relaxed)
    }

    fn this_cpu(&self) -> CpuId {
        0
    }

    fn interrupt(&self, cpu: CpuId) {
        heap::unlimited(|| self.kicked.lock().unwrap().push(cpu));
    }

    fn reschedule(&self, cpu: CpuId) {
        heap::unlimited(|| self.kicked.lock().unwrap().push(cpu));
    }

    fn hardware_shutdown(&self, _: ShutdownReason) {}

    fn enter_sleep(&self, request: SleepRequest) -> Result<(), Errno> {
        *self.sleep.lock().unwrap() = Some(request);
        Ok(())
    }

    fn idle(&self, cpu: CpuId) -> IdleTimes {
        IdleTimes {
            time: 1000 + u64::from(cpu),
            entries: 3 + u64::from(cpu),
            timer_interrupts: 9,
        }
    }

    fn move_cpu(&self, _: CpuId, _: CpuWay) -> Result<Progress, Errno> {
        if self.cpu_fails.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        // Every third step is the last.
        let step = self.cpu_steps.fetch_add(1, Ordering::Relaxed);
        Ok(if step % 3 == 2 {
            Progress::Done
        } else {
            Progress::Pending
        })
    }

    fn load_microcode(&self, file: &[u8]) -> Result<(), Errno> {
        let cpu = Target {
            maker: Maker::Amd,
            signature: 1,
            platform: 0,
            revision: 0,
        };
        microcode::select(file, cpu).map_err(Errno::from)?;
        Ok(())
    }

    fn arm_vcpu_timer(&self, _: Unit, _: Option<Nanos>) {}

    fn set_aside(&self, block: Layout) -> Result<(), Errno> {
        heap::set_aside(block).ok_or(Errno::ENOMEM)
    }

    fn unshare(&self, mfn: Mfn) {
        unshare_page(self, mfn);
    }
}

impl PtMachine for FakeMachine {
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        self.frames.get(usize::try_from(mfn.0).ok()?)
    }

    fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES] {
        self.words(mfn)
    }

    fn hypervisor_slots(&self, _: DomId) -> &[u64; HYPERVISOR_SLOTS] {
        &self.slots
    }

    fn io_access(&self, _: DomId, _: Mfn) -> IoAccess {
        IoAccess::Denied
    }

    fn may_bypass_caches(&self, by: DomId) -> bool {
        by == 0
    }

    fn may_map_foreign(&self, by: DomId, _: DomId) -> bool {
        by == 0
    }

    fn shares_read_only(&self, _: DomId, _: Mfn) -> bool {
        false
    }

    fn globals(&self) -> Globals {
        Globals::UserMappings
    }

    fn preempt_pending(&self) -> bool {
        false
    }

    fn flush_stale(&self, _: TlbScope, _: u32) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn tlb_clock(&self) -> u32 {
        1
    }

    fn flush_paging_structures(&self, _: DomId) {}

    fn write_back(&self, _: Mfn) {}

    fn release(&self, mfn: Mfn) {
        let frame = self.frame_of(mfn);
        let owner = match frame.owner() {
            Owner::Domain(id) => self.domain(id),
            _ => None,
        };
        if let Some(d) = &owner
            && d.holdings.unlink(self, mfn) == Standing::Own
        {
            d.pages.fetch_sub(1, Ordering::Relaxed);
        }
        frame.free_up().expect("the last reference went");
        self.free_page(mfn);
        if let Some(d) = &owner
            && d.holdings.leave()
        {
            d.gone.store(true, Ordering::Release);
        }
    }

    fn note(&self, _: fmt::Arguments<'_>) {}
}
