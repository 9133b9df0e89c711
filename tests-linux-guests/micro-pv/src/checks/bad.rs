//! Addresses and frames that every hypercall must refuse.

use xen_abi::arch_x86::{HYPERVISOR_VIRT_START, MACH2PHYS_VIRT_START};
use xen_abi::hypercall::__HYPERVISOR_memory_op;
use xen_abi::memory::XENMEM_maximum_ram_page;

use crate::call::hypercall;
use crate::memory::{self, FRAME_MASK, PAGE};
use crate::tables::{self, PRESENT};

/// Addresses that must not be read or written for us.
pub const POINTERS: &[(&str, u64)] = &[
    ("null", 0),
    ("unmapped", 0x7f00_0000_0000),
    ("end of the low half", 0x7fff_ffff_fffc),
    ("non-canonical", 0x0000_8000_0000_0000),
    ("non-canonical high", 0xffff_7fff_ffff_fff8),
    ("all ones", u64::MAX),
    ("machine-to-physical table", MACH2PHYS_VIRT_START),
    ("hypervisor", HYPERVISOR_VIRT_START + 0x2d0_4020_0000),
    ("direct map", 0xffff_8300_0010_0000),
    ("last hypervisor page", 0xffff_87ff_ffff_f000),
];

/// First machine frame number behind all RAM.
pub fn beyond_ram() -> u64 {
    hypercall(__HYPERVISOR_memory_op, [XENMEM_maximum_ram_page.into(), 0]) as u64 + 1
}

/// A frame of the hypervisor's own: one of the tables that it hangs into our L4.
pub fn hypervisor_frame() -> u64 {
    let entries = (256..272).map(|slot| memory::read::<u64>(tables::root() + slot * 8));
    let present = |entry: &u64| entry & PRESENT != 0;
    entries
        .into_iter()
        .find(present)
        .map_or(1, |entry| (entry & FRAME_MASK) / PAGE)
}

/// Machine frames that we do not own, with names.
pub fn frames() -> [(&'static str, u64); 5] {
    [
        ("the hypervisor's", hypervisor_frame()),
        ("behind RAM", beyond_ram()),
        ("far behind RAM", 0xf_ffff_ffff),
        ("40 bits", 0xff_ffff_ffff),
        ("all ones", u64::MAX),
    ]
}
