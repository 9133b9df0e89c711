//! What every CPU needs before it may run guests.

use super::cpu::{self, cr4, msr};
use super::{apic, fpu, guestmem};
use core::sync::atomic::Ordering;

/// Turns on what the CPU has of the features that we build on.
pub fn cpu_features() {
    let leaf7 = if cpu::cpuid(0, 0)[0] >= 7 { cpu::cpuid(7, 0)[1] } else { 0 };
    let mut bits = cr4::PGE | cr4::DE | cr4::MCE;
    if leaf7 & 1 != 0 {
        bits |= cr4::FSGSBASE;
    }
    if leaf7 & (1 << 7) != 0 {
        bits |= cr4::SMEP;
    }
    if leaf7 & (1 << 20) != 0 {
        bits |= cr4::SMAP;
        guestmem::SMAP.store(true, Ordering::Relaxed);
    }
    // SAFETY: nothing of ours is mapped for user mode but the M2P, which is only read there; the
    // entry code clears AC.
    unsafe { cpu::set_cr4(cpu::cr4() | bits) };
    // PAT as PV guests know it: WB, WT, UC-, UC, WC, WP, UC, UC (reference: kernel log of dom0).
    // SAFETY: none of our mappings uses the entries 4 to 7 yet.
    unsafe { cpu::wrmsr(msr::PAT, 0x0005_0100_0704_06u64) };
    fpu::init_cpu();
}

/// Whether SMAP is in use.
pub fn has_smap() -> bool {
    guestmem::SMAP.load(Ordering::Relaxed)
}

/// The rest, once the CPU's own tables are loaded.
pub fn late_cpu_setup() {
    // SAFETY: SYSENTER enters nowhere until a guest has set it up.
    unsafe { cpu::wrmsr_safe(msr::SYSENTER_CS, 0) };
    if cpu::cpuid(0x8000_0001, 0)[3] & (1 << 27) != 0 {
        // SAFETY: the value is only read by guests.
        unsafe { cpu::wrmsr_safe(msr::TSC_AUX, 0) };
    }
    apic::init_cpu();
}

/// Refuses a CPU that lacks what we rely on and boot.S could not check.
pub fn require_features() {
    let edx = cpu::cpuid(1, 0)[3];
    let needed = [(0, "FPU"), (4, "TSC"), (5, "MSR"), (6, "PAE"), (9, "APIC"), (13, "PGE"), (16, "PAT"), (24, "FXSR"), (25, "SSE"), (26, "SSE2")];
    for (bit, name) in needed {
        if edx & (1 << bit) == 0 {
            super::start::refuse(format_args!("this CPU has no {name}"));
        }
    }
    if cpu::cpuid(0x8000_0001, 0)[3] & (1 << 11) == 0 {
        super::start::refuse(format_args!("this CPU has no SYSCALL"));
    }
}
