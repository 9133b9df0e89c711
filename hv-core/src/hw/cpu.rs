//! Single instructions that the rest of the machine layer needs: control registers, MSRs, ports.

use core::arch::asm;

pub use x86_64::instructions::hlt;

/// MSR numbers (AMD APM vol. 2, appendix A; Intel SDM vol. 4).
#[allow(missing_docs, reason = "named as in the manuals")]
pub mod msr {
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const PAT: u32 = 0x277;
    pub const TSC_DEADLINE: u32 = 0x6e0;
    pub const X2APIC: u32 = 0x800;
    pub const STAR: u32 = 0xc000_0081;
    pub const LSTAR: u32 = 0xc000_0082;
    pub const CSTAR: u32 = 0xc000_0083;
    pub const SFMASK: u32 = 0xc000_0084;
    pub const FS_BASE: u32 = 0xc000_0100;
    pub const GS_BASE: u32 = 0xc000_0101;
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
}

/// CR4 bits (AMD APM vol. 2, 3.1.3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr4 {
    pub const DE: u64 = 1 << 3;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const OSFXSR: u64 = 1 << 9;
    pub const OSXMMEXCPT: u64 = 1 << 10;
    pub const FSGSBASE: u64 = 1 << 16;
    pub const OSXSAVE: u64 = 1 << 18;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
}

/// Reads an MSR that is known to exist.
#[inline(always)]
pub fn rdmsr(index: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR has no effect on memory; a missing one faults and is our bug.
    unsafe { asm!("rdmsr", in("ecx") index, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Writes an MSR.
///
/// # Safety
/// The value must not break the assumptions of the running code (entry points, paging mode).
#[inline(always)]
pub unsafe fn wrmsr(index: u32, value: u64) {
    // SAFETY: the caller vouches for the value.
    unsafe { asm!("wrmsr", in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags)) };
}

/// Reads an MSR that may be missing; `None` when the CPU refuses.
pub fn rdmsr_safe(index: u32) -> Option<u64> {
    let (low, high, failed): (u32, u32, u32);
    // SAFETY: a fault goes on at label 3 through the fix-up table.
    unsafe {
        asm!(
            "2: rdmsr", "xor {f:e}, {f:e}", "jmp 4f",
            "3: mov {f:e}, 1", "xor eax, eax", "xor edx, edx",
            "4:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            f = out(reg) failed, in("ecx") index, out("eax") low, out("edx") high, options(nostack)
        )
    };
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR that may be missing; `false` when the CPU refuses.
///
/// # Safety
/// As `wrmsr`.
pub unsafe fn wrmsr_safe(index: u32, value: u64) -> bool {
    let failed: u32;
    // SAFETY: a fault goes on at label 3 through the fix-up table; the caller vouches for the value.
    unsafe {
        asm!(
            "2: wrmsr", "xor {f:e}, {f:e}", "jmp 4f",
            "3: mov {f:e}, 1",
            "4:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            f = out(reg) failed, in("ecx") index, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack)
        )
    };
    failed == 0
}

macro_rules! control_register {
    ($read:ident, $write:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        #[inline(always)]
        pub fn $read() -> u64 {
            let value;
            // SAFETY: reading a control register changes nothing.
            unsafe { asm!(concat!("mov {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)) };
            value
        }
        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The new value must keep the running code, its stack and its data valid.
        #[inline(always)]
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller vouches for the value.
            unsafe { asm!(concat!("mov ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags)) };
        }
    };
}
control_register!(cr0, set_cr0, "cr0");
control_register!(cr3, set_cr3, "cr3");
control_register!(cr4, set_cr4, "cr4");
control_register!(dr0, set_dr0, "dr0");
control_register!(dr1, set_dr1, "dr1");
control_register!(dr2, set_dr2, "dr2");
control_register!(dr3, set_dr3, "dr3");
control_register!(dr6, set_dr6, "dr6");
control_register!(dr7, set_dr7, "dr7");

/// Reads CR2: the address of the last page fault.
#[inline(always)]
pub fn cr2() -> u64 {
    let value;
    // SAFETY: reading a control register changes nothing.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes CR0.TS off.
#[inline(always)]
pub fn clts() {
    // SAFETY: the hypervisor does not use the FPU; TS only decides what the guest meets.
    unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) };
}

/// Time-stamp counter, not ordered against other instructions.
#[inline(always)]
pub fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading the counter has no effect.
    unsafe { asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags)) };
    u64::from(high) << 32 | u64::from(low)
}

/// Drops one page from this CPU's TLB, global or not.
#[inline(always)]
pub fn invlpg(va: u64) {
    // SAFETY: a TLB flush has no effect on what memory holds.
    unsafe { asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags)) };
}

/// Interrupts off.
#[inline(always)]
pub fn cli() {
    // SAFETY: delays interrupts only.
    unsafe { asm!("cli", options(nomem, nostack)) };
}

/// Interrupts on.
#[inline(always)]
pub fn sti() {
    // SAFETY: our handlers only set per-CPU bits or flush the TLB.
    unsafe { asm!("sti", options(nomem, nostack)) };
}

/// Sleeps until an interrupt; interrupts are off before and after.
#[inline(always)]
pub fn halt_until_interrupt() {
    // SAFETY: STI takes effect after HLT, so that no interrupt slips in between.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

/// Whether interrupts are on.
#[inline(always)]
pub fn interrupts_on() -> bool {
    let flags: u64;
    // SAFETY: reads the flags by way of the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags, options(preserves_flags)) };
    flags & 0x200 != 0
}

macro_rules! ports {
    ($in:ident, $out:ident, $ty:ty, $reg:tt) => {
        #[doc = concat!("Reads a port, `", stringify!($ty), "`.")]
        #[inline(always)]
        pub fn $in(port: u16) -> $ty {
            let value: $ty;
            // SAFETY: port reads do not touch memory of ours.
            unsafe { asm!(concat!("in ", $reg, ", dx"), in("dx") port, out($reg) value, options(nostack, preserves_flags)) };
            value
        }
        #[doc = concat!("Writes a port, `", stringify!($ty), "`.")]
        #[inline(always)]
        pub fn $out(port: u16, value: $ty) {
            // SAFETY: devices that could reach our memory are dom0's; without an IOMMU that
            // is said at boot.
            unsafe { asm!(concat!("out dx, ", $reg), in("dx") port, in($reg) value, options(nostack, preserves_flags)) };
        }
    };
}
ports!(inb, outb, u8, "al");
ports!(inw, outw, u16, "ax");
ports!(inl, outl, u32, "eax");

/// CPUID leaf and sub-leaf: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Stops this CPU for good.
pub fn stop() -> ! {
    loop {
        cli();
        hlt();
    }
}
