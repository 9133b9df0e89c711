//! The scheduler of the hypervisor at work on a simulated machine (`cargo xtask sched-sim`): how
//! fair it is, how long who wakes waits, what it moves, what a decision costs; and a picture.

mod loads;
mod options;
mod picture;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;
use std::time::Instant;

use hv_core::base::Nanos;
use hv_core::sched::sim::{MS, Sim};
use hv_core::sched::{Layout, Scheduler};

use loads::Load;
use options::{Options, Run};
use picture::Picture;
use report::Report;

/// CPUs that share a run queue, as in the hypervisor.
const GROUP_WIDTH: u32 = 16;
/// What is dear to check is checked after so many events: a prime, so that no habit keeps step.
const CHECK_EVERY: u32 = 1021;
/// The time from one emptying of the list of spans to the next.
const CHUNK: Nanos = 10 * MS;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn host_clock() -> u64 {
    START.elapsed().as_nanos() as u64
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options = match Options::parse(&words) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{}", options::help());
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("sched-sim: {message}\n\n{}", options::help());
            return ExitCode::FAILURE;
        }
    };
    match run_all(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("sched-sim: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run_all(options: &Options) -> Result<(), String> {
    let runs = options.runs();
    println!("{}", report::HEAD);
    let mut pictures = Vec::new();
    for run in &runs {
        let (report, picture) = run_one(options, run)?;
        println!("{report}");
        let path = options.svg.clone().unwrap_or_else(|| default_path(run));
        write(&path, &picture.draw(&run.title()))?;
        pictures.push(path);
    }
    println!("\n{}", report::LEGEND);
    for path in pictures {
        println!("picture: {}", path.display());
    }
    Ok(())
}

fn default_path(run: &Run) -> PathBuf {
    let name = format!("{}-{}x{}.svg", run.load.name, run.cpus, run.vcpus);
    Path::new("target").join("sched-sim").join(name)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let result = match path.parent() {
        Some(folder) => std::fs::create_dir_all(folder),
        None => Ok(()),
    };
    result
        .and_then(|()| std::fs::write(path, text))
        .map_err(|error| format!("{}: {error}", path.display()))
}

fn run_one(options: &Options, run: &Run) -> Result<(Report, Picture), String> {
    let layout = Layout {
        max_cpus: run.cpus,
        group_width: GROUP_WIDTH,
        max_units: run.vcpus,
    };
    let mut sim = Sim::with_layout(layout, options.seed, CHECK_EVERY);
    if let Some(us) = options.ratelimit {
        let refused = |_| format!("--ratelimit {us}: 0, or 100 to 500000");
        sim.sched.set_ratelimit_us(us).map_err(refused)?;
    }
    let Load { fill, .. } = *run.load;
    fill(&mut sim, run.cpus, run.vcpus);
    let length = (run.seconds * 1e9) as Nanos;
    // Until all have found their places.
    sim.run_until(sim.now + length / 10);
    let before = report::begin(&mut sim);
    sim.clock = Some(host_clock);
    let end = sim.now + length;
    let mut picture = Picture::new(run.cpus as usize, end.saturating_sub(options.window), end);
    while sim.now < end {
        if sim.now + CHUNK > picture.from {
            sim.record_spans();
        }
        sim.run_until(end.min(sim.now + CHUNK));
        picture.add(&sim.take_spans(), &sim);
    }
    picture.add(&picture::under_way(&sim), &sim);
    Ok((Report::new(run, &sim, &before), picture))
}
