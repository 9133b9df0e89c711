use xen_abi::GuestHandle;
use xen_abi::domctl::{
    DomctlGetDomainInfo, XEN_DOMINF_blocked, XEN_DOMINF_paused, XEN_DOMINF_running,
    XEN_DOMINF_shutdown,
};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_sysctl as CALL;
use xen_abi::sysctl::{self as abi, Sysctl};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use std::sync::atomic::Ordering;

use crate::domain::{RunFlags, ShutdownReason};
use crate::hypercall::testing::{Fixture, GUEST, MAX_PAGES, NOWHERE};

/// Where arrays are put.
pub const ARRAY: u64 = GUEST + 0x1000;

/// A request whose unused bytes are rubbish.
pub fn request<T: IntoBytes + Immutable>(cmd: u32, value: &T) -> Sysctl {
    let mut op = Sysctl {
        cmd,
        interface_version: abi::XEN_SYSCTL_INTERFACE_VERSION,
        u: [0xa5a5_a5a5_a5a5_a5a5; 16],
    };
    value.write_to_prefix(op.u.as_mut_bytes()).unwrap();
    op
}

/// The argument of the request in memory.
pub fn answer<T: FromBytes>(f: &Fixture) -> T {
    T::read_from_prefix(f.get::<Sysctl>(GUEST).u.as_bytes())
        .unwrap()
        .0
}

/// Makes a request and reads its argument back.
pub fn op<T: FromBytes + IntoBytes + Immutable>(
    f: &mut Fixture,
    cmd: u32,
    value: T,
) -> Result<T, Errno> {
    f.put(GUEST, &request(cmd, &value));
    f.call(CALL, &[GUEST])?;
    Ok(answer(f))
}

fn list(f: &mut Fixture, first_domain: u16, max_domains: u32) -> Vec<DomctlGetDomainInfo> {
    let ask = abi::SysctlGetDomainInfoList {
        first_domain,
        max_domains,
        buffer: GuestHandle::new(ARRAY),
        ..Default::default()
    };
    let told = op(f, abi::XEN_SYSCTL_getdomaininfolist, ask).unwrap();
    let at = |i: u32| ARRAY + u64::from(i) * size_of::<DomctlGetDomainInfo>() as u64;
    (0..told.num_domains).map(|i| f.get(at(i))).collect()
}

#[test]
fn domains_are_listed_from_the_first_asked_for() {
    let mut f = Fixture::control();
    f.add(3);
    f.add(7);
    let ids = |list: Vec<DomctlGetDomainInfo>| list.iter().map(|d| d.domain).collect::<Vec<_>>();
    assert_eq!(ids(list(&mut f, 0, 1024)), [0, 3, 7]);
    assert_eq!(ids(list(&mut f, 1, 1024)), [3, 7]);
    assert_eq!(ids(list(&mut f, 0, 2)), [0, 3]);
    assert_eq!(ids(list(&mut f, 8, 2)), []);
    assert_eq!(ids(list(&mut f, u16::MAX, 2)), []);
    let ask = abi::SysctlGetDomainInfoList {
        max_domains: 1,
        buffer: GuestHandle::new(NOWHERE),
        ..Default::default()
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_getdomaininfolist, ask),
        Err(Errno::EFAULT)
    );
}

#[test]
fn states_of_domains() {
    let mut f = Fixture::control();
    let guest = f.add(3);
    *guest.handle.lock() = [9; 16];
    guest.pages.store(40, Ordering::Relaxed);
    guest.vcpus()[0].set_flags(RunFlags::POLLING);
    let both = list(&mut f, 0, 9);
    // dom0 runs on CPU 0; the guest's only vCPU that is up waits. No reason of a shutdown is known.
    assert_eq!(both[0].flags, XEN_DOMINF_running | 0xffff_0000);
    assert_eq!(both[1].flags, XEN_DOMINF_blocked | 0xffff_0000);
    assert_eq!((both[1].nr_online_vcpus, both[1].max_vcpu_id), (1, 1));
    assert_eq!((both[1].tot_pages, both[1].max_pages), (40, MAX_PAGES));
    assert_eq!((both[1].handle, both[1].gpaddr_bits), ([9; 16], 40));
    assert_eq!(both[1].shared_info_frame, guest.shared_info.0);

    guest.pause_by_tool().unwrap();
    assert_eq!(
        list(&mut f, 3, 1)[0].flags & 0xff,
        XEN_DOMINF_paused | XEN_DOMINF_blocked
    );
    f.hv.shut_down(&guest, ShutdownReason(3));
    let down = list(&mut f, 3, 1)[0].flags;
    assert_eq!(down >> 16, 3);
    assert_ne!(down & XEN_DOMINF_shutdown, 0);
}

fn read_log(f: &mut Fixture, ask: abi::SysctlReadConsole) -> (Vec<u8>, u32) {
    let told = op(f, abi::XEN_SYSCTL_readconsole, ask).unwrap();
    let text = (0..u64::from(told.count))
        .map(|i| f.get(ARRAY + i))
        .collect();
    (text, told.index)
}

#[test]
fn log_is_read_whole_incrementally_and_away() {
    let mut f = Fixture::control();
    let long: Vec<u8> = (0..3000u32).map(|i| b'a' + (i % 26) as u8).collect();
    f.console.log(&long);
    let all = abi::SysctlReadConsole {
        buffer: GuestHandle::new(ARRAY),
        count: 16383,
        ..Default::default()
    };
    assert_eq!(read_log(&mut f, all), (long.clone(), 3000));
    assert_eq!(
        read_log(&mut f, abi::SysctlReadConsole { count: 700, ..all }).0,
        long[..700]
    );
    f.console.log(b"more");
    let next = abi::SysctlReadConsole {
        incremental: 1,
        index: 3000,
        ..all
    };
    assert_eq!(read_log(&mut f, next), (b"more".to_vec(), 3004));
    assert_eq!(
        read_log(&mut f, abi::SysctlReadConsole { count: 0, ..next }).0,
        b""
    );
    let clear = abi::SysctlReadConsole { clear: 1, ..all };
    assert_eq!(read_log(&mut f, clear).0.len(), 3004);
    assert_eq!(read_log(&mut f, all), (Vec::new(), 3004));
    f.console.log(b"x");
    let bad = abi::SysctlReadConsole {
        buffer: GuestHandle::new(NOWHERE),
        ..all
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_readconsole, bad),
        Err(Errno::EFAULT)
    );
}

#[test]
fn debug_keys_print_on_the_console() {
    let mut f = Fixture::control();
    f.put(ARRAY, b"iz");
    let keys = abi::SysctlDebugKeys {
        keys: GuestHandle::new(ARRAY),
        nr_keys: 2,
        ..Default::default()
    };
    op(&mut f, abi::XEN_SYSCTL_debug_keys, keys).unwrap();
    let lines = f.console.lines.lock().unwrap().clone();
    assert_eq!(lines[1], "the interrupts");
    assert!(lines[2].contains("'z' has no meaning"));
    let many = abi::SysctlDebugKeys {
        nr_keys: 1000,
        ..keys
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_debug_keys, many),
        Err(Errno::E2BIG)
    );
    let bad = abi::SysctlDebugKeys {
        keys: GuestHandle::new(NOWHERE),
        ..keys
    };
    assert_eq!(
        op(&mut f, abi::XEN_SYSCTL_debug_keys, bad),
        Err(Errno::EFAULT)
    );
}

#[test]
fn what_is_not_there_is_refused_as_tools_expect() {
    let mut f = Fixture::control();
    for (cmd, why) in [
        (abi::XEN_SYSCTL_tbuf_op, Errno::ENOSYS),
        (abi::XEN_SYSCTL_perfc_op, Errno::ENOSYS),
        (abi::XEN_SYSCTL_psr_cmt_op, Errno::ENODEV),
        (abi::XEN_SYSCTL_psr_alloc, Errno::ENODEV),
        (abi::XEN_SYSCTL_page_offline_op, Errno::EOPNOTSUPP),
        (13, Errno::ENOSYS),
        (500, Errno::ENOSYS),
    ] {
        assert_eq!(op(&mut f, cmd, 0u64), Err(why), "sysctl {cmd}");
    }
}

#[test]
fn other_versions_and_callers_are_refused() {
    let mut f = Fixture::control();
    for version in [0, 0x14, 0x16, u32::MAX] {
        let mut op = request(abi::XEN_SYSCTL_sched_id, &0u32);
        op.interface_version = version;
        f.put(GUEST, &op);
        assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EACCES));
    }
    assert_eq!(f.call(CALL, &[NOWHERE]), Err(Errno::EFAULT));
    let mut guest = Fixture::guest();
    let ask = abi::SysctlSchedId::default();
    assert_eq!(
        op(&mut guest, abi::XEN_SYSCTL_sched_id, ask),
        Err(Errno::EPERM)
    );
}
