//! `cargo xtask bench --debian`: from power-on to the login of a whole Debian, the same disk on both hypervisors.
//!
//! What compares is the instructions without idling. The times hold what dom0 waits for the disk as well, and how far the
//! emulator's clock moves meanwhile depends on this machine.

use std::time::Duration;

use tests_linux_guests::case::Case;
use tests_linux_guests::console::Console;
use tests_linux_guests::emulator::{
    self, Clock, Hypervisor, Loader, Machine, Payload, Software, Terminal,
};

use super::counts::{self, Counts};
use super::table::Column;
use super::{Figure, figure};
use crate::failure::{Context, Failure, Result};
use crate::hypervisor::Profile;
use crate::layout::Layout;
use crate::{boot, debian, dom0};

const MACHINE: Machine = Machine {
    clock: Clock::Instructions,
    loader: Loader::Disk,
    ..Machine::BASE
};

/// Boots as far as the login.
pub fn measure(layout: &Layout, hypervisor: Hypervisor) -> Result<Column> {
    let mut files = boot::prepare(layout, hypervisor, Profile::Release)?;
    let name = format!("bench-debian-{hypervisor:?}").to_lowercase();
    let log = layout.logs.join(format!("{name}.log"));
    let counted = layout.logs.join(format!("{name}.counts"));
    files.plugin = counts::plugin(layout, &counted)?;
    let program = dom0::program(layout, "bench")?;
    files.installed = debian::for_measurement(layout, &files, &program, &name)?;
    let software = Software {
        hypervisor_line: "",
        payload: Payload::Linux(Case::BASE.linux),
        kernel_line: "",
    };
    let mut command = emulator::command(&MACHINE, &files, software, Terminal::Program);
    let limit = Duration::from_secs(1800);
    let mut console = Console::start(&mut command, &log, limit).context("the emulator")?;
    console
        .wait_for(" login: ")
        .map_err(|missed| Failure::new(format!("{missed}, see {}", log.display())))?;
    if !console.text().contains(hypervisor.greeting()) {
        let log = log.display();
        return Err(Failure::new(format!(
            "{hypervisor:?} was not started, see {log}"
        )));
    }
    let figures = figures(console.text(), &Counts::read(&counted)?)?;
    Ok(Column {
        hypervisor,
        figures,
        events: Vec::new(),
    })
}

/// The times, and what was done until then.
fn figures(console: &str, counts: &Counts) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = console.lines().filter_map(figure).collect();
    let whole = figures.iter().map(|(_, time)| time).sum();
    figures.push(("power-on to login".to_owned(), whole));
    let done = counts
        .first("begin")
        .ok_or("nothing marked the login")?
        .each(1.0);
    let instructions = counts.instructions("begin").unwrap_or_default();
    for (name, value) in [
        ("instructions without idling", instructions),
        ("the hypervisor's of them", done.hypervisor),
        ("its CR3 loads", done.cr3),
        ("its flushes of all", done.flushes),
        ("its INVLPG", done.invlpg),
        ("its entries to dom0", done.entries),
    ] {
        figures.push((name.to_owned(), value));
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::{Counts, figures};

    #[test]
    fn times_add_up_and_counts_are_those_at_the_login() {
        let counts: Counts = "hypervisor 9 0 0 0 0 0\nbegin 1000 100 1 4 3 4\n"
            .parse()
            .expect("two lines");
        let console = "BENCH kernel to login 40\nBENCH power-on to kernel 2\n";
        let read = figures(console, &counts).expect("it was marked");
        let value = |wanted| read.iter().find(|(name, _)| name == wanted).map(|f| f.1);
        assert_eq!(value("power-on to login"), Some(42.0));
        assert_eq!(value("instructions without idling"), Some(1000.0));
        assert_eq!(value("its flushes of all"), Some(2.0));
        assert!(figures("", &"kernel 1 1 1 1 1 1".parse().expect("a line")).is_err());
    }
}
