//! Boots the chosen cases, two machines with one CPU side by side, and prints their checks.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests_linux_guests::bad::{self, BadBoot};
use tests_linux_guests::case::{Case, Guests, Tier, Weight};
use tests_linux_guests::emulator::{Files, Loader, Software};
use tests_linux_guests::report::Check;
use tests_linux_guests::runner::{self, Outcome};

use crate::failure::{Context, Result};
use crate::hypervisor::{Hypervisor, Profile};
use crate::layout::Layout;
use crate::tally::Tally;
use crate::{boot, image, symbolize};

/// Lines of a failed boot's console that are shown.
const TAIL: usize = 60;
/// Machines that run at once.
const LANES: usize = 2;

/// A boot to run.
#[derive(Clone, Copy)]
pub enum Job<'a> {
    /// One that has to work.
    Case(&'a Case),
    /// One of something wrong.
    Bad(&'a BadBoot),
}

impl Job<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Case(case) => case.name,
            Self::Bad(boot) => boot.name,
        }
    }

    fn cpus(&self) -> u32 {
        match self {
            Self::Case(case) => case.machine.cpus,
            Self::Bad(boot) => boot.machine.cpus,
        }
    }

    fn is_quick(&self) -> bool {
        matches!(self, Self::Case(case) if case.tier == Tier::Quick)
    }

    fn weight(&self) -> Weight {
        match self {
            Self::Case(case) => case.weight,
            Self::Bad(_) => Weight::Counts,
        }
    }
}

/// What the boots share.
struct Bench<'a> {
    layout: &'a Layout,
    files: &'a Files,
    /// How the hypervisor was built.
    profile: Profile,
    /// Held while files are made for a boot: two must not download or build the same.
    making: Mutex<()>,
}

/// Runs all, the plainest first and alone.
///
/// # Errors
/// An emulator that cannot be started, a file that cannot be made.
pub fn run(
    layout: &Layout,
    profile: Profile,
    jobs: &[Job<'_>],
    files: &Files,
    tally: &mut Tally,
) -> Result<()> {
    let bench = Bench {
        layout,
        files,
        profile,
        making: Mutex::new(()),
    };
    let (quick, rest): (Vec<_>, Vec<_>) = jobs.iter().partition(|job| job.is_quick());
    for (index, &job) in quick.iter().enumerate() {
        let outcome = bench.boot(job)?;
        bench.show(job, &outcome, tally);
        // When the plainest hangs, so will all others.
        if !outcome.console.contains("DOM0-READY") {
            for job in quick[index + 1..].iter().chain(&rest) {
                let why = "not tried, dom0 did not come up in the boot before";
                tally.count(&Check::failed(job.name(), why));
            }
            return Ok(());
        }
    }
    // Virtual CPUs that wait for each other want the real ones for themselves.
    let (single, several): (Vec<_>, Vec<_>) = rest.into_iter().partition(|job| job.cpus() == 1);
    bench.lanes(&single, LANES, tally)?;
    bench.lanes(&several, 1, tally)
}

impl Bench<'_> {
    /// Runs jobs, so many at once.
    fn lanes(&self, jobs: &[Job<'_>], lanes: usize, tally: &mut Tally) -> Result<()> {
        let queue = Mutex::new(jobs.iter().copied().collect::<VecDeque<_>>());
        let tally = Mutex::new(tally);
        let lane = || {
            loop {
                let Some(job) = lock(&queue).pop_front() else {
                    return Ok(());
                };
                let outcome = self.boot(job)?;
                self.show(job, &outcome, &mut lock(&tally));
            }
        };
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..lanes).map(|_| scope.spawn(lane)).collect();
            running.into_iter().try_for_each(|lane| {
                lane.join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        })
    }

    fn log(&self, job: Job<'_>) -> PathBuf {
        self.layout.logs.join(format!("{}.log", job.name()))
    }

    fn boot(&self, job: Job<'_>) -> Result<Outcome> {
        println!("boot {} ...", job.name());
        match job {
            Job::Case(case) => self.boot_case(case),
            Job::Bad(boot) => self.boot_bad(boot),
        }
        .context(job.name())
    }

    fn boot_case(&self, case: &Case) -> Result<Outcome> {
        let hypervisor = case.hypervisor_line();
        let kernel = case.kernel_line();
        let software = Software {
            hypervisor_line: &hypervisor,
            payload: case.payload(),
            kernel_line: &kernel,
        };
        let made = lock(&self.making);
        let mut files = self.files.clone();
        match case.guests {
            Guests::Linux => files.dom0 = image::build_guests(self.layout)?.dom0,
            Guests::Kernel(linux) => {
                files.dom0 = image::build_other_guests(self.layout, linux)?.dom0;
            }
            Guests::OnDisk => files.dom0 = image::build_pygrub(self.layout)?.dom0,
            Guests::None if case.devices.is_some() => {
                files.dom0 = image::with_drivers(self.layout, &files.dom0)?;
            }
            Guests::Unpacked => {
                let dom0 = image::build_guests(self.layout)?.dom0;
                files.dom0 = image::with_unpacked_kernel(self.layout, &dom0)?;
            }
            Guests::Micro => files.dom0 = image::with_micro(self.layout, &files.dom0)?,
            Guests::None => {}
        }
        let files = boot::complete(self.layout, &files, &case.machine, case.name, software)?;
        drop(made);
        runner::run(case, &files, &self.log(Job::Case(case))).context("the boot")
    }

    fn boot_bad(&self, boot: &BadBoot) -> Result<Outcome> {
        let folder = self.layout.target.join("bad").join(boot.name);
        let log = self.log(Job::Bad(boot));
        let mut files = self.files.clone();
        if boot.machine.loader == Loader::PvhNote {
            files.hypervisor = boot::pvh_only(self.layout, &files)?;
        }
        if boot.machine.loader == Loader::GrubUefi {
            let made = lock(&self.making);
            boot::complete_bad(self.layout, &mut files, boot, &folder)?;
            drop(made);
        }
        let mut outcome = bad::run(boot, &files, &folder, &log).context("the boot")?;
        if !boot.back_trace.is_empty() {
            let debug = Hypervisor::at(self.layout, self.profile).debug;
            let named = symbolize::annotate(&debug, &outcome.console)?;
            let wanted = boot.back_trace.iter();
            outcome.checks.extend(wanted.map(|f| leads(&named, f)));
        }
        Ok(outcome)
    }

    /// Prints and counts the checks of a boot; after a failure also the end of its console.
    fn show(&self, job: Job<'_>, outcome: &Outcome, tally: &mut Tally) {
        let name = job.name();
        for check in &outcome.checks {
            let check = Check {
                name: format!("{name}: {}", check.name),
                failure: check.failure.clone(),
            };
            match job.weight() {
                Weight::Counts => tally.count(&check),
                Weight::Reported => tally.report(&check),
            }
        }
        println!("boot {name} took {:.0} s", outcome.took.as_secs_f64());
        if !outcome.passed() {
            let lines: Vec<_> = outcome.console.lines().collect();
            println!("---- the end of {}", self.log(job).display());
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                println!("| {line}");
            }
            println!("----");
        }
    }
}

/// A lock that a lane which panicked does not keep from the others: its panic is passed on anyway.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a back-trace with names goes through a function.
fn leads(named: &str, function: &str) -> Check {
    let name = format!("the back-trace names {function}");
    let mut lines = named.lines().filter(|line| line.contains(" = "));
    if lines.any(|line| line.contains(function)) {
        return Check::passed(name);
    }
    Check::failed(name, "no address has this name")
}
