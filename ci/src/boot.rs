//! Preparing and starting boots: the files, `cargo xtask run`, and one boot test.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests_linux_guests::bad::BadBoot;
use tests_linux_guests::bochs;
use tests_linux_guests::case::Case;
use tests_linux_guests::emulator::{
    self, Disk, Emulator, Files, Hypervisor, Linux, Loader, Machine, Payload, Reset, Software,
    Terminal,
};

use crate::arguments::Arguments;
use crate::failure::{Context, Failure, Result};
use crate::hypervisor::Profile;
use crate::image::{self, GrubCommands, IsoContent};
use crate::layout::Layout;
use crate::{debian, hypervisor, kernel, process, setup, uefi};

/// Takes `--hypervisor xenolith|xen`.
pub fn which(arguments: &mut Arguments) -> Result<Hypervisor> {
    match arguments.value("--hypervisor")?.as_deref() {
        None | Some("xenolith") => Ok(Hypervisor::Xenolith),
        Some("xen") => Ok(Hypervisor::Xen),
        Some(other) => Err(Failure::new(format!(
            "--hypervisor {other}: xenolith or xen"
        ))),
    }
}

/// Builds all that boots of this hypervisor need, apart from ISO files and QEMU 10.
pub fn prepare(layout: &Layout, hypervisor: Hypervisor, profile: Profile) -> Result<Files> {
    let version = process::text(Command::new("qemu-system-x86_64").arg("--version"))?;
    if !version.contains("version 7.2") {
        let first = version.lines().next().unwrap_or_default();
        println!("note: results are judged by QEMU 7.2; this is {first}");
    }
    let image = image::build(layout)?;
    let (elf, compressed) = match hypervisor {
        Hypervisor::Xenolith => {
            let built = hypervisor::build(layout, profile)?;
            (built.image, built.compressed)
        }
        Hypervisor::Xen => image::reference_xen(layout)?,
    };
    Ok(Files {
        hypervisor: elf,
        compressed,
        kernel: image.kernel,
        dom0: image.dom0,
        micro: PathBuf::new(),
        iso: PathBuf::new(),
        variables: PathBuf::new(),
        disk: PathBuf::new(),
        qemu10: PathBuf::new(),
        bochs: bochs::Run::default(),
        plugin: String::new(),
        which: hypervisor,
        installed: Disk::default(),
    })
}

/// Adds what only some machines need.
pub fn complete(
    layout: &Layout,
    files: &Files,
    machine: &Machine,
    name: &str,
    software: Software<'_>,
) -> Result<Files> {
    let mut files = files.clone();
    match software.payload {
        Payload::Linux(Linux::Debian12) => {}
        Payload::Linux(Linux::Debian12Unpacked) => files.kernel = kernel::unpacked(layout),
        Payload::Linux(other @ (Linux::Debian13 | Linux::DebianUnstable)) => {
            let image = image::build_other(layout, other)?;
            (files.kernel, files.dom0) = (image.kernel, image.dom0);
        }
        Payload::Micro => files.micro = hypervisor::build_micro(layout)?,
    }
    if machine.emulator == Emulator::Bochs {
        files.dom0 = image::unpacked(layout, &files.dom0, name)?;
    }
    let grub = match machine.loader {
        Loader::Direct => None,
        Loader::PvhNote => {
            files.hypervisor = pvh_only(layout, &files)?;
            None
        }
        Loader::Grub => Some((GrubCommands::Multiboot2, &files.compressed)),
        Loader::GrubMultiboot1 => Some((GrubCommands::Multiboot1, &files.hypervisor)),
        Loader::GrubUefi => {
            files.dom0 = image::build_uefi(layout)?.dom0;
            files.variables = uefi::variables(layout, name)?;
            files.disk = uefi::disk(layout, name)?;
            Some((GrubCommands::Multiboot2Uefi, &files.compressed))
        }
        Loader::Disk | Loader::DiskUefi => {
            files.installed = debian::for_test(layout, &files, name, software)?;
            None
        }
    };
    if let Some((commands, hypervisor)) = grub {
        let iso = layout.image.join(format!("{name}.iso"));
        let content = IsoContent {
            commands,
            hypervisor: (hypervisor, software.hypervisor_line),
            kernel: (&files.kernel, software.kernel_line),
            dom0: &files.dom0,
        };
        image::build_iso(layout, &content, &iso)?;
        files.iso = iso;
    }
    if machine.emulator == Emulator::Ten {
        files.qemu10 = image::qemu10(layout)?;
    }
    if machine.emulator == Emulator::Bochs {
        setup::ensure_for_bochs()?;
        let folder = layout.logs.join(format!("{name}.bochs"));
        let run = bochs::Run::prepare(&folder, machine, &files.iso);
        files.bochs = run.context(folder.display())?;
    }
    Ok(files)
}

/// Makes the ISO and the machine's own files for a boot of something bad by [`Loader::GrubUefi`].
pub fn complete_bad(
    layout: &Layout,
    files: &mut Files,
    boot: &BadBoot,
    folder: &Path,
) -> Result<()> {
    std::fs::create_dir_all(folder).context(folder.display())?;
    let kernel = boot.kernel.file(files, &folder.join("kernel"));
    let kernel = kernel.context(boot.name)?.unwrap_or_default();
    files.iso = layout.image.join(format!("{}.iso", boot.name));
    files.variables = uefi::variables(layout, boot.name)?;
    files.disk = uefi::disk(layout, boot.name)?;
    let content = IsoContent {
        commands: GrubCommands::Multiboot2Uefi,
        hypervisor: (&files.compressed, &boot.hypervisor_line()),
        kernel: (&kernel, boot.kernel_args),
        dom0: &kernel,
    };
    image::build_iso(layout, &content, &files.iso)
}

/// The hypervisor's image as a boot by [`Loader::PvhNote`] needs it.
pub fn pvh_only(layout: &Layout, files: &Files) -> Result<PathBuf> {
    let copy = layout.image.join("xenolith.pvh");
    hypervisor::hide_multiboot(&files.hypervisor, &copy)?;
    Ok(copy)
}

/// `cargo xtask image`: all files, and the ISO with the command lines of a plain boot.
pub fn iso(layout: &Layout) -> Result<()> {
    let files = prepare(layout, Hypervisor::Xenolith, Profile::Release)?;
    let mut case = Case::BASE;
    case.machine.loader = Loader::Grub;
    let hypervisor_line = case.hypervisor_line();
    let kernel_line = case.interactive_kernel_line();
    let software = Software {
        hypervisor_line: &hypervisor_line,
        payload: case.payload(),
        kernel_line: &kernel_line,
    };
    let files = complete(layout, &files, &case.machine, "xenolith", software)?;
    println!("{}", files.iso.display());
    Ok(())
}

/// `cargo xtask run`: an interactive boot on this terminal.
pub fn run(layout: &Layout, mut arguments: Arguments) -> Result<()> {
    if arguments.flag("--debian") {
        return debian::run(layout, arguments);
    }
    let hypervisor = which(&mut arguments)?;
    let mut case = Case::BASE;
    if let Some(cpus) = arguments.number("--smp")? {
        case.machine.cpus = cpus;
    }
    if let Some(memory) = arguments.number("--mem")? {
        case.machine.memory_mib = memory;
    }
    if arguments.flag("--grub") {
        case.machine.loader = Loader::Grub;
    }
    if arguments.flag("--uefi") {
        case.machine.loader = Loader::GrubUefi;
        case.machine.board = "q35";
        case.machine.reset = Reset::Restarts;
    }
    if arguments.flag("--qemu10") {
        case.machine.emulator = Emulator::Ten;
    }
    let hypervisor_words = arguments.value("--xen-args")?.unwrap_or_default();
    let kernel_words = arguments.value("--linux-args")?.unwrap_or_default();
    let extra = arguments.passed_on();
    arguments.finish()?;
    case.dom0_mib = 1024.min(case.machine.memory_mib / 2);

    let hypervisor_line = format!("{} {hypervisor_words}", case.hypervisor_line());
    let kernel_line = format!("{} {kernel_words}", case.interactive_kernel_line());
    let software = Software {
        hypervisor_line: hypervisor_line.trim(),
        payload: case.payload(),
        kernel_line: kernel_line.trim(),
    };
    let files = prepare(layout, hypervisor, Profile::Release)?;
    let files = complete(layout, &files, &case.machine, "xenolith", software)?;
    let mut command = emulator::command(&case.machine, &files, software, Terminal::Person);
    println!("Leave the emulator with Ctrl-A x; Ctrl-A a sends Ctrl-A.");
    process::run(command.args(extra))
}
