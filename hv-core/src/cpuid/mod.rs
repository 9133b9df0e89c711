//! What a PV guest is told by CPUID.
//!
//! Four policies are derived from each other when the hypervisor starts: what the hardware says
//! (raw), what the hypervisor makes use of and can pass on (host), the most that a PV guest can have
//! (max) and what it gets (default). A toolstack can give a domain another one within the
//! maximum (`given`). A guest's CPUID is answered from its policy plus what changes while it runs (`guest`).

pub mod derive;
pub mod features;
pub mod given;
pub mod guest;
pub mod policy;
#[cfg(test)]
pub(crate) mod tests;
pub mod xstate;

pub use policy::{Leaf, Policy, Vendor};

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

/// Whether each vCPU has its own TSC_AUX, which RDTSCP and RDPID read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum TscAux {
    PerVcpu,
    Missing,
}

/// How the hypervisor has set the CPU up, as far as guests notice.
#[derive(Clone, Copy, Debug)]
pub struct HostSetup {
    /// See `Lfence`.
    pub lfence: Lfence,
    /// See `TscAux`.
    pub tsc_aux: TscAux,
    /// State components that are saved for guests; 0: XSAVE is off.
    pub xcr0: u64,
}

/// Which of the policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "explained above, named as in the ABI")]
pub enum Which {
    Raw,
    Host,
    PvMax,
    PvDefault,
}

/// All policies of this machine, and the control domain's.
#[derive(Clone, Debug)]
pub struct Policies {
    raw: Policy,
    host: Policy,
    pv_max: Policy,
    pv_default: Policy,
    control: Policy,
}

impl Policies {
    /// Derives everything from one CPU, the boot CPU.
    #[must_use]
    pub fn new<S: CpuidSource>(cpu: &S, setup: &HostSetup) -> Self {
        let raw = derive::raw(cpu);
        let host = derive::host(&raw, setup);
        let pv_max = derive::pv_max(&host);
        let pv_default = derive::pv_default(&host);
        let control = derive::control(&pv_default, &host);
        Self {
            raw,
            host,
            pv_max,
            pv_default,
            control,
        }
    }

    /// One of the policies.
    #[must_use]
    pub fn get(&self, which: Which) -> &Policy {
        match which {
            Which::Raw => &self.raw,
            Which::Host => &self.host,
            Which::PvMax => &self.pv_max,
            Which::PvDefault => &self.pv_default,
        }
    }

    /// The policy that a domain has unless it is given another.
    #[must_use]
    pub fn of_domain(&self, rights: crate::domain::Rights) -> &Policy {
        match rights {
            crate::domain::Rights::Control => &self.control,
            crate::domain::Rights::Guest => &self.pv_default,
        }
    }
}
