//! What a run says about the scheduler, in a line.

use std::collections::BTreeMap;
use std::fmt;

use hv_core::base::{DomId, Nanos};
use hv_core::sched::Scheduler;
use hv_core::sched::sim::{Costs, Habit, Histogram, Sim, US, shares_of};

use crate::host_clock;
use crate::options::Run;

/// The head of the table.
pub const HEAD: &str = concat!(
    "                                unfair %      wake-up, us                      ",
    "  a second, all CPUs      a decision\n",
    "load          CPUs vCPUs     s   mean    max     p50     p99   p99.9     max",
    "   moves switches     ns    p99 looks other ns"
);

/// What the columns mean.
pub const LEGEND: &str = "\
unfair     |got - deserved| / deserved, of vCPUs that want all they can get: shares in proportion to weights, a CPU
           each at most, of what the others leave. Of gangs and pairs when nobody wants all: each against their mean.
wake-up    from something to do until a CPU runs it, with kicks of up to 3 us and 20 us to save another's state
moves      starts on another CPU than the last time; switches: starts where it was not loaded
ns         a call of `schedule` on this host, median and 99th percentile; other: wake, sleep and context_saved, median
looks      how often a decision, with the wake-ups and sleeps between two, looked at a vCPU's data";

/// The counters when the measurement begins.
pub struct Before {
    ran: Vec<Nanos>,
    now: Nanos,
    migrations: u64,
    switches: u64,
    decisions: u64,
    looks: u64,
}

/// Forgets what was measured, and keeps the counters.
pub fn begin(sim: &mut Sim) -> Before {
    sim.latency = Histogram::default();
    sim.costs = Costs::default();
    Before {
        ran: (0..sim.units.len()).map(|index| sim.ran(index)).collect(),
        now: sim.now,
        migrations: sim.migrations,
        switches: sim.switches,
        decisions: sim.decisions,
        looks: sim.looks(),
    }
}

/// A line of the table.
pub struct Report {
    name: &'static str,
    cpus: u32,
    vcpus: u32,
    seconds: f64,
    /// Mean and maximum of the relative error.
    unfair: Option<(f64, f64)>,
    latency: Histogram,
    moves: f64,
    switches: f64,
    costs: Costs,
    looks: f64,
}

impl Report {
    pub fn new(run: &Run, sim: &Sim, before: &Before) -> Self {
        let seconds = (sim.now - before.now) as f64 / 1e9;
        let got: Vec<f64> = (before.ran.iter().enumerate())
            .map(|(index, ran)| (sim.ran(index) - ran) as f64 / 1e9 / seconds)
            .collect();
        let decisions = (sim.decisions - before.decisions).max(1);
        Self {
            name: run.load.name,
            cpus: run.cpus,
            vcpus: run.vcpus,
            seconds,
            unfair: unfairness(sim, &got, run.cpus),
            latency: sim.latency.clone(),
            moves: (sim.migrations - before.migrations) as f64 / seconds,
            switches: (sim.switches - before.switches) as f64 / seconds,
            costs: sim.costs.clone(),
            looks: (sim.looks() - before.looks) as f64 / decisions as f64,
        }
    }
}

/// Mean and maximum of how far units are from what they deserve.
fn unfairness(sim: &Sim, got: &[f64], cpus: u32) -> Option<(f64, f64)> {
    let (greedy, others): (Vec<usize>, Vec<usize>) =
        (0..got.len()).partition(|&index| sim.units[index].habit.is_greedy());
    let errors = if greedy.is_empty() {
        errors_of_domains(sim, got)
    } else {
        let weight = |&index: &usize| sim.sched.params(sim.units[index].dom).weight;
        let weights: Vec<u16> = greedy.iter().map(weight).collect();
        let taken: f64 = others.iter().map(|&index| got[index]).sum();
        let fair = shares_of(&weights, f64::from(cpus) - taken);
        let error = |(&index, fair): (&usize, &f64)| (got[index] - fair).abs() / fair;
        greedy.iter().zip(&fair).map(error).collect()
    };
    summary(&errors)
}

/// Gangs and pairs (one domain each) against their mean; those of one load are alike.
fn errors_of_domains(sim: &Sim, got: &[f64]) -> Vec<f64> {
    let mut domains: BTreeMap<DomId, (f64, f64)> = BTreeMap::new();
    for (unit, got) in sim.units.iter().zip(got) {
        if !matches!(unit.habit, Habit::Bursts { .. }) {
            let (sum, count) = domains.entry(unit.dom).or_default();
            *sum += got;
            *count += 1.0;
        }
    }
    let each: Vec<f64> = domains.values().map(|(sum, count)| sum / count).collect();
    let mean = each.iter().sum::<f64>() / each.len() as f64;
    each.iter().map(|got| (got - mean).abs() / mean).collect()
}

fn summary(errors: &[f64]) -> Option<(f64, f64)> {
    let max = errors.iter().copied().reduce(f64::max)?;
    Some((errors.iter().sum::<f64>() / errors.len() as f64, max))
}

/// What two looks at the clock cost, which is no part of what is measured between them.
fn clock_cost() -> u64 {
    let mut costs = Histogram::default();
    for _ in 0..10_000 {
        let begin = host_clock();
        costs.record(host_clock() - begin);
    }
    costs.quantile(500)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, cpus, vcpus, ..
        } = self;
        write!(f, "{name:<13} {cpus:>4} {vcpus:>5} {:>5}", self.seconds)?;
        match self.unfair {
            Some((mean, max)) => write!(f, " {:>6.2} {:>6.2}", mean * 100.0, max * 100.0)?,
            None => write!(f, " {:>6} {:>6}", "-", "-")?,
        }
        for per_mille in [500, 990, 999, 1000] {
            if self.latency.count() == 0 {
                write!(f, " {:>7}", "-")?;
            } else {
                let us = self.latency.quantile(per_mille) as f64 / US as f64;
                write!(f, " {us:>7.1}")?;
            }
        }
        write!(f, " {:>7.0} {:>8.0}", self.moves, self.switches)?;
        let clock = clock_cost();
        // The host takes its own CPU away now and then: no mean.
        let net = |costs: &Histogram, per_mille| costs.quantile(per_mille).saturating_sub(clock);
        let Costs { decisions, others } = &self.costs;
        let (median, p99) = (net(decisions, 500), net(decisions, 990));
        let others = net(others, 500);
        write!(f, " {median:>6} {p99:>6} {:>5.0} {others:>8}", self.looks)
    }
}
