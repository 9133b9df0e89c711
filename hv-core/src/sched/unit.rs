//! What the scheduler knows about one vCPU.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use xen_abi::errno::Errno;

use super::Unit;
use super::affinity::Affinity;
use super::cpuset::CpuSet;
use super::credit::{GRANT, SOFT_RESISTANCE};
use super::load::Average;
use crate::base::{CpuId, DomId, Nanos, VcpuId};

/// Where a unit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Nothing to do.
    Asleep,
    /// Waits for a CPU.
    Queued,
    /// Runs.
    Running(CpuId),
    /// Waits for its domain's budget to be replenished.
    Parked,
}

/// A unit as seen from outside.
#[derive(Clone, Copy, Debug)]
pub struct UnitInfo {
    /// Domain it belongs to.
    pub dom: DomId,
    /// Number in that domain.
    pub vcpu: VcpuId,
    /// What it does.
    pub place: Place,
    /// CPU it ran on last (or runs on); 0 when it never ran.
    pub last_cpu: CpuId,
    /// CPU that still holds its state.
    pub resident: Option<CpuId>,
    /// Run queue that it belongs to.
    pub queue: u16,
    /// Weight of its domain.
    pub weight: u16,
    /// Credit at the last decision, nanoseconds at the heaviest unit's rate.
    pub credit: i64,
}

/// Whether a unit has something to do. Differs from [`Place`] between `sleep` or `wake` and the
/// next decision of the CPU that runs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Run,
    Sleep,
}

/// Time that no budget pays for.
pub(super) const UNCOUNTED: Nanos = Nanos::MAX;

/// The state of a unit; lives in the group of CPUs that is its home.
#[derive(Debug)]
pub(super) struct UnitData {
    pub dom: DomId,
    pub vcpu: VcpuId,
    pub weight: u16,
    pub place: Place,
    pub wish: Wish,
    /// Gave way: the next decision prefers any other unit.
    pub yielding: bool,
    /// Its state is wanted in memory although its CPU idles.
    pub unload: bool,
    /// CPU whose registers hold its state.
    pub resident: Option<CpuId>,
    pub last_cpu: Option<CpuId>,
    pub credit: i64,
    /// Its share of the group's load.
    pub load: Average,
    /// Until when balancing leaves it where it is.
    pub settled_at: Nanos,
    /// Which budget its domain has; none without a cap.
    pub budget: Option<u16>,
    /// Time taken from the budget and not yet used: it runs then. [`UNCOUNTED`] for one that began
    /// to run before its domain had this budget, until the next decision.
    pub held: Nanos,
    /// The group's count of grants up to which `credit` is.
    pub epoch: u64,
    pub affinity: Affinity,
    /// Where it may run: `affinity.hard`, or anywhere while all of that is offline.
    pub effective: CpuSet,
    /// The one CPU of `effective`, if there is but one.
    pub pin: Option<CpuId>,
    /// Which part of the queue it waits in: see `Group::queue`.
    pub part: u8,
    /// Those of `effective` that it prefers; all of them when it prefers none.
    pub preferred: CpuSet,
    /// How often the policy looked at it.
    #[cfg(any(test, feature = "sim"))]
    pub looks: core::cell::Cell<u64>,
}

impl UnitData {
    pub(super) fn new(dom: DomId, vcpu: VcpuId, weight: u16, affinity: &Affinity) -> Self {
        Self {
            dom,
            vcpu,
            weight,
            place: Place::Asleep,
            wish: Wish::Sleep,
            yielding: false,
            unload: false,
            resident: None,
            last_cpu: None,
            credit: GRANT,
            load: Average::default(),
            settled_at: 0,
            budget: None,
            held: 0,
            epoch: 0,
            affinity: *affinity,
            effective: CpuSet::ALL,
            pin: None,
            part: 0,
            preferred: CpuSet::ALL,
            #[cfg(any(test, feature = "sim"))]
            looks: core::cell::Cell::new(0),
        }
    }

    /// Its momentary load: what it weighs while it competes.
    pub(super) fn demand(&self) -> u64 {
        if self.competes() {
            self.weight.into()
        } else {
            0
        }
    }

    /// Whether it runs or waits for a CPU.
    pub(super) fn competes(&self) -> bool {
        matches!(self.place, Place::Queued | Place::Running(_))
    }

    /// Recomputes where the unit may run, for a change of the affinity or of what is online.
    pub(super) fn refresh_affinity(&mut self, online: &CpuSet) {
        self.effective = self.affinity.effective(online);
        let pinned = self.effective.len() == 1;
        self.pin = self.effective.iter().next().filter(|_| pinned);
        self.preferred = self.effective.intersection(&self.affinity.soft);
        if self.preferred.intersection(online).is_empty() {
            self.preferred = self.effective;
        }
    }

    /// Whether `cpu` may load the unit's state now; `loaded` is whose state it holds.
    pub(super) fn may_load(&self, me: Unit, cpu: CpuId, loaded: Option<Unit>) -> bool {
        match self.resident {
            None => true,
            Some(holder) => holder == cpu && loaded == Some(me),
        }
    }

    /// Credit less what speaks against running on `cpu`, `resistance` against a change.
    pub(super) fn score(&self, cpu: CpuId, resistance: i64) -> i64 {
        let mut score = self.credit;
        if self.last_cpu.is_some_and(|last| last != cpu) {
            score -= resistance;
        }
        if !self.preferred.contains(cpu) {
            score -= SOFT_RESISTANCE;
        }
        score
    }

    /// What others may know; the unit is at home in group `queue`.
    pub(super) fn info(&self, queue: u16) -> UnitInfo {
        UnitInfo {
            dom: self.dom,
            vcpu: self.vcpu,
            place: self.place,
            last_cpu: self.last_cpu.unwrap_or(0),
            resident: self.resident,
            queue,
            weight: self.weight,
            credit: self.credit,
        }
    }
}

/// A heap cell for a unit, so that moving it between groups moves a pointer.
#[derive(Debug)]
pub(super) struct UnitCell(Box<[UnitData; 1]>);

impl UnitCell {
    /// Allocates the cell.
    ///
    /// # Errors
    /// `ENOMEM`: `Box::new` would abort instead, hence the way through a vector.
    pub(super) fn try_new(data: UnitData) -> Result<Self, Errno> {
        let mut cell = Vec::new();
        cell.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        cell.push(data);
        let cell = cell.into_boxed_slice().try_into();
        cell.map(Self).map_err(|_| Errno::ENOMEM)
    }

    /// Every way to a unit's data passes here: what a decision costs as units grow in number is
    /// counted by it, in tests and the simulator only.
    #[inline(always)]
    fn count_look(&self) {
        #[cfg(any(test, feature = "sim"))]
        self.0[0].looks.set(self.0[0].looks.get() + 1);
    }
}

impl Deref for UnitCell {
    type Target = UnitData;

    fn deref(&self) -> &UnitData {
        self.count_look();
        &self.0[0]
    }
}

impl DerefMut for UnitCell {
    fn deref_mut(&mut self) -> &mut UnitData {
        self.count_look();
        &mut self.0[0]
    }
}
