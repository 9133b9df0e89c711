//! A machine with two domains, as far as interrupts need one.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use xen_abi::errno::Errno;

use crate::base::{CpuId, DomId, Mfn, Nanos};
use crate::domain::{
    Backing, CpuWay, Domain, DomainKind, Facts, Hypervisor, Identity, IdleTimes, Limits, Machine,
    Progress, Rights, ShutdownReason, SleepRequest,
};
use crate::events;
use crate::hypercall::narrow::Overlay;
use crate::hypercall::testing;
use crate::hypercall::{Ctx, Flush, Host, SegmentBase, TaskSwitched};
use crate::irq::tests::machine as wires;
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::{Frame, Globals, Holdings, IoAccess, PtMachine, TlbScope};
use crate::pv::frame::GuestFrame;
use crate::pv::state::PvState;
use crate::sched::{CpuSet, Layout, Pools, Unit};

/// Where guests have the argument of their call.
pub const ARGUMENT: u64 = 0x1000;
/// Frames of RAM.
const FRAMES: usize = 64;
/// The first that guests do not own.
const FIRST_OURS: u64 = 32;

type Page = [AtomicU64; 512];

thread_local! {
    /// Each test has its own RAM: tests run on threads of their own.
    static PAGES: &'static [Page] = Vec::leak(
        (0..FRAMES).map(|_| [const { AtomicU64::new(0) }; 512]).collect(),
    );
}

/// A frame of RAM.
pub fn page(mfn: Mfn) -> &'static Page {
    PAGES.with(|pages| &pages[mfn.0 as usize])
}

pub fn word(mfn: Mfn, index: usize) -> u64 {
    page(mfn)[index].load(Ordering::SeqCst)
}

/// Frames that are held as writable.
pub fn references(world: &World) -> Vec<u64> {
    world.machine.held.lock().unwrap().iter().copied().collect()
}

/// RAM and who holds it.
pub struct Ram {
    next: AtomicU64,
    held: Mutex<BTreeSet<u64>>,
}

impl Machine for Ram {
    fn enter_sleep(&self, _: SleepRequest) -> Result<(), Errno> {
        unreachable!()
    }
    fn idle(&self, _: CpuId) -> IdleTimes {
        unreachable!()
    }
    fn load_microcode(&self, _: &[u8]) -> Result<(), Errno> {
        unreachable!()
    }
    fn move_cpu(&self, _: CpuId, _: CpuWay) -> Result<Progress, Errno> {
        unreachable!()
    }
    fn words(&self, mfn: Mfn) -> &'static [AtomicU64; 512] {
        page(mfn)
    }
    fn words32(&self, _: Mfn) -> &'static [AtomicU32; 1024] {
        // Grant tables ask for it; nobody here looks at their contents.
        Box::leak(Box::new([const { AtomicU32::new(0) }; 1024]))
    }
    fn take_writable(&self, mfn: Mfn, _: DomId) -> Result<(), Errno> {
        let theirs = (1..FIRST_OURS).contains(&mfn.0);
        if theirs && self.held.lock().unwrap().insert(mfn.0) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }
    fn drop_writable(&self, mfn: Mfn) {
        assert!(self.held.lock().unwrap().remove(&mfn.0));
    }
    fn owner_of(&self, _: Mfn) -> Option<DomId> {
        unreachable!()
    }
    fn take_mapped(&self, _: Mfn, _: DomId, _: bool) -> Result<(), Errno> {
        unreachable!()
    }
    fn drop_mapped(&self, _: Mfn, _: bool) {
        unreachable!()
    }
    fn flush_domain(&self, _: &crate::domain::Domain) {
        unreachable!()
    }
    fn share_with(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        Ok(())
    }
    fn alloc_page(&self) -> Option<Mfn> {
        Some(Mfn(self.next.fetch_add(1, Ordering::SeqCst)))
    }
    fn now(&self) -> Nanos {
        0
    }
    fn this_cpu(&self) -> CpuId {
        0
    }
    fn interrupt(&self, _: CpuId) {}
    fn reschedule(&self, _: CpuId) {}
    fn assign(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        unreachable!()
    }
    fn steal(&self, _: Mfn, _: &Holdings) -> Result<(), Errno> {
        unreachable!()
    }
    fn relinquish(&self, _: Mfn, _: DomId) -> Result<(), Errno> {
        unreachable!()
    }
    fn users(&self, _: Mfn, _: DomId) -> Option<u64> {
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
    fn free_page(&self, _: Mfn) {
        unreachable!()
    }
    fn free_pages(&self) -> u64 {
        unreachable!()
    }
    fn set_m2p(&self, _: Mfn, _: u64) {
        unreachable!()
    }
    fn m2p(&self, _: Mfn) -> u64 {
        unreachable!()
    }
    fn hardware_shutdown(&self, _: ShutdownReason) {
        unreachable!()
    }
    fn arm_vcpu_timer(&self, _: Unit, _: Option<Nanos>) {
        unreachable!()
    }
    fn set_aside(&self, _: std::alloc::Layout) -> Result<(), Errno> {
        unreachable!()
    }
    fn unshare(&self, _: Mfn) {
        unreachable!()
    }
}

/// 64 bytes of guest memory at `ARGUMENT`.
pub struct Memory(Mutex<[u8; 64]>);

impl Memory {
    pub fn put(&self, bytes: &[u8]) {
        self.0.lock().unwrap()[..bytes.len()].copy_from_slice(bytes);
    }
    pub fn get(&self, len: usize) -> Vec<u8> {
        self.0.lock().unwrap()[..len].to_vec()
    }
    fn range(at: u64, len: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = at.checked_sub(ARGUMENT).ok_or(Errno::EFAULT)? as usize;
        let end = start.checked_add(len).filter(|e| *e <= 64);
        Ok(start..end.ok_or(Errno::EFAULT)?)
    }
}

impl Host for Memory {
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        to.copy_from_slice(&self.0.lock().unwrap()[Self::range(from, to.len())?]);
        Ok(())
    }
    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        self.0.lock().unwrap()[Self::range(to, from.len())?].copy_from_slice(from);
        Ok(())
    }
    fn lay_over(&self, _: Option<Overlay>) -> Option<Overlay> {
        unreachable!()
    }
    fn load_base(&self, _: SegmentBase, _: u64) {
        unreachable!()
    }
    fn read_base(&self, _: SegmentBase) -> u64 {
        unreachable!()
    }
    fn swap_gs(&self) {
        unreachable!()
    }
    fn tsc_clock(&self) -> crate::time::Clock {
        unreachable!()
    }
    fn load_gs_user_selector(&self, _: u16) -> bool {
        unreachable!()
    }
    fn load_gdt(&self, _: &PvState) {
        unreachable!()
    }
    fn load_ldt(&self, _: &PvState) {
        unreachable!()
    }
    fn load_root(&self, _: &PvState) {
        unreachable!()
    }
    fn load_debug_set(&self, _: &PvState) {
        unreachable!()
    }
    fn debug_status(&self) -> u64 {
        unreachable!()
    }
    fn set_task_switched(&self, _: TaskSwitched) {
        unreachable!()
    }
    fn flush_here(&self, _: Flush) {
        unreachable!()
    }
    fn flush_on(&self, _: &CpuSet, _: &Domain, _: Flush) {
        unreachable!()
    }
    fn write_back_caches(&self) {
        unreachable!()
    }
    fn reschedule_here(&self) {
        unreachable!()
    }
    fn online_cpus(&self) -> CpuId {
        unreachable!()
    }
    fn fpu_lines(&self) -> usize {
        unreachable!()
    }
}

impl PtMachine for Memory {
    fn frame(&self, _: Mfn) -> Option<&Frame> {
        unreachable!()
    }
    fn table(&self, _: Mfn) -> &[AtomicU64; ENTRIES] {
        unreachable!()
    }
    fn hypervisor_slots(&self, _: DomId) -> &[u64; HYPERVISOR_SLOTS] {
        unreachable!()
    }
    fn io_access(&self, _: DomId, _: Mfn) -> IoAccess {
        unreachable!()
    }
    fn may_bypass_caches(&self, _: DomId) -> bool {
        unreachable!()
    }
    fn may_map_foreign(&self, _: DomId, _: DomId) -> bool {
        unreachable!()
    }
    fn shares_read_only(&self, _: DomId, _: Mfn) -> bool {
        unreachable!()
    }
    fn globals(&self) -> Globals {
        unreachable!()
    }
    fn preempt_pending(&self) -> bool {
        unreachable!()
    }
    fn flush_stale(&self, _: TlbScope, _: u32) {
        unreachable!()
    }
    fn tlb_clock(&self) -> u32 {
        unreachable!()
    }
    fn flush_paging_structures(&self, _: DomId) {
        unreachable!()
    }
    fn write_back(&self, _: Mfn) {}

    fn release(&self, _: Mfn) {
        unreachable!()
    }
    fn note(&self, _: std::fmt::Arguments<'_>) {
        unreachable!()
    }
}

/// All of it.
pub struct World {
    pub hv: &'static Hypervisor,
    pub wires: &'static wires::Machine,
    pub memory: Memory,
    pub dom0: Arc<Domain>,
    pub guest: Arc<Domain>,
    machine: &'static Ram,
}

impl World {
    pub fn new() -> Self {
        let (wires, irqs) = wires::Machine::start(wires::Setup::default());
        let irqs = Box::leak(Box::new(irqs));
        let machine: &'static Ram = Box::leak(Box::new(Ram {
            next: AtomicU64::new(FIRST_OURS),
            held: Mutex::new(BTreeSet::new()),
        }));
        let layout = Layout {
            max_cpus: 4,
            group_width: 4,
            max_units: 8,
        };
        let pools: &'static Pools = Box::leak(Box::new(Pools::new(layout).unwrap()));
        let backing = Backing {
            machine,
            sched: pools,
            pools,
            pirqs: irqs,
        };
        let limits = Limits {
            vcpus: 2,
            max_pages: 16,
            max_port: u32::MAX,
            pirqs: irqs.pirq_limit(),
            grants: crate::grants::Limits::default(),
        };
        let make = |id, rights| {
            let domain = Domain::new(id, DomainKind::Pv64, rights, limits, backing).unwrap();
            domain.create_vcpus(2).unwrap();
            Arc::new(domain)
        };
        let (dom0, guest) = (make(0, Rights::Control), make(5, Rights::Guest));
        let hv = Hypervisor::new(
            backing,
            testing::services(Box::leak(Box::default())),
            irqs,
            Identity::default(),
            Facts::default(),
        );
        let hv: &'static Hypervisor = Box::leak(Box::new(hv));
        hv.add(dom0.clone()).unwrap();
        hv.add(guest.clone()).unwrap();
        let memory = Memory(Mutex::new([0; 64]));
        Self {
            hv,
            wires,
            memory,
            dom0,
            guest,
            machine,
        }
    }

    /// Runs a handler as vCPU 0 of a domain.
    pub fn with<R>(&self, by: &Arc<Domain>, run: impl FnOnce(&mut Ctx<'_, Memory>) -> R) -> R {
        let mut state = PvState::at_reset(8).unwrap();
        let mut regs = GuestFrame::default();
        run(&mut Ctx {
            hv: self.hv,
            host: &self.memory,
            domain: by,
            vcpu: by.vcpu(0).unwrap(),
            state: &mut state,
            regs: &mut regs,
        })
    }

    /// The CPUs take their interrupts, and the domains get their events.
    pub fn interrupts(&self) {
        self.wires.take_all(self.hv.irqs);
        for (domain, pirq) in self.wires.raised() {
            assert!(events::raise_pirq(&*self.hv.domain(domain).unwrap(), pirq));
        }
    }
}
