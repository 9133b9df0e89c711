//! How much memory the machine has, and how much of it dom0.

use crate::case::{Case, Dom0Memory, Script, Tier};
use crate::emulator::Machine;

pub(super) const CASES: &[Case] = &[
    Case {
        name: "small-dom0",
        tier: Tier::Long,
        dom0_mib: 384,
        ..Case::BASE
    },
    Case {
        name: "memory-above-4g",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 8192,
            ..Machine::BASE
        },
        dom0_mib: 6144,
        ..Case::BASE
    },
    Case {
        // The host need not have it: what is not touched takes no room.
        name: "memory-128g",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 131_072,
            ..Machine::BASE
        },
        script: Script::Guest("toolstack"),
        ..Case::BASE
    },
    Case {
        name: "all-memory",
        dom0_mib: 1900,
        dom0_memory: Dom0Memory::Words(""),
        kernel_args: "XFREE=130",
        ..Case::BASE
    },
    Case {
        name: "all-memory-of-8g",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 8192,
            ..Machine::BASE
        },
        dom0_mib: 8000,
        dom0_memory: Dom0Memory::Words(""),
        kernel_args: "XFREE=130",
        ..Case::BASE
    },
    Case {
        name: "memory-512m",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 512,
            ..Machine::BASE
        },
        dom0_mib: 460,
        dom0_memory: Dom0Memory::Words(""),
        kernel_args: "XFREE=34",
        ..Case::BASE
    },
    Case {
        name: "memory-1g",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 1024,
            ..Machine::BASE
        },
        dom0_mib: 512,
        dom0_memory: Dom0Memory::Words("dom0_mem=512M"),
        ..Case::BASE
    },
    Case {
        name: "dom0-mem-all-but",
        tier: Tier::Long,
        dom0_mib: 1520,
        dom0_memory: Dom0Memory::Words("dom0_mem=-512M"),
        kernel_args: "XFREE=512",
        ..Case::BASE
    },
    Case {
        name: "dom0-mem-bounds",
        tier: Tier::Long,
        dom0_mib: 768,
        dom0_memory: Dom0Memory::Words("dom0_mem=min:512M,max:768M"),
        ..Case::BASE
    },
];
