//! `cargo xtask bench`: the same work on Xenolith and on Debian's Xen, side by side.
//!
//! Time is counted in instructions (one nanosecond each), so the figures do not depend on the load
//! of the machine. TLB flushes, control-register writes and VM exits are nearly free in that count.

use tests_linux_guests::case::{Case, Script};
use tests_linux_guests::emulator::{Clock, Hypervisor, Machine};
use tests_linux_guests::runner;

use crate::arguments::Arguments;
use crate::boot;
use crate::failure::{Context, Failure, Result};
use crate::hypervisor::Profile;
use crate::layout::Layout;

/// The boot that measures.
const CASE: Case = Case {
    name: "bench",
    machine: Machine {
        clock: Clock::Instructions,
        ..Machine::BASE
    },
    script: Script::Guest("bench"),
    seconds: 900,
    ..Case::BASE
};

/// A figure: what was measured, nanoseconds.
type Figure = (String, f64);

/// Boots both and prints the table; `--hypervisor` takes only one of them.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<()> {
    let only = arguments.has("--hypervisor");
    let one = boot::which(&mut arguments)?;
    arguments.finish()?;
    let all = [Hypervisor::Xen, Hypervisor::Xenolith];
    let chosen: Vec<_> = all.into_iter().filter(|h| !only || *h == one).collect();
    let mut columns = Vec::new();
    for hypervisor in chosen {
        println!("measuring on {hypervisor:?} ...");
        columns.push((hypervisor, measure(layout, hypervisor)?));
    }
    table(&columns);
    Ok(())
}

fn measure(layout: &Layout, hypervisor: Hypervisor) -> Result<Vec<Figure>> {
    let files = boot::prepare(layout, hypervisor, Profile::Release)?;
    let log = layout
        .logs
        .join(format!("bench-{hypervisor:?}.log").to_lowercase());
    let outcome = runner::run(&CASE, &files, &log).context("bench")?;
    for check in outcome
        .checks
        .iter()
        .filter(|check| check.failure.is_some())
    {
        println!("{check}");
    }
    if !outcome.passed() {
        return Err(Failure::new(format!(
            "the boot failed, see {}",
            log.display()
        )));
    }
    let mut figures: Vec<Figure> = outcome.console.lines().filter_map(figure).collect();
    for marker in ["DOM0-USERSPACE", "DOM0-READY"] {
        figures.extend(milestone(&outcome.console, marker));
    }
    Ok(figures)
}

/// Reads a line `BENCH NAME NANOSECONDS`.
fn figure(line: &str) -> Option<Figure> {
    let (name, value) = line.trim().strip_prefix("BENCH ")?.rsplit_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

/// Reads a line `MARKER SECONDS` of the kernel's up time.
fn milestone(console: &str, marker: &str) -> Option<Figure> {
    let line = console.lines().find(|line| line.starts_with(marker))?;
    let seconds: f64 = line.strip_prefix(marker)?.trim().parse().ok()?;
    Some((format!("kernel to {marker}"), seconds * 1e9))
}

fn table(columns: &[(Hypervisor, Vec<Figure>)]) {
    let Some((_, first)) = columns.first() else {
        return;
    };
    print!("{:28}", "ns (1 = one instruction)");
    for (hypervisor, _) in columns {
        print!(" {:>15}", format!("{hypervisor:?}"));
    }
    println!("{}", if columns.len() == 2 { "    ratio" } else { "" });
    for (name, reference) in first {
        print!("{name:28} {reference:>15.0}");
        for (_, figures) in &columns[1..] {
            match figures.iter().find(|(other, _)| other == name) {
                Some((_, value)) => print!(" {value:>15.0} {:>8.2}", value / reference),
                None => print!(" {:>15}", "-"),
            }
        }
        println!();
    }
}

#[cfg(test)]
mod tests {
    use super::{figure, milestone};

    #[test]
    fn lines_of_the_guest_are_read() {
        let read = figure("BENCH pipe round trip 1234\n");
        assert_eq!(read, Some(("pipe round trip".to_owned(), 1234.0)));
        assert_eq!(figure("BENCH nothing"), None);
        let console = "x\nDOM0-READY 2.5\n";
        let read = milestone(console, "DOM0-READY");
        assert_eq!(read, Some(("kernel to DOM0-READY".to_owned(), 2.5e9)));
    }
}
