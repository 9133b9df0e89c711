//! A whole Debian on a disk of its own, with its own boot loader.

use crate::case::{Case, Dom0Memory, Script, Tier};
use crate::emulator::{Loader, Machine};

pub(super) const CASES: &[Case] = &[
    DEBIAN,
    Case {
        name: "debian-uefi",
        machine: Machine {
            loader: Loader::DiskUefi,
            board: "q35",
            ..Machine::BASE
        },
        ..DEBIAN
    },
    Case {
        name: "debian-smp2-dom0-mem",
        machine: Machine {
            cpus: 2,
            ..DEBIAN.machine
        },
        dom0_mib: 1024,
        dom0_memory: Dom0Memory::Fixed,
        ..DEBIAN
    },
    Case {
        name: "debian-install",
        script: Script::LoggedIn("debian-install"),
        ..DEBIAN
    },
];

/// A whole Debian from its disk, whose menu gives the hypervisor no word about memory: `xl` balloons.
const DEBIAN: Case = Case {
    name: "debian-bios",
    tier: Tier::Long,
    machine: Machine {
        loader: Loader::Disk,
        ..Machine::BASE
    },
    dom0_mib: 0,
    dom0_memory: Dom0Memory::Words(""),
    script: Script::LoggedIn("debian"),
    expected: &[
        // With a full stop it has ended; with three it is only being ended.
        "Start/stop secondary xen domains.\n",
        "LSB: Xen daemons.\n",
        "Entering ACPI",
    ],
    // systemd's word for a service that did not start or stop well, in red.
    forbidden: &["31mFAILED"],
    seconds: 1800,
    ..Case::BASE
};
