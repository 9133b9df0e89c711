//! Arguments that concern a domain as a whole (domctl.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::arch_x86::{ArchDomainConfig, CpuidLeaf, MsrEntry};

/// UUID of a domain (xen.h, `xen_domain_handle_t`).
pub type DomainHandle = [u8; 16];

/// Creation flag: fully virtualised (PVH or HVM) (domctl.h).
pub const XEN_DOMCTL_CDF_hvm: u32 = 0x1;
/// Creation flag: use nested paging if there is (domctl.h).
pub const XEN_DOMCTL_CDF_hap: u32 = 0x2;
/// Creation flag: check memory after sleep (domctl.h).
pub const XEN_DOMCTL_CDF_s3_integrity: u32 = 0x4;
/// Creation flag: no out-of-sync shadow tables (domctl.h).
pub const XEN_DOMCTL_CDF_oos_off: u32 = 0x8;
/// Creation flag: this is the xenstore domain (domctl.h).
pub const XEN_DOMCTL_CDF_xs_domain: u32 = 0x10;
/// Creation flag: may use the I/O MMU (domctl.h).
pub const XEN_DOMCTL_CDF_iommu: u32 = 0x20;
/// Creation flag: may virtualise itself (domctl.h).
pub const XEN_DOMCTL_CDF_nested_virt: u32 = 0x40;
/// Creation flag: has performance counters (domctl.h).
pub const XEN_DOMCTL_CDF_vpmu: u32 = 0x80;
/// Highest creation flag (domctl.h).
pub const XEN_DOMCTL_CDF_MAX: u32 = 0x80;
/// I/O MMU option: do not share page tables with the CPU (domctl.h).
pub const XEN_DOMCTL_IOMMU_no_sharept: u32 = 0x1;
/// Highest I/O MMU option (domctl.h).
pub const XEN_DOMCTL_IOMMU_MAX: u32 = 0x1;
/// Mask of the grant table version in the grant options (domctl.h).
pub const XEN_DOMCTL_GRANT_version_mask: u32 = 0xf;
/// Domain flag: being destroyed (domctl.h).
pub const XEN_DOMINF_dying: u32 = 0x1;
/// Domain flag: fully virtualised (domctl.h).
pub const XEN_DOMINF_hvm_guest: u32 = 0x2;
/// Domain flag: has shut down (domctl.h).
pub const XEN_DOMINF_shutdown: u32 = 0x4;
/// Domain flag: paused by a tool (domctl.h).
pub const XEN_DOMINF_paused: u32 = 0x8;
/// Domain flag: waits for an event (domctl.h).
pub const XEN_DOMINF_blocked: u32 = 0x10;
/// Domain flag: runs (domctl.h).
pub const XEN_DOMINF_running: u32 = 0x20;
/// Domain flag: under a debugger (domctl.h).
pub const XEN_DOMINF_debugged: u32 = 0x40;
/// Domain flag: the xenstore domain (domctl.h).
pub const XEN_DOMINF_xs_domain: u32 = 0x80;
/// Domain flag: nested paging (domctl.h).
pub const XEN_DOMINF_hap: u32 = 0x100;
/// Mask of the shutdown reason after the shift (domctl.h).
pub const XEN_DOMINF_shutdownmask: u32 = 0xff;
/// Lowest bit of the shutdown reason in the domain flags (domctl.h).
pub const XEN_DOMINF_shutdownshift: u32 = 0x10;
/// [`DomctlGetDomainInfo::max_vcpu_id`] of a domain without vCPUs (domctl.h).
pub const XEN_INVALID_MAX_VCPU_ID: u32 = 0xffff_ffff;

/// Argument of `XEN_DOMCTL_createdomain` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlCreateDomain {
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// `XEN_DOMCTL_IOMMU_*`.
    pub iommu_opts: u32,
    /// Number of vCPUs.
    pub max_vcpus: u32,
    /// Highest event channel port.
    pub max_evtchn_port: u32,
    /// Most grant table frames; negative for the default.
    pub max_grant_frames: i32,
    /// Most frames to track mappings; negative for the default.
    pub max_maptrack_frames: i32,
    /// Version of grant tables.
    pub grant_opts: u32,
    /// Size in bytes of each vCPU's trace buffer; 0 none.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// The architecture's part.
    pub arch: ArchDomainConfig,
}

/// Argument of `XEN_DOMCTL_getdomaininfo`; also one element of a `sysctl` list (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGetDomainInfo {
    /// The domain.
    pub domain: u16,
    /// Padding; zero.
    pub pad1: u16,
    /// `XEN_DOMINF_*` and the shutdown reason.
    pub flags: u32,
    /// Pages it has.
    pub tot_pages: u64,
    /// Pages it may have.
    pub max_pages: u64,
    /// Pages claimed and not yet had.
    pub outstanding_pages: u64,
    /// Pages shared.
    pub shr_pages: u64,
    /// Pages paged out.
    pub paged_pages: u64,
    /// Guest frame of the shared info page.
    pub shared_info_frame: u64,
    /// CPU time used in nanoseconds.
    pub cpu_time: u64,
    /// vCPUs on-line.
    pub nr_online_vcpus: u32,
    /// Highest vCPU id.
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// CPU pool.
    pub cpupool: u32,
    /// Width in bits of guest-physical addresses.
    pub gpaddr_bits: u8,
    /// Padding; zero.
    pub pad2: [u8; 7],
    /// The architecture's part of creation.
    pub arch_config: ArchDomainConfig,
}

/// Argument of `XEN_DOMCTL_max_vcpus` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlMaxVcpus {
    /// Number of vCPUs.
    pub max: u32,
}

/// Argument of `XEN_DOMCTL_setdomainhandle` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSetDomainHandle {
    /// UUID.
    pub handle: [u8; 16],
}

/// Argument of `XEN_DOMCTL_setdebugging` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSetDebugging {
    /// Non-zero: on.
    pub enable: u8,
}

/// Argument of `XEN_DOMCTL_hypercall_init` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlHypercallInit {
    /// Guest frame to fill.
    pub gmfn: u64,
}

/// Argument of `XEN_DOMCTL_settimeoffset` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSetTimeOffset {
    /// Seconds to add to the wall clock.
    pub time_offset_seconds: i64,
}

/// Argument of `XEN_DOMCTL_gethvmcontext` and `XEN_DOMCTL_sethvmcontext` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlHvmContext {
    /// In: size of the buffer; out: bytes written.
    pub size: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Records; null asks for the size.
    pub buffer: GuestHandle<u8>,
}

/// Argument of `XEN_DOMCTL_gethvmcontext_partial` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlHvmContextPartial {
    /// Type of record.
    pub r#type: u32,
    /// Which one.
    pub instance: u32,
    /// Size of the buffer.
    pub bufsz: u64,
    /// The record.
    pub buffer: GuestHandle<u8>,
}

/// Argument of the word-size operations (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlAddressSize {
    /// 32 or 64.
    pub size: u32,
}

/// Argument of `XEN_DOMCTL_set_target` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSetTarget {
    /// Domain to act for.
    pub target: u16,
}

/// Argument of `XEN_DOMCTL_subscribe` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSubscribe {
    /// Port to notify.
    pub port: u32,
}

/// Argument of `XEN_DOMCTL_set_virq_handler` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlSetVirqHandler {
    /// Virtual interrupt.
    pub virq: u32,
}

/// Argument of `XEN_DOMCTL_get_cpu_policy` and `XEN_DOMCTL_set_cpu_policy` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlCpuPolicy {
    /// In: length of `leaves`; out: leaves written.
    pub nr_leaves: u32,
    /// In: length of `msrs`; out: registers written.
    pub nr_msrs: u32,
    /// CPUID leaves.
    pub leaves: GuestHandle<CpuidLeaf>,
    /// Registers.
    pub msrs: GuestHandle<MsrEntry>,
    /// Out, if setting failed: the leaf at fault.
    pub err_leaf: u32,
    /// Out, if setting failed: its sub-leaf.
    pub err_subleaf: u32,
    /// Out, if setting failed: the register at fault.
    pub err_msr: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of `XEN_DOMCTL_gettscinfo` and `XEN_DOMCTL_settscinfo` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlTscInfo {
    /// 0 default, 1 always emulate, 2 never.
    pub tsc_mode: u32,
    /// Frequency of the guest's TSC in kHz; 0 the host's.
    pub gtsc_khz: u32,
    /// Counts migrations.
    pub incarnation: u32,
    /// Padding; zero.
    pub pad: u32,
    /// Nanoseconds since the guest began.
    pub elapsed_nsec: u64,
}
