//! What goes wrong later: options, long lines, dom0's end, our own.

use super::{DOM0_CRASHED, ENDLESS_LINE, LONG_LINE, SMALL, STOPPED};
use crate::bad::{BadBoot, Builds, End, Kernel};
use crate::emulator::{Loader, Machine};

/// Said when one of two CPUs is not to be used.
const ONE_CPU_OF_TWO: &[&str] = &[
    "Brought up 1 CPUs, left out 1",
    "128 MiB, 1 vCPUs",
    DOM0_CRASHED,
    STOPPED,
];

pub(super) const BOOTS: &[BadBoot] = &[
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
        expected: ONE_CPU_OF_TWO,
        ..BadBoot::BASE
    },
    BadBoot {
        name: "bad-nosmp",
        machine: Machine { cpus: 2, ..SMALL },
        hypervisor_args: "nosmp dom0_mem=128M noreboot",
        expected: ONE_CPU_OF_TWO,
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
