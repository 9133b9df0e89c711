//! `cargo xtask test`: everything that decides whether a change is good.

use std::process::{Command, ExitCode};

use tests_linux_guests::bad::{self, Builds};
use tests_linux_guests::case::Tier;
use tests_linux_guests::emulator::{Emulator, Hypervisor};
use tests_linux_guests::suite;

use crate::arguments::Arguments;
use crate::boots::{self, Job};
use crate::failure::Result;
use crate::hypervisor::Profile;
use crate::layout::Layout;
use crate::tally::Tally;
use crate::{boot, fuzz, kernel, lint, matrix, process};

/// Runs what the arguments ask for; the exit code tells whether all passed.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.flag("--matrix") {
        return matrix::run(layout, arguments);
    }
    let hypervisor = boot::which(&mut arguments)?;
    let tier = match (arguments.flag("--quick"), arguments.flag("--long")) {
        (true, _) => Tier::Quick,
        (_, true) => Tier::Long,
        _ => Tier::Full,
    };
    let profile = crate::profile(&mut arguments);
    let only_boots = arguments.flag("--boots");
    let only_bochs = arguments.flag("--bochs");
    let filter = arguments.word();
    arguments.finish()?;
    let mut tally = Tally::default();
    if !only_boots && !only_bochs && filter.is_none() && hypervisor == Hypervisor::Xenolith {
        for (name, step) in lint::STEPS {
            tally.step(name, step(layout));
        }
        tally.step("tests of the host crates", host_tests(layout));
        if tier == Tier::Long {
            tally.step("fuzzing of the boot's parsers", fuzz::all(layout, 300));
        }
    }
    match boot::prepare(layout, hypervisor, profile) {
        Ok(files) => {
            let jobs = if only_bochs {
                // All are long.
                in_bochs(&Choice::new(filter, Tier::Long))
            } else {
                chosen(&Choice::new(filter, tier), hypervisor, profile)
            };
            boots::run(layout, profile, &jobs, &files, &mut tally)?;
        }
        Err(failure) => tally.step("the files to boot are built", Err(failure)),
    }
    tally.sum();
    Ok(
        if tally.failed.is_empty() && tally.passed + tally.reported > 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        },
    )
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

/// The boots that are chosen.
fn chosen(choice: &Choice, hypervisor: Hypervisor, profile: Profile) -> Vec<Job<'static>> {
    let cases = suite::cases().filter(|case| choice.takes(case.name, case.tier));
    let bad = bad::boots::all().filter(|boot| {
        // Their words are ours: the reference has others.
        hypervisor == Hypervisor::Xenolith && choice.takes(boot.name, boot.tier)
    });
    let bad = bad.filter(|boot| {
        let able = boot.builds == Builds::Any || profile == Profile::Checked;
        if !able {
            println!("boot {}: only with --checked", boot.name);
        }
        able
    });
    cases.map(Job::Case).chain(bad.map(Job::Bad)).collect()
}

/// The boots in Bochs that are chosen.
fn in_bochs(choice: &Choice) -> Vec<Job<'static>> {
    let cases = suite::cases().filter(|case| case.machine.emulator == Emulator::Bochs);
    let cases = cases.filter(|case| choice.takes(case.name, case.tier));
    cases.map(Job::Case).collect()
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
        let mut names = suite::cases()
            .map(|case| case.name)
            .chain(bad::boots::all().map(|boot| boot.name));
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
