//! Memory reservation and information, hypercall `memory_op` (memory.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Give a domain more memory; [`MemoryReservation`] (memory.h).
pub const XENMEM_increase_reservation: u32 = 0;
/// Take memory from a domain; [`MemoryReservation`] (memory.h).
pub const XENMEM_decrease_reservation: u32 = 1;
/// Returns the highest machine frame of memory; no argument (memory.h).
pub const XENMEM_maximum_ram_page: u32 = 2;
/// Returns the pages a domain has; [`MemoryDomain`] (memory.h).
pub const XENMEM_current_reservation: u32 = 3;
/// Returns the pages a domain may have; [`MemoryDomain`] (memory.h).
pub const XENMEM_maximum_reservation: u32 = 4;
/// List the frames of the machine-to-physical table; [`MachphysMfnList`] (memory.h).
pub const XENMEM_machphys_mfn_list: u32 = 5;
/// Put memory at guest frames; [`MemoryReservation`] (memory.h).
pub const XENMEM_populate_physmap: u32 = 6;
/// Map something at a guest frame; [`AddToPhysmap`] (memory.h).
pub const XENMEM_add_to_physmap: u32 = 7;
/// Read the domain's own memory map; [`MemoryMap`] (memory.h).
pub const XENMEM_memory_map: u32 = 9;
/// Read the machine's memory map; [`MemoryMap`] (memory.h).
pub const XENMEM_machine_memory_map: u32 = 10;
/// Exchange extents for others; [`MemoryExchange`] (memory.h).
pub const XENMEM_exchange: u32 = 11;
/// Where the machine-to-physical table is mapped; [`MachphysMapping`] (memory.h).
pub const XENMEM_machphys_mapping: u32 = 12;
/// Set a domain's memory map; [`ForeignMemoryMap`] (memory.h).
pub const XENMEM_set_memory_map: u32 = 13;
/// Returns the highest guest frame of a domain; [`MemoryDomain`] (memory.h).
pub const XENMEM_maximum_gpfn: u32 = 14;
/// Unmap a guest frame; [`RemoveFromPhysmap`] (memory.h).
pub const XENMEM_remove_from_physmap: u32 = 15;
/// Set the target of populate-on-demand; [`PodTarget`] (memory.h).
pub const XENMEM_set_pod_target: u32 = 16;
/// Read the state of populate-on-demand; [`PodTarget`] (memory.h).
pub const XENMEM_get_pod_target: u32 = 17;
/// Returns the pages saved by sharing; no argument (memory.h).
pub const XENMEM_get_sharing_freed_pages: u32 = 18;
/// Returns the pages shared; no argument (memory.h).
pub const XENMEM_get_sharing_shared_pages: u32 = 19;
/// Page memory out and in; [`MemPagingOp`] (memory.h).
pub const XENMEM_paging_op: u32 = 20;
/// Set or get access rights of guest frames; [`MemAccessOp`] (memory.h).
pub const XENMEM_access_op: u32 = 21;
/// Share memory between domains; [`MemSharingOp`] (memory.h).
pub const XENMEM_sharing_op: u32 = 22;
/// [`XENMEM_add_to_physmap`] for many; [`AddToPhysmapBatch`] (memory.h).
pub const XENMEM_add_to_physmap_batch: u32 = 23;
/// Stake a claim on memory; [`MemoryReservation`] (memory.h).
pub const XENMEM_claim_pages: u32 = 24;
/// [`XENMEM_machphys_mfn_list`] for the 32-bit table; [`MachphysMfnList`] (memory.h).
pub const XENMEM_machphys_compat_mfn_list: u32 = 25;
/// Read the virtual NUMA topology; [`VnumaTopologyInfo`] (memory.h).
pub const XENMEM_get_vnumainfo: u32 = 26;
/// List ranges reserved for devices; [`ReservedDeviceMemoryMap`] (memory.h).
pub const XENMEM_reserved_device_memory_map: u32 = 27;
/// List frames of a domain's resource for mapping; [`MemAcquireResource`] (memory.h).
pub const XENMEM_acquire_resource: u32 = 28;

/// Mask of the address width in [`MemoryReservation::mem_flags`] (memory.h,
/// `XENMEMF_get_address_bits`); 0 means any.
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;
/// Lowest bit of the node, plus one, in [`MemoryReservation::mem_flags`] (memory.h,
/// `XENMEMF_node`); 0 means any.
pub const XENMEMF_NODE_SHIFT: u32 = 8;
/// Mask of the node field after the shift (memory.h, `XENMEMF_get_node`).
pub const XENMEMF_NODE_MASK: u32 = 0xff;

/// Memory flag: make the frames populate-on-demand (memory.h).
pub const XENMEMF_populate_on_demand: u32 = 0x0001_0000;
/// Memory flag: only from the node given (memory.h).
pub const XENMEMF_exact_node_request: u32 = 0x0002_0000;
/// Memory flag: the node is a virtual one (memory.h).
pub const XENMEMF_vnode: u32 = 0x0004_0000;

/// Space: shared info page (memory.h).
pub const XENMAPSPACE_shared_info: u32 = 0;
/// Space: grant table frames (memory.h).
pub const XENMAPSPACE_grant_table: u32 = 1;
/// Space: another guest frame of the domain (memory.h).
pub const XENMAPSPACE_gmfn: u32 = 2;
/// Space: a range of guest frames (memory.h).
pub const XENMAPSPACE_gmfn_range: u32 = 3;
/// Space: guest frames of another domain (batch only) (memory.h).
pub const XENMAPSPACE_gmfn_foreign: u32 = 4;
/// Space: device memory (Arm only) (memory.h).
pub const XENMAPSPACE_dev_mmio: u32 = 5;

/// Bit of `idx` in the grant-table space: status frames (memory.h).
pub const XENMAPIDX_grant_table_status: u64 = 0x8000_0000;

/// Resource: pages of an I/O request server (memory.h).
pub const XENMEM_resource_ioreq_server: u16 = 0;
/// Resource: grant table (memory.h).
pub const XENMEM_resource_grant_table: u16 = 1;
/// Resource: trace buffers of vCPUs (memory.h).
pub const XENMEM_resource_vmtrace_buf: u16 = 2;

/// Id within the grant table: entries (memory.h).
pub const XENMEM_resource_grant_table_id_shared: u32 = 0;
/// Id within the grant table: status words (memory.h).
pub const XENMEM_resource_grant_table_id_status: u32 = 1;
/// First frame of an I/O request server: buffered ring (memory.h).
pub const XENMEM_resource_ioreq_server_frame_bufioreq: u32 = 0;
/// Flag of [`ReservedDeviceMemoryMap`]: all devices (memory.h).
pub const XENMEM_RDM_ALL: u32 = 1;

/// Paging: choose a frame (memory.h).
pub const XENMEM_paging_op_nominate: u8 = 0;
/// Paging: take the frame's memory away (memory.h).
pub const XENMEM_paging_op_evict: u8 = 1;
/// Paging: give memory back (memory.h).
pub const XENMEM_paging_op_prep: u8 = 2;
/// Access: set (memory.h).
pub const XENMEM_access_op_set_access: u8 = 0;
/// Access: get (memory.h).
pub const XENMEM_access_op_get_access: u8 = 1;
/// Access: set for a list of frames (memory.h).
pub const XENMEM_access_op_set_access_multi: u8 = 4;
/// Access right: none (memory.h).
pub const XENMEM_access_n: u8 = 0;
/// Access right: read (memory.h).
pub const XENMEM_access_r: u8 = 1;
/// Access right: write (memory.h).
pub const XENMEM_access_w: u8 = 2;
/// Access right: read, write (memory.h).
pub const XENMEM_access_rw: u8 = 3;
/// Access right: execute (memory.h).
pub const XENMEM_access_x: u8 = 4;
/// Access right: read, execute (memory.h).
pub const XENMEM_access_rx: u8 = 5;
/// Access right: write, execute (memory.h).
pub const XENMEM_access_wx: u8 = 6;
/// Access right: all (memory.h).
pub const XENMEM_access_rwx: u8 = 7;
/// Access right: read and execute until the first write (memory.h).
pub const XENMEM_access_rx2rw: u8 = 8;
/// Access right: none, then all, with an event (memory.h).
pub const XENMEM_access_n2rwx: u8 = 9;
/// Access right: the domain's default (memory.h).
pub const XENMEM_access_default: u8 = 10;
/// Sharing: nominate a guest frame (memory.h).
pub const XENMEM_sharing_op_nominate_gfn: u8 = 0;
/// Sharing: nominate a granted frame (memory.h).
pub const XENMEM_sharing_op_nominate_gref: u8 = 1;
/// Sharing: share two nominated frames (memory.h).
pub const XENMEM_sharing_op_share: u8 = 2;
/// Sharing: print a guest frame (memory.h).
pub const XENMEM_sharing_op_debug_gfn: u8 = 3;
/// Sharing: print a machine frame (memory.h).
pub const XENMEM_sharing_op_debug_mfn: u8 = 4;
/// Sharing: print a granted frame (memory.h).
pub const XENMEM_sharing_op_debug_gref: u8 = 5;
/// Sharing: map a shared frame (memory.h).
pub const XENMEM_sharing_op_add_physmap: u8 = 6;
/// Sharing: check the bookkeeping (memory.h).
pub const XENMEM_sharing_op_audit: u8 = 7;
/// Sharing: share a range (memory.h).
pub const XENMEM_sharing_op_range_share: u8 = 8;
/// Sharing: fork a domain (memory.h).
pub const XENMEM_sharing_op_fork: u8 = 9;
/// Sharing: reset a fork (memory.h).
pub const XENMEM_sharing_op_fork_reset: u8 = 10;

/// Extents to add, remove, populate or claim (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemoryReservation {
    /// Array of extent start frames.
    pub extent_start: GuestHandle<u64>,
    /// Number of extents.
    pub nr_extents: u64,
    /// Binary logarithm of an extent's pages.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 6],
}

/// Argument of [`XENMEM_exchange`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemoryExchange {
    /// Extents to give up.
    pub r#in: MemoryReservation,
    /// Extents to get.
    pub out: MemoryReservation,
    /// Out: input extents done; must be 0 at first.
    pub nr_exchanged: u64,
}

/// Argument of the queries about a domain (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemoryDomain {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
}

/// Argument of [`XENMEM_machphys_mfn_list`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MachphysMfnList {
    /// Length of the array.
    pub max_extents: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array for the machine frame of each 2 MiB piece.
    pub extent_start: GuestHandle<u64>,
    /// Out: how many were written.
    pub nr_extents: u32,
    /// Padding.
    pub _pad1: [u8; 4],
}

/// Result of [`XENMEM_machphys_mapping`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MachphysMapping {
    /// First virtual address.
    pub v_start: u64,
    /// End (exclusive).
    pub v_end: u64,
    /// Highest machine frame that can be looked up.
    pub max_mfn: u64,
}

/// Argument of [`XENMEM_add_to_physmap`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AddToPhysmap {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Number of pages, for the range space.
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Index in the space.
    pub idx: u64,
    /// Guest frame at which to map.
    pub gpfn: u64,
}

/// Argument of [`XENMEM_add_to_physmap_batch`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct AddToPhysmapBatch {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// `XENMAPSPACE_*`.
    pub space: u16,
    /// Number of pages.
    pub size: u16,
    /// Foreign domain, for the foreign space; otherwise zero.
    pub u: u16,
    /// Array of indices.
    pub idxs: GuestHandle<u64>,
    /// Array of guest frames.
    pub gpfns: GuestHandle<u64>,
    /// Out: array of results.
    pub errs: GuestHandle<i32>,
}

/// Argument of [`XENMEM_remove_from_physmap`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RemoveFromPhysmap {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 6],
    /// Guest frame to unmap.
    pub gpfn: u64,
}

/// Argument of the memory-map queries (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemoryMap {
    /// In: room for; out: entries.
    pub nr_entries: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array of [`crate::e820::E820Entry`].
    pub buffer: GuestHandle<u8>,
}

/// Argument of [`XENMEM_set_memory_map`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ForeignMemoryMap {
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 6],
    /// Its map.
    pub map: MemoryMap,
}

/// Argument of the populate-on-demand operations (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PodTarget {
    /// In: target.
    pub target_pages: u64,
    /// Out: pages the domain has.
    pub tot_pages: u64,
    /// Out: pages in the cache.
    pub pod_cache_pages: u64,
    /// Out: entries without memory.
    pub pod_entries: u64,
    /// In: domain.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 6],
}

/// Argument of [`XENMEM_paging_op`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemPagingOp {
    /// `XENMEM_paging_op_*`.
    pub op: u8,
    /// Padding.
    pub _pad0: [u8; 1],
    /// Domain.
    pub domain: u16,
    /// Padding.
    pub _pad1: [u8; 4],
    /// Contents for the page.
    pub buffer: GuestHandle<u8>,
    /// Guest frame.
    pub gfn: u64,
}

/// Argument of [`XENMEM_access_op`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemAccessOp {
    /// `XENMEM_access_op_*`.
    pub op: u8,
    /// Access right `XENMEM_access_*`.
    pub access: u8,
    /// Domain.
    pub domid: u16,
    /// Number of frames.
    pub nr: u32,
    /// First frame; all ones for the default.
    pub pfn: u64,
    /// Array of frames.
    pub pfn_list: GuestHandle<u64>,
    /// Array of access rights.
    pub access_list: GuestHandle<u8>,
}

/// Argument of [`XENMEM_sharing_op`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemSharingOp {
    /// `XENMEM_sharing_op_*`.
    pub op: u8,
    /// Padding.
    pub _pad0: [u8; 1],
    /// Domain.
    pub domain: u16,
    /// Padding.
    pub _pad1: [u8; 4],
    /// Argument of the sub-operation.
    pub u: [u64; 5],
}

/// One range reserved for a device (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ReservedDeviceMemory {
    /// First frame.
    pub start_pfn: u64,
    /// Number of frames.
    pub nr_pages: u64,
}

/// Argument of [`XENMEM_reserved_device_memory_map`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ReservedDeviceMemoryMap {
    /// `XENMEM_RDM_*`.
    pub flags: u32,
    /// In: room for; out: needed.
    pub nr_entries: u32,
    /// Array for the ranges.
    pub buffer: GuestHandle<ReservedDeviceMemory>,
    /// A [`crate::physdev::PhysdevPciDevice`].
    pub dev: [u16; 2],
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`XENMEM_acquire_resource`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MemAcquireResource {
    /// Domain whose resource it is.
    pub domid: u16,
    /// `XENMEM_resource_*`.
    pub r#type: u16,
    /// Which one of that type.
    pub id: u32,
    /// In: frames wanted; out, for a null list: frames there are.
    pub nr_frames: u32,
    /// Padding; zero.
    pub pad: u32,
    /// First frame wanted.
    pub frame: u64,
    /// Array of frame numbers, written for PV callers.
    pub frame_list: GuestHandle<u64>,
}

/// One memory range of a virtual NUMA node (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Vmemrange {
    /// First address.
    pub start: u64,
    /// End (exclusive).
    pub end: u64,
    /// Flags; zero.
    pub flags: u32,
    /// Node.
    pub nid: u32,
}

/// Argument of [`XENMEM_get_vnumainfo`] (memory.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct VnumaTopologyInfo {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding; zero.
    pub pad: u16,
    /// In: room for nodes; out: nodes.
    pub nr_vnodes: u32,
    /// In: room for vCPUs; out: vCPUs.
    pub nr_vcpus: u32,
    /// In: room for ranges; out: ranges.
    pub nr_vmemranges: u32,
    /// Array of distances (guest address).
    pub vdistance: u64,
    /// Array of nodes by vCPU (guest address).
    pub vcpu_to_vnode: u64,
    /// Array of [`Vmemrange`] (guest address).
    pub vmemrange: u64,
}
