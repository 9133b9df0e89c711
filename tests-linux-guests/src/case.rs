//! What a boot test is.

use crate::devices::Devices;
use crate::emulator::{Linux, Loader, Machine, Payload};

/// When a case is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// With every run of the tests, also the shortest.
    Quick,
    /// With every full run.
    Full,
    /// Only when asked for: takes minutes.
    Long,
}

/// What runs as dom0, and what happens once it is up.
#[derive(Clone, Copy, Debug)]
pub enum Script {
    /// `guest/NAME.sh` runs, prints its report and powers off.
    Guest(&'static str),
    /// A person's session at the prompt: lines to type, each with what must then appear.
    Typed(&'static [(&'static str, &'static str)]),
    /// `micro-pv` runs in place of Linux, prints its report and powers off.
    Micro,
    /// `micro-pv` does something for which the hypervisor must end that domain, and so the machine.
    MicroAct,
}

/// How much a boot's verdict weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// What fails is a failure.
    Counts,
    /// It is only reported: the emulator is known to get wrong what is tried.
    Reported,
}

/// How the hypervisor is told of dom0's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dom0Memory {
    /// Exactly [`Case::dom0_mib`], now and for good.
    Fixed,
    /// By these words, of which [`Case::dom0_mib`] must come (scripts take it as an upper bound).
    Words(&'static str),
}

/// A boot and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, also that of its log.
    pub name: &'static str,
    /// When it is run.
    pub tier: Tier,
    /// Whether it counts.
    pub weight: Weight,
    /// The machine.
    pub machine: Machine,
    /// Devices beside the board's own; with them the image has drivers.
    pub devices: Option<&'static Devices>,
    /// The kernel, where Linux runs as dom0.
    pub linux: Linux,
    /// dom0's memory in MiB.
    pub dom0_mib: u32,
    /// How it is asked for.
    pub dom0_memory: Dom0Memory,
    /// Further words for the hypervisor's command line.
    pub hypervisor_args: &'static str,
    /// Further words for the kernel's command line.
    pub kernel_args: &'static str,
    /// What is done in dom0.
    pub script: Script,
    /// Lines (parts of them) that must appear on the console.
    pub expected: &'static [&'static str],
    /// Lines that must not, beside [`FORBIDDEN`].
    pub forbidden: &'static [&'static str],
    /// Those of [`FORBIDDEN`] that the case itself brings about.
    pub tolerated: &'static [&'static str],
    /// Whether NMIs hit the machine while the script runs.
    pub nmis: Nmis,
    /// Wall time after which the boot has failed.
    pub seconds: u64,
}

/// Whether the machine's NMI button is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nmis {
    /// No.
    None,
    /// Some twenty times a second.
    Many,
}

impl Case {
    /// What most cases share; they name the rest.
    pub const BASE: Self = Self {
        name: "",
        tier: Tier::Full,
        weight: Weight::Counts,
        machine: Machine::BASE,
        devices: None,
        linux: Linux::Debian12,
        dom0_mib: 1024,
        dom0_memory: Dom0Memory::Fixed,
        hypervisor_args: "",
        kernel_args: "",
        script: Script::Guest("boot"),
        expected: &[],
        forbidden: &[],
        tolerated: &[],
        nmis: Nmis::None,
        seconds: 420,
    };

    /// The hypervisor's command line.
    #[must_use]
    pub fn hypervisor_line(&self) -> String {
        let mib = self.dom0_mib;
        let memory = match self.dom0_memory {
            Dom0Memory::Fixed => format!("dom0_mem={mib}M,max:{mib}M"),
            Dom0Memory::Words(words) => words.to_owned(),
        };
        [
            self.placeholder(),
            "console=com1 com1=115200,8n1",
            &memory,
            "loglvl=all guest_loglvl=all",
            self.hypervisor_args,
        ]
        .join(" ")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
    }

    /// The word that Debian's GRUB scripts put where a file's name was expected once.
    fn placeholder(&self) -> &'static str {
        match self.machine.loader {
            Loader::Grub | Loader::GrubUefi => "placeholder",
            _ => "",
        }
    }

    /// What runs as dom0.
    #[must_use]
    pub fn payload(&self) -> Payload {
        match self.script {
            Script::Micro | Script::MicroAct => Payload::Micro,
            Script::Guest(_) | Script::Typed(_) => Payload::Linux(self.linux),
        }
    }

    /// The command line of a Linux that gives a prompt.
    #[must_use]
    pub fn interactive_kernel_line(&self) -> String {
        let line = format!(
            "{} console=hvc0 earlyprintk=xen XCPUS={} XTOTAL={} XDOM0={}",
            self.placeholder(),
            self.machine.cpus,
            self.machine.memory_mib,
            self.dom0_mib
        );
        line.trim_start().to_owned()
    }

    /// The kernel's command line. What the kernel does not know reaches the init script as
    /// environment variables, and so the test scripts.
    #[must_use]
    pub fn kernel_line(&self) -> String {
        if self.payload() == Payload::Micro {
            return self.kernel_args.to_owned();
        }
        let mut line = self.interactive_kernel_line();
        if let Script::Guest(name) = self.script {
            line.push_str(&format!(" XTEST={name}"));
        }
        if !self.kernel_args.is_empty() {
            line.push_str(&format!(" {}", self.kernel_args));
        }
        line
    }
}

/// Signs of trouble of dom0's kernel, its programs or the hypervisor, in any boot.
pub const FORBIDDEN: &[&str] = &[
    "Kernel panic",
    "BUG:",
    "kernel BUG at",
    "Oops:",
    "Call Trace:",
    "WARNING: CPU",
    "general protection fault",
    "segfault at",
    "Segmentation fault",
    "trap invalid opcode",
    "rcu: INFO",
    "soft lockup",
    "hung task",
    "nobody cared",
    "Panic on CPU",
    "panicked at",
    "Xenolith crashed",
    "HYPERVISOR PANIC",
    "core dumped",
    "Clocksource tsc unstable",
];
