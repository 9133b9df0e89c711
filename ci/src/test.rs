//! `cargo xtask test`: everything that decides whether a change is good.

use std::path::Path;
use std::process::{Command, ExitCode};

use tests_linux_guests::bad::{self, BadBoot};
use tests_linux_guests::case::{Case, Tier};
use tests_linux_guests::emulator::{Files, Hypervisor, Software};
use tests_linux_guests::report::Check;
use tests_linux_guests::runner::{self, Outcome};
use tests_linux_guests::suite;

use crate::arguments::Arguments;
use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::{boot, kernel, lint, process};

/// Lines of a failed boot's console that are shown.
const TAIL: usize = 60;

/// How many checks passed and failed.
#[derive(Debug, Default)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn count(&mut self, check: &Check) {
        println!("{check}");
        match check.failure {
            None => self.passed += 1,
            Some(_) => self.failed += 1,
        }
    }

    fn step(&mut self, name: &str, result: Result<()>) {
        self.count(&match result {
            Ok(()) => Check::passed(name),
            Err(failure) => Check::failed(name, failure.to_string()),
        });
    }
}

/// Runs what the arguments ask for; the exit code tells whether all passed.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<ExitCode> {
    let hypervisor = boot::which(&mut arguments)?;
    let tier = match (arguments.flag("--quick"), arguments.flag("--long")) {
        (true, _) => Tier::Quick,
        (_, true) => Tier::Long,
        _ => Tier::Full,
    };
    let profile = crate::profile(&mut arguments);
    let only_boots = arguments.flag("--boots");
    let filter = arguments.word();
    arguments.finish()?;
    let mut tally = Tally::default();
    if !only_boots && filter.is_none() && hypervisor == Hypervisor::Xenolith {
        for (name, step) in lint::STEPS {
            tally.step(name, step(layout));
        }
        tally.step("tests of the host crates", host_tests(layout));
    }
    match boot::prepare(layout, hypervisor, profile) {
        Ok(files) => {
            let choice = Choice::new(filter, tier);
            boot_cases(layout, &choice, &files, &mut tally)?;
            // Their words are ours: the reference has others.
            if hypervisor == Hypervisor::Xenolith {
                let chosen = |boot: &&BadBoot| choice.takes(boot.name, Tier::Full);
                for boot in bad::boots::BOOTS.iter().filter(chosen) {
                    boot_bad(layout, boot, &files, &mut tally)?;
                }
            }
        }
        Err(failure) => tally.step("the files to boot are built", Err(failure)),
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(if tally.failed == 0 && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn host_tests(layout: &Layout) -> Result<()> {
    // The tests of the loader read Debian's kernel.
    kernel::fetch(layout)?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    process::run(
        Command::new(cargo)
            .args(["test", "--quiet"])
            .current_dir(&layout.root),
    )
}

/// Which boots to run.
struct Choice {
    filter: Option<String>,
    /// The filter is the whole name of one.
    exact: bool,
    tier: Tier,
}

impl Choice {
    fn new(filter: Option<String>, tier: Tier) -> Self {
        let mut names = suite::CASES
            .iter()
            .map(|case| case.name)
            .chain(bad::boots::BOOTS.iter().map(|boot| boot.name));
        let exact = names.any(|name| Some(name) == filter.as_deref());
        Self {
            filter,
            exact,
            tier,
        }
    }

    fn takes(&self, name: &str, tier: Tier) -> bool {
        match &self.filter {
            Some(filter) if self.exact => name == filter,
            Some(filter) => name.contains(filter.as_str()),
            None => tier <= self.tier,
        }
    }
}

/// Runs the chosen boots of [`suite::CASES`].
fn boot_cases(layout: &Layout, choice: &Choice, files: &Files, tally: &mut Tally) -> Result<()> {
    let mut hopeless = false;
    let chosen = |case: &&Case| choice.takes(case.name, case.tier);
    for case in suite::CASES.iter().filter(chosen) {
        if hopeless {
            let why = "not tried, dom0 did not come up in the boot before";
            tally.count(&Check::failed(case.name, why));
        } else {
            let ready = boot_case(layout, case, files, tally)?;
            // The first cases are the plainest; when they hang, so will the rest.
            hopeless = !ready && case.tier == Tier::Quick;
        }
    }
    Ok(())
}

/// Boots one case and prints its checks. Returns whether dom0 came up.
fn boot_case(layout: &Layout, case: &Case, files: &Files, tally: &mut Tally) -> Result<bool> {
    println!("boot {} ...", case.name);
    let hypervisor = case.hypervisor_line();
    let kernel = case.kernel_line();
    let software = Software {
        hypervisor_line: &hypervisor,
        payload: case.payload(),
        kernel_line: &kernel,
    };
    let files = boot::complete(layout, files, &case.machine, case.name, software)?;
    let log = layout.logs.join(format!("{}.log", case.name));
    let outcome = runner::run(case, &files, &log).context(case.name)?;
    show(case.name, &outcome, &log, tally);
    let console = &outcome.console;
    Ok(console.contains("DOM0-READY") || console.contains("MICRO-RESULT"))
}

/// Boots something wrong and prints its checks.
fn boot_bad(layout: &Layout, boot: &BadBoot, files: &Files, tally: &mut Tally) -> Result<()> {
    println!("boot {} ...", boot.name);
    let log = layout.logs.join(format!("{}.log", boot.name));
    let folder = layout.target.join("bad");
    let outcome = bad::run(boot, files, &folder, &log).context(boot.name)?;
    show(boot.name, &outcome, &log, tally);
    Ok(())
}

/// Prints and counts the checks of a boot; after a failure also the end of its console.
fn show(name: &str, outcome: &Outcome, log: &Path, tally: &mut Tally) {
    for check in &outcome.checks {
        tally.count(&Check {
            name: format!("{name}: {}", check.name),
            failure: check.failure.clone(),
        });
    }
    println!("boot {name} took {:.0} s", outcome.took.as_secs_f64());
    if !outcome.passed() {
        let lines: Vec<_> = outcome.console.lines().collect();
        println!("---- the end of {}", log.display());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            println!("| {line}");
        }
        println!("----");
    }
}
