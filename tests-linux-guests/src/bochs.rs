//! Bochs: the machine's description, the command that starts it, and how it ends.
//!
//! Debian's Bochs has the debugger built in, which stops before the first instruction and reads what to do from a file.
//! Only the serial line is on standard output; what Bochs itself has to say goes to a file.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::emulator::Machine;

/// The files of one run, in a folder of their own.
#[derive(Clone, Debug, Default)]
pub struct Run {
    folder: PathBuf,
}

/// What the log says when the machine turned itself off.
const POWERED_OFF: &str = "ACPI control: soft power off";

impl Run {
    /// Writes the files for a boot of this ISO into the folder.
    ///
    /// # Errors
    /// The folder or a file cannot be written.
    pub fn prepare(folder: &Path, machine: &Machine, iso: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let run = Self {
            folder: folder.to_owned(),
        };
        let text = description(machine, iso, &run.log());
        std::fs::write(run.description(), text)?;
        std::fs::write(run.commands(), "c\n")?;
        Ok(run)
    }

    /// The command that boots it, the console on standard output.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut bochs = Command::new("bochs-bin");
        bochs.args(["-q", "-f"]).arg(self.description());
        bochs.arg("-rc").arg(self.commands());
        bochs
    }

    /// Whether the machine turned itself off: to Bochs that is an error like others, so only its log tells.
    ///
    /// # Errors
    /// What happened in place of that.
    pub fn powered_off(&self, status: ExitStatus) -> Result<(), String> {
        let log = std::fs::read(self.log()).map_err(|error| error.to_string())?;
        let log = String::from_utf8_lossy(&log);
        if log.contains(POWERED_OFF) {
            return Ok(());
        }
        let last = log.lines().rfind(|line| !line.trim().is_empty());
        Err(format!("Bochs: {status}, {}", last.unwrap_or("no log")))
    }

    fn description(&self) -> PathBuf {
        self.folder.join("bochsrc")
    }

    /// What the debugger is told.
    fn commands(&self) -> PathBuf {
        self.folder.join("commands")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("bochs.log")
    }
}

/// Instructions that make a second, which is also what the TSC counts. The hypervisor and the test scripts take no CPU
/// below 100 MHz for real; the more there are, the fewer of them go into timer interrupts, and the longer it takes to
/// wait by counting.
const INSTRUCTIONS: u32 = 200_000_000;

/// The text that describes the machine.
///
/// The screen is one that nobody needs to look at. Without `plugin_ctrl`, `sound` and `mouse`, Bochs ends at once where
/// the machine has no sound device. Bochs lacks MSRs that its CPU models have, and Xen reads one of those
/// (IA32_MISC_ENABLE) without expecting a fault: `ignore_bad_msrs`.
fn description(machine: &Machine, iso: &Path, log: &Path) -> String {
    let (iso, log) = (iso.display(), log.display());
    let cpu = match machine.cpu {
        "" => machine.emulator.cpu(),
        model => model,
    };
    format!(
        "config_interface: textconfig\n\
         plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, iodebug=0, e1000=0\n\
         sound: driver=dummy\n\
         mouse: enabled=0\n\
         display_library: rfb, options=\"timeout=0\"\n\
         megs: {}\n\
         romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
         vgaromimage: file=/usr/share/vgabios/vgabios.bin\n\
         cpu: model={cpu}, count={}, ips={INSTRUCTIONS}, reset_on_triple_fault=0, ignore_bad_msrs=1\n\
         pci: enabled=1, chipset=i440fx\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=cdrom, path=\"{iso}\", status=inserted\n\
         boot: cdrom\n\
         clock: sync=none, time0=1704067200\n\
         com1: enabled=1, mode=file, dev=/dev/stdout\n\
         log: \"{log}\"\n\
         panic: action=fatal\n",
        machine.memory_mib, machine.cpus
    )
}

#[cfg(test)]
mod tests {
    use super::{POWERED_OFF, Run};
    use crate::emulator::{Emulator, Machine};
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::ExitStatus;

    const MACHINE: Machine = Machine {
        emulator: Emulator::Bochs,
        memory_mib: 1536,
        cpu: "ryzen",
        ..Machine::BASE
    };

    fn run(name: &str) -> Run {
        let folder = std::env::temp_dir().join(format!("bochs-{name}-{}", std::process::id()));
        Run::prepare(&folder, &MACHINE, Path::new("/a/boot.iso")).unwrap()
    }

    #[test]
    fn the_description_names_the_machine_and_what_it_boots() {
        let run = run("text");
        let text = std::fs::read_to_string(run.description()).unwrap();
        for part in [
            "megs: 1536\n",
            "model=ryzen, count=1,",
            "path=\"/a/boot.iso\",",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        std::fs::remove_dir_all(&run.folder).unwrap();
    }

    #[test]
    fn only_the_log_tells_a_power_off_from_a_failure() {
        let run = run("end");
        let status = ExitStatus::from_raw(1 << 8);
        assert!(run.powered_off(status).is_err(), "no log");
        std::fs::write(run.log(), "1p[CPU0  ] >>PANIC<< triple fault\n\n").unwrap();
        let why = run.powered_off(status).unwrap_err();
        assert!(why.ends_with("triple fault"), "{why}");
        std::fs::write(run.log(), format!("1p[ACPI  ] >>PANIC<< {POWERED_OFF}\n")).unwrap();
        assert_eq!(run.powered_off(status), Ok(()));
        std::fs::remove_dir_all(&run.folder).unwrap();
    }
}
