//! A machine of a few frames, whose CPUs cache mappings as greedily as real ones may.

use crate::base::{DomId, Mfn};
use crate::mm::pte::{ENTRIES, HYPERVISOR_SLOTS};
use crate::mm::{
    Frame, FrameTable, Globals, Holdings, IoAccess, Owner, PtMachine, Standing, TlbScope,
};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub const DOM: DomId = 1;
pub const OTHER: DomId = 2;
/// Frame numbers from here on are no RAM.
pub const IO_BASE: u64 = 1000;
/// This one is read-only MMIO.
pub const IO_READ_ONLY: u64 = IO_BASE + 1;

pub const P: u64 = 1;
pub const RW: u64 = 2;
pub const US: u64 = 4;

/// What one CPU has cached.
#[derive(Default)]
pub struct Cpu {
    pub writable: BTreeSet<u64>,
    pub readable: BTreeSet<u64>,
    /// Frames it may walk as tables: (frame, level).
    pub tables: BTreeSet<(u64, u8)>,
    pub flushed_at: u32,
}

pub struct Fake {
    pub frames: Vec<Frame>,
    pub tables: Vec<[AtomicU64; ENTRIES]>,
    pub slots: [u64; HYPERVISOR_SLOTS],
    pub clock: AtomicU32,
    /// One CPU for each domain, by index: DOM, OTHER.
    pub cpus: [Mutex<Cpu>; 2],
    /// Preemption comes up by this pattern, one bit a question; zero is never.
    pub preempt: AtomicU64,
    /// Frames of DOM and OTHER.
    pub holdings: [Holdings; 2],
    /// Domains that lost their last frame after they were closed.
    pub gone: Mutex<Vec<DomId>>,
    pub privileged: AtomicBool,
    /// Whether DOM has devices, and may map RAM past the caches for them.
    pub has_devices: AtomicBool,
    pub released: Mutex<Vec<u64>>,
    pub flushes: AtomicU32,
    /// Nothing of a guest's is global.
    pub no_globals: AtomicBool,
    pub written_back: Mutex<Vec<u64>>,
}

impl Fake {
    pub fn new(count: usize) -> Self {
        let frames: Vec<_> = (0..count).map(|_| Frame::free()).collect();
        let tables = (0..count)
            .map(|_| [const { AtomicU64::new(0) }; ENTRIES])
            .collect();
        Self {
            frames,
            tables,
            slots: std::array::from_fn(|i| 0xabc000 + i as u64),
            clock: AtomicU32::new(1),
            cpus: std::array::from_fn(|_| Mutex::new(Cpu::default())),
            preempt: AtomicU64::new(0),
            holdings: [Holdings::new(DOM), Holdings::new(OTHER)],
            gone: Mutex::new(Vec::new()),
            privileged: AtomicBool::new(true),
            has_devices: AtomicBool::new(true),
            released: Mutex::new(Vec::new()),
            flushes: AtomicU32::new(0),
            no_globals: AtomicBool::new(false),
            written_back: Mutex::new(Vec::new()),
        }
    }

    /// All frames given to `DOM`.
    pub fn with_domain(count: usize) -> Self {
        let m = Self::new(count);
        for n in 0..count as u64 {
            m.give(n, DOM);
        }
        m
    }

    pub fn holdings_of(&self, id: DomId) -> &Holdings {
        &self.holdings[usize::from(id) - 1]
    }

    /// Gives a free frame to a domain.
    pub fn give(&self, mfn: u64, to: DomId) {
        let entered = self.holdings_of(to).enter(self, Mfn(mfn), Standing::Own);
        entered.unwrap();
    }

    /// The same as the allocator does it: no CPU may know the frame from its former owner any more.
    pub fn hand_out(&self, frame: u64, to: DomId) {
        self.flush_stale(TlbScope::All, self.f(frame).stamp());
        for cpu in &self.cpus {
            let cached = cpu.lock().unwrap().readable.contains(&frame);
            assert!(!cached, "frame {frame} is readable to its former owner");
        }
        self.give(frame, to);
    }

    /// Takes a frame that nobody uses from its domain.
    pub fn take_away(&self, mfn: u64, from: DomId) {
        self.f(mfn).steal(from).unwrap();
        self.gone_from(mfn, from);
    }

    pub fn gone_from(&self, mfn: u64, from: DomId) {
        let holdings = self.holdings_of(from);
        holdings.unlink(self, Mfn(mfn));
        self.f(mfn).free_up().unwrap();
        if holdings.leave() {
            self.gone.lock().unwrap().push(from);
        }
    }

    /// Writes as the guest would with a plain store, without asking anybody.
    pub fn poke(&self, mfn: u64, slot: usize, val: u64) {
        self.tables[mfn as usize][slot].store(val, Ordering::Relaxed);
    }

    pub fn peek(&self, mfn: u64, slot: usize) -> u64 {
        self.tables[mfn as usize][slot].load(Ordering::Relaxed)
    }

    pub fn f(&self, mfn: u64) -> &Frame {
        &self.frames[mfn as usize]
    }

    pub fn flush_cpu(&self, index: usize) {
        let mut cpu = self.cpus[index].lock().unwrap();
        cpu.flushed_at = self.clock.fetch_add(1, Ordering::SeqCst) + 1;
        cpu.writable.clear();
        cpu.readable.clear();
        cpu.tables.clear();
    }
}

pub fn pte(mfn: u64, flags: u64) -> u64 {
    mfn << 12 | flags
}

impl PtMachine for Fake {
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        FrameTable::new(&self.frames).get(mfn)
    }

    fn table(&self, mfn: Mfn) -> &[AtomicU64; ENTRIES] {
        &self.tables[mfn.0 as usize]
    }

    fn hypervisor_slots(&self, _: DomId) -> &[u64; HYPERVISOR_SLOTS] {
        &self.slots
    }

    fn io_access(&self, by: DomId, mfn: Mfn) -> IoAccess {
        match (by, mfn.0) {
            (DOM, IO_READ_ONLY) => IoAccess::ReadOnly,
            (DOM, n) if (IO_BASE..IO_BASE + 16).contains(&n) => IoAccess::Full,
            _ => IoAccess::Denied,
        }
    }

    fn may_bypass_caches(&self, by: DomId) -> bool {
        by == DOM && self.has_devices.load(Ordering::Relaxed)
    }

    fn may_map_foreign(&self, by: DomId, owner: DomId) -> bool {
        self.privileged.load(Ordering::Relaxed) && (by, owner) == (OTHER, DOM)
    }

    fn shares_read_only(&self, by: DomId, _: Mfn) -> bool {
        by == DOM
    }

    fn globals(&self) -> Globals {
        if self.no_globals.load(Ordering::Relaxed) {
            Globals::Nothing
        } else {
            Globals::UserMappings
        }
    }

    fn preempt_pending(&self) -> bool {
        let p = self.preempt.load(Ordering::Relaxed);
        self.preempt.store(p.rotate_right(1), Ordering::Relaxed);
        p & 1 != 0
    }

    fn flush_stale(&self, scope: TlbScope, stamp: u32) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        for index in 0..2 {
            let concerned = match scope {
                TlbScope::All => true,
                TlbScope::Domain(id) => id == index as DomId + 1,
            };
            if concerned && self.cpus[index].lock().unwrap().flushed_at <= stamp {
                self.flush_cpu(index);
            }
        }
    }

    fn tlb_clock(&self) -> u32 {
        self.clock.load(Ordering::SeqCst)
    }

    fn flush_paging_structures(&self, _: DomId) {
        // Nothing: stamps alone must carry the rule.
    }

    fn write_back(&self, mfn: Mfn) {
        self.written_back.lock().unwrap().push(mfn.0);
    }

    fn release(&self, mfn: Mfn) {
        match self.f(mfn.0).owner() {
            Owner::Domain(id) => self.gone_from(mfn.0, id),
            _ => self.f(mfn.0).free_up().unwrap(),
        }
        self.released.lock().unwrap().push(mfn.0);
    }

    fn note(&self, _: fmt::Arguments<'_>) {}
}
