//! A guest's CPUID: its policy, what changes while it runs, and the leaves by which it finds us.

use xen_abi::cpuid::{
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_FIRST_LEAF,
    XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK, XEN_CPUID_MAX_NUM_LEAVES, XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
};

use super::derive::{compact_size, image_size};
use super::features::Feature;
use super::policy::{Leaf, Policy};
use crate::domain::Rights;
use crate::pv::state::Mode;

/// Leaf with the TSC's facts, relative to the first.
const TIME_LEAF: u32 = 3;
/// Leaves that belong to hypervisors.
const HYPERVISOR_LEAVES: u32 = 0x1_0000;
/// The MSR by which a guest asks for a page of hypercall stubs.
const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;

/// TSC of a guest that may be moved between machines (XEN_DOMCTL_settscinfo).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GuestTsc {
    /// Bit 0: emulated; bit 1: the host's is safe to use; bit 2: RDTSCP there.
    pub flags: u32,
    /// TSC_MODE_*.
    pub mode: u32,
    /// Frequency in kHz.
    pub khz: u32,
    /// Counts moves.
    pub incarnation: u32,
    /// Offset to system time.
    pub offset: u64,
    /// Factor and shift from ticks to ns.
    pub mul_frac: u32,
    /// See `mul_frac`.
    pub shift: i8,
}

impl GuestTsc {
    /// It is emulated.
    pub const EMULATED: u32 = 1 << 0;
    /// The host's TSC is safe to use.
    pub const SAFE: u32 = 1 << 1;
}

/// What a CPUID depends on besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Whose CPUID.
    pub rights: Rights,
    /// Which of its modes asks.
    pub mode: Mode,
    /// XCR0 of the vCPU.
    pub xcr0: u64,
    /// Facts of the machine and of our version.
    pub machine: MachineFacts,
    /// The domain's TSC, when it is not simply the host's.
    pub tsc: Option<GuestTsc>,
}

/// What the Xen leaves tell of the machine.
#[derive(Clone, Copy, Debug)]
pub struct MachineFacts {
    /// Version of the ABI, major << 16 | minor.
    pub version: u32,
    /// Frequency of the host's TSC in kHz.
    pub tsc_khz: u32,
    /// Bits of the highest machine address.
    pub address_bits: u32,
}

/// Answers a guest's CPUID.
#[must_use]
pub fn answer(policy: &Policy, view: &View, leaf: u32, subleaf: u32) -> Leaf {
    if (XEN_CPUID_FIRST_LEAF..XEN_CPUID_FIRST_LEAF + HYPERVISOR_LEAVES).contains(&leaf) {
        return xen_leaf(policy, view, leaf - XEN_CPUID_FIRST_LEAF, subleaf);
    }
    let mut values = policy.leaf(leaf, subleaf);
    // The kernel of the domain that manages the machine may look at the memory types.
    let mtrr = if view.rights == Rights::Control && view.mode == Mode::Kernel {
        Feature::MTRR.mask
    } else {
        0
    };
    match (leaf, subleaf) {
        (1, _) => {
            // PV guests get their APIC ids from the platform_op hypercall, not from here.
            values[1] &= 0x00ff_ffff;
            values[3] |= mtrr;
            if policy.has(Feature::XSAVE) {
                values[2] |= Feature::OSXSAVE.mask;
            }
        }
        (0x8000_0001, _) if policy.vendor().is_amd_like() => values[3] |= mtrr,
        (0xd, 0) if policy.xcr0_mask() != 0 => values[1] = image_size(policy, view.xcr0),
        (0xd, 1) if policy.has(Feature::XSAVEC) || policy.has(Feature::XSAVES) => {
            values[1] = compact_size(policy, view.xcr0);
        }
        _ => {}
    }
    values
}

/// The leaves of xen/arch-x86/cpuid.h as a PV guest sees them.
fn xen_leaf(policy: &Policy, view: &View, leaf: u32, subleaf: u32) -> Leaf {
    let last = match policy.hypervisor[0] {
        0 => XEN_CPUID_MAX_NUM_LEAVES,
        // Two leaves are there always: whoever finds us asks for them.
        limit => (limit & 0xff).clamp(2, XEN_CPUID_MAX_NUM_LEAVES),
    };
    match leaf {
        _ if leaf > last => [0; 4],
        0 => [
            XEN_CPUID_FIRST_LEAF + last,
            XEN_CPUID_SIGNATURE_EBX,
            XEN_CPUID_SIGNATURE_ECX,
            XEN_CPUID_SIGNATURE_EDX,
        ],
        1 => [view.machine.version, 0, 0, 0],
        2 => [
            1,
            HYPERCALL_PAGE_MSR,
            XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
            0,
        ],
        TIME_LEAF => time_leaf(view, subleaf),
        // Leaf 4 is for HVM guests.
        5 => [
            0,
            view.machine.address_bits & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK,
            0,
            0,
        ],
        _ => [0; 4],
    }
}

fn time_leaf(view: &View, subleaf: u32) -> Leaf {
    let tsc = view.tsc.unwrap_or_default();
    match subleaf {
        0 => [tsc.flags, tsc.mode, tsc.khz, tsc.incarnation],
        1 => [
            tsc.offset as u32,
            (tsc.offset >> 32) as u32,
            tsc.mul_frac,
            i32::from(tsc.shift) as u32,
        ],
        2 => [view.machine.tsc_khz, 0, 0, 0],
        _ => [0; 4],
    }
}
