//! The list of boots of bad input.

use super::{BadBoot, Builds, End, Kernel, Tables};
use crate::case::Tier;
use crate::emulator::{Loader, Machine};
use crate::screen::Screen;

/// Said after all that stops for good.
const STOPPED: &str = "Stopped; it is safe to switch the machine off";
/// Said of a kernel that is a text.
const UNREADABLE: &str = "Cannot boot: dom0 kernel: neither an ELF file nor compressed";
/// Said when the hypervisor came all the way to a dom0 that crashes at once.
const DOM0_CRASHED: &str = "Hardware Dom0 crashed";
/// A line of letters.
const fn letters(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(line) => line,
        Err(_) => "",
    }
}

/// More than the 1024 bytes that a PV kernel can be given (xen.h, `MAX_GUEST_CMDLINE`).
const LONG_LINE: &str = letters(&[b'x'; 1500]);
/// More than is taken from a loader.
const ENDLESS_LINE: &str = letters(&[b'y'; 5000]);

const SMALL: Machine = BadBoot::BASE.machine;
/// Two CPUs and no tables of the emulator's.
const BARE: Machine = Machine {
    cpus: 2,
    board: "pc,acpi=off",
    ..SMALL
};

/// All of them.
pub const BOOTS: &[BadBoot] = &[
    BadBoot {
        // Nothing wrong, only unusual.
        name: "bad-tables-above-4g",
        machine: Machine {
            memory_mib: 7168,
            ..BARE
        },
        tables: Tables::Far,
        expected: &[
            "XSDT 123456040, 002C",
            "APIC 17FFFFFF0,",
            "Brought up 2 CPUs",
            DOM0_CRASHED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-screen-text",
        kernel: Kernel::Text,
        expected: &["System RAM: 511 MiB", UNREADABLE],
        screen: Some(Screen::Text),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-screen-framebuffer",
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..SMALL
        },
        kernel: Kernel::Text,
        expected: &["Video: VGA is graphics mode", UNREADABLE],
        screen: Some(Screen::Framebuffer),
        ..BadBoot::BASE
    },
    BadBoot {
        // Also what comes after dom0 has begun.
        name: "bad-screen-keep",
        tier: Tier::Long,
        hypervisor_args: "dom0_mem=128M noreboot vga=keep",
        expected: &["Serial input to DOM0", DOM0_CRASHED, STOPPED],
        screen: Some(Screen::Text),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-screen-keep-framebuffer",
        tier: Tier::Long,
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..SMALL
        },
        hypervisor_args: "dom0_mem=128M noreboot vga=keep",
        expected: &["Serial input to DOM0", DOM0_CRASHED, STOPPED],
        screen: Some(Screen::Framebuffer),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-no-module",
        kernel: Kernel::Missing,
        // Also without noreboot: another boot would find the same.
        hypervisor_args: "",
        expected: &["Cannot boot: no dom0 kernel", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-empty-module",
        kernel: Kernel::Empty,
        expected: &["Cannot boot: dom0 kernel: the file is empty", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-text-module",
        kernel: Kernel::Text,
        expected: &[
            "Cannot boot: dom0 kernel: neither an ELF file nor compressed",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-no-notes",
        kernel: Kernel::Program,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel has no Xen ELF notes",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-itself",
        kernel: Kernel::Hypervisor,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel has a PVH entry but no PV one",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-32-bit-kernel",
        kernel: Kernel::Program32,
        expected: &[
            "Cannot boot: dom0 kernel: the kernel is 32-bit only",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cut-image",
        kernel: Kernel::CutImage,
        expected: &[
            "Cannot boot: dom0 kernel: the boot image is cut short",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-damaged-image",
        kernel: Kernel::DamagedImage,
        expected: &["Cannot boot: dom0 kernel: xz data is damaged", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-bzip2-image",
        kernel: Kernel::Bzip2Image,
        expected: &[
            "Cannot boot: dom0 kernel: compressed with bzip2, which is not supported",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-bzip2-file",
        kernel: Kernel::Bzip2File,
        expected: &[
            "Cannot boot: dom0 kernel: compressed with bzip2, which is not supported",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-dom0-mem-large",
        hypervisor_args: "dom0_mem=8G",
        expected: &["Cannot boot: dom0_mem asks for 8192 MiB, but only", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-dom0-mem-small",
        hypervisor_args: "dom0_mem=16M",
        expected: &[
            "Cannot boot: dom0 would get 16 MiB; a kernel needs at least",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-little-ram",
        machine: Machine {
            memory_mib: 16,
            ..SMALL
        },
        hypervisor_args: "",
        expected: &["Cannot boot: dom0 would get", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-hardly-any-ram",
        machine: Machine {
            memory_mib: 8,
            ..SMALL
        },
        hypervisor_args: "",
        expected: &["Cannot boot: the machine has too little RAM", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-no-ram-to-unpack",
        machine: Machine {
            memory_mib: 64,
            ..SMALL
        },
        kernel: Kernel::Real,
        hypervisor_args: "",
        expected: &["Cannot boot: dom0 kernel: no memory to unpack it", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-32-bit",
        machine: Machine {
            cpu: "qemu32",
            ..SMALL
        },
        expected: &["cannot boot: this CPU has no 64-bit mode"],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-no-long-mode",
        machine: Machine {
            cpu: "max,-lm",
            ..SMALL
        },
        expected: &["cannot boot: this CPU has no 64-bit mode"],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-no-nx",
        machine: Machine {
            cpu: "max,-nx",
            ..SMALL
        },
        expected: &["cannot boot: this CPU has no NX"],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-no-pat",
        machine: Machine {
            cpu: "max,-pat",
            ..SMALL
        },
        expected: &["Cannot boot: this CPU has no PAT", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-no-apic",
        machine: Machine {
            cpu: "max,-apic",
            ..SMALL
        },
        expected: &["Cannot boot: this CPU has no APIC", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-cpu-no-fxsr",
        machine: Machine {
            cpu: "max,-fxsr",
            ..SMALL
        },
        expected: &["Cannot boot: this CPU has no FXSR", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        // Neither HPET nor PM timer: the PIT is what is left.
        name: "bad-timers",
        machine: Machine {
            board: "pc,acpi=off,hpet=off",
            ..BARE
        },
        tables: Tables::Whole,
        expected: &["MHz by PIT", "Brought up 2 CPUs", DOM0_CRASHED, STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-none",
        machine: BARE,
        tables: Tables::None,
        expected: &[
            "ACPI: no RSDP: one CPU, no I/O APIC",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-whole",
        machine: BARE,
        tables: Tables::Whole,
        expected: &["Brought up 2 CPUs", DOM0_CRASHED, STOPPED],
        forbidden: &["ACPI: "],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-checksum",
        machine: BARE,
        tables: Tables::WrongChecksum,
        expected: &[
            "ACPI: table APIC has a wrong checksum and is skipped",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-cut",
        machine: BARE,
        tables: Tables::CutLength,
        expected: &[
            "ACPI: table APIC cannot be 0x23 bytes long and is skipped",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-endless",
        machine: BARE,
        tables: Tables::EndlessLength,
        expected: &[
            "ACPI: table APIC cannot be 0xffffffff bytes long and is skipped",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-entry",
        machine: BARE,
        tables: Tables::BadEntry,
        expected: &[
            "ACPI: in table APIC the entry at 0x34 of type 0 cannot be 0 bytes long and is skipped",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-pointer",
        machine: BARE,
        tables: Tables::WildPointer,
        expected: &[
            "cannot be 0x0 bytes long and is skipped",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-acpi-cycle",
        machine: BARE,
        tables: Tables::Cycle,
        expected: &[
            "is listed twice and taken once",
            "Brought up 1 CPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-options",
        hypervisor_args: "placeholder no-real-mode edd=off foo=bar iommu=yes \
                          maxcpus=none dom0_mem=128M noreboot",
        expected: &[
            "option 'foo=bar' is unknown and has no effect",
            "option 'iommu=yes' is not implemented and has no effect",
            "option 'maxcpus=none' has no effect, its value should be a positive number",
            DOM0_CRASHED,
            STOPPED,
        ],
        forbidden: &[
            "option 'placeholder'",
            "option 'no-real-mode'",
            "option 'edd=off'",
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-maxcpus",
        machine: Machine { cpus: 2, ..SMALL },
        hypervisor_args: "maxcpus=1 dom0_mem=128M noreboot",
        expected: &[
            "Brought up 1 CPUs, left out 1",
            "128 MiB, 1 vCPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-nosmp",
        machine: Machine { cpus: 2, ..SMALL },
        hypervisor_args: "nosmp dom0_mem=128M noreboot",
        expected: &[
            "Brought up 1 CPUs, left out 1",
            "128 MiB, 1 vCPUs",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-dom0-crash",
        expected: &[DOM0_CRASHED, "'noreboot' is set: not rebooting", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-dom0-crash-smp",
        machine: Machine { cpus: 2, ..SMALL },
        expected: &[
            "Brought up 2 CPUs",
            DOM0_CRASHED,
            "'noreboot' is set: not rebooting",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-dom0-crash-reboot",
        hypervisor_args: "dom0_mem=128M",
        expected: &[DOM0_CRASHED, "Rebooting"],
        end: End::Resets,
        ..BadBoot::BASE
    },
    BadBoot {
        // There is room for one module only, so the kernel finds nothing to go on with; that it got so
        // far shows that the entry is good.
        name: "bad-pvh-no-initrd",
        machine: Machine {
            loader: Loader::PvhNote,
            ..SMALL
        },
        kernel: Kernel::Real,
        hypervisor_args: "dom0_mem=256M noreboot -- console=hvc0 earlyprintk=xen",
        expected: &[
            "Bootloader: PVH",
            "Linux version",
            "Hypervisor detected: Xen PV",
            "Kernel panic - not syncing: VFS: Unable to mount root fs",
            "Call Trace:",
            DOM0_CRASHED,
            "'noreboot' is set: not rebooting",
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-long-kernel-line",
        kernel_args: LONG_LINE,
        expected: &[
            "dom0's command line is too long: the last",
            DOM0_CRASHED,
            STOPPED,
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-endless-kernel-line",
        kernel_args: ENDLESS_LINE,
        expected: &["Cannot boot: the boot loader's information:", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-endless-line",
        hypervisor_args: ENDLESS_LINE,
        expected: &["Cannot boot: the boot loader's information:", STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-keys",
        kernel: Kernel::Idle,
        expected: &["128 MiB, 1 vCPUs"],
        keys: &[
            ("", "Serial input to DOM0"),
            ("\u{1}\u{1}\u{1}", "Serial input to Xen"),
            ("h", "key 'h': this list"),
            ("d", "guest entries"),
            ("?", "has no meaning"),
            ("\u{1}\u{1}\u{1}", "Serial input to DOM0"),
            ("h\u{1}\u{1}\u{1}", "Serial input to Xen"),
            ("m", "pages of 4 KiB"),
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-crash",
        kernel: Kernel::Idle,
        expected: &["Serial input to DOM0"],
        keys: &[
            ("\u{1}\u{1}\u{1}", "Serial input to Xen"),
            (
                "C",
                "Xenolith crashed on CPU 0: invalid opcode, error code 0x0",
            ),
            ("", "rip 0xffff82d0"),
            ("", "cr2 0x"),
            ("", "rax "),
            ("", "r15 "),
            ("", "Back-trace"),
            ("", "'noreboot' is set: not rebooting"),
            ("", STOPPED),
        ],
        back_trace: &[
            "hw::setup_hv::State",
            "debugkeys::press",
            "hw::serial_line::poll",
            "hw::run::run_cpu",
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-hang",
        machine: Machine { cpus: 2, ..SMALL },
        kernel: Kernel::Idle,
        hypervisor_args: "dom0_mem=128M noreboot watchdog watchdog_timeout=2",
        builds: Builds::Checked,
        expected: &[
            "Serial input to DOM0",
            "Watchdog: a CPU that is stuck for 2 s ends the machine",
        ],
        keys: &[
            ("\u{1}\u{1}\u{1}", "Serial input to Xen"),
            ("H", "Xenolith crashed on CPU "),
            ("", ": stuck in the hypervisor"),
            ("", "It holds a CPU's deadlines (0, rank 70)"),
            ("", "rip 0xffff82d0"),
            ("", "Back-trace"),
            // What the other CPU was at.
            ("", "(XEN) CPU "),
            ("", "'noreboot' is set: not rebooting"),
            ("", STOPPED),
        ],
        back_trace: &[
            "hw::setup_hv::State",
            "debugkeys::press",
            "hw::run::run_cpu",
        ],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-microcode-options",
        hypervisor_args: "dom0_mem=128M noreboot ucode=5,scan",
        expected: &["Microcode: there is no such module", DOM0_CRASHED, STOPPED],
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-machine-check",
        kernel: Kernel::Idle,
        expected: &["Serial input to DOM0"],
        monitor: Some((
            // The processor's context is corrupt.
            "mce 0 9 0xbf000000000000c0 0x5 0x12340000 0x8c",
            &[
                "Xenolith crashed on CPU 0: machine check",
                "machine check bank 9: status 0xbf000000000000c0, address 0x12340000",
                "rip 0x",
                STOPPED,
            ],
        )),
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-crash-reboot",
        kernel: Kernel::Idle,
        hypervisor_args: "dom0_mem=128M",
        expected: &["Serial input to DOM0"],
        keys: &[
            ("\u{1}\u{1}\u{1}", "Serial input to Xen"),
            ("C", "Xenolith crashed on CPU 0: invalid opcode"),
            ("", "Rebooting"),
        ],
        end: End::Resets,
        ..BadBoot::BASE
    },
];

#[cfg(test)]
mod tests {
    use super::BOOTS;
    use crate::suite::cases;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_file_name() {
        let mut names: BTreeSet<_> = cases().map(|case| case.name).collect();
        for boot in BOOTS {
            assert!(names.insert(boot.name), "{} twice", boot.name);
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(boot.name.starts_with("bad-") && boot.name.chars().all(fits));
            assert!(!boot.expected.is_empty(), "{} expects nothing", boot.name);
        }
    }
}
