//! CPUs that leave the machine and come back while it runs: who asks for it, and in which order things happen.
//!
//! Nothing sleeps in a hypercall, so a change goes on step by step each time that it is asked for again. There is one
//! at a time. Whoever asks for another one meanwhile drives the present one a step further and is told `EBUSY`, so a
//! change whose asker never comes back ends too.

use xen_abi::errno::Errno;
use xen_abi::xen::VIRQ_PCPU_STATE;

use super::registry::Hypervisor;
use crate::base::lock::{Mutex, rank};
use crate::base::{CpuId, DomId, VcpuId};
use crate::events;

/// Where a CPU goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CpuWay {
    /// Into service.
    In,
    /// Out of it: it is parked.
    Out,
}

/// How far something is that goes on step by step.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// To be called again.
    Pending,
    /// Finished.
    Done,
}

/// A change and who asked for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuChange {
    /// The CPU.
    pub cpu: CpuId,
    /// Where it goes.
    pub way: CpuWay,
    /// The vCPU that asks.
    pub by: (DomId, VcpuId),
}

/// The change that is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Quiet,
    Waits(CpuChange),
    Stepping(CpuChange),
}

/// What is kept of CPUs that come and go.
#[derive(Debug)]
pub struct Hotplug(Mutex<State>);

impl Default for Hotplug {
    fn default() -> Self {
        Self(Mutex::new(rank::HOTPLUG, State::Quiet))
    }
}

impl Hypervisor {
    /// Takes a CPU out of service or into it, a step at a time.
    ///
    /// # Errors
    /// `EINVAL` for a CPU that does not exist and for CPU 0, which stays; `EEXIST` when it is there already;
    /// `EBUSY` while another change is under way; `EADDRINUSE` when a vCPU is kept on the CPU for the moment;
    /// what the machine says, and the CPU is out of service then.
    pub fn change_cpu(&self, change: CpuChange) -> Result<Progress, Errno> {
        let now = {
            let mut state = self.hotplug.0.lock();
            let now = match *state {
                State::Stepping(other) if other == change => return Ok(Progress::Pending),
                State::Stepping(_) => return Err(Errno::EBUSY),
                State::Waits(now) => now,
                State::Quiet => {
                    self.may_change(change)?;
                    change
                }
            };
            *state = State::Stepping(now);
            now
        };
        let result = self.step(now);
        *self.hotplug.0.lock() = match result {
            Ok(Progress::Pending) => State::Waits(now),
            _ => State::Quiet,
        };
        if now == change {
            result
        } else {
            Err(Errno::EBUSY)
        }
    }

    /// The change that waits to be asked for again.
    #[must_use]
    pub fn cpu_under_way(&self) -> Option<CpuChange> {
        match *self.hotplug.0.lock() {
            State::Quiet => None,
            State::Waits(change) | State::Stepping(change) => Some(change),
        }
    }

    fn may_change(&self, change: CpuChange) -> Result<(), Errno> {
        let CpuChange { cpu, way, .. } = change;
        if self.facts.processor.cpus.get(cpu as usize).is_none() || (cpu == 0 && way == CpuWay::Out)
        {
            return Err(Errno::EINVAL);
        }
        if self.backing.sched.online().contains(cpu) == (way == CpuWay::In) {
            return Err(Errno::EEXIST);
        }
        match way {
            CpuWay::In => Ok(()),
            CpuWay::Out => self.may_lose(cpu),
        }
    }

    /// Out of service, the scheduler is told first; into it, last.
    fn step(&self, change: CpuChange) -> Result<Progress, Errno> {
        let CpuChange { cpu, way, .. } = change;
        let (machine, sched) = (self.backing.machine, self.backing.sched);
        if way == CpuWay::Out && sched.online().contains(cpu) {
            self.ask_again(&sched.remove_cpu(cpu, machine.now())?);
        }
        if machine.move_cpu(cpu, way).inspect_err(|why| {
            log::error!("CPU {cpu} does not come back: {why}");
        })? == Progress::Pending
        {
            return Ok(Progress::Pending);
        }
        if way == CpuWay::In {
            self.ask_again(&sched.add_cpu(cpu, machine.now())?);
        }
        let line = if way == CpuWay::In { "on" } else { "off" };
        log::info!("CPU {cpu} is {line} line");
        if let Some(control) = self.control_domain() {
            events::raise_global_virq(&*control, VIRQ_PCPU_STATE);
        }
        Ok(Progress::Done)
    }
}
