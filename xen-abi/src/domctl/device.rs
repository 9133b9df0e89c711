//! Arguments that concern devices and their interrupts (domctl.h).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::GuestHandle;

/// Kind of device: PCI (domctl.h).
pub const XEN_DOMCTL_DEV_PCI: u32 = 0;
/// Kind of device: device tree (domctl.h).
pub const XEN_DOMCTL_DEV_DT: u32 = 1;
/// Flag: tolerate conflicts with reserved device memory (domctl.h).
pub const XEN_DOMCTL_DEV_RDM_RELAXED: u32 = 1;
/// Kind of interrupt: PCI pin (domctl.h).
pub const PT_IRQ_TYPE_PCI: u32 = 0;
/// Kind of interrupt: ISA (domctl.h).
pub const PT_IRQ_TYPE_ISA: u32 = 1;
/// Kind of interrupt: message (domctl.h).
pub const PT_IRQ_TYPE_MSI: u32 = 2;
/// Kind of interrupt: message turned into a pin (domctl.h).
pub const PT_IRQ_TYPE_MSI_TRANSLATE: u32 = 3;
/// Kind of interrupt: shared peripheral (Arm) (domctl.h).
pub const PT_IRQ_TYPE_SPI: u32 = 4;

/// Message flags: destination (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_DEST_ID_MASK: u32 = 0xff;
/// Message flags: redirection hint (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_RH_MASK: u32 = 0x100;
/// Message flags: destination mode (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_DM_MASK: u32 = 0x200;
/// Message flags: delivery mode (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_DELIV_MASK: u32 = 0x7000;
/// Message flags: trigger mode (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_TRIG_MASK: u32 = 0x8000;
/// Message flags: unmask when bound (domctl.h).
pub const XEN_DOMCTL_VMSI_X86_UNMASKED: u32 = 0x0001_0000;

/// Argument of `XEN_DOMCTL_irq_permission` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlIrqPermission {
    /// Physical interrupt of the caller.
    pub pirq: u32,
    /// Non-zero: permit.
    pub allow_access: u8,
    /// Padding; zero.
    pub pad: [u8; 3],
}

/// Argument of `XEN_DOMCTL_ioport_permission` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlIoportPermission {
    /// First port.
    pub first_port: u32,
    /// Number of ports.
    pub nr_ports: u32,
    /// Non-zero: permit.
    pub allow_access: u8,
    /// Padding.
    pub _pad0: [u8; 3],
}

/// Argument of `XEN_DOMCTL_ioport_mapping` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlIoportMapping {
    /// First guest port.
    pub first_gport: u32,
    /// First machine port.
    pub first_mport: u32,
    /// Number of ports.
    pub nr_ports: u32,
    /// `DPCI_*_MAPPING`.
    pub add_mapping: u32,
}

/// Argument of the device assignment operations (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlAssignDevice {
    /// `XEN_DOMCTL_DEV_*`.
    pub dev: u32,
    /// `XEN_DOMCTL_DEV_RDM_*`.
    pub flags: u32,
    /// For PCI, segment, bus, device and function in the low 32 bits of the first word; otherwise
    /// length and address of a path.
    pub u: [u64; 2],
}

/// Argument of `XEN_DOMCTL_get_device_group` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlGetDeviceGroup {
    /// Segment, bus, device and function.
    pub machine_sbdf: u32,
    /// Room in the array.
    pub max_sdevs: u32,
    /// Out: number of devices.
    pub num_sdevs: u32,
    /// Padding.
    pub _pad0: [u8; 4],
    /// Array of devices.
    pub sdev_array: GuestHandle<u32>,
}

/// Argument of `XEN_DOMCTL_bind_pt_irq` and `XEN_DOMCTL_unbind_pt_irq` (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlBindPtIrq {
    /// Physical interrupt.
    pub machine_irq: u32,
    /// `PT_IRQ_TYPE_*`.
    pub irq_type: u32,
    /// Where it goes; for messages a [`DomctlBindPtIrqMsi`].
    pub u: [u64; 2],
}

/// [`DomctlBindPtIrq::u`] of a message interrupt (domctl.h).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct DomctlBindPtIrqMsi {
    /// Guest vector.
    pub gvec: u8,
    /// Padding.
    pub _pad0: [u8; 3],
    /// `XEN_DOMCTL_VMSI_X86_*`.
    pub gflags: u32,
    /// Machine address of the MSI-X table.
    pub gtable: u64,
}
