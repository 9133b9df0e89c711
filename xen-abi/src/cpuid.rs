//! CPUID leaves by which a guest finds the hypervisor (arch-x86/cpuid.h).

/// First leaf; higher by multiples of 0x100 if another hypervisor's leaves are shown too
/// (arch-x86/cpuid.h).
pub const XEN_CPUID_FIRST_LEAF: u32 = 0x4000_0000;
/// Signature "XenV" in EBX of the first leaf (arch-x86/cpuid.h).
pub const XEN_CPUID_SIGNATURE_EBX: u32 = 0x566e_6558;
/// Signature "MMXe" in ECX of the first leaf (arch-x86/cpuid.h).
pub const XEN_CPUID_SIGNATURE_ECX: u32 = 0x6558_4d4d;
/// Signature "nVMM" in EDX of the first leaf (arch-x86/cpuid.h).
pub const XEN_CPUID_SIGNATURE_EDX: u32 = 0x4d4d_566e;
/// Leaf 2, ECX: `MMU_PT_UPDATE_PRESERVE_AD` works (arch-x86/cpuid.h).
pub const XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD: u32 = 0x1;
/// Leaf 4, EAX: APIC registers are virtualised by hardware (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_APIC_ACCESS_VIRT: u32 = 0x1;
/// Leaf 4, EAX: x2APIC accesses are virtualised by hardware (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_X2APIC_VIRT: u32 = 0x2;
/// Leaf 4, EAX: memory mapped from other domains is in the I/O MMU (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_IOMMU_MAPPINGS: u32 = 0x4;
/// Leaf 4, EAX: EBX holds the vCPU id (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_VCPU_ID_PRESENT: u32 = 0x8;
/// Leaf 4, EAX: ECX holds the domain id (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_DOMID_PRESENT: u32 = 0x10;
/// Leaf 4, EAX: interrupt destination ids have 15 bits (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_EXT_DEST_ID: u32 = 0x20;
/// Leaf 4, EAX: per-vCPU upcalls work with physical interrupts (arch-x86/cpuid.h).
pub const XEN_HVM_CPUID_UPCALL_VECTOR: u32 = 0x40;
/// Leaf 5, EBX: mask of the machine address width in bits (arch-x86/cpuid.h).
pub const XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK: u32 = 0xff;
/// Number of the last leaf, relative to the first (arch-x86/cpuid.h).
pub const XEN_CPUID_MAX_NUM_LEAVES: u32 = 0x5;
