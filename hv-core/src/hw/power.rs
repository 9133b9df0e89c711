//! The ends: power off, reboot, and stopping after a crash.

use core::fmt::Write;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hv_core::base::PhysAddr;
use hv_core::boot::acpi::ResetRegister;
use hv_core::boot::cmdline::AfterPanic;
use hv_core::boot::reset::{Method, Plan, ResetAt};
use spin::Once;

use super::cpu::{self, inb, outb, outl, outw};
use super::{apic, efi, serial};

/// PM1 control blocks (FADT): a in the low half, b in the high half; 0 for none.
static PM1: AtomicU64 = AtomicU64::new(0);
/// How the machine is reset: what `reboot=` asks for, and the FADT's reset register with the byte for it.
static PLAN: Once<Plan> = Once::new();
static REGISTER: Once<(ResetAt, u8)> = Once::new();
/// A reset register in memory, where it is mapped.
static MAPPED: AtomicU64 = AtomicU64::new(0);
/// `noreboot`: stop after a crash.
static NOREBOOT: AtomicBool = AtomicBool::new(false);

/// Remembers what the FADT says.
pub fn set_ports(pm1a: u16, pm1b: u16, reset: Option<&ResetRegister>) {
    PM1.store(u64::from(pm1a) | u64::from(pm1b) << 32, Ordering::Relaxed);
    let Some(reset) = reset else { return };
    let Some(at) = ResetAt::of(reset) else {
        log::warn!("ACPI: the reset register is none that can be written: not used");
        return;
    };
    if let ResetAt::Memory(address) = at {
        let page = super::paging::map_mmio(PhysAddr(address.0 & !0xfff), 4096);
        MAPPED.store(page + (address.0 & 0xfff), Ordering::Relaxed);
    }
    REGISTER.call_once(|| (at, reset.value));
}

/// Takes `noreboot` and `reboot=`.
pub fn set_plan(after_panic: AfterPanic, plan: Plan) {
    NOREBOOT.store(after_panic == AfterPanic::Halt, Ordering::Relaxed);
    PLAN.call_once(|| plan);
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
    efi::reset(efi::Reset::Shutdown);
    log::info!("Machine stopped: it is safe to power off");
    cpu::stop()
}

/// Stops all CPUs and stays so.
pub fn stop_for_good() -> ! {
    cpu::cli();
    apic::stop_others();
    say_last("Stopped; it is safe to switch the machine off");
    cpu::stop()
}

/// Reboots: each way in turn, said on the serial line.
pub fn reboot() -> ! {
    apic::stop_others();
    cpu::cli();
    let plan = PLAN.get().copied().unwrap_or_default();
    for method in plan.order() {
        let there = match method {
            Method::Efi => efi::services().is_some(),
            Method::Acpi => REGISTER.get().is_some(),
            _ => true,
        };
        if !there {
            if plan.first == Some(method) {
                let _ = writeln!(serial::Raw, "(XEN) No reset by {} here", method.name());
            }
            continue;
        }
        let _ = writeln!(serial::Raw, "(XEN) Resetting by {}", method.name());
        reset_by(method, plan);
        pause();
    }
    cpu::stop()
}

fn reset_by(method: Method, plan: Plan) {
    match method {
        Method::Efi => efi::reset(if plan.warm {
            efi::Reset::Warm
        } else {
            efi::Reset::Cold
        }),
        Method::Acpi => match REGISTER.get() {
            Some(&(ResetAt::Port(port), value)) => outb(port, value),
            Some(&(ResetAt::Pci(address, byte), value)) => {
                outl(0xcf8, address);
                outb(0xcfc + u16::from(byte), value);
            }
            Some(&(ResetAt::Memory(_), value)) => {
                let at = MAPPED.load(Ordering::Relaxed) as *mut u8;
                // SAFETY: the register's page was mapped uncached for good; it is not RAM of ours.
                unsafe { at.write_volatile(value) };
            }
            None => {}
        },
        Method::Keyboard => {
            for _ in 0..10 {
                for _ in 0..10_000 {
                    if inb(0x64) & 2 == 0 {
                        break;
                    }
                }
                outb(0x64, 0xfe);
                pause();
            }
        }
        Method::Pci => {
            let kept = inb(0xcf9) & !0x0e;
            let value = plan.chipset_value();
            // The kind of reset first, then the edge that begins it.
            outb(0xcf9, kept | value & !4);
            outb(0xcf9, kept | value);
        }
        Method::Triple => {
            super::tables::load_empty_idt();
            // SAFETY: without an IDT this ends in a triple fault, which resets the machine.
            unsafe { core::arch::asm!("int3") };
        }
    }
}

/// After a crash, ours or dom0's: reboot unless `noreboot` says to stay, so that it can be read why.
pub fn after_crash() -> ! {
    if NOREBOOT.load(Ordering::Relaxed) {
        say_last("'noreboot' is set: not rebooting");
        stop_for_good();
    }
    say_last("Rebooting");
    reboot()
}

/// A line past all locks: whoever has them may be stopped.
fn say_last(line: &str) {
    // Nothing comes back from a serial line or a screen.
    let _ = writeln!(serial::Raw, "(XEN) {line}");
}

fn pause() {
    for _ in 0..100_000 {
        inb(0x80);
    }
}
