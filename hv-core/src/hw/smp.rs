//! Starting the secondary CPUs, parking them and bringing them back.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_core::base::{CpuId, Mfn, PhysAddr};
use hv_core::domain::Progress;
use hv_core::time::WarpMeter;
use xen_abi::errno::Errno;

use super::layout::{STACK_BLOCK, cpu_area, direct, phys_of};
use super::percpu::PerCpu;
use super::{apic, clock, cpu, cpuinfo, paging, percpu, run, setup, tables, tlb};

// SAFETY: `ap.S` defines them; the words of `ap_data` are five.
unsafe extern "C" {
    static ap_code: [u8; 0];
    static ap_code_end: [u8; 0];
    static ap_data: [u64; 5];
    static ap_high: [u8; 0];
    static boot_l4: [u8; 0];
}

/// The page that secondary CPUs start in: RAM below 1 MiB; 0: there is none.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// Takes a page below 1 MiB, which no domain gets.
pub fn choose_trampoline(page: Option<Mfn>) {
    TRAMPOLINE.store(page.map_or(0, |mfn| mfn.addr().0), Ordering::Relaxed);
}

/// Where secondary CPUs start.
pub fn trampoline() -> PhysAddr {
    PhysAddr(TRAMPOLINE.load(Ordering::Relaxed))
}

/// How far the CPU that starts has come.
mod stage {
    /// It has been sent for.
    pub const CALLED: u32 = 0;
    /// It is there and waits.
    pub const ARRIVED: u32 = 1;
    /// Both compare their TSCs.
    pub const COMPARE: u32 = 2;
    /// It has done its part.
    pub const COMPARED: u32 = 3;
    /// It takes part in everything.
    pub const TAKEN: u32 = 4;
    /// It does.
    pub const ONLINE: u32 = 5;
    /// It is of no use, or comes too late: it stops.
    pub const REFUSED: u32 = 6;
}

/// Readings that each of two CPUs takes of its TSC.
const ROUNDS: u32 = 5_000;
/// How long a CPU is left alone after INIT, and between two start-up interrupts (Intel SDM vol. 3, 9.4.4).
const AFTER_INIT_US: u64 = 10_000;
const AFTER_STARTUP_US: u64 = 200;
/// Microseconds that a CPU has to come.
const PATIENCE_US: u64 = 1_000_000;
/// The stage of the one CPU that starts.
static STAGE: AtomicU32 = AtomicU32::new(stage::CALLED);
static TSCS: WarpMeter = WarpMeter::new();

/// Why a CPU was not started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absent {
    /// It does not answer, or there is no memory for it.
    Silent,
    /// Its TSC is behind the boot CPU's or ahead of it, by at least so many ticks.
    Tsc(u64),
}

/// Starts the CPU with the given APIC id as number `id`.
///
/// # Errors
/// Why it does not run. Its number is used up.
pub fn start_cpu(id: CpuId, apic_id: u32) -> Result<(), Absent> {
    if trampoline().0 == 0 {
        log::error!("no RAM below 1 MiB to start CPUs from");
        return Err(Absent::Silent);
    }
    let data = percpu::create(id, apic_id);
    let Some(_info) = tables::create_area(id, data) else {
        return Err(Absent::Silent);
    };
    send_for(id, apic_id);
    clock::delay_us(AFTER_INIT_US);
    let arrived = [AFTER_STARTUP_US, PATIENCE_US].into_iter().any(|patience| {
        startup(apic_id);
        reached(stage::ARRIVED, patience)
    });
    admit(apic_id, arrived)?;
    while STAGE.load(Ordering::SeqCst) != stage::ONLINE {
        core::hint::spin_loop();
    }
    Ok(())
}

/// Prepares for the CPU and resets it: it waits for a start-up interrupt then.
fn send_for(id: CpuId, apic_id: u32) {
    prepare_trampoline(id);
    TSCS.reset();
    STAGE.store(stage::CALLED, Ordering::SeqCst);
    apic::send_init(apic_id);
}

fn startup(apic_id: u32) {
    apic::send_startup(apic_id, (trampoline().0 >> 12) as u8);
}

/// Lets a CPU that has arrived take part if its clock is right; one that is refused is reset, so that it never comes.
fn admit(apic_id: u32, arrived: bool) -> Result<(), Absent> {
    let verdict = if arrived {
        compare_tscs()
    } else {
        Err(Absent::Silent)
    };
    if verdict.is_err() {
        STAGE.store(stage::REFUSED, Ordering::SeqCst);
        apic::send_init(apic_id);
        return verdict;
    }
    STAGE.store(stage::TAKEN, Ordering::SeqCst);
    Ok(())
}

/// What the CPU that comes back waits for, and until when (TSC).
static RETURN: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Phases of a return, in `RETURN[0]`.
mod phase {
    pub const PARKED: u64 = 0;
    pub const RESET: u64 = 1;
    pub const STARTED: u64 = 2;
    pub const STARTED_AGAIN: u64 = 3;
    pub const ADMITTED: u64 = 4;
}

/// A step of bringing back a CPU that is parked. One CPU at a time.
///
/// # Errors
/// `EIO` when it does not answer or its TSC is off; it stays away.
pub fn bring_back(id: CpuId) -> Result<Progress, Errno> {
    let [at, until] = &RETURN;
    let apic_id = percpu::apic_id(id).ok_or(Errno::EINVAL)?;
    let go_on = |phase, us| {
        at.store(phase, Ordering::Relaxed);
        until.store(clock::tsc_after_us(us), Ordering::Relaxed);
        Ok(Progress::Pending)
    };
    let stage = STAGE.load(Ordering::SeqCst);
    let late = cpu::rdtsc() >= until.load(Ordering::Relaxed);
    match at.load(Ordering::Relaxed) {
        phase::PARKED => {
            tables::renew_area(id);
            send_for(id, apic_id);
            go_on(phase::RESET, AFTER_INIT_US)
        }
        phase::RESET if late => {
            startup(apic_id);
            go_on(phase::STARTED, AFTER_STARTUP_US)
        }
        phase::STARTED if stage != stage::ARRIVED && late => {
            startup(apic_id);
            go_on(phase::STARTED_AGAIN, PATIENCE_US)
        }
        phase::STARTED | phase::STARTED_AGAIN if stage == stage::ARRIVED || late => {
            at.store(phase::PARKED, Ordering::Relaxed);
            admit(apic_id, stage == stage::ARRIVED).map_err(|why| {
                log::error!("CPU {id} does not come back: {why:?}");
                Errno::EIO
            })?;
            go_on(phase::ADMITTED, 0)
        }
        phase::ADMITTED if stage == stage::REFUSED => {
            at.store(phase::PARKED, Ordering::Relaxed);
            Err(Errno::EIO)
        }
        phase::ADMITTED if stage == stage::ONLINE => {
            at.store(phase::PARKED, Ordering::Relaxed);
            Ok(Progress::Done)
        }
        _ => Ok(Progress::Pending),
    }
}

/// A step of sending a CPU away that the scheduler no longer has.
pub fn send_away(id: CpuId) -> Progress {
    let Some(remote) = percpu::remote(id) else {
        return Progress::Done;
    };
    if !remote.online.load(Ordering::SeqCst) {
        return Progress::Done;
    }
    if !remote.leaving.swap(true, Ordering::SeqCst) {
        apic::send_ipi(id, apic::vector::EVENT_CHECK);
    }
    Progress::Pending
}

/// This CPU was told to leave, and no guest's state is on it. Returns when something came up that is to be done first.
pub fn leave(this: &PerCpu) {
    super::devices::evacuate(this.id);
    super::vcpu_timers::hand_over(this);
    // An interrupt that was on its way comes now.
    clock::delay_us(1_000);
    cpu::cli();
    let owed = this.remote.softirq.load(Ordering::Relaxed) != 0;
    if owed || apic::device_interrupt_waits() || !this.timers.lock().is_empty() {
        cpu::sti();
        return;
    }
    let old = this.tlb_domain.borrow_mut().take();
    tlb::flush_all_here();
    if let Some(old) = old {
        old.clear_dirty(this.id);
        // Dropping it may be the end of it, which takes locks.
        cpu::sti();
        return;
    }
    clock::stop();
    super::hvm::disable_here();
    this.remote.leaving.store(false, Ordering::SeqCst);
    // Nobody waits for this CPU any more; it runs nothing until it is reset and has flushed.
    this.remote.online.store(false, Ordering::SeqCst);
    cpu::stop()
}

/// Compares the TSC of the CPU that has arrived with that of this one.
fn compare_tscs() -> Result<(), Absent> {
    STAGE.store(stage::COMPARE, Ordering::SeqCst);
    TSCS.measure(ROUNDS, cpu::rdtsc_ordered);
    if !reached(stage::COMPARED, 1_000_000) {
        return Err(Absent::Silent);
    }
    match TSCS.worst() {
        0 => Ok(()),
        ticks => Err(Absent::Tsc(ticks)),
    }
}

/// Whether the CPU that starts reaches a stage within the time.
fn reached(stage: u32, limit_us: u64) -> bool {
    let until = clock::tsc_after_us(limit_us);
    while cpu::rdtsc() < until {
        if STAGE.load(Ordering::SeqCst) == stage {
            return true;
        }
        core::hint::spin_loop();
    }
    STAGE.load(Ordering::SeqCst) == stage
}

/// Copies the 16-bit code into its page and fills in what the new CPU needs.
fn prepare_trampoline(id: CpuId) {
    let code = (&raw const ap_code) as u64;
    let len = (&raw const ap_code_end) as usize - code as usize;
    let to = direct(trampoline());
    let words = [
        phys_of((&raw const boot_l4) as u64).0,
        cpu_area(id) + STACK_BLOCK - cpuinfo::INFO_SIZE - cpuinfo::FRAME_GAP,
        u64::from(id),
        paging::master().addr().0,
        (&raw const ap_high) as u64,
    ];
    // SAFETY: the page is kept for this; the code is shorter than a page and position-independent.
    unsafe {
        core::ptr::copy_nonoverlapping(code as *const u8, to as *mut u8, len);
        let data = (to + ((&raw const ap_data) as u64 - code)) as *mut u64;
        for (i, word) in words.iter().enumerate() {
            data.add(i).write_volatile(*word);
        }
    }
}

/// A secondary CPU arrives, on its own stack, with the final page tables. It may have been here before.
#[unsafe(no_mangle)]
extern "C" fn ap_start(id: CpuId) -> ! {
    setup::cpu_features();
    tables::load(id);
    setup::late_cpu_setup();
    join();
    percpu::this().begin();
    super::microcode::follow();
    if let Err(why) = super::hvm::enable_here() {
        log::error!("CPU {id}: no hardware containers: {why}");
        // There may be guests by now that could be run here.
        if super::hvm::is_promised() {
            STAGE.store(stage::REFUSED, Ordering::SeqCst);
            cpu::stop();
        }
    }
    super::devices::admit(id);
    tlb::flush_all_here();
    percpu::this().remote.online.store(true, Ordering::SeqCst);
    STAGE.store(stage::ONLINE, Ordering::SeqCst);
    run::run_cpu()
}

/// Meets the boot CPU, which decides whether this one takes part. One that comes when it is not waited
/// for any more never does.
fn join() {
    let _ = STAGE.compare_exchange(
        stage::CALLED,
        stage::ARRIVED,
        Ordering::SeqCst,
        Ordering::SeqCst,
    );
    loop {
        match STAGE.load(Ordering::SeqCst) {
            stage::COMPARE => break,
            stage::REFUSED => cpu::stop(),
            _ => core::hint::spin_loop(),
        }
    }
    TSCS.measure(ROUNDS, cpu::rdtsc_ordered);
    STAGE.store(stage::COMPARED, Ordering::SeqCst);
    loop {
        match STAGE.load(Ordering::SeqCst) {
            stage::TAKEN => break,
            stage::REFUSED => cpu::stop(),
            _ => core::hint::spin_loop(),
        }
    }
}
