//! What guests are told by CPUID.
//!
//! Policies are derived from each other when the hypervisor starts: what the hardware says (raw), what the
//! hypervisor makes use of and can pass on (host), the most that a guest can have (max) and what it gets (default), for
//! PV and for HVM guests. A toolstack can give a domain another one within the maximum (`given`). A guest's CPUID is
//! answered from its policy plus what changes while it runs (`guest` for PV, `hvm::cpuid`), and in the leaves by which
//! it finds us (`xen`). MSRs that go with the policy and are alike for all kinds of guests are in `msr`, what is behind
//! XSAVE in `xstate`.

pub mod derive;
pub mod features;
pub mod given;
pub mod guest;
pub mod msr;
pub mod policy;
#[cfg(test)]
pub(crate) mod tests;
pub mod xen;
pub mod xstate;

pub use policy::{Leaf, Policy, Vendor};

use alloc::vec::Vec;

use crate::domain::{DomainKind, Rights};
use features::Feature;

/// Something that answers CPUID: the hardware, or a table in tests.
pub trait CpuidSource {
    /// eax, ebx, ecx, edx of a leaf.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf;
}

/// Whether LFENCE waits for all older instructions, as far as the CPU's own CPUID does not say
/// (AMD: the hypervisor has set bit 1 of MSR 0xc0011029).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Lfence {
    Dispatching,
    Unknown,
}

/// Whether each PV vCPU has its own TSC_AUX, which RDTSCP and RDPID read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum TscAux {
    PerVcpu,
    Missing,
}

/// How the hypervisor has set the CPU up, as far as guests notice.
#[derive(Clone, Debug)]
pub struct HostSetup {
    /// See `Lfence`.
    pub lfence: Lfence,
    /// See `TscAux`.
    pub tsc_aux: TscAux,
    /// State components that are saved for guests; 0: XSAVE is off.
    pub xcr0: u64,
    /// How guests run in hardware containers, where they can.
    pub hvm: Option<HvmSetup>,
}

/// What containers keep for their vCPUs, as far as guests notice.
#[derive(Clone, Debug, Default)]
pub struct HvmSetup {
    /// Features that guests do not have though the CPU does: because the change from one vCPU to another would leave their
    /// registers as they are, or because the CPU has no such instruction inside of a container.
    pub unkept: Vec<Feature>,
}

/// Which of the policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "explained above, named as in the ABI")]
pub enum Which {
    Raw,
    Host,
    PvMax,
    PvDefault,
    HvmMax,
    HvmDefault,
}

impl Which {
    /// The most for a kind of guests.
    #[must_use]
    pub const fn max_of(kind: DomainKind) -> Self {
        match kind {
            DomainKind::Pv64 => Self::PvMax,
            DomainKind::Hvm => Self::HvmMax,
        }
    }
}

/// All policies of this machine, and the control domain's.
#[derive(Clone, Debug)]
pub struct Policies {
    raw: Policy,
    host: Policy,
    pv_max: Policy,
    pv_default: Policy,
    control: Policy,
    hvm_max: Policy,
    hvm_default: Policy,
    has_hvm: bool,
}

impl Policies {
    /// Derives everything from one CPU, the boot CPU.
    #[must_use]
    pub fn new<S: CpuidSource>(cpu: &S, setup: &HostSetup) -> Self {
        let raw = derive::raw(cpu);
        let host = derive::host(&raw, setup);
        let pv_max = derive::pv_max(&host, setup);
        let pv_default = derive::pv_default(&host, setup);
        let control = derive::control(&pv_default, &host);
        let hvm = setup.hvm.clone().unwrap_or_default();
        let hvm_max = derive::hvm_max(&raw, &host, &hvm);
        let hvm_default = derive::hvm_default(&raw, &host, &hvm);
        Self {
            hvm_max,
            hvm_default,
            has_hvm: setup.hvm.is_some(),
            raw,
            host,
            pv_max,
            pv_default,
            control,
        }
    }

    /// Whether guests can run in hardware containers.
    #[must_use]
    pub const fn has_hvm(&self) -> bool {
        self.has_hvm
    }

    /// One of the policies. Those of HVM guests are there, for nobody, where such guests cannot be.
    #[must_use]
    pub fn get(&self, which: Which) -> &Policy {
        match which {
            Which::Raw => &self.raw,
            Which::Host => &self.host,
            Which::PvMax => &self.pv_max,
            Which::PvDefault => &self.pv_default,
            Which::HvmMax => &self.hvm_max,
            Which::HvmDefault => &self.hvm_default,
        }
    }

    /// The policy that a domain has unless it is given another.
    #[must_use]
    pub fn of_domain(&self, kind: DomainKind, rights: Rights) -> &Policy {
        match (kind, rights) {
            (DomainKind::Pv64, Rights::Control) => &self.control,
            (DomainKind::Pv64, Rights::Guest) => &self.pv_default,
            (DomainKind::Hvm, _) => &self.hvm_default,
        }
    }
}
