//! The x86-64 part of the interface (arch-x86/xen.h, arch-x86/xen-x86_64.h): register files,
//! selectors, address-space layout, the architecture's share of the shared info page.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handle::zero_default;

/// Start of the address range a PV guest leaves to the hypervisor (arch-x86/xen.h).
pub const HYPERVISOR_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// End (exclusive) of that range (arch-x86/xen.h).
pub const HYPERVISOR_VIRT_END: u64 = 0xffff_8800_0000_0000;
/// Start of the machine-to-physical table, read-only for the guest (arch-x86/xen.h).
pub const MACH2PHYS_VIRT_START: u64 = 0xffff_8000_0000_0000;
/// End (exclusive) of the largest possible table (arch-x86/xen.h).
pub const MACH2PHYS_VIRT_END: u64 = 0xffff_8040_0000_0000;
/// Largest possible number of entries of that table (arch-x86/xen.h).
pub const MACH2PHYS_NR_ENTRIES: u64 = 0x0008_0000_0000;

/// Flat 32-bit code selector in the reserved part of the GDT (arch-x86/xen.h).
pub const FLAT_RING3_CS32: u16 = 0xe023;
/// Flat 64-bit code selector in the reserved part of the GDT (arch-x86/xen.h).
pub const FLAT_RING3_CS64: u16 = 0xe033;
/// Flat data selector in the reserved part of the GDT (arch-x86/xen.h).
pub const FLAT_RING3_DS32: u16 = 0xe02b;
/// Data selector of 64-bit code: null (arch-x86/xen.h).
pub const FLAT_RING3_DS64: u16 = 0x0;
/// Flat stack selector of 32-bit code (arch-x86/xen.h).
pub const FLAT_RING3_SS32: u16 = 0xe02b;
/// Flat stack selector of 64-bit code (arch-x86/xen.h).
pub const FLAT_RING3_SS64: u16 = 0xe02b;
/// Code selector a 64-bit kernel starts with (arch-x86/xen.h).
pub const FLAT_KERNEL_CS: u16 = 0xe033;
/// Kernel code selector, 32-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_CS32: u16 = 0xe023;
/// Kernel code selector, 64-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_CS64: u16 = 0xe033;
/// Data selector a 64-bit kernel starts with (arch-x86/xen.h).
pub const FLAT_KERNEL_DS: u16 = 0x0;
/// Kernel data selector, 32-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_DS32: u16 = 0xe02b;
/// Kernel data selector, 64-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_DS64: u16 = 0x0;
/// Stack selector a 64-bit kernel starts with (arch-x86/xen.h).
pub const FLAT_KERNEL_SS: u16 = 0xe02b;
/// Kernel stack selector, 32-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_SS32: u16 = 0xe02b;
/// Kernel stack selector, 64-bit (arch-x86/xen.h).
pub const FLAT_KERNEL_SS64: u16 = 0xe02b;
/// User code selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_CS: u16 = 0xe033;
/// User code selector, 32-bit (arch-x86/xen.h).
pub const FLAT_USER_CS32: u16 = 0xe023;
/// User code selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_CS64: u16 = 0xe033;
/// User data selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_DS: u16 = 0x0;
/// User data selector, 32-bit (arch-x86/xen.h).
pub const FLAT_USER_DS32: u16 = 0xe02b;
/// User data selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_DS64: u16 = 0x0;
/// User stack selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_SS: u16 = 0xe02b;
/// User stack selector, 32-bit (arch-x86/xen.h).
pub const FLAT_USER_SS32: u16 = 0xe02b;
/// User stack selector, 64-bit (arch-x86/xen.h).
pub const FLAT_USER_SS64: u16 = 0xe02b;

/// First page of the GDT that belongs to the hypervisor (arch-x86/xen.h).
pub const FIRST_RESERVED_GDT_PAGE: u32 = 14;
/// First byte of the GDT that belongs to the hypervisor (arch-x86/xen.h).
pub const FIRST_RESERVED_GDT_BYTE: u32 = 57_344;
/// First entry of the GDT that belongs to the hypervisor (arch-x86/xen.h).
pub const FIRST_RESERVED_GDT_ENTRY: u32 = 7168;
/// Number of vCPUs whose state has a default home in the shared info page (arch-x86/xen.h).
pub const XEN_LEGACY_MAX_VCPUS: u32 = 32;

/// I/O port of the debug console of fully virtualised guests (arch-x86/xen.h).
pub const XEN_HVM_DEBUGCONS_IOPORT: u16 = 0xe9;

/// One entry of the virtual exception table; the list ends with a zero `address` (arch-x86/xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TrapInfo {
    /// Exception vector.
    pub vector: u8,
    /// Bits 1:0 lowest privilege that may call it; bit 2 mask events on entry.
    pub flags: u8,
    /// Code selector.
    pub cs: u16,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Entry point.
    pub address: u64,
}

/// Mask of the privilege level in [`TrapInfo::flags`] (arch-x86/xen.h, `TI_GET_DPL`).
pub const TI_DPL_MASK: u8 = 3;
/// Bit in [`TrapInfo::flags`]: events are masked on entry (arch-x86/xen.h, `TI_GET_IF`).
pub const TI_IF: u8 = 4;
/// Bytes in front of an instruction that ask a PV guest's hypervisor to emulate it
/// (arch-x86/xen.h, `XEN_EMULATE_PREFIX`): `ud2` and "xen". Used for `cpuid`.
pub const XEN_EMULATE_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

/// Register file of a vCPU as control operations pass it (arch-x86/xen-x86_64.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CpuUserRegs {
    /// R15.
    pub r15: u64,
    /// R14.
    pub r14: u64,
    /// R13.
    pub r13: u64,
    /// R12.
    pub r12: u64,
    /// RBP.
    pub rbp: u64,
    /// RBX.
    pub rbx: u64,
    /// R11.
    pub r11: u64,
    /// R10.
    pub r10: u64,
    /// R9.
    pub r9: u64,
    /// R8.
    pub r8: u64,
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// RDX.
    pub rdx: u64,
    /// RSI.
    pub rsi: u64,
    /// RDI.
    pub rdi: u64,
    /// Private to the hypervisor.
    pub error_code: u32,
    /// Private to the hypervisor.
    pub entry_vector: u32,
    /// RIP.
    pub rip: u64,
    /// CS selector.
    pub cs: u16,
    /// Padding; zero.
    pub _pad0: [u16; 1],
    /// Event mask when the frame was saved.
    pub saved_upcall_mask: u8,
    /// Padding; zero.
    pub _pad1: [u8; 3],
    /// RFLAGS.
    pub rflags: u64,
    /// RSP.
    pub rsp: u64,
    /// SS selector.
    pub ss: u16,
    /// Padding; zero.
    pub _pad2: [u16; 3],
    /// ES selector.
    pub es: u16,
    /// Padding; zero.
    pub _pad3: [u16; 3],
    /// DS selector.
    pub ds: u16,
    /// Padding; zero.
    pub _pad4: [u16; 3],
    /// FS selector.
    pub fs: u16,
    /// Padding; zero.
    pub _pad5: [u16; 3],
    /// GS selector.
    pub gs: u16,
    /// Padding; zero.
    pub _pad6: [u16; 3],
}

/// What `iret` finds on the kernel stack, lowest address first (arch-x86/xen-x86_64.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct IretContext {
    /// RAX to load.
    pub rax: u64,
    /// R11 to load unless returning by `sysret`.
    pub r11: u64,
    /// RCX to load unless returning by `sysret`.
    pub rcx: u64,
    /// [`VGCF_in_syscall`] or zero.
    pub flags: u64,
    /// RIP to load.
    pub rip: u64,
    /// CS to load.
    pub cs: u64,
    /// RFLAGS to load.
    pub rflags: u64,
    /// RSP to load.
    pub rsp: u64,
    /// SS to load.
    pub ss: u64,
}

/// [`IretContext::flags`]: return by `sysret` (arch-x86/xen-x86_64.h).
pub const VGCF_in_syscall: u64 = 0x100;

/// [`VcpuGuestContext::flags`]: the FPU state is valid (arch-x86/xen.h).
pub const VGCF_i387_valid: u64 = 0x1;
/// [`VcpuGuestContext::flags`]: the vCPU is in kernel mode (arch-x86/xen.h).
pub const VGCF_in_kernel: u64 = 0x4;
/// [`VcpuGuestContext::flags`]: the failsafe callback masks events (arch-x86/xen.h).
pub const VGCF_failsafe_disables_events: u64 = 0x8;
/// [`VcpuGuestContext::flags`]: the syscall callback masks events (arch-x86/xen.h).
pub const VGCF_syscall_disables_events: u64 = 0x10;
/// [`VcpuGuestContext::flags`]: the vCPU is on-line (arch-x86/xen.h).
pub const VGCF_online: u64 = 0x20;

/// Whole state of a PV vCPU, to start or to save it (arch-x86/xen.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct VcpuGuestContext {
    /// `FXSAVE` image.
    pub fpu_ctxt: [u8; 512],
    /// `VGCF_*`.
    pub flags: u64,
    /// Registers.
    pub user_regs: CpuUserRegs,
    /// Virtual exception table.
    pub trap_ctxt: [TrapInfo; 256],
    /// Linear address of the LDT.
    pub ldt_base: u64,
    /// Number of LDT entries.
    pub ldt_ents: u64,
    /// Machine frames of the GDT.
    pub gdt_frames: [u64; 16],
    /// Number of GDT entries.
    pub gdt_ents: u64,
    /// Kernel stack selector.
    pub kernel_ss: u64,
    /// Kernel stack pointer.
    pub kernel_sp: u64,
    /// CR0 to CR7; CR3 is the kernel's table, index 1 the user's.
    pub ctrlreg: [u64; 8],
    /// DR0 to DR7.
    pub debugreg: [u64; 8],
    /// Entry point for events.
    pub event_callback_eip: u64,
    /// Entry point when guest state cannot be loaded.
    pub failsafe_callback_eip: u64,
    /// Entry point of 64-bit `syscall`.
    pub syscall_callback_eip: u64,
    /// Bitmap of `VMASST_TYPE_*`.
    pub vm_assist: u64,
    /// FS base.
    pub fs_base: u64,
    /// GS base of the kernel.
    pub gs_base_kernel: u64,
    /// GS base of user mode.
    pub gs_base_user: u64,
}

zero_default!(VcpuGuestContext);

/// The architecture's part of [`crate::xen::VcpuInfo`] (arch-x86/xen-x86_64.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ArchVcpuInfo {
    /// Address of the last page fault.
    pub cr2: u64,
    /// Padding; zero.
    pub pad: u64,
}

/// The architecture's part of [`crate::xen::SharedInfo`], mostly written by the guest
/// (arch-x86/xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ArchSharedInfo {
    /// Number of entries of the guest's physical-to-machine map.
    pub max_pfn: u64,
    /// Machine frame of the root of the map's three-level tree; 0 not yet, all ones unused.
    pub pfn_to_mfn_frame_list_list: u64,
    /// `XEN_NMIREASON_*`.
    pub nmi_reason: u64,
    /// Page-table base in which `p2m_vaddr` is valid; 0 if unused.
    pub p2m_cr3: u64,
    /// Virtual address of the linear map.
    pub p2m_vaddr: u64,
    /// Odd while the map's mapping changes.
    pub p2m_generation: u64,
}

/// The architecture's part of domain creation (arch-x86/xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ArchDomainConfig {
    /// `XEN_X86_EMU_*`.
    pub emulation_flags: u32,
    /// `XEN_X86_MSR_*`.
    pub misc_flags: u32,
}

/// Emulate a local APIC (arch-x86/xen.h).
pub const XEN_X86_EMU_LAPIC: u32 = 0x1;
/// Emulate an HPET (arch-x86/xen.h).
pub const XEN_X86_EMU_HPET: u32 = 0x2;
/// Emulate the ACPI power-management block (arch-x86/xen.h).
pub const XEN_X86_EMU_PM: u32 = 0x4;
/// Emulate a real-time clock (arch-x86/xen.h).
pub const XEN_X86_EMU_RTC: u32 = 0x8;
/// Emulate an I/O APIC (arch-x86/xen.h).
pub const XEN_X86_EMU_IOAPIC: u32 = 0x10;
/// Emulate the two 8259 controllers (arch-x86/xen.h).
pub const XEN_X86_EMU_PIC: u32 = 0x20;
/// Emulate the VGA aperture (arch-x86/xen.h).
pub const XEN_X86_EMU_VGA: u32 = 0x40;
/// Emulate an I/O MMU (arch-x86/xen.h).
pub const XEN_X86_EMU_IOMMU: u32 = 0x80;
/// Emulate the 8254 timer (arch-x86/xen.h).
pub const XEN_X86_EMU_PIT: u32 = 0x100;
/// Route physical interrupts over event channels (arch-x86/xen.h).
pub const XEN_X86_EMU_USE_PIRQ: u32 = 0x200;
/// Emulate PCI configuration space in the hypervisor (arch-x86/xen.h).
pub const XEN_X86_EMU_VPCI: u32 = 0x400;
/// All emulation flags (arch-x86/xen.h).
pub const XEN_X86_EMU_ALL: u32 = 0x7ff;
/// Unknown MSRs read as zero and swallow writes (arch-x86/xen.h).
pub const XEN_X86_MSR_RELAXED: u32 = 0x1;
/// Highest flag of [`ArchDomainConfig::misc_flags`] (arch-x86/xen.h).
pub const XEN_X86_MISC_FLAGS_MAX: u32 = 0x1;
/// [`CpuidLeaf::subleaf`] of a leaf that has none (arch-x86/xen.h).
pub const XEN_CPUID_NO_SUBLEAF: u32 = 0xffff_ffff;

/// One CPUID leaf in serialised form (arch-x86/xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct CpuidLeaf {
    /// Leaf, EAX on input.
    pub leaf: u32,
    /// Sub-leaf, ECX on input.
    pub subleaf: u32,
    /// EAX.
    pub a: u32,
    /// EBX.
    pub b: u32,
    /// ECX.
    pub c: u32,
    /// EDX.
    pub d: u32,
}

/// One model-specific register in serialised form (arch-x86/xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MsrEntry {
    /// Register number.
    pub idx: u32,
    /// Reserved; zero.
    pub flags: u32,
    /// Value.
    pub val: u64,
}
