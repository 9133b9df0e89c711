//! Frames of another domain: one is made for this, with a little memory and no life.

use xen_abi::GuestHandle;
use xen_abi::domctl::*;
use xen_abi::errno::Errno::*;
use xen_abi::event_channel::*;
use xen_abi::grant_table::*;
use xen_abi::hypercall::*;
use xen_abi::memory::*;
use xen_abi::xen::*;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{events, grants, mmu::SLOT, timers};
use crate::call::{Argument, hypercall, memory};
use crate::console::println;
use crate::memory::{PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap;

fn domctl<T: IntoBytes + Immutable>(cmd: u32, domain: u16, content: &T) -> (i64, Domctl) {
    let mut operation = Domctl {
        cmd,
        interface_version: XEN_DOMCTL_INTERFACE_VERSION,
        domain,
        ..Domctl::default()
    };
    let bytes = content.as_bytes();
    operation.u.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    let argument = Argument::new(&operation);
    let code = hypercall(__HYPERVISOR_domctl, [argument.address()]);
    (code, argument.get())
}

/// A new domain with four pages; gives their machine frames.
fn create() -> Result<(u16, [u64; 4]), i64> {
    let wanted = DomctlCreateDomain {
        max_vcpus: 1,
        max_evtchn_port: 1023,
        max_grant_frames: 4,
        max_maptrack_frames: 4,
        grant_opts: 1,
        ..DomctlCreateDomain::default()
    };
    let (code, made) = domctl(XEN_DOMCTL_createdomain, 0, &wanted);
    if code != 0 {
        return Err(code);
    }
    let id = made.domain;
    // Xen itself would fall over an event to a domain without vCPUs.
    let vcpus = DomctlMaxVcpus { max: 1 };
    result("max_vcpus", domctl(XEN_DOMCTL_max_vcpus, id, &vcpus).0, 0);
    let limit = DomctlMaxMem { max_memkb: 1024 };
    result("max_mem", domctl(XEN_DOMCTL_max_mem, id, &limit).0, 0);
    let list = Page::take();
    for index in 0..4 {
        list.set_word(index, index);
    }
    let request = MemoryReservation {
        extent_start: GuestHandle::new(list.address()),
        nr_extents: 4,
        domid: id,
        ..MemoryReservation::default()
    };
    let got = memory(XENMEM_populate_physmap.into(), &request).0;
    result("populate it", got, 4);
    let frames = core::array::from_fn(|index| list.word(index as u64));
    list.give_back();
    Ok((id, frames))
}

/// All of it.
pub fn check() {
    let (id, frames) = match create() {
        Ok(made) => made,
        // No domain but the first can be made yet.
        Err(code) if code == ENOSYS.to_ret() || code == EOPNOTSUPP.to_ret() => {
            println!("absent foreign: createdomain");
            return;
        }
        Err(code) => return result("createdomain", code, 0),
    };
    let (_, window) = Window::open(SLOT);
    let frame = frames[0];
    as_ours(frame, &window);
    as_theirs(id, frame, &window);
    ports(id);
    end(id, frames, &window);
    result("close", window.close(), 0);
}

/// The frame used as if it were ours.
fn as_ours(frame: u64, window: &Window) {
    let entry = (frame * PAGE) | WRITABLE;
    for (level, table) in [(2, window.l2), (3, window.l3)] {
        let name = format_args!("L{level} entry with it");
        result(name, tables::update(table.entry(9), entry), EINVAL);
    }
    for (level, command) in (1..).zip(MMUEXT_PIN_L1_TABLE..=MMUEXT_PIN_L4_TABLE) {
        result(
            format_args!("pin it as L{level}"),
            tables::extended(command, frame, 0),
            EINVAL,
        );
    }
    result("an update in it", tables::update(frame * PAGE, 0), EINVAL);
    result(
        "clear it",
        tables::extended(MMUEXT_CLEAR_PAGE, frame, 0),
        EINVAL,
    );
    result(
        "base",
        tables::extended(MMUEXT_NEW_BASEPTR, frame, 0),
        EINVAL,
    );
    let list = Argument::new(&[frame]);
    result(
        "GDT in it",
        hypercall(__HYPERVISOR_set_gdt, [list.address(), 512]),
        EINVAL,
    );
    let code = hypercall(__HYPERVISOR_update_descriptor, [frame * PAGE, 0]);
    result("a descriptor in it", code, EINVAL);
    given_away(frame);
}

/// The frame given to operations that change owners or write by themselves.
fn given_away(frame: u64) {
    let list = Argument::new(&[frame]);
    let out = Argument::new(&[0_u64]);
    let request = |at: u64| MemoryReservation {
        extent_start: GuestHandle::new(at),
        nr_extents: 1,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    };
    let code = memory(XENMEM_decrease_reservation.into(), &request(list.address())).0;
    result("give it back", code, 0);
    let exchange = MemoryExchange {
        r#in: request(list.address()),
        out: request(out.address()),
        nr_exchanged: 0,
    };
    result(
        "exchange it",
        memory(XENMEM_exchange.into(), &exchange).0,
        EINVAL,
    );
    let control = EvtchnInitControl {
        control_gfn: frame,
        ..EvtchnInitControl::default()
    };
    result(
        "FIFO control block in it",
        events::op(EVTCHNOP_init_control, &control).0,
        EINVAL,
    );
    let page = Page::take();
    let copy = GnttabCopy {
        source: GnttabCopyPtr {
            u: page.machine(),
            domid: DOMID_SELF,
            ..GnttabCopyPtr::default()
        },
        dest: GnttabCopyPtr {
            u: frame,
            domid: DOMID_SELF,
            ..GnttabCopyPtr::default()
        },
        len: 8,
        ..GnttabCopy::default()
    };
    let (code, answer) = grants::op(GNTTABOP_copy, &copy);
    same("copy to it", (code, answer.status), (0, GNTST_bad_page));
    page.give_back();
}

/// The frame mapped as another's, as a toolstack does.
fn as_theirs(id: u16, frame: u64, window: &Window) {
    let slot = window.l1.entry(0);
    let entry = (frame * PAGE) | WRITABLE;
    let domain = u32::from(id);
    let set = |entry: u64, domain: u32| tables::update_list(&[(slot, entry)], domain).0;
    result("map it", set(entry, domain), 0);
    same("write to it", trap::try_write(window.base, 0x1234), None);
    same("read it", trap::try_read(window.base), Ok(0x1234));
    result("unmap it", set(0, domain), 0);
    let page = Page::take();
    let at = page.address();
    let other = |entry: u64| {
        let number = __HYPERVISOR_update_va_mapping_otherdomain;
        hypercall(number, [at, entry, UVMF_INVLPG, id.into()])
    };
    result("map it by address", other(entry), 0);
    same("read it there", trap::try_read(at), Ok(0x1234));
    result("our own again", tables::protect(page, WRITABLE), 0);
    let clear = tables::extended_for(MMUEXT_CLEAR_PAGE, frame, 0, domain);
    result("clear it for them", clear, 0);
    result(
        "map it read-only",
        set((frame * PAGE) | READ_ONLY, domain),
        0,
    );
    tables::extended(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    same("it is clear", trap::try_read(window.base), Ok(0));
    result("unmap it again", set(0, domain), 0);
    page.give_back();
}

fn ports(id: u16) {
    let request = EvtchnAllocUnbound {
        dom: id,
        remote_dom: 0,
        port: 0,
    };
    let (code, theirs) = events::op(EVTCHNOP_alloc_unbound, &request);
    result("a port of theirs for us", code, 0);
    let bind = EvtchnBindInterdomain {
        remote_dom: id,
        remote_port: theirs.port,
        ..EvtchnBindInterdomain::default()
    };
    let (code, ours) = events::op(EVTCHNOP_bind_interdomain, &bind);
    result("bind to it", code, 0);
    result(
        "bind to it twice",
        events::op(EVTCHNOP_bind_interdomain, &bind).0,
        EINVAL,
    );
    result("send", events::send(ours.local_port), 0);
    same(
        "its status",
        events::status(id, theirs.port).1.status,
        EVTCHNSTAT_interdomain,
    );
    result("close", events::close(ours.local_port), 0);
    same(
        "its status then",
        events::status(id, theirs.port).1.status,
        EVTCHNSTAT_unbound,
    );
    let stranger = EvtchnAllocUnbound {
        remote_dom: 77,
        ..request
    };
    let (code, port) = events::op(EVTCHNOP_alloc_unbound, &stranger);
    result("a port of theirs for another", code, 0);
    let bind = EvtchnBindInterdomain {
        remote_port: port.port,
        ..bind
    };
    result(
        "bind to that",
        events::op(EVTCHNOP_bind_interdomain, &bind).0,
        EINVAL,
    );
}

/// Destroyed while a frame of it is mapped: the frame stays until the mapping goes.
fn end(id: u16, frames: [u64; 4], window: &Window) {
    let slot = window.l1.entry(0);
    let entry = (frames[0] * PAGE) | WRITABLE;
    let domain = u32::from(id);
    result(
        "map it at last",
        tables::update_list(&[(slot, entry)], domain).0,
        0,
    );
    let find = || {
        let (code, answer) = domctl(XEN_DOMCTL_getdomaininfo, id, &0_u64);
        let info = DomctlGetDomainInfo::read_from_prefix(answer.u.as_bytes());
        (code, info.expect("it fits").0)
    };
    let (code, info) = find();
    same("its info", (code, info.domain, info.tot_pages), (0, id, 4));
    result(
        "destroy it",
        domctl(XEN_DOMCTL_destroydomain, id, &0_u64).0,
        0,
    );
    let (code, info) = find();
    result("it is still known", code, 0);
    holds(
        "it is dying",
        info.flags & XEN_DOMINF_dying != 0,
        info.flags,
    );
    same(
        "its frame is there",
        trap::try_write(window.base, 0x4321),
        None,
    );
    let freed = (frames[1] * PAGE) | WRITABLE;
    let late = tables::update_list(&[(window.l1.entry(1), freed)], domain).0;
    result("map a frame that was not mapped", late, EBUSY);
    result("unmap the last", tables::update(slot, 0), 0);
    // What is left is done by the hypervisor when it gets round to it.
    timers::block_for(100_000_000);
    result("it is gone", find().0, ESRCH);
    let late = tables::update_list(&[(slot, entry)], domain).0;
    result("map a frame of a domain that is gone", late, ESRCH);
}
