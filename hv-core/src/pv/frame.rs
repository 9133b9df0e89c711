//! A PV guest's registers at an exit, laid out as the ABI's `cpu_user_regs` (xen/arch-x86/xen-x86_64.h),
//! so that the toolstack's view is a copy.

use xen_abi::arch_x86::CpuUserRegs;

/// General registers and the hardware frame of a guest.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "fields are the registers of their names")]
pub struct GuestFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Error code of the exception, 0 where it has none.
    pub error_code: u32,
    /// Vector of the entry; bit 8 (`RETURN_BY_SYSRET`) marks a frame that may be left by SYSRET.
    pub entry: u32,
    pub rip: u64,
    /// Code segment; bits above 16 are not kept.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub es: u64,
    pub ds: u64,
    pub fs: u64,
    pub gs: u64,
}

impl GuestFrame {
    /// The general registers, rip, rsp and rflags as tools have them; the selectors are the caller's to fill in.
    #[must_use]
    pub fn to_user_regs(&self) -> CpuUserRegs {
        CpuUserRegs {
            r15: self.r15,
            r14: self.r14,
            r13: self.r13,
            r12: self.r12,
            rbp: self.rbp,
            rbx: self.rbx,
            r11: self.r11,
            r10: self.r10,
            r9: self.r9,
            r8: self.r8,
            rax: self.rax,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rip: self.rip,
            rflags: self.rflags,
            rsp: self.rsp,
            ..CpuUserRegs::default()
        }
    }

    /// The other way round: the same registers, unchecked, and nothing else.
    #[must_use]
    pub fn from_user_regs(regs: &CpuUserRegs) -> Self {
        Self {
            r15: regs.r15,
            r14: regs.r14,
            r13: regs.r13,
            r12: regs.r12,
            rbp: regs.rbp,
            rbx: regs.rbx,
            r11: regs.r11,
            r10: regs.r10,
            r9: regs.r9,
            r8: regs.r8,
            rax: regs.rax,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rip: regs.rip,
            rflags: regs.rflags,
            rsp: regs.rsp,
            ..Self::default()
        }
    }

    /// Writes the registers to the log: what a guest that was crashed had in them.
    pub fn log(&self) {
        let r = self;
        log::error!(
            "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            r.rax,
            r.rbx,
            r.rcx,
            r.rdx
        );
        log::error!(
            "  rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
            r.rsi,
            r.rdi,
            r.rbp,
            r.r8
        );
        log::error!(
            "  r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
            r.r9,
            r.r10,
            r.r11,
            r.r12
        );
        log::error!("  r13 {:016x} r14 {:016x} r15 {:016x}", r.r13, r.r14, r.r15);
    }
}

/// Set in `GuestFrame::entry` when rcx and r11 may be clobbered with rip and rflags on the way out.
pub const RETURN_BY_SYSRET: u32 = 0x100;

/// RFLAGS bits used by the PV entry and exit paths (AMD APM vol. 1, 3.1.4).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod rflags {
    pub const CF: u64 = 1 << 0;
    pub const FIXED: u64 = 1 << 1;
    pub const ZF: u64 = 1 << 6;
    pub const TF: u64 = 1 << 8;
    pub const IF: u64 = 1 << 9;
    pub const DF: u64 = 1 << 10;
    pub const IOPL: u64 = 3 << 12;
    pub const NT: u64 = 1 << 14;
    pub const RF: u64 = 1 << 16;
    pub const VM: u64 = 1 << 17;
    pub const AC: u64 = 1 << 18;
    pub const VIF: u64 = 1 << 19;
    pub const VIP: u64 = 1 << 20;
    pub const ID: u64 = 1 << 21;
}
