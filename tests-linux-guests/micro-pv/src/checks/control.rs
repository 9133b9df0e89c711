//! platform_op, sysctl, domctl, and the hypercalls a PV dom0 has little to do with.

use xen_abi::GuestHandle;
use xen_abi::domctl::*;
use xen_abi::errno::Errno::*;
use xen_abi::hypercall::*;
use xen_abi::platform::*;
use xen_abi::sysctl::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::bad;
use crate::call::{Argument, hypercall};
use crate::kernel::platform_op;
use crate::memory::Page;
use crate::report::{either, holds, optional, result, same};

fn one<T: FromBytes + IntoBytes + Immutable>(number: u32, value: &T) -> (i64, T) {
    let argument = Argument::new(value);
    let code = hypercall(number, [argument.address()]);
    (code, argument.get())
}

fn pointers(number: u32) {
    for (kind, pointer) in bad::POINTERS {
        result(
            format_args!("{kind} pointer"),
            hypercall(number, [*pointer]),
            EFAULT,
        );
    }
}

fn platform<T: IntoBytes + Immutable>(command: u32, content: &T) -> i64 {
    one(__HYPERVISOR_platform_op, &platform_op(command, content)).0
}

/// platform_op.
pub fn of_platform() {
    pointers(__HYPERVISOR_platform_op);
    for version in [
        0,
        1,
        XENPF_INTERFACE_VERSION - 1,
        XENPF_INTERFACE_VERSION + 1,
        u32::MAX,
    ] {
        let mut operation = platform_op(XENPF_get_cpuinfo, &0_u32);
        operation.interface_version = version;
        let name = format_args!("version {version:#x}");
        result(name, one(__HYPERVISOR_platform_op, &operation).0, EACCES);
    }
    for command in [0, 16, 18, 30, 34, 36, 40, 64, 999, u32::MAX] {
        result(
            format_args!("operation {command}"),
            platform(command, &0_u64),
            ENOSYS,
        );
    }
    let time = |nsecs: u32, mbz: u32| {
        let request = PlatformSettime64 {
            secs: 1_700_000_000,
            nsecs,
            mbz,
            system_time: super::clock::now(),
        };
        platform(XENPF_settime64, &request)
    };
    result("settime64", time(999_999_999, 0), 0);
    result("settime64 with padding", time(0, 1), EINVAL);
    processors();
    for (name, command, cpu, wanted) in [
        ("CPU 0 off line", XENPF_cpu_offline, 0, EOPNOTSUPP as i64),
        ("no CPU off line", XENPF_cpu_offline, 4000, EINVAL as i64),
        ("CPU 0 on line", XENPF_cpu_online, 0, 0),
        ("no CPU on line", XENPF_cpu_online, 4000, EINVAL as i64),
    ] {
        let code = platform(command, &PlatformCpuOl { cpuid: cpu });
        same(name, code, -wanted);
    }
    let update = PlatformMicrocodeUpdate {
        data: GuestHandle::new(0x1000),
        length: 4096,
        _pad0: [0; 4],
    };
    let code = platform(XENPF_microcode_update, &update);
    // Without a driver for the CPU nobody reads it.
    either("microcode at a bad address", code, EFAULT, EINVAL);
    for kind in [0, 6, 99, u32::MAX] {
        let request = PlatformFirmwareInfo {
            r#type: kind,
            ..PlatformFirmwareInfo::default()
        };
        optional(
            format_args!("firmware_info {kind}"),
            platform(XENPF_firmware_info, &request),
            EINVAL,
        );
    }
    let microcode = PlatformMicrocodeUpdate {
        length: u32::MAX,
        ..PlatformMicrocodeUpdate::default()
    };
    let code = platform(XENPF_microcode_update, &microcode);
    optional("microcode of 4 GiB", code, EINVAL);
    sleep();
}

/// Processors that are not there, and the only one that is.
fn processors() {
    for xen_cpuid in [1, 4096, u32::MAX] {
        let request = PlatformPcpuinfo {
            xen_cpuid,
            ..PlatformPcpuinfo::default()
        };
        let (code, answer) = one(
            __HYPERVISOR_platform_op,
            &platform_op(XENPF_get_cpuinfo, &request),
        );
        result(format_args!("get_cpuinfo {xen_cpuid}"), code, 0);
        let flags = PlatformPcpuinfo::read_from_prefix(answer.u.as_bytes())
            .expect("it fits")
            .0;
        same(
            format_args!("its flags for {xen_cpuid}"),
            flags.flags,
            XEN_PCPU_FLAGS_INVALID,
        );
        let request = PlatformCpuOl { cpuid: xen_cpuid };
        for (command, name) in [(XENPF_cpu_online, "online"), (XENPF_cpu_offline, "offline")] {
            optional(
                format_args!("cpu_{name} {xen_cpuid}"),
                platform(command, &request),
                EINVAL,
            );
        }
    }
    optional(
        "cpu_offline 0",
        platform(XENPF_cpu_offline, &PlatformCpuOl { cpuid: 0 }),
        EOPNOTSUPP,
    );
    for kind in [0, 3, u32::MAX] {
        let request = PlatformCoreParking {
            r#type: kind,
            idle_nums: 0,
        };
        optional(
            format_args!("core_parking {kind}"),
            platform(XENPF_core_parking, &request),
            EINVAL,
        );
    }
}

fn sleep() {
    let request = |val_a: u16, val_b: u16, sleep_state: u32, flags: u32| PlatformEnterAcpiSleep {
        val_a,
        val_b,
        sleep_state,
        flags,
    };
    for (name, content, want) in [
        ("sleep state 0", request(0, 0, 0, 0), EINVAL),
        ("sleep state 6", request(0, 0, 6, 0), EINVAL),
        ("sleep state 2^32 - 1", request(0, 0, u32::MAX, 0), EINVAL),
    ] {
        result(name, platform(XENPF_enter_acpi_sleep, &content), want);
    }
}

fn sysctl<T: IntoBytes + Immutable>(cmd: u32, content: &T) -> (i64, Sysctl) {
    let mut operation = Sysctl {
        cmd,
        interface_version: XEN_SYSCTL_INTERFACE_VERSION,
        ..Sysctl::default()
    };
    let bytes = content.as_bytes();
    operation.u.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    one(__HYPERVISOR_sysctl, &operation)
}

/// sysctl.
pub fn of_system() {
    pointers(__HYPERVISOR_sysctl);
    for version in [0, 1, 0x14, 0x16, u32::MAX] {
        let operation = Sysctl {
            cmd: XEN_SYSCTL_physinfo,
            interface_version: version,
            ..Sysctl::default()
        };
        let name = format_args!("version {version:#x}");
        result(name, one(__HYPERVISOR_sysctl, &operation).0, EACCES);
    }
    for command in [0, 13, 24, 28, 30, 31, 999, u32::MAX] {
        result(
            format_args!("operation {command}"),
            sysctl(command, &0_u64).0,
            ENOSYS,
        );
    }
    for (name, cpu, op, wanted) in [
        ("CPU 0 off line", 0, XEN_SYSCTL_CPU_HOTPLUG_OFFLINE, EINVAL),
        ("CPU 0 on line", 0, XEN_SYSCTL_CPU_HOTPLUG_ONLINE, EEXIST),
        (
            "no CPU off line",
            4000,
            XEN_SYSCTL_CPU_HOTPLUG_OFFLINE,
            EINVAL,
        ),
        (
            "no CPU on line",
            4000,
            XEN_SYSCTL_CPU_HOTPLUG_ONLINE,
            EINVAL,
        ),
        (
            "threads off line",
            0,
            XEN_SYSCTL_CPU_HOTPLUG_SMT_DISABLE,
            EOPNOTSUPP,
        ),
        ("another change of CPUs", 0, 9, EOPNOTSUPP),
    ] {
        let request = SysctlCpuHotplug { cpu, op };
        result(name, sysctl(XEN_SYSCTL_cpu_hotplug, &request).0, wanted);
    }
    let (code, answer) = sysctl(XEN_SYSCTL_physinfo, &0_u64);
    result("physinfo", code, 0);
    let info = SysctlPhysInfo::read_from_prefix(answer.u.as_bytes())
        .expect("it fits")
        .0;
    same("its CPUs", (info.nr_cpus, info.max_cpu_id), (1, 0));
    holds(
        "its pages",
        info.total_pages > 400_000 && info.free_pages < info.total_pages,
        info.free_pages,
    );
    let (code, _) = sysctl(
        XEN_SYSCTL_availheap,
        &SysctlAvailHeap {
            node: 99,
            ..SysctlAvailHeap::default()
        },
    );
    optional("availheap of node 99", code, 0);
    buffers();
}

/// Buffers that cannot be used.
fn buffers() {
    for (kind, pointer) in bad::POINTERS {
        let at = *pointer;
        let console = SysctlReadConsole {
            buffer: GuestHandle::new(at),
            count: 64,
            ..SysctlReadConsole::default()
        };
        result(
            format_args!("readconsole to {kind}"),
            sysctl(XEN_SYSCTL_readconsole, &console).0,
            EFAULT,
        );
        let list = SysctlGetDomainInfoList {
            max_domains: 8,
            buffer: GuestHandle::new(at),
            ..SysctlGetDomainInfoList::default()
        };
        result(
            format_args!("getdomaininfolist to {kind}"),
            sysctl(XEN_SYSCTL_getdomaininfolist, &list).0,
            EFAULT,
        );
        let keys = SysctlDebugKeys {
            keys: GuestHandle::new(at),
            nr_keys: 1,
            ..SysctlDebugKeys::default()
        };
        optional(
            format_args!("debug_keys from {kind}"),
            sysctl(XEN_SYSCTL_debug_keys, &keys).0,
            EFAULT,
        );
        let cpus = SysctlGetCpuInfo {
            max_cpus: 1,
            info: GuestHandle::new(at),
            ..SysctlGetCpuInfo::default()
        };
        optional(
            format_args!("getcpuinfo to {kind}"),
            sysctl(XEN_SYSCTL_getcpuinfo, &cpus).0,
            EFAULT,
        );
    }
}

fn domctl(cmd: u32, domain: u16) -> i64 {
    let operation = Domctl {
        cmd,
        interface_version: XEN_DOMCTL_INTERFACE_VERSION,
        domain,
        ..Domctl::default()
    };
    one(__HYPERVISOR_domctl, &operation).0
}

/// domctl.
pub fn of_domains() {
    pointers(__HYPERVISOR_domctl);
    for version in [0, 1, 0x14, 0x16, u32::MAX] {
        let operation = Domctl {
            cmd: XEN_DOMCTL_getdomaininfo,
            interface_version: version,
            ..Domctl::default()
        };
        let name = format_args!("version {version:#x}");
        result(name, one(__HYPERVISOR_domctl, &operation).0, EACCES);
    }
    for command in [0, 6, 7, 8, 31, 49, 60_000, u32::MAX] {
        result(
            format_args!("operation {command}"),
            domctl(command, 0),
            ENOSYS,
        );
    }
    for domain in [77, 0x7ff4] {
        for command in 2..87 {
            // These name no domain, or find another.
            if matches!(command, 5 | 46 | 37 | 45 | 47 | 50) {
                continue;
            }
            let name = format_args!("operation {command} on domain {domain:#x}");
            optional(name, domctl(command, domain), ESRCH);
        }
    }
    optional(
        "destroy ourselves",
        domctl(XEN_DOMCTL_destroydomain, 0),
        EINVAL,
    );
    optional("pause ourselves", domctl(XEN_DOMCTL_pausedomain, 0), EINVAL);
    optional(
        "unpause ourselves",
        domctl(XEN_DOMCTL_unpausedomain, 0),
        EINVAL,
    );
    optional(
        "resume ourselves",
        domctl(XEN_DOMCTL_resumedomain, 0),
        EINVAL,
    );
    let operation = Domctl {
        cmd: XEN_DOMCTL_getdomaininfo,
        interface_version: XEN_DOMCTL_INTERFACE_VERSION,
        ..Domctl::default()
    };
    let (code, answer) = one(__HYPERVISOR_domctl, &operation);
    result("getdomaininfo of ourselves", code, 0);
    let info = DomctlGetDomainInfo::read_from_prefix(answer.u.as_bytes())
        .expect("it fits")
        .0;
    let pages = crate::memory::start_info().nr_pages;
    same("its pages", (info.domain, info.tot_pages), (0, pages));
}

/// Hypercalls that a PV dom0 can reach but has little to do with.
pub fn others() {
    let page = Page::take();
    let at = page.address();
    for op in [0, 5, 99] {
        page.set_word(0, op);
        result(
            format_args!("xsm_op {op}"),
            hypercall(__HYPERVISOR_xsm_op, [at]),
            ENOSYS,
        );
    }
    // Xen takes an unknown operation for a success; without kexec there is no operation at all.
    for op in [7, 99, u64::MAX] {
        let code = hypercall(__HYPERVISOR_kexec_op, [op, 0]);
        either(format_args!("kexec_op {op}"), code, 0, ENOSYS);
    }
    let code = hypercall(__HYPERVISOR_kexec_op, [6, 0]);
    either("kexec_op 6, null pointer", code, EFAULT, ENOSYS);
    for op in [0, 1, 2, 9, 99, u64::MAX] {
        let code = hypercall(__HYPERVISOR_hvm_op, [op, 0]);
        either(format_args!("hvm_op {op}"), code, EFAULT, ENOSYS);
    }
    for domain in [0, 1, 0x7ff0, 0x7ff4] {
        let code = hypercall(__HYPERVISOR_dm_op, [domain, 0, 0]);
        either(format_args!("dm_op on {domain:#x}"), code, ENODATA, ENOSYS);
    }
    for op in 0..10 {
        let code = hypercall(__HYPERVISOR_xenpmu_op, [op, 0]);
        either(format_args!("xenpmu_op {op}"), code, EOPNOTSUPP, ENOSYS);
    }
    for (kind, pointer) in bad::POINTERS {
        let code = hypercall(__HYPERVISOR_mca, [*pointer]);
        optional(format_args!("mca, {kind} pointer"), code, EFAULT);
    }
    page.clear();
    optional(
        "mca with version 0",
        hypercall(__HYPERVISOR_mca, [at]),
        EACCES,
    );
    for op in [3, 99, u64::MAX] {
        let code = hypercall(__HYPERVISOR_hypfs_op, [op, 0, 0, 0, 0]);
        optional(format_args!("hypfs_op {op}"), code, EINVAL);
    }
    let code = hypercall(__HYPERVISOR_hypfs_op, [0, 0, 0, 0, 0]);
    optional("hypfs version", code, 1);
    page.give_back();
}
