//! Classes of virtual interrupts (`VIRQ_*` in `xen.h`).

use xen_abi::xen::{VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU};

/// Whether a virtual interrupt belongs to a vCPU or to the whole domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VirqClass {
    /// One binding for each vCPU, which cannot be moved.
    PerVcpu,
    /// One binding, made on vCPU 0 and movable afterwards.
    Global,
}

impl VirqClass {
    /// The class of a virtual interrupt; unnamed and architectural numbers are global.
    #[must_use]
    pub const fn of(virq: u32) -> Self {
        match virq {
            VIRQ_TIMER | VIRQ_DEBUG | VIRQ_XENOPROF | VIRQ_XENPMU => Self::PerVcpu,
            _ => Self::Global,
        }
    }
}
