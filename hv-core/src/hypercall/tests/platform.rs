use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_platform_op as CALL;
use xen_abi::platform::{self as abi, PlatformOp};
use xen_abi::xen::{SHARED_INFO_WC_SEC, SHARED_INFO_WC_SEC_HI, SHARED_INFO_WC_VERSION};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use std::sync::atomic::Ordering;

use crate::domain::{Domain, Machine, SleepRequest};
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};

const ARRAY: u64 = GUEST + 0x1000;
const MAP: u64 = GUEST + 0x2000;

/// A request whose unused bytes are rubbish.
fn request<T: IntoBytes + Immutable>(cmd: u32, value: &T) -> PlatformOp {
    let mut op = PlatformOp {
        cmd,
        interface_version: abi::XENPF_INTERFACE_VERSION,
        u: [0xa5a5_a5a5_a5a5_a5a5; 16],
    };
    value.write_to_prefix(op.u.as_mut_bytes()).unwrap();
    op
}

pub fn op<T: FromBytes + IntoBytes + Immutable>(
    f: &mut Fixture,
    cmd: u32,
    value: T,
) -> Result<T, Errno> {
    f.put(GUEST, &request(cmd, &value));
    f.call(CALL, &[GUEST])?;
    Ok(T::read_from_prefix(f.get::<PlatformOp>(GUEST).u.as_bytes())
        .unwrap()
        .0)
}

/// A 32-bit word of a domain's shared info page.
fn shared(f: &Fixture, domain: &Domain, offset: usize) -> u32 {
    f.machine.words32(domain.shared_info)[offset / 4].load(Ordering::Relaxed)
}

#[test]
fn time_of_day_reaches_every_domain() {
    let mut f = Fixture::control();
    let guest = f.add(1);
    let time = abi::PlatformSettime64 {
        secs: (7 << 32) + 100,
        nsecs: 0,
        mbz: 0,
        system_time: 40_000_000_000,
    };
    op(&mut f, abi::XENPF_settime64, time).unwrap();
    for domain in [&guest, &f.caller] {
        assert_eq!(shared(&f, domain, SHARED_INFO_WC_SEC), 60);
        assert_eq!(shared(&f, domain, SHARED_INFO_WC_SEC_HI), 7);
        assert_eq!(shared(&f, domain, SHARED_INFO_WC_VERSION), 2);
    }
    // A domain that comes later is told by its builder.
    let late = f.add(2);
    f.hv.publish_wallclock(&late);
    assert_eq!(shared(&f, &late, SHARED_INFO_WC_SEC), 60);
    assert_eq!(f.hv.wallclock().unwrap().at(0), ((7 << 32) + 60, 0));
}

#[test]
fn older_form_and_nonsense_times() {
    let mut f = Fixture::control();
    let time = abi::PlatformSettime32 {
        secs: 100,
        nsecs: 5,
        system_time: 0,
    };
    op(&mut f, abi::XENPF_settime32, time).unwrap();
    assert_eq!(f.hv.wallclock().unwrap().at(0), (100, 5));
    let good = abi::PlatformSettime64 {
        secs: 1,
        ..Default::default()
    };
    for bad in [
        abi::PlatformSettime64 { mbz: 1, ..good },
        abi::PlatformSettime64 {
            nsecs: 1_000_000_000,
            ..good
        },
        abi::PlatformSettime64 {
            system_time: 2_000_000_000,
            ..good
        },
    ] {
        assert_eq!(op(&mut f, abi::XENPF_settime64, bad), Err(Errno::EINVAL));
    }
    let far = abi::PlatformSettime64 {
        secs: u64::MAX,
        ..good
    };
    assert!(
        op(&mut f, abi::XENPF_settime64, far).is_ok(),
        "absurd but harmless"
    );
}

#[test]
fn soft_off_only() {
    let mut f = Fixture::control();
    let off = abi::PlatformEnterAcpiSleep {
        val_a: 0x3400,
        val_b: 0,
        sleep_state: 5,
        flags: 0,
    };
    let refused = [
        (
            abi::PlatformEnterAcpiSleep {
                sleep_state: 3,
                ..off
            },
            Errno::EOPNOTSUPP,
        ),
        (
            abi::PlatformEnterAcpiSleep {
                sleep_state: 6,
                ..off
            },
            Errno::EINVAL,
        ),
        (
            abi::PlatformEnterAcpiSleep {
                sleep_state: 0,
                ..off
            },
            Errno::EINVAL,
        ),
        (
            abi::PlatformEnterAcpiSleep { flags: 1, ..off },
            Errno::EOPNOTSUPP,
        ),
        (
            abi::PlatformEnterAcpiSleep { flags: 2, ..off },
            Errno::EINVAL,
        ),
        (
            abi::PlatformEnterAcpiSleep {
                val_a: 0x1400,
                ..off
            },
            Errno::EINVAL,
        ),
    ];
    for (request, why) in refused {
        assert_eq!(op(&mut f, abi::XENPF_enter_acpi_sleep, request), Err(why));
        assert_eq!(*f.machine.sleep.lock().unwrap(), None);
    }
    op(&mut f, abi::XENPF_enter_acpi_sleep, off).unwrap();
    let entered = SleepRequest {
        state: 5,
        pm1a: 0x3400,
        pm1b: 0,
    };
    assert_eq!(*f.machine.sleep.lock().unwrap(), Some(entered));
}

#[test]
fn cpus_are_described() {
    let mut f = Fixture::control();
    let ask = |f: &mut Fixture, xen_cpuid| {
        let info = abi::PlatformPcpuinfo {
            xen_cpuid,
            ..Default::default()
        };
        op(f, abi::XENPF_get_cpuinfo, info).unwrap()
    };
    let second = ask(&mut f, 1);
    assert_eq!(
        (second.apic_id, second.acpi_id, second.max_present),
        (2, 2, 2)
    );
    assert_eq!(second.flags, abi::XEN_PCPU_FLAGS_ONLINE);
    assert_eq!(ask(&mut f, 2).flags, 0, "there, but not started");
    assert_eq!(ask(&mut f, 3).flags, abi::XEN_PCPU_FLAGS_INVALID);
    assert_eq!(ask(&mut f, u32::MAX).flags, abi::XEN_PCPU_FLAGS_INVALID);

    let info = abi::PlatformPcpuVersion {
        xen_cpuid: 1,
        ..Default::default()
    };
    let version = op(&mut f, abi::XENPF_get_cpu_version, info).unwrap();
    assert_eq!((version.vendor_id, version.family), (*b"AuthenticAMD", 15));
    let info = abi::PlatformPcpuVersion {
        xen_cpuid: 9,
        ..info
    };
    let version = op(&mut f, abi::XENPF_get_cpu_version, info).unwrap();
    assert_eq!((version.vendor_id, version.family), ([0; 12], 0));
}

#[test]
fn idle_times_of_those_that_are_online() {
    let mut f = Fixture::control();
    f.put(MAP, &[0xff_u8, 0xff]);
    let ask = abi::PlatformGetidletime {
        cpumap_bitmap: GuestHandle::new(MAP),
        cpumap_nr_cpus: 16,
        idletime: GuestHandle::new(ARRAY),
        ..Default::default()
    };
    let told = op(&mut f, abi::XENPF_getidletime, ask).unwrap();
    assert_eq!(told.now, 1_000_000);
    assert_eq!(f.get::<[u64; 3]>(ARRAY), [1000, 1001, 0]);
    assert_eq!(f.get::<[u8; 2]>(MAP), [3, 0]);
    let absurd = abi::PlatformGetidletime {
        cpumap_nr_cpus: u32::MAX,
        ..ask
    };
    assert_eq!(
        op(&mut f, abi::XENPF_getidletime, absurd),
        Err(Errno::EINVAL)
    );
}

#[test]
fn firmware_left_nothing() {
    let mut f = Fixture::control();
    for (kind, why) in [
        (abi::XEN_FW_DISK_INFO, Errno::ESRCH),
        (abi::XEN_FW_KBD_SHIFT_FLAGS, Errno::ESRCH),
        (abi::XEN_FW_EFI_INFO, Errno::ENOSYS),
        (99, Errno::EINVAL),
    ] {
        let info = abi::PlatformFirmwareInfo {
            r#type: kind,
            ..Default::default()
        };
        assert_eq!(op(&mut f, abi::XENPF_firmware_info, info), Err(why));
    }
}

#[test]
fn the_rest_is_refused() {
    let mut f = Fixture::control();
    let cpu = abi::PlatformCpuOl { cpuid: 1 };
    assert_eq!(
        op(&mut f, abi::XENPF_cpu_hotadd, cpu),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(
        op(&mut f, abi::XENPF_efi_runtime_call, cpu),
        Err(Errno::ENOSYS)
    );
    assert_eq!(op(&mut f, 200, cpu), Err(Errno::ENOSYS));
    assert_eq!(f.call(CALL, &[NOWHERE]), Err(Errno::EFAULT));
    let mut old = request(abi::XENPF_get_cpuinfo, &cpu);
    old.interface_version = 0x0300_0000;
    f.put(GUEST, &old);
    assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EACCES));
    assert_eq!(Fixture::guest().call(CALL, &[GUEST]), Err(Errno::EPERM));
}

#[test]
fn microcode_is_looked_through() {
    let mut f = Fixture::control();
    let mut ask = |file: &[u8], length: u32| {
        f.put(ARRAY, file);
        let request = abi::PlatformMicrocodeUpdate {
            data: GuestHandle::new(ARRAY),
            length,
            ..Default::default()
        };
        op(&mut f, abi::XENPF_microcode_update, request).map(|_| ())
    };
    assert_eq!(ask(b"what is this", 12), Err(Errno::EINVAL));
    assert_eq!(ask(b"DMA\0", 4), Err(Errno::ENOENT));
    assert_eq!(ask(b"DMA\0", 0), Err(Errno::EINVAL));
    assert_eq!(ask(b"DMA\0", u32::MAX), Err(Errno::EINVAL));
    assert_eq!(ask(b"DMA\0", 15 << 20), Err(Errno::EFAULT));
}

#[test]
fn firmware_is_told_only_what_is_done() {
    let mut f = Fixture::control();
    let data = |kind: u32, at: u64| abi::PlatformSetProcessorPminfo {
        id: u32::MAX,
        r#type: kind,
        u: [at; 13],
    };
    let cmd = abi::XENPF_set_processor_pminfo;
    let mut ask = |buffer: [u32; 3]| {
        f.put(ARRAY, &buffer);
        op(&mut f, cmd, data(abi::XEN_PM_PDC, ARRAY)).map(|_| f.get::<[u32; 3]>(ARRAY)[2])
    };
    assert_eq!(ask([1, 1, 0xfff]), Ok(0xcfa));
    assert_eq!(ask([2, 1, 0xfff]), Err(Errno::EINVAL));
    assert_eq!(ask([1, 0, 0xfff]), Err(Errno::EINVAL));
    let bad = op(&mut f, cmd, data(abi::XEN_PM_PDC, NOWHERE));
    assert_eq!(bad.map(|_| ()), Err(Errno::EFAULT));
    for (kind, why) in [
        (abi::XEN_PM_CX, Errno::ENOSYS),
        (abi::XEN_PM_PX, Errno::ENOSYS),
        (abi::XEN_PM_TX, Errno::ENOSYS),
        (77, Errno::EINVAL),
    ] {
        let states = op(&mut f, cmd, data(kind, ARRAY));
        assert_eq!(states.map(|_| ()), Err(why));
    }
}
