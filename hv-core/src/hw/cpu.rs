//! Single instructions that the rest of the machine layer needs: control registers, MSRs, ports.
//!
//! The `x86_64` crate supplies those that it offers on raw values. Ours are those that it lacks (MSRs
//! that may be missing, writes of DR6, CLTS, RDTSC), CR3, which it only takes as a frame type
//! of its own, and sleeping, where its version lets the compiler move memory accesses across the HLT.

use core::arch::asm;

pub use x86_64::instructions::hlt;
/// Interrupts off and on. Our handlers only set per-CPU bits or flush the TLB, so both are safe anywhere.
pub use x86_64::instructions::interrupts::{
    are_enabled as interrupts_on, disable as cli, enable as sti,
};

use x86_64::VirtAddr;
use x86_64::instructions::port::{PortRead, PortWrite};
use x86_64::instructions::tlb;
use x86_64::registers::control::{Cr0, Cr2, Cr4};
use x86_64::registers::debug::{DebugAddressRegister, Dr0, Dr1, Dr2, Dr3, Dr6, Dr7};
use x86_64::registers::model_specific::Msr;

/// MSR numbers (AMD APM vol. 2, appendix A; Intel SDM vol. 4).
#[allow(missing_docs, reason = "named as in the manuals")]
pub mod msr {
    pub const APIC_BASE: u32 = 0x1b;
    pub const TSC_AUX: u32 = 0xc000_0103;
    pub const SYSENTER_CS: u32 = 0x174;
    pub const SYSENTER_ESP: u32 = 0x175;
    pub const SYSENTER_EIP: u32 = 0x176;
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
    use x86_64::registers::control::Cr4Flags;

    pub const DE: u64 = Cr4Flags::DEBUGGING_EXTENSIONS.bits();
    pub const MCE: u64 = Cr4Flags::MACHINE_CHECK_EXCEPTION.bits();
    pub const PGE: u64 = Cr4Flags::PAGE_GLOBAL.bits();
    pub const OSFXSR: u64 = Cr4Flags::OSFXSR.bits();
    pub const OSXMMEXCPT: u64 = Cr4Flags::OSXMMEXCPT_ENABLE.bits();
    pub const FSGSBASE: u64 = Cr4Flags::FSGSBASE.bits();
    pub const OSXSAVE: u64 = Cr4Flags::OSXSAVE.bits();
    pub const SMEP: u64 = Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION.bits();
    pub const SMAP: u64 = Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION.bits();
}

/// Whether AMD made this CPU, or Hygon by AMD's design.
pub fn is_amd() -> bool {
    identity()
        .get_vendor_info()
        .is_some_and(|v| matches!(v.as_str(), "AuthenticAMD" | "HygonGenuine"))
}

/// Reads an MSR that is known to exist.
#[inline(always)]
pub fn rdmsr(index: u32) -> u64 {
    // SAFETY: reading an MSR has no effect on memory; a missing one faults and is our bug.
    unsafe { Msr::new(index).read() }
}

/// Writes an MSR.
///
/// # Safety
/// The value must not break the assumptions of the running code (entry points, paging mode).
#[inline(always)]
pub unsafe fn wrmsr(index: u32, value: u64) {
    // SAFETY: the caller vouches for the value.
    unsafe { Msr::new(index).write(value) };
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
    ($read:ident, $write:ident, $register:ident, $name:literal) => {
        #[doc = concat!("Reads ", $name, ".")]
        #[inline(always)]
        pub fn $read() -> u64 {
            $register::read_raw()
        }
        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The new value must keep the running code, its stack and its data valid.
        #[inline(always)]
        pub unsafe fn $write(value: u64) {
            // SAFETY: the caller vouches for the value.
            unsafe { $register::write_raw(value) };
        }
    };
}
control_register!(cr0, set_cr0, Cr0, "CR0");
control_register!(cr4, set_cr4, Cr4, "CR4");

/// Reads CR3.
#[inline(always)]
pub fn cr3() -> u64 {
    let value;
    // SAFETY: reading a control register changes nothing.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Writes CR3.
///
/// # Safety
/// The new root must map the running code, its stack and its data as the old one does.
#[inline(always)]
pub unsafe fn set_cr3(value: u64) {
    // SAFETY: the caller vouches for the root.
    unsafe { asm!("mov cr3, {}", in(reg) value, options(nostack, preserves_flags)) };
}

/// Reads the address of the last page fault.
#[inline(always)]
pub fn cr2() -> u64 {
    Cr2::read_raw()
}

/// Writes the address of the last page fault, which means nothing to us between two of ours.
#[inline(always)]
pub fn set_cr2(value: u64) {
    // SAFETY: the register holds a value and has no effect.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
}

macro_rules! breakpoint_address {
    ($write:ident, $name:literal, $set:path) => {
        #[doc = concat!("Writes ", $name, ".")]
        ///
        /// # Safety
        /// The address must not be one of ours.
        #[inline(always)]
        pub unsafe fn $write(value: u64) {
            $set(value);
        }
    };
}
breakpoint_address!(set_dr0, "DR0", Dr0::write);
breakpoint_address!(set_dr1, "DR1", Dr1::write);
breakpoint_address!(set_dr2, "DR2", Dr2::write);
breakpoint_address!(set_dr3, "DR3", Dr3::write);

/// Reads DR7.
#[inline(always)]
pub fn dr7() -> u64 {
    Dr7::read_raw()
}

/// Writes DR7.
///
/// # Safety
/// The value must have been checked: no I/O breakpoint, no general detect.
#[inline(always)]
pub unsafe fn set_dr7(value: u64) {
    Dr7::write_raw(value);
}

/// Reads DR6.
#[inline(always)]
pub fn dr6() -> u64 {
    Dr6::read_raw()
}

/// Writes DR6.
///
/// # Safety
/// The value must have all reserved bits as the manual wants them.
#[inline(always)]
pub unsafe fn set_dr6(value: u64) {
    // SAFETY: status bits without another effect; the caller vouches for the reserved ones.
    unsafe { asm!("mov dr6, {}", in(reg) value, options(nomem, nostack, preserves_flags)) };
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
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags))
    };
    u64::from(high) << 32 | u64::from(low)
}

/// The time-stamp counter, read after all that stands before (AMD APM vol. 3, RDTSC and LFENCE).
pub fn rdtsc_ordered() -> u64 {
    // SAFETY: waits for earlier instructions.
    unsafe { asm!("lfence", options(nostack, preserves_flags)) };
    rdtsc()
}

/// Drops one page from this CPU's TLB, global or not. An address that is not canonical has no entry: that
/// another page's is dropped for it does no harm.
#[inline(always)]
pub fn invlpg(va: u64) {
    tlb::flush(VirtAddr::new_truncate(va));
}

/// Sleeps until an interrupt; interrupts are off before and after.
#[inline(always)]
pub fn halt_until_interrupt() {
    // SAFETY: STI takes effect after HLT, so that no interrupt slips in between.
    unsafe { asm!("sti", "hlt", "cli", options(nostack)) };
}

macro_rules! ports {
    ($in:ident, $out:ident, $ty:ty) => {
        #[doc = concat!("Reads a port, `", stringify!($ty), "`.")]
        #[inline(always)]
        pub fn $in(port: u16) -> $ty {
            // SAFETY: port reads do not touch memory of ours.
            unsafe { <$ty>::read_from_port(port) }
        }
        #[doc = concat!("Writes a port, `", stringify!($ty), "`.")]
        #[inline(always)]
        pub fn $out(port: u16, value: $ty) {
            // SAFETY: devices that could reach our memory are dom0's; without an IOMMU that
            // is said at boot.
            unsafe { <$ty>::write_to_port(port, value) };
        }
    };
}
ports!(inb, outb, u8);
ports!(inw, outw, u16);
ports!(inl, outl, u32);

/// What this CPU says of itself, with names for the bits.
pub fn identity() -> raw_cpuid::CpuId<raw_cpuid::CpuIdReaderNative> {
    raw_cpuid::CpuId::new()
}

/// CPUID leaf and sub-leaf as they are: eax, ebx, ecx, edx.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Ends the blocking of NMIs that an NMI began: by an IRET to the next instruction.
pub fn unblock_nmis() {
    // SAFETY: the frame is this place with the registers as they are.
    unsafe {
        asm!(
            "mov {t}, rsp", "mov {s:e}, ss", "push {s}", "push {t}", "pushfq",
            "mov {s:e}, cs", "push {s}", "lea {s}, [rip + 2f]", "push {s}", "iretq", "2:",
            t = out(reg) _, s = out(reg) _
        )
    };
}

/// Stops this CPU for good.
pub fn stop() -> ! {
    loop {
        cli();
        hlt();
    }
}
