//! Port permissions and the shared pairs, against a bus that records.

use std::cell::RefCell;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Default)]
struct Bus {
    log: RefCell<Vec<(char, u16, u16, u32)>>,
}

impl PortBus for Bus {
    fn port_in(&self, port: u16, width: Width) -> u32 {
        self.log.borrow_mut().push(('i', port, width.bytes(), 0));
        0x5a5a_5a5a & width.mask()
    }
    fn port_out(&self, port: u16, width: Width, value: u32) {
        self.log
            .borrow_mut()
            .push(('o', port, width.bytes(), value));
    }
}

impl Bus {
    fn taken(&self) -> Vec<(char, u16, u16, u32)> {
        self.log.take()
    }
}

fn control() -> (PortMap, SharedPorts, Bus) {
    (
        PortMap::new(Rights::Control),
        SharedPorts::new(),
        Bus::default(),
    )
}

#[test]
fn a_guest_reads_ones_and_its_writes_are_dropped() {
    let (map, shared, bus) = (
        PortMap::new(Rights::Guest),
        SharedPorts::new(),
        Bus::default(),
    );
    for port in [0, 0x21, 0x42, 0x61, 0x70, 0x71, 0xcfc, 0x3f8, 0xffff] {
        assert_eq!(map.read(&bus, &shared, port, Width::Byte), 0xff);
        assert_eq!(map.read(&bus, &shared, port, Width::Dword), 0xffff_ffff);
        map.write(&bus, &shared, port, Width::Word, 0x1234);
    }
    map.write(&bus, &shared, 0xcf8, Width::Dword, 0x8000_0000);
    assert_eq!(map.read(&bus, &shared, 0xcf8, Width::Dword), 0x8000_0000);
    assert_eq!(map.read(&bus, &shared, 0xcfc, Width::Dword), 0xffff_ffff);
    assert!(bus.taken().is_empty());
}

#[test]
fn the_control_domain_does_not_reach_what_we_drive() {
    let (map, shared, bus) = control();
    for port in [0x20, 0x21, 0xa0, 0xa1, 0x40, 0x41, 0x22] {
        assert_eq!(map.read(&bus, &shared, port, Width::Byte), 0xff);
        map.write(&bus, &shared, port, Width::Byte, 0);
    }
    map.write(&bus, &shared, 0x4d0, Width::Byte, 0xff);
    assert!(bus.taken().is_empty());
    map.deny(0x3f8, 0x3ff).expect("one hole more");
    map.write(&bus, &shared, 0x3fd, Width::Byte, 1);
    map.write(&bus, &shared, 0x2f8, Width::Byte, 1);
    map.read(&bus, &shared, 0x4d1, Width::Byte);
    assert_eq!(bus.taken(), [('o', 0x2f8, 1, 1), ('i', 0x4d1, 1, 0)]);
}

#[test]
fn a_wide_access_over_a_border_is_split() {
    let (map, shared, bus) = control();
    assert_eq!(map.read(&bus, &shared, 0x1f, Width::Word), 0xff5a);
    map.write(&bus, &shared, 0x41, Width::Word, 0xabcd);
    assert_eq!(bus.taken(), [('i', 0x1f, 1, 0), ('o', 0x42, 1, 0xab)]);
    assert_eq!(map.read(&bus, &shared, 0xffff, Width::Word), 0xff5a);
}

#[test]
fn only_counter_2_of_the_pit_is_commanded() {
    let (map, shared, bus) = control();
    for command in [0x34, 0x74, 0xb0, 0xc2, 0xce, 0x80] {
        map.write(&bus, &shared, 0x43, Width::Byte, command);
    }
    assert_eq!(
        bus.taken(),
        [
            ('o', 0x43, 1, 0xb0),
            ('o', 0x43, 1, 0xc8),
            ('o', 0x43, 1, 0x80)
        ]
    );
}

#[test]
fn configuration_cycles_carry_the_domains_own_address() {
    let (map, shared, bus) = control();
    map.write(&bus, &shared, 0xcfb, Width::Byte, 1);
    map.write(&bus, &shared, 0xcf8, Width::Dword, 0x8000_0843);
    assert!(bus.taken().is_empty());
    assert_eq!(map.read(&bus, &shared, 0xcfe, Width::Word), 0x5a5a);
    map.write(&bus, &shared, 0xcfc, Width::Dword, 7);
    assert_eq!(
        bus.taken(),
        [
            ('o', 0xcf8, 4, 0x8000_0840),
            ('i', 0xcfe, 2, 0),
            ('o', 0xcf8, 4, 0x8000_0840),
            ('o', 0xcfc, 4, 7)
        ]
    );
    map.write(&bus, &shared, 0xcf8, Width::Dword, 0);
    assert_eq!(map.read(&bus, &shared, 0xcfc, Width::Dword), 0xffff_ffff);
    // Across the end of the data port: no cycle.
    assert_eq!(map.read(&bus, &shared, 0xcff, Width::Word) & 0xff, 0xff);
    map.write(&bus, &shared, 0xcf9, Width::Byte, 6);
    assert_eq!(bus.taken(), [('i', 0xd00, 1, 0), ('o', 0xcf9, 1, 6)]);
}

#[test]
fn cmos_accesses_select_the_register_each_time() {
    let (map, shared, bus) = control();
    map.write(&bus, &shared, 0x70, Width::Byte, 0x8f);
    assert_eq!(map.read(&bus, &shared, 0x70, Width::Byte), 0x8f);
    assert_eq!(map.read(&bus, &shared, 0x71, Width::Byte), 0x5a);
    map.write(&bus, &shared, 0x70, Width::Word, 0x0a0b);
    assert_eq!(
        bus.taken(),
        [
            ('o', 0x70, 1, 0xf),
            ('i', 0x71, 1, 0),
            ('o', 0x70, 1, 0xb),
            ('o', 0x71, 1, 0xa)
        ]
    );
}

proptest! {
    #[test]
    fn ranges_behave_as_a_set(steps in prop::collection::vec((any::<bool>(), 0u16..300, 0u16..40), 0..40)) {
        let map = PortMap::new(Rights::Guest);
        let mut model = BTreeSet::new();
        for (add, first, length) in steps {
            let last = first + length;
            if add {
                if map.permit(first, last).is_ok() { model.extend(first..=last); }
            } else if map.deny(first, last).is_ok() {
                model.retain(|p| !(first..=last).contains(p));
            }
        }
        for port in 0..400 {
            prop_assert_eq!(map.permits(port, port), model.contains(&port));
            prop_assert_eq!(map.permits(port, port + 3), (port..=port + 3).all(|p| model.contains(&p)));
        }
    }
}
