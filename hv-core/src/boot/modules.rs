//! Whether the files that the loader left can be where it says they are.
//!
//! Everything later relies on it: a module is read through the direct map, its memory is kept from
//! the allocator, the initrd's pages become dom0's own and the rest is freed. Two that share a page,
//! or one that lies over our image, would be given away twice.

use core::fmt;
use core::ops::Range;

use super::info::Module;
use super::memmap::{MemoryMap, RegionKind};
use crate::base::PAGE_SIZE;

/// Why the modules cannot be used. Modules count from 1: the kernel, then the initrd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleError {
    /// This module is not all in RAM of the memory map.
    OutsideRam(usize),
    /// This module and the hypervisor's image share memory.
    OverImage(usize),
    /// These two modules share a page.
    Overlap(usize, usize),
    /// The initrd does not begin on a page, so that it cannot be given to dom0 in place.
    Unaligned(usize),
}

impl fmt::Display for ModuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OutsideRam(module) => {
                write!(f, "module {module} is not all in the RAM of the memory map")
            }
            Self::OverImage(module) => {
                write!(f, "module {module} and the hypervisor's image overlap")
            }
            Self::Overlap(one, other) => write!(f, "modules {one} and {other} overlap"),
            Self::Unaligned(module) => write!(
                f,
                "module {module}, the initrd, does not begin on a page of its own"
            ),
        }
    }
}

/// Checks the places of all modules; `image` is where we are ourselves. Modules of no bytes are
/// nowhere and pass.
///
/// # Errors
/// The first thing wrong, in words.
pub fn check_modules(
    modules: &[Module],
    memory: &MemoryMap,
    image: Range<u64>,
) -> Result<(), ModuleError> {
    let pages = |module: &Module| {
        let page = PAGE_SIZE as u64;
        module.start.0 / page..module.start.0.saturating_add(module.len).div_ceil(page)
    };
    let filled = || (1..).zip(modules).filter(|(_, module)| module.len != 0);
    for (number, module) in filled() {
        if !is_ram(memory, module) {
            return Err(ModuleError::OutsideRam(number));
        }
        let end = module.start.0 + module.len;
        if module.start.0 < image.end && image.start < end {
            return Err(ModuleError::OverImage(number));
        }
        let here = pages(module);
        let shares = |(_, other): &(usize, &Module)| {
            let there = pages(other);
            here.start < there.end && there.start < here.end
        };
        if let Some((earlier, _)) = filled().take_while(|(n, _)| *n < number).find(shares) {
            return Err(ModuleError::Overlap(earlier, number));
        }
        if number == INITRD && !module.start.0.is_multiple_of(PAGE_SIZE as u64) {
            return Err(ModuleError::Unaligned(number));
        }
    }
    Ok(())
}

/// The module that dom0 gets in place.
const INITRD: usize = 2;

/// Whether one region of usable RAM holds the whole module; the map joins neighbours.
fn is_ram(memory: &MemoryMap, module: &Module) -> bool {
    let Some(end) = module.start.0.checked_add(module.len) else {
        return false;
    };
    memory.regions().iter().any(|region| {
        region.kind == RegionKind::Usable && region.base.0 <= module.start.0 && end <= region.end()
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    use super::*;
    use crate::base::PhysAddr;
    use crate::boot::memmap::MemRegion;
    use proptest::prelude::*;

    const IMAGE: Range<u64> = 0x20_0000..0x40_0000;

    /// RAM from 1 MiB to 64 MiB with a reserved page at 32 MiB.
    fn memory() -> MemoryMap {
        let region = |base, len, kind| MemRegion {
            base: PhysAddr(base),
            len,
            kind,
        };
        let entries = [
            region(0x10_0000, 0x3f0_0000, RegionKind::Usable),
            region(0x200_0000, 0x1000, RegionKind::Reserved),
        ];
        MemoryMap::new(&entries, 1 << 36).0
    }

    fn check(places: &[(u64, u64)]) -> Result<(), ModuleError> {
        let modules: Vec<_> = places
            .iter()
            .map(|&(start, len)| Module {
                start: PhysAddr(start),
                len,
                command_line: String::new(),
            })
            .collect();
        check_modules(&modules, &memory(), IMAGE)
    }

    #[test]
    fn neighbours_and_empty_modules_pass() {
        assert_eq!(check(&[]), Ok(()));
        let places = [(0x40_0000, 0x1234), (0x40_2000, 0x5000), (0x10_0010, 0x10)];
        assert_eq!(check(&places), Ok(()));
        assert_eq!(check(&[(0, 0), (0x40_0000, 1), (0x40_0000, 0)]), Ok(()));
        assert_eq!(check(&[(0x1f_f000, 0x1000)]), Ok(()));
    }

    #[test]
    fn an_initrd_over_the_kernel_is_refused_in_words() {
        let wrong = check(&[(0x40_0000, 0x10_0000), (0x4f_f000, 0x1000)]).unwrap_err();
        assert_eq!(wrong.to_string(), "modules 1 and 2 overlap");
        // One byte each, but the initrd's page goes to dom0 with the kernel's byte in it.
        let shared_page = [(0x40_1800, 1), (0x40_1000, 1)];
        assert_eq!(check(&shared_page), Err(ModuleError::Overlap(1, 2)));
        let inside = [(0x50_0000, 1), (0x40_0000, 0x2000), (0x40_1000, 1)];
        assert_eq!(check(&inside), Err(ModuleError::Overlap(2, 3)));
    }

    #[test]
    fn a_module_over_the_image_is_refused_in_words() {
        for start in [0x1f_f800, 0x20_0000, 0x3f_ffff] {
            let wrong = check(&[(start, 0x1000)]).unwrap_err();
            assert_eq!(
                wrong.to_string(),
                "module 1 and the hypervisor's image overlap"
            );
        }
    }

    #[test]
    fn a_module_outside_ram_is_refused_in_words() {
        for (start, len) in [
            (0xf_f000, 0x2000),
            (0x1ff_f000, 0x1001),
            (0x3ff_f000, 0x1001),
            (0xfee0_0000, 0x1000),
            (u64::MAX, 2),
        ] {
            let wrong = check(&[(start, len)]).unwrap_err();
            let words = "module 1 is not all in the RAM of the memory map";
            assert_eq!(wrong.to_string(), words);
        }
    }

    #[test]
    fn only_the_initrd_must_begin_on_a_page() {
        assert_eq!(check(&[(0x40_0004, 4)]), Ok(()));
        let wrong = check(&[(0x40_0000, 4), (0x40_1004, 4)]).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "module 2, the initrd, does not begin on a page of its own"
        );
    }

    proptest! {
        #[test]
        fn modules_that_pass_share_no_page_with_anything(
            places in proptest::collection::vec((0x20_0000_u64..0x60_0000, 0_u64..0x8_0000), 0..5)
        ) {
            if check(&places) == Ok(()) {
                let mut taken = std::collections::BTreeSet::new();
                for (start, len) in places.iter().filter(|place| place.1 != 0) {
                    prop_assert!(start + len <= IMAGE.start || *start >= IMAGE.end);
                    for page in start / 0x1000..(start + len).div_ceil(0x1000) {
                        prop_assert!(taken.insert(page));
                    }
                }
            }
        }
    }
}
