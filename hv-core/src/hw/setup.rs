//! What every CPU needs before it may run guests.

use super::cpu::{self, cr4, msr};
use super::{apic, fpu, guestmem};
use core::sync::atomic::Ordering;

/// Turns on what the CPU has of the features that we build on.
pub fn cpu_features() {
    let mut bits = cr4::DE | cr4::MCE;
    // With views no mapping of ours may stay in the TLB when CR3 is loaded, whatever its G bit says.
    if !super::view::isolation().any() {
        bits |= cr4::PGE;
    }
    if let Some(extended) = cpu::identity().get_extended_feature_info() {
        if extended.has_fsgsbase() {
            bits |= cr4::FSGSBASE;
        }
        if extended.has_smep() {
            bits |= cr4::SMEP;
        }
        if extended.has_smap() {
            bits |= cr4::SMAP;
            guestmem::SMAP.store(true, Ordering::Relaxed);
        }
    }
    // SAFETY: nothing of ours is mapped for user mode but the M2P, which is only read there; the
    // entry code clears AC.
    unsafe { cpu::set_cr4(cpu::cr4() | bits) };
    // PAT as PV guests know it: WB, WT, UC-, UC, WC, WP, UC, UC (reference: kernel log of dom0).
    // SAFETY: none of our mappings uses the entries 4 to 7 yet.
    unsafe { cpu::wrmsr(msr::PAT, 0x0000_0501_0007_0406) };
    fpu::init_cpu();
}

/// Whether SMAP is in use.
pub fn has_smap() -> bool {
    guestmem::SMAP.load(Ordering::Relaxed)
}

/// The rest, once the CPU's own tables are loaded.
pub fn late_cpu_setup() {
    if cpu::identity()
        .get_extended_processor_and_feature_identifiers()
        .is_some_and(|e| e.has_rdtscp())
    {
        // SAFETY: the value is only read by guests.
        unsafe { cpu::wrmsr_safe(msr::TSC_AUX, 0) };
    }
    apic::init_cpu();
    super::mce::init_cpu();
}

/// Refuses a CPU that lacks what we rely on and boot.S could not check.
pub fn require_features() {
    let cpu = cpu::identity();
    let (Some(basic), Some(extended)) = (
        cpu.get_feature_info(),
        cpu.get_extended_processor_and_feature_identifiers(),
    ) else {
        super::start::refuse(format_args!("this CPU does not say what it has"))
    };
    let needed = [
        (basic.has_fpu(), "FPU"),
        (basic.has_tsc(), "TSC"),
        (basic.has_msr(), "MSR"),
        (basic.has_pae(), "PAE"),
        (basic.has_apic(), "APIC"),
        (basic.has_pge(), "PGE"),
        (basic.has_pat(), "PAT"),
        (basic.has_fxsave_fxstor(), "FXSR"),
        (basic.has_sse(), "SSE"),
        (basic.has_sse2(), "SSE2"),
        (extended.has_syscall_sysret(), "SYSCALL"),
    ];
    for (there, name) in needed {
        if !there {
            super::start::refuse(format_args!("this CPU has no {name}"));
        }
    }
}
