//! The list of boots.

use crate::case::{Case, Exposure, Firmware, Nmis, Script, Tier, Weight};
use crate::devices;
use crate::emulator::{Emulator, Linux, Loader, Machine, Reset};

mod acts;
mod bochs;
mod debian;
mod domu;
pub mod matrix;
mod memory;
mod micro;
mod pvh;

/// All cases, the quickest of each part first.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    let parts = [
        CASES,
        memory::CASES,
        debian::CASES,
        acts::CASES,
        domu::CASES,
        micro::CASES,
        pvh::CASES,
        bochs::CASES,
    ];
    parts.into_iter().flatten().chain(matrix::cases())
}

const CASES: &[Case] = &[
    Case {
        name: "boot",
        tier: Tier::Quick,
        // The emulator's CPU is AMD's, which does not need it.
        expected: &["XPTI (64-bit PV only): Dom0 disabled, DomU disabled"],
        ..Case::BASE
    },
    Case {
        name: "toolstack",
        tier: Tier::Quick,
        script: Script::Guest("toolstack"),
        ..Case::BASE
    },
    Case {
        name: "micro",
        // The checks know that there is one CPU and that dom0 has two vCPUs.
        hypervisor_args: "dom0_max_vcpus=2",
        script: Script::Micro,
        seconds: 300,
        ..Case::BASE
    },
    Case {
        name: "xpti-micro",
        hypervisor_args: "dom0_max_vcpus=2 xpti=1",
        script: Script::Micro,
        exposure: Exposure::Least,
        seconds: 300,
        ..Case::BASE
    },
    Case {
        name: "prompt",
        script: Script::Typed(&[
            ("xl list", "Domain-0"),
            ("echo $((6 * 7)) is it", "42 is it"),
            ("echo lines=$(xl info | grep -c ^xen_)", "lines=9"),
            // The hypervisor's own keys and back; the ends of these lines are keys too.
            ("\u{1}\u{1}\u{1}", "Serial input to Xen"),
            ("q", "  d0v0: "),
            ("\u{1}\u{1}\u{1}", "Serial input to DOM0"),
            ("echo $((6 * 9)) is it", "54 is it"),
            ("exit", "Power down"),
        ]),
        ..Case::BASE
    },
    Case {
        name: "reboot",
        tier: Tier::Long,
        script: Script::Typed(&[("reboot -f", "Hardware Dom0 shutdown: rebooting machine")]),
        ..Case::BASE
    },
    Case {
        name: "reboot-by-key",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        hypervisor_args: "noreboot",
        script: Script::Typed(&[("xl debug-keys R", "Resetting by")]),
        ..Case::BASE
    },
    Case {
        name: "reboot-by-sysrq",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            board: "q35",
            ..Machine::BASE
        },
        hypervisor_args: "reboot=acpi",
        script: Script::Typed(&[(
            "echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger",
            "Resetting by the ACPI reset register",
        )]),
        ..Case::BASE
    },
    Case {
        name: "grub",
        machine: Machine {
            loader: Loader::Grub,
            ..Machine::BASE
        },
        // What Debian's entry has on a machine with UEFI.
        hypervisor_args: "no-real-mode edd=off",
        expected: &["Bootloader: GRUB 2"],
        forbidden: &["has no effect"],
        ..Case::BASE
    },
    Case {
        name: "uefi-boot",
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            reset: Reset::Restarts,
            ..Machine::BASE
        },
        script: Script::Guest("uefi"),
        // Debian's Xen resets so too, without a word.
        expected: &["Reset by EFI"],
        ..Case::BASE
    },
    Case {
        // The firmware is called on both CPUs.
        name: "smp2-uefi-boot",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            board: "q35",
            loader: Loader::GrubUefi,
            reset: Reset::Restarts,
            ..Machine::BASE
        },
        script: Script::Guest("uefi"),
        expected: &["Reset by EFI"],
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "uefi-crash",
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..Machine::BASE
        },
        firmware: Firmware::Damaged,
        script: Script::Guest("uefi-crash"),
        ..Case::BASE
    },
    Case {
        // A service of the firmware that never returns: the one CPU sees so itself.
        name: "uefi-hang",
        tier: Tier::Long,
        machine: Machine {
            board: "q35",
            loader: Loader::GrubUefi,
            ..Machine::BASE
        },
        hypervisor_args: "watchdog watchdog_timeout=3",
        firmware: Firmware::Endless,
        script: Script::Typed(&[(
            "efi-calls time",
            "Xenolith crashed on CPU 0: stuck in the hypervisor",
        )]),
        expected: &[
            "Watchdog: a CPU that is stuck for 3 s ends the machine; with one CPU, only while it takes interrupts",
            "Back-trace",
            "Resetting by the ACPI reset register",
        ],
        forbidden: &["Reset by EFI"],
        tolerated: &["Xenolith crashed"],
        ..Case::BASE
    },
    Case {
        name: "smp2-toolstack",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("toolstack"),
        seconds: 900,
        ..Case::BASE
    },
    Case {
        // A run queue for each core, whose threads are one here.
        name: "smp4",
        hypervisor_args: "sched=null credit2_runqueue=core mwait-idle",
        expected: &[
            "Option \"sched=null\" is not implemented and has no effect",
            "Brought up 4 CPUs",
            "Idle CPUs wait by MWAIT",
            "TSC: that of each CPU agrees",
            "Guests' user mappings stay in the TLB",
        ],
        machine: Machine {
            cpus: 4,
            // As on a real machine, where nobody intercepts writes of CR4.
            cpu: "max,+svm,-smap,-rdtscp,-xsave,-hypervisor",
            memory_mib: 3072,
            ..Machine::BASE
        },
        seconds: 900,
        ..Case::BASE
    },
    Case {
        // CPUs go and come back under work; four on a machine with fewer are slow.
        name: "hotplug",
        machine: Machine {
            cpus: 4,
            ..Machine::BASE
        },
        script: Script::Guest("hotplug"),
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "hotplug-100",
        tier: Tier::Long,
        machine: Machine {
            cpus: 4,
            ..Machine::BASE
        },
        kernel_args: "XROUNDS=100",
        script: Script::Guest("hotplug"),
        seconds: 1800,
        ..Case::BASE
    },
    Case {
        name: "microcode",
        hypervisor_args: "ucode=scan",
        script: Script::Guest("microcode"),
        ..Case::BASE
    },
    Case {
        name: "mce",
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("mce"),
        monitor: &[
            (
                "WANT-CORRECTED",
                "mce 1 9 0x9c000000000000c1 0 0x56780000 0x8c",
            ),
            (
                "WANT-UNCORRECTED",
                "mce 0 9 0xbd000000000000c0 0x5 0x12340000 0x8c",
            ),
            (
                "WANT-ANOTHER",
                "mce 0 8 0xbd000000000000c2 0x5 0x12350000 0x8c",
            ),
        ],
        seconds: 600,
        ..Case::BASE
    },
    Case {
        name: "work",
        script: Script::Guest("work"),
        ..Case::BASE
    },
    Case {
        name: "xpti-work",
        hypervisor_args: "xpti=1",
        script: Script::Guest("work"),
        exposure: Exposure::Least,
        expected: &["XPTI (64-bit PV only): Dom0 enabled, DomU enabled"],
        ..Case::BASE
    },
    Case {
        // NMIs hit between the two roots, and each CPU has a root of its own.
        name: "smp2-xpti-nmi-work",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        hypervisor_args: "xpti=1",
        nmis: Nmis::Many,
        script: Script::Guest("work"),
        exposure: Exposure::Least,
        expected: &["NMI received for unknown reason"],
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "nmi-work",
        // Debian's Xen gives each to dom0 as well, without a word of its own.
        nmis: Nmis::Many,
        script: Script::Guest("work"),
        expected: &["NMI received for unknown reason"],
        ..Case::BASE
    },
    Case {
        name: "smp2-nmi-work",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        nmis: Nmis::Many,
        script: Script::Guest("work"),
        expected: &["NMI received for unknown reason"],
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "smp2-work",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        script: Script::Guest("work"),
        seconds: 900,
        ..Case::BASE
    },
    Case {
        // The vCPUs take turns, so registers of every kind are saved and loaded all the time.
        name: "two-vcpus-on-one-cpu",
        tier: Tier::Long,
        hypervisor_args: "dom0_max_vcpus=2",
        kernel_args: "XVCPUS=2",
        script: Script::Guest("work"),
        ..Case::BASE
    },
    Case {
        name: "c-xenstored",
        kernel_args: "XENSTORED=xenstored",
        ..Case::BASE
    },
    Case {
        name: "tools",
        script: Script::Guest("tools"),
        ..Case::BASE
    },
    Case {
        name: "q35",
        machine: Machine {
            board: "q35",
            ..Machine::BASE
        },
        ..Case::BASE
    },
    Case {
        // The board's disk controller has messages without a table.
        name: "micro-q35",
        devices: Some(&devices::MESSAGES),
        machine: Machine {
            board: "q35",
            ..Machine::BASE
        },
        hypervisor_args: "dom0_max_vcpus=2",
        script: Script::Micro,
        seconds: 300,
        ..Case::BASE
    },
    Case {
        name: "devices-pc",
        devices: Some(&devices::PC),
        kernel_args: "XDISKS=ata_piix:ahci:virtio-pci:nvme XNICS=e1000:virtio_net XWATCHDOG=1",
        script: Script::Guest("devices"),
        expected: &["WATCHDOG-ARMED"],
        forbidden: &["WATCHDOG-SLEPT"],
        ..Case::BASE
    },
    Case {
        name: "guards",
        devices: Some(&devices::MONITOR),
        kernel_args: "iomem=relaxed",
        script: Script::Guest("guards"),
        // dom0's kernel did not expect that its own mapping of the local APIC is refused.
        tolerated: &["WARNING: CPU", "Call Trace:"],
        seconds: 200,
        ..Case::BASE
    },
    Case {
        name: "guards-q35",
        tier: Tier::Long,
        devices: Some(&devices::GUARDED),
        machine: Machine {
            board: "q35",
            ..Machine::BASE
        },
        kernel_args: "iomem=relaxed",
        script: Script::Guest("guards-q35"),
        seconds: 200,
        ..Case::BASE
    },
    DEVICES_Q35,
    Case {
        name: "bad-devices",
        devices: Some(&devices::BAD),
        // An emulated CPU takes a thousand in 10 ms, or hundreds when the machine has other work.
        hypervisor_args: "irq_ratelimit=200",
        kernel_args: "iomem=relaxed",
        script: Script::Guest("bad-devices"),
        // What the kernel says of an interrupt that nobody wants.
        tolerated: &["Call Trace:", "nobody cared"],
        seconds: 200,
        ..Case::BASE
    },
    Case {
        name: "soak",
        tier: Tier::Long,
        kernel_args: "XDISKS=ahci:virtio-pci:nvme XNICS=e1000e:virtio_net XSOAK=600",
        script: Script::Guest("soak"),
        seconds: 1800,
        ..DEVICES_Q35
    },
    Case {
        name: "qemu10-smap",
        machine: Machine {
            emulator: Emulator::Ten,
            ..Machine::BASE
        },
        ..Case::BASE
    },
    Case {
        name: "one-vcpu-of-two",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            ..Machine::BASE
        },
        hypervisor_args: "dom0_max_vcpus=1",
        kernel_args: "XVCPUS=1",
        ..Case::BASE
    },
    Case {
        name: "smp8-work",
        tier: Tier::Long,
        machine: Machine {
            cpus: 8,
            memory_mib: 4096,
            ..Machine::BASE
        },
        script: Script::Guest("work"),
        seconds: 1800,
        ..Case::BASE
    },
    Case {
        name: "qemu10-smp2-work",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            emulator: Emulator::Ten,
            ..Machine::BASE
        },
        script: Script::Guest("work"),
        ..Case::BASE
    },
    Case {
        name: "grub-multiboot1",
        tier: Tier::Long,
        machine: Machine {
            loader: Loader::GrubMultiboot1,
            ..Machine::BASE
        },
        ..Case::BASE
    },
    Case {
        name: "smp2-x2apic",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            emulator: Emulator::Ten,
            cpu: "max,+svm,-xsave,+x2apic",
            ..Machine::BASE
        },
        expected: &["local APIC x2APIC"],
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "smp2-q35",
        tier: Tier::Long,
        machine: Machine {
            cpus: 2,
            board: "q35",
            ..Machine::BASE
        },
        seconds: 900,
        ..Case::BASE
    },
    Case {
        name: "xsave",
        tier: Tier::Long,
        weight: Weight::Reported,
        machine: Machine {
            cpu: "max,+svm,-smap,-rdtscp",
            ..Machine::BASE
        },
        script: Script::Guest("work"),
        expected: &["FPU state by XSAVE"],
        ..Case::BASE
    },
    Case {
        name: "no-hpet",
        tier: Tier::Long,
        machine: Machine {
            board: "pc,hpet=off",
            ..Machine::BASE
        },
        expected: &[
            "MHz by ACPI PM timer",
            "Guests' user mappings go with each load of CR3",
        ],
        ..Case::BASE
    },
    Case {
        name: "vmlinux",
        tier: Tier::Long,
        linux: Linux::Debian12Unpacked,
        ..Case::BASE
    },
    Case {
        name: "debian13-kernel",
        tier: Tier::Long,
        machine: Machine {
            emulator: Emulator::Ten,
            ..Machine::BASE
        },
        linux: Linux::Debian13,
        ..Case::BASE
    },
];

/// Disks and networks on the newer board, with two CPUs.
const DEVICES_Q35: Case = Case {
    name: "devices-q35",
    machine: Machine {
        cpus: 2,
        board: "q35",
        ..Machine::BASE
    },
    devices: Some(&devices::Q35),
    kernel_args: "XDISKS=ahci:virtio-pci:nvme XNICS=e1000e:virtio_net",
    script: Script::Guest("devices"),
    ..Case::BASE
};

#[cfg(test)]
mod tests {
    use super::cases;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_file_name() {
        let mut names = BTreeSet::new();
        for case in cases() {
            assert!(names.insert(case.name), "{} twice", case.name);
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(case.name.chars().all(fits), "{}", case.name);
        }
    }
}
