//! physdev_op: what dom0 tells of PCI, and message interrupts (xen/physdev.h).

use xen_abi::errno::Errno;
use xen_abi::physdev as abi;

use super::context::{AnyCtx, DONE, Host, Reply};
use crate::base::{DomId, PhysAddr};
use crate::boot::acpi::Mcfg;
use crate::irq::pci::{PciDevice, PciKind};
use crate::irq::{Messages, TableStays, Unmappable};
use crate::pci::PciAddress;
use crate::pci::guard::Reserved;

/// The commands about PCI; the caller may control the devices.
pub(super) fn operation<H: Host>(cx: &mut AnyCtx<'_, H>, command: u32, at: u64) -> Reply {
    let irqs = cx.hv.irqs;
    match command {
        abi::PHYSDEVOP_manage_pci_add => {
            let device = old_address(cx.read(at)?);
            add(cx, device, PciKind::Function, None)?;
        }
        abi::PHYSDEVOP_manage_pci_add_ext => manage_pci_add_ext(cx, at)?,
        abi::PHYSDEVOP_pci_device_add => pci_device_add(cx, at)?,
        abi::PHYSDEVOP_manage_pci_remove => irqs.remove_device(old_address(cx.read(at)?))?,
        abi::PHYSDEVOP_pci_device_remove => irqs.remove_device(address(cx.read(at)?))?,
        abi::PHYSDEVOP_restore_msi => irqs.restore_messages(old_address(cx.read(at)?))?,
        abi::PHYSDEVOP_restore_msi_ext => irqs.restore_messages(address(cx.read(at)?))?,
        abi::PHYSDEVOP_prepare_msix => {
            irqs.prepare_table(address(cx.read(at)?), TableStays::Yes)?;
        }
        abi::PHYSDEVOP_release_msix => irqs.prepare_table(address(cx.read(at)?), TableStays::No)?,
        abi::PHYSDEVOP_pci_mmcfg_reserved => mmcfg_reserved(cx, at)?,
        _ => return Err(Errno::ENOSYS),
    }
    DONE
}

/// Messages of a function become a domain's, under numbers that follow each other.
pub(super) fn map_messages<H: Host>(
    cx: &mut AnyCtx<'_, H>,
    at: u64,
    mut request: abi::PhysdevMapPirq,
    target: DomId,
) -> Reply {
    let multiple = request.r#type == abi::MAP_PIRQ_TYPE_MULTI_MSI;
    // Any other index would name one of our own interrupts.
    if multiple && request.table_base != 0 || !multiple && request.index != -1 {
        return Err(Errno::EINVAL);
    }
    let device = PciAddress {
        segment: match request.r#type {
            abi::MAP_PIRQ_TYPE_MSI => 0,
            _ => (request.bus >> 16) as u16,
        },
        bus: request.bus as u8,
        devfn: request.devfn as u8,
    };
    let messages = match request.table_base {
        0 if multiple => Messages::Msi {
            count: u32::try_from(request.entry_nr).map_err(|_| Errno::EDOM)?,
        },
        0 => Messages::Msi { count: 1 },
        base => Messages::Msix {
            entry: u32::try_from(request.entry_nr).map_err(|_| Errno::EINVAL)?,
            base,
        },
    };
    // Negative: any number will do.
    let wanted = u32::try_from(request.pirq).ok();
    let errno = match cx.hv.irqs.map_messages(target, (device, messages), wanted) {
        Ok((pirq, count)) => {
            request.pirq = pirq as i32;
            if multiple {
                request.entry_nr = count as i32;
            }
            cx.write(at, &request)?;
            return DONE;
        }
        Err(Unmappable::TooMany(most)) => {
            request.entry_nr = most as i32;
            cx.write(at, &request)?;
            Errno::ENFILE
        }
        Err(Unmappable::Errno(errno)) => errno,
    };
    log::info!(
        "d{}: map_pirq: {messages:?} of {device}: {errno}",
        cx.domain.id
    );
    Err(errno)
}

fn address(device: abi::PhysdevPciDevice) -> PciAddress {
    PciAddress {
        segment: device.seg,
        bus: device.bus,
        devfn: device.devfn,
    }
}

/// The older commands know one segment.
fn old_address(device: abi::PhysdevManagePci) -> PciAddress {
    PciAddress {
        segment: 0,
        bus: device.bus,
        devfn: device.devfn,
    }
}

/// What a function is part of; `other` when it is not a virtual one.
fn kind(virtual_of: Option<abi::PhysdevPhysfn>, other: PciKind) -> PciKind {
    virtual_of.map_or(other, |physical| PciKind::Virtual {
        bus: physical.bus,
        devfn: physical.devfn,
    })
}

fn manage_pci_add_ext<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Result<(), Errno> {
    let request: abi::PhysdevManagePciExt = cx.read(at)?;
    if request.is_extfn > 1 || request.is_virtfn > 1 {
        return Err(Errno::EINVAL);
    }
    let place = PciAddress {
        segment: 0,
        bus: request.bus,
        devfn: request.devfn,
    };
    let physical = (request.is_virtfn != 0).then_some(request.physfn);
    let other = match request.is_extfn {
        0 => PciKind::Function,
        _ => PciKind::Extended,
    };
    add(cx, place, kind(physical, other), None)
}

fn pci_device_add<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Result<(), Errno> {
    let request: abi::PhysdevPciDeviceAdd = cx.read(at)?;
    let has = |flag| request.flags & flag != 0;
    let proximity = if has(abi::XEN_PCI_DEV_PXM) {
        let after = size_of::<abi::PhysdevPciDeviceAdd>() as u64;
        Some(cx.read(at.checked_add(after).ok_or(Errno::EFAULT)?)?)
    } else {
        None
    };
    let place = PciAddress {
        segment: request.seg,
        bus: request.bus,
        devfn: request.devfn,
    };
    let physical = has(abi::XEN_PCI_DEV_VIRTFN).then_some(request.physfn);
    let other = if has(abi::XEN_PCI_DEV_EXTFN) {
        PciKind::Extended
    } else {
        PciKind::Function
    };
    add(cx, place, kind(physical, other), proximity)
}

/// Adds a function; before a virtual one its physical one, if that is not known.
fn add<H: Host>(
    cx: &AnyCtx<'_, H>,
    address: PciAddress,
    kind: PciKind,
    proximity: Option<u32>,
) -> Result<(), Errno> {
    let pci = &cx.hv.irqs.pci;
    let add = |address, kind| {
        pci.add(PciDevice {
            address,
            kind,
            proximity,
        })
    };
    if let PciKind::Virtual { bus, devfn } = kind {
        let physical = PciAddress {
            segment: address.segment,
            bus,
            devfn,
        };
        if pci.find(physical).is_none() {
            add(physical, PciKind::Function)?;
        }
    }
    add(address, kind)
}

/// Whether the firmware has reserved configuration space in memory; only dom0 can ask it.
fn mmcfg_reserved<H: Host>(cx: &mut AnyCtx<'_, H>, at: u64) -> Result<(), Errno> {
    let request: abi::PhysdevPciMmcfgReserved = cx.read(at)?;
    let reserved = match request.flags {
        0 => Reserved::No,
        abi::XEN_PCI_MMCFG_RESERVED => Reserved::Yes,
        _ => return Err(Errno::EINVAL),
    };
    let place = Mcfg {
        base: PhysAddr(request.address),
        segment: request.segment,
        first_bus: request.start_bus,
        last_bus: request.end_bus,
    };
    cx.hv.irqs.pci.guards.set_reserved(place, reserved)
}
