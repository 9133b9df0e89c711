use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::hypercall::{__HYPERVISOR_dm_op, __HYPERVISOR_mca as CALL, __HYPERVISOR_xenpmu_op};
use xen_abi::mca::{self as abi, Mc, McFetch, McLogicalCpu, McPhyscpuinfo};
use zerocopy::{FromBytes, IntoBytes};

use crate::domain::machine_check::{Bank, Findings, Severity, Source};
use crate::hypercall::testing::{CPUS, Fixture, GUEST};

const LIST: u64 = GUEST + 0x1000;

/// A request whose unused bytes are rubbish.
fn request<T: IntoBytes + zerocopy::Immutable>(cmd: u32, value: &T) -> Mc {
    let mut op = Mc {
        cmd,
        interface_version: abi::XEN_MCA_INTERFACE_VERSION,
        u: [0xa5a5_a5a5_a5a5_a5a5; 18],
    };
    value.write_to_prefix(op.u.as_mut_bytes()).unwrap();
    op
}

fn answer<T: FromBytes>(f: &Fixture) -> T {
    T::read_from_prefix(f.get::<Mc>(GUEST).u.as_bytes())
        .unwrap()
        .0
}

fn list(f: &mut Fixture, ncpus: u32, at: u64) -> Result<u32, Errno> {
    let info = GuestHandle::new(at);
    f.put(
        GUEST,
        &request(
            abi::XEN_MC_physcpuinfo,
            &McPhyscpuinfo {
                ncpus,
                info,
                _pad0: 0,
            },
        ),
    );
    f.call(CALL, &[GUEST])?;
    Ok(answer::<McPhyscpuinfo>(f).ncpus)
}

#[test]
fn cpus_are_counted_then_listed() {
    let mut f = Fixture::control();
    assert_eq!(list(&mut f, 0, 0), Ok(CPUS));
    assert_eq!(list(&mut f, 8, LIST), Ok(CPUS));
    let second: McLogicalCpu = f.get(LIST + size_of::<McLogicalCpu>() as u64);
    assert_eq!(
        (second.mc_cpunr, second.mc_apicid, second.mc_coreid),
        (1, 2, 1)
    );
    assert_eq!(&second.mc_vendorid[..12], b"AuthenticAMD");
    assert_eq!(second.mc_cpu_caps[1], 0xf6d8_320b);
    assert_eq!(list(&mut f, 1, LIST), Ok(1));
    assert_eq!(list(&mut f, 0, LIST), Err(Errno::EINVAL));
    assert_eq!(list(&mut f, 8, 0xdead_0000), Err(Errno::EFAULT));
}

#[test]
fn telemetry_is_fetched_and_acknowledged() {
    let mut f = Fixture::control();
    let fetch = |f: &mut Fixture, flags, fetch_id, data| {
        let ask = McFetch {
            flags,
            fetch_id,
            data,
            ..McFetch::default()
        };
        f.put(GUEST, &request(abi::XEN_MC_fetch, &ask));
        f.call(CALL, &[GUEST])?;
        let told = answer::<McFetch>(f);
        Ok::<_, Errno>((told.flags, told.fetch_id))
    };
    let (urgent, rest, ack) = (abi::XEN_MC_URGENT, abi::XEN_MC_NONURGENT, abi::XEN_MC_ACK);
    let none = Ok((abi::XEN_MC_NODATA, 0));
    assert_eq!(fetch(&mut f, urgent, 0, LIST), none);
    assert_eq!(fetch(&mut f, 0, 0, LIST), Err(Errno::EINVAL));
    assert_eq!(fetch(&mut f, urgent | rest, 0, LIST), Err(Errno::EINVAL));
    assert_eq!(fetch(&mut f, urgent, 0, 0), Err(Errno::EINVAL));

    let bank = Bank {
        number: 9,
        status: 1 << 63,
        ..Bank::default()
    };
    let found = Findings {
        banks: [bank].into_iter().collect(),
        ..Findings::default()
    };
    f.hv.report_machine_check(1, &found, Source::Poll, Severity::Corrected);
    assert_eq!(fetch(&mut f, urgent, 0, LIST), none);
    assert_eq!(fetch(&mut f, rest, 0, 0xdead_0000), Err(Errno::EFAULT));
    let (flags, id) = fetch(&mut f, rest, 0, LIST).unwrap();
    assert_eq!(flags, abi::XEN_MC_OK);
    let info: abi::McInfo = f.get(LIST);
    assert_eq!(
        (info.mi_nentries, info.mi_data[4]),
        (2, 9 << 32 | 48 << 16 | 1 | 0x7ff4 << 48)
    );
    assert_eq!(fetch(&mut f, rest, 0, LIST), none);
    let acknowledged = Ok((abi::XEN_MC_OK, id));
    assert_eq!(fetch(&mut f, rest | ack, id, 0), acknowledged);
    assert_eq!(fetch(&mut f, rest | ack, id, 0), acknowledged);
    assert_eq!(fetch(&mut f, rest, 0, LIST), none);
}

#[test]
fn other_versions_commands_and_callers_are_refused() {
    let mut f = Fixture::control();
    let mut op = request(abi::XEN_MC_physcpuinfo, &McPhyscpuinfo::default());
    op.interface_version += 1;
    f.put(GUEST, &op);
    assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EACCES));
    f.put(GUEST, &request(abi::XEN_MC_mceinject, &0u32));
    assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EOPNOTSUPP));
    f.put(GUEST, &request(abi::XEN_MC_notifydomain, &0u32));
    assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::EINVAL));
    f.put(GUEST, &request(77, &0u32));
    assert_eq!(f.call(CALL, &[GUEST]), Err(Errno::ENOSYS));
    assert_eq!(Fixture::guest().call(CALL, &[GUEST]), Err(Errno::EPERM));
}

#[test]
fn no_counters_and_no_device_models() {
    let mut f = Fixture::control();
    assert_eq!(
        f.call(__HYPERVISOR_xenpmu_op, &[4, GUEST]),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(f.call(__HYPERVISOR_dm_op, &[0, 0, 0]), Err(Errno::ENODATA));
    assert_eq!(
        f.call(__HYPERVISOR_dm_op, &[0, 1, GUEST]),
        Err(Errno::ENOSYS)
    );
    assert_eq!(
        Fixture::guest().call(__HYPERVISOR_dm_op, &[0, 0, 0]),
        Err(Errno::EPERM)
    );
}
