//! Ways to reset the machine, and the order in which they are tried (`reboot=`).

use super::acpi::{ResetRegister, SpaceId};
use crate::base::PhysAddr;

/// A way to reset the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// The firmware's runtime service.
    Efi,
    /// The reset register that the FADT names.
    Acpi,
    /// The keyboard controller's pulse.
    Keyboard,
    /// The reset control register of PC chipsets, port 0xcf9.
    Pci,
    /// An exception that cannot be handled.
    Triple,
}

impl Method {
    /// All, in the order in which they are tried unless another one is asked for. The last never fails.
    pub const ALL: [Self; 5] = [
        Self::Efi,
        Self::Acpi,
        Self::Keyboard,
        Self::Pci,
        Self::Triple,
    ];

    /// What it is called on the console.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Efi => "EFI",
            Self::Acpi => "the ACPI reset register",
            Self::Keyboard => "the keyboard controller",
            Self::Pci => "port 0xcf9",
            Self::Triple => "triple fault",
        }
    }
}

/// What `reboot=` asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// What is tried first.
    pub first: Option<Method>,
    /// Whether the firmware may skip its tests of memory.
    pub warm: bool,
    /// `no`: stay after a crash.
    pub stay: bool,
}

impl Plan {
    /// Parses the option: like Xen, by the first letter of each word in the list. `None` for an unknown one.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut plan = Self::default();
        for word in value.split(',') {
            match word.as_bytes().first()? {
                b'n' => plan.stay = true,
                b'w' => plan.warm = true,
                b'c' => plan.warm = false,
                b'e' => plan.first = Some(Method::Efi),
                b'a' => plan.first = Some(Method::Acpi),
                b'k' => plan.first = Some(Method::Keyboard),
                b'p' | b'P' => plan.first = Some(Method::Pci),
                b't' => plan.first = Some(Method::Triple),
                _ => return None,
            }
        }
        Some(plan)
    }

    /// The ways in the order in which they are tried; a triple fault comes last or first.
    pub fn order(self) -> impl Iterator<Item = Method> {
        let first = self.first;
        let others = Method::ALL.into_iter().filter(move |m| Some(*m) != first);
        first.into_iter().chain(others)
    }

    /// What goes into port 0xcf9: a reset of the CPU, of everything when cold.
    #[must_use]
    pub const fn chipset_value(self) -> u8 {
        if self.warm { 0x06 } else { 0x0e }
    }
}

/// Where the FADT's reset register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResetAt {
    /// A port.
    Port(u16),
    /// An address of memory.
    Memory(PhysAddr),
    /// In PCI configuration space of bus 0: what the address port takes, and the byte at the data port.
    Pci(u32, u8),
}

impl ResetAt {
    /// The place, if the register is one that can be (ACPI 4.8.3.6: one byte, in one of three spaces).
    #[must_use]
    pub fn of(reset: &ResetRegister) -> Option<Self> {
        let at = reset.register.address;
        if reset.register.bits != 8 || reset.register.bit_offset != 0 {
            return None;
        }
        match reset.register.space {
            SpaceId::Io => u16::try_from(at).ok().map(Self::Port),
            SpaceId::Memory => Some(Self::Memory(PhysAddr(at))),
            SpaceId::PciConfig => {
                let [device, function, offset] =
                    [at >> 32 & 0xffff, at >> 16 & 0xffff, at & 0xffff];
                if at >> 48 != 0 || device > 31 || function > 7 || offset > 255 {
                    return None;
                }
                let address = 1 << 31 | device << 11 | function << 8 | offset & 0xfc;
                Some(Self::Pci(address as u32, (offset & 3) as u8))
            }
            SpaceId::Other(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::acpi::GenericAddress;

    #[test]
    fn words_of_the_option() {
        let plan = |first, warm, stay| Some(Plan { first, warm, stay });
        assert_eq!(Plan::parse("acpi"), plan(Some(Method::Acpi), false, false));
        assert_eq!(
            Plan::parse("k,w"),
            plan(Some(Method::Keyboard), true, false)
        );
        assert_eq!(
            Plan::parse("warm,c,pci"),
            plan(Some(Method::Pci), false, false)
        );
        assert_eq!(Plan::parse("no"), plan(None, false, true));
        assert_eq!(
            Plan::parse("n,triple"),
            plan(Some(Method::Triple), false, true)
        );
        assert_eq!(Plan::parse("efi"), plan(Some(Method::Efi), false, false));
        for bad in ["", "x", "acpi,", "1"] {
            assert_eq!(Plan::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn each_way_is_tried_once_and_the_wanted_one_first() {
        for first in Method::ALL.into_iter().map(Some).chain([None]) {
            let plan = Plan {
                first,
                ..Plan::default()
            };
            let order: Vec<_> = plan.order().collect();
            assert_eq!(order.len(), Method::ALL.len());
            assert_eq!(order[0], first.unwrap_or(Method::Efi));
            assert!(Method::ALL.iter().all(|m| order.contains(m)));
        }
    }

    #[test]
    fn registers_of_every_space() {
        let at = |space, bits, address| {
            ResetAt::of(&ResetRegister {
                register: GenericAddress {
                    space,
                    bits,
                    bit_offset: 0,
                    address,
                },
                value: 6,
            })
        };
        assert_eq!(at(SpaceId::Io, 8, 0xcf9), Some(ResetAt::Port(0xcf9)));
        assert_eq!(at(SpaceId::Io, 8, 0x1_0cf9), None);
        assert_eq!(at(SpaceId::Io, 16, 0xcf9), None);
        let memory = at(SpaceId::Memory, 8, 0xfed0_0003);
        assert_eq!(memory, Some(ResetAt::Memory(PhysAddr(0xfed0_0003))));
        let pci = at(SpaceId::PciConfig, 8, 0x0000_001f_0003_00ae);
        assert_eq!(pci, Some(ResetAt::Pci(0x8000_fbac, 2)));
        for bad in [0x0000_0020_0000_0000, 0x8_0000, 0x100, 1 << 48] {
            assert_eq!(at(SpaceId::PciConfig, 8, bad), None);
        }
        assert_eq!(at(SpaceId::Other(9), 8, 1), None);
    }
}
