//! Starting the secondary CPUs.

use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::base::{CpuId, Mfn, PhysAddr};

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

/// Number of CPUs that have come up.
static ONLINE: AtomicU64 = AtomicU64::new(1);

/// Starts the CPU with the given APIC id as number `id`; `false` when it does not answer or memory is short.
pub fn start_cpu(id: CpuId, apic_id: u32) -> bool {
    if trampoline().0 == 0 {
        log::error!("no RAM below 1 MiB to start CPUs from");
        return false;
    }
    let data = percpu::create(id, apic_id);
    let Some(_info) = tables::create_area(id, data) else {
        return false;
    };
    prepare_trampoline(id);
    let before = ONLINE.load(Ordering::SeqCst);
    apic::send_init(apic_id);
    clock::delay_us(10_000);
    for _ in 0..2 {
        apic::send_startup(apic_id, (trampoline().0 >> 12) as u8);
        if wait_online(before, 200) {
            return true;
        }
    }
    wait_online(before, 1_000_000)
}

fn wait_online(before: u64, limit_us: u64) -> bool {
    let until = clock::tsc_after_us(limit_us);
    while cpu::rdtsc() < until {
        if ONLINE.load(Ordering::SeqCst) != before {
            return true;
        }
        core::hint::spin_loop();
    }
    ONLINE.load(Ordering::SeqCst) != before
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
    percpu::this().remote.online.store(true, Ordering::SeqCst);
    ONLINE.fetch_add(1, Ordering::SeqCst);
    run::run_cpu()
}
