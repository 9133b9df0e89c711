//! Calls of 32-bit code in a container, in the order in which a boot loader makes them.

use xen_abi::e820::{E820_RAM, E820_RESERVED, E820Entry};
use xen_abi::event_channel::{
    EVTCHNOP_alloc_unbound, EVTCHNOP_close, EvtchnAllocUnbound, EvtchnClose,
};
use xen_abi::grant_table as gt;
use xen_abi::memory as mem;
use xen_abi::sched::{SCHEDOP_shutdown, SCHEDOP_yield, SHUTDOWN_reboot};
use xen_abi::version::XENVER_version;
use xen_abi::xen::CONSOLEIO_write;

use super::*;
use crate::base::Gfn;
use crate::domain::ShutdownReason;
use crate::grants::FrameKind;
use crate::hypercall::narrow::tests::make;

/// Where lists are, as 32-bit code says it.
const LIST: u32 = BUFFER as u32;
/// The argument.
const AT: u32 = GUEST as u32;
const SELF: u32 = DOMID_SELF as u32;
/// Guest frames where nothing is.
const TABLE: u64 = 0x8000;
const SHARED: u64 = 0x8001;

/// d1 makes the calls. The toolstack has given it a map with RAM and a place that is reserved, and told it where its
/// console is.
fn loaded() -> (Fixture, Arc<Domain>) {
    let (mut f, domain) = born();
    param(&mut f, HVMOP_set_param, 1, HVM_PARAM_CONSOLE_PFN, 0xfefff).unwrap();
    *domain.memory_map.lock() = vec![ram(0x800_0000), reserved()];
    f.caller = domain.clone();
    (f, domain)
}

const fn ram(size: u64) -> E820Entry {
    E820Entry {
        addr: 0,
        size,
        r#type: E820_RAM,
    }
}

const fn reserved() -> E820Entry {
    E820Entry {
        addr: 0xfeff_8000,
        size: 0x8000,
        r#type: E820_RESERVED,
    }
}

fn memory_op(f: &mut Fixture, command: u32, argument: &[u32]) -> i32 {
    f.put(GUEST, argument);
    make(f, __HYPERVISOR_memory_op, [command, AT, 0])
}

fn add(f: &mut Fixture, space: u32, index: u32, gfn: u64) -> i32 {
    memory_op(
        f,
        mem::XENMEM_add_to_physmap,
        &[SELF, space, index, gfn as u32],
    )
}

fn grant_op(f: &mut Fixture, command: u32, argument: &[u32]) -> i32 {
    f.put(GUEST, argument);
    make(f, __HYPERVISOR_grant_table_op, [command, AT, 1])
}

/// setup_table for so many frames; the status and the first three words of the list.
fn setup(f: &mut Fixture, frames: u32, list: u32) -> (i16, [u32; 3]) {
    f.put(BUFFER, &[0x5555_5555_u32; 3]);
    let argument = [SELF, frames, 0xaaaa_7777, list];
    assert_eq!(grant_op(f, gt::GNTTABOP_setup_table, &argument), 0);
    let [who, count, status, after] = f.get::<[u32; 4]>(GUEST);
    assert_eq!((who, count, after), (SELF, frames, list));
    assert_eq!(status >> 16, 0xaaaa, "behind the status is padding");
    (status as i16, f.get(BUFFER))
}

#[test]
fn a_loader_finds_its_memory_and_hands_on_what_it_left() {
    let (mut f, domain) = loaded();
    let map = |f: &mut Fixture, room| {
        assert_eq!(memory_op(f, mem::XENMEM_memory_map, &[room, LIST]), 0);
        assert_eq!(f.get::<u32>(GUEST + 4), LIST);
        f.get::<u32>(GUEST)
    };
    assert_eq!(map(&mut f, 128), 2);
    assert_eq!(
        f.get::<[E820Entry; 2]>(BUFFER),
        [ram(0x800_0000), reserved()]
    );
    f.put(BUFFER, &[ram(0x7ff_f000), reserved()]);
    let set = mem::XENMEM_set_memory_map;
    assert_eq!(memory_op(&mut f, set, &[SELF, 2, LIST]), 0);
    assert_eq!(map(&mut f, 1), 1);
    assert_eq!(f.get::<E820Entry>(BUFFER), ram(0x7ff_f000));
    assert_eq!(domain.memory_map.lock().len(), 2);
    for (argument, errno) in [
        ([SELF, 1025, LIST], Errno::EINVAL),
        ([SELF, 2, 0xdead_0000], Errno::EFAULT),
        ([0, 2, LIST], Errno::EPERM),
        ([77, 2, LIST], Errno::ESRCH),
    ] {
        let refused = memory_op(&mut f, set, &argument);
        assert_eq!(refused, errno.to_ret() as i32, "{argument:x?}");
    }
    assert_eq!(domain.memory_map.lock()[0], ram(0x7ff_f000));
}

#[test]
fn a_loader_finds_its_rings_and_puts_its_pages_into_holes() {
    let (mut f, domain) = loaded();
    let asked = HvmParam {
        domid: DOMID_SELF,
        index: HVM_PARAM_CONSOLE_PFN,
        ..HvmParam::default()
    };
    f.put(GUEST, &asked);
    let get = [HVMOP_get_param, AT, 0];
    assert_eq!(make(&mut f, __HYPERVISOR_hvm_op, get), 0);
    assert_eq!(f.get::<HvmParam>(GUEST).value, 0xfefff);
    assert_eq!(add(&mut f, mem::XENMAPSPACE_grant_table, 0, TABLE), 0);
    assert_eq!(add(&mut f, mem::XENMAPSPACE_shared_info, 0, SHARED), 0);
    let behind = |gfn| domain.translated.as_ref().unwrap().lookup(Gfn(gfn));
    assert_eq!(
        behind(TABLE).map(|(mfn, _)| mfn),
        domain.grants.frame(FrameKind::Shared, 0)
    );
    assert_eq!(behind(SHARED).map(|(mfn, _)| mfn), Some(domain.shared_info));
    let refused = add(&mut f, 99, 0, TABLE);
    assert_eq!(refused, Errno::EINVAL.to_ret() as i32);
}

#[test]
fn frames_of_the_grant_table_are_listed_as_words() {
    let (mut f, domain) = loaded();
    assert_eq!(grant_op(&mut f, gt::GNTTABOP_set_version, &[1]), 0);
    let (okay, rest) = (gt::GNTST_okay, 0x5555_5555);
    let nowhere = u32::MAX;
    assert_eq!(setup(&mut f, 1, LIST), (okay, [nowhere, rest, rest]));
    assert_eq!(add(&mut f, mem::XENMAPSPACE_grant_table, 0, TABLE), 0);
    let words = [TABLE as u32, nowhere, rest];
    assert_eq!(setup(&mut f, 2, LIST), (okay, words));
    assert_eq!(setup(&mut f, 5, LIST), (gt::GNTST_general_error, [rest; 3]));
    assert_eq!(setup(&mut f, 1, 0xdead_0000).0, gt::GNTST_bad_virt_addr);
    let [_, frames, most, status] = {
        assert_eq!(
            grant_op(&mut f, gt::GNTTABOP_query_size, &[SELF, 0, 0, 0]),
            0
        );
        f.get::<[u32; 4]>(GUEST)
    };
    assert_eq!((frames, most, status), (2, 4, 0));
    f.put(GUEST, &[SELF, 1, 0, LIST]);
    for (at, count, errno) in [(AT, 2, Errno::EINVAL), (0xdead_0000, 1, Errno::EFAULT)] {
        let args = [gt::GNTTABOP_setup_table, at, count];
        let refused = make(&mut f, __HYPERVISOR_grant_table_op, args);
        assert_eq!(refused, errno.to_ret() as i32);
    }
    assert_eq!(domain.grants.version().number(), 1);
}

#[test]
fn frames_of_status_words_are_listed_as_64_bits() {
    let (mut f, domain) = loaded();
    let list = |f: &mut Fixture, frames: u32| {
        let argument = [frames, 0x7777_0000 | SELF, LIST];
        assert_eq!(grant_op(f, gt::GNTTABOP_get_status_frames, &argument), 0);
        (f.get::<i16>(GUEST + 6), f.get::<u64>(BUFFER))
    };
    assert_eq!(list(&mut f, 1).0, gt::GNTST_general_error);
    assert_eq!(grant_op(&mut f, gt::GNTTABOP_set_version, &[2]), 0);
    assert_eq!(f.get::<u32>(GUEST), 2);
    assert_eq!(setup(&mut f, 1, LIST).0, gt::GNTST_okay);
    let index = mem::XENMAPIDX_grant_table_status;
    assert_eq!(
        add(&mut f, mem::XENMAPSPACE_grant_table, index as u32, TABLE),
        0
    );
    assert_eq!(list(&mut f, 1), (gt::GNTST_okay, TABLE));
    assert_eq!(domain.grants.version().number(), 2);
}

#[test]
fn what_nobody_has_made_is_refused() {
    let (mut f, _domain) = loaded();
    for command in [gt::GNTTABOP_dump_table, 99] {
        let refused = grant_op(&mut f, command, &[0; 8]);
        assert_eq!(refused, Errno::ENOSYS.to_ret() as i32, "{command}");
    }
}

#[test]
fn a_loader_talks_to_back_ends_and_ends() {
    let (mut f, domain) = loaded();
    let version = make(&mut f, __HYPERVISOR_xen_version, [XENVER_version, 0, 0]);
    assert_eq!(version, 0x4_0011);
    let unbound = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: 0,
        ..EvtchnAllocUnbound::default()
    };
    f.put(GUEST, &unbound);
    let events = __HYPERVISOR_event_channel_op;
    assert_eq!(make(&mut f, events, [EVTCHNOP_alloc_unbound, AT, 0]), 0);
    let port = f.get::<EvtchnAllocUnbound>(GUEST).port;
    f.put(GUEST, &EvtchnSend { port });
    assert_eq!(make(&mut f, events, [EVTCHNOP_send, AT, 0]), 0);
    f.put(GUEST, &EvtchnClose { port });
    assert_eq!(make(&mut f, events, [EVTCHNOP_close, AT, 0]), 0);
    let again = make(&mut f, events, [EVTCHNOP_close, AT, 0]);
    assert_eq!(again, Errno::EINVAL.to_ret() as i32);
    f.put(GUEST, b"hello\n");
    let console = __HYPERVISOR_console_io;
    let refused = make(&mut f, console, [CONSOLEIO_write, 6, AT]);
    assert_eq!(
        refused,
        Errno::EPERM.to_ret() as i32,
        "its console is a ring"
    );
    let sched = __HYPERVISOR_sched_op;
    assert_eq!(make(&mut f, sched, [SCHEDOP_yield, 0, 0]), 0);
    let is_up = [vcpu_abi::VCPUOP_is_up, 1, 0];
    assert_eq!(make(&mut f, __HYPERVISOR_vcpu_op, is_up), 0);
    f.put(GUEST, &SHUTDOWN_reboot);
    assert_eq!(make(&mut f, sched, [SCHEDOP_shutdown, AT, 0]), 0);
    let reason = *domain.shutdown.lock();
    assert_eq!(reason, Some(ShutdownReason(SHUTDOWN_reboot)));
}
