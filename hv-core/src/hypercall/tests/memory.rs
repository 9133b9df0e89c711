use xen_abi::GuestHandle;
use xen_abi::e820::{E820_RAM, E820Entry};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_memory_op as CALL;
use xen_abi::memory::*;
use xen_abi::xen::DOMID_SELF;
use zerocopy::{Immutable, IntoBytes};

use crate::hypercall::testing::{Fixture, GUEST, MAX_PAGES, NOWHERE};

/// Where lists are.
const LIST: u64 = GUEST + 0x1000;

fn ask<T: IntoBytes + Immutable + ?Sized>(
    f: &mut Fixture,
    cmd: u32,
    request: &T,
) -> Result<u64, Errno> {
    f.put(GUEST, request);
    f.call(CALL, &[cmd.into(), GUEST])
}

fn one() -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(LIST),
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    }
}

#[test]
fn reservations_count_and_never_fail() {
    let mut f = Fixture::control();
    for cmd in [
        XENMEM_increase_reservation,
        XENMEM_decrease_reservation,
        XENMEM_populate_physmap,
    ] {
        assert_eq!(f.call(CALL, &[cmd.into(), NOWHERE]), Ok(0));
        let restarted = u64::from(cmd) | 5 << 6;
        assert_eq!(f.call(CALL, &[restarted, NOWHERE]), Ok(5));
        let of_nobody = MemoryReservation { domid: 77, ..one() };
        assert_eq!(ask(&mut f, cmd, &of_nobody), Ok(0));
    }
    assert_eq!(ask(&mut f, XENMEM_populate_physmap, &one()), Ok(1));
    let mfn: u64 = f.get(LIST);
    assert_ne!(mfn, 0);
    let on_demand = MemoryReservation {
        mem_flags: XENMEMF_populate_on_demand,
        ..one()
    };
    assert_eq!(ask(&mut f, XENMEM_populate_physmap, &on_demand), Ok(0));
    let anywhere = MemoryReservation {
        mem_flags: 255,
        extent_start: GuestHandle::new(0),
        ..one()
    };
    assert_eq!(ask(&mut f, XENMEM_increase_reservation, &anywhere), Ok(1));
    let pages = MemoryDomain { domid: DOMID_SELF };
    assert_eq!(ask(&mut f, XENMEM_current_reservation, &pages), Ok(2));
    assert_eq!(
        ask(&mut f, XENMEM_maximum_reservation, &pages),
        Ok(MAX_PAGES)
    );
}

#[test]
fn what_needs_our_translation_is_refused_for_pv() {
    let mut f = Fixture::control();
    for (cmd, size) in [
        (XENMEM_add_to_physmap, size_of::<AddToPhysmap>()),
        (XENMEM_add_to_physmap_batch, size_of::<AddToPhysmapBatch>()),
        (XENMEM_remove_from_physmap, size_of::<RemoveFromPhysmap>()),
    ] {
        assert_eq!(f.call(CALL, &[cmd.into(), NOWHERE]), Err(Errno::EFAULT));
        let mut request = vec![0; size];
        request[..2].copy_from_slice(&DOMID_SELF.to_le_bytes());
        assert_eq!(ask(&mut f, cmd, request.as_slice()), Err(Errno::EACCES));
        request[..2].copy_from_slice(&77_u16.to_le_bytes());
        assert_eq!(ask(&mut f, cmd, request.as_slice()), Err(Errno::ESRCH));
    }
    let foreign = AddToPhysmap {
        domid: 77,
        space: XENMAPSPACE_gmfn_foreign,
        ..AddToPhysmap::default()
    };
    assert_eq!(
        ask(&mut f, XENMEM_add_to_physmap, &foreign),
        Err(Errno::ENOSYS)
    );
    for (domid, want) in [(DOMID_SELF, Errno::EINVAL), (77, Errno::ESRCH)] {
        let pod = PodTarget {
            domid,
            ..PodTarget::default()
        };
        assert_eq!(ask(&mut f, XENMEM_get_pod_target, &pod), Err(want));
        assert_eq!(ask(&mut f, XENMEM_set_pod_target, &pod), Err(want));
    }
}

#[test]
fn a_claim_is_checked() {
    let mut f = Fixture::control();
    let claim = |f: &mut Fixture, domid, nr_extents, extent_order, mem_flags| {
        let request = MemoryReservation {
            nr_extents,
            extent_order,
            mem_flags,
            domid,
            ..MemoryReservation::default()
        };
        ask(f, XENMEM_claim_pages, &request)
    };
    assert_eq!(claim(&mut f, 0, 0, 0, 0), Ok(0));
    for (domid, pages, order, flags) in [
        (DOMID_SELF, 0, 0, 0),
        (77, 0, 0, 0),
        (0, 1, 1, 0),
        (0, 1, 0, 1),
        (0, u64::MAX, 0, 0),
    ] {
        let refused = claim(&mut f, domid, pages, order, flags);
        assert_eq!(refused, Err(Errno::EINVAL));
    }
    let mut guest = Fixture::guest();
    assert_eq!(claim(&mut guest, 1, 0, 0, 0), Err(Errno::EPERM));
}

#[test]
fn a_domain_sees_the_map_that_a_toolstack_made() {
    let mut f = Fixture::control();
    let map = MemoryMap {
        nr_entries: 4,
        buffer: GuestHandle::new(LIST),
        ..MemoryMap::default()
    };
    assert_eq!(ask(&mut f, XENMEM_memory_map, &map), Err(Errno::ENOSYS));
    let entry = E820Entry {
        addr: 0x1000,
        size: 0x2000,
        r#type: E820_RAM,
    };
    f.put(LIST, &entry);
    let set = |f: &mut Fixture, domid, nr_entries| {
        let request = ForeignMemoryMap {
            domid,
            map: MemoryMap { nr_entries, ..map },
            ..ForeignMemoryMap::default()
        };
        ask(f, XENMEM_set_memory_map, &request)
    };
    assert_eq!(set(&mut f, DOMID_SELF, 1025), Err(Errno::EINVAL));
    assert_eq!(set(&mut f, 77, 1), Err(Errno::ESRCH));
    assert_eq!(set(&mut f, DOMID_SELF, 1), Ok(0));
    let elsewhere = MemoryMap {
        buffer: GuestHandle::new(LIST + 0x800),
        ..map
    };
    assert_eq!(ask(&mut f, XENMEM_memory_map, &elsewhere), Ok(0));
    assert_eq!(f.get::<MemoryMap>(GUEST).nr_entries, 1);
    assert_eq!(f.get::<E820Entry>(LIST + 0x800), entry);
    let mut guest = Fixture::guest();
    guest.put(LIST, &entry);
    assert_eq!(set(&mut guest, DOMID_SELF, 1), Ok(0));
    assert_eq!(set(&mut guest, 0, 1), Err(Errno::EPERM));
}

#[test]
fn resources_and_topologies_are_for_others() {
    let mut f = Fixture::control();
    let acquire = |f: &mut Fixture, domid, pad| {
        let request = MemAcquireResource {
            domid,
            pad,
            ..MemAcquireResource::default()
        };
        ask(f, XENMEM_acquire_resource, &request)
    };
    assert_eq!(acquire(&mut f, DOMID_SELF, 1), Err(Errno::EINVAL));
    assert_eq!(acquire(&mut f, 77, 0), Err(Errno::ESRCH));
    assert_eq!(acquire(&mut f, DOMID_SELF, 0), Err(Errno::EPERM));
    let vnuma = |f: &mut Fixture, domid, pad| {
        let request = VnumaTopologyInfo {
            domid,
            pad,
            ..VnumaTopologyInfo::default()
        };
        ask(f, XENMEM_get_vnumainfo, &request)
    };
    assert_eq!(vnuma(&mut f, DOMID_SELF, 0), Err(Errno::EOPNOTSUPP));
    assert_eq!(vnuma(&mut f, DOMID_SELF, 1), Err(Errno::EINVAL));
    assert_eq!(vnuma(&mut f, 77, 0), Err(Errno::ESRCH));
}
