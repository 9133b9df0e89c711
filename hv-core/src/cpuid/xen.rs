//! The leaves by which a guest finds us, and what they tell (xen/arch-x86/cpuid.h).

use xen_abi::cpuid::{
    XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD, XEN_CPUID_FIRST_LEAF,
    XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK, XEN_CPUID_MAX_NUM_LEAVES, XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX, XEN_HVM_CPUID_DOMID_PRESENT,
    XEN_HVM_CPUID_UPCALL_VECTOR, XEN_HVM_CPUID_VCPU_ID_PRESENT,
};

use super::policy::{Leaf, Policy};
use crate::base::{DomId, VcpuId};

/// Leaf with the TSC's facts, relative to the first.
const TIME_LEAF: u32 = 3;
/// Leaves that belong to hypervisors.
const HYPERVISOR_LEAVES: u32 = 0x1_0000;
/// The MSR by which a guest asks for a page of hypercall stubs.
pub const HYPERCALL_PAGE_MSR: u32 = 0x4000_0000;

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

/// What the Xen leaves depend on besides the policy.
#[derive(Clone, Copy, Debug)]
pub struct XenFacts {
    /// Who asks.
    pub kind: Kind,
    /// Facts of the machine and of our version.
    pub machine: MachineFacts,
    /// The domain's TSC, when it is not simply the host's.
    pub tsc: Option<GuestTsc>,
}

/// Who asks, as far as the leaves differ.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A PV guest.
    Pv,
    /// This vCPU of an HVM guest.
    #[allow(missing_docs, reason = "named by what they are")]
    Hvm { domain: DomId, vcpu: VcpuId },
}

impl XenFacts {
    /// Answers what is about us: `None` for other leaves.
    #[must_use]
    pub fn answer(&self, policy: &Policy, leaf: u32, subleaf: u32) -> Option<Leaf> {
        let place = leaf.checked_sub(XEN_CPUID_FIRST_LEAF)?;
        (place < HYPERVISOR_LEAVES).then(|| self.leaf(policy, place, subleaf))
    }

    fn leaf(&self, policy: &Policy, leaf: u32, subleaf: u32) -> Leaf {
        let last = match policy.hypervisor[0] {
            0 => XEN_CPUID_MAX_NUM_LEAVES,
            // Two leaves are there always: whoever finds us asks for them.
            limit => (limit & 0xff).clamp(2, XEN_CPUID_MAX_NUM_LEAVES),
        };
        match (leaf, self.kind) {
            _ if leaf > last => [0; 4],
            (0, _) => [
                XEN_CPUID_FIRST_LEAF + last,
                XEN_CPUID_SIGNATURE_EBX,
                XEN_CPUID_SIGNATURE_ECX,
                XEN_CPUID_SIGNATURE_EDX,
            ],
            (1, _) => [self.machine.version, 0, 0, 0],
            (2, Kind::Pv) => [
                1,
                HYPERCALL_PAGE_MSR,
                XEN_CPUID_FEAT1_MMU_PT_UPDATE_PRESERVE_AD,
                0,
            ],
            (2, Kind::Hvm { .. }) => [1, HYPERCALL_PAGE_MSR, 0, 0],
            (TIME_LEAF, _) => self.time_leaf(subleaf),
            (4, Kind::Hvm { domain, vcpu }) if subleaf == 0 => [
                XEN_HVM_CPUID_VCPU_ID_PRESENT
                    | XEN_HVM_CPUID_DOMID_PRESENT
                    | XEN_HVM_CPUID_UPCALL_VECTOR,
                vcpu,
                domain.into(),
                0,
            ],
            (5, Kind::Pv) => [
                0,
                self.machine.address_bits & XEN_CPUID_MACHINE_ADDRESS_WIDTH_MASK,
                0,
                0,
            ],
            _ => [0; 4],
        }
    }

    fn time_leaf(&self, subleaf: u32) -> Leaf {
        let tsc = self.tsc.unwrap_or_default();
        match subleaf {
            0 => [tsc.flags, tsc.mode, tsc.khz, tsc.incarnation],
            1 => [
                tsc.offset as u32,
                (tsc.offset >> 32) as u32,
                tsc.mul_frac,
                i32::from(tsc.shift) as u32,
            ],
            2 => [self.machine.tsc_khz, 0, 0, 0],
            _ => [0; 4],
        }
    }
}
