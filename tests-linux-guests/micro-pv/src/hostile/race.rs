//! Two vCPUs at once on what only one should change.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xen_abi::errno::Errno::{EAGAIN, EBUSY, EINVAL};
use xen_abi::grant_table::{GNTTABOP_copy, GnttabCopy, GnttabCopyPtr};
use xen_abi::hypercall::{
    __HYPERVISOR_grant_table_op, __HYPERVISOR_memory_op, __HYPERVISOR_mmu_update,
    __HYPERVISOR_multicall,
};
use xen_abi::memory::{MemoryReservation, XENMEM_decrease_reservation};
use xen_abi::xen::{DOMID_SELF, MmuUpdate, MulticallEntry};
use zerocopy::{Immutable, IntoBytes};

use crate::call::hypercall;
use crate::checks::{mmu::SLOT, second};
use crate::memory::{self, PAGE, Page};
use crate::report::{holds, result, same};
use crate::tables::{self, READ_ONLY, WRITABLE, Window};
use crate::trap;

/// Times that each side does its part.
const ROUNDS: u64 = 20_000;

/// Whether the second side is to end.
static STOP: AtomicBool = AtomicBool::new(false);
/// The entry, and what is written to it.
static ENTRY: AtomicU64 = AtomicU64::new(0);
static VALUES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];
/// Calls of either side that answered something that they must not.
static WRONG: AtomicU64 = AtomicU64::new(0);
/// What one of them was.
static LAST_WRONG: AtomicU64 = AtomicU64::new(0);

fn judge(code: i64, allowed: &[i64]) {
    if !allowed.contains(&code) {
        WRONG.fetch_add(1, Ordering::Relaxed);
        LAST_WRONG.store(code as u64, Ordering::Relaxed);
    }
}

/// No call answered what it must not.
fn none_wrong() {
    let last = LAST_WRONG.load(Ordering::Relaxed) as i64;
    holds(
        "no other answers",
        WRONG.load(Ordering::Relaxed) == 0,
        format_args!("{last}"),
    );
}

fn start(work: fn()) {
    same("the second vCPU starts", second::start(work), [0, 0]);
}

fn stop() {
    STOP.store(true, Ordering::SeqCst);
    holds("the second vCPU ends", second::ended(), "no end");
    none_wrong();
}

/// Whether this frame can be a page table: nothing writable may have been left over.
fn becomes_a_table(name: &str, page: &Page) {
    result(
        format_args!("{name}: protect it"),
        tables::protect(page, READ_ONLY),
        0,
    );
    let pinned = tables::extended(0, page.machine(), 0);
    result(format_args!("{name}: it becomes a page table"), pinned, 0);
    result(
        format_args!("{name}: and a page again"),
        tables::release(page),
        0,
    );
}

fn one_value(round: u64) -> u64 {
    VALUES[(round % 4) as usize].load(Ordering::Relaxed)
}

fn update_entry(round: u64) {
    let entry = ENTRY.load(Ordering::Relaxed);
    let code = tables::update(entry, one_value(round));
    judge(code, &[0, EBUSY.to_ret(), EAGAIN.to_ret()]);
}

/// Both change one entry between two pages, a table and nothing, by call and by writing.
pub fn entry() {
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let (one, two) = (Page::take(), Page::take());
    let frame = |page: &Page| page.machine() * PAGE;
    VALUES[1].store(frame(one) | WRITABLE, Ordering::Relaxed);
    VALUES[2].store(frame(two) | WRITABLE, Ordering::Relaxed);
    VALUES[3].store(frame(window.l1) | READ_ONLY, Ordering::Relaxed);
    ENTRY.store(window.l1.entry(3), Ordering::Relaxed);
    start(|| {
        let mut round = 0;
        while !STOP.load(Ordering::SeqCst) {
            round += 3;
            update_entry(round);
        }
    });
    for round in 0..ROUNDS {
        if round % 5 == 0 {
            // The table itself is written to, which the hypervisor does for us.
            let done = trap::try_write(window.l1.address() + 3 * 8, one_value(round));
            // It may find that the entry has changed meanwhile: then the write is not done, and we get its fault.
            judge(i64::from(done.is_some()), &[0, 1]);
        } else {
            update_entry(round);
        }
    }
    stop();
    result(
        "the entry is emptied",
        tables::update(window.l1.entry(3), 0),
        0,
    );
    result("close", window.close(), 0);
    becomes_a_table("the first page", one);
    becomes_a_table("the second page", two);
}

/// One maps a page writable while the other makes a table of it: never both.
pub fn pin() {
    static TABLE: AtomicU64 = AtomicU64::new(0);
    let (opened, window) = Window::open(SLOT);
    result("own tables", opened, 0);
    let page = Page::take();
    result("protect the page", tables::protect(page, READ_ONLY), 0);
    TABLE.store(page.machine(), Ordering::Relaxed);
    ENTRY.store(window.l1.entry(3), Ordering::Relaxed);
    VALUES[1].store((page.machine() * PAGE) | WRITABLE, Ordering::Relaxed);
    start(|| {
        const UNPIN: u32 = xen_abi::xen::MMUEXT_UNPIN_TABLE;
        let table = TABLE.load(Ordering::Relaxed);
        while !STOP.load(Ordering::SeqCst) {
            let pinned = tables::extended(0, table, 0);
            judge(
                pinned,
                &[0, EINVAL.to_ret(), EBUSY.to_ret(), EAGAIN.to_ret()],
            );
            if pinned == 0 {
                judge(tables::extended(UNPIN, table, 0), &[0]);
            }
        }
    });
    for _ in 0..ROUNDS {
        let entry = ENTRY.load(Ordering::Relaxed);
        let mapped = tables::update(entry, VALUES[1].load(Ordering::Relaxed));
        judge(
            mapped,
            &[0, EBUSY.to_ret(), EAGAIN.to_ret(), EINVAL.to_ret()],
        );
        judge(tables::update(entry, 0), &[0]);
    }
    stop();
    result("close", window.close(), 0);
    result(
        "the page is writable again",
        tables::protect(page, WRITABLE),
        0,
    );
    becomes_a_table("the page", page);
}

/// Where the second side writes, and what it changes there.
static PLACES: [AtomicU64; 4] = [const { AtomicU64::new(0) }; 4];

/// What lists are made of: nothing, small, large, ours and not ours.
const WORDS: [u64; 8] = [
    0,
    1,
    3,
    u64::MAX,
    0xffff_8300_0010_0000,
    0x0000_8000_0000_0000,
    0x1000,
    0xffff_ffff,
];
/// Those of them that are no frame of ours: a copy may take a word for a frame, and a frame of ours holds this program.
static USABLE: [AtomicBool; WORDS.len()] = [const { AtomicBool::new(false) }; WORDS.len()];

fn find_usable_words() {
    let frames = memory::start_info().nr_pages;
    for (word, usable) in WORDS.iter().zip(&USABLE) {
        let ours = (0..frames).any(|frame| memory::machine_frame(frame) == *word);
        usable.store(!ours, Ordering::Relaxed);
    }
}

fn flip(round: u64) {
    let which = (round / 7 % 8) as usize;
    if !USABLE[which].load(Ordering::Relaxed) {
        return;
    }
    for place in &PLACES {
        let at = place.load(Ordering::Relaxed) + (round * 8) % 256;
        memory::write(at, WORDS[which]);
    }
}

/// Writes an argument by whole words: of a frame number of which only some bytes have changed meanwhile another of ours could
/// be made, and a copy would write over this program.
fn put<T: IntoBytes + Immutable>(list: &Page, offset: u64, value: &T) {
    let (words, rest) = value.as_bytes().as_chunks::<8>();
    assert!(rest.is_empty(), "arguments are words");
    for (word, index) in words.iter().zip(offset / 8..) {
        list.set_word(index, u64::from_le_bytes(*word));
    }
}

/// The arguments of calls change while they are read: each call comes back, and nothing is lost.
pub fn arguments() {
    let lists = [(); 4].map(|()| Page::take());
    let target = Page::take();
    for (place, list) in PLACES.iter().zip(&lists) {
        place.store(list.address(), Ordering::Relaxed);
    }
    find_usable_words();
    start(|| {
        let mut round = 0;
        while !STOP.load(Ordering::SeqCst) {
            round += 1;
            flip(round);
        }
    });
    let mut most = 0;
    for round in 0..ROUNDS / 10 {
        most = most.max(calls(&lists, target, round));
    }
    stop();
    holds("all calls came back", most < 4096, most);
    target.clear();
    becomes_a_table("the target", target);
    for list in lists {
        list.clear();
        becomes_a_table("a list", list);
    }
}

/// One call of each kind with lists that change; the largest of the answers.
fn calls(lists: &[&'static Page; 4], target: &Page, round: u64) -> i64 {
    let [updates, calls, copies, extents] = lists.map(Page::address);
    let update = MmuUpdate {
        ptr: target.entry(0),
        val: round,
    };
    put(lists[0], 0, &update);
    let codes = [
        hypercall(__HYPERVISOR_mmu_update, [updates, 8, 0, DOMID_SELF.into()]),
        {
            let version = MulticallEntry {
                op: xen_abi::hypercall::__HYPERVISOR_xen_version.into(),
                ..MulticallEntry::default()
            };
            for index in 0..4 {
                put(lists[1], index * 64, &version);
            }
            hypercall(__HYPERVISOR_multicall, [calls, 4])
        },
        {
            let side = GnttabCopyPtr {
                u: target.machine(),
                domid: DOMID_SELF,
                ..GnttabCopyPtr::default()
            };
            let copy = GnttabCopy {
                source: side,
                dest: side,
                len: 64,
                ..GnttabCopy::default()
            };
            put(lists[2], 0, &copy);
            hypercall(
                __HYPERVISOR_grant_table_op,
                [GNTTABOP_copy.into(), copies, 4],
            )
        },
        {
            let request = MemoryReservation {
                extent_start: xen_abi::GuestHandle::new(extents + 1024),
                nr_extents: 1,
                domid: DOMID_SELF,
                ..MemoryReservation::default()
            };
            // Frame 0 of the list behind it is none of ours to give.
            put(lists[3], 0, &request);
            lists[3].set_word(128, u64::MAX);
            hypercall(
                __HYPERVISOR_memory_op,
                [XENMEM_decrease_reservation.into(), extents],
            )
        },
    ];
    codes.into_iter().max().unwrap_or(0)
}
