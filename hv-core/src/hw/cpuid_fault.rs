//! CPUID faulting: where the CPU has it, the instruction raises #GP in guests and is answered from their own
//! policy, in their programs too. dom0 sees the machine, as its tools expect.

use core::sync::atomic::{AtomicU8, Ordering};

use hv_core::domain::Rights;

use super::cpu;
use super::percpu::PerCpu;
use crate::say;

/// How it is turned on.
static WAY: AtomicU8 = AtomicU8::new(NONE);
const NONE: u8 = 0;
const INTEL: u8 = 1;
const AMD: u8 = 2;

/// MSR_PLATFORM_INFO and its bit; MISC_FEATURES_ENABLES and its bit (Intel, "Virtualization technology FlexMigration
/// application note", 2.3.2).
const PLATFORM_INFO: u32 = 0xce;
const CAN_FAULT: u64 = 1 << 31;
const MISC_FEATURES_ENABLES: u32 = 0x140;
const FAULTS: u64 = 1;
/// CPUID 0x8000_0021 eax, and the bit of HWCR (AMD APM vol. 3, appendix E.4.17: CpuidUserDis).
const USER_DISABLE: u32 = 1 << 17;
const HWCR: u32 = 0xc001_0015;
const CPUID_USER_DISABLE: u64 = 1 << 35;

/// Finds out what the boot CPU has.
pub fn discover() {
    let amd = cpu::is_amd() && cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0021;
    let way = if amd && cpu::cpuid(0x8000_0021, 0)[0] & USER_DISABLE != 0 {
        AMD
    } else if !cpu::is_amd()
        && cpu::rdmsr_safe(PLATFORM_INFO).is_some_and(|info| info & CAN_FAULT != 0)
        && cpu::rdmsr_safe(MISC_FEATURES_ENABLES).is_some()
    {
        INTEL
    } else {
        return;
    };
    WAY.store(way, Ordering::Relaxed);
    say!("CPUID faults in guests: each has its own");
}

/// Makes CPUID fault, or not, for the guest that is loaded.
pub fn follow(this: &PerCpu, rights: Rights) {
    let way = WAY.load(Ordering::Relaxed);
    let wanted = rights == Rights::Guest;
    if way == NONE || this.cpuid_faults.get() == wanted {
        return;
    }
    this.cpuid_faults.set(wanted);
    let (index, bit) = if way == INTEL {
        (MISC_FEATURES_ENABLES, FAULTS)
    } else {
        (HWCR, CPUID_USER_DISABLE)
    };
    let now = cpu::rdmsr(index);
    let value = if wanted { now | bit } else { now & !bit };
    // SAFETY: the bit makes CPUID fault at CPL 3, where none of our code runs.
    unsafe { cpu::wrmsr(index, value) };
}
