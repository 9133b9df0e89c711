//! The CPU under the caller: guest memory is one flat range of addresses.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use xen_abi::errno::Errno;

use super::{CPUS, FakeMachine, GUEST, GUEST_SIZE};
use crate::base::{CpuId, DomId, Mfn, lock};
use crate::domain::Domain;
use crate::hypercall::narrow::Overlay;
use crate::hypercall::{Flush, Host, SegmentBase, TaskSwitched};
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::{Frame, Globals, IoAccess, PtMachine, TlbScope};
use crate::pv::state::PvState;
use crate::sched::CpuSet;
use crate::time::{Clock, TscScale};

/// Something that answers.
type Answer = Box<dyn FnMut() -> bool + Send>;

/// A CPU.
pub struct FakeHost {
    pub machine: &'static FakeMachine,
    memory: Mutex<Vec<u8>>,
    /// Questions for other work that are answered with "no" before a "yes"; all ones: never.
    pub patience: AtomicU32,
    left: AtomicU32,
    /// Who answers these questions instead.
    other_work: Mutex<Option<Answer>>,
    /// From here on the caller's memory cannot be written.
    read_only: AtomicU64,
    /// What copies see over the caller's memory.
    overlay: Mutex<Option<Overlay>>,
    /// TLB flushes of other CPUs.
    pub flushes: AtomicU32,
}

impl FakeHost {
    pub fn new(machine: &'static FakeMachine) -> Self {
        Self {
            machine,
            memory: Mutex::new(vec![0; GUEST_SIZE]),
            patience: AtomicU32::new(u32::MAX),
            left: AtomicU32::new(u32::MAX),
            other_work: Mutex::new(None),
            read_only: AtomicU64::new(u64::MAX),
            overlay: Mutex::new(None),
            flushes: AtomicU32::new(0),
        }
    }

    /// Other work comes up at every `n`-th question.
    pub fn preempt_every(&self, n: u32) {
        self.patience.store(n, Ordering::Relaxed);
        self.left.store(n, Ordering::Relaxed);
    }

    /// At each question for other work `what` is done, as if by another CPU, and its answer counts.
    pub fn meanwhile(&self, what: Option<Answer>) {
        *self.other_work.lock().unwrap() = what;
    }

    /// Makes the caller's memory read-only from an address on.
    pub fn read_only_from(&self, at: u64) {
        self.read_only.store(at, Ordering::Relaxed);
    }

    fn range(at: u64, len: usize) -> Result<std::ops::Range<usize>, Errno> {
        let start = at.checked_sub(GUEST).ok_or(Errno::EFAULT)?;
        let start = usize::try_from(start).map_err(|_| Errno::EFAULT)?;
        let end = start.checked_add(len).filter(|end| *end <= GUEST_SIZE);
        Ok(start..end.ok_or(Errno::EFAULT)?)
    }

    fn read(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        if !to.is_empty() {
            let range = Self::range(from, to.len())?;
            to.copy_from_slice(&self.memory.lock().unwrap()[range]);
        }
        Ok(())
    }

    fn write(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        if !from.is_empty() {
            let range = Self::range(to, from.len())?;
            if to + from.len() as u64 > self.read_only.load(Ordering::Relaxed) {
                return Err(Errno::EFAULT);
            }
            self.memory.lock().unwrap()[range].copy_from_slice(from);
        }
        Ok(())
    }
}

impl Host for FakeHost {
    fn copy_in(&self, to: &mut [u8], from: u64) -> Result<(), Errno> {
        lock::expect_none("a copy from the guest");
        match &*self.overlay.lock().unwrap() {
            Some(overlay) => overlay.copy_in(to, from, |to, from| self.read(to, from)),
            None => self.read(to, from),
        }
    }

    fn copy_out(&self, to: u64, from: &[u8]) -> Result<(), Errno> {
        lock::expect_none("a copy to the guest");
        match &mut *self.overlay.lock().unwrap() {
            Some(overlay) => overlay.copy_out(to, from, |to, from| self.write(to, from)),
            None => self.write(to, from),
        }
    }

    fn lay_over(&self, overlay: Option<Overlay>) -> Option<Overlay> {
        std::mem::replace(&mut *self.overlay.lock().unwrap(), overlay)
    }

    fn flush_on(&self, _: &CpuSet, _: &Domain, _: Flush) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }

    fn online_cpus(&self) -> CpuId {
        CPUS
    }

    fn tsc_clock(&self) -> Clock {
        Clock::starting_at(0, TscScale::from_khz(2_600_000).unwrap())
    }

    fn fpu_lines(&self) -> usize {
        // An image of all components that the reference machine has.
        0xa88_usize.div_ceil(64)
    }

    fn read_base(&self, _: SegmentBase) -> u64 {
        0
    }

    fn load_gs_user_selector(&self, _: u16) -> bool {
        true
    }

    fn debug_status(&self) -> u64 {
        0
    }

    fn load_base(&self, _: SegmentBase, _: u64) {}
    fn swap_gs(&self) {}
    fn load_gdt(&self, _: &PvState) {}
    fn load_ldt(&self, _: &PvState) {}
    fn load_root(&self, _: &PvState) {}
    fn load_debug_set(&self, _: &PvState) {}
    fn set_task_switched(&self, _: TaskSwitched) {}
    fn flush_here(&self, _: Flush) {}
    fn write_back_caches(&self) {}
    fn reschedule_here(&self) {}
}

impl PtMachine for FakeHost {
    fn preempt_pending(&self) -> bool {
        if let Some(what) = &mut *self.other_work.lock().unwrap() {
            return what();
        }
        if self.patience.load(Ordering::Relaxed) == u32::MAX {
            return false;
        }
        let left = self.left.load(Ordering::Relaxed).saturating_sub(1);
        let now = left == 0;
        let patience = self.patience.load(Ordering::Relaxed);
        self.left
            .store(if now { patience } else { left }, Ordering::Relaxed);
        now
    }

    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        self.machine.frame(mfn)
    }

    fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES] {
        self.machine.table(mfn)
    }

    fn hypervisor_slots(&self, owner: DomId) -> &[u64; HYPERVISOR_SLOTS] {
        self.machine.hypervisor_slots(owner)
    }

    fn io_access(&self, by: DomId, mfn: Mfn) -> IoAccess {
        self.machine.io_access(by, mfn)
    }

    fn may_bypass_caches(&self, by: DomId) -> bool {
        self.machine.may_bypass_caches(by)
    }

    fn may_map_foreign(&self, by: DomId, owner: DomId) -> bool {
        self.machine.may_map_foreign(by, owner)
    }

    fn shares_read_only(&self, by: DomId, mfn: Mfn) -> bool {
        self.machine.shares_read_only(by, mfn)
    }

    fn globals(&self) -> Globals {
        self.machine.globals()
    }

    fn flush_stale(&self, scope: TlbScope, stamp: u32) {
        self.machine.flush_stale(scope, stamp);
    }

    fn tlb_clock(&self) -> u32 {
        self.machine.tlb_clock()
    }

    fn flush_paging_structures(&self, owner: DomId) {
        self.machine.flush_paging_structures(owner);
    }

    fn write_back(&self, _: Mfn) {}

    fn release(&self, mfn: Mfn) {
        self.machine.release(mfn);
    }

    fn note(&self, why: fmt::Arguments<'_>) {
        self.machine.note(why);
    }
}
