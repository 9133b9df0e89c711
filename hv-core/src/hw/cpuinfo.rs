//! What lies at the top of each CPU's main stack: the guest's registers and a few words the
//! assembly needs. Every stack of a CPU lies in one aligned block, so the place is found from rsp.

use core::mem::{offset_of, size_of};

use hv_core::pv::frame::{GuestFrame, rflags};
use xen_abi::arch_x86::{FLAT_RING3_CS32, FLAT_RING3_SS32};

use super::layout::{CPU_AREAS, STACK_BLOCK};
use super::percpu::PerCpu;

/// Reason of an exit by SYSCALL (`enter_guest` returns a vector below 256 otherwise).
pub const EXIT_SYSCALL: u32 = 0x100;
/// Reason of an exit by SYSENTER.
pub const EXIT_SYSENTER: u32 = 0x400;
/// Reason when the guest's frame could not be loaded by IRET.
pub const EXIT_BAD_FRAME: u32 = 0x200;
/// Room between the stack of the run loop and the frame: a fault on the IRET into the guest is handled here.
pub const FRAME_GAP: u64 = 4096;

/// Top of a CPU's main stack.
#[repr(C, align(16))]
pub struct CpuInfo {
    /// Makes the frame's end 16-byte aligned, as the CPU aligns the stack before it pushes.
    _align: u64,
    /// Registers of the guest that runs or ran last.
    pub regs: GuestFrame,
    /// The run loop's stack pointer while the guest runs.
    pub host_rsp: u64,
    /// The SYSCALL stub keeps the guest's rsp here for a moment.
    pub syscall_rsp: u64,
    /// This CPU's data.
    pub percpu: *mut PerCpu,
    /// The root to load for the guest, this CPU's view (`hw/view.rs`); 0: the guest runs on its own.
    pub guest_cr3: u64,
    /// The guest's own root, to load on the way back from the view.
    pub host_cr3: u64,
    _reserved: [u64; 34],
}

const _: () = assert!(size_of::<CpuInfo>() == INFO_SIZE as usize);
const _: () =
    assert!((offset_of!(CpuInfo, regs) + offset_of!(GuestFrame, ss) + 8).is_multiple_of(16));

/// Bytes of `CpuInfo` at the end of a stack block.
pub const INFO_SIZE: u64 = 528;

// Far enough from each other that the instructions at which CR3 may have to change have room for a jump.
const _: () = assert!(offset_of!(CpuInfo, host_rsp) - offset_of!(CpuInfo, regs) > 127);

/// Where something of the frame's surroundings lies, seen from the block's last byte.
const fn from_block_last(offset: usize) -> i64 {
    1 - INFO_SIZE as i64 + offset as i64
}

/// The `CpuInfo` of the CPU that runs this.
#[inline(always)]
pub fn current() -> *mut CpuInfo {
    let rsp: u64;
    // SAFETY: reads the stack pointer only.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags))
    };
    ((rsp | (STACK_BLOCK - 1)) + 1 - INFO_SIZE) as *mut CpuInfo
}

core::arch::global_asm!(
    include_str!("traps.S"),
    host_rsp_from_regs = const offset_of!(CpuInfo, host_rsp) - offset_of!(CpuInfo, regs),
    host_rsp = const offset_of!(CpuInfo, host_rsp),
    guest_cr3_from_regs = const offset_of!(CpuInfo, guest_cr3) - offset_of!(CpuInfo, regs),
    host_cr3_from_regs = const offset_of!(CpuInfo, host_cr3) - offset_of!(CpuInfo, regs),
    guest_cr3 = const offset_of!(CpuInfo, guest_cr3),
    guest_cr3_from_block_last = const from_block_last(offset_of!(CpuInfo, guest_cr3)),
    host_cr3_from_block_last = const from_block_last(offset_of!(CpuInfo, host_cr3)),
    slot_shift = const 39,
    cpu_areas_slot = const CPU_AREAS >> 39,
    regs = const offset_of!(CpuInfo, regs),
    block_mask = const STACK_BLOCK - 1,
    error_from_block_last =
        const from_block_last(offset_of!(CpuInfo, regs) + offset_of!(GuestFrame, error_code)),
    exit_syscall = const EXIT_SYSCALL,
    exit_sysenter = const EXIT_SYSENTER,
    user_ss = const FLAT_RING3_SS32,
    user_cs32 = const FLAT_RING3_CS32,
    interrupts_on = const rflags::IF,
    fixed_flags = const rflags::FIXED,
    exit_bad_frame = const EXIT_BAD_FRAME,
);

#[expect(
    improper_ctypes,
    reason = "the assembly only uses the offsets given to it"
)]
// SAFETY: `traps.S` defines them, the function with these arguments.
unsafe extern "C" {
    /// Runs the guest whose registers are in `info` until it traps; returns the reason.
    pub fn enter_guest(info: *mut CpuInfo) -> u32;
    /// The IRET into the guest.
    pub static guest_iret: [u8; 0];
    /// Where to go on when it faulted.
    pub static guest_iret_failed: [u8; 0];
    /// 256 entry stubs of 16 bytes.
    pub static trap_stubs: [u8; 0];
    /// Common part of the SYSCALL stubs.
    pub static syscall_common: [u8; 0];
    /// Where SYSENTER leads.
    pub static sysenter_entry: [u8; 0];
}
