use xen_abi::GuestHandle;
use xen_abi::errno::Errno;
use xen_abi::sysctl as abi;
use zerocopy::{FromBytes, IntoBytes};

use super::sysctl::{ARRAY, op};
use crate::hypercall::testing::{Fixture, NOWHERE};

fn operate(f: &mut Fixture, cmd: u32, cpuid: u32) -> Result<u32, Errno> {
    let ask = abi::SysctlPmOp {
        cmd,
        cpuid,
        ..Default::default()
    };
    op(f, abi::XEN_SYSCTL_pm_op, ask).map(|told| told.u[0] as u32)
}

fn ask(
    f: &mut Fixture,
    kind: u32,
    cpuid: u32,
    stat: abi::PmCxStat,
) -> Result<abi::PmCxStat, Errno> {
    let mut ask = abi::SysctlGetPmstat {
        r#type: kind,
        cpuid,
        ..Default::default()
    };
    stat.write_to_prefix(ask.u.as_mut_bytes()).unwrap();
    let told = op(f, abi::XEN_SYSCTL_get_pmstat, ask)?;
    Ok(abi::PmCxStat::read_from_prefix(told.u.as_bytes())
        .unwrap()
        .0)
}

#[test]
fn two_idle_states_with_their_times() {
    let mut f = Fixture::control();
    let empty = abi::PmCxStat::default();
    assert_eq!(ask(&mut f, abi::PMSTAT_get_max_cx, 1, empty).unwrap().nr, 2);
    let stat = abi::PmCxStat {
        triggers: GuestHandle::new(ARRAY),
        residencies: GuestHandle::new(ARRAY + 64),
        nr_pc: 7,
        ..empty
    };
    let told = ask(&mut f, abi::PMSTAT_get_cxstat, 1, stat).unwrap();
    assert_eq!(
        (told.nr, told.last, told.idle_time, told.nr_pc),
        (2, 1, 1001, 0)
    );
    assert_eq!(f.get::<[u64; 3]>(ARRAY), [4, 4, 0]);
    assert_eq!(f.get::<[u64; 3]>(ARRAY + 64), [1_000_000 - 1001, 1001, 0]);
    assert_eq!(ask(&mut f, abi::PMSTAT_get_cxstat, 1, empty).unwrap().nr, 2);
    let bad = abi::PmCxStat {
        triggers: GuestHandle::new(NOWHERE),
        ..stat
    };
    assert_eq!(
        ask(&mut f, abi::PMSTAT_get_cxstat, 1, bad),
        Err(Errno::EFAULT)
    );
    assert_eq!(
        ask(&mut f, abi::PMSTAT_get_cxstat, 3, stat),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        ask(&mut f, abi::PMSTAT_get_max_px, 0, stat),
        Err(Errno::ENODEV)
    );
    assert_eq!(
        ask(&mut f, abi::PMSTAT_reset_cxstat, 0, stat),
        Err(Errno::EOPNOTSUPP)
    );
    assert_eq!(ask(&mut f, 0x31, 0, stat), Err(Errno::ENOSYS));
}

#[test]
fn power_operations() {
    let mut f = Fixture::control();
    assert_eq!(
        operate(&mut f, abi::XEN_SYSCTL_pm_op_get_max_cstate, 0),
        Ok(1)
    );
    assert_eq!(
        operate(&mut f, abi::XEN_SYSCTL_pm_op_get_max_cstate, 1),
        Ok(u32::MAX)
    );
    let get = operate(&mut f, abi::XEN_SYSCTL_pm_op_get_max_cstate, 2);
    assert_eq!(get, Err(Errno::EINVAL));
    assert_eq!(
        operate(&mut f, abi::GET_CPUFREQ_PARA, 0),
        Err(Errno::EINVAL)
    );
    let set = operate(&mut f, abi::XEN_SYSCTL_pm_op_set_max_cstate, 0);
    assert_eq!(set, Err(Errno::EOPNOTSUPP));
    assert_eq!(operate(&mut f, 0x7f, 0), Err(Errno::ENOSYS));
}
