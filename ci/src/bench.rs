//! `cargo xtask bench`: the same work on Xenolith and on Debian's Xen, side by side.
//!
//! Time is counted in instructions (one nanosecond each), so the figures do not depend on the load
//! of the machine. TLB flushes, control-register writes and exits are nearly free in that count: a plugin in the
//! emulator counts them, in the same way for both hypervisors.

use std::path::Path;
use std::time::Duration;

use tests_linux_guests::case::{Case, Script};
use tests_linux_guests::console::Console;
use tests_linux_guests::emulator::{self, Clock, Files, Hypervisor, Machine, Software, Terminal};
use tests_linux_guests::runner;

use crate::arguments::Arguments;
use crate::boot;
use crate::failure::{Context, Failure, Result};
use crate::hypervisor::Profile;
use crate::layout::Layout;

mod counts;
mod debian;
mod devices;
mod guests;
mod table;

use counts::{Counts, Events};
use table::Column;

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

/// A figure: what was measured, in the unit that its name says or in nanoseconds.
type Figure = (String, f64);

/// Boots both and prints the tables; `--hypervisor` takes only one of them, `--devices`, `--guests` and `--debian`
/// measure these, `--guests --only PART` one part.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<()> {
    let only = arguments.has("--hypervisor");
    let one = boot::which(&mut arguments)?;
    let kind = ["--debian", "--devices", "--guests"]
        .into_iter()
        .find(|kind| arguments.flag(kind));
    let part = match kind {
        Some("--guests") => arguments.value("--only")?,
        _ => None,
    };
    let measure = |hypervisor| match kind {
        Some("--debian") => debian::measure(layout, hypervisor),
        Some("--devices") => devices::measure(layout, hypervisor),
        Some("--guests") => guests::measure(layout, hypervisor, part.as_deref()),
        _ => measure(layout, hypervisor),
    };
    arguments.finish()?;
    let all = [Hypervisor::Xen, Hypervisor::Xenolith];
    let chosen: Vec<_> = all.into_iter().filter(|h| !only || *h == one).collect();
    let mut columns = Vec::new();
    for hypervisor in chosen {
        println!("measuring on {hypervisor:?} ...");
        columns.push(measure(hypervisor)?);
    }
    table::figures(&columns);
    table::events(&columns);
    Ok(())
}

fn measure(layout: &Layout, hypervisor: Hypervisor) -> Result<Column> {
    let name = format!("bench-{hypervisor:?}").to_lowercase();
    let mut files = boot::prepare(layout, hypervisor, Profile::Release)?;
    let (console, counts) = boot(layout, &CASE, &mut files, &name)?;
    let mut figures = figures(&console);
    figures.push(("entry to dom0, bzImage".to_owned(), counts.entry()?));
    let counted = layout.logs.join(format!("{name}.counts"));
    let unpacked = entry_unpacked(layout, files, &name, &counted)?;
    figures.push(("entry to dom0, vmlinux".to_owned(), unpacked));
    Ok(Column {
        hypervisor,
        figures,
        events: events(&console, &counts)?,
    })
}

/// Boots the case with the counting plugin: its console, and what was counted.
fn boot(layout: &Layout, case: &Case, files: &mut Files, name: &str) -> Result<(String, Counts)> {
    let log = layout.logs.join(format!("{name}.log"));
    let counted = layout.logs.join(format!("{name}.counts"));
    files.plugin = counts::plugin(layout, &counted)?;
    let outcome = runner::run(case, files, &log).context("bench")?;
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
    Ok((outcome.console, Counts::read(&counted)?))
}

/// Boots the kernel as an ELF file, as far as its first message: how long until its first instruction.
fn entry_unpacked(layout: &Layout, files: Files, name: &str, counted: &Path) -> Result<f64> {
    let files = Files {
        kernel: layout.cache.join("vmlinux"),
        ..files
    };
    let (hypervisor_line, kernel_line) = (CASE.hypervisor_line(), CASE.kernel_line());
    let software = Software {
        hypervisor_line: &hypervisor_line,
        payload: CASE.payload(),
        kernel_line: &kernel_line,
    };
    let mut command = emulator::command(&CASE.machine, &files, software, Terminal::Program);
    let log = layout.logs.join(format!("{name}-vmlinux.log"));
    let mut console = Console::start(&mut command, &log, Duration::from_secs(CASE.seconds))
        .context("the emulator")?;
    console
        .wait_for("Linux version")
        .map_err(|missed| Failure::new(format!("{missed}, see {}", log.display())))?;
    drop(console);
    Counts::read(counted)?.entry()
}

/// All figures on the console.
fn figures(console: &str) -> Vec<Figure> {
    let mut figures: Vec<Figure> = console.lines().filter_map(figure).collect();
    let start = figures
        .iter()
        .find(|(name, _)| name == "power-on to kernel")
        .map(|(_, time)| *time);
    for marker in ["DOM0-USERSPACE", "DOM0-READY"] {
        if let Some(since) = milestone(console, marker) {
            figures.push((format!("kernel to {marker}"), since));
            figures.extend(start.map(|start| (format!("power-on to {marker}"), start + since)));
        }
    }
    figures
}

/// Reads a line `BENCH NAME VALUE`.
fn figure(line: &str) -> Option<Figure> {
    let (name, value) = line.trim().strip_prefix("BENCH ")?.rsplit_once(' ')?;
    Some((name.to_owned(), value.parse().ok()?))
}

/// Reads a line `MARKER SECONDS` of the kernel's up time, in nanoseconds.
fn milestone(console: &str, marker: &str) -> Option<f64> {
    let line = console.lines().find(|line| line.starts_with(marker))?;
    let seconds: f64 = line.strip_prefix(marker)?.trim().parse().ok()?;
    Some(seconds * 1e9)
}

/// What was counted for each figure that is followed by a line `COUNTED OPERATIONS`, for one operation.
fn events(console: &str, counts: &Counts) -> Result<Vec<(String, Events)>> {
    let mut name = None;
    let mut all = Vec::new();
    for line in console.lines() {
        if let Some((figure, _)) = figure(line) {
            name = Some(figure);
        } else if let Some(operations) = line.trim().strip_prefix("COUNTED ") {
            let operations: f64 = operations.parse().context("COUNTED")?;
            let name = name.take().ok_or("COUNTED stands behind a figure")?;
            let span = counts.span(all.len()).ok_or("marks and figures differ")?;
            all.push((name, span.each(operations)));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::{Counts, events, figure, figures};

    #[test]
    fn lines_of_the_guest_are_read() {
        let read = figure("BENCH pipe round trip 1234\n");
        assert_eq!(read, Some(("pipe round trip".to_owned(), 1234.0)));
        assert_eq!(figure("BENCH nothing"), None);
        let read = figures("x\nDOM0-READY 2.5\nBENCH power-on to kernel 500000000\n");
        let names: Vec<_> = read.iter().map(|(name, _)| &**name).collect();
        let expected = [
            "power-on to kernel",
            "kernel to DOM0-READY",
            "power-on to DOM0-READY",
        ];
        assert_eq!(names, expected);
        assert_eq!(read[2].1, 3e9);
    }

    #[test]
    fn counts_belong_to_the_figures_in_their_order() {
        let counts: Counts = "hypervisor 100 0 0 0 0 0\nkernel 700 50 9 9 9 9\n\
            begin 1000 100 0 0 0 0\nend 1900 400 10 20 5 30\nbegin 2000 0 0 0 0 0\nend 2000 0 0 0 0 0\n"
            .parse()
            .unwrap();
        assert_eq!(counts.entry().unwrap(), 600.0);
        let console = "BENCH power-on 5\nBENCH a b 7\nCOUNTED 10\nBENCH c 1\nCOUNTED 1\n";
        let read = events(console, &counts).unwrap();
        assert_eq!((&*read[0].0, &*read[1].0), ("a b", "c"));
        let a = &read[0].1;
        assert_eq!((a.hypervisor, a.cr3, a.flushes), (30.0, 1.0, 1.0));
        assert_eq!((a.invlpg, a.entries), (0.5, 3.0));
        assert!(
            events(
                "BENCH a 1\nCOUNTED 1\nBENCH b 1\nCOUNTED 1\nBENCH c 1\nCOUNTED 1\n",
                &counts
            )
            .is_err()
        );
    }
}
