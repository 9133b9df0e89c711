//! The local APIC, by its page.

use core::sync::atomic::{AtomicBool, Ordering};

use micro_base::memory::{read, write};

use crate::trap::{Trap, probe};

/// Where its registers are.
pub const BASE: u64 = 0xfee0_0000;

/// Registers (APM 2, 16.3.1): version.
pub const VERSION: u64 = 0x30;
/// Task priority.
pub const TASK_PRIORITY: u64 = 0x80;
/// End of interrupt.
pub const EOI: u64 = 0xb0;
/// Spurious vector, and the switch.
pub const SPURIOUS: u64 = 0xf0;
/// Interrupt command, low half.
pub const COMMAND: u64 = 0x300;
/// Interrupt command, high half.
pub const DESTINATION: u64 = 0x310;
/// The timer's entry.
pub const TIMER: u64 = 0x320;
/// What the timer begins with.
pub const INITIAL: u64 = 0x380;
/// Where it is.
pub const CURRENT: u64 = 0x390;
/// What it is divided by.
pub const DIVIDE: u64 = 0x3e0;

/// MSR of its address and state.
pub const BASE_MSR: u32 = 0x1b;
/// The first of its registers as MSRs.
pub const FIRST_MSR: u32 = 0x800;

/// Whether the registers are MSRs.
static BY_MSR: AtomicBool = AtomicBool::new(false);

/// Reads a register.
pub fn get(register: u64) -> u32 {
    if BY_MSR.load(Ordering::Relaxed) {
        return read_msr(FIRST_MSR + (register >> 4) as u32).unwrap_or(0) as u32;
    }
    read(BASE + register)
}

/// Writes a register.
pub fn set(register: u64, value: u32) {
    if BY_MSR.load(Ordering::Relaxed) {
        write_msr(FIRST_MSR + (register >> 4) as u32, value.into());
        return;
    }
    write(BASE + register, value);
}

/// The registers are MSRs from now on, or not.
pub fn by_msr(yes: bool) {
    BY_MSR.store(yes, Ordering::Relaxed);
}

/// Switches it on.
pub fn enable() {
    set(SPURIOUS, 0x1ff);
    set(TASK_PRIORITY, 0);
}

/// The interrupt is dealt with.
pub fn end_of_interrupt() {
    set(EOI, 0);
}

/// Sends an interrupt command to the APIC of this number.
pub fn command(to: u32, low: u32) {
    if BY_MSR.load(Ordering::Relaxed) {
        write_msr(FIRST_MSR + 0x30, u64::from(to) << 32 | u64::from(low));
        return;
    }
    set(DESTINATION, to << 24);
    set(COMMAND, low);
}

/// Sends an interrupt to this vCPU itself.
pub fn to_self(vector: u8) {
    command(0, 1 << 18 | u32::from(vector));
}

/// Reads an MSR, if it can be read.
pub fn read_msr(number: u32) -> Result<u64, Trap> {
    let (low, high): (u32, u32);
    match probe!("rdmsr", in("ecx") number, inout("eax") 0_u32 => low, inout("edx") 0_u32 => high) {
        None => Ok(u64::from(low) | u64::from(high) << 32),
        Some(trap) => Err(trap),
    }
}

/// Writes an MSR, if it can be written.
pub fn write_msr(number: u32, value: u64) -> Option<Trap> {
    probe!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32)
}
