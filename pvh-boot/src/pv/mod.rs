//! The start of day of a 64-bit PV domain (xen.h, "Start-of-day memory layout").
//!
//! [`PvKernel`] says whether a kernel can run here at all, [`Layout`] plans where everything goes,
//! [`build`] writes it through [`DomainMemory`]. The first domain is what this is for: pages that
//! only other domains get (xenstore and console rings) are not part of the layout.

mod build;
mod hypercall_page;
mod kernel;
mod layout;
mod tables;

pub use build::{BuildError, DomainMemory, Initrd, StartOfDay, StartState, build};
pub use hypercall_page::hypercall_page;
pub use kernel::{PV_FEATURES, PvError, PvKernel};
pub use layout::{Extent, InitrdPlace, Layout, LayoutError, P2mPlace, Request};
pub use tables::{Level, Span, TableFrames, Tables, entry_flags};

/// log2 of the page size.
const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;
/// Bytes in a page, as a length in memory.
const PAGE_BYTES: usize = 1 << PAGE_SHIFT;
/// Entries of a page table.
const ENTRIES: u64 = 512;

/// Pages that hold so many bytes.
const fn pages_for(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE)
}
