//! The final address space: built once from the memory map, with the real permissions.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::memmap::MemoryMap;
use hv_core::mm::{Frame, Owner, PtMachine};

use super::host::{self, HW};
use super::layout::{DIRECT_LIMIT, DIRECT_MAP, FRAME_TABLE, M2P_GUEST, M2P_OURS, phys_of};
use super::pages;
use super::paging::{self, Largest, flag, map};
use super::start::short_of_ram;

// SAFETY: the linker script defines them; they are used as addresses.
unsafe extern "C" {
    static image_start: [u8; 0];
    static text_start: [u8; 0];
    static text_end: [u8; 0];
    static rodata_start: [u8; 0];
    static rodata_end: [u8; 0];
    static data_start: [u8; 0];
    static bss_end: [u8; 0];
}

/// Bytes of a 2 MiB page.
const LARGE: u64 = 2 << 20;
/// Frames whose entries fit into 2 MiB of the frame table.
const FRAMES_PER_CHUNK: u64 = LARGE / size_of::<Frame>() as u64;
/// Frames whose entries fit into 2 MiB of the M2P.
const M2P_PER_CHUNK: u64 = LARGE / 8;

/// The image's place in memory.
pub fn image() -> (PhysAddr, u64) {
    let start = (&raw const image_start) as u64;
    (phys_of(start), (&raw const bss_end) as u64 - start)
}

/// Maps the image and all RAM, and leaves the boot's tables.
pub fn map_ram(memory: &MemoryMap) {
    paging::create_master();
    map_image();
    map_direct(memory);
    paging::load_master();
}

/// What [`build`] has made.
pub struct FrameTables {
    /// Frames of the M2P, one for each GiB that has RAM.
    pub m2p: Vec<Option<Mfn>>,
    /// Runs of frames that were left over and are not the boot allocator's any more.
    pub spare: Vec<Range<u64>>,
}

/// Makes the tables that have an entry for each frame.
pub fn build(memory: &MemoryMap) -> FrameTables {
    let mut spare = Vec::new();
    map_frame_table(memory, &mut spare);
    let m2p = map_m2p(memory, &mut spare);
    host::set_frames(memory.max_page());
    mark_holes(memory);
    for first in m2p.iter().flatten() {
        for frame in first.0..first.0 + LARGE / PAGE_SIZE as u64 {
            let taken = HW.frame(Mfn(frame)).map(|f| f.assign(Owner::Xen));
            debug_assert_eq!(taken, Some(Ok(())), "frames of the M2P are RAM of ours");
        }
    }
    FrameTables { m2p, spare }
}

/// Pages that the tables of all frames take.
pub fn table_pages() -> u64 {
    CHUNKS.load(Ordering::Relaxed) * LARGE / PAGE_SIZE as u64
}

/// The image by sections: text to run, rodata to read, the rest to write.
fn map_image() {
    let bounds = [
        (
            &raw const image_start as u64,
            &raw const text_start as u64,
            flag::RODATA,
        ),
        (
            &raw const text_start as u64,
            &raw const text_end as u64,
            flag::TEXT,
        ),
        (
            &raw const rodata_start as u64,
            &raw const rodata_end as u64,
            flag::RODATA,
        ),
        (
            &raw const data_start as u64,
            &raw const bss_end as u64,
            flag::DATA,
        ),
    ];
    for (start, end, flags) in bounds {
        map(start, phys_of(start), end - start, flags, Largest::Small);
    }
}

/// RAM and what firmware keeps in RAM, writable but for our own text and rodata.
fn map_direct(memory: &MemoryMap) {
    // The first MiB whole: BIOS data, video memory, ROMs.
    map(DIRECT_MAP, PhysAddr(0), 1 << 20, flag::DATA, Largest::Small);
    for part in memory.direct_parts(DIRECT_LIMIT) {
        map(
            DIRECT_MAP + part.start,
            PhysAddr(part.start),
            part.end - part.start,
            flag::DATA,
            Largest::Huge,
        );
    }
    let (start, end) = (&raw const image_start as u64, &raw const rodata_end as u64);
    paging::protect_alias(phys_of(start), end - start);
}

/// Chunks taken so far.
static CHUNKS: AtomicU64 = AtomicU64::new(0);

/// A zeroed chunk of 2 MiB for a table; what it leaves unused goes to `spare`.
fn chunk(spare: &mut Vec<Range<u64>>) -> Mfn {
    let pages = LARGE as usize / PAGE_SIZE;
    // Twice the size, to find an aligned part: the boot's allocator does not align.
    let first =
        pages::alloc_run(2 * pages - 1).unwrap_or_else(|| short_of_ram("the tables of frames"));
    let aligned = Mfn(first.0.next_multiple_of(pages as u64));
    if aligned.0 > first.0 {
        pages::free_run(first, (aligned.0 - first.0) as usize);
    }
    let (end, taken) = (aligned.0 + pages as u64, first.0 + 2 * pages as u64 - 1);
    if end < taken {
        spare.push(end..taken);
    }
    CHUNKS.fetch_add(1, Ordering::Relaxed);
    for page in 0..pages as u64 {
        pages::zero(Mfn(aligned.0 + page));
    }
    aligned
}

fn map_frame_table(memory: &MemoryMap, spare: &mut Vec<Range<u64>>) {
    let mut empty = None;
    for (index, ram) in (0..).zip(memory.chunks(FRAMES_PER_CHUNK)) {
        let frame = if ram {
            chunk(spare)
        } else {
            *empty.get_or_insert_with(|| empty_chunk(spare))
        };
        map(
            FRAME_TABLE + index * LARGE,
            frame.addr(),
            LARGE,
            flag::DATA,
            Largest::Large,
        );
    }
}

/// Entries that all say "no RAM", shared by every part of the table without RAM behind it.
fn empty_chunk(spare: &mut Vec<Range<u64>>) -> Mfn {
    let first = chunk(spare);
    let entries = super::layout::direct(first.addr()) as *const Frame;
    for index in 0..FRAMES_PER_CHUNK as usize {
        // SAFETY: the chunk is ours, zeroed, and large enough; a zeroed `Frame` is valid.
        let marked = unsafe { (*entries.add(index)).mark_io() };
        debug_assert!(marked.is_ok(), "a new entry is free");
    }
    first
}

/// Frames between RAM, and the first MiB, are devices' or firmware's.
fn mark_holes(memory: &MemoryMap) {
    for hole in memory.holes(FRAMES_PER_CHUNK) {
        for frame in hole.filter_map(|at| HW.frame(Mfn(at))) {
            let marked = frame.mark_io();
            debug_assert!(marked.is_ok(), "a new entry is free");
        }
    }
}

/// The M2P in 2 MiB pages: read-only with US for guests, writable for us. Frames without a guest frame
/// read as all ones.
fn map_m2p(memory: &MemoryMap, spare: &mut Vec<Range<u64>>) -> Vec<Option<Mfn>> {
    let mut frames = Vec::new();
    for (index, ram) in (0..).zip(memory.chunks(M2P_PER_CHUNK)) {
        if !ram {
            frames.push(None);
            continue;
        }
        let first = chunk(spare);
        for page in 0..LARGE / PAGE_SIZE as u64 {
            paging::table(Mfn(first.0 + page))
                .iter()
                .for_each(|w: &AtomicU64| w.store(u64::MAX, Ordering::Relaxed));
        }
        map(
            M2P_OURS + index * LARGE,
            first.addr(),
            LARGE,
            flag::DATA,
            Largest::Large,
        );
        map(
            M2P_GUEST + index * LARGE,
            first.addr(),
            LARGE,
            // Not global: a root of user programs may be without it.
            flag::RODATA & !flag::G | flag::US,
            Largest::Large,
        );
        frames.push(Some(first));
    }
    frames
}
