//! Starting the secondary CPUs.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use hv_core::base::{CpuId, Mfn, PhysAddr};
use hv_core::time::WarpMeter;

use super::layout::{STACK_BLOCK, cpu_area, direct, phys_of};
use super::{apic, clock, cpu, cpuinfo, paging, percpu, run, setup, tables};

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
    prepare_trampoline(id);
    TSCS.reset();
    STAGE.store(stage::CALLED, Ordering::SeqCst);
    apic::send_init(apic_id);
    clock::delay_us(10_000);
    let arrived = [200, 1_000_000].into_iter().any(|patience| {
        apic::send_startup(apic_id, (trampoline().0 >> 12) as u8);
        reached(stage::ARRIVED, patience)
    });
    let verdict = if arrived {
        compare_tscs()
    } else {
        Err(Absent::Silent)
    };
    if verdict.is_err() {
        STAGE.store(stage::REFUSED, Ordering::SeqCst);
        return verdict;
    }
    STAGE.store(stage::TAKEN, Ordering::SeqCst);
    while STAGE.load(Ordering::SeqCst) != stage::ONLINE {
        core::hint::spin_loop();
    }
    Ok(())
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

/// A secondary CPU arrives, on its own stack, with the final page tables.
#[unsafe(no_mangle)]
extern "C" fn ap_start(id: CpuId) -> ! {
    setup::cpu_features();
    tables::load(id);
    setup::late_cpu_setup();
    join();
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
