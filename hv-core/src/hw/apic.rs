//! The local APIC of each CPU: xAPIC registers in memory or x2APIC in MSRs (AMD APM vol. 2, 16).

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_core::base::{CpuId, PhysAddr};

use super::cpu::{self, msr};
use super::paging;
use super::percpu;

/// Vectors that the hypervisor uses for itself, above all device vectors.
pub mod vector {
    /// A CPU should flush its TLB; highest priority.
    pub const FLUSH: u8 = 0xfb;
    /// A CPU should look at its softirq bits.
    pub const EVENT_CHECK: u8 = 0xfa;
    /// The local timer.
    pub const TIMER: u8 = 0xf9;
    /// Stop for good (a crash elsewhere, or the machine goes down).
    pub const STOP: u8 = 0xf8;
    /// Error interrupt of the APIC itself.
    pub const ERROR: u8 = 0xf7;
    /// Spurious.
    pub const SPURIOUS: u8 = 0xff;
}

mod reg {
    pub const ID: u32 = 0x20;
    pub const TPR: u32 = 0x80;
    pub const EOI: u32 = 0xb0;
    pub const LDR: u32 = 0xd0;
    pub const DFR: u32 = 0xe0;
    pub const SVR: u32 = 0xf0;
    pub const IRR: u32 = 0x200;
    pub const ESR: u32 = 0x280;
    pub const ICR: u32 = 0x300;
    pub const ICR_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const TIMER_INITIAL: u32 = 0x380;
    pub const TIMER_CURRENT: u32 = 0x390;
    pub const TIMER_DIVIDE: u32 = 0x3e0;
}

static BASE: AtomicU64 = AtomicU64::new(0);
static X2APIC: AtomicBool = AtomicBool::new(false);
static DEADLINE: AtomicBool = AtomicBool::new(false);

fn read(r: u32) -> u32 {
    if X2APIC.load(Ordering::Relaxed) {
        return cpu::rdmsr(msr::X2APIC + (r >> 4)) as u32;
    }
    // SAFETY: the registers are mapped uncached for good.
    unsafe { core::ptr::read_volatile((BASE.load(Ordering::Relaxed) + u64::from(r)) as *const u32) }
}

fn write(r: u32, value: u32) {
    if X2APIC.load(Ordering::Relaxed) {
        // SAFETY: APIC registers do not reach memory.
        unsafe { cpu::wrmsr(msr::X2APIC + (r >> 4), u64::from(value)) };
        return;
    }
    // SAFETY: the registers are mapped uncached for good.
    unsafe {
        core::ptr::write_volatile(
            (BASE.load(Ordering::Relaxed) + u64::from(r)) as *mut u32,
            value,
        )
    }
}

/// Finds the APIC of the machine: x2APIC where the CPU has it, else the registers at `address`.
pub fn discover(address: PhysAddr) {
    let features = cpu::identity().get_feature_info();
    X2APIC.store(
        features.as_ref().is_some_and(|f| f.has_x2apic()),
        Ordering::Relaxed,
    );
    DEADLINE.store(
        features.is_some_and(|f| f.has_tsc_deadline()),
        Ordering::Relaxed,
    );
    if !x2apic() {
        BASE.store(paging::map_mmio(address, 4096), Ordering::Relaxed);
    }
}

/// Whether x2APIC is in use.
pub fn x2apic() -> bool {
    X2APIC.load(Ordering::Relaxed)
}

/// Whether the timer takes TSC deadlines.
pub fn tsc_deadline() -> bool {
    DEADLINE.load(Ordering::Relaxed)
}

/// Sets up the APIC of the CPU that runs this. LINT0 of the boot CPU stays open for nothing: the PIC
/// is masked and every line goes through an I/O APIC.
pub fn init_cpu() {
    let base = cpu::rdmsr(msr::APIC_BASE);
    // x2APIC can only be entered from xAPIC mode (Intel SDM vol. 3, 11.12.5).
    // SAFETY: turns the APIC on in the mode that all of this module uses.
    unsafe {
        cpu::wrmsr(msr::APIC_BASE, base | 0x800);
        if x2apic() {
            cpu::wrmsr(msr::APIC_BASE, base | 0xc00);
        }
    }
    // Enabled first: while it is off, mask bits of the vector table cannot be cleared.
    write(reg::SVR, 0x100 | u32::from(vector::SPURIOUS));
    if !x2apic() {
        write(reg::DFR, 0xffff_ffff);
        write(reg::LDR, 0);
    }
    write(reg::TPR, 0);
    write(reg::LVT_TIMER, 1 << 16);
    write(reg::LVT_LINT0, 1 << 16);
    write(reg::LVT_LINT1, 4 << 8);
    write(reg::LVT_ERROR, u32::from(vector::ERROR));
    write(reg::ESR, 0);
    write(reg::TIMER_DIVIDE, 0b1011);
    let mode = if tsc_deadline() { 2 << 17 } else { 0 };
    write(reg::LVT_TIMER, mode | u32::from(vector::TIMER));
}

/// This CPU's APIC id.
pub fn id() -> u32 {
    if x2apic() {
        read(reg::ID)
    } else {
        read(reg::ID) >> 24
    }
}

/// End of interrupt.
#[inline]
pub fn eoi() {
    write(reg::EOI, 0);
}

/// Clears and returns the error status.
pub fn errors() -> u32 {
    write(reg::ESR, 0);
    read(reg::ESR)
}

/// Whether an interrupt of a device waits for this CPU to take it.
pub fn device_interrupt_waits() -> bool {
    // Request bits of the vectors below ours, 32 in each register.
    (1..8).any(|word| {
        let ours = if word == 7 {
            !0 << (vector::ERROR & 31)
        } else {
            0
        };
        read(reg::IRR + word * 0x10) & !ours != 0
    })
}

/// Starts the one-shot timer: `ticks` of the divided bus clock, 0 stops it.
pub fn set_timer(ticks: u32) {
    write(reg::TIMER_INITIAL, ticks);
}

/// Sets the deadline in TSC ticks; 0 stops the timer.
pub fn set_deadline(tsc: u64) {
    // SAFETY: the timer's vector only sets a bit.
    unsafe { cpu::wrmsr(msr::TSC_DEADLINE, tsc) };
}

/// What is left of the one-shot timer.
pub fn timer_left() -> u32 {
    read(reg::TIMER_CURRENT)
}

fn send(apic_id: u32, low: u32) {
    if x2apic() {
        // SAFETY: an interrupt to another CPU; its handlers are ours.
        unsafe {
            cpu::wrmsr(
                msr::X2APIC + (reg::ICR >> 4),
                u64::from(apic_id) << 32 | u64::from(low),
            )
        };
        return;
    }
    // An interrupt handler of ours must not send between the two halves.
    let on = cpu::interrupts_on();
    cpu::cli();
    wait_idle();
    write(reg::ICR_HIGH, apic_id << 24);
    write(reg::ICR, low);
    if on {
        cpu::sti();
    }
}

/// Sends a fixed interrupt to another CPU.
pub fn send_ipi(to: CpuId, vector: u8) {
    if let Some(apic) = percpu::apic_id(to) {
        percpu::this().counts.ipis.fetch_add(1, Ordering::Relaxed);
        send(apic, 0x4000 | u32::from(vector));
    }
}

/// Sends an NMI to a CPU.
pub fn send_nmi(to: CpuId) {
    if let Some(apic) = percpu::apic_id(to) {
        send(apic, 0x4400);
    }
}

/// An EVENT_CHECK to this CPU itself, from an NMI: the code it hit may stand between the two halves of a
/// request, so only the second is touched, and the request is gone before that code goes on.
pub fn remind_self() {
    const SELF: u32 = 0x4_4000;
    if x2apic() {
        // SAFETY: the interrupt only makes this CPU look at its softirq bits.
        unsafe {
            cpu::wrmsr(
                msr::X2APIC + (reg::ICR >> 4),
                u64::from(SELF | u32::from(vector::EVENT_CHECK)),
            )
        };
    } else if BASE.load(Ordering::Relaxed) != 0 {
        wait_idle();
        write(reg::ICR, SELF | u32::from(vector::EVENT_CHECK));
        wait_idle();
    }
}

/// Waits, for a bounded time, until the last interrupt sent has left (xAPIC).
fn wait_idle() {
    for _ in 0..1_000_000 {
        if read(reg::ICR) & (1 << 12) == 0 {
            break;
        }
        core::hint::spin_loop();
    }
}

/// INIT, the first half of starting a CPU.
pub fn send_init(apic_id: u32) {
    send(apic_id, 0xc500);
    send(apic_id, 0x8500);
}

/// Start-up interrupt: the CPU begins in real mode at `page << 12`.
pub fn send_startup(apic_id: u32, page: u8) {
    send(apic_id, 0x4600 | u32::from(page));
}

/// Stops all other CPUs.
pub fn stop_others() {
    if BASE.load(Ordering::Relaxed) == 0 && !x2apic() {
        return;
    }
    send(0, 0xc_4000 | u32::from(vector::STOP));
}
