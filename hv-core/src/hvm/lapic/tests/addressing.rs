//! Commands, and whom their messages are for.

use super::*;

fn ipi(delivery: Delivery, vector: u8, destination: Destination) -> Effect {
    Effect::Ipi(Ipi {
        delivery,
        vector,
        level: false,
        destination,
    })
}

#[test]
fn commands_of_xapic_mode() {
    let mut lapic = enabled(0);
    let _ = write(&mut lapic, ICR2, 5 << 24);
    let rows = [
        (
            0x0000_4033,
            ipi(Delivery::Fixed, 0x33, Destination::Physical(5)),
        ),
        (
            0x0000_c833,
            ipi(Delivery::Fixed, 0x33, Destination::Logical(5)),
        ),
        (
            0x0000_4933,
            ipi(Delivery::LowestPriority, 0x33, Destination::Logical(5)),
        ),
        (0x0000_4200, ipi(Delivery::Smi, 0, Destination::Physical(5))),
        (0x0000_4400, ipi(Delivery::Nmi, 0, Destination::Physical(5))),
        (
            0x0000_4500,
            ipi(Delivery::Init, 0, Destination::Physical(5)),
        ),
        (
            0x0000_c500,
            ipi(Delivery::Init, 0, Destination::Physical(5)),
        ),
        (0x0000_8500, Effect::None),
        (
            0x0000_4699,
            ipi(Delivery::StartUp, 0x99, Destination::Physical(5)),
        ),
        (0x0000_4333, Effect::None),
        (0x0000_4733, Effect::None),
        (0x0008_4033, ipi(Delivery::Fixed, 0x33, Destination::All)),
        (0x0008_4500, Effect::None),
        (
            0x000c_4033,
            ipi(Delivery::Fixed, 0x33, Destination::AllButSelf),
        ),
        (0x000c_4500, ipi(Delivery::Init, 0, Destination::AllButSelf)),
        (0x0004_4400, Effect::None),
        (0x0000_4008, Effect::None),
    ];
    for (low, effect) in rows {
        assert_eq!(write(&mut lapic, ICR, low), effect, "{low:#x}");
        assert_eq!(read(&mut lapic, ICR), low, "{low:#x}");
    }
    assert_eq!(lapic.pending(), None);
    assert_eq!(write(&mut lapic, ICR, 0x0004_4077), Effect::None);
    assert_eq!(lapic.pending(), Some(0x77));
    let _ = write(&mut lapic, ICR2, 0xff << 24);
    assert_eq!(
        write(&mut lapic, ICR, 0x4033),
        ipi(Delivery::Fixed, 0x33, Destination::All)
    );
}

#[test]
fn commands_of_x2apic_mode() {
    let mut lapic = enabled_x2(0);
    let time = &At(0);
    let rows = [
        (
            0x0001_2345_0000_4033,
            ipi(Delivery::Fixed, 0x33, Destination::Physical(0x1_2345)),
        ),
        (
            0x0001_0003_0000_4833,
            ipi(Delivery::Fixed, 0x33, Destination::Logical(0x1_0003)),
        ),
        (
            0x0000_00ff_0000_4033,
            ipi(Delivery::Fixed, 0x33, Destination::Physical(0xff)),
        ),
        (
            0xffff_ffff_0000_4833,
            ipi(Delivery::Fixed, 0x33, Destination::All),
        ),
    ];
    for (value, effect) in rows {
        assert_eq!(lapic.write_msr(0x830, value, time), Ok(effect));
        assert_eq!(lapic.read_msr(0x830, time), Ok(value));
    }
    for bit in [12, 13, 16, 17, 20, 31] {
        assert_eq!(lapic.write_msr(0x830, 0x4033 | 1 << bit, time), Err(Fault));
    }
}

fn address(id: u32, mode: Mode) -> Address {
    Address {
        id,
        logical: 0,
        flat: true,
        mode,
        enabled: true,
        priority: 0,
    }
}

fn reaches(target: Address, destination: Destination) -> bool {
    let ipi = Ipi {
        delivery: Delivery::Fixed,
        vector: 0x40,
        level: false,
        destination,
    };
    matches(&target, &ipi, false)
}

#[test]
fn destinations_by_mode_and_model() {
    let flat = Address {
        logical: 0x06,
        ..address(4, Mode::XApic)
    };
    let cluster = Address {
        logical: 0x36,
        flat: false,
        ..flat
    };
    let x2 = address(0x23, Mode::X2Apic);
    let rows = [
        (flat, Destination::Physical(4), true),
        (flat, Destination::Physical(6), false),
        (flat, Destination::Physical(0x104), false),
        (flat, Destination::Logical(0x02), true),
        (flat, Destination::Logical(0xf9), false),
        (flat, Destination::Logical(0x1_0002), false),
        (cluster, Destination::Logical(0x32), true),
        (cluster, Destination::Logical(0x22), false),
        (cluster, Destination::Logical(0x38), false),
        (x2, Destination::Physical(0x23), true),
        (x2, Destination::Physical(0x22), false),
        (x2, Destination::Logical(2 << 16 | 8), true),
        (x2, Destination::Logical(2 << 16 | 0xfff7), false),
        (x2, Destination::Logical(8), false),
        (x2, Destination::All, true),
        (flat, Destination::AllButSelf, true),
    ];
    for (target, destination, expected) in rows {
        assert_eq!(
            reaches(target, destination),
            expected,
            "{target:?} {destination:?}"
        );
        assert!(!reaches(
            Address {
                mode: Mode::Disabled,
                ..target
            },
            destination
        ));
        assert!(!reaches(
            Address {
                enabled: false,
                ..target
            },
            destination
        ));
    }
}

#[test]
fn init_reaches_what_software_has_disabled() {
    let target = Address {
        enabled: false,
        ..address(4, Mode::XApic)
    };
    let mut ipi = Ipi {
        delivery: Delivery::Init,
        vector: 0,
        level: false,
        destination: Destination::AllButSelf,
    };
    assert!(matches(&target, &ipi, false));
    assert!(!matches(&target, &ipi, true));
    ipi.destination = Destination::Physical(4);
    assert!(matches(&target, &ipi, true));
    assert!(!matches(&Address::UNREACHABLE, &ipi, false));
}

#[test]
fn equals_take_turns() {
    let candidates = [(1, 0x20), (4, 0x2f), (7, 0x21), (8, 0x30)];
    let mut last = 0;
    let mut chosen = Vec::new();
    for _ in 0..6 {
        last = arbitrate(candidates, last).unwrap();
        chosen.push(last);
    }
    assert_eq!(chosen, [1, 4, 7, 1, 4, 7]);
    assert_eq!(arbitrate([], 3), None);
    assert_eq!(arbitrate([(3, 0x10)], 3), Some(3));
}

proptest! {
    /// Every x2APIC is met by its own logical ID and by nobody else's.
    #[test]
    fn logical_ids_are_unique(one in 0..0x000f_ffff_u32, other in 0..0x000f_ffff_u32) {
        let target = address(one, Mode::X2Apic);
        prop_assert!(reaches(target, Destination::Logical(x2apic_logical(one))));
        prop_assert_eq!(reaches(target, Destination::Logical(x2apic_logical(other))), one == other);
    }
}
