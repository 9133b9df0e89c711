//! The same scripts with PVH guests: `type="pvh"`, hardware's own virtual machine in place of the PV interface.

use crate::case::{Case, Guests, Script, Tier};
use crate::devices;
use crate::emulator::Machine;

/// All of them.
pub const CASES: &[Case] = &[
    Case {
        name: "pvh-boot",
        tier: Tier::Full,
        script: Script::Guest("domu-boot"),
        ..PVH
    },
    Case {
        name: "pvh-life",
        tier: Tier::Long,
        seconds: 1800,
        script: Script::Guest("domu-life"),
        ..PVH
    },
    Case {
        name: "pvh-ends",
        tier: Tier::Long,
        seconds: 1800,
        script: Script::Guest("domu-ends"),
        // Guests crash, and say so.
        tolerated: &["Kernel panic", "Call Trace:"],
        ..PVH
    },
    Case {
        name: "pvh-vcpus",
        tier: Tier::Full,
        machine: THREE_CPUS,
        kernel_args: "XTYPE=pvh XMANY=8 XGUESTCPUS=1-2",
        script: Script::Guest("domu-vcpus"),
        ..PVH
    },
    Case {
        name: "pvh-devices",
        tier: Tier::Long,
        devices: Some(&devices::SERVED),
        script: Script::Guest("domu-devices"),
        ..PVH
    },
    Case {
        // The driver domain, too.
        name: "pvh-driver",
        tier: Tier::Long,
        script: Script::Guest("domu-driver"),
        ..PVH
    },
    Case {
        // GRUB in the guest reads its kernel from its disk.
        name: "pvh-grub",
        tier: Tier::Full,
        guests: Guests::OnDisk,
        script: Script::Guest("domu-grub"),
        ..PVH
    },
    Case {
        name: "pvh-memory",
        tier: Tier::Long,
        script: Script::Guest("domu-memory"),
        ..PVH
    },
    Case {
        // With a migration to this host.
        name: "pvh-save",
        tier: Tier::Long,
        script: Script::Guest("domu-save"),
        seconds: 1800,
        ..PVH
    },
    Case {
        name: "pvh-streams",
        tier: Tier::Long,
        script: Script::Guest("domu-streams"),
        seconds: 1800,
        ..PVH
    },
    Case {
        name: "smp3-pvh-save",
        tier: Tier::Long,
        machine: THREE_CPUS,
        kernel_args: "XTYPE=pvh XGUESTCPUS=1-2",
        script: Script::Guest("domu-save"),
        seconds: 1800,
        ..PVH
    },
    Case {
        // Its memory is asked for in pieces of 1 GiB.
        name: "pvh-large",
        tier: Tier::Long,
        machine: Machine {
            memory_mib: 5120,
            ..Machine::BASE
        },
        kernel_args: "XTYPE=pvh XMEMORY=2560",
        script: Script::Guest("domu-boot"),
        expected: &["1 GiB from guest frame 0x0 on is one mapping"],
        ..PVH
    },
    Case {
        name: "pvh-many",
        tier: Tier::Long,
        kernel_args: "XTYPE=pvh XMANY=6",
        script: Script::Guest("domu-many"),
        ..PVH
    },
    Case {
        // Half of them PV.
        name: "pvh-crowd",
        machine: Machine {
            memory_mib: 6144,
            ..THREE_CPUS
        },
        kernel_args: "XTYPE=mixed XMANY=40 XGUESTCPUS=1-2",
        script: Script::Guest("domu-many"),
        seconds: 5400,
        ..PVH
    },
    Case {
        // On two CPUs, so that vCPUs race.
        name: "pvh-hostile",
        tier: Tier::Full,
        guests: Guests::Micro,
        machine: THREE_CPUS,
        kernel_args: "XTYPE=pvh XGUESTCPUS=1-2",
        dom0_mib: 512,
        script: Script::Guest("pvh-hostile"),
        seconds: 2400,
        ..PVH
    },
];

/// What they share. Those that were not seen to pass yet run where they are asked for by name.
const PVH: Case = Case {
    tier: Tier::Named,
    guests: Guests::Linux,
    kernel_args: "XTYPE=pvh",
    // What a kernel says that finds an interrupt in its local APIC before it has enabled that.
    forbidden: &["APIC: Stale IRR"],
    seconds: 900,
    ..Case::BASE
};

/// One CPU for dom0 alone and two for guests, too, as `XGUESTCPUS=1-2` says to the scripts: in QEMU 7.2, FNINIT and FNCLEX on any
/// CPU rewrite flags of CPU 0 without a lock, nested paging's among them (`cpu_clear_ignne` in its sources), so that a VMRUN or
/// an exit there may be undone by half. Nor may the CPUs take turns in one thread: an interrupt that a VMRUN injected comes a
/// second time when its turn ends before the guest has left (`exception_index` stays set).
const THREE_CPUS: Machine = Machine {
    cpus: 3,
    ..Machine::BASE
};
