//! Per-CPU data: what only the owner touches, and the words that other CPUs may set.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};

#[cfg(debug_assertions)]
use hv_core::base::lock::{HeldLocks, Holders};
use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{CpuId, Nanos};
use hv_core::container::Space;
use hv_core::domain::Domain;
use hv_core::domain::machine_check::Slot;
use hv_core::hvm::asid::Asids;
use hv_core::irq::service::InService;
use hv_core::time::DeadlineHeap;
use hv_core::time::heartbeat::Watch;

use super::cpuinfo::{self, CpuInfo};
use super::start::short_of_ram;
use super::view::View;
use super::{hvm, svm, vmx};

/// Most vCPUs of all domains together.
pub const MAX_UNITS: u32 = 1024;
/// Most CPUs that are brought up.
pub const MAX_CPUS: usize = 128;

/// The first look at the machine-check banks: at once. Not 0, which stands for no deadline.
pub const FIRST_LOOK: Nanos = 1;

/// What other CPUs, and interrupt handlers, may set on this CPU.
#[derive(Default)]
pub struct Remote {
    /// Work owed before a guest runs again (`softirq`).
    pub softirq: AtomicU32,
    /// The CPU takes part in scheduling and flushes.
    pub online: AtomicBool,
    /// The CPU is about to stop: no device may interrupt it.
    pub stops: AtomicBool,
    /// The CPU is to park as soon as it holds nothing of a guest.
    pub leaving: AtomicBool,
    /// The CPU is in its idle halt: nothing of a guest is in use.
    pub idle: AtomicBool,
    /// TLB flush clock at this CPU's last full flush.
    pub flushed_at: AtomicU64,
    /// Error bits of the local APIC not yet reported.
    pub apic_errors: AtomicU32,
    /// NMIs came: 0x100 and what the reason port showed.
    pub nmi_reason: AtomicU32,
    /// Where the last hit.
    pub nmi_rip: AtomicU64,
    /// Nanoseconds spent in the idle halt.
    pub idle_ns: AtomicU64,
    /// How often it was entered.
    pub idle_entries: AtomicU64,
    /// Interrupts of the CPU's own timer.
    pub timer_interrupts: AtomicU64,
    /// A flush that another CPU waits for: counts up at each request.
    pub flush_wanted: AtomicU64,
    /// The last request that has been done.
    pub flush_done: AtomicU64,
    /// Passes through the run loop in which something was done, for the watchdog. Written by the owner.
    pub beats: AtomicU64,
    /// What the watchdog asks by an NMI (`hw/watchdog.rs`).
    pub question: AtomicU64,
}

impl Remote {
    /// The owner shows that it is not stuck.
    pub fn beat(&self) {
        let beats = self.beats.load(Ordering::Relaxed);
        self.beats.store(beats.wrapping_add(1), Ordering::Relaxed);
    }
}

/// Bits of `Remote::softirq`.
pub mod softirq {
    /// The timer heap may have due entries.
    pub const TIMER: u32 = 1 << 0;
    /// The scheduler should decide again.
    pub const SCHEDULE: u32 = 1 << 1;
    /// Vectors wait in `PerCpu::vectors`.
    pub const VECTORS: u32 = 1 << 2;
    /// The serial line has input or output to move.
    pub const SERIAL: u32 = 1 << 3;
    /// There is newer microcode.
    pub const MICROCODE: u32 = 1 << 5;
    /// The last frame of a dying domain became free.
    pub const REAP: u32 = 1 << 6;
    /// The watchdog wants to see a beat.
    pub const BEAT: u32 = 1 << 7;
    /// State that another CPU needs must be saved: leave the lazily kept vCPU.
    pub const SYNC: u32 = 1 << 4;
}

/// Data of one CPU.
pub struct PerCpu {
    /// Dense index, 0 for the boot CPU.
    pub id: CpuId,
    /// APIC id of the hardware.
    pub apic_id: AtomicU32,
    /// What others may set.
    pub remote: Remote,
    /// Device vectors that have arrived; used with interrupts off.
    pub vectors: InService,
    /// The domain whose translations may be in this CPU's TLB.
    pub tlb_domain: RefCell<Option<Arc<Domain>>>,
    /// How many pages of a guest this CPU's GDT window shows at most.
    pub gdt_pages: Cell<usize>,
    /// The same of its LDT window.
    pub ldt_pages: Cell<usize>,
    /// Deadlines of vCPUs whose timers live here.
    pub timers: Mutex<DeadlineHeap>,
    /// When the running vCPU's time slice ends; 0: no limit.
    pub slice_end: Cell<Nanos>,
    /// What the hardware timer is set to; 0: off.
    pub armed_for: Cell<Nanos>,
    /// Whether CPUID faults at CPL 3.
    pub cpuid_faults: Cell<bool>,
    /// What a machine check left to be reported.
    pub machine_check: Slot,
    /// When the machine-check banks are looked at next.
    pub next_look: Cell<Nanos>,
    /// When the watchdog looks next; set by interrupts too.
    pub next_watch: AtomicU64,
    /// What it knows; with interrupts off.
    pub watch: Cell<Watch>,
    /// The memory that copies mean, while that is not the loaded address space's.
    pub space: Cell<*const Space<'static>>,
    /// Vector of the fault that an IRET into the guest ended with.
    pub failed_vector: Cell<u32>,
    /// The root at CPL 3, where that is not the guest's.
    pub view: View,
    /// Tags of HVM guests' translations.
    pub asids: Asids,
    /// What AMD-V needs of this CPU.
    pub svm: svm::HostState,
    /// What VT-x needs of this CPU.
    pub vmx: vmx::HostState,
    /// Counters for the benchmarks' reports.
    pub counts: Counts,
    /// Locks that this CPU holds.
    #[cfg(debug_assertions)]
    held: RefCell<HeldLocks>,
}

/// Counts of expensive events on one CPU.
#[derive(Default)]
#[allow(missing_docs, reason = "named by what they count")]
pub struct Counts {
    pub exits: Cell<u64>,
    pub cr3_loads: Cell<u64>,
    pub flushes: Cell<u64>,
    pub ipis: AtomicU64,
}

/// Adds one to an owner-only counter.
pub fn count(cell: &Cell<u64>) {
    cell.set(cell.get().wrapping_add(1));
}

// SAFETY: cells are touched by the owning CPU only (`this`); all else is atomic.
unsafe impl Sync for PerCpu {}

static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// The lists of held locks, for the check of their order.
#[cfg(debug_assertions)]
struct Holding;

#[cfg(debug_assertions)]
impl Holders for Holding {
    fn with(&self, what: &mut dyn FnMut(&mut HeldLocks)) {
        what(&mut this().held.borrow_mut());
    }
}

/// From now on the order of locks is checked, in builds that check it. The boot CPU is on its own stack.
pub fn watch_locks() {
    #[cfg(debug_assertions)]
    {
        hv_core::base::lock::watch(&Holding);
        crate::say!("Debug assertions are on: the order of locks is checked");
    }
}

/// Makes the data of CPU `id`; it stays for good.
pub fn create(id: CpuId, apic_id: u32) -> *mut PerCpu {
    let new = Box::into_raw(Box::new(PerCpu {
        id,
        apic_id: AtomicU32::new(apic_id),
        remote: Remote::default(),
        vectors: InService::default(),
        tlb_domain: RefCell::new(None),
        gdt_pages: Cell::new(0),
        ldt_pages: Cell::new(0),
        timers: Mutex::new(
            rank::DEADLINES,
            DeadlineHeap::with_capacity(MAX_UNITS)
                .unwrap_or_else(|_| short_of_ram("a CPU's timers")),
        ),
        slice_end: Cell::new(0),
        armed_for: Cell::new(0),
        cpuid_faults: Cell::new(false),
        machine_check: Slot::default(),
        next_look: Cell::new(FIRST_LOOK),
        next_watch: AtomicU64::new(0),
        watch: Cell::new(Watch::new()),
        space: Cell::new(core::ptr::null()),
        failed_vector: Cell::new(0),
        view: View::default(),
        asids: Asids::new(hvm::tags()),
        svm: svm::HostState::default(),
        vmx: vmx::HostState::default(),
        counts: Counts::default(),
        #[cfg(debug_assertions)]
        held: RefCell::default(),
    }));
    CPUS[id as usize].store(new, Ordering::Release);
    COUNT.fetch_max(id + 1, Ordering::AcqRel);
    new
}

impl PerCpu {
    /// Writes what the owner, which was hit anywhere, holds and waits for.
    #[cfg(debug_assertions)]
    pub fn show_locks(&self, out: &mut dyn core::fmt::Write) {
        let _ = match self.held.try_borrow() {
            Ok(held) => writeln!(out, "(XEN) It {}", *held),
            Err(_) => writeln!(out, "(XEN) It takes or drops a lock"),
        };
    }

    /// The owner starts, perhaps not for the first time: nothing is left of what it was asked before.
    pub fn begin(&self) {
        self.slice_end.set(0);
        self.armed_for.set(0);
        self.next_look.set(FIRST_LOOK);
        // A machine check may have hit it while it was parked.
        self.remote.softirq.store(softirq::SERIAL, Ordering::SeqCst);
        self.vectors.reset();
        self.remote.idle.store(false, Ordering::SeqCst);
        self.remote.leaving.store(false, Ordering::SeqCst);
    }
}

/// The data of the CPU that runs this.
#[inline(always)]
pub fn this() -> &'static PerCpu {
    // SAFETY: every CPU's stack block carries a valid pointer before its first call of this.
    unsafe { &*(*cpuinfo::current()).percpu }
}

/// Top of this CPU's stack.
#[inline(always)]
pub fn info() -> *mut CpuInfo {
    cpuinfo::current()
}

/// The words of another CPU that may be set from here; `None` for a CPU that does not exist.
pub fn remote(cpu: CpuId) -> Option<&'static Remote> {
    let p = CPUS.get(cpu as usize)?.load(Ordering::Acquire);
    // SAFETY: published once, never freed; `remote` is atomics only.
    (!p.is_null()).then(|| unsafe { &(*p).remote })
}

/// Does something with another CPU's timer heap.
pub fn with_timers(cpu: CpuId, what: impl FnOnce(&mut DeadlineHeap)) {
    let Some(slot) = CPUS.get(cpu as usize) else {
        return;
    };
    let p = slot.load(Ordering::Acquire);
    if !p.is_null() {
        // SAFETY: published once, never freed; the heap has a lock of its own.
        what(&mut unsafe { &(*p).timers }.lock());
    }
}

/// APIC id of a CPU.
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    let p = CPUS.get(cpu as usize)?.load(Ordering::Acquire);
    // SAFETY: as above; the field never changes.
    (!p.is_null()).then(|| unsafe { (*p).apic_id.load(Ordering::Relaxed) })
}

/// The boot CPU learns its APIC id once its APIC is on.
pub fn set_boot_apic_id(id: u32) {
    this().apic_id.store(id, Ordering::Relaxed);
}

/// Number of CPUs that have data (started or starting).
pub fn created() -> CpuId {
    COUNT.load(Ordering::Acquire)
}

/// The CPUs that are online.
pub fn online() -> impl Iterator<Item = CpuId> + Clone {
    (0..created()).filter(|&c| remote(c).is_some_and(|r| r.online.load(Ordering::Acquire)))
}
