//! The emulator's command line of a boot.

use std::path::PathBuf;
use std::process::Command;

use crate::bochs;

/// Which hypervisor is booted; the reference proves that a check is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hypervisor {
    /// Ours.
    Xenolith,
    /// Debian's Xen.
    Xen,
}

impl Hypervisor {
    /// What its first line on the console begins with.
    #[must_use]
    pub const fn greeting(self) -> &'static str {
        match self {
            Self::Xenolith => "(XEN) Xenolith ",
            Self::Xen => "(XEN) Xen version ",
        }
    }
}

/// Which emulator runs the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulator {
    /// The machine's own QEMU; 7.2 is the version all results are judged by.
    System,
    /// QEMU 10 from backports: it has SMAP that works, RDTSCP and x2APIC.
    Ten,
    /// Debian's Bochs: Intel's CPUs and VT-x, and several times slower. Only [`Loader::GrubMultiboot1`], for
    /// Debian's GRUB dies there when it loads by multiboot 2.
    Bochs,
}

impl Emulator {
    /// The CPU model: `max` less what this version's emulation gets wrong. XSAVE corrupts FPU
    /// state in both; SMAP breaks IRET at privilege level 3 and RDTSCP intercepts in 7.2.
    #[must_use]
    pub const fn cpu(self) -> &'static str {
        match self {
            Self::System => "max,+svm,-smap,-rdtscp,-xsave",
            Self::Ten => "max,+svm,-xsave",
            Self::Bochs => "corei7_haswell_4770",
        }
    }
}

/// Which boot loader starts the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loader {
    /// QEMU's own, as if by multiboot 1.
    Direct,
    /// QEMU's own by the PVH note, which it takes from an image without a multiboot header. It hands
    /// over one module without a command line.
    PvhNote,
    /// GRUB from a BIOS CD-ROM, multiboot 2, with the entry that Debian's GRUB scripts write.
    Grub,
    /// GRUB from a BIOS CD-ROM, multiboot 1.
    GrubMultiboot1,
    /// GRUB from a CD-ROM for UEFI, multiboot 2. The firmware is OVMF, which needs the board q35; a disk with an
    /// EFI system partition is there too.
    GrubUefi,
    /// What is installed on the Debian disk, by BIOS.
    Disk,
    /// The same by UEFI.
    DiskUefi,
}

impl Loader {
    /// Whether a disk with an installed system is booted.
    #[must_use]
    pub const fn is_disk(self) -> bool {
        matches!(self, Self::Disk | Self::DiskUefi)
    }
}

/// What a reset of the machine leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// The end of the run.
    Ends,
    /// Another boot.
    Restarts,
}

/// How the guest's time passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// With the wall clock.
    Real,
    /// One nanosecond for each instruction, and none while the CPU idles, as its next timer fires at once: runs are
    /// repeatable. One CPU, system QEMU only.
    Instructions,
    /// One nanosecond for each instruction, and the wall clock while the CPU idles: no timer fires only because a device
    /// of the emulator has not answered yet.
    InstructionsAndWaits,
}

/// The emulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Number of CPUs.
    pub cpus: u32,
    /// RAM in MiB.
    pub memory_mib: u32,
    /// QEMU's machine type; empty for its default, an i440FX PC.
    pub board: &'static str,
    /// The emulator's CPU model; empty for [`Emulator::cpu`].
    pub cpu: &'static str,
    /// The emulator.
    pub emulator: Emulator,
    /// The boot loader.
    pub loader: Loader,
    /// How time passes.
    pub clock: Clock,
    /// What a reset does.
    pub reset: Reset,
}

impl Machine {
    /// The smallest machine that runs everything: one CPU, 2 GiB, booted directly.
    pub const BASE: Self = Self {
        cpus: 1,
        memory_mib: 2048,
        board: "",
        cpu: "",
        emulator: Emulator::System,
        loader: Loader::Direct,
        clock: Clock::Real,
        reset: Reset::Ends,
    };
}

/// Who is at the other end of the serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// A program: standard input and output are the console and nothing else.
    Program,
    /// A person: Ctrl-A x leaves, Ctrl-A c gives QEMU's monitor.
    Person,
}

/// Files that a boot needs.
#[derive(Clone, Debug)]
pub struct Files {
    /// The hypervisor's ELF image.
    pub hypervisor: PathBuf,
    /// The same compressed, as it is installed.
    pub compressed: PathBuf,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's initramfs.
    pub dom0: PathBuf,
    /// The kernel that checks the hypercall interface, for [`Payload::Micro`].
    pub micro: PathBuf,
    /// The ISO made from these, for GRUB.
    pub iso: PathBuf,
    /// The firmware's variables, for [`Loader::GrubUefi`]: written to.
    pub variables: PathBuf,
    /// The disk with an EFI system partition, for the same.
    pub disk: PathBuf,
    /// The folder into which QEMU 10 was unpacked, for [`Emulator::Ten`].
    pub qemu10: PathBuf,
    /// What Bochs reads and writes, for [`Emulator::Bochs`].
    pub bochs: bochs::Run,
    /// A plugin of the emulator, as its option `-plugin` takes it; empty for none.
    pub plugin: String,
    /// The hypervisor that these boot.
    pub which: Hypervisor,
    /// The Debian disk, for [`Loader::Disk`] and [`Loader::DiskUefi`].
    pub installed: Disk,
}

/// A disk with an installed system.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    /// Its image.
    pub image: PathBuf,
    /// Whether what is written stays.
    pub writes: Writes,
    /// A second disk with the test scripts; empty for none.
    pub scripts: PathBuf,
    /// The port of this host that leads to the system's SSH; none for no way in.
    pub ssh_port: Option<u16>,
}

/// What becomes of what a boot writes to its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// It is gone with the emulator.
    #[default]
    Dropped,
    /// It stays.
    Kept,
}

/// A Linux kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linux {
    /// Debian 12's as its package has it: a bzImage compressed with xz.
    Debian12,
    /// The ELF file in it.
    Debian12Unpacked,
    /// Debian 13's: a bzImage compressed with zstd.
    Debian13,
    /// That of Debian unstable, compressed so too.
    DebianUnstable,
}

/// What runs as dom0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Linux with the dom0 image.
    Linux(Linux),
    /// `micro-pv`, a kernel that does nothing but check the hypercall interface.
    Micro,
}

/// What is run on the machine, with its command lines.
#[derive(Clone, Copy, Debug)]
pub struct Software<'a> {
    /// The hypervisor's command line.
    pub hypervisor_line: &'a str,
    /// What runs as dom0.
    pub payload: Payload,
    /// dom0's command line.
    pub kernel_line: &'a str,
}

/// The command that boots `machine`, its console on standard input and output.
#[must_use]
pub fn command(
    machine: &Machine,
    files: &Files,
    software: Software<'_>,
    terminal: Terminal,
) -> Command {
    if machine.emulator == Emulator::Bochs {
        return files.bochs.command();
    }
    let mut qemu = machine_alone(machine, files, terminal);
    match machine.loader {
        Loader::Direct | Loader::PvhNote => {
            let line = software.kernel_line;
            let modules = match software.payload {
                Payload::Linux(_) => {
                    format!("{} {line},{}", files.kernel.display(), files.dom0.display())
                }
                Payload::Micro => format!("{} {line}", files.micro.display()),
            };
            qemu.arg("-kernel").arg(&files.hypervisor);
            qemu.args(["-append", software.hypervisor_line, "-initrd", &modules]);
        }
        Loader::Grub | Loader::GrubMultiboot1 => {
            qemu.arg("-cdrom").arg(&files.iso);
        }
        Loader::GrubUefi => uefi_drives(&mut qemu, files),
        Loader::Disk => disk(&mut qemu, &files.installed),
        Loader::DiskUefi => {
            flash(&mut qemu, &format!("snapshot=on,file={VARIABLES}"));
            disk(&mut qemu, &files.installed);
        }
    }
    qemu
}

/// What a machine with UEFI boots from: its flash memory, the CD-ROM and the disk.
pub fn uefi_drives(qemu: &mut Command, files: &Files) {
    qemu.arg("-cdrom").arg(&files.iso);
    flash(qemu, &format!("file={}", files.variables.display()));
    let disk = files.disk.display();
    qemu.args(["-drive", &format!("if=ide,format=raw,file={disk}")]);
}

/// Adds UEFI's flash memory: the code and what holds the variables.
fn flash(qemu: &mut Command, variables: &str) {
    let flash = "if=pflash,format=raw,unit";
    qemu.args(["-drive", &format!("{flash}=0,readonly=on,file={OVMF}")]);
    qemu.args(["-drive", &format!("{flash}=1,{variables}")]);
}

/// The firmware's code, of Debian's package ovmf.
const OVMF: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
/// Its variables as that package has them.
const VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Adds the disks, of the kind that the board has by itself, and a network card.
fn disk(qemu: &mut Command, disk: &Disk) {
    let snapshot = match disk.writes {
        Writes::Dropped => "on",
        Writes::Kept => "off",
    };
    let drives = [(&disk.image, snapshot), (&disk.scripts, "on")];
    let present = drives.iter().filter(|(image, _)| image.is_file());
    for (image, snapshot) in present {
        let image = image.display();
        let drive = format!("if=ide,format=raw,snapshot={snapshot},file={image}");
        qemu.args(["-drive", &drive]);
    }
    let forward = disk.ssh_port.map_or_else(String::new, |port| {
        format!(",hostfwd=tcp:127.0.0.1:{port}-:22")
    });
    qemu.args(["-netdev", &format!("user,id=lan{forward}")])
        .args(["-device", "e1000,netdev=lan"]);
}

/// RAM in MiB above which the host is not asked to set it aside.
const LARGE_MIB: u32 = 16 << 10;

/// The command for `machine` with nothing to boot yet.
#[must_use]
pub fn machine_alone(machine: &Machine, files: &Files, terminal: Terminal) -> Command {
    let mut qemu = program(machine.emulator, files);
    let cpu = match machine.cpu {
        "" => machine.emulator.cpu(),
        model => model,
    };
    let accelerator = match machine.clock {
        Clock::Real if machine.cpus > 1 => "tcg,thread=multi",
        Clock::Real => "tcg",
        Clock::Instructions | Clock::InstructionsAndWaits => "tcg,thread=single",
    };
    qemu.args(["-accel", accelerator, "-cpu", cpu])
        .args(["-smp", &machine.cpus.to_string()])
        .args(["-m", &machine.memory_mib.to_string()])
        .args(["-nographic", "-net", "none"]);
    if machine.reset == Reset::Ends {
        qemu.arg("-no-reboot");
    }
    if !files.plugin.is_empty() {
        qemu.args(["-plugin", &files.plugin]);
    }
    if terminal == Terminal::Program {
        qemu.args(["-monitor", "none", "-serial", "stdio"]);
    }
    if !machine.board.is_empty() {
        qemu.args(["-machine", machine.board]);
    }
    if machine.memory_mib > LARGE_MIB {
        let size = machine.memory_mib;
        let backend = format!("memory-backend-ram,id=ram,size={size}M,reserve=off");
        qemu.args(["-object", &backend, "-machine", "memory-backend=ram"]);
    }
    let waits = match machine.clock {
        Clock::Real => None,
        Clock::Instructions => Some("off"),
        Clock::InstructionsAndWaits => Some("on"),
    };
    if let Some(waits) = waits {
        let count = format!("shift=0,sleep={waits}");
        qemu.args(["-icount", &count, "-seed", "1"])
            .args(["-rtc", "base=2024-01-01T00:00:00,clock=vm"]);
    }
    qemu
}

fn program(emulator: Emulator, files: &Files) -> Command {
    match emulator {
        Emulator::System => Command::new("qemu-system-x86_64"),
        // It boots by [`command`] alone: options of QEMU end it at once.
        Emulator::Bochs => Command::new("bochs-bin"),
        Emulator::Ten => {
            let root = &files.qemu10;
            let mut qemu = Command::new(root.join("usr/bin/qemu-system-x86_64"));
            for folder in ["usr/share/qemu", "usr/share/seabios"] {
                qemu.arg("-L").arg(root.join(folder));
            }
            qemu
        }
    }
}
