//! What is written to I/O APICs, where GSIs are, and vectors.

use super::*;
use crate::irq::vectors::{DEVICES, SYSCALL, Vectors};

#[test]
fn everything_is_masked_at_the_start() {
    for left in [0x0000_0030, 0x0000_e041, 0x0000_0700] {
        let left = Setup {
            left,
            ..Setup::default()
        };
        let (machine, irqs) = Machine::start(left);
        for input in 0..machine::PINS {
            assert!(!machine.is_open(input));
            assert_eq!(machine.low(input) & 1 << 14, 0, "Remote IRR is cleared");
        }
        machine.drive(9, true);
        assert!(machine.take_all(&irqs).is_empty());
    }
}

#[test]
fn entries_of_the_firmware_stay() {
    let setup = Setup {
        left: 0x0000_0200,
        ..Setup::default()
    };
    let (machine, _) = Machine::start(setup);
    assert_eq!(machine.low(3), 0x200);
}

#[test]
fn a_bound_entry_has_mode_vector_and_destination() {
    let (machine, irqs) = Machine::start(Setup::default());
    irqs.map(0, Numbering::Identity, 20, None).unwrap();
    irqs.bind_line((0, 20), PirqSharing::Exclusive, 3).unwrap();
    // PCI: level, active low.
    assert_eq!(machine.low(20) & !0xff, 0xa000);
    assert_eq!(machine.destination(20), 6);
    machine.inject(3, machine.low(20) as u8);
    let _ = machine.take_all(&irqs);
    assert_eq!(machine.raised(), [(0, 20)], "its vector leads back");
    bind(&irqs, 1);
    assert_eq!(machine.low(1) & !0xff, 0);
    bind(&irqs, 9);
    assert_eq!(machine.low(9) & !0xff, 0x8000);
}

#[test]
fn a_line_is_set_up_once() {
    let (machine, irqs) = Machine::start(Setup::default());
    assert_eq!(irqs.set_up(20, LineMode::ISA), Ok(()));
    assert_eq!(irqs.set_up(20, LineMode::ISA), Err(Errno::EEXIST));
    assert_eq!(irqs.set_up(24, LineMode::PCI), Err(Errno::EINVAL));
    assert_eq!(irqs.set_up(u32::MAX, LineMode::PCI), Err(Errno::EINVAL));
    bind(&irqs, 20);
    assert_eq!(machine.low(20) & !0xff, 0);
    // Not while it is bound, unless nothing changes.
    bind(&irqs, 21);
    assert_eq!(irqs.set_up(21, LineMode::ISA), Err(Errno::EBUSY));
    assert_eq!(irqs.set_up(21, LineMode::PCI), Ok(()));
}

#[test]
fn gsis_lead_to_their_chip() {
    let setup = Setup {
        bases: &[0, 32],
        ..Setup::default()
    };
    let (machine, irqs) = Machine::start(setup);
    assert_eq!(irqs.line_count(), 56);
    assert_eq!(irqs.pirq_limit(), 96);
    assert_eq!(irqs.gsi_of_isa(0), 2);
    assert_eq!(irqs.gsi_of_isa(4), 4);
    bind(&irqs, 32);
    assert!(machine.is_open(machine::PINS) && !machine.is_open(0));
    // Between the two there is nothing.
    let none = irqs.map(0, Numbering::Identity, 24, None);
    assert_eq!(none, Err(Errno::EINVAL));
    let second = PhysAddr(machine::BASE.0 + 0x1000);
    assert_eq!(irqs.read_chip(second, 0x10), Ok(machine.low(machine::PINS)));
}

#[test]
fn dom0_reads_registers_as_they_are() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    let at = machine::BASE;
    assert_eq!(irqs.read_chip(at, 0), Ok(0x0300_0000));
    assert_eq!(irqs.read_chip(at, 1), Ok(0x0017_0020));
    assert_eq!(irqs.read_chip(at, 0x10 + 18), Ok(machine.low(9)));
    for bad in [3, 0xf, 0x40, 0xff, u32::MAX] {
        assert_eq!(irqs.read_chip(at, bad), Err(Errno::EINVAL), "{bad:#x}");
        assert_eq!(irqs.write_chip(at, bad, 0), Err(Errno::EINVAL));
    }
    let elsewhere = PhysAddr(at.0 + 0x10);
    assert_eq!(irqs.read_chip(elsewhere, 0), Err(Errno::EINVAL));
}

#[test]
fn dom0_writes_trigger_and_polarity_alone() {
    let (machine, irqs) = Machine::start(Setup::default());
    let at = machine::BASE;
    let low = |gsi: u32| 0x10 + 2 * gsi;
    let before = machine.low(16);
    assert_eq!(irqs.write_chip(at, low(16), 0x0000_0080), Ok(()));
    assert_eq!(machine.low(16), before);
    bind(&irqs, 16);
    assert_eq!(machine.low(16) & !0xff, 0);
    assert_ne!(machine.low(16) as u8, 0x80);
    let open = machine.low(16);
    assert_eq!(irqs.write_chip(at, low(16), 0x0001_0031), Ok(()));
    assert_eq!(machine.low(16), open);
    let level = irqs.write_chip(at, low(16), 0x0000_8031);
    assert_eq!(level, Err(Errno::EBUSY));
    let nmi = irqs.write_chip(at, low(17), 0x0000_0400);
    assert_eq!(nmi, Err(Errno::EINVAL));
    for register in [0, 1, 2, low(16) + 1] {
        let refused = irqs.write_chip(at, register, 0xffff_ffff);
        assert_eq!(refused, Err(Errno::EPERM));
    }
}

#[test]
fn no_two_lines_share_a_vector() {
    let vectors = Vectors::new();
    let mut seen = BTreeSet::new();
    for line in 0..191 {
        let vector = vectors.allocate(line).unwrap();
        assert!(DEVICES.contains(&vector) && vector != SYSCALL);
        assert!(seen.insert(vector));
        assert_eq!(vectors.line_of(vector), Some(line));
    }
    assert_eq!(vectors.allocate(191), Err(Errno::ENOSPC));
    assert_eq!(vectors.allocate(u32::MAX), Err(Errno::EINVAL));
    assert_eq!(vectors.line_of(SYSCALL), None);
}

#[test]
fn absurd_tables_of_the_firmware_are_survived() {
    let setup = Setup {
        bases: &[0, 12, u32::MAX, 1010],
        overrides: vec![Override {
            source_irq: 255,
            gsi: u32::MAX,
            polarity: None,
            trigger: None,
        }],
        ..Setup::default()
    };
    let (machine, irqs) = Machine::start(setup);
    assert_eq!(irqs.line_count(), routing::MAX_LINES);
    // Where two claim a GSI, the first has it.
    bind(&irqs, 12);
    assert!(machine.is_open(12) && !machine.is_open(machine::PINS));
    bind(&irqs, routing::MAX_LINES - 1);
    let beyond = irqs.claim(routing::MAX_LINES, "nothing", 0);
    assert_eq!(beyond, Err(Errno::EINVAL));
    assert_eq!(irqs.claim(u32::MAX, "nothing", 0), Err(Errno::EINVAL));
    let far = PhysAddr(machine::BASE.0 + 0x2000);
    assert_eq!(irqs.write_chip(far, 0x12, 0), Err(Errno::EINVAL));
}

#[test]
fn a_machine_without_io_apic_has_no_lines() {
    let setup = Setup {
        bases: &[],
        ..Setup::default()
    };
    let (_, irqs) = Machine::start(setup);
    assert_eq!(irqs.line_count(), 0);
    let none = irqs.map(0, Numbering::Identity, 0, None);
    assert_eq!(none, Err(Errno::EINVAL));
    assert_eq!(irqs.reserve(0), Ok(0));
}

#[test]
fn reported_devices_are_kept_by_address() {
    let devices = pci::PciDevices::new(crate::pci::tests::Bus::new());
    let at = |devfn| pci::PciAddress {
        segment: 0,
        bus: 3,
        devfn,
    };
    let device = |devfn, proximity| pci::PciDevice {
        address: at(devfn),
        kind: pci::PciKind::Function,
        proximity,
    };
    devices.add(device(8, None)).unwrap();
    devices.add(device(0, Some(1))).unwrap();
    devices.add(device(8, Some(2))).unwrap();
    assert_eq!(devices.find(at(8)).unwrap().proximity, Some(2));
    assert_eq!(devices.find(at(1)), None);
    assert_eq!(devices.find(at(0)).unwrap().proximity, Some(1));
    // dom0 can report no end of them.
    let refused = (0..=u32::from(u16::MAX)).find_map(|n| {
        let mut more = device(n as u8, None);
        more.address.segment = 1;
        more.address.bus = (n >> 8) as u8;
        devices.add(more).err()
    });
    assert_eq!(refused, Some(Errno::ENOSPC));
}
