//! The stream of records that is the state of a fully virtualised domain beside its memory (hvm/save.h,
//! arch-x86/hvm/save.h): each is a descriptor and a body, and the last one is `END`.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What stands before each record (hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmSaveDescriptor {
    /// `HVM_SAVE_CODE_*`.
    pub typecode: u16,
    /// Which one of that type: for most, the vCPU.
    pub instance: u16,
    /// Bytes of the body.
    pub length: u32,
}

/// First word of the header (arch-x86/hvm/save.h).
pub const HVM_FILE_MAGIC: u32 = 0x5438_1286;
/// Version of the format (arch-x86/hvm/save.h).
pub const HVM_FILE_VERSION: u32 = 1;

/// Type of record: the end; no body (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_END: u16 = 0;
/// Type of record: [`HvmSaveHeader`]; the first (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_HEADER: u16 = 1;
/// Type of record: [`HvmHwCpu`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_CPU: u16 = 2;
/// Type of record: interrupt controllers of a PC (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_PIC: u16 = 3;
/// Type of record: I/O APIC (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_IOAPIC: u16 = 4;
/// Type of record: [`HvmHwLapic`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_LAPIC: u16 = 5;
/// Type of record: [`HvmHwLapicRegs`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_LAPIC_REGS: u16 = 6;
/// Type of record: interrupt pins of PCI (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_PCI_IRQ: u16 = 7;
/// Type of record: interrupt lines of ISA (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_ISA_IRQ: u16 = 8;
/// Type of record: router of PCI interrupts (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_PCI_LINK: u16 = 9;
/// Type of record: interval timer (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_PIT: u16 = 10;
/// Type of record: real-time clock (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_RTC: u16 = 11;
/// Type of record: high-precision timer (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_HPET: u16 = 12;
/// Type of record: timer of ACPI (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_PMTIMER: u16 = 13;
/// Type of record: [`HvmHwMtrr`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_MTRR: u16 = 14;
/// Type of record: Hyper-V state of the domain (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_VIRIDIAN_DOMAIN: u16 = 15;
/// Type of record: Hyper-V state of a vCPU (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_VIRIDIAN_VCPU: u16 = 17;
/// Type of record: [`HvmVmceVcpu`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_VMCE_VCPU: u16 = 18;
/// Type of record: [`HvmTscAdjust`] (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_TSC_ADJUST: u16 = 19;
/// Type of record: [`HvmHwCpuXsave`] and the rest of the XSAVE image (arch-x86/hvm/save.h).
pub const CPU_XSAVE_CODE: u16 = 16;
/// Type of record: [`HvmMsr`] and its registers (arch-x86/hvm/save.h).
pub const CPU_MSR_CODE: u16 = 20;
/// Highest type of record (arch-x86/hvm/save.h).
pub const HVM_SAVE_CODE_MAX: u16 = 20;
/// In [`HvmHwCpu::flags`]: the FPU image counts (arch-x86/hvm/save.h).
pub const XEN_X86_FPU_INITIALISED: u32 = 1;
/// Variable ranges in [`HvmHwMtrr`] (arch-x86/hvm/save.h).
pub const MTRR_VCNT: usize = 8;
/// Registers for fixed ranges in [`HvmHwMtrr`] (arch-x86/hvm/save.h).
pub const NUM_FIXED_MSR: usize = 11;

/// Who wrote the stream (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmSaveHeader {
    /// [`HVM_FILE_MAGIC`].
    pub magic: u32,
    /// [`HVM_FILE_VERSION`].
    pub version: u32,
    /// Which hypervisor.
    pub changeset: u64,
    /// CPUID 1, eax, there.
    pub cpuid: u32,
    /// Rate of the guest's TSC in kHz.
    pub gtsc_khz: u32,
}

/// A vCPU's registers (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvmHwCpu {
    /// What FXSAVE writes.
    pub fpu_regs: [u8; 512],
    /// Register rax.
    pub rax: u64,
    /// Register rbx.
    pub rbx: u64,
    /// Register rcx.
    pub rcx: u64,
    /// Register rdx.
    pub rdx: u64,
    /// Register rbp.
    pub rbp: u64,
    /// Register rsi.
    pub rsi: u64,
    /// Register rdi.
    pub rdi: u64,
    /// Register rsp.
    pub rsp: u64,
    /// Register r8.
    pub r8: u64,
    /// Register r9.
    pub r9: u64,
    /// Register r10.
    pub r10: u64,
    /// Register r11.
    pub r11: u64,
    /// Register r12.
    pub r12: u64,
    /// Register r13.
    pub r13: u64,
    /// Register r14.
    pub r14: u64,
    /// Register r15.
    pub r15: u64,
    /// Register rip.
    pub rip: u64,
    /// Register rflags.
    pub rflags: u64,
    /// Register cr0.
    pub cr0: u64,
    /// Register cr2.
    pub cr2: u64,
    /// Register cr3.
    pub cr3: u64,
    /// Register cr4.
    pub cr4: u64,
    /// Register dr0.
    pub dr0: u64,
    /// Register dr1.
    pub dr1: u64,
    /// Register dr2.
    pub dr2: u64,
    /// Register dr3.
    pub dr3: u64,
    /// Register dr6.
    pub dr6: u64,
    /// Register dr7.
    pub dr7: u64,
    /// Selector of cs.
    pub cs_sel: u32,
    /// Selector of ds.
    pub ds_sel: u32,
    /// Selector of es.
    pub es_sel: u32,
    /// Selector of fs.
    pub fs_sel: u32,
    /// Selector of gs.
    pub gs_sel: u32,
    /// Selector of ss.
    pub ss_sel: u32,
    /// Selector of tr.
    pub tr_sel: u32,
    /// Selector of ldtr.
    pub ldtr_sel: u32,
    /// Limit of cs, in bytes.
    pub cs_limit: u32,
    /// Limit of ds, in bytes.
    pub ds_limit: u32,
    /// Limit of es, in bytes.
    pub es_limit: u32,
    /// Limit of fs, in bytes.
    pub fs_limit: u32,
    /// Limit of gs, in bytes.
    pub gs_limit: u32,
    /// Limit of ss, in bytes.
    pub ss_limit: u32,
    /// Limit of tr, in bytes.
    pub tr_limit: u32,
    /// Limit of ldtr, in bytes.
    pub ldtr_limit: u32,
    /// Limit of idtr, in bytes.
    pub idtr_limit: u32,
    /// Limit of gdtr, in bytes.
    pub gdtr_limit: u32,
    /// Base of cs.
    pub cs_base: u64,
    /// Base of ds.
    pub ds_base: u64,
    /// Base of es.
    pub es_base: u64,
    /// Base of fs.
    pub fs_base: u64,
    /// Base of gs.
    pub gs_base: u64,
    /// Base of ss.
    pub ss_base: u64,
    /// Base of tr.
    pub tr_base: u64,
    /// Base of ldtr.
    pub ldtr_base: u64,
    /// Base of idtr.
    pub idtr_base: u64,
    /// Base of gdtr.
    pub gdtr_base: u64,
    /// Attributes of cs.
    pub cs_arbytes: u32,
    /// Attributes of ds.
    pub ds_arbytes: u32,
    /// Attributes of es.
    pub es_arbytes: u32,
    /// Attributes of fs.
    pub fs_arbytes: u32,
    /// Attributes of gs.
    pub gs_arbytes: u32,
    /// Attributes of ss.
    pub ss_arbytes: u32,
    /// Attributes of tr.
    pub tr_arbytes: u32,
    /// Attributes of ldtr.
    pub ldtr_arbytes: u32,
    /// MSR SYSENTER_CS.
    pub sysenter_cs: u64,
    /// MSR SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// MSR SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// MSR KERNEL_GS_BASE.
    pub shadow_gs: u64,
    /// Obsolete.
    pub msr_flags: u64,
    /// MSR LSTAR.
    pub msr_lstar: u64,
    /// MSR STAR.
    pub msr_star: u64,
    /// MSR CSTAR.
    pub msr_cstar: u64,
    /// MSR SFMASK.
    pub msr_syscall_mask: u64,
    /// MSR EFER.
    pub msr_efer: u64,
    /// MSR TSC_AUX.
    pub msr_tsc_aux: u64,
    /// What RDTSC would have returned.
    pub tsc: u64,
    /// An event whose delivery was interrupted, as in a control block: vector, type, whether there is an error code, and
    /// in bit 31 whether there is one.
    pub pending_event: u32,
    /// Its error code.
    pub error_code: u32,
    /// `XEN_X86_FPU_INITIALISED`.
    pub flags: u32,
    /// Padding.
    pub pad0: u32,
}

/// A local APIC beside its registers (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmHwLapic {
    /// MSR APIC_BASE.
    pub apic_base_msr: u64,
    /// Bit 0: by software; bit 1: by APIC_BASE.
    pub disabled: u32,
    /// What the timer's clock is divided by.
    pub timer_divisor: u32,
    /// MSR TSC_DEADLINE.
    pub tdt_msr: u64,
}

/// A local APIC's registers (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvmHwLapicRegs {
    /// The first bytes of its page.
    pub data: [u8; 1024],
}

/// A vCPU's memory types (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmHwMtrr {
    /// MSR PAT.
    pub msr_pat_cr: u64,
    /// Base and mask of each variable range.
    pub msr_mtrr_var: [u64; MTRR_VCNT * 2],
    /// Fixed ranges.
    pub msr_mtrr_fixed: [u64; NUM_FIXED_MSR],
    /// MSR MTRRcap.
    pub msr_mtrr_cap: u64,
    /// MSR MTRRdefType.
    pub msr_mtrr_def_type: u64,
}

/// What XSAVE writes for a vCPU: up to the header of the image, whose extended components follow (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HvmHwCpuXsave {
    /// Ignored.
    pub xfeature_mask: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Everything that XCR0 has ever had.
    pub xcr0_accum: u64,
    /// Legacy area and header of the image.
    pub save_area: [u8; 576],
}

/// A vCPU's machine-check registers (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmVmceVcpu {
    /// MSR MCG_CAP.
    pub caps: u64,
    /// MSR MC0_CTL2.
    pub mci_ctl2_bank0: u64,
    /// MSR MC1_CTL2.
    pub mci_ctl2_bank1: u64,
    /// MSR MCG_EXT_CTL.
    pub mcg_ext_ctl: u64,
}

/// A vCPU's MSR TSC_ADJUST (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmTscAdjust {
    /// The register.
    pub tsc_adjust: u64,
}

/// How many [`HvmOneMsr`] follow (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmMsr {
    /// Number.
    pub count: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// The registers.
    pub msr: [HvmOneMsr; 0],
}

/// An MSR that has no other place (arch-x86/hvm/save.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmOneMsr {
    /// Which.
    pub index: u32,
    /// Zero.
    pub _rsvd: u32,
    /// Value.
    pub val: u64,
}
