//! Which vCPU runs where, and for how long.
//!
//! The scheduler decides and never switches: the run loop of each CPU asks [`Scheduler::schedule`]
//! and does what the [`Decision`] says; every other operation returns the CPU that must be made to
//! ask again. Time comes in as `now`, so the same code runs under a simulated clock in the tests.
//!
//! Invariants that hold after every operation:
//! - a unit runs on at most one CPU, and one whose registers are still loaded on CPU A is chosen
//!   by CPU B only after A has reported [`Scheduler::context_saved`];
//! - a unit runs only inside its hard affinity (see [`Affinity`] for what happens when all of
//!   those CPUs are offline);
//! - a CPU idles only while no unit that may run there waits, apart from the moment in which a
//!   kick is on its way;
//! - a domain with a cap runs in no period for longer than the cap allows, but for less than one
//!   slice, which the next period is short of.

mod affinity;
mod budget;
mod cpuset;
mod credit;
mod credit2;
mod dump;
mod group;
mod load;
mod placement;
mod pools;
mod rules;
mod seats;
mod unit;

#[cfg(any(test, feature = "sim"))]
pub mod sim;
#[cfg(test)]
mod tests;

pub use affinity::Affinity;
pub use cpuset::{CpuSet, MAX_CPUS};
pub use credit2::{Credit2, Layout};
pub use pools::{PoolId, Pools};
pub use seats::Position;
pub use unit::{Place, UnitInfo};

use core::fmt;

use xen_abi::errno::Errno;

use crate::base::{CpuId, DomId, Nanos, VcpuId};

/// What is scheduled: one vCPU. Dense, valid from `insert` until `remove`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Unit(pub(crate) u32);

impl Unit {
    /// The unit at a position that `index` gave.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// Position in tables that are indexed by unit (below the scheduler's `max_units`).
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a CPU does next.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The unit to run; none means idle.
    pub next: Option<Unit>,
    /// When to ask again if nothing else happens, counted from `now`; none means no timer: the CPU
    /// idles, or nobody else waits for it. A CPU that idles may have to ask too: for units that
    /// wait for their budget.
    pub run_for: Option<Nanos>,
    /// A unit whose state is loaded on this CPU and must be saved now, followed by
    /// [`Scheduler::context_saved`] before this CPU asks again. Without it the state may stay
    /// loaded while the CPU idles.
    pub save: Option<Unit>,
    /// Whether `next` ran on another CPU last time.
    pub migrated: bool,
    /// Another CPU that must ask again: it idles and could run a unit that still waits.
    pub kick: Option<CpuId>,
}

impl Decision {
    /// Nothing to run, nothing to save.
    pub const IDLE: Self = Self {
        next: None,
        run_for: None,
        save: None,
        migrated: false,
        kick: None,
    };
}

/// Scheduling parameters of a domain (`xen_domctl_sched_credit2`, domctl.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Params {
    /// Share relative to other domains' vCPUs, 1 to 65535.
    pub weight: u16,
    /// Most time that all vCPUs together run, in percent of one CPU; 0 is no limit.
    pub cap: u16,
}

/// A scheduling policy. All methods may be called from any CPU at any time outside interrupt
/// handlers. A returned [`CpuId`] is a CPU that must run `schedule` soon (it may be the caller's).
/// Calls that name a unit that was removed do nothing.
pub trait Scheduler: Send + Sync {
    /// The ABI's number for the policy (`XEN_SCHEDULER_*`, domctl.h).
    fn id(&self) -> u32;

    /// The policy's name as the tools print it.
    fn name(&self) -> &'static str;

    /// Makes a unit known, asleep.
    ///
    /// # Errors
    /// `ENOSPC` when the table of units is full, `ENOMEM` when memory ran out.
    fn insert(&self, dom: DomId, vcpu: VcpuId, affinity: &Affinity) -> Result<Unit, Errno>;

    /// Forgets a unit.
    ///
    /// # Errors
    /// `EBUSY` unless it is asleep with its state saved (see [`Scheduler::unload`]), `ENOENT` when
    /// it is not known.
    fn remove(&self, unit: Unit) -> Result<(), Errno>;

    /// The unit has something to do.
    #[must_use]
    fn wake(&self, unit: Unit, now: Nanos) -> Option<CpuId>;

    /// The unit has nothing to do, or may not run (blocked, paused, down).
    /// Returns the CPU that runs it and must stop doing so.
    #[must_use]
    fn sleep(&self, unit: Unit) -> Option<CpuId>;

    /// The running unit lets others run once; takes effect at the next `schedule`.
    fn yield_unit(&self, unit: Unit);

    /// What `cpu` runs from `now` on. Only the CPU itself asks.
    fn schedule(&self, cpu: CpuId, now: Nanos) -> Decision;

    /// The unit's state is no longer loaded on `cpu`: others may load it. Returns a CPU that can
    /// run it at once.
    #[must_use]
    fn context_saved(&self, cpu: CpuId, unit: Unit, now: Nanos) -> Option<CpuId>;

    /// Asks that the state of a unit that sleeps be saved even if its CPU idles. Returns the CPU
    /// that holds it; nothing when it is saved already.
    #[must_use]
    fn unload(&self, unit: Unit) -> Option<CpuId>;

    /// Replaces the affinity. Returns the CPU that must ask again: the one that runs the unit when
    /// that is no longer allowed there, or one that may now run it.
    ///
    /// # Errors
    /// `EINVAL` when the hard affinity names no CPU that is online, `ENOENT` for an unknown unit.
    fn set_affinity(
        &self,
        unit: Unit,
        affinity: &Affinity,
        now: Nanos,
    ) -> Result<Option<CpuId>, Errno>;

    /// The affinity as it was set.
    fn affinity(&self, unit: Unit) -> Option<Affinity>;

    /// Takes a CPU into service. Returns the CPUs that must ask again.
    ///
    /// # Errors
    /// `EINVAL` for a CPU beyond the scheduler's limit, `EEXIST` when it is in service already.
    fn add_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno>;

    /// Takes a CPU out of service; its next `schedule` gives up what it runs. Returns the CPUs
    /// that must ask again.
    ///
    /// # Errors
    /// `ENOENT` when it is not in service, `EBUSY` when it is the last one.
    fn remove_cpu(&self, cpu: CpuId, now: Nanos) -> Result<CpuSet, Errno>;

    /// CPUs in service.
    fn online(&self) -> CpuSet;

    /// Sets a domain's parameters, for its present and future units (`XEN_DOMCTL_SCHEDOP_putinfo`).
    /// Weight 0 leaves the weight as it is. A lower cap holds from the next decision on, a higher
    /// one from the next period. Returns the CPUs that must ask again.
    ///
    /// # Errors
    /// `ENOMEM` when the parameters cannot be kept.
    fn set_params(&self, dom: DomId, params: Params) -> Result<CpuSet, Errno>;

    /// A domain's parameters (`XEN_DOMCTL_SCHEDOP_getinfo`).
    fn params(&self, dom: DomId) -> Params;

    /// Drops what `set_params` kept for a domain that ends; nothing is set for it afterwards.
    fn forget_domain(&self, dom: DomId);

    /// The shortest time a unit runs before another may preempt it, in microseconds; 0 is "off".
    fn ratelimit_us(&self) -> u32;

    /// Sets the rate limit (`XEN_SYSCTL_SCHEDOP_putinfo`).
    ///
    /// # Errors
    /// `EINVAL` unless 0 or within the bounds that sysctl.h names.
    fn set_ratelimit_us(&self, us: u32) -> Result<(), Errno>;

    /// Where a unit is, for `XEN_DOMCTL_getvcpuinfo` and debugging.
    fn info(&self, unit: Unit) -> Option<UnitInfo>;

    /// Writes the state for the debug key 'r'. No lock is held while writing.
    ///
    /// # Errors
    /// Those of the writer.
    fn dump(&self, now: Nanos, out: &mut dyn fmt::Write) -> fmt::Result;
}
