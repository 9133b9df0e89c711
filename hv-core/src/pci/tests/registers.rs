//! Capabilities and BARs of hostile functions.

use proptest::prelude::*;

use super::*;
use crate::pci::msi::Msi;
use crate::pci::msix::{Msix, bar_base, bar_size};

#[test]
fn a_list_of_capabilities_that_is_a_loop_ends() {
    let mut function = Function::plain().with_msi(0x50, 0).with_msix(0x70, 4, 0);
    // 0x70 -> 0x50 -> 0x50: never MSI-X behind it.
    function.space[0x51] = 0x50;
    function.space[0x70] = 9;
    let bus = Bus::with(function);
    assert_eq!(capability::find(bus, DEVICE, 0x11, 12), None);
    assert_eq!(capability::find(bus, DEVICE, 5, 10), Some(0x50));
}

#[test]
fn a_capability_that_ends_outside_is_none() {
    let mut function = Function::plain();
    function.link(0xf8, 0x11);
    let bus = Bus::with(function);
    assert_eq!(Msix::find(bus, DEVICE), None);
    let mut function = Function::plain();
    function.link(0xf0, 5);
    function.space[0xf2] = 0x80;
    let bus = Bus::with(function.clone());
    // 14 bytes fit, those with mask bits would not.
    assert_eq!(Msi::find(bus, DEVICE).unwrap().size(), 14);
    function.space[0xf3] = 1;
    let bus = Bus::with(function);
    assert_eq!(Msi::find(bus, DEVICE), None);
}

#[test]
fn bars_are_measured_and_left_as_they_were() {
    let mut function =
        Function::plain()
            .with_bar(0, 0xfeb0_0000, 0x4000)
            .with_bar(1, 0xc000_000c, 0x100_0000);
    function.put(0x18, 0x12);
    function.writable[0x18..0x1c].fill(0xff);
    function.put(0x1c, 0xe001);
    function.writable[0x1c] = 0xf0;
    let before = function.space;
    let bus = Bus::with(function);
    let base = |index| bar_base(bus, DEVICE, index).map(|b| b.0);
    assert_eq!(base(0), Some(0xfeb0_0000));
    assert_eq!(base(1), Some(0x12_c000_0000));
    assert_eq!(base(3), None, "I/O ports");
    assert_eq!(base(4), Some(0));
    assert_eq!(base(6), None);
    assert_eq!(bar_size(bus, DEVICE, 0), 0x4000);
    assert_eq!(bar_size(bus, DEVICE, 1), 0x100_0000);
    assert_eq!(bar_size(bus, DEVICE, 3), 0);
    assert_eq!(bar_size(bus, DEVICE, 4), 0);
    assert_eq!(bus.function(DEVICE).space, before);
    // Nobody there.
    assert_eq!(bar_base(bus, PciAddress { bus: 9, ..DEVICE }, 0), None);
}

proptest! {
    #[test]
    fn no_configuration_space_does_harm(
        space in prop::collection::vec(any::<u8>(), 256), writable in any::<u8>(), index in 0..8_u8,
    ) {
        let bus = Bus::with(Function {
            space: space.try_into().unwrap(),
            writable: [writable; 256],
        });
        let _ = (bar_base(bus, DEVICE, index), bar_size(bus, DEVICE, index));
        if let Some(msi) = Msi::find(bus, DEVICE) {
            prop_assert!(msi.capability >= 0x40 && msi.capability + msi.size() <= 0x100);
            prop_assert!(msi.messages.is_power_of_two() && msi.messages <= 32);
        }
        if let Some(msix) = Msix::find(bus, DEVICE) {
            prop_assert!((1..=2048).contains(&msix.entries));
        }
    }
}
