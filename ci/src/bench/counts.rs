//! What the counting plugin (`tests-linux-guests/plugin/count.c`) wrote.

use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use crate::failure::{Context, Failure, Result};
use crate::kernel::newer;
use crate::layout::Layout;
use crate::process;

/// Compiles the plugin; returns QEMU's option for one that writes to `out`.
pub fn plugin(layout: &Layout, out: &Path) -> Result<String> {
    let source = layout.root.join("tests-linux-guests/plugin/count.c");
    let built = layout.target.join("guest/count.so");
    if newer(&source, &built) {
        let folder = built.parent().ok_or("a program lies in a folder")?;
        std::fs::create_dir_all(folder).context(folder.display())?;
        let warnings = ["-Wall", "-Wextra", "-Werror"];
        process::run(
            Command::new("gcc")
                .args(["-shared", "-fPIC", "-O2", "-o"])
                .args([&built, &source])
                .args(warnings),
        )?;
    }
    Ok(format!("{},out={}", built.display(), out.display()))
}

/// The counters at one moment: instructions, the hypervisor's among them, CR3, CR4, INVLPG, entries.
type Counters = [f64; 6];

/// All lines of the plugin.
#[derive(Debug, Default)]
pub struct Counts {
    lines: Vec<(String, Counters)>,
}

impl FromStr for Counts {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let name = words.next().unwrap_or_default().to_owned();
            let numbers: std::result::Result<Vec<f64>, _> = words.map(str::parse).collect();
            let numbers = numbers.context(line)?;
            let counters = numbers.try_into().map_err(|_| "six counters a line")?;
            lines.push((name, counters));
        }
        Ok(Self { lines })
    }
}

impl Counts {
    /// Reads the plugin's file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).context(path.display())?;
        text.parse()
    }

    fn line(&self, wanted: &str) -> Option<&Counters> {
        let line = self.lines.iter().find(|(name, _)| name == wanted);
        line.map(|(_, counters)| counters)
    }

    /// All instructions up to the first line of this name.
    pub fn instructions(&self, name: &str) -> Option<f64> {
        self.line(name).map(|counters| counters[0])
    }

    /// What was counted up to it.
    pub fn first(&self, name: &str) -> Option<Span> {
        self.line(name).map(|counters| Span(*counters))
    }

    /// Instructions from the hypervisor's first to the first of dom0's kernel.
    pub fn entry(&self) -> Result<f64> {
        let (from, to) = (self.instructions("hypervisor"), self.instructions("kernel"));
        Ok(to
            .zip(from)
            .map(|(to, from)| to - from)
            .ok_or("the counting plugin saw no start of the hypervisor and of dom0's kernel")?)
    }

    /// What was counted between the begin and the end of the measurement with this number.
    pub fn span(&self, number: usize) -> Option<Span> {
        let nth = |wanted| {
            let mut lines = self.lines.iter().filter(move |(name, _)| name == wanted);
            lines.nth(number).map(|(_, counters)| counters)
        };
        let (begin, end) = (nth("begin")?, nth("end")?);
        Some(Span(std::array::from_fn(|i| end[i] - begin[i])))
    }
}

/// Counters of one measurement.
#[derive(Debug)]
pub struct Span(Counters);

/// What one operation took, on average.
#[derive(Debug, Clone, Copy)]
pub struct Events {
    /// All instructions, also the guest's.
    pub instructions: f64,
    /// Instructions of the hypervisor.
    pub hypervisor: f64,
    /// Loads of CR3.
    pub cr3: f64,
    /// Flushes of the whole TLB: CR4 is written twice for each.
    pub flushes: f64,
    /// Flushes of one page.
    pub invlpg: f64,
    /// SYSRET and IRET of the hypervisor: entries to a guest, and the few returns from an interrupt to itself.
    pub entries: f64,
}

impl Span {
    /// The share of one of so many operations.
    pub fn each(&self, operations: f64) -> Events {
        let [instructions, hypervisor, cr3, cr4, invlpg, entries] =
            self.0.map(|count| count / operations);
        Events {
            instructions,
            hypervisor,
            cr3,
            flushes: cr4 / 2.0,
            invlpg,
            entries,
        }
    }
}
