//! Cases in which dom0 creates domains of our own small kernels.

use crate::case::{Case, Guests, Script, Tier};
use crate::emulator::{Clock, Machine};

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "domu-micro",
        tier: Tier::Full,
        script: Script::Guest("domu-micro"),
        ..MICRO
    },
    Case {
        name: "domu-micro-c-xenstored",
        tier: Tier::Long,
        kernel_args: "XENSTORED=xenstored",
        script: Script::Guest("domu-micro"),
        ..MICRO
    },
    Case {
        name: "domu-lives",
        tier: Tier::Full,
        kernel_args: "XLIVES=20 XMANY=20",
        script: Script::Guest("domu-lives"),
        seconds: 900,
        ..MICRO
    },
    Case {
        name: "domu-lives-200",
        tier: Tier::Long,
        kernel_args: "XLIVES=200 XMANY=20",
        script: Script::Guest("domu-lives"),
        seconds: 1800,
        ..MICRO
    },
    Case {
        // For each new domain xl reads the names of all, and xenstored looks at the rings of all for each read.
        name: "domu-lives-500-at-once",
        tier: Tier::Long,
        kernel_args: "XLIVES=3 XMANY=500 XENSTORED=xenstored",
        machine: Machine {
            memory_mib: 6144,
            ..Machine::BASE
        },
        dom0_mib: 2048,
        script: Script::Guest("domu-lives"),
        seconds: 9000,
        ..MICRO
    },
    Case {
        // Two CPUs, so that vCPUs race.
        name: "domu-hostile",
        tier: Tier::Full,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("domu-hostile"),
        seconds: 1200,
        ..MICRO
    },
    Case {
        name: "domu-shares",
        tier: Tier::Full,
        machine: Machine {
            clock: Clock::Instructions,
            ..Machine::BASE
        },
        script: Script::Guest("domu-shares"),
        ..MICRO
    },
    Case {
        name: "smp2-domu-shares",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            clock: Clock::Instructions,
            ..Machine::BASE
        },
        script: Script::Guest("domu-shares"),
        seconds: 600,
        ..MICRO
    },
    Case {
        name: "domu-lone",
        tier: Tier::Full,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("domu-lone"),
        ..MICRO
    },
    Case {
        name: "cpupools",
        tier: Tier::Full,
        machine: Machine {
            cpus: 4,
            ..Machine::BASE
        },
        hypervisor_args: "dom0_max_vcpus=2",
        script: Script::Guest("cpupools"),
        seconds: 2400,
        ..MICRO
    },
    Case {
        name: "domu-races",
        tier: Tier::Full,
        kernel_args: "XROUNDS=20",
        ..RACES
    },
    Case {
        name: "domu-races-1000",
        tier: Tier::Long,
        kernel_args: "XROUNDS=1000",
        script: Script::Guest("domain-race"),
        ..RACES
    },
];

/// Tools against each other, on two CPUs for dom0 and two more.
const RACES: Case = Case {
    machine: Machine {
        cpus: 4,
        ..Machine::BASE
    },
    hypervisor_args: "dom0_max_vcpus=2",
    script: Script::Guest("domu-races"),
    seconds: 1200,
    ..MICRO
};

/// What they share.
const MICRO: Case = Case {
    tier: Tier::Named,
    guests: Guests::Micro,
    dom0_mib: 512,
    ..Case::BASE
};
