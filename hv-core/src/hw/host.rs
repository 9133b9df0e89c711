//! The machine as the logic sees it: page-table logic and domains reach the hardware through the traits implemented here, hypercall
//! handlers by `caller.rs`.

use core::alloc::Layout;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_core::base::{CpuId, DomId, Mfn, Nanos};
use hv_core::domain::{
    CpuWay, Domain, Hypervisor, IdleTimes, Machine, Progress, ShutdownReason, SleepRequest,
};
use hv_core::mm::refs::{get_page_and_type, put_page_and_type};
use hv_core::mm::{
    Frame, Globals, Holdings, IoAccess, Owner, PageType, PtMachine, Reach, RefError, Standing,
    Stop, TlbScope, refs,
};
use hv_core::sched::Unit;
use spin::Once;
use xen_abi::errno::Errno;

use super::cpu;
use super::layout::{self, FRAME_TABLE, M2P_OURS};
use super::paging;
use super::percpu::{self, softirq};
use super::{apic, clock, heap, pages, power, smp, tlb};

/// The real machine; its state is the hardware's.
pub struct Hw;

/// The one machine.
pub static HW: Hw = Hw;
/// The hypervisor, once it is set up.
pub static HV: Once<Hypervisor> = Once::new();
/// Frames in the frame table: one more than the highest frame of RAM.
static FRAMES: AtomicU64 = AtomicU64::new(0);
static SLOTS: Once<[u64; layout::SLOTS]> = Once::new();
/// What dom0's shutdown asks for, plus one; done by the run loop.
pub static SHUTDOWN: AtomicU32 = AtomicU32::new(0);

/// The hypervisor. Only called once it is set up.
pub fn hv() -> &'static Hypervisor {
    HV.get()
        .expect("the hypervisor is set up before any guest runs")
}

/// First frame number beyond the CPU's physical addresses.
static IO_LIMIT: AtomicU64 = AtomicU64::new(0);

/// Says how wide the CPU's physical addresses are.
pub fn set_address_width(bits: u32) {
    IO_LIMIT.store(1 << (bits.clamp(32, 52) - 12), Ordering::Relaxed);
}

/// First frame number that no address of the CPU's has.
pub fn address_limit() -> u64 {
    IO_LIMIT.load(Ordering::Relaxed)
}

/// Says how many frames the mapped frame table has.
pub fn set_frames(count: u64) {
    FRAMES.store(count, Ordering::Release);
}

/// Fixes what all roots have in the hypervisor's slots.
pub fn fix_slots() {
    SLOTS.call_once(paging::hypervisor_slots);
}

impl PtMachine for Hw {
    #[inline]
    fn frame(&self, mfn: Mfn) -> Option<&Frame> {
        if mfn.0 >= FRAMES.load(Ordering::Relaxed) {
            return None;
        }
        // SAFETY: the table is mapped for all frames below the count (holes share zero pages), for good;
        // `Frame` is atomics throughout, valid when zero.
        Some(unsafe { &*(FRAME_TABLE as *const Frame).add(mfn.0 as usize) })
    }

    #[inline]
    fn table(&self, mfn: Mfn) -> &[AtomicU64; 512] {
        paging::table(mfn)
    }

    fn hypervisor_slots(&self, _owner: DomId) -> &[u64; layout::SLOTS] {
        SLOTS.get().expect("the slots are fixed at boot")
    }

    fn io_access(&self, by: DomId, mfn: Mfn) -> IoAccess {
        if !is_control(by) {
            return IoAccess::Denied;
        }
        // No such address: an entry with it would fault with a reserved bit.
        if mfn.0 >= address_limit() {
            return IoAccess::Denied;
        }
        super::mmio::dom0_access(mfn)
    }

    fn may_bypass_caches(&self, by: DomId) -> bool {
        is_control(by)
    }

    fn may_map_foreign(&self, by: DomId, owner: DomId) -> bool {
        let owner = hv().domain(owner);
        is_control(by) && owner.is_some_and(|d| !d.dying.load(Ordering::Acquire))
    }

    fn shares_read_only(&self, by: DomId, mfn: Mfn) -> bool {
        let hv = hv();
        hv.domain(by).is_some_and(|d| d.is_control())
            && hv
                .facts
                .m2p_frames
                .iter()
                .flatten()
                .any(|m| (m.0..m.0 + 512).contains(&mfn.0))
    }

    #[inline]
    fn globals(&self) -> Globals {
        tlb::globals()
    }

    #[inline]
    fn preempt_pending(&self) -> bool {
        percpu::this().remote.softirq.load(Ordering::Relaxed) != 0
    }

    fn flush_stale(&self, scope: TlbScope, stamp: u32) {
        match scope {
            TlbScope::All => tlb::flush_stale(percpu::online(), stamp),
            TlbScope::Domain(id) => match HV.get().and_then(|hv| hv.domain(id)) {
                Some(d) => {
                    let d = &d;
                    tlb::flush_stale(percpu::online().filter(move |c| d.is_dirty(*c)), stamp);
                }
                // A domain that is not in the list (yet, or any more): all who might have seen it.
                None => tlb::flush_stale(percpu::online(), stamp),
            },
        }
    }

    #[inline]
    fn tlb_clock(&self) -> u32 {
        tlb::clock()
    }

    fn flush_paging_structures(&self, owner: DomId) {
        // Loading CR3 drops this CPU's paging-structure caches; others when they next load a root,
        // and before that by the stamp of the table that went away.
        let root = cpu::cr3();
        // SAFETY: the same root again.
        unsafe { cpu::set_cr3(root) };
        percpu::this().view.shown.outdate();
        if let Some(d) = HV.get().and_then(|hv| hv.domain(owner)) {
            let (d, this) = (&d, percpu::this().id);
            let others = percpu::online().filter(move |c| *c != this && d.is_dirty(*c));
            if others.clone().next().is_some() {
                tlb::flush_on(others);
            }
        }
    }

    fn write_back(&self, mfn: Mfn) {
        // Every processor with long mode has lines of 64 bytes.
        for line in self.table(mfn).iter().step_by(8) {
            // SAFETY: the instruction changes no data, and the line is mapped. Its effect reaches all CPUs.
            unsafe {
                core::arch::asm!("clflush [{}]", in(reg) line, options(nostack, preserves_flags))
            };
        }
        core::sync::atomic::fence(Ordering::SeqCst);
    }

    fn release(&self, mfn: Mfn) {
        let Some(frame) = self.frame(mfn) else { return };
        // A domain that is not in the list is being made.
        let owner = match frame.owner() {
            Owner::Domain(id) => HV.get().and_then(|hv| hv.domain(id)),
            Owner::Free | Owner::Xen | Owner::Io => None,
        };
        if let Some(d) = &owner
            && d.holdings.unlink(self, mfn) == Standing::Own
        {
            d.pages.fetch_sub(1, Ordering::Relaxed);
        }
        if frame.free_up().is_ok() {
            Machine::set_m2p(self, mfn, u64::MAX);
            pages::free(mfn);
        }
        if let Some(d) = owner {
            frame_left(&d);
        }
    }

    fn note(&self, why: fmt::Arguments<'_>) {
        log::info!("{why}");
    }
}

/// A frame is no longer the domain's. When the last one goes of a domain that has died, this CPU forgets the domain
/// as soon as it holds no locks.
fn frame_left(domain: &Domain) {
    if domain.holdings.leave() {
        domain.gone.store(true, Ordering::Release);
        let remote = &percpu::this().remote;
        remote.softirq.fetch_or(softirq::REAP, Ordering::SeqCst);
    }
}

fn not_given(why: RefError) -> Errno {
    match why {
        RefError::Closed => Errno::ESRCH,
        RefError::InUse => {
            log::error!("a frame from the allocator has an owner");
            Errno::EBUSY
        }
        _ => Errno::EINVAL,
    }
}

/// Whether the domain is the one that has the devices.
fn is_control(id: DomId) -> bool {
    let domain = HV.get().and_then(|hv| hv.domain(id));
    domain.is_some_and(|d| d.is_control())
}

fn refused(stop: Stop) -> Errno {
    match stop {
        Stop::Restart => Errno::EAGAIN,
        Stop::Refused(_) => Errno::EINVAL,
    }
}

impl Machine for Hw {
    fn words(&self, mfn: Mfn) -> &'static [AtomicU64; 512] {
        paging::table(mfn)
    }

    fn words32(&self, mfn: Mfn) -> &'static [AtomicU32; 1024] {
        // SAFETY: RAM is in the direct map for good and only accessed as atomics.
        unsafe { &*(layout::direct_frame(mfn) as *const [AtomicU32; 1024]) }
    }

    fn copy_bytes(&self, from: (Mfn, u16), to: (Mfn, u16), len: u16) {
        pages::copy(from, to, len);
    }

    fn take_writable(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        get_page_and_type(self, mfn, owner, PageType::Writable, Reach::Owner).map_err(refused)
    }

    fn drop_writable(&self, mfn: Mfn) {
        // Dropping a writable reference never has to be interrupted.
        while put_page_and_type(self, mfn).is_err() {
            core::hint::spin_loop();
        }
    }

    fn owner_of(&self, mfn: Mfn) -> Option<DomId> {
        match self.frame(mfn)?.owner() {
            Owner::Domain(id) => Some(id),
            Owner::Free | Owner::Xen | Owner::Io => None,
        }
    }

    fn take_mapped(&self, mfn: Mfn, owner: DomId, write: bool) -> Result<(), Errno> {
        if write {
            let reach = Reach::Foreign;
            return get_page_and_type(self, mfn, owner, PageType::Writable, reach).map_err(refused);
        }
        refs::get_page(self, mfn, Owner::Domain(owner)).map_err(not_given)
    }

    fn drop_mapped(&self, mfn: Mfn, write: bool) {
        if write {
            self.drop_writable(mfn);
        } else {
            refs::put_page(self, mfn);
        }
    }

    fn flush_domain(&self, domain: &Domain) {
        tlb::flush_on(percpu::online().filter(move |c| domain.is_dirty(*c)));
    }

    fn share_with(&self, mfn: Mfn, with: &Holdings) -> Result<(), Errno> {
        refs::share_page(self, mfn, with).map_err(not_given)
    }

    fn set_aside(&self, block: Layout) -> Result<(), Errno> {
        heap::set_aside(block)
    }

    fn unshare(&self, mfn: Mfn) {
        refs::unshare_page(self, mfn);
    }

    fn assign(&self, mfn: Mfn, to: &Holdings) -> Result<(), Errno> {
        let frame = self.frame(mfn).ok_or(Errno::EINVAL)?;
        self.flush_stale(TlbScope::All, frame.stamp());
        to.enter(self, mfn, Standing::Own).map_err(not_given)
    }

    fn steal(&self, mfn: Mfn, from: &Holdings) -> Result<(), Errno> {
        let frame = self.frame(mfn).ok_or(Errno::EINVAL)?;
        frame.steal(from.id()).map_err(|why| {
            if why == RefError::InUse {
                Errno::EBUSY
            } else {
                Errno::EINVAL
            }
        })?;
        frame.set_stamp(tlb::clock());
        from.unlink(self, mfn);
        let freed = frame.free_up();
        match hv().domain(from.id()) {
            Some(d) => frame_left(&d),
            None => debug_assert!(false, "a domain that is not in the list owned a page"),
        }
        freed.map_err(|_| Errno::EBUSY)
    }

    fn relinquish(&self, mfn: Mfn, owner: DomId) -> Result<(), Errno> {
        refs::relinquish_page(self, mfn, owner).map_err(|_| Errno::EINVAL)
    }

    fn users(&self, mfn: Mfn, owner: DomId) -> Option<u64> {
        refs::users(self, mfn, owner)
    }

    fn alloc_page(&self) -> Option<Mfn> {
        pages::alloc_zeroed()
    }

    fn alloc_unzeroed(&self, order: u32, address_bits: u32, claimed: u64) -> Option<Mfn> {
        pages::alloc_block(order, address_bits, claimed)
    }

    fn zero_pages(&self, first: Mfn, pages: u64) {
        for page in 0..pages {
            pages::zero(Mfn(first.0 + page));
        }
    }

    fn free_block(&self, first: Mfn, pages: u64, claimed: u64) {
        pages::free_block(first, pages, claimed);
    }

    fn claim(&self, pages: u64) -> Result<(), Errno> {
        if pages::claim(pages) {
            Ok(())
        } else {
            Err(Errno::ENOMEM)
        }
    }

    fn drop_claim(&self, pages: u64) {
        pages::drop_claim(pages);
    }

    fn claimed(&self) -> u64 {
        pages::claimed()
    }

    fn free_page(&self, mfn: Mfn) {
        pages::free(mfn);
    }

    fn free_pages(&self) -> u64 {
        pages::free_count()
    }

    fn set_m2p(&self, mfn: Mfn, gfn: u64) {
        if self.frame(mfn).is_some() {
            // SAFETY: our writable view of the table covers every frame that has an entry.
            unsafe {
                (*(M2P_OURS as *const AtomicU64).add(mfn.0 as usize)).store(gfn, Ordering::Relaxed)
            };
        }
    }

    fn m2p(&self, mfn: Mfn) -> u64 {
        if self.frame(mfn).is_none() {
            return u64::MAX;
        }
        // SAFETY: as above.
        unsafe { (*(M2P_OURS as *const AtomicU64).add(mfn.0 as usize)).load(Ordering::Relaxed) }
    }

    fn now(&self) -> Nanos {
        clock::now()
    }

    fn this_cpu(&self) -> CpuId {
        percpu::this().id
    }

    fn interrupt(&self, cpu: CpuId) {
        if cpu != percpu::this().id {
            apic::send_ipi(cpu, apic::vector::EVENT_CHECK);
        }
    }

    fn reschedule(&self, cpu: CpuId) {
        if let Some(remote) = percpu::remote(cpu) {
            remote.softirq.fetch_or(softirq::SCHEDULE, Ordering::SeqCst);
            self.interrupt(cpu);
        }
    }

    fn hardware_shutdown(&self, reason: ShutdownReason) {
        SHUTDOWN.store(reason.0.saturating_add(1), Ordering::SeqCst);
        for cpu in percpu::online() {
            self.reschedule(cpu);
        }
    }

    fn enter_sleep(&self, request: SleepRequest) -> Result<(), Errno> {
        if request.state != 5 || !power::can_sleep() {
            return Err(Errno::EOPNOTSUPP);
        }
        power::plan_sleep(request.pm1a, request.pm1b);
        for cpu in percpu::online() {
            self.reschedule(cpu);
        }
        Ok(())
    }

    fn idle(&self, cpu: CpuId) -> IdleTimes {
        percpu::remote(cpu).map_or_else(IdleTimes::default, |r| IdleTimes {
            time: r.idle_ns.load(Ordering::Relaxed),
            entries: r.idle_entries.load(Ordering::Relaxed),
            timer_interrupts: r.timer_interrupts.load(Ordering::Relaxed),
        })
    }

    fn load_microcode(&self, file: &[u8]) -> Result<(), Errno> {
        super::microcode::update(file)
    }

    fn move_cpu(&self, cpu: CpuId, way: CpuWay) -> Result<Progress, Errno> {
        match way {
            CpuWay::In => smp::bring_back(cpu),
            CpuWay::Out => Ok(smp::send_away(cpu)),
        }
    }

    fn arm_vcpu_timer(&self, unit: Unit, deadline: Option<Nanos>) {
        super::vcpu_timers::arm(unit, deadline);
    }
}
