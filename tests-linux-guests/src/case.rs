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
    /// Only by its name: not seen to pass yet, or run by an option of its own.
    Named,
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
    /// On an installed system: root logs in, runs `guest/NAME.sh` from the second disk and powers off.
    LoggedIn(&'static str),
}

/// The password of root on the Debian disk, which only its own host can reach.
pub const PASSWORD: &str = "xenolith";

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
    /// What dom0 has to create other domains from.
    pub guests: Guests,
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
    /// Whether it is looked what of the hypervisor is mapped while dom0 runs.
    pub exposure: Exposure,
    /// What becomes of EFI's code while the script runs.
    pub firmware: Firmware,
    /// What is said at the emulator's monitor, each line once the console shows what stands before it.
    pub monitor: &'static [(&'static str, &'static str)],
    /// Wall time after which the boot has failed.
    pub seconds: u64,
}

/// What dom0's image has for other domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guests {
    /// Nothing.
    None,
    /// Debian's kernel with an initramfs, the back ends of disks and networks, and all drivers.
    Linux,
    /// The same with a kernel for guests that need not be dom0's.
    Kernel(Linux),
    /// As [`Guests::Linux`], and `/guest/vmlinux`, the kernel as it is when unpacked.
    Unpacked,
    /// As [`Guests::Linux`], and what boots a guest from its disk.
    OnDisk,
    /// Our own small kernels, `/guest/micro-pv` and `/guest/micro-domu`.
    Micro,
}

/// The state of the firmware's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// It is as it was made.
    Sound,
    /// Its GetTime begins with an undefined instruction.
    Damaged,
    /// Its GetTime begins with a jump to itself.
    Endless,
}

impl Firmware {
    /// What is written over the beginning of GetTime.
    #[must_use]
    pub const fn damage(self) -> Option<[u8; 2]> {
        match self {
            Self::Sound => None,
            // UD2
            Self::Damaged => Some([0x0f, 0x0b]),
            // JMP
            Self::Endless => Some([0xeb, 0xfe]),
        }
    }
}

/// Whether the machine's NMI button is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nmis {
    /// No.
    None,
    /// Some twenty times a second.
    Many,
}

/// What of the hypervisor is mapped while a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Nobody looks.
    Unlooked,
    /// The way in and out alone.
    Least,
}

impl Case {
    /// What most cases share; they name the rest.
    pub const BASE: Self = Self {
        name: "",
        tier: Tier::Full,
        weight: Weight::Counts,
        machine: Machine::BASE,
        devices: None,
        guests: Guests::None,
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
        exposure: Exposure::Unlooked,
        firmware: Firmware::Sound,
        monitor: &[],
        seconds: 420,
    };

    /// The hypervisor's command line; on an installed system only what is added to that of its own menu.
    #[must_use]
    pub fn hypervisor_line(&self) -> String {
        let mib = self.dom0_mib;
        let memory = match self.dom0_memory {
            Dom0Memory::Fixed => format!("dom0_mem={mib}M,max:{mib}M"),
            Dom0Memory::Words(words) => words.to_owned(),
        };
        if self.machine.loader.is_disk() {
            let line = format!("{memory} {}", self.hypervisor_args);
            return line.trim().to_owned();
        }
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
            Script::Guest(_) | Script::Typed(_) | Script::LoggedIn(_) => Payload::Linux(self.linux),
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
        if self.payload() == Payload::Micro || self.machine.loader.is_disk() {
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

#[cfg(test)]
mod tests {
    use super::{Case, Dom0Memory};
    use crate::emulator::Loader;

    #[test]
    fn an_installed_system_gets_only_the_words_beside_its_own() {
        let mut case = Case {
            dom0_mib: 512,
            hypervisor_args: "iommu=0",
            ..Case::BASE
        };
        assert!(case.hypervisor_line().contains("console=com1"));
        assert!(case.kernel_line().contains("console=hvc0"));
        case.machine.loader = Loader::Disk;
        assert_eq!(case.hypervisor_line(), "dom0_mem=512M,max:512M iommu=0");
        assert_eq!(case.kernel_line(), "");
        case.dom0_memory = Dom0Memory::Words("");
        case.hypervisor_args = "";
        assert_eq!(case.hypervisor_line(), "");
    }
}
