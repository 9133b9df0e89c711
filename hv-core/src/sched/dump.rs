//! The scheduler's state in words, for the debug key 'r'.
//!
//! Each line is copied under a lock and written without one: a serial console is slow.

use core::fmt;

use super::credit2::Credit2;
use super::unit::Place;
use super::{Scheduler, Unit};
use crate::base::Nanos;

/// Writes all groups, then all units.
pub(super) fn write(
    scheduler: &Credit2,
    groups: usize,
    now: Nanos,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    writeln!(
        out,
        "scheduler: {}, now {now} ns, ratelimit {} us, online {}",
        scheduler.name(),
        scheduler.ratelimit_us(),
        scheduler.online()
    )?;
    for index in 0..groups {
        write_group(scheduler, index, out)?;
    }
    for unit in scheduler.unit_numbers() {
        write_unit(scheduler, unit, out)?;
    }
    Ok(())
}

fn write_group(scheduler: &Credit2, index: usize, out: &mut dyn fmt::Write) -> fmt::Result {
    let (base, width) = scheduler.seats.range(index);
    let facts = scheduler.with_group(index, |group| (group.scale(), group.waiting()));
    let Some(((max_weight, grants), waiting)) = facts else {
        return Ok(());
    };
    writeln!(
        out,
        "queue {index}: {waiting} waiting, heaviest weight {max_weight}, {grants} grants"
    )?;
    let online = scheduler.online();
    let name = |local: u32| scheduler.seats.cpu(base + local);
    for local in (0..width).filter(|&local| online.contains(name(local))) {
        let cpu = scheduler.with_group(index, |group| group.cpu(local).cloned());
        let Some(cpu) = cpu.flatten() else {
            continue;
        };
        write!(out, "  cpu {}: ", name(local))?;
        match cpu.current {
            Some(unit) => writeln!(out, "runs {}", Name(scheduler, unit))?,
            None => match cpu.loaded {
                Some(unit) => writeln!(out, "idle, holds {}", Name(scheduler, unit))?,
                None => writeln!(out, "idle")?,
            },
        }
    }
    Ok(())
}

fn write_unit(scheduler: &Credit2, unit: Unit, out: &mut dyn fmt::Write) -> fmt::Result {
    let (Some(info), Some(affinity)) = (scheduler.info(unit), scheduler.affinity(unit)) else {
        return Ok(());
    };
    write!(out, "  d{}v{}: ", info.dom, info.vcpu)?;
    match info.place {
        Place::Asleep => write!(out, "asleep, last on cpu {}", info.last_cpu)?,
        Place::Queued => write!(out, "waits, last on cpu {}", info.last_cpu)?,
        Place::Parked => write!(out, "waits for its budget, last on cpu {}", info.last_cpu)?,
        Place::Running(cpu) => write!(out, "runs on cpu {cpu}")?,
    }
    writeln!(
        out,
        ", queue {}, credit {}, weight {}, hard {}, soft {}",
        info.queue, info.credit, info.weight, affinity.hard, affinity.soft
    )
}

/// A unit as `d1v0`.
struct Name<'a>(&'a Credit2, Unit);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.info(self.1) {
            Some(info) => write!(f, "d{}v{}", info.dom, info.vcpu),
            None => write!(f, "unit {}", self.1.0),
        }
    }
}
