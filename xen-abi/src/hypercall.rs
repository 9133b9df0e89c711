//! Hypercall numbers (xen.h): the value in `rax`; arguments stand in `rdi`, `rsi`, `rdx`, `r10`,
//! `r8`. The hypercall page has one entry of 32 bytes per number.
#![allow(non_upper_case_globals)] // the ABI's own spelling

/// Register the virtual exception table; see [`crate::arch_x86::TrapInfo`] (xen.h).
pub const __HYPERVISOR_set_trap_table: u32 = 0;
/// Update page-table entries by machine address; see [`crate::xen::MmuUpdate`] (xen.h).
pub const __HYPERVISOR_mmu_update: u32 = 1;
/// Install the frames of the guest's GDT (xen.h).
pub const __HYPERVISOR_set_gdt: u32 = 2;
/// Set the kernel stack used when user mode is left (xen.h).
pub const __HYPERVISOR_stack_switch: u32 = 3;
/// Register event, failsafe and syscall entry points (old form) (xen.h).
pub const __HYPERVISOR_set_callbacks: u32 = 4;
/// Set or clear CR0.TS (xen.h).
pub const __HYPERVISOR_fpu_taskswitch: u32 = 5;
/// Scheduling, form before 3.1 (xen.h).
pub const __HYPERVISOR_sched_op_compat: u32 = 6;
/// Machine-wide operations of the first domain; see [`crate::platform`] (xen.h).
pub const __HYPERVISOR_platform_op: u32 = 7;
/// Write a debug register (xen.h).
pub const __HYPERVISOR_set_debugreg: u32 = 8;
/// Read a debug register (xen.h).
pub const __HYPERVISOR_get_debugreg: u32 = 9;
/// Write one GDT or LDT entry by machine address (xen.h).
pub const __HYPERVISOR_update_descriptor: u32 = 10;
/// Memory reservation and information; see [`crate::memory`] (xen.h).
pub const __HYPERVISOR_memory_op: u32 = 12;
/// Several hypercalls in one; see [`crate::xen::MulticallEntry`] (xen.h).
pub const __HYPERVISOR_multicall: u32 = 13;
/// Write the page-table entry that maps a virtual address (xen.h).
pub const __HYPERVISOR_update_va_mapping: u32 = 14;
/// Arm or stop this vCPU's one-shot timer (xen.h).
pub const __HYPERVISOR_set_timer_op: u32 = 15;
/// Event channels, form before 3.2.2 (xen.h).
pub const __HYPERVISOR_event_channel_op_compat: u32 = 16;
/// Version and feature queries; see [`crate::version`] (xen.h).
pub const __HYPERVISOR_xen_version: u32 = 17;
/// Write to or read from the hypervisor's console (xen.h).
pub const __HYPERVISOR_console_io: u32 = 18;
/// Physical devices, form before 3.2.2 (xen.h).
pub const __HYPERVISOR_physdev_op_compat: u32 = 19;
/// Grant tables; see [`crate::grant_table`] (xen.h).
pub const __HYPERVISOR_grant_table_op: u32 = 20;
/// Switch a behaviour on or off; see `VMASST_*` (xen.h).
pub const __HYPERVISOR_vm_assist: u32 = 21;
/// As `update_va_mapping`, mapping another domain's frame (xen.h).
pub const __HYPERVISOR_update_va_mapping_otherdomain: u32 = 22;
/// Return from an exception frame built on the kernel stack (xen.h).
pub const __HYPERVISOR_iret: u32 = 23;
/// Operations on a vCPU of the caller; see [`crate::vcpu`] (xen.h).
pub const __HYPERVISOR_vcpu_op: u32 = 24;
/// Set the FS or GS base; see `SEGBASE_*` (xen.h).
pub const __HYPERVISOR_set_segment_base: u32 = 25;
/// Pin tables, load page-table bases, flush; see [`crate::xen::MmuextOp`] (xen.h).
pub const __HYPERVISOR_mmuext_op: u32 = 26;
/// Security module; see [`crate::xsm`] (xen.h).
pub const __HYPERVISOR_xsm_op: u32 = 27;
/// Non-maskable interrupt callback; see [`crate::nmi`] (xen.h).
pub const __HYPERVISOR_nmi_op: u32 = 28;
/// Scheduling; see [`crate::sched`] (xen.h).
pub const __HYPERVISOR_sched_op: u32 = 29;
/// Register entry points one by one; see [`crate::callback`] (xen.h).
pub const __HYPERVISOR_callback_op: u32 = 30;
/// Old profiler (xen.h).
pub const __HYPERVISOR_xenoprof_op: u32 = 31;
/// Event channels; see [`crate::event_channel`] (xen.h).
pub const __HYPERVISOR_event_channel_op: u32 = 32;
/// Physical interrupts and PCI devices; see [`crate::physdev`] (xen.h).
pub const __HYPERVISOR_physdev_op: u32 = 33;
/// Operations on fully virtualised domains; see [`crate::hvm_op`] (xen.h).
pub const __HYPERVISOR_hvm_op: u32 = 34;
/// Control of the machine; see [`crate::sysctl`] (xen.h).
pub const __HYPERVISOR_sysctl: u32 = 35;
/// Control of domains; see [`crate::domctl`] (xen.h).
pub const __HYPERVISOR_domctl: u32 = 36;
/// Load and start another kernel; see [`crate::kexec`] (xen.h).
pub const __HYPERVISOR_kexec_op: u32 = 37;
/// Transcendent memory; removed from Xen (xen.h).
pub const __HYPERVISOR_tmem_op: u32 = 38;
/// Argo message transport (xen.h).
pub const __HYPERVISOR_argo_op: u32 = 39;
/// Virtual performance counters; see [`crate::xenpmu`] (xen.h).
pub const __HYPERVISOR_xenpmu_op: u32 = 40;
/// Device-model operations (xen.h).
pub const __HYPERVISOR_dm_op: u32 = 41;
/// The hypervisor's parameter tree; see [`crate::hypfs`] (xen.h).
pub const __HYPERVISOR_hypfs_op: u32 = 42;
/// First architecture-specific number; on x86 machine checks, see [`crate::mca`] (xen.h).
pub const __HYPERVISOR_arch_0: u32 = 48;
/// Architecture-specific number 1 (x86: paging assistance, unused) (xen.h).
pub const __HYPERVISOR_arch_1: u32 = 49;
/// Architecture-specific number 2 (xen.h).
pub const __HYPERVISOR_arch_2: u32 = 50;
/// Architecture-specific number 3 (xen.h).
pub const __HYPERVISOR_arch_3: u32 = 51;
/// Architecture-specific number 4 (xen.h).
pub const __HYPERVISOR_arch_4: u32 = 52;
/// Architecture-specific number 5 (xen.h).
pub const __HYPERVISOR_arch_5: u32 = 53;
/// Architecture-specific number 6 (xen.h).
pub const __HYPERVISOR_arch_6: u32 = 54;
/// Architecture-specific number 7 (xen.h).
pub const __HYPERVISOR_arch_7: u32 = 55;

/// Machine checks: the x86 meaning of [`__HYPERVISOR_arch_0`] (arch-x86/xen-mca.h).
pub const __HYPERVISOR_mca: u32 = 48;
