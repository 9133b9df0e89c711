//! RAM of a few frames, with the page-table logic's view of it.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use xen_abi::errno::Errno;

use crate::base::{CpuId, DomId, Mfn, Nanos};
use crate::boot::microcode::{self, Maker, Target};
use crate::domain::{CpuWay, IdleTimes, Machine, Progress, ShutdownReason, SleepRequest};
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::refs::{get_page, get_page_and_type, put_page, put_writable};
use crate::mm::{Frame, Globals, IoAccess, Owner, PageType, PtMachine, Reach, TlbScope};
use crate::sched::Unit;

/// Frames of RAM.
pub const FRAMES: usize = 96;

/// What L4 entry 256 of every root is; those behind it count up.
pub const FIRST_SLOT: u64 = 0x5000;

/// The machine. Frames stay for good, as RAM does.
pub struct FakeMachine {
    pub frames: Vec<Frame>,
    words: &'static [[AtomicU64; ENTRIES]],
    free: Mutex<Vec<u64>>,
    pub now: AtomicU64,
    slots: [u64; HYPERVISOR_SLOTS],
    /// CPUs that were asked to reschedule or interrupted.
    pub kicked: Mutex<Vec<CpuId>>,
    pub sleep: Mutex<Option<SleepRequest>>,
    cpu_steps: AtomicU32,
    cpu_fails: AtomicBool,
    /// Flushes asked for by page-table logic or handlers.
    pub flushes: AtomicU32,
}

impl FakeMachine {
    pub fn new() -> &'static Self {
        let words: Vec<_> = (0..FRAMES)
            .map(|_| [const { AtomicU64::new(0) }; ENTRIES])
            .collect();
        Box::leak(Box::new(Self {
            frames: (0..FRAMES).map(|_| Frame::free()).collect(),
            words: words.leak(),
            // Frame 0 is never given out: its number would pass for "none".
            free: Mutex::new((1..FRAMES as u64).rev().collect()),
            now: AtomicU64::new(1_000_000),
            slots: std::array::from_fn(|i| FIRST_SLOT + i as u64),
            kicked: Mutex::new(Vec::new()),
            sleep: Mutex::new(None),
            cpu_steps: AtomicU32::new(0),
            cpu_fails: AtomicBool::new(false),
            flushes: AtomicU32::new(0),
        }))
    }

    /// A frame that belongs to `owner`.
    pub fn page_of(&self, owner: DomId) -> Mfn {
        let mfn = self.alloc_page().expect("the test machine has frames");
        self.assign(mfn, owner);
        mfn
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

    fn share_with(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        self.assign(mfn, owner);
        get_page(self, mfn, Owner::Domain(owner)).map_err(|_| Errno::EBUSY)
    }

    fn assign(&self, mfn: Mfn, owner: DomId) {
        let done = self.frame_of(mfn).assign(Owner::Domain(owner));
        done.expect("the frame was free");
    }

    fn steal(&self, _: Mfn, _: DomId) -> Result<(), Errno> {
        Err(Errno::EBUSY)
    }

    fn relinquish(&self, mfn: Mfn, _: DomId) -> Result<(), Errno> {
        if !self.frame_of(mfn).take_allocation() {
            return Err(Errno::EINVAL);
        }
        put_page(self, mfn);
        Ok(())
    }

    fn alloc_page(&self) -> Option<Mfn> {
        self.free.lock().unwrap().pop().map(Mfn)
    }

    fn alloc_block(&self, order: u32, _: u32) -> Option<Mfn> {
        (order == 0).then(|| self.alloc_page()).flatten()
    }

    fn free_page(&self, mfn: Mfn) {
        self.free.lock().unwrap().push(mfn.0);
    }

    fn free_pages(&self) -> u64 {
        self.free.lock().unwrap().len() as u64
    }

    fn set_m2p(&self, _: Mfn, _: u64) {}

    fn m2p(&self, _: Mfn) -> u64 {
        u64::MAX
    }

    fn now(&self) -> Nanos {
        self.now.load(Ordering::Relaxed)
    }

    fn this_cpu(&self) -> CpuId {
        0
    }

    fn interrupt(&self, cpu: CpuId) {
        self.kicked.lock().unwrap().push(cpu);
    }

    fn reschedule(&self, cpu: CpuId) {
        self.kicked.lock().unwrap().push(cpu);
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

    fn unshare(&self, mfn: Mfn) {
        put_page(self, mfn);
        if self.frame_of(mfn).take_allocation() {
            put_page(self, mfn);
        }
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
        self.frame_of(mfn)
            .free_up()
            .expect("the last reference went");
        self.free_page(mfn);
    }

    fn note(&self, _: fmt::Arguments<'_>) {}
}
