//! Message interrupts, from the hypercall to the event.

use super::*;
use crate::base::PhysAddr;
use crate::boot::acpi::Mcfg;
use crate::pci::guard::Reserved;
use crate::pci::tests::{DEVICE, Function};

const TABLE: u32 = 0xfeb0_0000;

/// A world with one function, which dom0 has reported.
fn world(function: Function) -> World {
    let world = World::new();
    world.wires.bus.plug(DEVICE, function);
    let device = PhysdevPciDeviceAdd {
        devfn: DEVICE.devfn,
        ..PhysdevPciDeviceAdd::default()
    };
    call(&world, &world.dom0, PHYSDEVOP_pci_device_add, device).unwrap();
    world
}

fn msix() -> Function {
    Function::plain()
        .with_bar(0, TABLE, 0x4000)
        .with_msix(0x40, 8, 0)
}

fn request(kind: i32, entry_nr: i32, table_base: u64) -> PhysdevMapPirq {
    PhysdevMapPirq {
        domid: DOMID_SELF,
        r#type: kind,
        index: -1,
        pirq: -1,
        devfn: DEVICE.devfn.into(),
        entry_nr,
        table_base,
        ..PhysdevMapPirq::default()
    }
}

fn map(world: &World, request: PhysdevMapPirq) -> Result<PhysdevMapPirq, Errno> {
    call(world, &world.dom0, PHYSDEVOP_map_pirq, request)
}

#[test]
fn a_message_of_dom0_from_map_to_event() {
    let world = world(msix());
    let table = TABLE.into();
    let mapped = map(&world, request(MAP_PIRQ_TYPE_MSI_SEG, 3, table)).unwrap();
    let pirq = mapped.pirq as u32;
    let port = events::bind_pirq(&*world.dom0, pirq, PirqSharing::Shared).unwrap();
    let word = |offset| world.wires.bus.word(u64::from(TABLE) + 48 + offset);
    assert_eq!([word(0), word(4), word(12)], [0xfee0_0000, 0, 0]);
    world.wires.inject(0, word(8) as u8);
    world.interrupts();
    assert!(pending(&world.dom0, port));
    let flags = PhysdevIrqStatusQuery {
        irq: pirq,
        flags: 9,
    };
    let status = call(&world, &world.dom0, PHYSDEVOP_irq_status_query, flags).unwrap();
    assert_eq!(status.flags, 0, "no end is wanted");
    let gone = PhysdevUnmapPirq {
        domid: DOMID_SELF,
        pirq: mapped.pirq,
        ..PhysdevUnmapPirq::default()
    };
    call(&world, &world.dom0, PHYSDEVOP_unmap_pirq, gone).unwrap();
    assert_eq!(word(12), 1);
}

#[test]
fn nonsense_is_refused_with_the_errors_of_the_abi() {
    let world = world(msix().with_msi(0x60, 0x102));
    let [msi, seg, multi] = [
        MAP_PIRQ_TYPE_MSI,
        MAP_PIRQ_TYPE_MSI_SEG,
        MAP_PIRQ_TYPE_MULTI_MSI,
    ];
    let try_one = |request, want| assert_eq!(map(&world, request), Err(want), "{request:?}");
    for kind in [msi, seg] {
        let index = 24;
        try_one(
            PhysdevMapPirq {
                index,
                ..request(kind, 1, 0)
            },
            Errno::EINVAL,
        );
        for entry in [8, -1, i32::MIN, i32::MAX] {
            try_one(request(kind, entry, 0x1000), Errno::EINVAL);
        }
    }
    for count in [0, -1, 33, i32::MAX, i32::MIN] {
        try_one(request(multi, count, 0), Errno::EDOM);
    }
    try_one(request(multi, 2, 0x1000), Errno::EINVAL);
    try_one(request(multi, 4, 0), Errno::ENFILE);
    for (bus, devfn) in [(1, 0x18), (0, 0x19), (0x1_0000, 0x18), (-1, -1)] {
        try_one(
            PhysdevMapPirq {
                bus,
                devfn,
                ..request(multi, 1, 0)
            },
            Errno::ENODEV,
        );
    }
    for pirq in [0, 5, i32::MAX] {
        try_one(
            PhysdevMapPirq {
                pirq,
                ..request(msi, 1, 0)
            },
            Errno::EINVAL,
        );
    }
    // Two of them, then the other kind.
    let two = map(&world, request(multi, 2, 0)).unwrap();
    assert_eq!(two.entry_nr, 2);
    try_one(request(msi, 1, 0), Errno::EEXIST);
    try_one(request(msi, 0, TABLE.into()), Errno::EBUSY);
}

#[test]
fn operations_on_a_function_want_it_reported() {
    let world = world(msix());
    let commands = [
        PHYSDEVOP_restore_msi,
        PHYSDEVOP_restore_msi_ext,
        PHYSDEVOP_prepare_msix,
        PHYSDEVOP_release_msix,
        PHYSDEVOP_pci_device_remove,
        PHYSDEVOP_manage_pci_remove,
    ];
    for command in commands {
        let refused = call(&world, &world.dom0, command, [0x55_u8; 4]);
        assert_eq!(refused, Err(Errno::ENODEV), "command {command}");
    }
    let device = PhysdevPciDevice {
        devfn: DEVICE.devfn,
        ..PhysdevPciDevice::default()
    };
    let of = |command| call(&world, &world.dom0, command, device).map(|_| ());
    assert_eq!(of(PHYSDEVOP_restore_msi_ext), Ok(()));
    assert_eq!(of(PHYSDEVOP_prepare_msix), Ok(()));
    assert_eq!(of(PHYSDEVOP_prepare_msix), Err(Errno::EBUSY));
    assert_eq!(of(PHYSDEVOP_release_msix), Ok(()));
    assert_eq!(of(PHYSDEVOP_pci_device_remove), Ok(()));
    let odd = PhysdevManagePciExt {
        is_extfn: 2,
        ..PhysdevManagePciExt::default()
    };
    let refused = call(&world, &world.dom0, PHYSDEVOP_manage_pci_add_ext, odd);
    assert_eq!(refused, Err(Errno::EINVAL));
    // With a virtual function comes its physical one.
    let virtual_one = PhysdevPciDeviceAdd {
        bus: 2,
        devfn: 9,
        flags: XEN_PCI_DEV_VIRTFN,
        physfn: PhysdevPhysfn { bus: 1, devfn: 8 },
        ..PhysdevPciDeviceAdd::default()
    };
    call(&world, &world.dom0, PHYSDEVOP_pci_device_add, virtual_one).unwrap();
    let physical = crate::pci::PciAddress {
        segment: 0,
        bus: 1,
        devfn: 8,
    };
    assert!(world.hv.irqs.pci.find(physical).is_some());
}

#[test]
fn configuration_space_in_memory_is_used_once_it_is_reserved() {
    let world = world(msix());
    let guards = &world.hv.irqs.pci.guards;
    let place = Mcfg {
        base: PhysAddr(0xb000_0000),
        segment: 1,
        first_bus: 16,
        last_bus: 31,
    };
    guards.add_window(place, Reserved::No).unwrap();
    let function = crate::pci::PciAddress {
        segment: 1,
        bus: 17,
        devfn: 8,
    };
    let tell = |address, end_bus, flags| {
        let request = PhysdevPciMmcfgReserved {
            address,
            segment: 1,
            start_bus: 16,
            end_bus,
            flags,
        };
        call(&world, &world.dom0, PHYSDEVOP_pci_mmcfg_reserved, request).map(|_| ())
    };
    assert_eq!(guards.address_of(function, 4), None);
    assert_eq!(tell(0xb000_0000, 32, 1), Err(Errno::ENODEV));
    assert_eq!(tell(0xc000_0000, 31, 1), Err(Errno::EIO));
    assert_eq!(tell(0xb000_0000, 31, 2), Err(Errno::EINVAL));
    assert_eq!(tell(0xb000_0000, 31, 1), Ok(()));
    let at = PhysAddr(0xb110_8104);
    assert_eq!(guards.address_of(function, 0x104), Some(at));
    assert_eq!(tell(0xb000_0000, 31, 0), Ok(()));
    assert_eq!(guards.address_of(function, 4), None);
    // dom0 may only read it, whoever uses it.
    assert!(guards.guards(at.mfn()));
    assert!(!guards.guards(PhysAddr(0xb0ff_f000).mfn()));
    assert!(!guards.guards(PhysAddr(0xb200_0000).mfn()));
}
