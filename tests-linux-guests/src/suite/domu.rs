//! dom0 creates other domains with stock `xl`: Debian's own kernel as PV guest (`guest/domus.sh`).

use crate::case::{Case, Guests, Script, Tier};
use crate::devices;
use crate::emulator::{Clock, Machine};

/// For what takes minutes, once it was seen to pass.
const LONG_RUN: Tier = Tier::Named;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "domu-boot",
        script: Script::Guest("domu-boot"),
        ..DOMU
    },
    Case {
        // Guests alone have it, beside a dom0 that has not.
        name: "xpti-domu-boot",
        machine: TWO_CPUS,
        tier: Tier::Long,
        hypervisor_args: "xpti=domu=1",
        expected: &["XPTI (64-bit PV only): Dom0 disabled, DomU enabled"],
        script: Script::Guest("domu-boot"),
        ..DOMU
    },
    Case {
        name: "domu-life",
        script: Script::Guest("domu-life"),
        ..DOMU
    },
    Case {
        name: "domu-ends",
        script: Script::Guest("domu-ends"),
        // Guests crash, and say so.
        tolerated: &["Kernel panic", "Call Trace:"],
        ..DOMU
    },
    Case {
        name: "domu-bad",
        script: Script::Guest("domu-bad"),
        tolerated: &["Kernel panic", "Call Trace:"],
        ..DOMU
    },
    Case {
        name: "domu-pygrub",
        tier: Tier::Long,
        guests: Guests::OnDisk,
        script: Script::Guest("domu-grub"),
        ..DOMU
    },
    Case {
        name: "domu-devices",
        devices: Some(&devices::SERVED),
        script: Script::Guest("domu-devices"),
        ..DOMU
    },
    Case {
        name: "smp2-domu-devices",
        tier: LONG_RUN,
        machine: TWO_CPUS,
        devices: Some(&devices::SERVED),
        script: Script::Guest("domu-devices"),
        seconds: 1800,
        ..DOMU
    },
    Case {
        name: "domu-driver",
        script: Script::Guest("domu-driver"),
        ..DOMU
    },
    Case {
        name: "domu-memory",
        tier: Tier::Long,
        script: Script::Guest("domu-memory"),
        ..DOMU
    },
    Case {
        name: "domu-memory-100",
        tier: LONG_RUN,
        kernel_args: "XROUNDS=100",
        script: Script::Guest("domu-memory"),
        seconds: 3600,
        ..DOMU
    },
    Case {
        name: "domu-vcpus",
        machine: TWO_CPUS,
        kernel_args: "XMANY=8",
        script: Script::Guest("domu-vcpus"),
        ..DOMU
    },
    Case {
        name: "domu-vcpus-32",
        tier: Tier::Long,
        machine: TWO_CPUS,
        kernel_args: "XMANY=32",
        script: Script::Guest("domu-vcpus"),
        seconds: 1800,
        ..DOMU
    },
    Case {
        name: "domu-save",
        script: Script::Guest("domu-save"),
        ..DOMU
    },
    Case {
        // Time by instructions: what is to add up does so on any host.
        name: "domu-steal",
        machine: Machine {
            clock: Clock::Instructions,
            ..DOMU.machine
        },
        kernel_args: "XEXACT=1",
        script: Script::Guest("domu-steal"),
        ..DOMU
    },
    Case {
        name: "smp2-domu-steal",
        tier: Tier::Long,
        machine: TWO_CPUS,
        script: Script::Guest("domu-steal"),
        ..DOMU
    },
    // With what XSAVE keeps, and a TSC that is the guest's own.
    Case {
        name: "xsave-domu-save",
        tier: Tier::Long,
        machine: Machine {
            cpu: "max,+svm,-smap,-rdtscp",
            ..DOMU.machine
        },
        kernel_args: "XTSC=always_emulate",
        script: Script::Guest("domu-save"),
        expected: &["FPU state by XSAVE"],
        seconds: 1800,
        ..DOMU
    },
    Case {
        name: "smp2-domu-save",
        tier: Tier::Long,
        machine: TWO_CPUS,
        script: Script::Guest("domu-save"),
        seconds: 1800,
        ..DOMU
    },
    Case {
        name: "domu-overcommit",
        tier: Tier::Long,
        machine: TWO_CPUS,
        kernel_args: "XMANY=16",
        script: Script::Guest("domu-overcommit"),
        seconds: 3600,
        ..DOMU
    },
    Case {
        name: "domu-many",
        tier: Tier::Long,
        kernel_args: "XMANY=6",
        script: Script::Guest("domu-many"),
        ..DOMU
    },
    Case {
        name: "domu-many-30",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 4096,
            ..TWO_CPUS
        },
        kernel_args: "XMANY=30",
        script: Script::Guest("domu-many"),
        seconds: 3600,
        ..DOMU
    },
];

const DOMU: Case = Case {
    tier: Tier::Full,
    guests: Guests::Linux,
    seconds: 900,
    ..Case::BASE
};

const TWO_CPUS: Machine = Machine {
    cpus: 2,
    ..Machine::BASE
};
