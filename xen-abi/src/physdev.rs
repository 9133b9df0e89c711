//! Physical interrupts and PCI devices, hypercall `physdev_op` (physdev.h).
#![allow(non_upper_case_globals)] // the ABI's own spelling

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Obsolete (physdev.h).
pub const PHYSDEVOP_IRQ_UNMASK_NOTIFY: u32 = 4;
/// Ask about an interrupt line; [`PhysdevIrqStatusQuery`] (physdev.h).
pub const PHYSDEVOP_irq_status_query: u32 = 5;
/// Set the virtual I/O privilege level; [`PhysdevSetIopl`] (physdev.h).
pub const PHYSDEVOP_set_iopl: u32 = 6;
/// Set the I/O port bitmap; [`PhysdevSetIobitmap`] (physdev.h).
pub const PHYSDEVOP_set_iobitmap: u32 = 7;
/// Read an I/O APIC register; [`PhysdevApic`] (physdev.h).
pub const PHYSDEVOP_apic_read: u32 = 8;
/// Write an I/O APIC register; [`PhysdevApic`] (physdev.h).
pub const PHYSDEVOP_apic_write: u32 = 9;
/// Allocate a vector for a line; [`PhysdevIrq`] (physdev.h).
pub const PHYSDEVOP_alloc_irq_vector: u32 = 10;
/// Free a vector; [`PhysdevIrq`] (physdev.h).
pub const PHYSDEVOP_free_irq_vector: u32 = 11;
/// End of interrupt; [`PhysdevEoi`] (physdev.h).
pub const PHYSDEVOP_eoi: u32 = 12;
/// Make a physical interrupt of the domain; [`PhysdevMapPirq`] (physdev.h).
pub const PHYSDEVOP_map_pirq: u32 = 13;
/// Undo it; [`PhysdevUnmapPirq`] (physdev.h).
pub const PHYSDEVOP_unmap_pirq: u32 = 14;
/// Report a PCI device; [`PhysdevManagePci`] (physdev.h).
pub const PHYSDEVOP_manage_pci_add: u32 = 15;
/// Report a PCI device gone; [`PhysdevManagePci`] (physdev.h).
pub const PHYSDEVOP_manage_pci_remove: u32 = 16;
/// Share the bitmap of interrupts that need an end, and unmask at the end; [`PhysdevPirqEoiGmfn`]
/// (physdev.h).
pub const PHYSDEVOP_pirq_eoi_gmfn_v1: u32 = 17;
/// Restore message interrupts after sleep; [`PhysdevManagePci`] (physdev.h).
pub const PHYSDEVOP_restore_msi: u32 = 19;
/// Report a PCI device with virtual functions; [`PhysdevManagePciExt`] (physdev.h).
pub const PHYSDEVOP_manage_pci_add_ext: u32 = 20;
/// Set trigger and polarity of a line; [`PhysdevSetupGsi`] (physdev.h).
pub const PHYSDEVOP_setup_gsi: u32 = 21;
/// Get an unused number; [`PhysdevGetFreePirq`] (physdev.h).
pub const PHYSDEVOP_get_free_pirq: u32 = 23;
/// Report a configuration window; [`PhysdevPciMmcfgReserved`] (physdev.h).
pub const PHYSDEVOP_pci_mmcfg_reserved: u32 = 24;
/// Report a PCI device; [`PhysdevPciDeviceAdd`] (physdev.h).
pub const PHYSDEVOP_pci_device_add: u32 = 25;
/// Report a PCI device gone; [`PhysdevPciDevice`] (physdev.h).
pub const PHYSDEVOP_pci_device_remove: u32 = 26;
/// Restore message interrupts after sleep; [`PhysdevPciDevice`] (physdev.h).
pub const PHYSDEVOP_restore_msi_ext: u32 = 27;
/// Share the bitmap of interrupts that need an end; [`PhysdevPirqEoiGmfn`] (physdev.h).
pub const PHYSDEVOP_pirq_eoi_gmfn_v2: u32 = 28;
/// A USB debug port is about to be, or was, reset; [`PhysdevDbgpOp`] (physdev.h).
pub const PHYSDEVOP_dbgp_op: u32 = 29;
/// The MSI-X table will not move; [`PhysdevPciDevice`] (physdev.h).
pub const PHYSDEVOP_prepare_msix: u32 = 30;
/// The MSI-X table may move; [`PhysdevPciDevice`] (physdev.h).
pub const PHYSDEVOP_release_msix: u32 = 31;
/// Line status: needs [`PHYSDEVOP_eoi`] (physdev.h).
pub const XENIRQSTAT_needs_eoi: u32 = 1;
/// Line status: shared by several guests (physdev.h).
pub const XENIRQSTAT_shared: u32 = 2;

/// Interrupt type: message (physdev.h).
pub const MAP_PIRQ_TYPE_MSI: i32 = 0;
/// Interrupt type: line (physdev.h).
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;
/// Interrupt type: unknown (physdev.h).
pub const MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
/// Interrupt type: message, with a PCI segment (physdev.h).
pub const MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
/// Interrupt type: several messages (physdev.h).
pub const MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;

/// Window flag: the firmware has reserved it (physdev.h).
pub const XEN_PCI_MMCFG_RESERVED: u32 = 1;
/// Device flag: extended function (physdev.h).
pub const XEN_PCI_DEV_EXTFN: u32 = 1;
/// Device flag: virtual function (physdev.h).
pub const XEN_PCI_DEV_VIRTFN: u32 = 2;
/// Device flag: a proximity domain follows (physdev.h).
pub const XEN_PCI_DEV_PXM: u32 = 4;

/// Debug port: about to be reset (physdev.h).
pub const PHYSDEVOP_DBGP_RESET_PREPARE: u8 = 1;
/// Debug port: was reset (physdev.h).
pub const PHYSDEVOP_DBGP_RESET_DONE: u8 = 2;
/// Debug port: unknown bus (physdev.h).
pub const PHYSDEVOP_DBGP_BUS_UNKNOWN: u8 = 0;
/// Debug port: PCI (physdev.h).
pub const PHYSDEVOP_DBGP_BUS_PCI: u8 = 1;

/// Argument of [`PHYSDEVOP_eoi`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevEoi {
    /// Physical interrupt of the domain.
    pub irq: u32,
}

/// Argument of [`PHYSDEVOP_pirq_eoi_gmfn_v2`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevPirqEoiGmfn {
    /// Guest frame of the bitmap.
    pub gmfn: u64,
}

/// Argument of [`PHYSDEVOP_irq_status_query`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevIrqStatusQuery {
    /// Physical interrupt of the domain.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*`.
    pub flags: u32,
}

/// Argument of [`PHYSDEVOP_set_iopl`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevSetIopl {
    /// Level, 0 to 3.
    pub iopl: u32,
}

/// Argument of [`PHYSDEVOP_set_iobitmap`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevSetIobitmap {
    /// The bitmap.
    pub bitmap: GuestHandle<u8>,
    /// Number of bits.
    pub nr_ports: u32,
    /// Padding.
    pub _pad0: [u8; 4],
}

/// Argument of [`PHYSDEVOP_apic_read`] and [`PHYSDEVOP_apic_write`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevApic {
    /// Physical address of the I/O APIC.
    pub apic_physbase: u64,
    /// Register.
    pub reg: u32,
    /// Value.
    pub value: u32,
}

/// Argument of [`PHYSDEVOP_alloc_irq_vector`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevIrq {
    /// Line.
    pub irq: u32,
    /// Vector.
    pub vector: u32,
}

/// Argument of [`PHYSDEVOP_map_pirq`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevMapPirq {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// `MAP_PIRQ_TYPE_*`.
    pub r#type: i32,
    /// Line, or vector.
    pub index: i32,
    /// In: number wanted, negative for any; out: number.
    pub pirq: i32,
    /// PCI bus, segment in the high half.
    pub bus: i32,
    /// PCI device and function.
    pub devfn: i32,
    /// MSI-X entry, or number of messages.
    pub entry_nr: i32,
    /// Padding.
    pub _pad1: [u8; 4],
    /// Physical address of the MSI-X table; 0 for MSI.
    pub table_base: u64,
}

/// Argument of [`PHYSDEVOP_unmap_pirq`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevUnmapPirq {
    /// Domain; may be `DOMID_SELF`.
    pub domid: u16,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Number.
    pub pirq: i32,
}

/// Argument of [`PHYSDEVOP_manage_pci_add`] and its like (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevManagePci {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}

/// The physical function behind a virtual one (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevPhysfn {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}

/// Argument of [`PHYSDEVOP_manage_pci_add_ext`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevManagePciExt {
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
    /// Padding.
    pub _pad0: [u8; 2],
    /// Non-zero: extended function.
    pub is_extfn: u32,
    /// Non-zero: virtual function.
    pub is_virtfn: u32,
    /// Physical function behind it.
    pub physfn: PhysdevPhysfn,
    /// Padding.
    pub _pad1: [u8; 2],
}

/// Argument of [`PHYSDEVOP_setup_gsi`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevSetupGsi {
    /// Line.
    pub gsi: i32,
    /// 0 edge, 1 level.
    pub triggering: u8,
    /// 0 high, 1 low.
    pub polarity: u8,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// Argument of [`PHYSDEVOP_get_free_pirq`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevGetFreePirq {
    /// `MAP_PIRQ_TYPE_*`.
    pub r#type: i32,
    /// Out: number.
    pub pirq: u32,
}

/// Argument of [`PHYSDEVOP_pci_mmcfg_reserved`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevPciMmcfgReserved {
    /// Physical address of the window.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// `XEN_PCI_MMCFG_*`.
    pub flags: u32,
}

/// Argument of [`PHYSDEVOP_pci_device_add`]; the proximity domain, four bytes, follows if flagged
/// (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevPciDeviceAdd {
    /// PCI segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
    /// `XEN_PCI_DEV_*`.
    pub flags: u32,
    /// Physical function behind a virtual one.
    pub physfn: PhysdevPhysfn,
    /// Padding.
    pub _pad0: [u8; 2],
}

/// A PCI device (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevPciDevice {
    /// PCI segment.
    pub seg: u16,
    /// Bus.
    pub bus: u8,
    /// Device and function.
    pub devfn: u8,
}

/// Argument of [`PHYSDEVOP_dbgp_op`] (physdev.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PhysdevDbgpOp {
    /// `PHYSDEVOP_DBGP_RESET_*`.
    pub op: u8,
    /// `PHYSDEVOP_DBGP_BUS_*`.
    pub bus: u8,
    /// The controller, a [`PhysdevPciDevice`].
    pub u: [u16; 2],
}
