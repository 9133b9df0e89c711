//! multicall.

use xen_abi::errno::Errno::{EFAULT, EINVAL, ENOSYS};
use xen_abi::hypercall::{__HYPERVISOR_multicall, __HYPERVISOR_sched_op, __HYPERVISOR_xen_version};
use xen_abi::version::{XENVER_pagesize, XENVER_version};
use xen_abi::xen::MulticallEntry;

use super::bad;
use crate::call::hypercall;
use crate::memory::Page;
use crate::report::{result, same};
use crate::tables::{self, READ_ONLY, WRITABLE};

fn entry(op: u64, args: [u64; 2]) -> MulticallEntry {
    MulticallEntry {
        op,
        result: 0x5555,
        args: [args[0], args[1], 0, 0, 0, 0],
    }
}

fn call(list: u64, count: u64) -> i64 {
    hypercall(__HYPERVISOR_multicall, [list, count])
}

const PAGESIZE: [u64; 2] = [XENVER_pagesize as u64, 0];

/// Lists good and bad.
pub fn check() {
    let page = Page::take();
    let at = page.address();
    let size = size_of::<MulticallEntry>() as u64;
    result("an empty list", call(at, 0), 0);
    result("an empty list at null", call(0, 0), 0);
    for (kind, pointer) in bad::POINTERS {
        result(format_args!("{kind} pointer"), call(*pointer, 1), EFAULT);
    }
    result("2^31 entries at null", call(0, 1 << 31), EFAULT);
    result("2^32 entries at null", call(0, 1 << 32), 0);
    let entries = [
        entry(__HYPERVISOR_xen_version.into(), PAGESIZE),
        entry(u64::MAX, [0, 0]),
        entry(64, [0, 0]),
        entry(
            0x1_0000_0000 | u64::from(__HYPERVISOR_xen_version),
            PAGESIZE,
        ),
        entry(__HYPERVISOR_multicall.into(), [at, 1]),
        entry(__HYPERVISOR_sched_op.into(), [99, 0]),
        entry(__HYPERVISOR_xen_version.into(), [XENVER_version.into(), 0]),
    ];
    for (index, entry) in (0_u64..).zip(&entries) {
        page.put(index * size, entry);
    }
    result("a mixed list", call(at, entries.len() as u64), 0);
    let answer = |index: u64| page.get::<MulticallEntry>(index * size).result as i64;
    result("entry with a good call", answer(0), 4096);
    result("entry with number -1", answer(1), ENOSYS);
    result("entry with number 64", answer(2), ENOSYS);
    result("entry with a number above 32 bits", answer(3), ENOSYS);
    result("entry with a multicall", answer(4), EINVAL);
    result("entry with an unknown sub-operation", answer(5), ENOSYS);
    result("entry behind the bad ones", answer(6), 4 << 16 | 17);
    tables::protect(page, READ_ONLY);
    result("a read-only list", call(at, 1), EFAULT);
    tables::protect(page, WRITABLE);
    into_a_hole(size);
    page.give_back();
}

/// A list whose second entry cannot be read: the first is carried out.
fn into_a_hole(size: u64) {
    let row = Page::take_row(2);
    tables::protect(&row[1], 0);
    let start = row[1].address() - size;
    row[0].put(
        4096 - size,
        &entry(__HYPERVISOR_xen_version.into(), PAGESIZE),
    );
    result("a list that ends in a hole", call(start, 2), EFAULT);
    let first: MulticallEntry = row[0].get(4096 - size);
    same("the entry before the hole", first.result, 4096);
    tables::protect(&row[1], WRITABLE);
    for page in row {
        page.give_back();
    }
}
