//! The ends: power off, reboot, and stopping after a crash.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::cpu::{self, inb, outb, outw};
use super::{apic, serial};

/// PM1 control blocks (FADT): a in the low half, b in the high half; 0 for none.
static PM1: AtomicU64 = AtomicU64::new(0);
/// Reset register (FADT): port | value << 16, bit 32 set when there is one in I/O space.
static RESET: AtomicU64 = AtomicU64::new(0);
/// `noreboot`: stop after a crash.
static NOREBOOT: AtomicBool = AtomicBool::new(false);

/// Remembers what the FADT says.
pub fn set_ports(pm1a: u16, pm1b: u16, reset: Option<(u16, u8)>) {
    PM1.store(u64::from(pm1a) | u64::from(pm1b) << 32, Ordering::Relaxed);
    if let Some((port, value)) = reset {
        RESET.store(
            1 << 32 | u64::from(port) | u64::from(value) << 16,
            Ordering::Relaxed,
        );
    }
}

/// Sets `noreboot`.
pub fn set_noreboot(on: bool) {
    NOREBOOT.store(on, Ordering::Relaxed);
}

/// Whether the machine has registers to sleep by.
pub fn can_sleep() -> bool {
    PM1.load(Ordering::Relaxed) & 0xffff_ffff != 0
}

/// What dom0 wants written to enter soft off, plus 1 << 63; done by the run loop.
static SLEEP: AtomicU64 = AtomicU64::new(0);

/// Remembers the values that dom0 took from its ACPI tables.
pub fn plan_sleep(a: u16, b: u16) {
    PLANNED.store(true, Ordering::SeqCst);
    SLEEP.store(
        1 << 63 | u64::from(a) | u64::from(b) << 16,
        Ordering::SeqCst,
    );
}

/// Whether soft off was asked for: then the CPU that took the request ends the machine, and dom0's shutdown
/// that follows adds nothing.
pub fn sleep_was_planned() -> bool {
    PLANNED.load(Ordering::SeqCst)
}

static PLANNED: AtomicBool = AtomicBool::new(false);

/// Enters soft off if that was planned.
pub fn sleep_if_planned() {
    let planned = SLEEP.swap(0, Ordering::SeqCst);
    if planned == 0 {
        return;
    }
    crate::say!("Entering ACPI soft off (S5)");
    let pm1 = PM1.load(Ordering::Relaxed);
    apic::stop_others();
    cpu::cli();
    outw(pm1 as u16, planned as u16);
    if pm1 >> 32 != 0 {
        outw((pm1 >> 32) as u16, (planned >> 16) as u16);
    }
    pause();
    log::error!("the machine did not power off");
    cpu::stop()
}

/// Powers the machine off when dom0 has shut down without telling ACPI: the usual emulators' ports
/// first, then stop.
pub fn off() -> ! {
    apic::stop_others();
    super::efi::reset(super::efi::Reset::Shutdown);
    log::info!("Machine stopped: it is safe to power off");
    cpu::stop()
}

/// Stops all CPUs and stays so.
pub fn stop_for_good() -> ! {
    cpu::cli();
    apic::stop_others();
    serial::write(b"(XEN) Stopped; it is safe to switch the machine off\n");
    cpu::stop()
}

/// Reboots: the reset register, the keyboard controller, then a triple fault.
pub fn reboot() -> ! {
    apic::stop_others();
    cpu::cli();
    super::efi::reset(super::efi::Reset::Cold);
    let reset = RESET.load(Ordering::Relaxed);
    if reset >> 32 != 0 {
        outb(reset as u16, (reset >> 16) as u8);
        pause();
    }
    for _ in 0..10 {
        for _ in 0..10_000 {
            if inb(0x64) & 2 == 0 {
                break;
            }
        }
        outb(0x64, 0xfe);
        pause();
    }
    outb(0xcf9, 0x06);
    pause();
    super::tables::load_empty_idt();
    // SAFETY: without an IDT this ends in a triple fault, which resets the machine.
    unsafe { core::arch::asm!("int3") };
    cpu::stop()
}

/// After a crash, ours or dom0's: reboot unless `noreboot` says to stay, so that it can be read why.
pub fn after_crash() -> ! {
    if NOREBOOT.load(Ordering::Relaxed) {
        serial::write(b"(XEN) 'noreboot' is set: not rebooting\n");
        stop_for_good();
    }
    serial::write(b"(XEN) Rebooting\n");
    reboot()
}

fn pause() {
    for _ in 0..100_000 {
        inb(0x80);
    }
}
