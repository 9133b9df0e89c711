//! A virtual CPU as the rest of the hypervisor sees it: why it runs or not, and its registers while
//! they rest.

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use crate::base::lock::{Mutex, rank};
use crate::base::{CpuId, Mfn, PAGE_SIZE, VcpuId};
use crate::hvm::inbox::Inbox;
use crate::hvm::state::HvmState;
use crate::pv::frame::GuestFrame;
use crate::pv::state::{PvState, StateBox};
use crate::sched::{Affinity, Unit};
use crate::time::runstate::Runstate;
use crate::time::vtimer::VcpuTimers;

/// Why a vCPU does not run; it may when no bit is set and nobody has paused it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RunFlags;

impl RunFlags {
    /// Waits for an event (SCHEDOP_block).
    pub const BLOCKED: u32 = 1 << 0;
    /// Waits for a port (SCHEDOP_poll).
    pub const POLLING: u32 = 1 << 1;
    /// Never brought up, or taken down (VCPUOP_down).
    pub const DOWN: u32 = 1 << 2;
    /// Its registers were never set (VCPUOP_initialise, setvcpucontext).
    pub const UNINITIALISED: u32 = 1 << 3;
    /// Its registers are being taken away, and are perhaps there in part.
    pub const RESETTING: u32 = 1 << 4;
}

/// Work owed before the vCPU may run again; zero on the fast path.
pub struct Owed;

impl Owed {
    /// An NMI is to be delivered.
    pub const NMI: u32 = 1 << 0;
    /// The runstate and secondary time areas are to be written once the address space is loaded.
    pub const RUNSTATE: u32 = 1 << 1;
    /// The time in `vcpu_info` is to be written.
    pub const TIME: u32 = 1 << 2;
    /// The domain's assists changed: the state follows.
    pub const ASSISTS: u32 = 1 << 3;
    /// The timer of its local APIC is to be looked at.
    pub const LAPIC: u32 = 1 << 4;
    /// Its local APIC is to request the interrupt of the event channels.
    pub const UPCALL: u32 = 1 << 5;
}

/// `running` while no CPU runs the vCPU.
const NOWHERE: u32 = u32::MAX;

/// The scheduler's handle of a vCPU, while it has one: its number plus one, 0 for none.
#[derive(Default)]
pub struct UnitSlot(AtomicU32);

impl UnitSlot {
    /// The handle.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> Option<Unit> {
        let number = self.0.load(Ordering::Acquire);
        number.checked_sub(1).map(Unit::from_index)
    }

    /// Sets or takes away the handle.
    pub(super) fn set(&self, unit: Option<Unit>) {
        let number = unit.map_or(0, |u| u.index() as u32 + 1);
        self.0.store(number, Ordering::Release);
    }
}

/// What a vCPU is while it does not run, by the kind of its domain.
pub enum VcpuState {
    /// Paravirtualised.
    Pv(StateBox),
    /// In a hardware container.
    Hvm(StateBox<HvmState>),
}

impl VcpuState {
    /// The state of a PV vCPU.
    #[must_use]
    pub fn pv(&self) -> Option<&PvState> {
        match self {
            Self::Pv(state) => Some(state),
            Self::Hvm(_) => None,
        }
    }

    /// The same, to change it.
    #[must_use]
    pub fn pv_mut(&mut self) -> Option<&mut PvState> {
        match self {
            Self::Pv(state) => Some(state),
            Self::Hvm(_) => None,
        }
    }

    /// The state of a vCPU in a container.
    #[must_use]
    pub fn hvm(&self) -> Option<&HvmState> {
        match self {
            Self::Pv(_) => None,
            Self::Hvm(state) => Some(state),
        }
    }

    /// The same, to change it.
    #[must_use]
    pub fn hvm_mut(&mut self) -> Option<&mut HvmState> {
        match self {
            Self::Pv(_) => None,
            Self::Hvm(state) => Some(state),
        }
    }

    /// Its general registers.
    #[must_use]
    pub fn regs(&self) -> &GuestFrame {
        match self {
            Self::Pv(state) => &state.regs,
            Self::Hvm(state) => &state.regs,
        }
    }
}

/// A virtual CPU.
pub struct Vcpu {
    /// Index in its domain.
    pub id: VcpuId,
    /// The scheduler's handle, from when the vCPU is made until it ends.
    pub unit: UnitSlot,
    /// Bits of [`RunFlags`].
    flags: AtomicU32,
    /// How often it was paused by the toolstack or by ourselves.
    pauses: AtomicU32,
    /// Bits of [`Owed`].
    owed: AtomicU32,
    /// Where its `vcpu_info` is: frame number << 12 | offset; 0 while it has none.
    info: AtomicU64,
    /// Its registers while it runs nowhere; taken by the CPU that runs it.
    pub state: Mutex<Option<VcpuState>>,
    /// How long it was in which state.
    pub runstate: Mutex<Runstate>,
    /// Guest address of its runstate area, 0 for none.
    pub runstate_area: AtomicU64,
    /// Guest address of its secondary time area, 0 for none.
    pub time_area: AtomicU64,
    /// The affinity to go back to after `SCHEDOP_pin_override`.
    pub pinned_from: Mutex<Option<Affinity>>,
    /// Singleshot, periodic and poll timers, and that of its local APIC.
    pub timers: Mutex<VcpuTimers>,
    /// What others tell it, in a container.
    pub inbox: Inbox,
    /// The vector by which its local APIC tells it of events (HVMOP_set_evtchn_upcall_vector); 0: none.
    upcall_vector: AtomicU8,
    /// The CPU it ran on last.
    pub last_cpu: AtomicU32,
    running: AtomicU32,
}

impl Vcpu {
    /// A vCPU that is down and has no registers yet.
    #[must_use]
    pub fn new(id: VcpuId, runstate: Runstate) -> Self {
        Self {
            id,
            unit: UnitSlot::default(),
            flags: AtomicU32::new(RunFlags::DOWN | RunFlags::UNINITIALISED),
            pauses: AtomicU32::new(0),
            owed: AtomicU32::new(0),
            info: AtomicU64::new(0),
            state: Mutex::new(rank::VCPU_STATE, None),
            runstate: Mutex::new(rank::VCPU_RUNSTATE, runstate),
            runstate_area: AtomicU64::new(0),
            time_area: AtomicU64::new(0),
            pinned_from: Mutex::new(rank::VCPU_PIN, None),
            timers: Mutex::new(rank::VCPU_TIMERS, VcpuTimers::new()),
            inbox: Inbox::new(),
            upcall_vector: AtomicU8::new(0),
            last_cpu: AtomicU32::new(0),
            running: AtomicU32::new(NOWHERE),
        }
    }

    /// The flags of [`RunFlags`] that are set.
    #[must_use]
    pub fn flags(&self) -> u32 {
        self.flags.load(Ordering::SeqCst)
    }

    /// Sets flags; returns those that were set before.
    pub fn set_flags(&self, bits: u32) -> u32 {
        self.flags.fetch_or(bits, Ordering::SeqCst)
    }

    /// Clears flags; returns those that were set before.
    pub fn clear_flags(&self, bits: u32) -> u32 {
        self.flags.fetch_and(!bits, Ordering::SeqCst)
    }

    /// Adds a pause.
    pub fn pause(&self) {
        self.pauses.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes a pause away; `true` when it was the last, `false` also when there was none.
    pub fn unpause(&self) -> bool {
        self.pauses
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            == Ok(1)
    }

    /// Whether anything of the vCPU's own keeps it from running.
    #[must_use]
    pub fn may_run(&self) -> bool {
        self.flags() == 0 && self.pauses.load(Ordering::SeqCst) == 0
    }

    /// Whether it has been brought up (VCPUOP_is_up).
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.flags() & RunFlags::DOWN == 0
    }

    /// Marks work as owed.
    pub fn owe(&self, bits: u32) {
        self.owed.fetch_or(bits, Ordering::SeqCst);
    }

    /// Takes the owed bits, all or those in `mask`.
    pub fn take_owed(&self, mask: u32) -> u32 {
        if self.owed.load(Ordering::Relaxed) & mask == 0 {
            return 0;
        }
        self.owed.fetch_and(!mask, Ordering::SeqCst) & mask
    }

    /// Whether one of these bits is owed.
    #[must_use]
    pub fn owes(&self, bits: u32) -> bool {
        self.owed.load(Ordering::SeqCst) & bits != 0
    }

    /// Whether nothing of [`Owed`] is set.
    #[inline(always)]
    #[must_use]
    pub fn owes_nothing(&self) -> bool {
        self.owed.load(Ordering::Relaxed) == 0
    }

    /// Where its `vcpu_info` lies: the frame and the offset in it.
    #[inline(always)]
    #[must_use]
    pub fn info_place(&self) -> Option<(Mfn, usize)> {
        let packed = self.info.load(Ordering::Acquire);
        (packed != 0).then_some((Mfn(packed >> 12), (packed as usize) & (PAGE_SIZE - 1)))
    }

    /// Puts its `vcpu_info` at `offset` of `frame`.
    pub fn set_info_place(&self, frame: Mfn, offset: usize) {
        self.info
            .store(frame.0 << 12 | offset as u64, Ordering::Release);
    }

    /// It has no `vcpu_info` any more.
    pub(super) fn forget_info_place(&self) {
        self.info.store(0, Ordering::Release);
    }

    /// Has its local APIC tell it of events from now on; 0: no more.
    pub fn set_upcall_vector(&self, vector: u8) {
        self.upcall_vector.store(vector, Ordering::SeqCst);
    }

    /// The vector by which its local APIC tells it of events.
    #[must_use]
    pub fn upcall_vector(&self) -> Option<u8> {
        let vector = self.upcall_vector.load(Ordering::SeqCst);
        (vector != 0).then_some(vector)
    }

    /// The CPU that runs it at this moment.
    #[must_use]
    pub fn running_on(&self) -> Option<CpuId> {
        let cpu = self.running.load(Ordering::SeqCst);
        (cpu != NOWHERE).then_some(cpu)
    }

    /// Notes that a CPU runs it, or that none does.
    pub fn set_running(&self, cpu: Option<CpuId>) {
        if let Some(cpu) = cpu {
            self.last_cpu.store(cpu, Ordering::Relaxed);
        }
        self.running.store(cpu.unwrap_or(NOWHERE), Ordering::SeqCst);
    }

    /// The CPU it runs on or ran on last.
    #[must_use]
    pub fn cpu(&self) -> CpuId {
        self.last_cpu.load(Ordering::Relaxed)
    }
}
