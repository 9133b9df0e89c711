//! Message interrupts of fake functions.

use proptest::prelude::*;

use super::*;
use crate::pci::PciHost;
use crate::pci::tests::{Bus, DEVICE, Function};

/// Where the table of the function with one is.
const TABLE: u64 = 0xfeb0_0000;

fn msix() -> Function {
    Function::plain()
        .with_bar(0, TABLE as u32, 0x4000)
        .with_msix(0x40, 8, 0)
}

/// A machine with a function that dom0 has reported.
fn start(function: Function) -> (&'static Machine, Irqs, &'static Bus) {
    let (machine, irqs) = Machine::start(Setup::default());
    machine.bus.plug(DEVICE, function);
    report(&irqs);
    (machine, irqs, machine.bus)
}

fn report(irqs: &Irqs) {
    let device = pci::PciDevice {
        address: DEVICE,
        kind: pci::PciKind::Function,
        proximity: None,
    };
    irqs.pci.add(device).unwrap();
}

fn entry(entry: u32) -> (pci::PciAddress, Messages) {
    (DEVICE, Messages::Msix { entry, base: TABLE })
}

fn msi(count: u32) -> (pci::PciAddress, Messages) {
    (DEVICE, Messages::Msi { count })
}

fn bind(irqs: &Irqs, pirq: u32) {
    irqs.bind_line((0, pirq), PirqSharing::Shared, 1).unwrap();
}

/// The function sends what an entry says, if it may; as the manual says a masked one waits.
fn send(machine: &Machine, entry: u64) -> bool {
    let word = |offset| machine.bus.word(TABLE + entry * 16 + offset);
    let (address, data, control) = (word(0), word(8), word(12));
    if control & 1 == 0 {
        assert_eq!(address & !0xff000, 0xfee0_0000);
        assert_eq!(data & !0xff, 0);
        machine.inject((address >> 12 & 0xff) as usize / 2, data as u8);
    }
    control & 1 == 0
}

const ERRNO: fn(Errno) -> Unmappable = Unmappable::Errno;

#[test]
fn an_entry_of_a_table_interrupts() {
    let (machine, irqs, _) = start(msix());
    let (pirq, count) = irqs.map_messages(0, entry(2), None).unwrap();
    assert_eq!((pirq, count), (63, 1), "from the end");
    assert!(!send(machine, 2), "held back until it is bound");
    bind(&irqs, pirq);
    for _ in 0..3 {
        assert!(send(machine, 2));
        assert_eq!(machine.take(&irqs, 1), Some(Arrival::Guests));
        assert_eq!(machine.raised(), [(0, pirq)]);
    }
    // It needs no end, and goes where its vCPU goes.
    let status = irqs.status(0, pirq).unwrap();
    assert_eq!(status.trigger, Trigger::Edge);
    irqs.end(0, pirq).unwrap();
    irqs.route_line(0, pirq, 3);
    assert!(send(machine, 2));
    assert_eq!(machine.take(&irqs, 3), Some(Arrival::Guests));
    irqs.unbind_line(0, pirq);
    assert!(!send(machine, 2));
    let mut text = String::new();
    irqs.dump(&mut text).unwrap();
    assert!(
        text.contains("MSI-X 2 of 0000:00:03.0: Masked vector"),
        "{text}"
    );
}

#[test]
fn all_other_entries_are_masked_first() {
    let (machine, irqs, bus) = start(msix());
    irqs.map_messages(0, entry(0), None).unwrap();
    for index in 0..8 {
        assert!(!send(machine, index));
    }
    assert!(
        !bus.touched(TABLE + 8 * 16..TABLE + 0x4000),
        "no more than the table"
    );
}

#[test]
fn what_cannot_be_mapped_is_refused() {
    let (_, irqs, bus) = start(msix());
    let map = |what, wanted| irqs.map_messages(0, what, wanted);
    assert_eq!(map(entry(8), None), Err(ERRNO(Errno::EINVAL)));
    assert_eq!(map(entry(u32::MAX), None), Err(ERRNO(Errno::EINVAL)));
    assert_eq!(map(msi(1), None), Err(ERRNO(Errno::ENODEV)));
    for count in [0, 33, u32::MAX] {
        assert_eq!(map(msi(count), None), Err(ERRNO(Errno::EDOM)));
    }
    let nobody = pci::PciAddress { bus: 1, ..DEVICE };
    let other = (nobody, Messages::Msi { count: 1 });
    assert_eq!(map(other, None), Err(ERRNO(Errno::ENODEV)));
    for wanted in [0, 23, 64, u32::MAX] {
        assert_eq!(map(entry(0), Some(wanted)), Err(ERRNO(Errno::EINVAL)));
    }
    assert_eq!(map(entry(0), Some(40)), Ok((40, 1)));
    assert_eq!(map(entry(0), None), Err(ERRNO(Errno::EEXIST)));
    assert_eq!(map(entry(1), Some(40)), Err(ERRNO(Errno::EEXIST)));
    // A function that does not answer has no table.
    irqs.unmap(0, 40).unwrap();
    bus.config_write(DEVICE, 4, 2, 0);
    assert_eq!(map(entry(1), None), Err(ERRNO(Errno::ENXIO)));
    assert_eq!(irqs.unmap(0, 40), Err(Errno::EINVAL));
}

#[test]
fn a_table_that_is_not_in_its_bar_or_over_ram_is_not_touched() {
    let mut outside = msix();
    outside.put(0x44, 0x3ff8);
    let mut nowhere = msix();
    nowhere.put(0x44, 5);
    let empty = msix().with_bar(0, TABLE as u32, 0x4000);
    let mut no_size = empty.clone();
    no_size.writable[0x10..0x14].fill(0);
    no_size.put(0x10, 0);
    let over_messages = msix().with_bar(0, 0xfee0_0000, 0x4000);
    for function in [outside, nowhere, over_messages] {
        let (_, irqs, bus) = start(function);
        assert_eq!(
            irqs.map_messages(0, entry(0), None),
            Err(ERRNO(Errno::ENXIO))
        );
        assert!(!bus.touched(0..u64::MAX));
    }
    let (_, irqs, _) = start(no_size);
    assert_eq!(
        irqs.map_messages(0, entry(0), None),
        Err(ERRNO(Errno::ENXIO))
    );
    let (machine, irqs) = Machine::start(Setup::default());
    machine.bus.plug(DEVICE, empty);
    machine.bus.taken.lock().unwrap().push((TABLE, TABLE + 1));
    report(&irqs);
    assert_eq!(
        irqs.map_messages(0, entry(0), None),
        Err(ERRNO(Errno::ENXIO))
    );
}

#[test]
fn messages_without_a_table_follow_each_other() {
    let (machine, irqs, bus) = start(Function::plain().with_msi(0x50, 0x104));
    assert_eq!(
        irqs.map_messages(0, msi(8), None),
        Err(Unmappable::TooMany(4))
    );
    let (pirq, count) = irqs.map_messages(0, msi(3), None).unwrap();
    assert_eq!(count, 4);
    assert_eq!(
        irqs.map_messages(0, msi(1), None),
        Err(ERRNO(Errno::EEXIST))
    );
    let function = bus.function(DEVICE);
    assert_eq!(function.get(0x50) >> 16, 0x1a4, "four allowed, still off");
    assert_eq!(function.get(0x54), 0xfee0_0000);
    let first = function.get(0x5c) as u8;
    assert_eq!(first % 4, 0);
    assert_eq!(function.get(0x60), 0xf, "all held back");
    for index in 0..4 {
        bind(&irqs, pirq + index);
    }
    assert_eq!(bus.function(DEVICE).get(0x60), 0);
    for index in 0..4 {
        machine.inject(1, first + index as u8);
        assert_eq!(machine.take(&irqs, 1), Some(Arrival::Guests));
        assert_eq!(machine.raised(), [(0, pirq + index)]);
    }
    // The first decides where they go, and whether they are there.
    irqs.route_line(0, pirq + 1, 3);
    assert_eq!(bus.function(DEVICE).get(0x54), 0xfee0_2000);
    irqs.route_line(0, pirq, 3);
    assert_eq!(bus.function(DEVICE).get(0x54), 0xfee0_6000);
    assert_eq!(irqs.unmap(0, pirq + 1), Err(Errno::EBUSY));
    assert_eq!(irqs.unmap(0, pirq), Ok(()));
    assert_eq!(irqs.unmap(0, pirq + 3), Err(Errno::EINVAL));
    machine.inject(1, first);
    assert_eq!(machine.take(&irqs, 1), Some(Arrival::Unwanted));
}

#[test]
fn dom0_cannot_change_messages_that_are_mapped() {
    let (_, irqs, bus) = start(Function::plain().with_msi(0x50, 0x104));
    let write = |register, bytes, value| irqs.config_write(DEVICE, register, bytes, value);
    let get = |register| bus.function(DEVICE).get(register);
    // Not mapped: it cannot be turned on, but off.
    write(0x52, 2, 0x71);
    assert_eq!(get(0x50) >> 16, 0x1f4);
    bus.config_write(DEVICE, 0x52, 2, 1);
    write(0x52, 2, 0);
    assert_eq!(get(0x50) >> 16 & 1, 0);
    let (pirq, _) = irqs.map_messages(0, msi(2), None).unwrap();
    let before = bus.function(DEVICE);
    for register in [0x54, 0x58, 0x5c, 0x60] {
        write(register, 4, 0x1234_5678);
        write(register + 1, 1, 0x77);
        write(register + 2, 2, 0x4321);
    }
    assert_eq!(bus.function(DEVICE).space, before.space);
    // On and off is the driver's to say; how many is not.
    write(0x52, 2, 0x71);
    assert_eq!(get(0x50) >> 16, 0x195);
    write(0x50, 4, 0);
    assert_eq!(get(0x50) >> 16, 0x194);
    // Beside it everything is dom0's.
    write(4, 2, 4);
    assert_eq!(get(4) & 7, 4);
    irqs.unmap(0, pirq).unwrap();
    write(0x54, 4, 0xfee0_1000);
    assert_eq!(get(0x54), 0xfee0_1000);
}

#[test]
fn a_function_without_mapped_entries_is_on_only_with_all_masked() {
    let (_, irqs, bus) = start(msix());
    let control = |value| {
        irqs.config_write(DEVICE, 0x42, 2, value);
        bus.function(DEVICE).get(0x40) >> 16
    };
    assert_eq!(control(0x8000), 0xc007);
    assert_eq!(control(0xc000), 0xc007);
    assert_eq!(control(0), 7);
    let (pirq, _) = irqs.map_messages(0, entry(0), None).unwrap();
    assert_eq!(control(0x8000), 0x8007);
    irqs.unmap(0, pirq).unwrap();
    assert_eq!(bus.function(DEVICE).get(0x40) >> 16, 0x4007);
}

#[test]
fn stores_to_the_table_are_dropped_and_those_beside_it_are_made() {
    let (_, irqs, bus) = start(msix());
    let store = |at: u64, bytes, value| irqs.guarded_write(PhysAddr(at), bytes, value);
    assert!(irqs.pci.guards.guards(PhysAddr(TABLE).mfn()));
    assert!(store(TABLE + 0x7c, 4, 1), "the last word of the table");
    assert!(store(TABLE + 0x78, 8, 1));
    assert!(store(TABLE + 0x800, 8, 1), "the pending bits");
    assert!(!bus.touched(0..u64::MAX));
    assert!(store(TABLE + 0x80, 4, 0x1234));
    assert!(store(TABLE + 0x93, 1, 0x56));
    assert!(store(TABLE + 0xa0, 8, 0x1_0000_0002));
    assert_eq!(bus.word(TABLE + 0x80), 0x1234);
    assert_eq!(bus.word(TABLE + 0x90), 0x5600_0000);
    assert_eq!([bus.word(TABLE + 0xa0), bus.word(TABLE + 0xa4)], [2, 1]);
    assert!(!store(TABLE + 0x1000, 4, 1), "another page");
    irqs.remove_device(DEVICE).unwrap();
    assert!(!store(TABLE, 4, 1));
}

#[test]
fn messages_follow_a_bar_that_moves() {
    let (machine, irqs, bus) = start(msix());
    let (pirq, _) = irqs.map_messages(0, entry(1), None).unwrap();
    bind(&irqs, pirq);
    let elsewhere = 0xfd00_0000;
    irqs.config_write(DEVICE, 0x10, 4, elsewhere as u32);
    assert!(irqs.pci.guards.guards(PhysAddr(elsewhere).mfn()));
    assert!(!irqs.pci.guards.guards(PhysAddr(TABLE).mfn()));
    irqs.route_line(0, pirq, 2);
    assert_eq!(bus.word(elsewhere + 16), 0xfee0_4000);
    // Over RAM it is nowhere.
    machine
        .bus
        .taken
        .lock()
        .unwrap()
        .push((0x100_0000, 0x200_0000));
    irqs.config_write(DEVICE, 0x10, 4, 0x100_0000);
    irqs.route_line(0, pirq, 3);
    irqs.config_write(DEVICE, 0x10, 4, TABLE as u32);
    assert_eq!(irqs.restore_messages(DEVICE), Ok(()));
    assert!(send(machine, 1));
    assert_eq!(machine.take(&irqs, 2), Some(Arrival::Guests));
}

#[test]
fn forgotten_messages_are_written_again() {
    let (machine, irqs, bus) = start(msix());
    let (pirq, _) = irqs.map_messages(0, entry(1), None).unwrap();
    irqs.map_messages(0, entry(3), None).unwrap();
    bind(&irqs, pirq);
    for offset in (0..128).step_by(4) {
        bus.register_write(PhysAddr(TABLE + offset), 4, 0);
    }
    irqs.restore_messages(DEVICE).unwrap();
    assert!(send(machine, 1));
    assert!((0..8).all(|i| i == 1 || !send(machine, i)));
    assert_eq!(machine.take(&irqs, 1), Some(Arrival::Guests));
    let nobody = pci::PciAddress { bus: 1, ..DEVICE };
    assert_eq!(irqs.restore_messages(nobody), Err(Errno::ENODEV));
}

#[test]
fn a_storm_of_messages_rests() {
    let (machine, irqs, _) = start(msix());
    let (pirq, _) = irqs.map_messages(0, entry(0), None).unwrap();
    bind(&irqs, pirq);
    let sent = (0..5000).take_while(|_| send(machine, 0) && machine.take(&irqs, 1).is_some());
    assert_eq!(sent.count(), 2001);
    machine.pass(20_000_000);
    machine.raised();
    irqs.end_storms();
    assert_eq!(machine.raised(), [(0, pirq)], "they have to look");
    assert!(send(machine, 0));
    // One that cannot be held back is not passed on meanwhile.
    let (machine, irqs, bus) = start(Function::plain().with_msi(0x50, 0));
    let (pirq, _) = irqs.map_messages(0, msi(1), None).unwrap();
    bind(&irqs, pirq);
    let vector = bus.function(DEVICE).get(0x5c) as u8;
    for _ in 0..5000 {
        machine.inject(1, vector);
        assert_eq!(machine.take(&irqs, 1), Some(Arrival::Guests));
    }
    assert_eq!(machine.raised().len(), 2001);
}

#[test]
fn tables_are_prepared_and_released() {
    use TableStays::{No, Yes};
    let (_, irqs, _) = start(msix());
    let prepare = |stays| irqs.prepare_table(DEVICE, stays);
    assert_eq!(prepare(No), Err(Errno::EBUSY));
    assert_eq!(prepare(Yes), Ok(()));
    assert_eq!(prepare(Yes), Err(Errno::EBUSY));
    let (pirq, _) = irqs.map_messages(0, entry(0), None).unwrap();
    assert_eq!(prepare(No), Err(Errno::EBUSY));
    irqs.unmap(0, pirq).unwrap();
    assert_eq!(prepare(No), Ok(()));
    let (_, irqs, _) = start(Function::plain());
    assert_eq!(irqs.prepare_table(DEVICE, Yes), Err(Errno::ENODEV));
}

#[test]
fn a_dying_domain_leaves_no_message() {
    let (machine, irqs, bus) = start(Function::plain().with_msi(0x50, 0x104));
    let (pirq, _) = irqs.map_messages(7, msi(4), None).unwrap();
    irqs.bind_line((7, pirq), PirqSharing::Exclusive, 0)
        .unwrap();
    irqs.config_write(DEVICE, 0x52, 2, 1);
    irqs.forget(7);
    assert_eq!(bus.function(DEVICE).get(0x50) >> 16, 0x184, "off");
    // All vectors are free again.
    for _ in 0..100 {
        let (pirq, _) = irqs.map_messages(0, msi(4), None).unwrap();
        irqs.unmap(0, pirq).unwrap();
    }
    assert!(machine.raised().is_empty());
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Msi(u32, u32),
    Msix(u32, u64),
    Unmap(u32),
    Bind(u32),
    Unbind(u32),
    Route(u32, u32),
    Write(u16, u8, u32),
    Store(u64, u8, u64),
    Add,
    Remove,
    Restore,
    Prepare,
    Forget,
    Take,
}

fn op() -> impl Strategy<Value = Op> {
    let pirq = || 20..70_u32;
    let bytes = || prop::sample::select(vec![1_u8, 2, 4]);
    prop_oneof![
        2 => (0..40_u32, pirq()).prop_map(|(n, p)| Op::Msi(n, p)),
        4 => (0..20_u32, any::<u64>()).prop_map(|(n, b)| Op::Msix(n, b)),
        3 => pirq().prop_map(Op::Unmap),
        4 => pirq().prop_map(Op::Bind),
        1 => pirq().prop_map(Op::Unbind),
        2 => (pirq(), 0..8_u32).prop_map(|(p, c)| Op::Route(p, c)),
        6 => (0..256_u16, bytes(), any::<u32>()).prop_map(|(r, b, v)| Op::Write(r & !3, b, v)),
        2 => (0..0x1000_u64, bytes(), any::<u64>()).prop_map(|(a, b, v)| Op::Store(a & !3, b, v)),
        1 => Just(Op::Add),
        1 => Just(Op::Remove),
        1 => Just(Op::Restore),
        1 => Just(Op::Prepare),
        1 => Just(Op::Forget),
        2 => Just(Op::Take),
    ]
}

fn apply(machine: &Machine, irqs: &Irqs, op: Op) {
    match op {
        Op::Msi(count, wanted) => {
            let _ = irqs.map_messages(0, msi(count), (wanted < 60).then_some(wanted));
        }
        Op::Msix(entry, base) => {
            let _ = irqs.map_messages(0, (DEVICE, Messages::Msix { entry, base }), None);
        }
        Op::Unmap(pirq) => drop(irqs.unmap(0, pirq)),
        Op::Bind(pirq) => drop(irqs.bind_line((0, pirq), PirqSharing::Shared, 1)),
        Op::Unbind(pirq) => irqs.unbind_line(0, pirq),
        Op::Route(pirq, cpu) => irqs.route_line(0, pirq, cpu),
        Op::Write(register, bytes, value) => irqs.config_write(DEVICE, register, bytes, value),
        Op::Store(at, bytes, value) => {
            let _ = irqs.guarded_write(PhysAddr(TABLE + at), bytes, value);
        }
        Op::Add => report(irqs),
        Op::Remove => drop(irqs.remove_device(DEVICE)),
        Op::Restore => drop(irqs.restore_messages(DEVICE)),
        Op::Prepare => drop(irqs.prepare_table(DEVICE, TableStays::Yes)),
        Op::Forget => irqs.forget(0),
        Op::Take => drop(machine.take_all(irqs)),
    }
}

proptest! {
    #[test]
    fn random_calls_leave_nothing_behind(
        space in prop::collection::vec(any::<u8>(), 64), ops in prop::collection::vec(op(), 1..80),
        known in any::<bool>(),
    ) {
        // Half of them plausible, half with capabilities of random bytes.
        let mut function = msix().with_msi(0x60, 0x10a);
        if !known {
            function.space[0x40..0x80].copy_from_slice(&space);
            function.space[0x10..0x28].copy_from_slice(&space[..24]);
        }
        let (machine, irqs, bus) = start(function);
        bus.taken.lock().unwrap().push((0, 0x8000_0000));
        for op in ops {
            apply(machine, &irqs, op);
        }
        irqs.forget(0);
        report(&irqs);
        for pirq in 0..70 {
            prop_assert_eq!(irqs.unmap(0, pirq), Err(Errno::EINVAL));
        }
        let mut text = String::new();
        irqs.dump(&mut text).unwrap();
        prop_assert!(!text.contains("MSI"), "{}", text);
        // Every vector can be had again.
        let more = start(msix()).1;
        prop_assert!(more.map_messages(0, entry(0), None).is_ok());
    }
}
