//! Scripted loads.

use hv_core::base::{DomId, Nanos};
use hv_core::sched::sim::{Habit, MS, Sim, US};
use hv_core::sched::{Affinity, Params, Scheduler};

/// What the vCPUs of a machine do.
#[derive(Debug)]
pub struct Load {
    pub name: &'static str,
    pub what: &'static str,
    /// How much of the table's time this one gets: short bursts make many events.
    pub part: f64,
    /// Adds the vCPUs to a machine with so many CPUs.
    pub fill: fn(&mut Sim, u32, u32),
}

/// All of them.
pub const LOADS: &[Load] = &[
    Load {
        name: "hogs",
        what: "all always run; domains of four vCPUs with weights 128, 256, 512 and 1024",
        part: 1.0,
        fill: hogs,
    },
    Load {
        name: "sleepers",
        what: "a hog for each CPU, the others wake for about 100 us and use 30 % of the machine",
        part: 0.3,
        fill: sleepers,
    },
    Load {
        name: "gangs",
        what: "gangs of up to eight that meet at a barrier after about 500 us of work",
        part: 0.3,
        fill: gangs,
    },
    Load {
        name: "ping-pong",
        what: "pairs that wake each other after about 20 us of work, as for I/O",
        part: 0.1,
        fill: ping_pong,
    },
    Load {
        name: "adversaries",
        what: "hogs; a quarter sleeps just before each decision, a quarter across ticks of 10 ms",
        part: 0.5,
        fill: adversaries,
    },
    Load {
        name: "mixed",
        what: "a sixth each: hogs, sleepers, gangs, pairs, and the two kinds of adversaries",
        part: 0.2,
        fill: mixed,
    },
];

const ADVERSARY: Habit = Habit::Dodger {
    margin: 50 * US,
    pause: 20 * US,
};
const TICK_ADVERSARY: Habit = Habit::TickDodger {
    period: 10 * MS,
    margin: 100 * US,
};
/// vCPUs of a domain, where the habit does not say.
const DOMAIN: u32 = 4;
const GANG: u32 = 8;
/// Time in which all vCPUs come.
const ARRIVALS: Nanos = 50 * MS;

/// Adds vCPUs and numbers domains and gangs.
struct Filler<'a> {
    sim: &'a mut Sim,
    dom: DomId,
    gang: usize,
    /// Time for each vCPU to come.
    arrival: Nanos,
    /// The first vCPU of the domain at hand.
    first: usize,
}

impl<'a> Filler<'a> {
    fn new(sim: &'a mut Sim, vcpus: u32) -> Self {
        Self {
            sim,
            dom: 0,
            gang: 0,
            arrival: (ARRIVALS / Nanos::from(vcpus)).min(100 * US),
            first: 0,
        }
    }

    /// Ends the domain at hand, if there is one, and begins another. Domains start one after the
    /// other: where one finds its place depends on those that run already.
    fn domain(&mut self) {
        let end = self.sim.units.len();
        for index in self.first..end {
            if !matches!(self.sim.units[index].habit, Habit::Rally { peer, .. } if peer < index) {
                self.sim.wake(index);
            }
        }
        let time = (end - self.first) as Nanos * self.arrival;
        self.sim.run_until(self.sim.now + time);
        self.first = end;
        self.dom += 1;
    }

    fn add(&mut self, habit: Habit) {
        self.sim.add(self.dom, Affinity::ANY, habit);
    }

    /// Domains of four, all with this habit.
    fn alike(&mut self, count: u32, habit: Habit) {
        for index in 0..count {
            if index % DOMAIN == 0 {
                self.domain();
            }
            self.add(habit);
        }
    }

    fn gangs(&mut self, count: u32) {
        for index in 0..count {
            if index % GANG == 0 {
                self.domain();
                self.gang += 1;
            }
            self.add(Habit::Gang {
                gang: self.gang - 1,
                run: 500 * US,
            });
        }
    }

    /// One that is left over is a hog.
    fn pairs(&mut self, count: u32) {
        for _ in 0..count / 2 {
            self.domain();
            let first = self.sim.units.len();
            for peer in [first + 1, first] {
                self.add(Habit::Rally { peer, run: 20 * US });
            }
        }
        self.alike(count % 2, Habit::Hog);
    }
}

fn hogs(sim: &mut Sim, _cpus: u32, vcpus: u32) {
    for dom in 0..vcpus.div_ceil(DOMAIN) {
        let params = Params {
            weight: 128 << (dom % 4),
            cap: 0,
        };
        // Domains are numbered from 1. A table of this size has room.
        sim.sched
            .set_params(dom as DomId + 1, params)
            .expect("the weight is valid");
    }
    Filler::new(sim, vcpus).alike(vcpus, Habit::Hog);
}

/// Bursts of about 100 us that together use this percentage of the CPUs, if they never wait.
fn bursts(cpus: u32, count: u32, percent: u64) -> Habit {
    let run = 100 * US;
    let busy = (u64::from(cpus) * percent).max(1);
    let period: Nanos = run * 100 * u64::from(count) / busy;
    Habit::Bursts {
        run,
        pause: period.saturating_sub(run).max(US),
    }
}

fn sleepers(sim: &mut Sim, cpus: u32, vcpus: u32) {
    let hogs = cpus.min(vcpus / 2);
    let mut filler = Filler::new(sim, vcpus);
    filler.alike(hogs, Habit::Hog);
    filler.alike(vcpus - hogs, bursts(cpus, vcpus - hogs, 30));
}

fn gangs(sim: &mut Sim, _cpus: u32, vcpus: u32) {
    Filler::new(sim, vcpus).gangs(vcpus);
}

fn ping_pong(sim: &mut Sim, _cpus: u32, vcpus: u32) {
    Filler::new(sim, vcpus).pairs(vcpus);
}

fn adversaries(sim: &mut Sim, _cpus: u32, vcpus: u32) {
    let mut filler = Filler::new(sim, vcpus);
    filler.alike(vcpus / 4, ADVERSARY);
    filler.alike(vcpus / 4, TICK_ADVERSARY);
    filler.alike(vcpus - vcpus / 4 * 2, Habit::Hog);
}

fn mixed(sim: &mut Sim, cpus: u32, vcpus: u32) {
    let part = vcpus / 6;
    let mut filler = Filler::new(sim, vcpus);
    filler.alike(vcpus - 5 * part, Habit::Hog);
    filler.alike(part, bursts(cpus, part.max(1), 10));
    filler.gangs(part);
    filler.pairs(part);
    filler.alike(part, ADVERSARY);
    filler.alike(part, TICK_ADVERSARY);
}
