//! What a boot test is.

use crate::emulator::{Machine, Payload};

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

/// A boot and what must come of it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name, also that of its log.
    pub name: &'static str,
    /// When it is run.
    pub tier: Tier,
    /// The machine.
    pub machine: Machine,
    /// dom0's memory in MiB.
    pub dom0_mib: u32,
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
    /// Wall time after which the boot has failed.
    pub seconds: u64,
}

impl Case {
    /// What most cases share; they name the rest.
    pub const BASE: Self = Self {
        name: "",
        tier: Tier::Full,
        machine: Machine::BASE,
        dom0_mib: 1024,
        hypervisor_args: "",
        kernel_args: "",
        script: Script::Guest("boot"),
        expected: &[],
        forbidden: &[],
        seconds: 420,
    };

    /// The hypervisor's command line.
    #[must_use]
    pub fn hypervisor_line(&self) -> String {
        let memory = self.dom0_mib;
        let line = format!(
            "console=com1 com1=115200,8n1 dom0_mem={memory}M,max:{memory}M loglvl=all guest_loglvl=all {}",
            self.hypervisor_args
        );
        line.trim_end().to_owned()
    }

    /// What runs as dom0.
    #[must_use]
    pub fn payload(&self) -> Payload {
        match self.script {
            Script::Micro | Script::MicroAct => Payload::Micro,
            Script::Guest(_) | Script::Typed(_) => Payload::Linux,
        }
    }

    /// The kernel's command line. What the kernel does not know reaches the init script as
    /// environment variables, and so the test scripts.
    #[must_use]
    pub fn kernel_line(&self) -> String {
        if self.payload() == Payload::Micro {
            return self.kernel_args.to_owned();
        }
        let mut line = format!(
            "console=hvc0 earlyprintk=xen XCPUS={} XTOTAL={} XDOM0={}",
            self.machine.cpus, self.machine.memory_mib, self.dom0_mib
        );
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
