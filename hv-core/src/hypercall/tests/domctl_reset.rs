//! A vCPU is made as it was before it had registers.

use std::sync::atomic::Ordering;

use xen_abi::domctl as abi;
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_vcpu_op;
use xen_abi::vcpu::{VCPUOP_initialise, VCPUOP_up};

use super::domains::{born, context, get, set, set_at};
use super::domctl::plain;
use crate::base::Mfn;
use crate::domain::{Owed, RunFlags};
use crate::hypercall::testing::{Fixture, GUEST};
use crate::mm::PtMachine;
use crate::mm::pte::Pte;
use crate::sched::Affinity;

const P_RW_US: u64 = 7;

fn reset(f: &mut Fixture, vcpu: u32) -> Result<(), Errno> {
    set_at(f, vcpu, 0)
}

/// References to the frames of a context.
fn references(f: &Fixture, frames: &[Mfn]) -> Vec<u64> {
    let of = |mfn: &Mfn| f.machine.frame(*mfn).unwrap().references();
    frames.iter().map(of).collect()
}

#[test]
fn a_vcpu_is_reset_and_has_registers_again() {
    let mut f = born();
    let c = context(&f, 1);
    let below = f.machine.page_of(1);
    let root = Mfn(c.ctrlreg[3] >> 12);
    let entry = Pte(below.addr().0 | P_RW_US);
    for slot in 0..3 {
        f.machine.table(root)[slot].store(entry.0, Ordering::Relaxed);
    }
    let frames = [root, below, Mfn(c.gdt_frames[0])];
    let unused = references(&f, &frames);
    let domain = f.hv.domain(1).unwrap();
    for patience in [u32::MAX, 1] {
        f.host.preempt_every(patience);
        set(&mut f, 0, &c).unwrap();
        assert_ne!(references(&f, &frames), unused);
        let vcpu = &domain.vcpus()[0];
        vcpu.set_flags(RunFlags::BLOCKED | RunFlags::POLLING);
        vcpu.owe(Owed::NMI);
        reset(&mut f, 0).unwrap();
        assert_eq!(vcpu.flags(), RunFlags::DOWN | RunFlags::UNINITIALISED);
        assert_eq!(vcpu.take_owed(Owed::NMI), 0);
        assert!(vcpu.state.lock().is_none());
        assert_eq!(references(&f, &frames), unused);
        assert_eq!(get(&mut f, 0).unwrap_err(), Errno::ENODATA);
    }
    assert!(f.restarts > 0, "it was interrupted");
    // One that has nothing stays so.
    reset(&mut f, 0).unwrap();
    reset(&mut f, 1).unwrap();
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    assert!(f.hv.domain(1).is_none_or(|d| d.is_dying()));
}

#[test]
fn a_reset_that_is_interrupted_keeps_the_vcpu_from_running() {
    let mut f = born();
    let c = context(&f, 1);
    let below = f.machine.page_of(1);
    let root = Mfn(c.ctrlreg[3] >> 12);
    for slot in 0..4 {
        f.machine.table(root)[slot].store(below.addr().0 | P_RW_US, Ordering::Relaxed);
    }
    set(&mut f, 0, &c).unwrap();
    let domain = f.hv.domain(1).unwrap();
    let vcpu = &domain.vcpus()[0];
    f.host.preempt_every(1);
    let request = super::domctl::request(
        abi::XEN_DOMCTL_setvcpucontext,
        1,
        &abi::DomctlVcpuContext::default(),
    );
    f.put(GUEST, &request);
    let args = [GUEST, 0, 0, 0, 0, 0];
    let once = f.call_once(xen_abi::hypercall::__HYPERVISOR_domctl, args);
    assert_eq!(once, Ok(crate::hypercall::Outcome::Restart(args)));
    f.host.preempt_every(u32::MAX);
    // The guest's other vCPUs may run meanwhile.
    let dom0 = std::mem::replace(&mut f.caller, domain.clone());
    f.put(GUEST + 0x2000, &*c);
    let initialise = [VCPUOP_initialise.into(), 0, GUEST + 0x2000];
    assert_eq!(
        f.call(__HYPERVISOR_vcpu_op, &initialise),
        Err(Errno::EEXIST)
    );
    f.call(__HYPERVISOR_vcpu_op, &[VCPUOP_up.into(), 0, 0])
        .unwrap();
    assert!(!vcpu.may_run());
    f.caller = dom0;
    assert_eq!(set(&mut f, 0, &c), Err(Errno::EOPNOTSUPP));
    reset(&mut f, 0).unwrap();
    assert_eq!(vcpu.flags(), RunFlags::DOWN | RunFlags::UNINITIALISED);
    f.caller = domain.clone();
    f.put(GUEST + 0x2000, &*c);
    f.call(__HYPERVISOR_vcpu_op, &initialise).unwrap();
    f.call(__HYPERVISOR_vcpu_op, &[VCPUOP_up.into(), 0, 0])
        .unwrap();
    assert!(vcpu.may_run());
}

#[test]
fn a_reset_ends_what_pins_the_vcpu_for_a_while() {
    let mut f = born();
    let c = context(&f, 1);
    set(&mut f, 0, &c).unwrap();
    let domain = f.hv.domain(1).unwrap();
    let vcpu = &domain.vcpus()[0];
    let unit = vcpu.unit.get().unwrap();
    domain
        .sched
        .set_affinity(unit, &Affinity::pinned(1), 0)
        .unwrap();
    *vcpu.pinned_from.lock() = Some(Affinity::ANY);
    reset(&mut f, 0).unwrap();
    assert_eq!(domain.sched.affinity(unit), Some(Affinity::ANY));
    assert!(vcpu.pinned_from.lock().is_none());
    plain(&mut f, abi::XEN_DOMCTL_destroydomain, 1).unwrap();
    let refused = reset(&mut f, 0);
    assert!(refused == Err(Errno::ESRCH) || refused == Err(Errno::EINVAL));
}
