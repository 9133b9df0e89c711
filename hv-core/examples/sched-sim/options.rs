//! What the command line says.

use std::path::PathBuf;

use hv_core::base::Nanos;
use hv_core::sched::MAX_CPUS;
use hv_core::sched::sim::MS;

use crate::loads::{LOADS, Load};

/// vCPUs that a machine can have here.
const MAX_VCPUS: u32 = 4096;
/// CPUs, vCPUs and seconds of the machines in the table.
const SIZES: &[(u32, u32, f64)] = &[
    (1, 6, 10.0),
    (4, 32, 10.0),
    (64, 512, 2.0),
    (512, 4096, 0.5),
];
/// What `--cpus`, `--vcpus` and `--seconds` are when only some are given.
const CPUS: u32 = 4;
const VCPUS_FOR_EACH_CPU: u32 = 8;
const SECONDS: f64 = 2.0;
/// Time that the picture shows.
const WINDOW: Nanos = 200 * MS;

/// The help text.
pub fn help() -> String {
    let mut text = format!(
        "\
usage: cargo xtask sched-sim [OPTIONS]

Runs the hypervisor's scheduler on a simulated machine. Without options: each load on a few machines.

  --load NAME      only this load
  --cpus N         CPUs, 1 to {MAX_CPUS}
  --vcpus N        vCPUs, 1 to {MAX_VCPUS}
  --seconds S      simulated time, after a tenth of it to settle
  --seed N         another course of events (1); the same seed gives the same
  --ratelimit US   the scheduler's rate limit, 0 for none
  --svg FILE       the picture of a single run (target/sched-sim/LOAD-CPUSxVCPUS.svg)
  --window MS      how much the picture shows, up to the end (200)
  --help           this text

Loads:
"
    );
    for load in LOADS {
        text += &format!("  {:<16} {}\n", load.name, load.what);
    }
    text
}

/// One line of the table.
#[derive(Debug)]
pub struct Run {
    pub load: &'static Load,
    pub cpus: u32,
    pub vcpus: u32,
    pub seconds: f64,
}

impl Run {
    /// What the picture is of.
    pub fn title(&self) -> String {
        format!(
            "{}: {} vCPUs on {} CPUs",
            self.load.name, self.vcpus, self.cpus
        )
    }
}

/// All options.
#[derive(Debug)]
pub struct Options {
    load: Option<&'static Load>,
    cpus: Option<u32>,
    vcpus: Option<u32>,
    seconds: Option<f64>,
    pub seed: u64,
    pub ratelimit: Option<u32>,
    pub svg: Option<PathBuf>,
    pub window: Nanos,
}

impl Options {
    /// Reads the words; nothing when help is wanted.
    pub fn parse(words: &[String]) -> Result<Option<Self>, String> {
        let mut options = Self {
            load: None,
            cpus: None,
            vcpus: None,
            seconds: None,
            seed: 1,
            ratelimit: None,
            svg: None,
            window: WINDOW,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if matches!(word.as_str(), "--help" | "-h" | "help") {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| match word.as_str() {
                name if name.starts_with("--") => format!("{name} needs a value, or is unknown"),
                other => format!("unknown argument: {other}"),
            });
            options.set(word, value?)?;
        }
        if options.svg.is_some() && options.runs().len() > 1 {
            return Err("--svg is for a single run: give --load, and --cpus or --vcpus".to_owned());
        }
        Ok(Some(options))
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--load" => {
                let load = LOADS.iter().find(|load| load.name == value);
                self.load = Some(load.ok_or_else(|| format!("no load {value}"))?);
            }
            "--cpus" => self.cpus = Some(number(name, value, 1, MAX_CPUS)?),
            "--vcpus" => self.vcpus = Some(number(name, value, 1, MAX_VCPUS)?),
            "--seconds" => {
                let seconds: Option<f64> = value.parse().ok();
                let valid = seconds.filter(|seconds| (0.001..=100_000.0).contains(seconds));
                let bounds = || format!("{name}: {value} is not a number from 0.001 to 100000");
                self.seconds = Some(valid.ok_or_else(bounds)?);
            }
            "--seed" => self.seed = number(name, value, 0, u64::MAX)?,
            "--ratelimit" => self.ratelimit = Some(number(name, value, 0, 500_000)?),
            "--window" => self.window = number(name, value, 1, 1_000_000)? * MS,
            "--svg" => self.svg = Some(value.into()),
            _ => return Err(format!("unknown argument: {name}")),
        }
        Ok(())
    }

    /// The lines of the table.
    pub fn runs(&self) -> Vec<Run> {
        let sizes = if self.cpus.is_none() && self.vcpus.is_none() {
            SIZES.to_vec()
        } else {
            let cpus = self.cpus.unwrap_or(CPUS);
            let vcpus = (cpus * VCPUS_FOR_EACH_CPU).min(MAX_VCPUS);
            vec![(cpus, self.vcpus.unwrap_or(vcpus), SECONDS)]
        };
        let loads = LOADS
            .iter()
            .filter(|load| self.load.is_none_or(|wanted| core::ptr::eq(wanted, *load)));
        let sizes = &sizes;
        loads
            .flat_map(|load| {
                sizes.iter().map(move |&(cpus, vcpus, seconds)| Run {
                    load,
                    cpus,
                    vcpus,
                    seconds: self.seconds.unwrap_or(seconds * load.part),
                })
            })
            .collect()
    }
}

fn number<T>(name: &str, value: &str, low: T, high: T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let found = value.parse().ok();
    let valid = found.filter(|number| (&low..=&high).contains(&number));
    valid.ok_or_else(|| format!("{name}: {value} is not a number from {low} to {high}"))
}
