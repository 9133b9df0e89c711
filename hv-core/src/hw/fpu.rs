//! The FPU state of guests. The hypervisor is built soft-float and never touches it: saved and
//! restored whole at a vCPU switch, by FXSAVE or plain XSAVE.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use hv_core::cpuid::xstate::FpuLine;
use x86_64::registers::xcontrol::XCr0;

use super::cpu::{self, cr4};

/// XCR0 in use; 0: FXSAVE only.
static XCR0: AtomicU64 = AtomicU64::new(0);
/// 64-byte lines of an image.
static LINES: AtomicUsize = AtomicUsize::new(8);

/// Whether loading an image leaves the addresses of the last x87 error as they are, where the image has
/// no error pending: AMD without RstrFpErrPtrs (AMD APM vol. 3, CPUID 8000_0008 EBX bit 2).
static KEEPS_ERROR_POINTERS: AtomicBool = AtomicBool::new(false);
/// What is loaded to replace those addresses.
static ZERO: u32 = 0;

/// State components that we let guests have: x87, SSE, AVX.
const WANTED: u64 = 0b111;

/// Finds what the boot CPU has.
pub fn discover() {
    if cpu::identity()
        .get_feature_info()
        .is_some_and(|f| f.has_xsave())
    {
        let have = cpu::cpuid(0xd, 0);
        XCR0.store(
            (u64::from(have[3]) << 32 | u64::from(have[0])) & WANTED,
            Ordering::Relaxed,
        );
    }
    let restores =
        cpu::cpuid(0x8000_0000, 0)[0] >= 0x8000_0008 && cpu::cpuid(0x8000_0008, 0)[1] & 1 << 2 != 0;
    KEEPS_ERROR_POINTERS.store(cpu::is_amd() && !restores, Ordering::Relaxed);
}

/// Sets up this CPU.
pub fn init_cpu() {
    let xcr0 = XCR0.load(Ordering::Relaxed);
    let mut bits = cr4::OSFXSR | cr4::OSXMMEXCPT;
    if xcr0 != 0 {
        bits |= cr4::OSXSAVE;
    }
    // SAFETY: these bits only allow FPU instructions and XSETBV; the value set is what CPUID offers.
    unsafe {
        cpu::set_cr4(cpu::cr4() | bits);
        // MP and NE on, EM and TS off.
        cpu::set_cr0((cpu::cr0() & !(0b1100)) | 0b10_0010);
        if xcr0 != 0 {
            asm!("xsetbv", in("ecx") 0, in("eax") xcr0 as u32, in("edx") (xcr0 >> 32) as u32, options(nostack));
            LINES.store(
                (cpu::cpuid(0xd, 0)[1] as usize).div_ceil(64),
                Ordering::Relaxed,
            );
        }
    }
}

/// XCR0 in use, 0 where XSAVE is off.
pub fn xcr0() -> u64 {
    XCR0.load(Ordering::Relaxed)
}

/// XCR0 as it is loaded now; 0 where XSAVE is off.
pub fn current_xcr0() -> u64 {
    if xcr0() == 0 {
        return 0;
    }
    XCr0::read_raw()
}

/// 64-byte lines of an image.
pub fn lines() -> usize {
    LINES.load(Ordering::Relaxed)
}

/// Stores the FPU state of this CPU.
pub fn save(image: &mut [FpuLine]) {
    assert!(
        image.len() >= lines(),
        "an FPU image has the machine's size"
    );
    let (p, xcr0) = (image.as_mut_ptr(), xcr0());
    cpu::clts();
    // SAFETY: the image is large enough and 64-byte aligned by its type.
    unsafe {
        if xcr0 == 0 {
            asm!("fxsave64 [{}]", in(reg) p, options(nostack));
        } else {
            asm!("xsave64 [{}]", in(reg) p, in("eax") xcr0 as u32, in("edx") (xcr0 >> 32) as u32, options(nostack));
        }
    }
}

/// Loads XCR0, so that the guest finds the components that it chose; nothing where XSAVE is off.
pub fn load_xcr0(value: u64) {
    if xcr0() != 0 {
        // SAFETY: a subset of what the CPU offers, with x87, checked when the guest chose it.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack))
        };
    }
}

/// Puts the FPU into the state that the ABI of functions expects.
pub fn reset() {
    static MXCSR: u32 = 0x1f80;
    cpu::clts();
    // SAFETY: what was in it has been saved.
    unsafe { asm!("fninit", "ldmxcsr [{}]", in(reg) &raw const MXCSR, options(nostack)) };
}

/// Replaces the addresses of the last x87 error, another guest's, by ones of ours.
fn forget_error_pointers() {
    // SAFETY: no exception is pending at the load, whose register is free, so it cannot fault; the state
    // it changes is about to be replaced.
    unsafe {
        asm!("fnclex", "ffree st(7)", "fild dword ptr [{}]", in(reg) &raw const ZERO, options(nostack));
    }
}

/// Loads the FPU state of this CPU. Images come from `save`, the power-on values or a toolstack; those were checked
/// (`cpuid::xstate`).
pub fn restore(image: &[FpuLine]) {
    assert!(
        image.len() >= lines(),
        "an FPU image has the machine's size"
    );
    let (p, xcr0) = (image.as_ptr(), xcr0());
    cpu::clts();
    if KEEPS_ERROR_POINTERS.load(Ordering::Relaxed) {
        forget_error_pointers();
    }
    // SAFETY: the image is large enough and aligned; its header is one that XSAVE could have
    // written, its MXCSR has no reserved bit.
    unsafe {
        if xcr0 == 0 {
            asm!("fxrstor64 [{}]", in(reg) p, options(nostack));
        } else {
            asm!("xrstor64 [{}]", in(reg) p, in("eax") xcr0 as u32, in("edx") (xcr0 >> 32) as u32, options(nostack));
        }
    }
}
