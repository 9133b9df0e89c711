//! Firmware's tables above 4 GiB, while the boot's own page tables are loaded, which map none of it: 2 MiB pages
//! below the same entries as the early direct map's. There are tables for a few places and no more.

use core::cell::UnsafeCell;
use core::ptr::addr_of_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::layout::{DIRECT_LIMIT, DIRECT_MAP, phys_of};

/// Page tables: one for each GiB, and one more for each half TiB above the first.
const TABLES: usize = 6;
const GIB: u64 = 1 << 30;
/// Present, accessed; with the bit of large pages, the NX bit.
const TABLE: u64 = 0x23;
const LARGE_PAGE: u64 = 2 << 20;
const LARGE: u64 = 0x80 | 0x21 | 1 << 63;

#[repr(C, align(4096))]
struct Tables(UnsafeCell<[[u64; 512]; TABLES]>);
// SAFETY: used by the boot CPU alone, before there are others.
unsafe impl Sync for Tables {}
static POOL: Tables = Tables(UnsafeCell::new([[0; 512]; TABLES]));
static USED: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    static mut boot_l4: [u64; 512];
}

/// Makes `len` bytes at `at` readable in the early direct map; `false` when they are beyond it, or when there are
/// no more tables.
pub fn reach(at: u64, len: u64) -> bool {
    let Some(end) = at.checked_add(len).filter(|end| *end <= DIRECT_LIMIT) else {
        return false;
    };
    (at / GIB..end.div_ceil(GIB)).all(reach_gib)
}

fn reach_gib(gib: u64) -> bool {
    let (root, upper) = (264 + (gib >> 9) as usize, gib as usize & 511);
    // SAFETY: the boot's tables and those of the pool belong to this CPU, which walks them; entries are only added.
    unsafe {
        let Some(l3) = lower(addr_of_mut!(boot_l4).cast(), root) else {
            return false;
        };
        let fresh = l3.add(upper).read() == 0;
        let Some(l2) = lower(l3, upper) else {
            return false;
        };
        if fresh {
            for part in 0..512 {
                l2.add(part)
                    .write(gib * GIB + part as u64 * LARGE_PAGE + LARGE);
            }
        }
    }
    true
}

/// The table below an entry, from the pool where there is none yet.
///
/// # Safety
/// `table` is a page table of the boot's, with no large page at `index`.
unsafe fn lower(table: *mut u64, index: usize) -> Option<*mut u64> {
    // SAFETY: by the caller; tables lie below 4 GiB, in the early direct map.
    unsafe {
        let entry = table.add(index);
        if entry.read() == 0 {
            let next = USED.load(Ordering::Relaxed);
            if next == TABLES {
                return None;
            }
            USED.store(next + 1, Ordering::Relaxed);
            let fresh = POOL.0.get().cast::<[u64; 512]>().add(next);
            entry.write(phys_of(fresh as u64).0 | TABLE);
        }
        let below = entry.read() & 0x000f_ffff_ffff_f000;
        Some((DIRECT_MAP + below) as *mut u64)
    }
}
