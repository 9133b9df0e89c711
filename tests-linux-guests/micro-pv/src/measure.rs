//! What calls cost, alone and between two domains: `cargo xtask bench --guests` compares hypervisors by it.
//!
//! One domain measures, the other lends it pages and answers its events. dom0 tells each of them in xenstore who the
//! other is, `data/peer`, and the first one the port of the second, `data/port`. The time stamp counter is the clock:
//! where instructions are counted it tells nanoseconds, one for each.

use core::mem::offset_of;

use micro_base::measure::measure;
use xen_abi::event_channel::*;
use xen_abi::grant_table::*;
use xen_abi::hypercall::*;
use xen_abi::version::XENVER_version;
use xen_abi::xen::{DOMID_SELF, MulticallEntry};
use xen_abi::xs_message;

use crate::call::hypercall;
use crate::checks::{events, granted, mmu, timers, upcall};
use crate::console::println;
use crate::memory::{self, PAGE, Page};
use crate::store::{NO_TRANSACTION, Store};
use crate::tables::Window;

/// Pages that are lent, and calls in a list.
const MANY: u64 = 16;
/// The first of their references.
const REFERENCE: u32 = 16;
/// The sub-operation of `xen_version` that only returns a number.
const XENVER: u64 = XENVER_version as u64;

/// A number that dom0 has written for us.
fn told(store: &mut Store, path: &str) -> u32 {
    let value = store.read(NO_TRANSACTION, path).expect("dom0 writes it");
    xs_message::number(value).expect("a number")
}

/// Measures all. Nothing is printed until the end: the console is dom0's work.
pub fn run() {
    let mut store = Store::attach();
    let peer = told(&mut store, "data/peer") as u16;
    let port = connect(peer, told(&mut store, "data/port"));
    let (opened, window) = Window::open(mmu::SLOT);
    assert_eq!(opened, 0, "a place to map pages at");
    let lent = Lent::new(peer, window.base);
    let list = calls();
    let send = send_to(port);
    let figures = [
        ("null hypercall", measure(5000, null)),
        ("multicall of 16", measure(500, || multicall(list))),
        ("event there and back", measure(1000, || ask(port, send))),
        ("grant mapped, unmapped", measure(1000, || lent.map(1))),
        ("16 of them in one call", measure(200, || lent.map(MANY))),
        ("grant copied", measure(1000, || lent.copy(1))),
        ("16 of them at once", measure(200, || lent.copy(MANY))),
    ];
    for (name, figure) in figures {
        println!("BENCH {name} {}", figure.best);
        println!("COUNTED {}", figure.operations);
    }
    println!("MICRO-MEASURED");
}

fn null() {
    hypercall(__HYPERVISOR_xen_version, [XENVER, 0]);
}

/// A page with a list of calls that do nothing.
fn calls() -> &'static Page {
    let page = Page::take();
    let entry = MulticallEntry {
        op: __HYPERVISOR_xen_version.into(),
        result: 0,
        args: [XENVER, 0, 0, 0, 0, 0],
    };
    for index in 0..MANY {
        page.put(index * size_of::<MulticallEntry>() as u64, &entry);
    }
    page
}

fn multicall(list: &Page) {
    let result = hypercall(__HYPERVISOR_multicall, [list.address(), MANY]);
    assert_eq!(result, 0, "a list of calls");
}

/// A page with what sends to this port.
fn send_to(port: u32) -> &'static Page {
    let page = Page::take();
    page.put(0, &EvtchnSend { port });
    page
}

/// Sends, and sleeps until the answer is there.
fn ask(port: u32, send: &Page) {
    let result = hypercall(
        __HYPERVISOR_event_channel_op,
        [EVTCHNOP_send.into(), send.address()],
    );
    assert_eq!(result, 0, "an event is sent");
    sleep_until(port);
}

fn sleep_until(port: u32) {
    loop {
        // So that none comes between the look and the sleep.
        upcall::hold();
        if upcall::fired(port) != 0 {
            return;
        }
        timers::block();
    }
}

/// Connects to a port of the other domain; ours.
fn connect(remote_dom: u16, remote_port: u32) -> u32 {
    let request = EvtchnBindInterdomain {
        remote_dom,
        remote_port,
        ..EvtchnBindInterdomain::default()
    };
    let (result, bound) = events::op(EVTCHNOP_bind_interdomain, &request);
    assert_eq!(result, 0, "the other domain has that port for us");
    upcall::set_port_mask(bound.local_port, 0);
    // A new connection begins with an event.
    upcall::collect();
    upcall::fired(bound.local_port);
    bound.local_port
}

/// Pages of the other domain, and what a call about them is given: a list of requests for each kind, on a page.
struct Lent {
    /// Where they are mapped.
    base: u64,
    maps: &'static Page,
    unmaps: &'static Page,
    copies: &'static Page,
}

/// Bytes between the entries of a list.
const MAP: u64 = size_of::<GnttabMapGrantRef>() as u64;
const UNMAP: u64 = size_of::<GnttabUnmapGrantRef>() as u64;
const COPY: u64 = size_of::<GnttabCopy>() as u64;

impl Lent {
    fn new(peer: u16, base: u64) -> Self {
        let [maps, unmaps, copies, target] = [(); 4].map(|()| Page::take());
        for (index, reference) in (0..MANY).zip(REFERENCE..) {
            let host_addr = base + index * PAGE;
            let map = GnttabMapGrantRef {
                host_addr,
                flags: GNTMAP_host_map,
                r#ref: reference,
                dom: peer,
                ..GnttabMapGrantRef::default()
            };
            let unmap = GnttabUnmapGrantRef {
                host_addr,
                ..GnttabUnmapGrantRef::default()
            };
            let side = |u: u64, domid: u16| GnttabCopyPtr {
                u,
                domid,
                ..GnttabCopyPtr::default()
            };
            let copy = GnttabCopy {
                source: side(reference.into(), peer),
                dest: side(target.machine(), DOMID_SELF),
                len: PAGE as u16,
                flags: GNTCOPY_source_gref,
                ..GnttabCopy::default()
            };
            maps.put(index * MAP, &map);
            unmaps.put(index * UNMAP, &unmap);
            copies.put(index * COPY, &copy);
        }
        Self {
            base,
            maps,
            unmaps,
            copies,
        }
    }

    /// Maps the first of the pages, reads a word of each and unmaps them.
    fn map(&self, count: u64) {
        call(GNTTABOP_map_grant_ref, self.maps, count);
        for index in 0..count {
            let map = index * MAP;
            let status: i16 = self
                .maps
                .get(map + offset_of!(GnttabMapGrantRef, status) as u64);
            assert_eq!(status, GNTST_okay, "the other's page is mapped");
            let handle: u32 = self
                .maps
                .get(map + offset_of!(GnttabMapGrantRef, handle) as u64);
            let place = index * UNMAP + offset_of!(GnttabUnmapGrantRef, handle) as u64;
            memory::write(self.unmaps.address() + place, handle);
            let _: u64 = memory::read(self.base + index * PAGE);
        }
        call(GNTTABOP_unmap_grant_ref, self.unmaps, count);
        let last = (count - 1) * UNMAP + offset_of!(GnttabUnmapGrantRef, status) as u64;
        assert_eq!(self.unmaps.get::<i16>(last), GNTST_okay, "it is unmapped");
    }

    /// Copies the first of the pages.
    fn copy(&self, count: u64) {
        call(GNTTABOP_copy, self.copies, count);
        let last = (count - 1) * COPY + offset_of!(GnttabCopy, status) as u64;
        assert_eq!(self.copies.get::<i16>(last), GNTST_okay, "it is copied");
    }
}

fn call(command: u32, list: &Page, count: u64) {
    let result = hypercall(
        __HYPERVISOR_grant_table_op,
        [command.into(), list.address(), count],
    );
    assert_eq!(result, 0, "grant_table_op {command}");
}

/// Lends pages to the other domain and answers its events until this one is destroyed.
pub fn answer() {
    let peer = told(&mut Store::attach(), "data/peer") as u16;
    let table = Page::take();
    assert_eq!(granted::map_table(table), 0, "our grants");
    for reference in (REFERENCE..).take(MANY as usize) {
        let entry = GrantEntryV1 {
            flags: GTF_permit_access,
            domid: peer,
            frame: Page::take().machine() as u32,
        };
        table.put(
            u64::from(reference) * size_of::<GrantEntryV1>() as u64,
            &entry,
        );
    }
    let request = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: peer,
        port: 0,
    };
    let (result, unbound) = events::op(EVTCHNOP_alloc_unbound, &request);
    assert_eq!(result, 0, "a port for the other domain");
    let send = send_to(unbound.port);
    upcall::set_port_mask(unbound.port, 0);
    println!("MICRO-ANSWERS {}", unbound.port);
    sleep_until(unbound.port);
    loop {
        ask(unbound.port, send);
    }
}
