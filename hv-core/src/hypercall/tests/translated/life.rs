//! Pages that the hypervisor keeps for a translated domain, and its end.

use xen_abi::hypercall::*;
use xen_abi::vcpu::*;

use super::super::domctl::plain;
use super::*;
use crate::events::EventHost;

#[test]
fn a_vcpu_info_is_named_by_its_guest_frame() {
    let mut w = World::new();
    let page = w.frame(4);
    let before = w.references(page);
    w.by_target();
    let register = |w: &mut World, mfn| {
        let request = VcpuRegisterVcpuInfo {
            mfn,
            offset: 64,
            ..Default::default()
        };
        w.f.put(GUEST, &request);
        let args = [VCPUOP_register_vcpu_info.into(), 0, GUEST];
        w.f.call(__HYPERVISOR_vcpu_op, &args)
    };
    for none in [8, 0x999, u64::MAX] {
        assert_eq!(register(&mut w, none), Err(Errno::EINVAL));
    }
    assert_eq!(register(&mut w, 4), Ok(0));
    assert_eq!(w.target.vcpus()[0].info_place(), Some((page, 64)));
    assert!(w.references(page) >= before);
    // The guest may take it away: the page is kept, and the domain is as large as before.
    assert_eq!((w.decrease(4, 1, 0), w.has()), (1, 8));
    w.end();
}

#[test]
fn there_are_no_interrupts_of_devices() {
    use xen_abi::physdev::PHYSDEVOP_eoi;
    let mut w = World::new();
    w.by_target();
    let args = [PHYSDEVOP_eoi.into(), GUEST];
    assert_eq!(w.f.call(__HYPERVISOR_physdev_op, &args), Err(Errno::ENOSYS));
    w.end();
}

#[test]
fn queues_are_named_by_their_guest_frames() {
    let w = World::new();
    assert_eq!(w.target.take_page(9), Err(Errno::EINVAL));
    let page = w.target.take_page(2).unwrap();
    assert_eq!(page, w.frame(2));
    w.target.release_page(page);
    w.end();
}

#[test]
fn the_end_is_interrupted_and_goes_on() {
    for patience in [1, 2, 5] {
        let mut w = World::new();
        w.populate(0x80000, 8, 0);
        w.add(XENMAPSPACE_shared_info, 0, 0x20).unwrap();
        w.add(XENMAPSPACE_grant_table, 1, 0x21).unwrap();
        w.f.host.preempt_every(patience);
        w.end();
    }
}

#[test]
fn one_that_is_dead_gets_nothing() {
    let mut w = World::new();
    let free = w.f.machine.free_pages();
    // Somebody still knows it.
    let kept = w.frame(0);
    w.f.machine.take_mapped(kept, TARGET, false).unwrap();
    plain(&mut w.f, abi::XEN_DOMCTL_destroydomain, TARGET).unwrap();
    assert!(w.f.machine.free_pages() > free);
    assert_eq!((w.populate(0, 1, 0), w.decrease(0, 1, 0)), (0, 0));
    for (space, idx) in [(XENMAPSPACE_gmfn, 0), (XENMAPSPACE_shared_info, 0)] {
        assert!(w.add(space, idx, 3).is_err());
    }
    let pool = abi::DomctlPagingMempool { size: 1 << 16 };
    let cmd = abi::XEN_DOMCTL_set_paging_mempool_size;
    let set = super::super::domctl::op(&mut w.f, cmd, TARGET, pool);
    assert_eq!(set, Err(Errno::ESRCH));
    w.f.machine.drop_mapped(kept, false);
    let World { f, target, free } = w;
    drop(target);
    f.hv.forget_dead();
    assert!(f.hv.domain(TARGET).is_none());
    assert_eq!(f.machine.free_pages(), free);
}
