//! Where things are in a VMCB (AMD APM vol. 2, appendix B): byte offsets in its page, and the bits of its fields.

/// Offsets in the control area.
#[allow(missing_docs, reason = "named as in the manual")]
pub mod control {
    /// Reads of CR0 to CR15 in the low half, writes in the high one.
    pub const INTERCEPT_CR: usize = 0x000;
    /// The same of debug registers.
    pub const INTERCEPT_DR: usize = 0x004;
    pub const INTERCEPT_EXCEPTIONS: usize = 0x008;
    /// Bits in [`super::third`].
    pub const INTERCEPT_THIRD: usize = 0x00c;
    /// Bits in [`super::fourth`].
    pub const INTERCEPT_FOURTH: usize = 0x010;
    /// Bits in [`super::fifth`].
    pub const INTERCEPT_FIFTH: usize = 0x014;
    /// Threshold in the low 16 bits, count in the high ones.
    pub const PAUSE_FILTER: usize = 0x03c;
    pub const IOPM_BASE: usize = 0x040;
    pub const MSRPM_BASE: usize = 0x048;
    pub const TSC_OFFSET: usize = 0x050;
    pub const ASID: usize = 0x058;
    /// Values in [`super::tlb`].
    pub const TLB_CONTROL: usize = 0x05c;
    /// Bits in [`super::interrupt`].
    pub const VIRTUAL_INTERRUPT: usize = 0x060;
    /// Bit 0.
    pub const INTERRUPT_SHADOW: usize = 0x068;
    pub const EXIT_CODE: usize = 0x070;
    pub const EXIT_INFO_1: usize = 0x078;
    pub const EXIT_INFO_2: usize = 0x080;
    /// Bits in [`super::event`].
    pub const EXIT_INTERRUPT_INFO: usize = 0x088;
    /// Bit 0: nested paging.
    pub const NESTED_PAGING: usize = 0x090;
    /// Bits in [`super::event`].
    pub const EVENT_INJECTION: usize = 0x0a8;
    pub const NESTED_CR3: usize = 0x0b0;
    /// Bits in [`super::clean`].
    pub const CLEAN: usize = 0x0c0;
    pub const NEXT_RIP: usize = 0x0c8;
    /// How many bytes of the instruction follow in the 15 bytes after.
    pub const FETCHED: usize = 0x0d0;
}

/// Offsets of the saved state.
#[allow(missing_docs, reason = "named as in the manual")]
pub mod save {
    pub const ES: usize = 0x400;
    pub const CS: usize = 0x410;
    pub const SS: usize = 0x420;
    pub const DS: usize = 0x430;
    pub const FS: usize = 0x440;
    pub const GS: usize = 0x450;
    pub const GDTR: usize = 0x460;
    pub const LDTR: usize = 0x470;
    pub const IDTR: usize = 0x480;
    pub const TR: usize = 0x490;
    /// The word whose byte 3 is CPL.
    pub const CPL_WORD: usize = 0x4c8;
    pub const EFER: usize = 0x4d0;
    pub const CR4: usize = 0x548;
    pub const CR3: usize = 0x550;
    pub const CR0: usize = 0x558;
    pub const DR7: usize = 0x560;
    pub const DR6: usize = 0x568;
    pub const RFLAGS: usize = 0x570;
    pub const RIP: usize = 0x578;
    pub const RSP: usize = 0x5d8;
    pub const RAX: usize = 0x5f8;
    pub const STAR: usize = 0x600;
    pub const LSTAR: usize = 0x608;
    pub const CSTAR: usize = 0x610;
    pub const SFMASK: usize = 0x618;
    pub const KERNEL_GS_BASE: usize = 0x620;
    pub const SYSENTER_CS: usize = 0x628;
    pub const SYSENTER_ESP: usize = 0x630;
    pub const SYSENTER_EIP: usize = 0x638;
    pub const CR2: usize = 0x640;
    pub const PAT: usize = 0x668;
}

/// Where CPL lies in its word.
pub const CPL_SHIFT: u32 = 24;

/// Intercepts in the third word.
#[allow(missing_docs, reason = "named by what is intercepted")]
pub mod third {
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const SMI: u32 = 1 << 2;
    pub const INIT: u32 = 1 << 3;
    pub const VINTR: u32 = 1 << 4;
    pub const RDTSC: u32 = 1 << 14;
    pub const RDPMC: u32 = 1 << 15;
    pub const CPUID: u32 = 1 << 18;
    pub const IRET: u32 = 1 << 20;
    pub const INVD: u32 = 1 << 22;
    pub const PAUSE: u32 = 1 << 23;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IOIO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Intercepts in the fourth word.
#[allow(missing_docs, reason = "named by what is intercepted")]
pub mod fourth {
    pub const VMRUN: u32 = 1 << 0;
    pub const VMMCALL: u32 = 1 << 1;
    pub const VMLOAD: u32 = 1 << 2;
    pub const VMSAVE: u32 = 1 << 3;
    pub const STGI: u32 = 1 << 4;
    pub const CLGI: u32 = 1 << 5;
    pub const SKINIT: u32 = 1 << 6;
    pub const RDTSCP: u32 = 1 << 7;
    pub const WBINVD: u32 = 1 << 9;
    pub const MONITOR: u32 = 1 << 10;
    pub const MWAIT: u32 = 1 << 11;
    pub const XSETBV: u32 = 1 << 13;
    pub const RDPRU: u32 = 1 << 14;
}

/// Intercepts in the fifth word.
#[allow(missing_docs, reason = "named by what is intercepted")]
pub mod fifth {
    pub const INVLPGB: u32 = 1 << 0;
    pub const INVLPGB_ILLEGAL: u32 = 1 << 1;
    pub const MCOMMIT: u32 = 1 << 3;
    pub const TLBSYNC: u32 = 1 << 4;
}

/// Values of the TLB control (AMD APM vol. 2, table 15-9).
pub mod tlb {
    /// Nothing is flushed.
    pub const KEEP: u32 = 0;
    /// All translations of all tags are.
    pub const FLUSH_ALL: u32 = 1;
}

/// Bits of the virtual interrupt's word.
#[allow(missing_docs, reason = "named as in the manual")]
pub mod interrupt {
    /// Bits 0-7; CR8 is in the low four.
    pub const V_TPR: u64 = 0xff;
    pub const V_IRQ: u64 = 1 << 8;
    pub const V_INTR_PRIO: u64 = 0xf << 16;
    pub const V_IGN_TPR: u64 = 1 << 20;
    /// RFLAGS.IF of the host masks the machine's interrupts, CR8 is the virtual one.
    pub const V_INTR_MASKING: u64 = 1 << 24;
}

/// Bits of an event that is injected, or whose delivery was interrupted (AMD APM vol. 2, 15.20).
#[allow(missing_docs, reason = "named by what they say")]
pub mod event {
    pub const VECTOR: u64 = 0xff;
    pub const KIND_SHIFT: u32 = 8;
    pub const INTERRUPT: u64 = 0;
    pub const NMI: u64 = 2;
    pub const EXCEPTION: u64 = 3;
    pub const SOFTWARE: u64 = 4;
    pub const HAS_ERROR: u64 = 1 << 11;
    pub const VALID: u64 = 1 << 31;
    pub const ERROR_SHIFT: u32 = 32;
}

/// What the CPU may keep of the VMCB from the run before (AMD APM vol. 2, 15.15.3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod clean {
    /// Intercepts, TSC offset, PAUSE filter.
    pub const INTERCEPTS: u32 = 1 << 0;
    pub const IOPM: u32 = 1 << 1;
    pub const ASID: u32 = 1 << 2;
    /// The virtual interrupt's word.
    pub const TPR: u32 = 1 << 3;
    /// Nested CR3 and PAT.
    pub const NP: u32 = 1 << 4;
    /// CR0, CR3, CR4, EFER.
    pub const CRX: u32 = 1 << 5;
    /// DR6, DR7.
    pub const DRX: u32 = 1 << 6;
    /// GDTR and IDTR.
    pub const DT: u32 = 1 << 7;
    /// CS, DS, SS, ES and CPL.
    pub const SEG: u32 = 1 << 8;
    pub const CR2: u32 = 1 << 9;
    pub const LBR: u32 = 1 << 10;
    /// All of these.
    pub const ALL: u32 = (1 << 11) - 1;
}

/// EFER.SVME, LME and LMA (AMD APM vol. 2, 3.1.7).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod efer {
    pub const LME: u64 = 1 << 8;
    pub const LMA: u64 = 1 << 10;
    pub const NXE: u64 = 1 << 11;
    pub const SVME: u64 = 1 << 12;
}

/// CR0 (AMD APM vol. 2, 3.1.1).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr0 {
    pub const PE: u64 = 1 << 0;
    pub const ET: u64 = 1 << 4;
    pub const WP: u64 = 1 << 16;
    pub const NW: u64 = 1 << 29;
    pub const CD: u64 = 1 << 30;
    pub const PG: u64 = 1 << 31;
}

/// CR4 (AMD APM vol. 2, 3.1.3).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod cr4 {
    pub const PSE: u64 = 1 << 4;
    pub const PAE: u64 = 1 << 5;
    pub const MCE: u64 = 1 << 6;
    pub const PGE: u64 = 1 << 7;
    pub const LA57: u64 = 1 << 12;
    pub const PCIDE: u64 = 1 << 17;
    pub const SMEP: u64 = 1 << 20;
    pub const SMAP: u64 = 1 << 21;
    pub const PKE: u64 = 1 << 22;
    pub const CET: u64 = 1 << 23;
}
