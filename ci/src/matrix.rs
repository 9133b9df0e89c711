//! `cargo xtask test --matrix`: Debian's kernels, each as dom0 and as both kinds of guest, as a table for the README.

use std::process::ExitCode;

use tests_linux_guests::case::Case;
use tests_linux_guests::emulator::{Files, Hypervisor};
use tests_linux_guests::suite::matrix::{COLUMNS, ROWS, Row};

use crate::arguments::Arguments;
use crate::boots::{self, Job};
use crate::failure::{Context, Result};
use crate::hypervisor::Profile;
use crate::layout::Layout;
use crate::tally::Tally;
use crate::{boot, kernel};

/// What came of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// It works.
    Works,
    /// It fails, and works on Xen.
    Fails,
    /// It fails on both: nobody can tell by it what the hypervisor did wrong.
    FailsOnBoth,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Works => "yes",
            Self::Fails => "no",
            Self::FailsOnBoth => "no, nor on Xen 4.17",
        })
    }
}

/// Boots all rows, one machine at a time; the exit code tells whether all works that works on Xen.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<ExitCode> {
    let profile = crate::profile(&mut arguments);
    arguments.finish()?;
    let bench = Bench::new(layout, profile)?;
    let mut lines = heading();
    let mut good = true;
    for row in &ROWS {
        let cells = bench.row(row)?;
        good &= !cells.contains(&Cell::Fails);
        let release = kernel::of(layout, row.linux)?.release();
        lines.push(line(&format!("{}: {release}", row.name), &cells));
    }
    println!("{}", lines.join("\n"));
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The table's first two lines.
fn heading() -> Vec<String> {
    let rule = ["---"; COLUMNS.len()];
    vec![line("kernel", &COLUMNS), line("---", &rule)]
}

/// A line of the table.
fn line<T: ToString>(first: &str, cells: &[T]) -> String {
    let cells = cells.iter().map(ToString::to_string);
    let words: Vec<_> = [first.to_owned()].into_iter().chain(cells).collect();
    format!("| {} |", words.join(" | "))
}

/// The two hypervisors with what their boots need.
struct Bench<'a> {
    layout: &'a Layout,
    profile: Profile,
    ours: Files,
    /// Xen's logs have a folder of their own.
    reference_layout: Layout,
    reference: Files,
}

impl<'a> Bench<'a> {
    fn new(layout: &'a Layout, profile: Profile) -> Result<Self> {
        let logs = layout.logs.join("xen");
        std::fs::create_dir_all(&logs).context(logs.display())?;
        Ok(Self {
            layout,
            profile,
            ours: boot::prepare(layout, Hypervisor::Xenolith, profile)?,
            reference_layout: Layout {
                logs,
                ..layout.clone()
            },
            reference: boot::prepare(layout, Hypervisor::Xen, profile)?,
        })
    }

    /// Boots the row's kernel as everything.
    fn row(&self, row: &'static Row) -> Result<Vec<Cell>> {
        row.cells.iter().map(|case| self.cell(case)).collect()
    }

    fn cell(&self, case: &'static Case) -> Result<Cell> {
        if self.passes(self.layout, &self.ours, case)? {
            return Ok(Cell::Works);
        }
        println!("{}: the same on Debian's Xen", case.name);
        Ok(
            if self.passes(&self.reference_layout, &self.reference, case)? {
                Cell::Fails
            } else {
                Cell::FailsOnBoth
            },
        )
    }

    /// Whether a boot passes all its checks, which are printed.
    fn passes(&self, layout: &Layout, files: &Files, case: &'static Case) -> Result<bool> {
        let mut tally = Tally::default();
        let jobs = [Job::Case(case)];
        boots::run(layout, self.profile, &jobs, files, &mut tally)?;
        Ok(tally.failed.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, heading, line};

    #[test]
    fn a_cell_says_whether_xen_is_better() {
        let cells = [Cell::Works, Cell::Fails, Cell::FailsOnBoth];
        let row = "| Debian | yes | no | no, nor on Xen 4.17 |";
        assert_eq!(line("Debian", &cells), row);
    }

    #[test]
    fn the_table_has_a_rule_below_its_heading() {
        assert_eq!(
            heading(),
            [
                "| kernel | PV dom0 | PV domU | PVH domU |",
                "| --- | --- | --- | --- |"
            ]
        );
    }
}
