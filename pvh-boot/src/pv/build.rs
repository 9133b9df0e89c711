//! Writing the start of day of a 64-bit PV domain as planned by [`Layout`].

use core::fmt;

use zerocopy::IntoBytes;

use crate::elf::Segment;
use xen_abi::start_info::{
    Dom0VgaConsoleInfo, MAX_GUEST_CMDLINE, SIF_INITDOMAIN, SIF_MOD_START_PFN, SIF_PRIVILEGED,
    START_INFO_MAGIC, StartInfo, StartInfoConsoleDom0,
};

use super::hypercall_page::hypercall_page;
use super::kernel::PvKernel;
use super::layout::{InitrdPlace, Layout};
use super::tables::{Level, entry_flags, slot};
use super::{ENTRIES, PAGE_BYTES, PAGE_SHIFT, PAGE_SIZE};

/// The domain's memory, by pseudo-physical frame.
///
/// Frames given to these functions are always below the layout's `nr_pages`. Frames need not be
/// zeroed by their owner for correctness here, but those that nothing is written to keep what they
/// hold, and the kernel can read them: they must not hold secrets.
pub trait DomainMemory {
    /// The machine frame behind `pfn`.
    fn mfn(&self, pfn: u64) -> u64;

    /// Writes bytes inside one page; `offset + bytes.len()` is at most the page size.
    fn write(&mut self, pfn: u64, offset: usize, bytes: &[u8]);

    /// Fills one page with zero.
    fn zero(&mut self, pfn: u64);

    /// Writes 64-bit words into one page, from word `index` on.
    fn write_entries(&mut self, pfn: u64, index: usize, entries: &[u64]) {
        self.write(pfn, index * 8, entries.as_bytes());
    }
}

/// Where the initrd's bytes come from.
#[derive(Clone, Copy, Debug)]
pub enum Initrd<'a> {
    /// They are copied into the domain's pages.
    Copy(&'a [u8]),
    /// The machine frames behind the initrd's pages hold them already.
    InPlace,
}

/// What the first domain is told.
#[derive(Clone, Copy, Debug)]
pub struct StartOfDay<'a> {
    /// Machine address of its shared info page.
    pub shared_info: u64,
    /// Its command line, without a terminating zero.
    pub command_line: &'a [u8],
    /// The initrd; of no effect if the layout has none.
    pub initrd: Initrd<'a>,
    /// The screen that the boot loader left, if there is one.
    pub vga: Option<&'a Dom0VgaConsoleInfo>,
}

/// State of the first virtual CPU at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartState {
    /// Instruction pointer.
    pub rip: u64,
    /// Stack pointer: the end of the boot stack.
    pub rsp: u64,
    /// Virtual address of the start info page.
    pub rsi: u64,
    /// Frame of the level-4 table.
    pub root_pfn: u64,
    /// Bytes at the end of the command line that did not fit.
    pub command_line_cut: usize,
}

/// Why the plan could not be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// The plan was made for an initrd of another size.
    InitrdSize {
        /// Bytes planned.
        planned: u64,
        /// Bytes given.
        given: u64,
    },
    /// The plan was made for another kernel.
    WrongKernel,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InitrdSize { planned, given } => write!(
                f,
                "the initrd has {given} bytes, but the layout was made for {planned}"
            ),
            Self::WrongKernel => write!(f, "the layout was made for another kernel"),
        }
    }
}

impl core::error::Error for BuildError {}

/// Writes everything the plan names: kernel, initrd, p2m list, page tables, start info.
///
/// The page tables contain no writable mapping of a page table. Frames of the tables, for whoever
/// validates them, are in `layout.tables`.
///
/// # Errors
/// The plan does not belong to the kernel or to the initrd.
pub fn build<M: DomainMemory>(
    kernel: &PvKernel<'_>,
    layout: &Layout,
    start: &StartOfDay<'_>,
    memory: &mut M,
) -> Result<StartState, BuildError> {
    if kernel.virt_base != layout.virt_base
        || kernel.end > layout.kernel.end().saturating_mul(PAGE_SIZE)
    {
        return Err(BuildError::WrongKernel);
    }
    write_initrd(layout, &start.initrd, memory)?;
    write_start_info(layout, start, memory);
    for segment in &kernel.segments {
        write_segment(segment, memory);
    }
    if let Some(page) = kernel.hypercall_page {
        write_hypercall_page(layout, page, memory);
    }
    write_p2m(layout, memory);
    write_tables(layout, memory);
    memory.zero(layout.stack.pfn);
    Ok(StartState {
        rip: kernel.entry,
        rsp: layout.virt(layout.stack.end()),
        rsi: layout.virt(layout.start_info.pfn),
        root_pfn: layout.page_tables.pfn,
        command_line_cut: start
            .command_line
            .len()
            .saturating_sub(MAX_GUEST_CMDLINE - 1),
    })
}

/// Bytes of a page that lie in `first..end`, as offsets in the page.
fn part_of_page(pfn: u64, first: u64, end: u64) -> (usize, usize) {
    let page = pfn << PAGE_SHIFT;
    let from = first.max(page).min(page + PAGE_SIZE) - page;
    let to = end.max(page).min(page + PAGE_SIZE) - page;
    (from as usize, to.max(from) as usize)
}

static ZEROES: [u8; PAGE_BYTES] = [0; PAGE_BYTES];

/// Copies a segment's data and zeroes the rest of it.
fn write_segment<M: DomainMemory>(segment: &Segment<'_>, memory: &mut M) {
    copy_bytes(segment.paddr, segment.data, memory);
    let bss = segment.paddr + segment.data.len() as u64;
    for pfn in (bss >> PAGE_SHIFT)..segment.end().div_ceil(PAGE_SIZE) {
        match part_of_page(pfn, bss, segment.end()) {
            (0, PAGE_BYTES) => memory.zero(pfn),
            (from, to) => memory.write(pfn, from, &ZEROES[..to - from]),
        }
    }
}

/// Copies bytes to a pseudo-physical address.
fn copy_bytes<M: DomainMemory>(paddr: u64, mut bytes: &[u8], memory: &mut M) {
    let mut pfn = paddr >> PAGE_SHIFT;
    let mut offset = (paddr % PAGE_SIZE) as usize;
    while !bytes.is_empty() {
        let (page, rest) = bytes.split_at(bytes.len().min(PAGE_BYTES - offset));
        memory.write(pfn, offset, page);
        bytes = rest;
        pfn += 1;
        offset = 0;
    }
}

fn write_initrd<M: DomainMemory>(
    layout: &Layout,
    initrd: &Initrd<'_>,
    memory: &mut M,
) -> Result<(), BuildError> {
    let (Some(extent), Initrd::Copy(bytes)) = (layout.initrd.extent(), initrd) else {
        return Ok(());
    };
    if bytes.len() as u64 != layout.initrd_len {
        return Err(BuildError::InitrdSize {
            planned: layout.initrd_len,
            given: bytes.len() as u64,
        });
    }
    copy_bytes(extent.pfn << PAGE_SHIFT, bytes, memory);
    let used = bytes.len() % PAGE_BYTES;
    if used != 0 {
        memory.write(extent.end() - 1, used, &ZEROES[used..]);
    }
    Ok(())
}

fn write_hypercall_page<M: DomainMemory>(layout: &Layout, address: u64, memory: &mut M) {
    let mut page = [0; PAGE_BYTES];
    hypercall_page(&mut page);
    memory.write((address - layout.virt_base) >> PAGE_SHIFT, 0, &page);
}

/// Writes the machine frame of every page of the domain.
fn write_p2m<M: DomainMemory>(layout: &Layout, memory: &mut M) {
    let mut entries = [0u64; ENTRIES as usize];
    for (page, list_pfn) in (0u64..).zip(layout.p2m.list.pfns()) {
        let first = page * ENTRIES;
        let last = layout.nr_pages.min(first + ENTRIES);
        // What is left of the last page names no frame.
        entries.fill(u64::MAX);
        for (entry, pfn) in entries.iter_mut().zip(first..last) {
            *entry = memory.mfn(pfn);
        }
        memory.write_entries(list_pfn, 0, &entries);
    }
}

/// Writes all page tables: zero first, then what they point to, from the root down.
fn write_tables<M: DomainMemory>(layout: &Layout, memory: &mut M) {
    for frames in layout.tables.frames() {
        for pfn in frames.pfns {
            memory.zero(pfn);
        }
    }
    for level in [Level::L4, Level::L3, Level::L2] {
        let Some(below) = level.below() else { continue };
        for span in layout.tables.spans(below) {
            for at in 0..span.count {
                let index = span.first + at;
                let entry = leaf(memory.mfn(span.pfn + at), entry_flags::READ_WRITE);
                if let Some(table) = layout.tables.frame(level, index / ENTRIES) {
                    memory.write_entries(table, slot(index), &[entry]);
                }
            }
        }
    }
    map_pages(layout, layout.virt_base, 0, layout.mapped_pages, memory);
    if layout.p2m.list.pfn >= layout.mapped_pages {
        let list = layout.p2m.list;
        map_pages(layout, layout.p2m.virt, list.pfn, list.pages, memory);
    }
}

fn leaf(mfn: u64, flags: u64) -> u64 {
    (mfn << PAGE_SHIFT) | flags
}

/// Maps `pages` frames from `pfn` on at `virt`: page tables read-only, everything else writable.
fn map_pages<M: DomainMemory>(layout: &Layout, virt: u64, pfn: u64, pages: u64, memory: &mut M) {
    let first = Level::first_page(virt);
    let mut entries = [0u64; ENTRIES as usize];
    let mut done = 0;
    while done < pages {
        let page = first + done;
        let start = slot(page);
        let count = (ENTRIES as usize - start).min((pages - done) as usize);
        for (entry, pfn) in entries[..count].iter_mut().zip(pfn + done..) {
            let flags = if layout.tables.contains(pfn) {
                entry_flags::READ_ONLY
            } else {
                entry_flags::READ_WRITE
            };
            *entry = leaf(memory.mfn(pfn), flags);
        }
        if let Some(table) = layout.tables.frame(Level::L1, page / ENTRIES) {
            memory.write_entries(table, start, &entries[..count]);
        }
        done += count as u64;
    }
}

/// Where the screen description stands in the start info page.
const VGA_OFFSET: usize = size_of::<StartInfo>();
const _: () = assert!(VGA_OFFSET + size_of::<Dom0VgaConsoleInfo>() <= PAGE_BYTES);

/// Writes the start info page with the screen description behind it.
fn write_start_info<M: DomainMemory>(layout: &Layout, start: &StartOfDay<'_>, memory: &mut M) {
    let mut info = StartInfo {
        nr_pages: layout.nr_pages,
        shared_info: start.shared_info,
        flags: SIF_PRIVILEGED | SIF_INITDOMAIN,
        pt_base: layout.virt(layout.page_tables.pfn),
        nr_pt_frames: layout.page_tables.pages,
        mfn_list: layout.p2m.virt,
        first_p2m_pfn: layout.p2m.with_tables.pfn,
        nr_p2m_frames: layout.p2m.with_tables.pages,
        ..StartInfo::default()
    };
    copy_start(&mut info.magic, START_INFO_MAGIC);
    let line = start.command_line;
    copy_start(
        &mut info.cmd_line,
        &line[..line.len().min(MAX_GUEST_CMDLINE - 1)],
    );
    match layout.initrd {
        InitrdPlace::None => {}
        InitrdPlace::Mapped(extent) => {
            info.mod_start = layout.virt(extent.pfn);
            info.mod_len = layout.initrd_len;
        }
        InitrdPlace::Unmapped(extent) => {
            info.flags |= SIF_MOD_START_PFN;
            info.mod_start = extent.pfn;
            info.mod_len = layout.initrd_len;
        }
    }
    if start.vga.is_some() {
        let console = StartInfoConsoleDom0 {
            info_off: VGA_OFFSET as u32,
            info_size: size_of::<Dom0VgaConsoleInfo>() as u32,
        };
        copy_start(info.console.as_mut_bytes(), console.as_bytes());
    }
    memory.zero(layout.start_info.pfn);
    memory.write(layout.start_info.pfn, 0, info.as_bytes());
    if let Some(vga) = start.vga {
        memory.write(layout.start_info.pfn, VGA_OFFSET, vga.as_bytes());
    }
}

/// Copies `from` to the start of `to`, which is at least as long.
fn copy_start(to: &mut [u8], from: &[u8]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = *from;
    }
}
