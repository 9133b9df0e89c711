//! memory_op: giving memory back, getting and exchanging it.

use xen_abi::GuestHandle;
use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::errno::Errno::{EBUSY, EFAULT, EINVAL, EPERM, ESRCH};
use xen_abi::hypercall::__HYPERVISOR_memory_op;
use xen_abi::memory::*;
use xen_abi::xen::{DOMID_SELF, UVMF_INVLPG};

use super::bad;
use crate::call::{hypercall, memory};
use crate::memory::{self as mem, PAGE, Page};
use crate::report::{result, same};
use crate::tables::{self, WRITABLE};
use crate::trap;

/// First of the bits in which a restarted call keeps how far it came.
const EXTENT_SHIFT: u32 = 6;

fn request(list: u64, nr_extents: u64, extent_order: u32) -> MemoryReservation {
    MemoryReservation {
        extent_start: GuestHandle::new(list),
        nr_extents,
        extent_order,
        domid: DOMID_SELF,
        ..MemoryReservation::default()
    }
}

const OPERATIONS: [(u32, &str); 3] = [
    (XENMEM_increase_reservation, "increase"),
    (XENMEM_decrease_reservation, "decrease"),
    (XENMEM_populate_physmap, "populate"),
];

/// Requests that must come to nothing: these operations report how much was done, never an error.
pub fn wild() {
    let page = Page::take();
    page.set_word(0, u64::MAX);
    let list = page.address();
    for (op, name) in OPERATIONS {
        let call = |request: &MemoryReservation| memory(op.into(), request).0;
        for (kind, pointer) in bad::POINTERS {
            let raw = hypercall(__HYPERVISOR_memory_op, [op.into(), *pointer]);
            result(format_args!("{name}, {kind} pointer"), raw, 0);
        }
        result(
            format_args!("{name} nothing"),
            call(&request(list, 0, 0)),
            0,
        );
        for order in [13, 18, 20, 21, 31, 32, 52, 63, 64, 255, u32::MAX] {
            let text = format_args!("{name}, order {order}");
            result(text, call(&request(list, 1, order)), 0);
        }
        for count in [u64::MAX, u64::MAX >> EXTENT_SHIFT, 1 << 62, 1 << 58] {
            // A count that the restart bits cannot hold is refused; others fail at once.
            let text = format_args!("{name} {count:#x}");
            result(text, call(&request(list, count, 9)), 0);
        }
        for domid in [0x6fff, 0x7fef, 0x7ff4, 0x7fff, 0xffff] {
            let request = MemoryReservation {
                domid,
                ..request(list, 1, 0)
            };
            result(
                format_args!("{name} of domain {domid:#x}"),
                call(&request),
                0,
            );
        }
        for start in [3, 4, 1 << 32, (1 << 57) - 1] {
            let command = u64::from(op) | start << EXTENT_SHIFT;
            let text = format_args!("{name} from {start} of 3");
            result(text, memory(command, &request(list, 3, 0)).0, start as i64);
        }
    }
    for (op, name) in &OPERATIONS[1..] {
        for (kind, pointer) in bad::POINTERS {
            let text = format_args!("{name}, list at {kind} pointer");
            let request = request(*pointer, 1, 0);
            result(text, memory((*op).into(), &request).0, 0);
        }
    }
    for (owner, frame) in bad::frames() {
        page.set_word(0, frame);
        let got = memory(XENMEM_decrease_reservation.into(), &request(list, 1, 0)).0;
        result(format_args!("decrease by a frame {owner}"), got, 0);
    }
    page.set_word(0, 0);
    let full = memory(XENMEM_populate_physmap.into(), &request(list, 1, 0)).0;
    result("populate when we have all that we may", full, 0);
    let full = memory(XENMEM_increase_reservation.into(), &request(0, 1, 0)).0;
    result("increase when we have all that we may", full, 0);
    page.give_back();
}

/// A page goes and another comes.
pub fn exchange_of_one() {
    let list = Page::take();
    let page = Page::take();
    let old = page.machine();
    let command = |op: u32| memory(op.into(), &request(list.address(), 1, 0)).0;
    list.set_word(0, old);
    result("unmap it", tables::map(page.address(), 0, UVMF_INVLPG), 0);
    result("give it back", command(XENMEM_decrease_reservation), 1);
    result(
        "give it back twice",
        command(XENMEM_decrease_reservation),
        0,
    );
    let entry = (old * PAGE) | WRITABLE;
    let mapped = tables::map(page.address(), entry, 0);
    result("map what is gone", mapped, EBUSY);
    result("clear what is gone", tables::extended(16, old, 0), EINVAL);
    list.set_word(0, page.frame());
    result("get one", command(XENMEM_populate_physmap), 1);
    let new = list.word(0);
    let number = trap::try_read(MACH2PHYS_VIRT_START + new * 8);
    same("its number", number, Ok(page.frame()));
    adopt(page, new);
    list.set_word(0, page.frame());
    result("get another", command(XENMEM_populate_physmap), 0);
    // A page that is still mapped is given back all the same: it stays until the mapping goes.
    list.set_word(0, new);
    result(
        "give a mapped one back",
        command(XENMEM_decrease_reservation),
        1,
    );
    same(
        "it is still there",
        trap::try_write(page.address(), 5),
        None,
    );
    result("unmap that", tables::map(page.address(), 0, UVMF_INVLPG), 0);
    list.set_word(0, page.frame());
    result("get one for it", command(XENMEM_populate_physmap), 1);
    adopt(page, list.word(0));
    flags(list, page);
    page.give_back();
    list.give_back();
}

/// Requests with flags.
fn flags(list: &Page, page: &Page) {
    list.set_word(0, page.machine());
    tables::map(page.address(), 0, UVMF_INVLPG);
    memory(
        XENMEM_decrease_reservation.into(),
        &request(list.address(), 1, 0),
    );
    list.set_word(0, page.frame());
    let get = |mem_flags: u32| {
        let request = MemoryReservation {
            mem_flags,
            ..request(list.address(), 1, 0)
        };
        memory(XENMEM_populate_physmap.into(), &request).0
    };
    result("below 4 KiB", get(12), 0);
    result("below 2 bytes", get(1), 0);
    result("on demand", get(XENMEMF_populate_on_demand), 0);
    result("below 2^255", get(255), 1);
    adopt(page, list.word(0));
}

/// Maps a new frame at the page's address and notes it.
fn adopt(page: &Page, frame: u64) {
    mem::write(mem::start_info().mfn_list + page.frame() * 8, frame);
    let got = tables::map(page.address(), (frame * PAGE) | WRITABLE, UVMF_INVLPG);
    result("map the new one", got, 0);
    same("write to it", trap::try_write(page.address(), 0x42), None);
}

fn swap(input: MemoryReservation, output: MemoryReservation) -> (i64, u64) {
    let call = MemoryExchange {
        r#in: input,
        out: output,
        nr_exchanged: 0,
    };
    let (code, left) = memory(XENMEM_exchange.into(), &call);
    (code, left.nr_exchanged)
}

/// XENMEM_exchange.
pub fn exchange() {
    for (kind, pointer) in bad::POINTERS {
        let raw = hypercall(__HYPERVISOR_memory_op, [XENMEM_exchange.into(), *pointer]);
        result(format_args!("{kind} pointer"), raw, EFAULT);
    }
    let (lists, page) = (Page::take(), Page::take());
    let (from, to) = (lists.address(), lists.address() + 2048);
    lists.set_word(0, page.machine());
    lists.set_word(256, page.frame());
    let sizes = [
        ("nothing for nothing", (0, 0), (0, 0), 0),
        ("one for two", (1, 0), (2, 0), EINVAL.to_ret()),
        ("one for a large one", (1, 0), (1, 9), EINVAL.to_ret()),
        (
            "sums that overflow",
            (1 << 60, 0),
            (1 << 51, 9),
            EINVAL.to_ret(),
        ),
        ("2^63 for 2^63", (1 << 63, 0), (1 << 63, 0), EFAULT.to_ret()),
        ("orders of 64", (1, 64), (1, 64), EPERM.to_ret()),
        ("orders of -1", (1, u32::MAX), (1, u32::MAX), EPERM.to_ret()),
        ("order 12 for 4096", (4096, 0), (1, 12), EINVAL.to_ret()),
        ("order 13 for 8192", (8192, 0), (1, 13), EINVAL.to_ret()),
    ];
    for (name, (count, order), (out_count, out_order), want) in sizes {
        let input = request(from, count, order);
        let output = request(to, out_count, out_order);
        result(name, swap(input, output).0, want);
    }
    swapped(lists, page);
    page.give_back();
    lists.give_back();
    output_pointers();
}

/// Domains, frames and pointers of an exchange, and one that succeeds.
fn swapped(lists: &Page, page: &Page) {
    let one = request(lists.address(), 1, 0);
    let out = request(lists.address() + 2048, 1, 0);
    let other = MemoryReservation { domid: 1, ..out };
    result("for another domain", swap(one, other).0, EINVAL);
    let both = MemoryReservation { domid: 1, ..one };
    result("of another domain", swap(both, other).0, ESRCH);
    for (kind, pointer) in bad::POINTERS {
        let (code, _) = swap(request(*pointer, 1, 0), out);
        result(format_args!("input at {kind} pointer"), code, EFAULT);
    }
    for (owner, frame) in bad::frames() {
        lists.set_word(0, frame);
        result(format_args!("a frame {owner}"), swap(one, out).0, EINVAL);
    }
    let claimed = MemoryExchange {
        r#in: one,
        out,
        nr_exchanged: 2,
    };
    let (code, _) = memory(XENMEM_exchange.into(), &claimed);
    result("more done than asked", code, EINVAL);
    lists.set_word(0, page.machine());
    result("unmap it", tables::map(page.address(), 0, UVMF_INVLPG), 0);
    same("one for one", swap(one, out), (0, 1));
    adopt(page, lists.word(256));
}

/// The result cannot be written: the exchange must not write through the pointer all the same.
fn output_pointers() {
    let lists = Page::take();
    let page = Page::take();
    for (kind, pointer) in bad::POINTERS
        .iter()
        .filter(|(_, at)| at >> 47 != 0 && *at != u64::MAX)
    {
        lists.set_word(0, page.machine());
        let code = swap(request(lists.address(), 1, 0), request(*pointer, 1, 0)).0;
        result(format_args!("output at {kind} pointer"), code, EFAULT);
        same(
            "the page is still ours",
            trap::try_write(page.address(), 1),
            None,
        );
    }
    page.give_back();
    lists.give_back();
}
