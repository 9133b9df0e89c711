//! Interrupt controllers, clock, CPUs: from the boot CPU alone to all of them.

use hv_core::base::PhysAddr;
use hv_core::mm::{Globals, IoAccess};

use super::smp::Absent;
use super::start::{Boot, refuse};
use super::{apic, clock, cpu, cpuid_fault, fpu, hvm, mmio, percpu, power, setup, smp, tlb, view};
use crate::say;

/// Where the local APIC is when nobody says otherwise.
const LOCAL_APIC: PhysAddr = PhysAddr(0xfee0_0000);

/// The boot CPU's APIC, the PIC, the clock, the power-off ports.
pub fn machine(boot: &Boot) {
    percpu::watch_locks();
    percpu::this()
        .remote
        .online
        .store(true, core::sync::atomic::Ordering::SeqCst);
    super::microcode::early(boot);
    mask_pic();
    let madt = boot.acpi.madt.as_ref();
    let address = madt.map_or(LOCAL_APIC, |m| m.local_apic_address);
    apic::discover(address);
    setup::late_cpu_setup();
    mmio::reserve(address, IoAccess::Denied);
    // A CPU that did not answer in time may still start there: the page stays ours. Linux looks for tables
    // of firmware in all of the first MiB and must be able to read it.
    mmio::reserve(smp::trampoline(), IoAccess::ReadOnly);
    if let Some(hpet) = boot.acpi.hpet_address() {
        mmio::reserve(hpet, IoAccess::ReadOnly);
    }
    for io_apic in madt.iter().flat_map(|m| &m.io_apics) {
        mmio::reserve(io_apic.address, IoAccess::ReadOnly);
    }
    let Some(reference) = clock::init(&boot.acpi) else {
        refuse(format_args!(
            "no timer to measure the TSC with: HPET, PM timer and PIT all failed"
        ))
    };
    clock::calibrate_apic_timer();
    let mhz = clock::tsc_hz() / 1000;
    say!(
        "TSC: {}.{:03} MHz by {reference}; local APIC {}, timer by {}",
        mhz / 1000,
        mhz % 1000,
        if apic::x2apic() { "x2APIC" } else { "xAPIC" },
        if apic::tsc_deadline() {
            "TSC deadline"
        } else {
            "one-shot count"
        }
    );
    if !cpu::identity()
        .get_advanced_power_mgmt_info()
        .is_some_and(|p| p.has_invariant_tsc())
    {
        say!("TSC: this CPU does not say that its TSC is invariant; time is as good as the TSC is");
    }
    if let Some(fadt) = &boot.acpi.fadt {
        let port = |a: &Option<hv_core::boot::acpi::GenericAddress>| {
            a.as_ref().and_then(|a| a.port()).unwrap_or(0)
        };
        power::set_ports(
            port(&fadt.pm1a_control),
            port(&fadt.pm1b_control),
            fadt.reset.as_ref(),
        );
    }
    tlb::choose_globals();
    mitigations();
    cpuid_fault::discover();
    hvm::discover(&boot.command_line.options.vmx);
}

/// Starts the other CPUs.
pub fn cpus(boot: &Boot) {
    let options = &boot.command_line.options;
    let own = apic::id();
    percpu::set_boot_apic_id(own);
    let limit = options
        .max_cpus
        .unwrap_or(u32::MAX)
        .clamp(1, percpu::MAX_CPUS as u32);
    let mut next = 1;
    let mut skipped = 0;
    for entry in boot.acpi.madt.iter().flat_map(|m| &m.cpus) {
        if !entry.enabled || entry.apic_id == own {
            continue;
        }
        if next >= limit || (!apic::x2apic() && entry.apic_id > 0xfe) {
            skipped += 1;
            continue;
        }
        match smp::start_cpu(next, entry.apic_id) {
            Ok(()) => next += 1,
            Err(Absent::Silent) => {
                log::error!("CPU with APIC id {} does not start", entry.apic_id);
                break;
            }
            // One clock is read by all: a CPU with another one would show times that run backwards.
            Err(Absent::Tsc(ticks)) => {
                log::error!(
                    "CPU with APIC id {}: its TSC is at least {ticks} ticks off the boot CPU's: left out, and those after it",
                    entry.apic_id
                );
                break;
            }
        }
    }
    say!(
        "Brought up {next} CPUs{}",
        if skipped != 0 {
            alloc::format!(", left out {skipped}")
        } else {
            alloc::string::String::new()
        }
    );
    if next > 1 {
        say!("TSC: that of each CPU agrees with the boot CPU's");
    }
}

/// All lines of the two 8259s are masked; they sit at vectors that nobody uses.
fn mask_pic() {
    for (port, base) in [(0x20u16, 0xe0u8), (0xa0, 0xe8)] {
        cpu::outb(port, 0x11);
        cpu::outb(port + 1, base);
        cpu::outb(port + 1, if port == 0x20 { 4 } else { 2 });
        cpu::outb(port + 1, 1);
        cpu::outb(port + 1, 0xff);
    }
}

/// Which CPU protections are on, and which are not, in words.
fn mitigations() {
    let smep = cpu::identity()
        .get_extended_feature_info()
        .is_some_and(|e| e.has_smep());
    let on = |have: bool| if have { "on" } else { "absent in this CPU" };
    say!(
        "Protections: NX on, W^X on, SMEP {}, SMAP {}",
        on(smep),
        on(setup::has_smap())
    );
    let isolation = view::isolation();
    say!("XPTI (64-bit PV only): {isolation}");
    say!(
        "Protections not implemented: retpolines, IBRS/IBPB, L1TF, MDS and SRBDS buffer clearing, SSBD"
    );
    let kept = match tlb::globals() {
        Globals::UserMappings => "stay in the TLB when CR3 is loaded",
        Globals::Nothing if isolation.any() => "go with each load of CR3: XPTI",
        Globals::Nothing => "go with each load of CR3: CR4 is intercepted here",
    };
    say!("Guests' user mappings {kept}");
    say!("No IOMMU support: a domain that drives a DMA device can reach all memory");
    say!(
        "FPU state by {}",
        if fpu::xcr0() != 0 { "XSAVE" } else { "FXSAVE" }
    );
}
