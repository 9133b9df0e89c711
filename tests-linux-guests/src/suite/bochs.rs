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
        // One boot for all, in every full run.
        name: "bochs-kinds",
        tier: Tier::Full,
        guests: Guests::Unpacked,
        kernel_args: "XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-kinds"),
        ..BOCHS
    },
    Case {
        // By VT-x.
        name: "bochs-pvh",
        guests: Guests::Unpacked,
        kernel_args: "XTYPE=pvh XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-boot"),
        ..BOCHS
    },
    Case {
        // Real Xen stands still with the second vCPU: see `LONGEST_RUN` in hv-core.
        name: "bochs-pvh-vcpus",
        guests: Guests::Unpacked,
        kernel_args: "XTYPE=pvh XMANY=8 XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-vcpus"),
        seconds: 3600,
        ..BOCHS
    },
    Case {
        name: "bochs-pvh-save",
        tier: Tier::Named,
        guests: Guests::Unpacked,
        kernel_args: "XTYPE=pvh XKERNEL=/guest/vmlinux",
        script: Script::Guest("domu-save"),
        seconds: 3600,
        ..BOCHS
    },
    Case {
        name: "bochs-pvh-hostile",
        guests: Guests::Micro,
        kernel_args: "XTYPE=pvh XWAIT=900",
        script: Script::Guest("pvh-hostile"),
        seconds: 3600,
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
