//! The hypervisor's own page tables: built once at boot, with the real permissions (W^X, NX data,
//! guard pages), and the few places where they change later (GDT and LDT windows, device registers).

use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::base::lock::{Mutex, rank};
use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};

use super::layout::{DIRECT_MAP, FIRST_SLOT, MMIO_WINDOW, SLOTS, direct_frame};
use super::start::short_of_ram;
use super::{cpu, pages};

/// Page-table entry bits (AMD APM vol. 2, 5.4).
#[allow(missing_docs, reason = "named as in the manual")]
pub mod flag {
    pub const P: u64 = 1;
    pub const RW: u64 = 1 << 1;
    pub const US: u64 = 1 << 2;
    pub const PCD: u64 = 1 << 4;
    pub const PWT: u64 = 1 << 3;
    pub const A: u64 = 1 << 5;
    pub const D: u64 = 1 << 6;
    pub const PS: u64 = 1 << 7;
    /// In a last-level entry: the upper half of the PAT, whose first entry is write-combining.
    pub const PAT: u64 = 1 << 7;
    pub const G: u64 = 1 << 8;
    pub const NX: u64 = 1 << 63;
    pub const ADDR: u64 = 0x000f_ffff_ffff_f000;

    pub const DATA: u64 = P | RW | A | D | G | NX;
    pub const RODATA: u64 = P | A | D | G | NX;
    pub const TEXT: u64 = P | A | G;
    pub const COMBINING: u64 = DATA | PAT;
    pub const MMIO: u64 = P | RW | A | D | G | NX | PCD | PWT;
}

/// Physical address of the root that idle CPUs and boot use; its slots 256-271 are in every root.
static MASTER: AtomicU64 = AtomicU64::new(0);
/// Taken by whoever changes the shared tables.
static LOCK: Mutex<MmioNext> = Mutex::new(rank::MMIO_WINDOW, MmioNext(MMIO_WINDOW));

struct MmioNext(u64);

/// A page table as seen through the direct map.
#[inline(always)]
pub fn table(mfn: Mfn) -> &'static [AtomicU64; 512] {
    // SAFETY: the direct map covers all RAM for good; entries are only accessed as atomics.
    unsafe { &*(direct_frame(mfn) as *const [AtomicU64; 512]) }
}

/// Root of the hypervisor's own address space.
pub fn master() -> Mfn {
    PhysAddr(MASTER.load(Ordering::Relaxed)).mfn()
}

/// The entries that every guest root gets in slots 256-271.
pub fn hypervisor_slots() -> [u64; SLOTS] {
    core::array::from_fn(|i| table(master())[FIRST_SLOT + i].load(Ordering::Relaxed))
}

/// Makes an empty root with a lower table for each of our slots, so that the slots never change.
pub fn create_master() {
    let root = pages::alloc_zeroed().unwrap_or_else(|| short_of_ram("the root page table"));
    for slot in 0..SLOTS {
        let lower = pages::alloc_zeroed().unwrap_or_else(|| short_of_ram("page tables"));
        // US here leaves the choice to the last level: only the M2P's guest view sets it there.
        table(root)[FIRST_SLOT + slot].store(
            lower.addr().0 | flag::P | flag::RW | flag::US | flag::A,
            Ordering::Relaxed,
        );
    }
    MASTER.store(root.addr().0, Ordering::Release);
}

/// Loads the master root on this CPU.
pub fn load_master() {
    // SAFETY: the master maps the image, this stack (by the caller's order of work) and all RAM.
    unsafe { cpu::set_cr3(MASTER.load(Ordering::Acquire)) };
}

/// Largest page to use for a mapping.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Largest {
    /// 4 KiB.
    Small,
    /// 2 MiB.
    Large,
    /// 1 GiB where the CPU has it.
    Huge,
}

/// Maps `len` bytes at `va` to `pa`, all page-aligned; `flags` are those of the last level.
pub fn map(va: u64, pa: PhysAddr, len: u64, flags: u64, largest: Largest) {
    map_in(master(), va, pa, len, flags, largest);
}

/// The same in the tables below a root of the caller's.
pub fn map_in(root: Mfn, va: u64, pa: PhysAddr, len: u64, flags: u64, largest: Largest) {
    let features = cpu::identity().get_extended_processor_and_feature_identifiers();
    let huge = largest == Largest::Huge && features.is_some_and(|f| f.has_1gib_pages());
    let mut done = 0;
    while done < len {
        let (va, pa, left) = (va + done, pa.0 + done, len - done);
        let fits = |size: u64| (va | pa) & (size - 1) == 0 && left >= size;
        let level = if huge && fits(1 << 30) {
            3
        } else if largest != Largest::Small && fits(1 << 21) {
            2
        } else {
            1
        };
        let size = 1u64 << (12 + 9 * (level - 1));
        let ps = if level > 1 { flag::PS } else { 0 };
        entry(root, va, level).store(pa | flags | ps, Ordering::Relaxed);
        done += size;
    }
}

/// The entry at `level` for `va` below a root; makes the tables above it, splits larger pages.
fn entry(root: Mfn, va: u64, level: u32) -> &'static AtomicU64 {
    &table_of(root, va, level)[index(va, level)]
}

/// Where the entry for `va` stands in its table at `level`.
const fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * (level - 1))) as usize & 511
}

/// The table with that entry.
fn table_of(root: Mfn, va: u64, level: u32) -> &'static [AtomicU64; 512] {
    let mut at = root;
    for l in (level + 1..=4).rev() {
        let slot = &table(at)[index(va, l)];
        let mut value = slot.load(Ordering::Relaxed);
        if value & flag::P == 0 {
            let lower = pages::alloc_zeroed().unwrap_or_else(|| short_of_ram("page tables"));
            value = lower.addr().0 | flag::P | flag::RW | flag::US | flag::A;
            slot.store(value, Ordering::Relaxed);
        } else if value & flag::PS != 0 {
            value = split(slot, value, l);
        }
        at = PhysAddr(value & flag::ADDR).mfn();
    }
    table(at)
}

/// Replaces a large page at `level` by a table of the next smaller ones with the same permissions.
fn split(slot: &AtomicU64, value: u64, level: u32) -> u64 {
    let lower = pages::alloc_zeroed().unwrap_or_else(|| short_of_ram("page tables"));
    let step = 1u64 << (12 + 9 * (level - 2));
    let ps = if level > 2 { flag::PS } else { 0 };
    for (i, e) in table(lower).iter().enumerate() {
        e.store(
            (value & !flag::PS) | ps | (i as u64 * step),
            Ordering::Relaxed,
        );
    }
    let new = lower.addr().0 | flag::P | flag::RW | flag::US | flag::A;
    slot.store(new, Ordering::Relaxed);
    new
}

/// Gives another root the entry that the shared tables have for `va` at a level, with all that is below.
pub fn share(root: Mfn, va: u64, level: u32) {
    let shared = entry(master(), va, level).load(Ordering::Relaxed);
    entry(root, va, level).store(shared, Ordering::Relaxed);
}

/// Sets one 4 KiB entry (0: not present) in the shared tables and forgets the old on this CPU.
pub fn set_page(va: u64, value: u64) {
    entry(master(), va, 1).store(value, Ordering::Relaxed);
    cpu::invlpg(va);
}

/// Sets the entries of small pages in a row that share a table (0: not present). The address of each whose entry was
/// another before goes to `forget`: this CPU may still have the old one.
pub fn set_row(va: u64, values: impl Iterator<Item = u64>, forget: impl Fn(u64)) {
    let slots = &table_of(master(), va, 1)[index(va, 1)..];
    for ((slot, value), page) in slots.iter().zip(values).zip(0..) {
        if slot.load(Ordering::Relaxed) != value {
            slot.store(value, Ordering::Relaxed);
            forget(va + page * PAGE_SIZE as u64);
        }
    }
}

/// Maps device registers uncached and returns their address; never unmapped.
pub fn map_mmio(pa: PhysAddr, len: u64) -> u64 {
    map_device(pa, len, flag::MMIO)
}

/// Maps video memory, whose writes may be combined, and returns its address; never unmapped.
pub fn map_write_combining(pa: PhysAddr, len: u64) -> u64 {
    map_device(pa, len, flag::COMBINING)
}

fn map_device(pa: PhysAddr, len: u64, flags: u64) -> u64 {
    let mut next = LOCK.lock();
    let offset = pa.offset() as u64;
    let size = (offset + len).next_multiple_of(PAGE_SIZE as u64);
    let va = next.0;
    map(va, PhysAddr(pa.0 - offset), size, flags, Largest::Small);
    next.0 += size + PAGE_SIZE as u64;
    va + offset
}

/// An address for a page of devices' registers, to be mapped by `set_page` when it is used.
pub fn device_page() -> u64 {
    let mut next = LOCK.lock();
    let va = next.0;
    map(va, PhysAddr(0), PAGE_SIZE as u64, 0, Largest::Small);
    next.0 += 2 * PAGE_SIZE as u64;
    va
}

/// Takes write permission from the direct map's view of `[pa, pa + len)`: our own text and rodata.
pub fn protect_alias(pa: PhysAddr, len: u64) {
    map(DIRECT_MAP + pa.0, pa, len, flag::RODATA, Largest::Small);
}
