//! Boots that end by what a small kernel of our own does.

use crate::case::{Case, Script};
use crate::emulator::Machine;

pub(super) const CASES: &[Case] = &[
    micro_act("micro-no-stack", "crash=no-stack"),
    micro_act("micro-stack-of-theirs", "crash=stack-of-theirs"),
    micro_act("micro-stack-not-canonical", "crash=stack-not-canonical"),
    micro_act("micro-iret-hole", "crash=iret-hole"),
    micro_act("micro-iret-of-theirs", "crash=iret-of-theirs"),
    micro_act("micro-no-handler", "crash=no-handler"),
    micro_act("micro-handlers-of-theirs", "crash=handlers-of-theirs"),
    micro_act("micro-code-gone", "crash=code-gone"),
    micro_act("micro-shutdown-crash", "crash=shutdown-crash"),
    micro_act("micro-shutdown-unknown", "crash=shutdown-unknown"),
    micro_act("micro-reboot", "crash=reboot"),
    micro_act("micro-watchdog", "crash=watchdog"),
    reset(
        "micro-reset-acpi",
        "reboot=acpi",
        &["Resetting by the ACPI reset register"],
        &["Resetting by the keyboard controller"],
    ),
    reset(
        "micro-reset-kbd",
        "reboot=kbd",
        &["Resetting by the keyboard controller"],
        &["Resetting by the ACPI"],
    ),
    reset(
        "micro-reset-pci",
        "reboot=pci",
        &["Resetting by port 0xcf9"],
        &["Resetting by the"],
    ),
    reset(
        "micro-reset-triple",
        "reboot=triple,warm",
        &["Resetting by triple fault"],
        &["Resetting by the"],
    ),
    reset(
        "micro-reset-efi",
        "reboot=efi",
        &[
            "No reset by EFI here",
            "Resetting by the ACPI reset register",
        ],
        &["Resetting by the keyboard controller"],
    ),
];

/// A boot in which micro-pv does what must end it and nothing else.
const fn micro_act(name: &'static str, kernel_args: &'static str) -> Case {
    Case {
        name,
        kernel_args,
        script: Script::MicroAct,
        expected: &["Hardware Dom0"],
        forbidden: &["MICRO-SURVIVED"],
        seconds: 120,
        ..Case::BASE
    }
}

/// A reset by the way that is asked for: what is said must be the last, for the emulator ends.
const fn reset(
    name: &'static str,
    hypervisor_args: &'static str,
    expected: &'static [&'static str],
    forbidden: &'static [&'static str],
) -> Case {
    Case {
        name,
        machine: Machine {
            board: "q35",
            ..Machine::BASE
        },
        hypervisor_args,
        kernel_args: "crash=reboot",
        script: Script::MicroAct,
        expected,
        forbidden,
        seconds: 120,
        ..Case::BASE
    }
}
