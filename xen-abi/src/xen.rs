//! Core of the interface (xen.h): domain ids, virtual interrupts, page-table operations, and the
//! shared info page with its per-vCPU time and event state.
#![allow(non_upper_case_globals)] // the ABI's own spelling

use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;
use crate::arch_x86::{ArchSharedInfo, ArchVcpuInfo};
use crate::handle::zero_default;

/// First id that no ordinary domain can have (xen.h).
pub const DOMID_FIRST_RESERVED: u16 = 0x7ff0;
/// The calling domain (xen.h).
pub const DOMID_SELF: u16 = 0x7ff0;
/// Owner of memory-mapped I/O frames (xen.h).
pub const DOMID_IO: u16 = 0x7ff1;
/// Owner of the hypervisor's own frames that may be mapped (xen.h).
pub const DOMID_XEN: u16 = 0x7ff2;
/// Owner of shared (copy on write) frames (xen.h).
pub const DOMID_COW: u16 = 0x7ff3;
/// No domain; owner unknown (xen.h).
pub const DOMID_INVALID: u16 = 0x7ff4;
/// The idle domain (xen.h).
pub const DOMID_IDLE: u16 = 0x7fff;
/// Bits that make up a domain id (xen.h).
pub const DOMID_MASK: u16 = 0x7fff;

/// Per vCPU: a timer this vCPU armed has expired (xen.h).
pub const VIRQ_TIMER: u32 = 0;
/// Per vCPU: please print debug information (xen.h).
pub const VIRQ_DEBUG: u32 = 1;
/// Global, first domain: bytes arrived on the emergency console (xen.h).
pub const VIRQ_CONSOLE: u32 = 2;
/// Global, first domain: some domain shut down, died or was created (xen.h).
pub const VIRQ_DOM_EXC: u32 = 3;
/// Global, first domain: the trace buffer has records (xen.h).
pub const VIRQ_TBUF: u32 = 4;
/// Global, first domain: a domain was paused for debugging (xen.h).
pub const VIRQ_DEBUGGER: u32 = 6;
/// Per vCPU: profiler sample (xen.h).
pub const VIRQ_XENOPROF: u32 = 7;
/// Global, first domain: bytes arrived in the console ring (xen.h).
pub const VIRQ_CON_RING: u32 = 8;
/// Global, first domain: a physical CPU went on- or off-line (xen.h).
pub const VIRQ_PCPU_STATE: u32 = 9;
/// Global, first domain: a memory event happened (xen.h).
pub const VIRQ_MEM_EVENT: u32 = 10;
/// Global: Argo message (xen.h).
pub const VIRQ_ARGO: u32 = 11;
/// Global, first domain: free memory is low (xen.h).
pub const VIRQ_ENOMEM: u32 = 12;
/// Per vCPU: performance counter interrupt (xen.h).
pub const VIRQ_XENPMU: u32 = 13;
/// First architecture-specific one; on x86 machine checks (xen.h).
pub const VIRQ_ARCH_0: u32 = 16;
/// Architecture-specific 1 (xen.h).
pub const VIRQ_ARCH_1: u32 = 17;
/// Architecture-specific 2 (xen.h).
pub const VIRQ_ARCH_2: u32 = 18;
/// Architecture-specific 3 (xen.h).
pub const VIRQ_ARCH_3: u32 = 19;
/// Architecture-specific 4 (xen.h).
pub const VIRQ_ARCH_4: u32 = 20;
/// Architecture-specific 5 (xen.h).
pub const VIRQ_ARCH_5: u32 = 21;
/// Architecture-specific 6 (xen.h).
pub const VIRQ_ARCH_6: u32 = 22;
/// Architecture-specific 7 (xen.h).
pub const VIRQ_ARCH_7: u32 = 23;
/// Number of virtual interrupts (xen.h).
pub const NR_VIRQS: u32 = 24;

/// Machine check: the x86 meaning of [`VIRQ_ARCH_0`] (arch-x86/xen-mca.h).
pub const VIRQ_MCA: u32 = 16;

/// `ptr[1:0]`: write a page-table entry, checked (xen.h).
pub const MMU_NORMAL_PT_UPDATE: u64 = 0;
/// `ptr[1:0]`: set the machine-to-physical entry of the frame at `ptr` (xen.h).
pub const MMU_MACHPHYS_UPDATE: u64 = 1;
/// `ptr[1:0]`: write an entry, keeping its accessed and dirty bits (xen.h).
pub const MMU_PT_UPDATE_PRESERVE_AD: u64 = 2;
/// `ptr[1:0]`: write an entry whose value is never translated (xen.h).
pub const MMU_PT_UPDATE_NO_TRANSLATE: u64 = 3;

/// Pin `mfn` as a level-1 table (xen.h).
pub const MMUEXT_PIN_L1_TABLE: u32 = 0;
/// Pin `mfn` as a level-2 table (xen.h).
pub const MMUEXT_PIN_L2_TABLE: u32 = 1;
/// Pin `mfn` as a level-3 table (xen.h).
pub const MMUEXT_PIN_L3_TABLE: u32 = 2;
/// Pin `mfn` as a level-4 table (xen.h).
pub const MMUEXT_PIN_L4_TABLE: u32 = 3;
/// Drop the pin of `mfn` (xen.h).
pub const MMUEXT_UNPIN_TABLE: u32 = 4;
/// Load `mfn` as kernel page-table base (xen.h).
pub const MMUEXT_NEW_BASEPTR: u32 = 5;
/// Flush this vCPU's TLB (xen.h).
pub const MMUEXT_TLB_FLUSH_LOCAL: u32 = 6;
/// Flush `linear_addr` from this vCPU's TLB (xen.h).
pub const MMUEXT_INVLPG_LOCAL: u32 = 7;
/// Flush the TLBs of the vCPUs in `vcpumask` (xen.h).
pub const MMUEXT_TLB_FLUSH_MULTI: u32 = 8;
/// Flush `linear_addr` from the TLBs of the vCPUs in `vcpumask` (xen.h).
pub const MMUEXT_INVLPG_MULTI: u32 = 9;
/// Flush the TLBs of all vCPUs (xen.h).
pub const MMUEXT_TLB_FLUSH_ALL: u32 = 10;
/// Flush `linear_addr` from the TLBs of all vCPUs (xen.h).
pub const MMUEXT_INVLPG_ALL: u32 = 11;
/// Write back and drop this CPU's caches (xen.h).
pub const MMUEXT_FLUSH_CACHE: u32 = 12;
/// Use the LDT at `linear_addr` with `nr_ents` entries (xen.h).
pub const MMUEXT_SET_LDT: u32 = 13;
/// Load `mfn` as user-mode page-table base; zero means none (xen.h).
pub const MMUEXT_NEW_USER_BASEPTR: u32 = 15;
/// Zero the frame `mfn` (xen.h).
pub const MMUEXT_CLEAR_PAGE: u32 = 16;
/// Copy the frame `src_mfn` to `mfn` (xen.h).
pub const MMUEXT_COPY_PAGE: u32 = 17;
/// Write back and drop the caches of all CPUs (xen.h).
pub const MMUEXT_FLUSH_CACHE_GLOBAL: u32 = 18;
/// Mark the 2 MiB page at `mfn`; obsolete (xen.h).
pub const MMUEXT_MARK_SUPER: u32 = 19;
/// Undo [`MMUEXT_MARK_SUPER`]; obsolete (xen.h).
pub const MMUEXT_UNMARK_SUPER: u32 = 20;

/// Flush nothing (xen.h).
pub const UVMF_NONE: u64 = 0;
/// Flush whole TLBs (xen.h).
pub const UVMF_TLB_FLUSH: u64 = 1;
/// Flush the one address (xen.h).
pub const UVMF_INVLPG: u64 = 2;
/// Bits that say what to flush (xen.h).
pub const UVMF_FLUSHTYPE_MASK: u64 = 3;
/// Flush the vCPUs of the bitmap whose address is or-ed in (xen.h).
pub const UVMF_MULTI: u64 = 0;
/// Flush this vCPU only: [`UVMF_MULTI`] with a null bitmap (xen.h).
pub const UVMF_LOCAL: u64 = 0;
/// Flush all vCPUs (xen.h).
pub const UVMF_ALL: u64 = 4;

/// Print a buffer on the hypervisor's console (xen.h).
pub const CONSOLEIO_write: u32 = 0;
/// Read typed characters from the hypervisor's console (xen.h).
pub const CONSOLEIO_read: u32 = 1;
/// Switch an assistance on (xen.h).
pub const VMASST_CMD_enable: u32 = 0;
/// Switch an assistance off (xen.h).
pub const VMASST_CMD_disable: u32 = 1;
/// 32-bit guests: pretend 4 GiB segment limits (xen.h).
pub const VMASST_TYPE_4gb_segments: u32 = 0;
/// 32-bit guests: trap when the above is used (xen.h).
pub const VMASST_TYPE_4gb_segments_notify: u32 = 1;
/// Emulate writes to level-1 tables instead of faulting (xen.h).
pub const VMASST_TYPE_writable_pagetables: u32 = 2;
/// PAE guests: page directories above 4 GiB (xen.h).
pub const VMASST_TYPE_pae_extended_cr3: u32 = 3;
/// Virtual I/O privilege level behaves as on hardware (xen.h).
pub const VMASST_TYPE_architectural_iopl: u32 = 4;
/// Set [`crate::vcpu::XEN_RUNSTATE_UPDATE`] while run state is written (xen.h).
pub const VMASST_TYPE_runstate_update_flag: u32 = 5;
/// Hide the machine-to-physical table from user mode (xen.h).
pub const VMASST_TYPE_m2p_strict: u32 = 32;

/// Set the FS base (arch-x86/xen-x86_64.h).
pub const SEGBASE_FS: u32 = 0;
/// Set the user GS base (arch-x86/xen-x86_64.h).
pub const SEGBASE_GS_USER: u32 = 1;
/// Set the kernel GS base (arch-x86/xen-x86_64.h).
pub const SEGBASE_GS_KERNEL: u32 = 2;
/// Load the user GS selector from `base[15:0]` (arch-x86/xen-x86_64.h).
pub const SEGBASE_GS_USER_SEL: u32 = 3;

/// One element of the list given to `mmu_update` (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MmuUpdate {
    /// Machine address of the entry; bits 1:0 are `MMU_*`.
    pub ptr: u64,
    /// New value.
    pub val: u64,
}

/// One element of the list given to `mmuext_op` (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MmuextOp {
    /// Operation, `MMUEXT_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// `mfn` or `linear_addr`.
    pub arg1: u64,
    /// `nr_ents` (low 32 bits), `vcpumask` (guest address) or `src_mfn`.
    pub arg2: u64,
}

/// One call of a `multicall` (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MulticallEntry {
    /// Hypercall number.
    pub op: u64,
    /// Written back: what the call returned.
    pub result: u64,
    /// Arguments.
    pub args: [u64; 6],
}

/// Paravirtual clock of one vCPU, written by the hypervisor under a version counter (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuTimeInfo {
    /// Odd while the rest is being changed.
    pub version: u32,
    /// Padding; zero.
    pub pad0: u32,
    /// TSC when `system_time` was taken.
    pub tsc_timestamp: u64,
    /// Nanoseconds since boot at `tsc_timestamp`.
    pub system_time: u64,
    /// TSC to nanoseconds: 32.32 fixed-point factor, applied after the shift.
    pub tsc_to_system_mul: u32,
    /// Left shift (right if negative) of the TSC difference before the factor.
    pub tsc_shift: i8,
    /// `XEN_PVCLOCK_*`.
    pub flags: u8,
    /// Padding; zero.
    pub pad1: [u8; 2],
}

/// The clock is monotonic across vCPUs (xen.h).
pub const XEN_PVCLOCK_TSC_STABLE_BIT: u8 = 1;
/// The guest was stopped by its host (xen.h).
pub const XEN_PVCLOCK_GUEST_STOPPED: u8 = 2;

/// Event and time state of one vCPU, shared live with the guest; see the `VCPU_INFO_*` offsets
/// (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VcpuInfo {
    /// Non-zero: an event waits for this vCPU.
    pub evtchn_upcall_pending: u8,
    /// Non-zero: the guest holds events off.
    pub evtchn_upcall_mask: u8,
    /// Padding.
    pub _pad0: [u8; 6],
    /// Bit n: word n of the pending array has something.
    pub evtchn_pending_sel: u64,
    /// CR2 of the last page fault.
    pub arch: ArchVcpuInfo,
    /// Paravirtual clock.
    pub time: VcpuTimeInfo,
}

/// The shared info page of a domain, live for both sides; see the `SHARED_INFO_*` offsets (xen.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SharedInfo {
    /// Default home of the first vCPUs' state.
    pub vcpu_info: [VcpuInfo; 32],
    /// Two-level event channels: pending bits.
    pub evtchn_pending: [u64; 64],
    /// Two-level event channels: mask bits.
    pub evtchn_mask: [u64; 64],
    /// Version counter of the wall clock, odd while changing.
    pub wc_version: u32,
    /// Wall clock at system time zero: seconds since 1970, low half.
    pub wc_sec: u32,
    /// Wall clock: nanoseconds.
    pub wc_nsec: u32,
    /// Wall clock: seconds, high half.
    pub wc_sec_hi: u32,
    /// Physical-to-machine map of the guest and NMI reason.
    pub arch: ArchSharedInfo,
}

zero_default!(SharedInfo);

/// Offset of the pending flag in [`VcpuInfo`] (xen.h); one byte.
pub const VCPU_INFO_UPCALL_PENDING: usize = offset_of!(VcpuInfo, evtchn_upcall_pending);
/// Offset of the mask in [`VcpuInfo`] (xen.h); one byte.
pub const VCPU_INFO_UPCALL_MASK: usize = offset_of!(VcpuInfo, evtchn_upcall_mask);
/// Offset of the selector word in [`VcpuInfo`] (xen.h); eight bytes.
pub const VCPU_INFO_PENDING_SEL: usize = offset_of!(VcpuInfo, evtchn_pending_sel);
/// Offset of CR2 in [`VcpuInfo`] (xen.h); eight bytes.
pub const VCPU_INFO_CR2: usize = offset_of!(VcpuInfo, arch);
/// Offset of the clock in [`VcpuInfo`] (xen.h); a [`VcpuTimeInfo`].
pub const VCPU_INFO_TIME: usize = offset_of!(VcpuInfo, time);
/// Size in bytes of [`VcpuInfo`] (xen.h).
pub const VCPU_INFO_SIZE: usize = size_of::<VcpuInfo>();
/// Offset of the vCPU array in [`SharedInfo`] (xen.h); [`VCPU_INFO_SIZE`] bytes each.
pub const SHARED_INFO_VCPU_INFO: usize = offset_of!(SharedInfo, vcpu_info);
/// Offset of the pending bits in [`SharedInfo`] (xen.h); 64 words.
pub const SHARED_INFO_EVTCHN_PENDING: usize = offset_of!(SharedInfo, evtchn_pending);
/// Offset of the mask bits in [`SharedInfo`] (xen.h); 64 words.
pub const SHARED_INFO_EVTCHN_MASK: usize = offset_of!(SharedInfo, evtchn_mask);
/// Offset of the wall clock's version in [`SharedInfo`] (xen.h); four bytes.
pub const SHARED_INFO_WC_VERSION: usize = offset_of!(SharedInfo, wc_version);
/// Offset of the wall clock's low seconds in [`SharedInfo`] (xen.h); four bytes.
pub const SHARED_INFO_WC_SEC: usize = offset_of!(SharedInfo, wc_sec);
/// Offset of the wall clock's nanoseconds in [`SharedInfo`] (xen.h); four bytes.
pub const SHARED_INFO_WC_NSEC: usize = offset_of!(SharedInfo, wc_nsec);
/// Offset of the wall clock's high seconds in [`SharedInfo`] (xen.h); four bytes.
pub const SHARED_INFO_WC_SEC_HI: usize = offset_of!(SharedInfo, wc_sec_hi);
/// Offset of the architecture's part in [`SharedInfo`] (xen.h); an [`ArchSharedInfo`].
pub const SHARED_INFO_ARCH: usize = offset_of!(SharedInfo, arch);
/// Offset of `version` in [`VcpuTimeInfo`] (xen.h); four bytes.
pub const VCPU_TIME_INFO_VERSION: usize = offset_of!(VcpuTimeInfo, version);

/// A bitmap in guest memory, as control operations pass it (xen.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct XenctlBitmap {
    /// The bits, lowest first, in whole bytes.
    pub bitmap: GuestHandle<u8>,
    /// Number of bits.
    pub nr_bits: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}
