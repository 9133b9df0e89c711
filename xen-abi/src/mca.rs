//! Machine checks, hypercall `mca` (arch-x86/xen-mca.h): header, telemetry fetch, CPU information.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::handle::zero_default;

/// Version of the interface (arch-x86/xen-mca.h).
pub const XEN_MCA_INTERFACE_VERSION: u32 = 0x01ec_c003;
/// [`McFetch::flags`]: corrected errors (arch-x86/xen-mca.h).
pub const XEN_MC_NONURGENT: u32 = 0x1;
/// [`McFetch::flags`]: uncorrected errors (arch-x86/xen-mca.h).
pub const XEN_MC_URGENT: u32 = 0x2;
/// [`McFetch::flags`]: acknowledge (arch-x86/xen-mca.h).
pub const XEN_MC_ACK: u32 = 0x4;
/// Out flag: done (arch-x86/xen-mca.h).
pub const XEN_MC_OK: u32 = 0x0;
/// Out flag: could not fetch (arch-x86/xen-mca.h).
pub const XEN_MC_FETCHFAILED: u32 = 0x1;
/// Out flag: nothing to fetch (arch-x86/xen-mca.h).
pub const XEN_MC_NODATA: u32 = 0x2;
/// Out flag: another error came between (arch-x86/xen-mca.h).
pub const XEN_MC_NOMATCH: u32 = 0x4;
/// Out flag: the domain has no handler (arch-x86/xen-mca.h).
pub const XEN_MC_CANNOTHANDLE: u32 = 0x8;
/// Out flag: could not tell the domain (arch-x86/xen-mca.h).
pub const XEN_MC_NOTDELIVERED: u32 = 0x10;

/// Fetch or acknowledge telemetry; [`McFetch`] (arch-x86/xen-mca.h).
pub const XEN_MC_fetch: u32 = 1;
/// Tell a domain (arch-x86/xen-mca.h).
pub const XEN_MC_notifydomain: u32 = 2;
/// List the physical CPUs; [`McPhyscpuinfo`] (arch-x86/xen-mca.h).
pub const XEN_MC_physcpuinfo: u32 = 3;
/// Inject register values for tests (arch-x86/xen-mca.h).
pub const XEN_MC_msrinject: u32 = 4;
/// Inject a machine check for tests (arch-x86/xen-mca.h).
pub const XEN_MC_mceinject: u32 = 5;
/// Inject on several CPUs for tests (arch-x86/xen-mca.h).
pub const XEN_MC_inject_v2: u32 = 6;

/// Number of feature words of [`McLogicalCpu`] (arch-x86/xen-mca.h).
pub const MC_NCAPS: usize = 7;
/// Size in bytes of the payload of one telemetry block (arch-x86/xen-mca.h).
pub const MCINFO_MAXSIZE: usize = 768;

/// No vCPU (arch-x86/xen-mca.h).
pub const XEN_MC_VCPUID_INVALID: u16 = 65_535;

/// Argument of [`XEN_MC_fetch`] (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McFetch {
    /// In: what; out: how it went.
    pub flags: u32,
    /// Padding; zero.
    pub _pad0: u32,
    /// Name of the telemetry block.
    pub fetch_id: u64,
    /// Guest address of the block.
    pub data: u64,
}

/// A register and its value (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McinfoMsr {
    /// Register number.
    pub reg: u64,
    /// Value.
    pub value: u64,
}

/// One physical CPU (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct McLogicalCpu {
    /// CPU number.
    pub mc_cpunr: u32,
    /// Socket.
    pub mc_chipid: u32,
    /// Core.
    pub mc_coreid: u16,
    /// Thread.
    pub mc_threadid: u16,
    /// APIC id.
    pub mc_apicid: u32,
    /// Cluster.
    pub mc_clusterid: u32,
    /// Cores per socket.
    pub mc_ncores: u32,
    /// Cores in use per socket.
    pub mc_ncores_active: u32,
    /// Threads per core.
    pub mc_nthreads: u32,
    /// Highest CPUID leaf.
    pub mc_cpuid_level: i32,
    /// Family.
    pub mc_family: u32,
    /// Vendor code.
    pub mc_vendor: u32,
    /// Model.
    pub mc_model: u32,
    /// Stepping.
    pub mc_step: u32,
    /// Vendor string.
    pub mc_vendorid: [u8; 16],
    /// Brand string.
    pub mc_brandid: [u8; 64],
    /// Feature words, `MC_CAPS_*`.
    pub mc_cpu_caps: [u32; 7],
    /// Cache size in KiB.
    pub mc_cache_size: u32,
    /// Cache line size.
    pub mc_cache_alignment: u32,
    /// Number of registers that follow.
    pub mc_nmsrvals: i32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Machine-check registers.
    pub mc_msrvalues: [McinfoMsr; 8],
}

zero_default!(McLogicalCpu);

/// Argument of [`XEN_MC_physcpuinfo`] (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McPhyscpuinfo {
    /// In: room for; out: CPUs.
    pub ncpus: u32,
    /// Padding; zero.
    pub _pad0: u32,
    /// Array of [`McLogicalCpu`]; null asks for the number.
    pub info: GuestHandle<McLogicalCpu>,
}

/// Argument of the hypercall (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Mc {
    /// `XEN_MC_*`.
    pub cmd: u32,
    /// [`XEN_MCA_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Argument of the sub-operation.
    pub u: [u64; 18],
}

/// Entry of a block: about the CPU; [`McinfoGlobal`] (arch-x86/xen-mca.h).
pub const MC_TYPE_GLOBAL: u16 = 0;
/// Entry of a block: about a bank; [`McinfoBank`] (arch-x86/xen-mca.h).
pub const MC_TYPE_BANK: u16 = 1;
/// [`McinfoGlobal::mc_flags`]: was corrected (arch-x86/xen-mca.h).
pub const MC_FLAG_CORRECTABLE: u32 = 1 << 0;
/// [`McinfoGlobal::mc_flags`]: was not (arch-x86/xen-mca.h).
pub const MC_FLAG_UNCORRECTABLE: u32 = 1 << 1;
/// [`McinfoGlobal::mc_flags`]: software can recover (arch-x86/xen-mca.h).
pub const MC_FLAG_RECOVERABLE: u32 = 1 << 2;
/// [`McinfoGlobal::mc_flags`]: found by a look (arch-x86/xen-mca.h).
pub const MC_FLAG_POLLED: u32 = 1 << 3;
/// [`McinfoGlobal::mc_flags`]: found when the CPU started (arch-x86/xen-mca.h).
pub const MC_FLAG_RESET: u32 = 1 << 4;
/// [`McinfoGlobal::mc_flags`]: found by an exception (arch-x86/xen-mca.h).
pub const MC_FLAG_MCE: u32 = 1 << 6;
/// Words of data in a block.
pub const MCINFO_WORDS: usize = (MCINFO_MAXSIZE - 1) / 8;

/// What every entry begins with (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McinfoCommon {
    /// `MC_TYPE_*`.
    pub r#type: u16,
    /// Bytes of the entry.
    pub size: u16,
}

/// What is known of the CPU (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McinfoGlobal {
    /// Of type [`MC_TYPE_GLOBAL`].
    pub common: McinfoCommon,
    /// Domain that ran.
    pub mc_domid: u16,
    /// Its vCPU.
    pub mc_vcpuid: u16,
    /// Socket.
    pub mc_socketid: u32,
    /// Core.
    pub mc_coreid: u16,
    /// Thread.
    pub mc_core_threadid: u16,
    /// APIC id.
    pub mc_apicid: u32,
    /// `MC_FLAG_*`.
    pub mc_flags: u32,
    /// Global status register.
    pub mc_gstatus: u64,
}

/// What a bank holds (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct McinfoBank {
    /// Of type [`MC_TYPE_BANK`].
    pub common: McinfoCommon,
    /// Bank.
    pub mc_bank: u16,
    /// Domain that the address belongs to.
    pub mc_domid: u16,
    /// Status register.
    pub mc_status: u64,
    /// Address register.
    pub mc_addr: u64,
    /// Miscellaneous register.
    pub mc_misc: u64,
    /// Second control register.
    pub mc_ctrl2: u64,
    /// Time-stamp counter.
    pub mc_tsc: u64,
}

/// A block of telemetry (arch-x86/xen-mca.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct McInfo {
    /// Number of entries.
    pub mi_nentries: u32,
    /// Whether some did not fit.
    pub flags: u32,
    /// The entries.
    pub mi_data: [u64; MCINFO_WORDS],
}

zero_default!(McInfo);
