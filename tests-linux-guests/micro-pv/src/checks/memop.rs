//! memory_op: everything but reservations.

use xen_abi::GuestHandle;
use xen_abi::arch_x86::{MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use xen_abi::errno::Errno::*;
use xen_abi::hypercall::__HYPERVISOR_memory_op;
use xen_abi::memory::*;
use xen_abi::xen::{DOMID_IO, DOMID_SELF, DOMID_XEN};

use super::bad;
use crate::call::{hypercall, memory};
use crate::memory::{self as mem, Page};
use crate::report::{either, holds, optional, result, same};

/// Unknown operations and bad pointers.
pub fn call() {
    for op in [8, 29, 30, 40, 63] {
        let got = hypercall(__HYPERVISOR_memory_op, [op, 0]);
        result(format_args!("memory_op {op}"), got, ENOSYS);
    }
    let with_pointer = [
        XENMEM_current_reservation,
        XENMEM_maximum_reservation,
        XENMEM_maximum_gpfn,
        XENMEM_machphys_mfn_list,
        XENMEM_machphys_mapping,
        XENMEM_add_to_physmap,
        XENMEM_machine_memory_map,
        XENMEM_set_memory_map,
        XENMEM_remove_from_physmap,
        XENMEM_set_pod_target,
        XENMEM_get_pod_target,
        XENMEM_add_to_physmap_batch,
        XENMEM_claim_pages,
        XENMEM_get_vnumainfo,
        XENMEM_acquire_resource,
    ];
    for op in with_pointer {
        for (kind, pointer) in bad::POINTERS {
            let got = hypercall(__HYPERVISOR_memory_op, [op.into(), *pointer]);
            optional(format_args!("memory_op {op}, {kind} pointer"), got, EFAULT);
        }
    }
}

/// Questions.
pub fn facts() {
    let last = hypercall(__HYPERVISOR_memory_op, [XENMEM_maximum_ram_page.into(), 0]);
    holds("the last frame", last > 0x1000 && last < 1 << 36, last);
    let info = mem::start_info();
    for (op, name) in [
        (XENMEM_current_reservation, "current_reservation"),
        (XENMEM_maximum_reservation, "maximum_reservation"),
    ] {
        let ask = |domid: u16| memory(op.into(), &MemoryDomain { domid }).0;
        result(name, ask(DOMID_SELF), info.nr_pages as i64);
        result(
            format_args!("{name} by number"),
            ask(0),
            info.nr_pages as i64,
        );
        for domid in [0x6fff, 0x7ff3, 0x7ff4, 0x7fff, 0xffff] {
            result(format_args!("{name} of {domid:#x}"), ask(domid), ESRCH);
        }
    }
    let highest = memory(
        XENMEM_maximum_gpfn.into(),
        &MemoryDomain { domid: DOMID_SELF },
    )
    .0;
    holds(
        "maximum_gpfn",
        highest >= 0 && highest as u64 <= last as u64,
        highest,
    );
    let empty = MachphysMapping::default();
    let (code, mapping) = memory(XENMEM_machphys_mapping.into(), &empty);
    result("machphys_mapping", code, 0);
    same("its start", mapping.v_start, MACH2PHYS_VIRT_START);
    same("its end", mapping.v_end, MACH2PHYS_VIRT_END);
    holds(
        "its frames",
        mapping.max_mfn + 1 >= last as u64,
        mapping.max_mfn,
    );
    machphys_list();
    maps();
}

fn machphys_list() {
    let page = Page::take();
    let ask = |max_extents: u32, at: u64| {
        let list = MachphysMfnList {
            max_extents,
            extent_start: GuestHandle::new(at),
            ..MachphysMfnList::default()
        };
        let (code, list) = memory(XENMEM_machphys_mfn_list.into(), &list);
        (code, list.nr_extents)
    };
    let (code, count) = ask(512, page.address());
    result("machphys_mfn_list", code, 0);
    holds("its length", count > 0 && count < 512, count);
    same("none asked for", ask(0, 0), (0, 0));
    for (kind, pointer) in bad::POINTERS {
        result(
            format_args!("machphys_mfn_list to {kind}"),
            ask(1, *pointer).0,
            EFAULT,
        );
    }
    page.give_back();
}

fn maps() {
    let page = Page::take();
    let ask = |nr_entries: u32, at: u64| {
        let map = MemoryMap {
            nr_entries,
            buffer: GuestHandle::new(at),
            ..MemoryMap::default()
        };
        let (code, map) = memory(XENMEM_machine_memory_map.into(), &map);
        (code, map.nr_entries)
    };
    let (code, count) = ask(128, page.address());
    result("machine_memory_map", code, 0);
    holds("its length", count > 3, count);
    if code == 0 {
        same("its length alone", ask(128, 0), (0, count));
    }
    for (kind, pointer) in &bad::POINTERS[1..] {
        result(
            format_args!("machine_memory_map to {kind}"),
            ask(128, *pointer).0,
            EFAULT,
        );
    }
    result(
        "machine_memory_map, one entry",
        ask(1, page.address()).0,
        EINVAL,
    );
    page.give_back();
    own_map();
}

/// The map a domain is shown.
fn own_map() {
    let page = Page::take();
    let map = MemoryMap {
        nr_entries: 128,
        buffer: GuestHandle::new(page.address()),
        ..MemoryMap::default()
    };
    result(
        "memory_map of dom0",
        memory(XENMEM_memory_map.into(), &map).0,
        ENOSYS,
    );
    let set = |domid: u16, nr_entries: u32| {
        let request = ForeignMemoryMap {
            domid,
            map: MemoryMap { nr_entries, ..map },
            ..ForeignMemoryMap::default()
        };
        memory(XENMEM_set_memory_map.into(), &request).0
    };
    optional(
        "set_memory_map, 2^32 - 1 entries",
        set(DOMID_SELF, u32::MAX),
        EINVAL,
    );
    optional(
        "set_memory_map, 1025 entries",
        set(DOMID_SELF, 1025),
        EINVAL,
    );
    for domid in [0x6fff, 0x7ff4, 0xffff] {
        optional(
            format_args!("set_memory_map of {domid:#x}"),
            set(domid, 1),
            ESRCH,
        );
    }
    page.give_back();
}

/// Operations that a PV domain cannot use, or only with care.
pub fn physmap() {
    let add = |domid: u16, space: u32, idx: u64, gpfn: u64| {
        let request = AddToPhysmap {
            domid,
            space,
            idx,
            gpfn,
            ..AddToPhysmap::default()
        };
        memory(XENMEM_add_to_physmap.into(), &request).0
    };
    for space in 0..8 {
        // Frames of other domains are for the batch operation.
        let foreign = space == XENMAPSPACE_gmfn_foreign;
        let want = if foreign { ENOSYS } else { EACCES };
        let name = format_args!("add_to_physmap, space {space}");
        optional(name, add(DOMID_SELF, space, u64::MAX, u64::MAX), want);
    }
    optional("add_to_physmap of domain 1", add(1, 0, 0, 0), ESRCH);
    let remove = RemoveFromPhysmap {
        domid: DOMID_SELF,
        gpfn: u64::MAX,
        ..RemoveFromPhysmap::default()
    };
    let code = memory(XENMEM_remove_from_physmap.into(), &remove).0;
    optional("remove_from_physmap", code, EACCES);
    let claim = |domid: u16, pages: u64, order: u32, flags: u32| {
        let request = MemoryReservation {
            nr_extents: pages,
            extent_order: order,
            mem_flags: flags,
            domid,
            ..MemoryReservation::default()
        };
        memory(XENMEM_claim_pages.into(), &request).0
    };
    optional("claim nothing", claim(0, 0, 0, 0), 0);
    optional(
        "claim nothing of DOMID_SELF",
        claim(DOMID_SELF, 0, 0, 0),
        EINVAL,
    );
    optional("claim with an order", claim(0, 1, 1, 0), EINVAL);
    optional("claim with flags", claim(0, 1, 0, 1), EINVAL);
    optional("claim of domain 1", claim(1, 1, 0, 0), EINVAL);
    optional("claim all ones", claim(0, u64::MAX, 0, 0), EINVAL);
    others();
}

fn others() {
    let target = |domid: u16| PodTarget {
        domid,
        ..PodTarget::default()
    };
    for (op, name) in [
        (XENMEM_get_pod_target, "get"),
        (XENMEM_set_pod_target, "set"),
    ] {
        let code = memory(op.into(), &target(1)).0;
        optional(format_args!("{name}_pod_target of domain 1"), code, ESRCH);
    }
    let acquire = |domid: u16, kind: u16, nr_frames: u32, pad: u32| {
        let request = MemAcquireResource {
            domid,
            r#type: kind,
            nr_frames,
            pad,
            ..MemAcquireResource::default()
        };
        memory(XENMEM_acquire_resource.into(), &request).0
    };
    optional("acquire_resource of domain 1", acquire(1, 1, 1, 0), ESRCH);
    optional(
        "acquire_resource with padding",
        acquire(DOMID_SELF, 1, 1, 1),
        EINVAL,
    );
    for domid in [DOMID_IO, DOMID_XEN] {
        let name = format_args!("acquire_resource of {domid:#x}");
        optional(name, acquire(domid, 1, 1, 0), ESRCH);
    }
    topology();
}

fn topology() {
    for (op, name, want) in [
        (XENMEM_get_sharing_freed_pages, "get_sharing_freed_pages", 0),
        (
            XENMEM_get_sharing_shared_pages,
            "get_sharing_shared_pages",
            0,
        ),
    ] {
        optional(
            name,
            hypercall(__HYPERVISOR_memory_op, [op.into(), 0]),
            want,
        );
    }
    let vnuma = |domid: u16, pad: u16| {
        let request = VnumaTopologyInfo {
            domid,
            pad,
            ..VnumaTopologyInfo::default()
        };
        memory(XENMEM_get_vnumainfo.into(), &request).0
    };
    optional("get_vnumainfo", vnuma(DOMID_SELF, 0), EOPNOTSUPP);
    optional("get_vnumainfo with padding", vnuma(DOMID_SELF, 1), EINVAL);
    optional("get_vnumainfo of domain 1", vnuma(1, 0), ESRCH);
    let list = ReservedDeviceMemoryMap {
        flags: 2,
        ..ReservedDeviceMemoryMap::default()
    };
    let code = memory(XENMEM_reserved_device_memory_map.into(), &list).0;
    either(
        "reserved_device_memory_map with flags",
        code,
        EINVAL,
        ENOSYS,
    );
}
