//! CPUs and domains that change their pool.

use xen_abi::errno::Errno;

use super::domain::{Backing, Domain};
use super::hotplug::Progress;
use super::registry::Hypervisor;
use super::vcpu::Vcpu;
use crate::base::CpuId;
use crate::sched::{CpuSet, PoolId, Unit};

impl Hypervisor {
    /// Gives a free CPU to a pool.
    ///
    /// # Errors
    /// Those of [`Pools::give_cpu`](crate::sched::Pools::give_cpu).
    pub fn give_cpu(&self, pool: PoolId, cpu: CpuId) -> Result<Progress, Errno> {
        let now = self.backing.machine.now();
        match self.backing.pools.give_cpu(pool, cpu, now)? {
            Some(again) => {
                self.ask_again(&again);
                Ok(Progress::Done)
            }
            None => Ok(Progress::Pending),
        }
    }

    /// Takes a CPU from a pool. vCPUs that were to run on that one only run on all from then on.
    ///
    /// # Errors
    /// `EINVAL` for CPU 0, which stays in pool 0; `EADDRINUSE` when a vCPU is kept on the CPU for the moment; those of
    /// [`Pools::take_cpu`](crate::sched::Pools::take_cpu).
    pub fn take_cpu(&self, pool: PoolId, cpu: CpuId) -> Result<(), Errno> {
        if (pool, cpu) == (0, 0) {
            return Err(Errno::EINVAL);
        }
        self.may_lose(cpu)?;
        let Backing { machine, pools, .. } = self.backing;
        let now = machine.now();
        self.ask_again(&pools.take_cpu(pool, cpu, now)?);
        // Whoever was to run there only would wait for a CPU that does not come back by itself.
        self.for_units(&mut |domain, vcpu, unit| {
            let Some(again) = pools.free_from(unit, cpu, now) else {
                return;
            };
            let (dom, vcpu) = (domain.id, vcpu.id);
            log::info!("CPU {cpu} has left d{dom}v{vcpu}, which may run on all now");
            if let Some(other) = again {
                machine.reschedule(other);
            }
        });
        Ok(())
    }

    /// Shows all vCPUs that the scheduler knows.
    fn for_units(&self, look: &mut dyn FnMut(&Domain, &Vcpu, Unit)) {
        for domain in self.domains() {
            for vcpu in domain.vcpus() {
                if let Some(unit) = vcpu.unit.get() {
                    look(&domain, vcpu, unit);
                }
            }
        }
    }

    pub(super) fn ask_again(&self, cpus: &CpuSet) {
        for cpu in cpus.iter() {
            self.backing.machine.reschedule(cpu);
        }
    }

    /// Whether no vCPU is kept on a CPU for the moment.
    ///
    /// # Errors
    /// `EADDRINUSE` when one is.
    pub(super) fn may_lose(&self, cpu: CpuId) -> Result<(), Errno> {
        let mut result = Ok(());
        self.for_units(&mut |domain, vcpu, unit| {
            let pinned = vcpu.pinned_from.lock().is_some();
            let hard = self.backing.sched.affinity(unit).map(|a| a.hard);
            if pinned && hard == Some(CpuSet::single(cpu)) {
                let (dom, vcpu) = (domain.id, vcpu.id);
                log::info!("CPU {cpu} stays: d{dom}v{vcpu} is kept on it for the moment");
                result = Err(Errno::EADDRINUSE);
            }
        });
        result
    }

    /// Moves a domain to a pool, one vCPU after the other as long as `go_on` says so; pending: call again. For a domain
    /// that the caller has the turn of, and not for that of the caller.
    ///
    /// # Errors
    /// `EBUSY` while one of its vCPUs is kept on a CPU; those of [`Pools::assign`](crate::sched::Pools::assign).
    pub fn move_domain(
        &self,
        domain: &Domain,
        pool: PoolId,
        go_on: impl Fn() -> bool,
    ) -> Result<Progress, Errno> {
        let kept = |vcpu: &Vcpu| vcpu.pinned_from.lock().is_some();
        if domain.vcpus().iter().any(kept) {
            return Err(Errno::EBUSY);
        }
        let pools = self.backing.pools;
        pools.assign(domain.id, pool)?;
        let stranger = |vcpu: &&Vcpu| vcpu.unit.get().is_some_and(|unit| !pools.is_home(unit));
        let mut strangers = domain.vcpus().iter().filter(stranger).peekable();
        if strangers.peek().is_none() {
            return Ok(Progress::Done);
        }
        // Its end wakes those that may run.
        let _rest = domain.at_rest();
        while let Some(vcpu) = strangers.next() {
            if let Some(unit) = vcpu.unit.get() {
                domain.fetch_state(vcpu);
                self.once_off(unit, &|unit| pools.move_unit(unit));
            }
            if strangers.peek().is_some() && !go_on() {
                return Ok(Progress::Pending);
            }
        }
        Ok(Progress::Done)
    }

    /// Does what a unit that is not asleep with its state saved refuses, as soon as it is. For one that may not run: only
    /// a wake-up that was on its way may have reached it.
    pub(super) fn once_off(&self, unit: Unit, what: &dyn Fn(Unit) -> Result<(), Errno>) {
        let (sched, machine) = (self.backing.sched, self.backing.machine);
        while what(unit) == Err(Errno::EBUSY) {
            for cpu in [sched.sleep(unit), sched.unload(unit)]
                .into_iter()
                .flatten()
            {
                machine.reschedule(cpu);
            }
            core::hint::spin_loop();
        }
    }
}
