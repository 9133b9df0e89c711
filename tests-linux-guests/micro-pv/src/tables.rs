//! Page tables through hypercalls.

use xen_abi::hypercall::{
    __HYPERVISOR_mmu_update, __HYPERVISOR_mmuext_op, __HYPERVISOR_update_va_mapping,
};
use xen_abi::xen::{DOMID_SELF, MMUEXT_UNPIN_TABLE, MmuUpdate, MmuextOp, UVMF_INVLPG};

use crate::call::{Argument, hypercall};
use crate::memory::{self, FRAME_MASK, PAGE, Page, VIRT_BASE};

/// Entry flags: present.
pub const PRESENT: u64 = 1;
/// Entry flags: writable.
pub const RW: u64 = 2;
/// Entry flags: user.
pub const USER: u64 = 4;
/// Entry flags: large page.
pub const LARGE: u64 = 0x80;
/// Flags of an ordinary read-only page or table.
pub const READ_ONLY: u64 = PRESENT | USER | 0x60;
/// Flags of an ordinary writable page or table.
pub const WRITABLE: u64 = READ_ONLY | RW;

/// `mmu_update` with a list of our making; the result and how many were done.
pub fn update_list(list: &[(u64, u64)], domain: u32) -> (i64, u32) {
    let page = Page::take();
    for (at, &(ptr, val)) in (0_u64..).zip(list) {
        page.put(at * 16, &MmuUpdate { ptr, val });
    }
    let done = Argument::new(&0xdead_u32);
    let args = [
        page.address(),
        list.len() as u64,
        done.address(),
        domain.into(),
    ];
    let result = hypercall(__HYPERVISOR_mmu_update, args);
    page.give_back();
    (result, done.get())
}

/// One update of our own tables; the command is in the low bits of `ptr`.
pub fn update(ptr: u64, val: u64) -> i64 {
    update_list(&[(ptr, val)], DOMID_SELF.into()).0
}

/// One `mmuext_op`.
pub fn extended(cmd: u32, arg1: u64, arg2: u64) -> i64 {
    extended_for(cmd, arg1, arg2, DOMID_SELF.into())
}

/// One `mmuext_op` on another domain's memory.
pub fn extended_for(cmd: u32, arg1: u64, arg2: u64, domain: u32) -> i64 {
    let op = Argument::new(&MmuextOp {
        cmd,
        arg1,
        arg2,
        ..MmuextOp::default()
    });
    hypercall(__HYPERVISOR_mmuext_op, [op.address(), 1, 0, domain.into()])
}

/// `update_va_mapping`.
pub fn map(address: u64, entry: u64, flags: u64) -> i64 {
    hypercall(__HYPERVISOR_update_va_mapping, [address, entry, flags])
}

/// Changes the rights of a page of the pool in the initial mapping.
pub fn protect(page: &Page, flags: u64) -> i64 {
    map(page.address(), (page.machine() * PAGE) | flags, UVMF_INVLPG)
}

/// Undoes a pin and makes the page writable again.
pub fn release(page: &Page) -> i64 {
    let result = extended(MMUEXT_UNPIN_TABLE, page.machine(), 0);
    let again = protect(page, WRITABLE);
    if result != 0 { result } else { again }
}

/// Our L4 table: its address in the initial mapping.
pub fn root() -> u64 {
    memory::start_info().pt_base
}

/// Machine address of an entry of our L4.
pub fn root_entry(slot: u64) -> u64 {
    memory::frame_at(root()) * PAGE + slot * 8
}

/// Address in the initial mapping of the table that a table entry names.
fn table_of(entry: u64) -> Option<u64> {
    let frame = (entry & FRAME_MASK) / PAGE;
    let pages = memory::start_info().nr_pages;
    // The machine-to-physical table answers; frames of the hypervisor have no number of ours.
    let ours = crate::trap::try_read(xen_abi::arch_x86::MACH2PHYS_VIRT_START + frame * 8).ok()?;
    (ours < pages && memory::machine_frame(ours) == frame).then(|| VIRT_BASE + ours * PAGE)
}

/// Machine address of the entry of `level` (1 to 4) that translates `address`, if its table is
/// there.
pub fn entry_for(address: u64, level: u32) -> Option<u64> {
    let mut table = root();
    let index = |level: u32| (address >> (12 + 9 * (level - 1))) & 511;
    for above in (level + 1..=4).rev() {
        let entry: u64 = memory::read(table + index(above) * 8);
        if entry & PRESENT == 0 {
            return None;
        }
        table = table_of(entry)?;
    }
    Some(memory::frame_at(table) * PAGE + index(level) * 8)
}

/// Address in the initial mapping of an entry at this machine address, in a table of ours.
pub fn address_of(machine: u64) -> u64 {
    let table = table_of(machine).expect("a table of ours");
    table + machine % PAGE
}

/// An own stretch of address space: one L3, L2 and L1 in an otherwise free L4 slot.
pub struct Window {
    /// The tables, pinned by their use only.
    pub l3: &'static Page,
    /// See `l3`.
    pub l2: &'static Page,
    /// See `l3`.
    pub l1: &'static Page,
    /// Its first address.
    pub base: u64,
}

impl Window {
    /// Hangs new, empty tables into L4 slot `slot`; the result says how it went.
    pub fn open(slot: u64) -> (i64, Self) {
        let window = Self {
            l3: Page::take(),
            l2: Page::take(),
            l1: Page::take(),
            base: slot << 39,
        };
        let Self { l3, l2, l1, .. } = window;
        l2.set_word(0, (l1.machine() * PAGE) | WRITABLE);
        l3.set_word(0, (l2.machine() * PAGE) | WRITABLE);
        for table in [l1, l2, l3] {
            protect(table, READ_ONLY);
        }
        (
            update(root_entry(slot), (l3.machine() * PAGE) | WRITABLE),
            window,
        )
    }

    /// Machine address of the L4 entry.
    pub fn slot_entry(&self) -> u64 {
        root_entry(self.base >> 39 & 511)
    }

    /// Removes the tables again.
    pub fn close(self) -> i64 {
        let result = update(self.slot_entry(), 0);
        for table in [self.l3, self.l2, self.l1] {
            protect(table, WRITABLE);
            table.give_back();
        }
        result
    }
}
