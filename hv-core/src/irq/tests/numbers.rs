//! The numbers of domains.

use super::*;

#[test]
fn dom0_has_lines_under_their_gsi() {
    let (_, irqs) = Machine::start(Setup::default());
    let map = |gsi, wanted| irqs.map(0, Numbering::Identity, gsi, wanted);
    assert_eq!(map(9, Some(9)), Ok(9));
    assert_eq!(map(9, Some(9)), Ok(9), "done before");
    assert_eq!(map(9, None), Ok(9));
    assert_eq!(map(10, None), Ok(10));
    assert_eq!(map(11, Some(12)), Err(Errno::EINVAL));
    assert_eq!(map(11, Some(30)), Ok(30));
    assert_eq!(map(12, Some(30)), Err(Errno::EEXIST));
    assert_eq!(map(11, Some(11)), Err(Errno::EEXIST));
}

#[test]
fn hostile_numbers_are_refused() {
    let (_, irqs) = Machine::start(Setup::default());
    for numbering in [Numbering::Identity, Numbering::Free] {
        let map = |gsi, wanted| irqs.map(5, numbering, gsi, wanted);
        for gsi in [24, 25, 1024, i32::MAX as u32, u32::MAX] {
            assert_eq!(map(gsi, None), Err(Errno::EINVAL));
        }
        for wanted in [64, 65, 0x8000, i32::MAX as u32, u32::MAX] {
            assert_eq!(map(9, Some(wanted)), Err(Errno::EINVAL));
        }
    }
    for pirq in [0, 23, 24, 63, 64, u32::MAX] {
        let bound = irqs.bind_line((5, pirq), PirqSharing::Shared, 0);
        assert_eq!(bound, Err(Errno::EPERM));
        assert_eq!(irqs.status(5, pirq), Err(Errno::EINVAL));
        assert_eq!(irqs.unmap(5, pirq), Err(Errno::EINVAL));
        irqs.unbind_line(5, pirq);
        irqs.route_line(5, pirq, u32::MAX);
    }
}

#[test]
fn a_domain_binds_only_what_is_its_own() {
    let (_, irqs) = Machine::start(Setup::default());
    let pirq = irqs.map(7, Numbering::Free, 20, None).unwrap();
    let other = irqs.bind_line((8, pirq), PirqSharing::Shared, 0);
    assert_eq!(other, Err(Errno::EPERM));
    irqs.bind_line((7, pirq), PirqSharing::Shared, 0).unwrap();
    let twice = irqs.bind_line((7, pirq), PirqSharing::Shared, 0);
    assert_eq!(twice, Err(Errno::EBUSY));
}

#[test]
fn a_number_taken_back_stops_delivery() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    machine.drive(9, true);
    machine.take_all(&irqs);
    machine.raised();
    irqs.unmap(0, 9).unwrap();
    assert!(!machine.is_open(9));
    assert_eq!(irqs.end(0, 9), Err(Errno::EINVAL));
    // The port is closed later: nothing is left to unbind.
    irqs.unbind_line(0, 9);
    assert_eq!(irqs.unmap(0, 9), Err(Errno::EINVAL));
}

#[test]
fn reserved_numbers_are_above_the_lines_and_run_out() {
    let (_, irqs) = Machine::start(Setup::default());
    let numbers: Vec<_> = (0..40).map(|_| irqs.reserve(0).unwrap()).collect();
    assert_eq!(numbers, (24..64).collect::<Vec<_>>());
    assert_eq!(irqs.reserve(0), Err(Errno::ENOSPC));
    assert_eq!(irqs.unmap(0, 30), Ok(()));
    assert_eq!(irqs.reserve(0), Ok(30));
    assert_eq!(irqs.map(0, Numbering::Identity, 9, Some(30)), Ok(30));
    assert_eq!(irqs.reserve(1), Ok(24), "each domain has its own");
}

#[test]
fn a_dead_domain_leaves_nothing() {
    let (machine, irqs) = Machine::start(Setup::default());
    bind(&irqs, 9);
    bind(&irqs, 1);
    machine.drive(9, true);
    machine.take_all(&irqs);
    irqs.forget(0);
    assert!(!machine.is_open(9) && !machine.is_open(1));
    assert_eq!(irqs.status(0, 9), Err(Errno::EINVAL));
    machine.raised();
    // Another domain gets the line in working order.
    let pirq = irqs.map(3, Numbering::Free, 9, None).unwrap();
    irqs.bind_line((3, pirq), PirqSharing::Exclusive, 0)
        .unwrap();
    machine.take_all(&irqs);
    assert_eq!(machine.raised(), [(3, pirq)]);
}
