//! A domain: identity, rights, limits, memory accounts and its parts.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use spin::Once;
use xen_abi::e820::E820Entry;
use xen_abi::errno::Errno;
use xen_abi::xen::{SHARED_INFO_VCPU_INFO, SHARED_INFO_WC_VERSION, VCPU_INFO_SIZE};

use super::hvm::HvmDomain;
use super::life::Turn;
use super::machine::{Machine, PirqLayer};
use super::translated::Translated;
use super::vcpu::{RunFlags, Vcpu};
use crate::base::lock::{Mutex, rank};
use crate::base::{DomId, Mfn, Nanos, VcpuId};
use crate::cpuid::given::DomainPolicy;
use crate::events::{self, Events};
use crate::grants::Grants;
use crate::mm::Holdings;
use crate::pv::ports::PortMap;
use crate::sched::{CpuSet, Pools, Scheduler};
use crate::time::pvclock::SharedWords;
use crate::time::runstate::Runstate;
use crate::time::wallclock::WallClock;
use crate::time::{DomainTsc, Watchdogs};

/// How a guest is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DomainKind {
    /// Paravirtualised, 64-bit.
    Pv64,
    /// In hardware containers, with memory that we translate (PVH).
    Hvm,
}

/// What a domain may do beyond itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rights {
    /// Nothing.
    Guest,
    /// Everything: the toolstack's domain, which also owns the devices.
    Control,
}

/// Bounds fixed when a domain is made.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Number of vCPUs.
    pub vcpus: u32,
    /// Pages it may have.
    pub max_pages: u64,
    /// Highest event channel port.
    pub max_port: u32,
    /// Physical interrupts it may bind.
    pub pirqs: u32,
    /// Bounds of its grant table.
    pub grants: crate::grants::Limits,
}

/// What every domain stands on.
#[derive(Clone, Copy)]
pub struct Backing {
    /// The machine.
    pub machine: &'static dyn Machine,
    /// The scheduler.
    pub sched: &'static dyn Scheduler,
    /// The same, as the pools of CPUs.
    pub pools: &'static Pools,
    /// Physical interrupts.
    pub pirqs: &'static dyn PirqLayer,
}

/// Why a domain went down (SHUTDOWN_* of xen/sched.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShutdownReason(pub u32);

/// Pauses that the toolstack may have outstanding for one domain.
const MAX_TOOL_PAUSES: u32 = 255;

/// The wall clock's words in a shared info page.
struct WallClockWords(&'static [AtomicU32; 1024]);

impl SharedWords for WallClockWords {
    fn load(&self, index: usize) -> u32 {
        self.0[Self::place(index)].load(Ordering::Relaxed)
    }

    fn store(&self, index: usize, value: u32) {
        self.0[Self::place(index)].store(value, Ordering::Relaxed);
    }
}

impl WallClockWords {
    /// The word of the page: version, seconds and nanoseconds, then the high seconds.
    const fn place(index: usize) -> usize {
        SHARED_INFO_WC_VERSION / 4 + index
    }
}

/// A page of ours that the domain sees.
fn share_page(machine: &dyn Machine, with: &Holdings) -> Result<Mfn, Errno> {
    let page = machine.alloc_page().ok_or(Errno::ENOMEM)?;
    machine
        .share_with(page, with)
        .inspect_err(|_| machine.free_page(page))?;
    Ok(page)
}

/// A domain.
pub struct Domain {
    /// Its number.
    pub id: DomId,
    /// How it is run.
    pub kind: DomainKind,
    /// What it may do.
    pub rights: Rights,
    /// The toolstack's UUID for it.
    pub handle: Mutex<[u8; 16]>,
    /// The machine below.
    pub machine: &'static dyn Machine,
    /// Who decides when its vCPUs run.
    pub sched: &'static dyn Scheduler,
    /// The pools of CPUs, of which it is in one.
    pub pools: &'static Pools,
    /// Who connects its physical interrupts.
    pub pirqs: &'static dyn PirqLayer,
    vcpus: Once<Box<[Vcpu]>>,
    /// Number of vCPUs, once they are made.
    pub max_vcpus: u32,
    /// Who works on it on the toolstack's behalf.
    pub turn: Turn,
    /// Others that are at work on its page tables.
    pub(super) table_work: AtomicU32,
    /// The pages of ours that it saw were taken back.
    pub(super) emptied: AtomicBool,
    /// It has died, and no frame is its own any more.
    pub gone: AtomicBool,
    /// Event channels.
    pub events: Events<Domain>,
    /// Grant table.
    pub grants: Grants,
    /// The `shared_info` frame.
    pub shared_info: Mfn,
    /// vCPUs whose `vcpu_info` the guest has moved.
    pub registered_infos: Mutex<Vec<VcpuId>>,
    /// Its frames.
    pub holdings: Holdings,
    /// The map of its guest frames, where we translate them. Set before anybody else sees the domain.
    pub translated: Option<Translated>,
    /// Pages in its account: those charged to it, until each is nobody's.
    pub pages: AtomicU64,
    /// Pages that it may have.
    pub max_pages: AtomicU64,
    /// Pages that are kept free for it.
    pub claim: AtomicU64,
    /// What the toolstack has asked for in the way of a log of written pages; see `hypercall/domctl/memory.rs`.
    pub dirty_log: AtomicU64,
    /// Pauses of the whole domain.
    pauses: AtomicU32,
    /// Those among them that the toolstack made.
    tool_pauses: AtomicU32,
    /// It is being destroyed: no new references.
    pub dying: AtomicBool,
    /// Why it went down, once it has.
    pub shutdown: Mutex<Option<ShutdownReason>>,
    /// What the guest said its shutdown would mean (SCHEDOP_shutdown_code); all ones: nothing.
    pub shutdown_code: AtomicU32,
    /// Its watchdogs; the earliest deadline is among the timers of vCPU 0.
    pub watchdogs: Mutex<Watchdogs>,
    /// The memory map that a toolstack has made for it; empty without.
    pub memory_map: Mutex<Vec<E820Entry>>,
    /// VMASST_* bits that are on.
    pub assists: AtomicU64,
    /// CPUs that may hold translations of its address spaces.
    pub dirty_cpus: [AtomicU64; 2],
    /// What it has beside that in containers.
    pub hvm: Option<HvmDomain>,
    /// Its CPUID and MSRs, where they are not those of its kind.
    pub policy: DomainPolicy,
    /// Ports that it may use.
    pub ports: PortMap,
    /// When it was made.
    pub created_at: Nanos,
    /// Seconds that its time of day is ahead of the machine's.
    pub time_offset: AtomicI64,
    /// How its TSC is said to be.
    pub tsc: Mutex<DomainTsc>,
    /// Time that units of removed vCPUs had, and the sum so far (ns).
    pub cpu_time: AtomicU64,
    /// dom0's page that mirrors which PIRQs need an EOI call, when it has given one.
    pub pirq_eoi_page: AtomicU64,
}

impl Domain {
    /// Makes a domain without vCPUs. Takes one page for `shared_info`.
    ///
    /// # Errors
    /// `ENOMEM`, or what event channels and grants say of the limits.
    pub fn new(
        id: DomId,
        kind: DomainKind,
        rights: Rights,
        limits: Limits,
        backing: Backing,
    ) -> Result<Self, Errno> {
        let events = Events::new(
            id,
            events::Limits {
                vcpus: limits.vcpus,
                pirqs: limits.pirqs,
                max_port: limits.max_port,
            },
        )?;
        let holdings = Holdings::new(id);
        let grants = Grants::new(
            id,
            limits.grants,
            backing.machine.now(),
            &super::delivery::GrantPool(backing.machine, &holdings),
        )?;
        let Backing {
            machine,
            sched,
            pools,
            pirqs,
        } = backing;
        let shared_info = share_page(machine, &holdings).inspect_err(|_| {
            grants.abandon(&super::delivery::GrantPool(machine, &holdings));
        })?;
        Ok(Self {
            id,
            kind,
            rights,
            handle: Mutex::new(rank::DOMAIN_HANDLE, [0; 16]),
            machine,
            sched,
            pools,
            pirqs,
            vcpus: Once::new(),
            max_vcpus: limits.vcpus,
            turn: Turn::new(),
            table_work: AtomicU32::new(0),
            emptied: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            events,
            grants,
            shared_info,
            holdings,
            registered_infos: Mutex::new(rank::VCPU_INFOS, Vec::new()),
            translated: None,
            pages: AtomicU64::new(0),
            max_pages: AtomicU64::new(limits.max_pages),
            claim: AtomicU64::new(0),
            dirty_log: AtomicU64::new(0),
            pauses: AtomicU32::new(0),
            tool_pauses: AtomicU32::new(0),
            dying: AtomicBool::new(false),
            shutdown: Mutex::new(rank::DOMAIN_SHUTDOWN, None),
            shutdown_code: AtomicU32::new(u32::MAX),
            watchdogs: Mutex::new(rank::WATCHDOGS, Watchdogs::new()),
            memory_map: Mutex::new(rank::DOMAIN_MEMORY_MAP, Vec::new()),
            assists: AtomicU64::new(0),
            dirty_cpus: [const { AtomicU64::new(0) }; 2],
            hvm: (kind == DomainKind::Hvm).then(HvmDomain::new),
            policy: DomainPolicy::new(),
            ports: PortMap::new(rights),
            created_at: machine.now(),
            time_offset: AtomicI64::new(0),
            tsc: Mutex::new(rank::DOMAIN_HANDLE, DomainTsc::default()),
            cpu_time: AtomicU64::new(0),
            pirq_eoi_page: AtomicU64::new(0),
        })
    }

    /// Makes the vCPUs, all down. Done once.
    ///
    /// # Errors
    /// `ENOMEM`; `EBUSY` when they exist.
    pub fn create_vcpus(&self, count: u32) -> Result<(), Errno> {
        if self.vcpus.get().is_some() {
            return Err(Errno::EBUSY);
        }
        let now = self.machine.now();
        let mut vcpus = Vec::new();
        vcpus
            .try_reserve_exact(count as usize)
            .map_err(|_| Errno::ENOMEM)?;
        for id in 0..count {
            let vcpu = Vcpu::new(id, Runstate::new(now));
            if self.kind == DomainKind::Hvm {
                // Only kernels of PV guests find a ticking timer.
                let _idle = vcpu.timers.lock().stop_periodic(now);
            }
            if (id as usize) < xen_abi::arch_x86::XEN_LEGACY_MAX_VCPUS as usize {
                vcpu.set_info_place(
                    self.shared_info,
                    SHARED_INFO_VCPU_INFO + id as usize * VCPU_INFO_SIZE,
                );
            }
            vcpus.push(vcpu);
        }
        self.vcpus.call_once(|| vcpus.into_boxed_slice());
        Ok(())
    }

    /// All vCPUs.
    #[must_use]
    pub fn vcpus(&self) -> &[Vcpu] {
        self.vcpus.get().map_or(&[], |v| v)
    }

    /// One vCPU.
    #[must_use]
    pub fn vcpu(&self, id: VcpuId) -> Option<&Vcpu> {
        self.vcpus().get(id as usize)
    }

    /// The CPUs of its pool.
    #[must_use]
    pub fn pool_cpus(&self) -> CpuSet {
        self.pools.cpus_of(self.id)
    }

    /// Whether the domain may control others.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.rights == Rights::Control
    }

    /// Whether a VMASST type is on.
    #[must_use]
    pub fn has_assist(&self, kind: u32) -> bool {
        self.assists.load(Ordering::Relaxed) & (1 << kind) != 0
    }

    /// Whether the vCPU may run now.
    #[must_use]
    pub fn runnable(&self, vcpu: &Vcpu) -> bool {
        vcpu.may_run() && self.pauses.load(Ordering::SeqCst) == 0
    }

    /// Adds a pause of the whole domain; the caller makes the CPUs notice.
    pub fn pause(&self) {
        self.pauses.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a pause away; `true` when it was the last.
    pub fn unpause(&self) -> bool {
        self.pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            == Ok(1)
    }

    /// Adds a pause on behalf of the toolstack; the caller makes the CPUs notice.
    ///
    /// # Errors
    /// `EINVAL` when it was paused absurdly often.
    pub fn pause_by_tool(&self) -> Result<(), Errno> {
        let counted = |n: u32| n.checked_add(1).filter(|n| *n <= MAX_TOOL_PAUSES);
        let before = self
            .tool_pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, counted);
        before.map_err(|_| Errno::EINVAL)?;
        self.pause();
        Ok(())
    }

    /// Takes a pause of the toolstack's away; `true` when it was the last of all pauses.
    ///
    /// # Errors
    /// `EINVAL` when the toolstack has not paused it.
    pub fn unpause_by_tool(&self) -> Result<bool, Errno> {
        let before = self
            .tool_pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        before.map_err(|_| Errno::EINVAL)?;
        Ok(self.unpause())
    }

    /// Whether the toolstack keeps it paused.
    #[must_use]
    pub fn is_paused_by_tool(&self) -> bool {
        self.tool_pauses.load(Ordering::SeqCst) != 0
    }

    /// Writes the time of day into the shared info page; one caller at a time.
    pub(super) fn publish_wallclock(&self, clock: &WallClock) {
        let words = self.machine.words32(self.shared_info);
        let offset = self.time_offset.load(Ordering::Relaxed);
        clock.publish(&WallClockWords(words), offset);
    }

    /// Whether the whole domain is paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pauses.load(Ordering::SeqCst) != 0
    }

    /// vCPUs that are up.
    #[must_use]
    pub fn online_vcpus(&self) -> u32 {
        self.vcpus().iter().filter(|v| v.is_up()).count() as u32
    }

    /// Whether all vCPUs wait for something.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.vcpus()
            .iter()
            .all(|v| v.flags() & (RunFlags::BLOCKED | RunFlags::POLLING | RunFlags::DOWN) != 0)
    }

    /// Marks that a CPU may hold translations of this domain.
    pub fn mark_dirty(&self, cpu: u32) {
        if let Some(word) = self.dirty_cpus.get(cpu as usize / 64) {
            let bit = 1 << (cpu % 64);
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::SeqCst);
            }
        }
    }

    /// Forgets a CPU that has flushed everything of this domain.
    pub fn clear_dirty(&self, cpu: u32) {
        if let Some(word) = self.dirty_cpus.get(cpu as usize / 64) {
            word.fetch_and(!(1 << (cpu % 64)), Ordering::SeqCst);
        }
    }

    /// Whether a CPU may hold translations of this domain.
    #[must_use]
    pub fn is_dirty(&self, cpu: u32) -> bool {
        self.dirty_cpus
            .get(cpu as usize / 64)
            .is_some_and(|w| w.load(Ordering::SeqCst) & (1 << (cpu % 64)) != 0)
    }
}
