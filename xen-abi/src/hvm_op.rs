//! Operations on fully virtualised domains, hypercall `hvm_op` (hvm/hvm_op.h), and the indices of
//! a domain's parameters (hvm/params.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Set a parameter; [`HvmParam`] (hvm/hvm_op.h).
pub const HVMOP_set_param: u32 = 0;
/// Get a parameter; [`HvmParam`] (hvm/hvm_op.h).
pub const HVMOP_get_param: u32 = 1;
/// Flush all TLBs of the domain; no argument (hvm/hvm_op.h).
pub const HVMOP_flush_tlbs: u32 = 5;
/// Hint: a page table will be destroyed (hvm/hvm_op.h).
pub const HVMOP_pagetable_dying: u32 = 9;
/// Read system time (hvm/hvm_op.h).
pub const HVMOP_get_time: u32 = 10;
/// Write a trace record (hvm/hvm_op.h).
pub const HVMOP_xentrace: u32 = 11;
/// Removed; see `XENMEM_access_op` (hvm/hvm_op.h).
pub const HVMOP_set_mem_access: u32 = 12;
/// Removed; see `XENMEM_access_op` (hvm/hvm_op.h).
pub const HVMOP_get_mem_access: u32 = 13;
/// Ask for a frame's type (hvm/hvm_op.h).
pub const HVMOP_get_mem_type: u32 = 15;
/// Set a vCPU's vector for events; [`HvmEvtchnUpcallVector`] (hvm/hvm_op.h).
pub const HVMOP_set_evtchn_upcall_vector: u32 = 23;
/// Send an event to the monitor; no argument (hvm/hvm_op.h).
pub const HVMOP_guest_request_vm_event: u32 = 24;
/// Alternate views of memory (hvm/hvm_op.h).
pub const HVMOP_altp2m: u32 = 25;

/// Argument of [`HVMOP_set_param`] and [`HVMOP_get_param`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmParam {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding; zero.
    pub pad: u16,
    /// `HVM_PARAM_*`.
    pub index: u32,
    /// Value.
    pub value: u64,
}

/// Argument of [`HVMOP_set_evtchn_upcall_vector`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmEvtchnUpcallVector {
    /// vCPU.
    pub vcpu: u32,
    /// Vector.
    pub vector: u8,
    /// Padding.
    pub _pad0: [u8; 3],
}

/// Kind of a frame: RAM (hvm/hvm_op.h).
pub const HVMMEM_ram_rw: u16 = 0;
/// Kind of a frame: RAM that cannot be written (hvm/hvm_op.h).
pub const HVMMEM_ram_ro: u16 = 1;
/// Kind of a frame: no memory (hvm/hvm_op.h).
pub const HVMMEM_mmio_dm: u16 = 2;

/// Argument of [`HVMOP_get_mem_type`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmGetMemType {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Out: `HVMMEM_*`.
    pub mem_type: u16,
    /// Padding.
    pub pad: [u16; 2],
    /// Frame.
    pub pfn: u64,
}

/// Argument of [`HVMOP_get_time`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmGetTime {
    /// Out: system time (ns).
    pub now: u64,
}

/// Argument of [`HVMOP_pagetable_dying`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmPagetableDying {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// Guest-physical address of the root.
    pub gpa: u64,
}

/// Argument of [`HVMOP_altp2m`] (hvm/hvm_op.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct HvmAltp2mOp {
    /// Version of the interface.
    pub version: u32,
    /// What to do.
    pub cmd: u32,
    /// Domain; may be `DOMID_SELF`.
    pub domain: u16,
    /// Padding.
    pub pad1: u16,
    /// Padding.
    pub pad2: u32,
    /// Argument, by `cmd`.
    pub u: [u64; 8],
}

/// How events are signalled (hvm/params.h).
pub const HVM_PARAM_CALLBACK_IRQ: u32 = 0;
/// Frame of the xenstore page (hvm/params.h).
pub const HVM_PARAM_STORE_PFN: u32 = 1;
/// Event channel of xenstore (hvm/params.h).
pub const HVM_PARAM_STORE_EVTCHN: u32 = 2;
/// Deprecated (hvm/params.h).
pub const HVM_PARAM_PAE_ENABLED: u32 = 4;
/// Frame of the I/O request page (hvm/params.h).
pub const HVM_PARAM_IOREQ_PFN: u32 = 5;
/// Frame of the buffered I/O request page (hvm/params.h).
pub const HVM_PARAM_BUFIOREQ_PFN: u32 = 6;
/// Hyper-V features shown (hvm/params.h).
pub const HVM_PARAM_VIRIDIAN: u32 = 9;
/// What happens to missed timer ticks (hvm/params.h).
pub const HVM_PARAM_TIMER_MODE: u32 = 10;
/// Is there an HPET? (hvm/params.h).
pub const HVM_PARAM_HPET_ENABLED: u32 = 11;
/// Frame of the identity page table (hvm/params.h).
pub const HVM_PARAM_IDENT_PT: u32 = 12;
/// Deprecated (hvm/params.h).
pub const HVM_PARAM_DM_DOMAIN: u32 = 13;
/// Sleep state (hvm/params.h).
pub const HVM_PARAM_ACPI_S_STATE: u32 = 14;
/// Address of the task segment for real mode (hvm/params.h).
pub const HVM_PARAM_VM86_TSS: u32 = 15;
/// Align periodic timers (hvm/params.h).
pub const HVM_PARAM_VPT_ALIGN: u32 = 16;
/// Frame of the console page (hvm/params.h).
pub const HVM_PARAM_CONSOLE_PFN: u32 = 17;
/// Event channel of the console (hvm/params.h).
pub const HVM_PARAM_CONSOLE_EVTCHN: u32 = 18;
/// Which ports the ACPI block has (hvm/params.h).
pub const HVM_PARAM_ACPI_IOPORTS_LOCATION: u32 = 19;
/// Deprecated (hvm/params.h).
pub const HVM_PARAM_NESTEDHVM: u32 = 24;
/// Deprecated (hvm/params.h).
pub const HVM_PARAM_BUFIOREQ_EVTCHN: u32 = 26;
/// Frame of the paging ring (hvm/params.h).
pub const HVM_PARAM_PAGING_RING_PFN: u32 = 27;
/// Frame of the monitor ring (hvm/params.h).
pub const HVM_PARAM_MONITOR_RING_PFN: u32 = 28;
/// Frame of the sharing ring (hvm/params.h).
pub const HVM_PARAM_SHARING_RING_PFN: u32 = 29;
/// Shutdown reason of a triple fault (hvm/params.h).
pub const HVM_PARAM_TRIPLE_FAULT_REASON: u32 = 31;
/// First frame for I/O request servers (hvm/params.h).
pub const HVM_PARAM_IOREQ_SERVER_PFN: u32 = 32;
/// Number of such frames (hvm/params.h).
pub const HVM_PARAM_NR_IOREQ_SERVER_PAGES: u32 = 33;
/// Address of the generation id (hvm/params.h).
pub const HVM_PARAM_VM_GENERATION_ID_ADDR: u32 = 34;
/// Who may use alternate views (hvm/params.h).
pub const HVM_PARAM_ALTP2M: u32 = 35;
/// Width of the saved x87 instruction pointer (hvm/params.h).
pub const HVM_PARAM_X87_FIP_WIDTH: u32 = 36;
/// As [`HVM_PARAM_VM86_TSS`], with its size (hvm/params.h).
pub const HVM_PARAM_VM86_TSS_SIZED: u32 = 37;
/// Machine-check capabilities (hvm/params.h).
pub const HVM_PARAM_MCA_CAP: u32 = 38;
/// Number of parameters (hvm/params.h).
pub const HVM_NR_PARAMS: u32 = 39;

/// Mask of the kind of callback in its parameter (hvm/params.h).
pub const HVM_PARAM_CALLBACK_IRQ_TYPE_MASK: u64 = 0xff00_0000_0000_0000;

/// Callback kind: interrupt line (hvm/params.h).
pub const HVM_PARAM_CALLBACK_TYPE_GSI: u64 = 0;
/// Callback kind: PCI pin (hvm/params.h).
pub const HVM_PARAM_CALLBACK_TYPE_PCI_INTX: u64 = 1;
/// Callback kind: vector (hvm/params.h).
pub const HVM_PARAM_CALLBACK_TYPE_VECTOR: u64 = 2;

/// Timer mode: no ticks are missed, the guest's time waits for them (hvm/params.h).
pub const HVMPTM_delay_for_missed_ticks: u32 = 0;
/// Timer mode: missed ticks come in one (hvm/params.h).
pub const HVMPTM_one_missed_tick_pending: u32 = 3;
/// Nobody may use alternate views (hvm/params.h).
pub const XEN_ALTP2M_disabled: u32 = 0;
