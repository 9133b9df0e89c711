//! physdev_op as dom0 and a guest make it, down to the registers of the I/O APIC and the event that
//! arrives.

mod host;
mod messages;

use std::sync::Arc;

use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::physdev::*;
use xen_abi::xen::{DOMID_SELF, SHARED_INFO_EVTCHN_MASK};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::physdev_op;
use crate::base::Mfn;
use crate::domain::Domain;
use crate::events::{self, PirqSharing};
use crate::hypercall::Outcome;
use host::{ARGUMENT, World};

/// A call with one structure; gives the structure as it is afterwards.
fn call<T>(world: &World, by: &Arc<Domain>, command: u32, argument: T) -> Result<T, Errno>
where
    T: IntoBytes + FromBytes + Immutable + KnownLayout,
{
    world.memory.put(argument.as_bytes());
    let outcome = world.with(by, |cx| {
        physdev_op(&mut cx.any(), [command.into(), ARGUMENT, 0, 0, 0, 0])
    });
    assert_eq!(outcome?, Outcome::Return(0));
    let bytes = world.memory.get(size_of::<T>());
    Ok(T::read_from_bytes(&bytes).unwrap())
}

fn map(world: &World, gsi: i32, pirq: i32) -> Result<i32, Errno> {
    let request = PhysdevMapPirq {
        domid: DOMID_SELF,
        r#type: MAP_PIRQ_TYPE_GSI,
        index: gsi,
        pirq,
        ..PhysdevMapPirq::default()
    };
    call(world, &world.dom0, PHYSDEVOP_map_pirq, request).map(|r| r.pirq)
}

fn end(world: &World, pirq: u32) -> Result<(), Errno> {
    let request = PhysdevEoi { irq: pirq };
    call(world, &world.dom0, PHYSDEVOP_eoi, request).map(|_| ())
}

fn pending(domain: &Domain, port: u32) -> bool {
    events::is_pending(domain, port).unwrap()
}

fn give_page(world: &World, by: &Arc<Domain>, command: u32, gmfn: u64) -> Result<(), Errno> {
    call(world, by, command, PhysdevPirqEoiGmfn { gmfn }).map(|_| ())
}

#[test]
fn a_device_of_dom0_from_map_to_end() {
    let world = World::new();
    assert_eq!(map(&world, 9, 9), Ok(9));
    let request = PhysdevIrq { irq: 9, vector: 0 };
    let answer = call(&world, &world.dom0, PHYSDEVOP_alloc_irq_vector, request);
    assert_eq!(answer.unwrap().vector, 9);
    let level_high = PhysdevSetupGsi {
        gsi: 9,
        triggering: 1,
        ..PhysdevSetupGsi::default()
    };
    let setup = || call(&world, &world.dom0, PHYSDEVOP_setup_gsi, level_high).map(|_| ());
    assert_eq!(setup(), Ok(()));
    assert_eq!(setup(), Err(Errno::EEXIST));
    let query = PhysdevIrqStatusQuery { irq: 9, flags: 7 };
    let answer = call(&world, &world.dom0, PHYSDEVOP_irq_status_query, query);
    assert_eq!(answer.unwrap().flags, XENIRQSTAT_needs_eoi);

    let dom0 = &*world.dom0;
    let port = events::bind_pirq(dom0, 9, PirqSharing::Exclusive).unwrap();
    world.wires.drive(9, true);
    world.interrupts();
    assert!(pending(dom0, port));
    assert!(!world.wires.is_open(9));
    world.wires.drive(9, false);
    assert_eq!(end(&world, 9), Ok(()));
    assert!(world.wires.is_open(9));
    events::close(dom0, port).unwrap();
    assert!(!world.wires.is_open(9));
    assert_eq!(end(&world, 9), Ok(()), "nothing to end");
    assert_eq!(end(&world, 10), Err(Errno::EINVAL));
    assert_eq!(end(&world, u32::MAX), Err(Errno::EINVAL));
}

#[test]
fn the_eoi_page_says_who_needs_an_end() {
    let world = World::new();
    let page = Mfn(7);
    let bit = |pirq: u32| host::word(page, 0) & 1 << pirq != 0;
    map(&world, 9, 9).unwrap();
    events::bind_pirq(&*world.dom0, 9, PirqSharing::Exclusive).unwrap();
    give_page(&world, &world.dom0, PHYSDEVOP_pirq_eoi_gmfn_v2, page.0).unwrap();
    assert!(bit(9) && !bit(1));
    for gsi in [1, 20] {
        map(&world, gsi, gsi).unwrap();
        events::bind_pirq(&*world.dom0, gsi as u32, PirqSharing::Exclusive).unwrap();
    }
    assert!(!bit(1) && bit(20));
    let again = give_page(&world, &world.dom0, PHYSDEVOP_pirq_eoi_gmfn_v1, 8);
    assert_eq!(again, Err(Errno::EBUSY));
    assert_eq!(host::references(&world), [page.0]);
    world.hv.irqs.release_domain(&world.dom0);
    assert!(host::references(&world).is_empty());
    assert!(!world.wires.is_open(1) && !world.wires.is_open(9));
}

#[test]
fn bad_eoi_pages_are_refused() {
    let world = World::new();
    for gmfn in [0, 1 << 40, 1 << 62, u64::MAX] {
        let refused = give_page(&world, &world.dom0, PHYSDEVOP_pirq_eoi_gmfn_v2, gmfn);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    assert!(host::references(&world).is_empty());
    // A guest without devices may give one as well: its kernel does.
    let given = give_page(&world, &world.guest, PHYSDEVOP_pirq_eoi_gmfn_v2, 9);
    assert_eq!(given, Ok(()));
}

#[test]
fn version_1_unmasks_the_port_at_the_end() {
    let world = World::new();
    give_page(&world, &world.dom0, PHYSDEVOP_pirq_eoi_gmfn_v1, 7).unwrap();
    map(&world, 1, 1).unwrap();
    let port = events::bind_pirq(&*world.dom0, 1, PirqSharing::Exclusive).unwrap();
    let masks = &host::page(world.dom0.shared_info)[SHARED_INFO_EVTCHN_MASK / 8];
    masks.fetch_or(1 << port, std::sync::atomic::Ordering::SeqCst);
    end(&world, 1).unwrap();
    assert_eq!(masks.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn dom0_reads_the_version_of_an_io_apic() {
    let world = World::new();
    let read = |reg| {
        let request = PhysdevApic {
            apic_physbase: 0xfec0_0000,
            reg,
            value: 0,
        };
        call(&world, &world.dom0, PHYSDEVOP_apic_read, request).map(|r| r.value)
    };
    assert_eq!(read(1), Ok(0x0017_0020));
    assert_eq!(read(0x77), Err(Errno::EINVAL));
    let request = PhysdevApic {
        apic_physbase: 0xfec0_0000,
        reg: 0x10,
        value: 0x31,
    };
    let written = call(&world, &world.dom0, PHYSDEVOP_apic_write, request);
    assert!(written.is_ok());
    assert!(!world.wires.is_open(0));
}

#[test]
fn a_guest_may_do_nothing_to_the_machine() {
    let world = World::new();
    world.memory.put(&[0; 64]);
    let mut allowed = Vec::new();
    for command in 0..64 {
        let args = [command, ARGUMENT, 0, 0, 0, 0];
        match world.with(&world.guest, |cx| physdev_op(&mut cx.any(), args)) {
            Ok(_) => allowed.push(command as u32),
            Err(Errno::EPERM | Errno::EINVAL) => {}
            Err(other) => panic!("command {command}: {other}"),
        }
    }
    // What its own programs may do.
    assert_eq!(allowed, [PHYSDEVOP_set_iopl, PHYSDEVOP_set_iobitmap]);
}

#[test]
fn bad_numbers_of_dom0_are_refused() {
    let world = World::new();
    for gsi in [-1, 24, i32::MIN, i32::MAX] {
        assert_eq!(map(&world, gsi, -1), Err(Errno::EINVAL));
        let request = PhysdevSetupGsi {
            gsi,
            ..PhysdevSetupGsi::default()
        };
        let refused = call(&world, &world.dom0, PHYSDEVOP_setup_gsi, request);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    for (triggering, polarity) in [(2, 0), (0, 2), (255, 255)] {
        let request = PhysdevSetupGsi {
            gsi: 3,
            triggering,
            polarity,
            ..PhysdevSetupGsi::default()
        };
        let refused = call(&world, &world.dom0, PHYSDEVOP_setup_gsi, request);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    let request = PhysdevUnmapPirq {
        domid: DOMID_SELF,
        pirq: -1,
        ..PhysdevUnmapPirq::default()
    };
    let refused = call(&world, &world.dom0, PHYSDEVOP_unmap_pirq, request);
    assert_eq!(refused, Err(Errno::EINVAL));
    let stranger = PhysdevMapPirq {
        domid: 77,
        r#type: MAP_PIRQ_TYPE_GSI,
        ..PhysdevMapPirq::default()
    };
    let refused = call(&world, &world.dom0, PHYSDEVOP_map_pirq, stranger);
    assert_eq!(refused, Err(Errno::ESRCH));
    let args = [u64::from(PHYSDEVOP_eoi), 1, 0, 0, 0, 0];
    let fault = world.with(&world.dom0, |cx| physdev_op(&mut cx.any(), args));
    assert_eq!(fault, Err(Errno::EFAULT));
}

#[test]
fn the_io_privilege_level_is_kept() {
    let world = World::new();
    let request = PhysdevSetIopl { iopl: 4 };
    let refused = call(&world, &world.dom0, PHYSDEVOP_set_iopl, request);
    assert_eq!(refused, Err(Errno::EINVAL));
    world.memory.put(PhysdevSetIopl { iopl: 1 }.as_bytes());
    let args = [u64::from(PHYSDEVOP_set_iopl), ARGUMENT, 0, 0, 0, 0];
    let iopl = world.with(&world.dom0, |cx| {
        assert_eq!(physdev_op(&mut cx.any(), args), Ok(Outcome::Return(0)));
        cx.state.iopl
    });
    assert_eq!(iopl, 1);
}

#[test]
fn the_bitmap_of_ports_is_kept() {
    let world = World::new();
    let bitmap = |address, nr_ports| PhysdevSetIobitmap {
        bitmap: GuestHandle::new(address),
        nr_ports,
        ..PhysdevSetIobitmap::default()
    };
    for too_many in [0x1_0001, u32::MAX] {
        let request = bitmap(0x1000, too_many);
        let refused = call(&world, &world.dom0, PHYSDEVOP_set_iobitmap, request);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    let request = bitmap(0xffff_8880_0000_1000, 0x1_0000);
    world.memory.put(request.as_bytes());
    let args = [u64::from(PHYSDEVOP_set_iobitmap), ARGUMENT, 0, 0, 0, 0];
    let kept = world.with(&world.dom0, |cx| {
        assert_eq!(physdev_op(&mut cx.any(), args), Ok(Outcome::Return(0)));
        cx.state.port_bitmap
    });
    assert_eq!(
        (kept.address, kept.ports),
        (0xffff_8880_0000_1000, 0x1_0000)
    );
}

#[test]
fn what_is_missing_says_so() {
    let world = World::new();
    for command in [
        PHYSDEVOP_IRQ_UNMASK_NOTIFY,
        PHYSDEVOP_free_irq_vector,
        22,
        u32::MAX,
    ] {
        let refused = call(&world, &world.dom0, command, [0_u8; 32]);
        assert_eq!(refused, Err(Errno::ENOSYS), "command {command}");
    }
}

#[test]
fn devices_are_reported_with_their_node() {
    let world = World::new();
    let device = PhysdevPciDeviceAdd {
        seg: 1,
        bus: 2,
        devfn: 3,
        flags: XEN_PCI_DEV_PXM,
        ..PhysdevPciDeviceAdd::default()
    };
    let mut bytes = [0_u8; 16];
    bytes[..12].copy_from_slice(device.as_bytes());
    bytes[12..].copy_from_slice(&5_u32.to_le_bytes());
    call(&world, &world.dom0, PHYSDEVOP_pci_device_add, bytes).unwrap();
    let at = crate::irq::pci::PciAddress {
        segment: 1,
        bus: 2,
        devfn: 3,
    };
    let known = world.hv.irqs.pci.find(at).unwrap();
    assert_eq!(known.proximity, Some(5));
    let gone = PhysdevPciDevice {
        seg: 1,
        bus: 2,
        devfn: 3,
    };
    let remove = || call(&world, &world.dom0, PHYSDEVOP_pci_device_remove, gone).map(|_| ());
    assert_eq!(remove(), Ok(()));
    assert_eq!(remove(), Err(Errno::ENODEV));
}
