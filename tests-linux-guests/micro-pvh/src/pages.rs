//! Pages that the hypervisor may change at any time, mapped one to one.

use core::cell::UnsafeCell;

use micro_base::memory::{read, write};

/// Bytes of a page.
pub const PAGE: u64 = 4096;

/// A page; Rust code never borrows its content.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: see the type: no reference to the content exists.
unsafe impl Sync for Page {}

impl Page {
    /// A page of zeros.
    pub const fn new() -> Self {
        Self(UnsafeCell::new([0; PAGE as usize]))
    }

    /// Its address, guest-physical too.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Its frame.
    pub fn frame(&self) -> u64 {
        self.address() / PAGE
    }

    /// Its word `index`.
    pub fn word(&self, index: u64) -> u64 {
        read(self.address() + index * 8)
    }

    /// Writes its word `index`.
    pub fn set_word(&self, index: u64, value: u64) {
        write(self.address() + index * 8, value);
    }
}

/// Pages for whatever an act does.
pub static SCRATCH: [Page; 16] = [const { Page::new() }; 16];

/// Where nothing is: a frame between memory and the devices, and its address.
pub const HOLE: u64 = 0xd0000;

unsafe extern "C" {
    static boot_pml4: Page;
}

/// The root of the page tables.
pub fn root() -> &'static Page {
    // SAFETY: the assembly keeps the page for that, and we never borrow what is in it.
    unsafe { &boot_pml4 }
}

/// The table that an entry of a table points to.
pub fn below(table: u64, index: u64) -> u64 {
    read::<u64>(table + index * 8) & 0x000f_ffff_ffff_f000
}

/// The entry's address of 2 MiB at this address, of the first 4 GiB.
pub fn entry_of(address: u64) -> u64 {
    let directories = below(root().address(), 0);
    below(directories, address >> 30) + (address >> 21 & 511) * 8
}
