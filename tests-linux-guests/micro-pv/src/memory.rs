//! Pages: a pool in the image, addresses, and the map from our frames to machine frames.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::start_info::StartInfo;
use zerocopy::{FromBytes, Immutable, IntoBytes};

pub use micro_base::memory::{read, write};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Address of our frame 0; also in the linker script and the notes.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;
/// Frame bits of a page-table entry.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// A page that the hypervisor may read and write at any time. Rust code never borrows its
/// content: all access is by volatile copies.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u8; PAGE as usize]>);

// SAFETY: see the type: no reference to the content exists, and one CPU runs the checks.
unsafe impl Sync for Page {}

/// Most pages that the pool can have; how many it has the linker says.
const MOST_PAGES: usize = 600;
static TAKEN: [AtomicBool; MOST_PAGES] = [const { AtomicBool::new(false) }; MOST_PAGES];

unsafe extern "C" {
    static pool_start: Page;
    static pool_end: Page;
}

/// The pages of the pool.
fn pool() -> &'static [Page] {
    let (start, end) = (&raw const pool_start, &raw const pool_end);
    let count = (end as usize - start as usize) / PAGE as usize;
    // SAFETY: the linker script puts so many pages there, for nobody else.
    unsafe { core::slice::from_raw_parts(start, count) }
}

static START_INFO: AtomicU64 = AtomicU64::new(0);

/// Remembers where the start info is; before anything else here.
pub fn init(start_info: u64) {
    START_INFO.store(start_info, Ordering::Relaxed);
}

/// What the builder told us.
pub fn start_info() -> StartInfo {
    read(START_INFO.load(Ordering::Relaxed))
}

/// Address in the initial mapping of a machine frame of ours.
pub fn address_of_frame(machine: u64) -> u64 {
    VIRT_BASE + read::<u64>(MACH2PHYS_VIRT_START + machine * 8) * PAGE
}

/// The machine frame of one of our frames.
pub fn machine_frame(frame: u64) -> u64 {
    read(start_info().mfn_list + frame * 8)
}

/// The machine frame behind an address of the initial mapping.
pub fn frame_at(address: u64) -> u64 {
    machine_frame((address - VIRT_BASE) / PAGE)
}

impl Page {
    /// A free page, zeroed.
    pub fn take() -> &'static Self {
        for (page, taken) in pool().iter().zip(&TAKEN) {
            if !taken.swap(true, Ordering::Relaxed) {
                page.clear();
                return page;
            }
        }
        panic!("the pool is empty");
    }

    /// `count` free pages in a row, zeroed.
    pub fn take_row(count: usize) -> &'static [Self] {
        let free = |window: &[AtomicBool]| window.iter().all(|t| !t.load(Ordering::Relaxed));
        let at = TAKEN[..pool().len()]
            .windows(count)
            .position(free)
            .expect("the pool has such a row");
        for taken in &TAKEN[at..at + count] {
            taken.store(true, Ordering::Relaxed);
        }
        let row = &pool()[at..at + count];
        for page in row {
            page.clear();
        }
        row
    }

    /// Frees the page; it must be writable again.
    pub fn give_back(&self) {
        let index = (self.address() - pool()[0].address()) / PAGE;
        TAKEN[index as usize].store(false, Ordering::Relaxed);
    }

    /// Its address in the initial mapping.
    pub fn address(&self) -> u64 {
        self.0.get() as u64
    }

    /// Our number of its frame.
    pub fn frame(&self) -> u64 {
        (self.address() - VIRT_BASE) / PAGE
    }

    /// The machine's number of its frame.
    pub fn machine(&self) -> u64 {
        machine_frame(self.frame())
    }

    /// Machine address of its word `index`.
    pub fn entry(&self, index: u64) -> u64 {
        self.machine() * PAGE + index * 8
    }

    /// Its word `index`.
    pub fn word(&self, index: u64) -> u64 {
        read(self.address() + index * 8)
    }

    /// Writes its word `index`.
    pub fn set_word(&self, index: u64, value: u64) {
        write(self.address() + index * 8, value);
    }

    /// Copies a value from `offset`.
    pub fn get<T: FromBytes>(&self, offset: u64) -> T {
        read(self.address() + offset)
    }

    /// Copies a value to `offset`.
    pub fn put<T: IntoBytes + Immutable>(&self, offset: u64, value: &T) {
        self.put_bytes(offset, value.as_bytes());
    }

    /// Copies bytes to `offset`.
    pub fn put_bytes(&self, offset: u64, bytes: &[u8]) {
        for (at, byte) in (self.address() + offset..).zip(bytes) {
            write(at, *byte);
        }
    }

    /// Zeroes it.
    pub fn clear(&self) {
        for index in 0..PAGE / 8 {
            self.set_word(index, 0);
        }
    }
}
