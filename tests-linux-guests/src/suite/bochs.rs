//! Boots in Bochs, which has CPUs of Intel's. It is slow: everything that it loads is unpacked beforehand.

use crate::case::{Case, Guests, Script, Tier};
use crate::emulator::{Emulator, Linux, Loader, Machine};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "bochs-dom0",
        script: Script::Guest("toolstack"),
        ..BOCHS
    },
    Case {
        // 32-bit programs call the kernel by SYSENTER on a CPU of Intel's.
        name: "bochs-work",
        script: Script::Guest("work"),
        ..BOCHS
    },
    Case {
        name: "bochs-pv",
        guests: Guests::Unpacked,
        kernel_args: "XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-boot"),
        ..BOCHS
    },
    Case {
        // Needs VT-x.
        name: "bochs-pvh",
        tier: Tier::Named,
        guests: Guests::Unpacked,
        kernel_args: "XTYPE=pvh XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-boot"),
        ..BOCHS
    },
];

const BOCHS: Case = Case {
    tier: Tier::Long,
    machine: Machine {
        memory_mib: 1536,
        emulator: Emulator::Bochs,
        loader: Loader::GrubMultiboot1,
        ..Machine::BASE
    },
    linux: Linux::Debian12Unpacked,
    dom0_mib: 768,
    seconds: 1800,
    ..Case::BASE
};
