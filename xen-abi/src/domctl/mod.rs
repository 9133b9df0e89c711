//! Control of domains, hypercall `domctl` (domctl.h): the header of every request and the operation
//! numbers; the arguments are in the submodules and re-exported here.
//!
//! The interface belongs to one release of Xen at a time: a request with another
//! `interface_version` is answered with `EACCES`. The layouts here are those of version 0x15
//! (Xen 4.17).
#![allow(non_upper_case_globals)] // the ABI's own spelling

mod device;
mod domain;
mod memory;
mod scheduler;
mod vcpu;

pub use device::*;
pub use domain::*;
pub use memory::*;
pub use scheduler::*;
pub use vcpu::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of these layouts (domctl.h).
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// A request (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Domctl {
    /// `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// [`XEN_DOMCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Domain acted on.
    pub domain: u16,
    /// Padding; zero.
    pub _pad: [u16; 3],
    /// Argument, by operation.
    pub u: [u64; 16],
}

/// Make a domain; its id is written to [`Domctl::domain`]; [`DomctlCreateDomain`] (domctl.h).
pub const XEN_DOMCTL_createdomain: u32 = 1;
/// Destroy a domain; no argument (domctl.h).
pub const XEN_DOMCTL_destroydomain: u32 = 2;
/// Pause a domain; no argument (domctl.h).
pub const XEN_DOMCTL_pausedomain: u32 = 3;
/// Undo one pause; no argument (domctl.h).
pub const XEN_DOMCTL_unpausedomain: u32 = 4;
/// Describe a domain; [`DomctlGetDomainInfo`] (domctl.h).
pub const XEN_DOMCTL_getdomaininfo: u32 = 5;
/// Say where a vCPU may run; [`DomctlVcpuAffinity`] (domctl.h).
pub const XEN_DOMCTL_setvcpuaffinity: u32 = 9;
/// Shadow paging and dirty logging; [`DomctlShadowOp`] (domctl.h).
pub const XEN_DOMCTL_shadow_op: u32 = 10;
/// Limit a domain's memory; [`DomctlMaxMem`] (domctl.h).
pub const XEN_DOMCTL_max_mem: u32 = 11;
/// Set a vCPU's state; [`DomctlVcpuContext`] (domctl.h).
pub const XEN_DOMCTL_setvcpucontext: u32 = 12;
/// Get a vCPU's state; [`DomctlVcpuContext`] (domctl.h).
pub const XEN_DOMCTL_getvcpucontext: u32 = 13;
/// Describe a vCPU; [`DomctlGetVcpuInfo`] (domctl.h).
pub const XEN_DOMCTL_getvcpuinfo: u32 = 14;
/// Make the vCPUs; [`DomctlMaxVcpus`] (domctl.h).
pub const XEN_DOMCTL_max_vcpus: u32 = 15;
/// Scheduling parameters of a domain; [`DomctlSchedulerOp`] (domctl.h).
pub const XEN_DOMCTL_scheduler_op: u32 = 16;
/// Set a domain's UUID; [`DomctlSetDomainHandle`] (domctl.h).
pub const XEN_DOMCTL_setdomainhandle: u32 = 17;
/// Let a debugger control the domain; [`DomctlSetDebugging`] (domctl.h).
pub const XEN_DOMCTL_setdebugging: u32 = 18;
/// Permit an interrupt; [`DomctlIrqPermission`] (domctl.h).
pub const XEN_DOMCTL_irq_permission: u32 = 19;
/// Permit device memory; [`DomctlIomemPermission`] (domctl.h).
pub const XEN_DOMCTL_iomem_permission: u32 = 20;
/// Permit I/O ports; [`DomctlIoportPermission`] (domctl.h).
pub const XEN_DOMCTL_ioport_permission: u32 = 21;
/// Fill a hypercall page; [`DomctlHypercallInit`] (domctl.h).
pub const XEN_DOMCTL_hypercall_init: u32 = 22;
/// Shift a domain's wall clock; [`DomctlSetTimeOffset`] (domctl.h).
pub const XEN_DOMCTL_settimeoffset: u32 = 24;
/// Where may a vCPU run? [`DomctlVcpuAffinity`] (domctl.h).
pub const XEN_DOMCTL_getvcpuaffinity: u32 = 25;
/// Obsolete (domctl.h).
pub const XEN_DOMCTL_real_mode_area: u32 = 26;
/// Resume a suspended domain; no argument (domctl.h).
pub const XEN_DOMCTL_resumedomain: u32 = 27;
/// Send an NMI, reset or button press; [`DomctlSendTrigger`] (domctl.h).
pub const XEN_DOMCTL_sendtrigger: u32 = 28;
/// Notify a port when the domain suspends; [`DomctlSubscribe`] (domctl.h).
pub const XEN_DOMCTL_subscribe: u32 = 29;
/// Save a fully virtualised domain's state; [`DomctlHvmContext`] (domctl.h).
pub const XEN_DOMCTL_gethvmcontext: u32 = 33;
/// Load a fully virtualised domain's state; [`DomctlHvmContext`] (domctl.h).
pub const XEN_DOMCTL_sethvmcontext: u32 = 34;
/// Set a PV domain's word size; [`DomctlAddressSize`] (domctl.h).
pub const XEN_DOMCTL_set_address_size: u32 = 35;
/// Get a PV domain's word size; [`DomctlAddressSize`] (domctl.h).
pub const XEN_DOMCTL_get_address_size: u32 = 36;
/// Give a device to a domain; [`DomctlAssignDevice`] (domctl.h).
pub const XEN_DOMCTL_assign_device: u32 = 37;
/// Bind a device's interrupt; [`DomctlBindPtIrq`] (domctl.h).
pub const XEN_DOMCTL_bind_pt_irq: u32 = 38;
/// Map device memory; [`DomctlMemoryMapping`] (domctl.h).
pub const XEN_DOMCTL_memory_mapping: u32 = 39;
/// Map I/O ports; [`DomctlIoportMapping`] (domctl.h).
pub const XEN_DOMCTL_ioport_mapping: u32 = 40;
/// Set further vCPU state; [`DomctlExtVcpuContext`] (domctl.h).
pub const XEN_DOMCTL_set_ext_vcpucontext: u32 = 42;
/// Get further vCPU state; [`DomctlExtVcpuContext`] (domctl.h).
pub const XEN_DOMCTL_get_ext_vcpucontext: u32 = 43;
/// Obsolete (domctl.h).
pub const XEN_DOMCTL_set_opt_feature: u32 = 44;
/// May a device be given to a domain? [`DomctlAssignDevice`] (domctl.h).
pub const XEN_DOMCTL_test_assign_device: u32 = 45;
/// Let a domain act for another; [`DomctlSetTarget`] (domctl.h).
pub const XEN_DOMCTL_set_target: u32 = 46;
/// Take a device back; [`DomctlAssignDevice`] (domctl.h).
pub const XEN_DOMCTL_deassign_device: u32 = 47;
/// Undo the binding of a device's interrupt; [`DomctlBindPtIrq`] (domctl.h).
pub const XEN_DOMCTL_unbind_pt_irq: u32 = 48;
/// List devices that must move together; [`DomctlGetDeviceGroup`] (domctl.h).
pub const XEN_DOMCTL_get_device_group: u32 = 50;
/// Single-step a vCPU; [`DomctlDebugOp`] (domctl.h).
pub const XEN_DOMCTL_debug_op: u32 = 54;
/// Save one record of state; [`DomctlHvmContextPartial`] (domctl.h).
pub const XEN_DOMCTL_gethvmcontext_partial: u32 = 55;
/// Control the rings of VM events (domctl.h).
pub const XEN_DOMCTL_vm_event_op: u32 = 56;
/// Control memory sharing (domctl.h).
pub const XEN_DOMCTL_mem_sharing_op: u32 = 57;
/// Get the TSC mode; [`DomctlTscInfo`] (domctl.h).
pub const XEN_DOMCTL_gettscinfo: u32 = 59;
/// Set the TSC mode; [`DomctlTscInfo`] (domctl.h).
pub const XEN_DOMCTL_settscinfo: u32 = 60;
/// What are these frames used for? [`DomctlGetPageFrameInfo3`] (domctl.h).
pub const XEN_DOMCTL_getpageframeinfo3: u32 = 61;
/// Set a vCPU's extended state; [`DomctlVcpuExtState`] (domctl.h).
pub const XEN_DOMCTL_setvcpuextstate: u32 = 62;
/// Get a vCPU's extended state; [`DomctlVcpuExtState`] (domctl.h).
pub const XEN_DOMCTL_getvcpuextstate: u32 = 63;
/// Require a listener for access events (domctl.h).
pub const XEN_DOMCTL_set_access_required: u32 = 64;
/// Check the physical-to-machine map (domctl.h).
pub const XEN_DOMCTL_audit_p2m: u32 = 65;
/// Let a domain receive a global virtual interrupt; [`DomctlSetVirqHandler`] (domctl.h).
pub const XEN_DOMCTL_set_virq_handler: u32 = 66;
/// Mark a frame broken (domctl.h).
pub const XEN_DOMCTL_set_broken_page_p2m: u32 = 67;
/// Prefer NUMA nodes; [`DomctlNodeAffinity`] (domctl.h).
pub const XEN_DOMCTL_setnodeaffinity: u32 = 68;
/// Which NUMA nodes are preferred? [`DomctlNodeAffinity`] (domctl.h).
pub const XEN_DOMCTL_getnodeaffinity: u32 = 69;
/// Flush caches (Arm) (domctl.h).
pub const XEN_DOMCTL_cacheflush: u32 = 71;
/// Get a vCPU's MSRs; [`DomctlVcpuMsrs`] (domctl.h).
pub const XEN_DOMCTL_get_vcpu_msrs: u32 = 72;
/// Set a vCPU's MSRs; [`DomctlVcpuMsrs`] (domctl.h).
pub const XEN_DOMCTL_set_vcpu_msrs: u32 = 73;
/// Set a virtual NUMA topology; [`DomctlVnuma`] (domctl.h).
pub const XEN_DOMCTL_setvnumainfo: u32 = 74;
/// Cache monitoring (domctl.h).
pub const XEN_DOMCTL_psr_cmt_op: u32 = 75;
/// Monitor VM events (domctl.h).
pub const XEN_DOMCTL_monitor_op: u32 = 77;
/// Cache allocation (domctl.h).
pub const XEN_DOMCTL_psr_alloc: u32 = 78;
/// Reset a domain's Xen state; no argument (domctl.h).
pub const XEN_DOMCTL_soft_reset: u32 = 79;
/// Emulated serial port (Arm) (domctl.h).
pub const XEN_DOMCTL_vuart_op: u32 = 81;
/// Get a domain's CPUID and MSR policy; [`DomctlCpuPolicy`] (domctl.h).
pub const XEN_DOMCTL_get_cpu_policy: u32 = 82;
/// Set a domain's CPUID and MSR policy; [`DomctlCpuPolicy`] (domctl.h).
pub const XEN_DOMCTL_set_cpu_policy: u32 = 83;
/// Trace a vCPU (domctl.h).
pub const XEN_DOMCTL_vmtrace_op: u32 = 84;
/// Get the memory for page tables; [`DomctlPagingMempool`] (domctl.h).
pub const XEN_DOMCTL_get_paging_mempool_size: u32 = 85;
/// Set the memory for page tables; [`DomctlPagingMempool`] (domctl.h).
pub const XEN_DOMCTL_set_paging_mempool_size: u32 = 86;
/// Debugger: access guest memory; [`DomctlGdbsxMemio`] (domctl.h).
pub const XEN_DOMCTL_gdbsx_guestmemio: u32 = 1000;
/// Debugger: pause a vCPU (domctl.h).
pub const XEN_DOMCTL_gdbsx_pausevcpu: u32 = 1001;
/// Debugger: unpause a vCPU (domctl.h).
pub const XEN_DOMCTL_gdbsx_unpausevcpu: u32 = 1002;
/// Debugger: status of a domain (domctl.h).
pub const XEN_DOMCTL_gdbsx_domstatus: u32 = 1003;
