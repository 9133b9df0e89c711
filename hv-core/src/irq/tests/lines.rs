//! What becomes of interrupts.

use super::*;

const NOBODY: [(DomId, u32); 0] = [];

#[test]
fn an_edge_is_delivered_once_and_never_masked() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    for _ in 0..3 {
        machine.pulse(1);
        assert_eq!(machine.take_all(&irqs), [Arrival::Guests]);
        assert_eq!(machine.raised(), [(0, 1)]);
        assert!(machine.is_open(1));
    }
}

#[test]
fn a_level_line_is_masked_until_its_end() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    machine.drive(9, true);
    assert_eq!(machine.take_all(&irqs), [Arrival::Guests]);
    assert_eq!(machine.raised(), [(0, 9)]);
    assert!(!machine.is_open(9));
    assert!(machine.take_all(&irqs).is_empty());
    // Still asserted at the end: it comes again. Not any more: it does not.
    irqs.end(0, 9).unwrap();
    assert_eq!(machine.take_all(&irqs).len(), 1);
    assert_eq!(machine.raised(), [(0, 9)]);
    machine.drive(9, false);
    irqs.end(0, 9).unwrap();
    assert!(machine.is_open(9));
    assert!(machine.take_all(&irqs).is_empty());
}

#[test]
fn an_end_without_an_interrupt_changes_nothing() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    let before = machine.low(9);
    irqs.end(0, 9).unwrap();
    assert_eq!(machine.low(9), before);
    assert_eq!(irqs.end(0, 10), Err(Errno::EINVAL));
    assert_eq!(irqs.end(0, u32::MAX), Err(Errno::EINVAL));
    assert_eq!(irqs.end(7, 9), Err(Errno::EINVAL));
}

#[test]
fn a_shared_level_line_waits_for_all_domains() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 20);
    let pirq = irqs.map(7, Numbering::Free, 20, None).unwrap();
    irqs.bind_line((7, pirq), PirqSharing::Shared, 1).unwrap();
    assert!(irqs.status(7, pirq).unwrap().shared);
    machine.drive(20, true);
    machine.take_all(&irqs);
    assert_eq!(machine.raised(), [(0, 20), (7, pirq)]);
    irqs.end(7, pirq).unwrap();
    assert!(!machine.is_open(20));
    machine.drive(20, false);
    irqs.end(0, 20).unwrap();
    assert!(machine.is_open(20));
    // One that goes owes nothing any more.
    machine.drive(20, true);
    machine.take_all(&irqs);
    irqs.end(0, 20).unwrap();
    irqs.unbind_line(7, pirq);
    assert!(machine.is_open(20));
}

#[test]
fn an_exclusive_line_is_not_shared() {
    let (_, irqs) = Machine::start(Setup::default());
    let pirq = irqs.map(7, Numbering::Free, 20, None).unwrap();
    irqs.map(0, Numbering::Identity, 20, None).unwrap();
    let both = [PirqSharing::Exclusive, PirqSharing::Shared];
    for (first, second) in [(both[0], both[1]), (both[1], both[0])] {
        irqs.bind_line((0, 20), first, 0).unwrap();
        assert_eq!(irqs.bind_line((7, pirq), second, 0), Err(Errno::EBUSY));
        irqs.unbind_line(0, 20);
    }
    irqs.bind_line((7, pirq), both[0], 0).unwrap();
}

#[test]
fn unbinding_masks_and_a_late_interrupt_harms_nobody() {
    let (machine, irqs) = Machine::start(Setup::default());
    for gsi in [1, 9] {
        bind(&irqs, gsi);
        machine.drive(gsi as usize, true);
        irqs.unbind_line(0, gsi);
        assert!(!machine.is_open(gsi as usize));
        assert_eq!(machine.take_all(&irqs), [Arrival::Unwanted]);
        assert_eq!(machine.raised(), NOBODY);
    }
    // The line works again afterwards, although it was asserted all the time.
    irqs.bind_line((0, 9), PirqSharing::Shared, 0).unwrap();
    machine.take_all(&irqs);
    assert_eq!(machine.raised(), [(0, 9)]);
}

#[test]
fn unbinding_in_flight_and_binding_again_delivers() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    machine.drive(9, true);
    // Bound again before the first interrupt is taken: its end must still reach the I/O APIC.
    irqs.unbind_line(0, 9);
    irqs.bind_line((0, 9), PirqSharing::Exclusive, 2).unwrap();
    for _ in 0..3 {
        machine.take_all(&irqs);
        assert_eq!(machine.raised(), [(0, 9)]);
        irqs.end(0, 9).unwrap();
    }
}

#[test]
fn a_foreign_vector_is_ended_and_ignored() {
    let (machine, irqs) = Machine::start(Setup::default());
    for vector in [0x21, 0x80, 0xef, 0xff] {
        machine.inject(1, vector);
        assert_eq!(machine.take(&irqs, 1), Some(Arrival::Unwanted));
    }
    assert_eq!(machine.raised(), NOBODY);
}

#[test]
fn a_cpu_that_stops_loses_its_interrupts() {
    use std::sync::atomic::Ordering::Relaxed;
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    bind(&irqs, 20);
    irqs.claim(4, "test", 2).unwrap();
    irqs.route_line(0, 1, 2);
    irqs.route_line(0, 20, 3);
    // One is on its way.
    machine.pulse(1);
    machine.stopping.store(2, Relaxed);
    irqs.evacuate(2);
    assert_eq!([1, 4, 20].map(|i| machine.destination(i)), [0, 0, 6]);
    assert_eq!(machine.take(&irqs, 2), Some(Arrival::Guests));
    // Nothing is sent there any more, whoever wants it.
    irqs.route_line(0, 20, 2);
    assert_eq!(machine.destination(20), 0);
    machine.stopping.store(u32::MAX, Relaxed);
    irqs.route_line(0, 20, 2);
    assert_eq!(machine.destination(20), 4);
}

#[test]
fn an_interrupt_follows_its_vcpu() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    for (cpu, apic_id) in [(3, 6), (1, 2), (4, 0), (5, 0), (1, 2), (99, 0)] {
        irqs.route_line(0, 1, cpu);
        assert_eq!(machine.destination(1), apic_id);
        assert!(machine.is_open(1));
        machine.pulse(1);
        assert!(machine.take(&irqs, apic_id as usize / 2).is_some());
    }
    assert_eq!(machine.raised().len(), 6);
    // Numbers that are not its own move nothing.
    irqs.route_line(3, 1, 3);
    irqs.route_line(0, 7, 3);
    assert_eq!(machine.destination(1), 0);
}

#[test]
fn lines_of_ours_are_not_for_domains() {
    let (machine, irqs) = Machine::start(Setup::default());
    irqs.keep(irqs.gsi_of_isa(0), "PIT").unwrap();
    let vector = irqs.claim(4, "serial console", 0).unwrap();
    assert_eq!(machine.low(4), u32::from(vector), "edge, high, open");
    for gsi in [2, 4] {
        irqs.map(0, Numbering::Identity, gsi, Some(gsi)).unwrap();
        let bound = irqs.bind_line((0, gsi), PirqSharing::Shared, 0);
        assert_eq!(bound, Err(Errno::EBUSY));
        assert_eq!(irqs.set_up(gsi, LineMode::ISA), Err(Errno::EEXIST));
        irqs.end(0, gsi).unwrap();
        irqs.unbind_line(0, gsi);
    }
    assert!(!machine.is_open(2));
    machine.pulse(4);
    assert_eq!(machine.take_all(&irqs), [Arrival::Ours { gsi: 4 }]);
    irqs.end_ours(4);
    assert!(machine.is_open(4));
    assert_eq!(irqs.claim(2, "again", 0), Ok(0x40));
    bind(&irqs, 1);
    assert_eq!(irqs.claim(1, "keyboard", 0), Err(Errno::EBUSY));
    assert_eq!(irqs.keep(1, "keyboard"), Err(Errno::EBUSY));
}

#[test]
fn a_level_line_of_ours_waits_for_its_driver() {
    let (machine, irqs) = Machine::start(Setup::default());
    irqs.claim(17, "serial console", 0).unwrap();
    machine.drive(17, true);
    assert_eq!(machine.take_all(&irqs), [Arrival::Ours { gsi: 17 }]);
    assert!(!machine.is_open(17));
    machine.drive(17, false);
    irqs.end_ours(17);
    assert!(machine.is_open(17));
}

#[test]
fn a_storm_is_put_to_rest_and_ends() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    bind(&irqs, 9);
    for _ in 0..=pirqs::STORM_LIMIT {
        machine.pulse(1);
        machine.take_all(&irqs);
    }
    assert!(!machine.is_open(1));
    assert_eq!(machine.raised().len() as u32, pirqs::STORM_LIMIT + 1);
    let end = irqs.next_storm_end().unwrap();
    irqs.end_storms();
    assert!(!machine.is_open(1));
    // A level line at its end of interrupt stays masked as well.
    machine.drive(9, true);
    while machine.is_open(9) {
        machine.take_all(&irqs);
        irqs.end(0, 9).unwrap();
    }
    machine.raised();
    machine.pass(end);
    irqs.end_storms();
    assert!(machine.is_open(1) && machine.is_open(9));
    assert_eq!(irqs.next_storm_end(), None);
    assert_eq!(machine.raised(), [(0, 1)], "it may have missed an edge");
    machine.take_all(&irqs);
    assert_eq!(machine.raised(), [(0, 9)]);
}

#[test]
fn what_is_a_storm_can_be_chosen() {
    for (limit, open) in [(3, false), (4, true), (0, true)] {
        let (machine, irqs) = Machine::start(Setup::default());
        let irqs = irqs.with_storm_limit(limit);
        bind(&irqs, 1);
        for _ in 0..4 {
            machine.pulse(1);
            machine.take_all(&irqs);
        }
        assert_eq!(machine.is_open(1), open, "limit {limit}");
    }
}

#[test]
fn a_busy_line_is_no_storm() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    for _ in 0..10 * pirqs::STORM_LIMIT {
        machine.pass(6_000);
        machine.pulse(1);
        machine.take_all(&irqs);
        assert!(machine.is_open(1));
    }
}

#[test]
fn a_storm_of_an_unbound_line_does_not_open_it() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 1);
    for _ in 0..=pirqs::STORM_LIMIT {
        machine.pulse(1);
        machine.take_all(&irqs);
    }
    irqs.unbind_line(0, 1);
    machine.raised();
    machine.pass(1 << 40);
    irqs.end_storms();
    assert!(!machine.is_open(1));
    assert_eq!(machine.raised(), NOBODY);
}

#[test]
fn the_dump_names_lines_in_use() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    irqs.claim(4, "serial console", 0).unwrap();
    machine.drive(9, true);
    machine.take_all(&irqs);
    let mut text = String::new();
    irqs.dump(&mut text).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.contains("d0 pirq 9 (to be ended)"), "{text}");
    assert!(text.contains("ours: serial console"), "{text}");
}
