//! Machines with too little memory, processors that lack something, damaged firmware tables.

use super::{BARE, DOM0_CRASHED, SMALL, STOPPED};
use crate::bad::{BadBoot, Kernel, Tables};
use crate::emulator::Machine;

pub(super) const BOOTS: &[BadBoot] = &[
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
];
