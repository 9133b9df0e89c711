//! Boots of bad input: each must end in a clear line on the console and a machine that stands still,
//! never in a triple fault, an endless row of reboots or silence.
//!
//! [`boots::all`] lists them. dom0's kernel is replaced by something small and wrong
//! ([`kernels`]), the firmware's tables by broken ones ([`tables`]); [`run`] judges the console.

use crate::case::Tier;
use crate::emulator::Machine;
use crate::screen::Screen;

pub mod boots;
mod kernels;
mod run;
mod tables;

pub use kernels::Kernel;
pub use run::run;
pub use tables::Tables;

/// A boot of something wrong and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct BadBoot {
    /// Its name, also that of its log.
    pub name: &'static str,
    /// When it is run.
    pub tier: Tier,
    /// The machine.
    pub machine: Machine,
    /// The firmware's ACPI tables.
    pub tables: Tables,
    /// What stands where dom0's kernel should be.
    pub kernel: Kernel,
    /// Further words for the hypervisor's command line.
    pub hypervisor_args: &'static str,
    /// The module's command line.
    pub kernel_args: &'static str,
    /// Parts of lines that must appear in this order, each exactly once.
    pub expected: &'static [&'static str],
    /// After these: keys to press, each with what must then appear.
    pub keys: &'static [(&'static str, &'static str)],
    /// A line for QEMU's monitor once all that is there, and parts of lines that answer it, in order.
    pub monitor: Option<(&'static str, &'static [&'static str])>,
    /// Parts of lines that must not appear.
    pub forbidden: &'static [&'static str],
    /// Which builds can do it.
    pub builds: Builds,
    /// Parts of the hypervisor's functions that its back-trace must lead through.
    pub back_trace: &'static [&'static str],
    /// How it ends.
    pub end: End,
    /// A machine without a serial line: the lines are read from its screen.
    pub screen: Option<Screen>,
}

/// Builds of the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builds {
    /// All.
    Any,
    /// Those with debug assertions: it needs what only they have.
    Checked,
}

/// What the machine does at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It stands still (or, with an idle kernel in place, just goes on).
    Stays,
    /// It is reset.
    Resets,
}

impl BadBoot {
    /// What most of them share: a small machine, and a kernel that crashes at once, which shows that
    /// the hypervisor came all the way.
    pub const BASE: Self = Self {
        name: "",
        tier: Tier::Full,
        machine: Machine {
            memory_mib: 512,
            ..Machine::BASE
        },
        tables: Tables::Usual,
        kernel: Kernel::Crashing,
        hypervisor_args: "dom0_mem=128M noreboot",
        kernel_args: "",
        expected: &[],
        keys: &[],
        monitor: None,
        forbidden: &[],
        builds: Builds::Any,
        back_trace: &[],
        end: End::Stays,
        screen: None,
    };

    /// Whether the line is one that this boot is about.
    #[must_use]
    pub fn wants(&self, line: &str) -> bool {
        let monitor = self.monitor.iter().flat_map(|(_, answers)| *answers);
        let answers = self.keys.iter().map(|(_, answer)| answer).chain(monitor);
        self.expected
            .iter()
            .copied()
            .chain(answers.copied())
            .any(|wanted| wanted.contains(line))
    }

    /// The hypervisor's command line. No log levels: what matters must show with the usual ones.
    #[must_use]
    pub fn hypervisor_line(&self) -> String {
        let console = match self.screen {
            None => "console=com1 com1=115200,8n1",
            Some(_) => "console=vga",
        };
        let line = format!("{console} {}", self.hypervisor_args);
        line.trim_end().to_owned()
    }
}
