//! Where a vCPU may run and where it would like to.

use super::cpuset::CpuSet;
use crate::base::CpuId;

/// The two masks of a vCPU (`xen_domctl_vcpuaffinity`, domctl.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// CPUs it may run on. When all of them are offline it runs anywhere until one returns.
    pub hard: CpuSet,
    /// CPUs it prefers; without effect where it shares none with `hard`.
    pub soft: CpuSet,
}

impl Affinity {
    /// Runs anywhere.
    pub const ANY: Self = Self {
        hard: CpuSet::ALL,
        soft: CpuSet::ALL,
    };

    /// Runs on one CPU only.
    #[must_use]
    pub fn pinned(cpu: CpuId) -> Self {
        Self {
            hard: CpuSet::single(cpu),
            soft: CpuSet::ALL,
        }
    }

    /// The CPUs on which it may run, given those that are online.
    #[must_use]
    pub fn effective(&self, online: &CpuSet) -> CpuSet {
        if self.hard.intersection(online).is_empty() {
            CpuSet::ALL
        } else {
            self.hard
        }
    }
}
