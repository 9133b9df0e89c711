//! Cases in which dom0 creates domains of our own small kernels.

use crate::case::{Case, Guests, Script, Tier};
use crate::emulator::Machine;

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "domu-micro",
        script: Script::Guest("domu-micro"),
        ..MICRO
    },
    Case {
        name: "domu-micro-c-xenstored",
        kernel_args: "XENSTORED=xenstored",
        script: Script::Guest("domu-micro"),
        ..MICRO
    },
    Case {
        // Two CPUs, so that vCPUs race.
        name: "domu-hostile",
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("domu-hostile"),
        seconds: 1200,
        ..MICRO
    },
];

/// What they share.
const MICRO: Case = Case {
    tier: Tier::Named,
    guests: Guests::Micro,
    dom0_mib: 512,
    ..Case::BASE
};
