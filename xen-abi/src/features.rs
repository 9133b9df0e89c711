//! Feature bits (features.h): what `XENVER_get_features` reports and ELF notes ask for.
#![allow(non_upper_case_globals)] // the ABI's own spelling

/// The guest writes its page tables itself (features.h).
pub const XENFEAT_writable_page_tables: u32 = 0;
/// The guest writes its descriptor tables itself (features.h).
pub const XENFEAT_writable_descriptor_tables: u32 = 1;
/// The hypervisor translates guest-physical addresses (features.h).
pub const XENFEAT_auto_translated_physmap: u32 = 2;
/// The guest's kernel runs in ring 0 (features.h).
pub const XENFEAT_supervisor_mode_kernel: u32 = 3;
/// PAE page directories may lie above 4 GiB (features.h).
pub const XENFEAT_pae_pgdir_above_4gb: u32 = 4;
/// `MMU_PT_UPDATE_PRESERVE_AD` exists (features.h).
pub const XENFEAT_mmu_pt_update_preserve_ad: u32 = 5;
/// `MMUEXT_CLEAR_PAGE` and `MMUEXT_COPY_PAGE` exist (features.h).
pub const XENFEAT_highmem_assist: u32 = 6;
/// Grant mapping sets the available bits asked for (features.h).
pub const XENFEAT_gnttab_map_avail_bits: u32 = 7;
/// Events can arrive as an interrupt vector (features.h).
pub const XENFEAT_hvm_callback_vector: u32 = 8;
/// The paravirtual clock is usable by fully virtualised guests (features.h).
pub const XENFEAT_hvm_safe_pvclock: u32 = 9;
/// Fully virtualised guests can bind physical interrupts (features.h).
pub const XENFEAT_hvm_pirqs: u32 = 10;
/// The guest may be the first domain (features.h).
pub const XENFEAT_dom0: u32 = 11;
/// `XENMEMF_vnode` exists (features.h).
pub const XENFEAT_memory_op_vnode_supported: u32 = 13;
/// Arm only: SMC calling convention (features.h).
pub const XENFEAT_ARM_SMCCC_supported: u32 = 14;
/// PVH: the RSDP may lie anywhere (features.h).
pub const XENFEAT_linux_rsdp_unrestricted: u32 = 15;
/// The guest's frame numbers are not machine frame numbers (features.h).
pub const XENFEAT_not_direct_mapped: u32 = 16;
/// The guest's frame numbers are machine frame numbers (features.h).
pub const XENFEAT_direct_mapped: u32 = 17;
/// Number of 32-bit words of features (features.h).
pub const XENFEAT_NR_SUBMAPS: u32 = 1;
