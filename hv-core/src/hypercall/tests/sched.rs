use xen_abi::domctl::XEN_VCPUAFFINITY_FORCE;
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_sched_op as CALL;
use xen_abi::sched::*;

use crate::hypercall::testing::{CPUS, Fixture, GUEST, NOWHERE};
use crate::sched::{Affinity, CpuSet};

fn watchdog(f: &mut Fixture, id: u32, timeout: u32) -> Result<u64, Errno> {
    f.put(GUEST, &SchedWatchdog { id, timeout });
    f.call(CALL, &[SCHEDOP_watchdog.into(), GUEST])
}

fn pin(f: &mut Fixture, pcpu: i32) -> Result<u64, Errno> {
    f.put(GUEST, &SchedPinOverride { pcpu });
    f.call(CALL, &[SCHEDOP_pin_override.into(), GUEST])
}

fn affinity(f: &Fixture) -> Affinity {
    let unit = f.caller.vcpus()[0].unit.get().unwrap();
    f.caller.sched.affinity(unit).unwrap()
}

#[test]
fn a_watchdog_that_is_not_fed_is_noticed_once() {
    let mut f = Fixture::control();
    assert_eq!(watchdog(&mut f, 1, 5), Err(Errno::EINVAL));
    assert_eq!(watchdog(&mut f, 0, 5), Ok(1));
    assert_eq!(watchdog(&mut f, 0, 7), Ok(2));
    assert_eq!(watchdog(&mut f, 0, 7), Err(Errno::ENOSPC));
    let deadline = || f.caller.vcpus()[0].timers.lock().next_deadline();
    let start = f.machine.now.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(deadline(), Some(start + 5_000_000_000));
    assert!(!f.caller.has_hungry_watchdog());
    f.machine
        .now
        .fetch_add(5_000_000_000, std::sync::atomic::Ordering::Relaxed);
    assert!(f.caller.has_hungry_watchdog());
    assert!(!f.caller.has_hungry_watchdog(), "it was told");
    assert_eq!(deadline(), None);
}

#[test]
fn a_stopped_watchdog_asks_for_nothing() {
    let mut f = Fixture::guest();
    assert_eq!(watchdog(&mut f, 0, 5), Ok(1));
    assert_eq!(watchdog(&mut f, 1, 0), Ok(0));
    assert_eq!(f.caller.vcpus()[0].timers.lock().next_deadline(), None);
    let unreadable = f.call(CALL, &[SCHEDOP_watchdog.into(), NOWHERE]);
    assert_eq!(unreadable, Err(Errno::EFAULT));
}

#[test]
fn an_override_pins_and_goes_back() {
    let mut f = Fixture::control();
    let before = affinity(&f);
    for none in [-1, i32::MIN, CPUS as i32, i32::MAX] {
        assert_eq!(pin(&mut f, none), Err(Errno::EINVAL));
    }
    assert_eq!(pin(&mut f, 1), Ok(0));
    assert_eq!(affinity(&f).hard, CpuSet::single(1));
    assert_eq!(pin(&mut f, 0), Err(Errno::EBUSY));
    assert_eq!(pin(&mut f, -1), Ok(0));
    assert_eq!(affinity(&f), before);
    assert_eq!(pin(&mut Fixture::guest(), 0), Err(Errno::EPERM));
}

#[test]
fn only_the_control_domain_pins_itself() {
    let mut f = Fixture::guest();
    assert_eq!(pin(&mut f, 0), Err(Errno::EPERM));
    let pin = SCHEDOP_pin_override.into();
    assert_eq!(f.call(CALL, &[pin, NOWHERE]), Err(Errno::EPERM));
}

#[test]
fn tools_do_not_change_what_is_overridden_unless_by_force() {
    let mut f = Fixture::control();
    f.put(GUEST + 0x100, &1_u8);
    let set = |f: &mut Fixture, flags| super::domctl::set_hard(f, GUEST + 0x100, flags);
    assert_eq!(pin(&mut f, 1), Ok(0));
    assert_eq!(set(&mut f, 0), Err(Errno::EBUSY));
    assert_eq!(affinity(&f).hard, CpuSet::single(1));
    assert_eq!(set(&mut f, XEN_VCPUAFFINITY_FORCE), Ok(()));
    assert_eq!(affinity(&f).hard, CpuSet::single(0));
    assert_eq!(pin(&mut f, -1), Err(Errno::EINVAL), "it was undone");
}
