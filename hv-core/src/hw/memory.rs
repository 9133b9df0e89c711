//! The final address space: built once from the memory map, with the real permissions.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_core::base::{Mfn, PAGE_SIZE, PhysAddr};
use hv_core::boot::memmap::{MemoryMap, RegionKind};
use hv_core::mm::{Frame, Owner, PtMachine};

use super::host::{self, HW};
use super::layout::{DIRECT_LIMIT, DIRECT_MAP, FRAME_TABLE, IMAGE_WINDOW, M2P_GUEST, M2P_OURS};
use super::pages;
use super::paging::{self, Largest, flag, map};
use super::start::short_of_ram;

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
    (
        PhysAddr(start - IMAGE_WINDOW),
        (&raw const bss_end) as u64 - start,
    )
}

/// Maps the image and all RAM, and leaves the boot's tables.
pub fn map_ram(memory: &MemoryMap) {
    paging::create_master();
    map_image();
    map_direct(memory);
    paging::load_master();
}

/// The tables that have an entry for each frame.
pub struct Tables {
    /// The first frames of the M2P's pages, one for each GiB that has RAM.
    pub m2p: Vec<Option<Mfn>>,
    /// What aligning them left over.
    pub spare: Range<Mfn>,
}

/// Makes the tables.
pub fn build(memory: &MemoryMap) -> Tables {
    let mut chunks = Chunks::take(chunks_wanted(memory));
    map_frame_table(memory, &mut chunks);
    let m2p = map_m2p(memory, &mut chunks);
    host::set_frames(memory.max_page());
    mark_holes(memory);
    for first in m2p.iter().flatten() {
        for frame in first.0..first.0 + LARGE / PAGE_SIZE as u64 {
            let taken = HW.frame(Mfn(frame)).map(|f| f.assign(Owner::Xen));
            debug_assert_eq!(taken, Some(Ok(())), "frames of the M2P are RAM of ours");
        }
    }
    Tables {
        m2p,
        spare: chunks.spare,
    }
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
        map(
            start,
            PhysAddr(start - IMAGE_WINDOW),
            end - start,
            flags,
            Largest::Small,
        );
    }
}

/// RAM and what firmware keeps in RAM, writable but for our own text and rodata.
fn map_direct(memory: &MemoryMap) {
    // The first MiB whole: BIOS data, video memory, ROMs.
    map(DIRECT_MAP, PhysAddr(0), 1 << 20, flag::DATA, Largest::Small);
    for region in memory.regions() {
        let keep = matches!(
            region.kind,
            RegionKind::Usable | RegionKind::AcpiTables | RegionKind::AcpiNvs
        );
        let start = region.base.0.max(1 << 20) & !(PAGE_SIZE as u64 - 1);
        let end = region
            .end()
            .min(DIRECT_LIMIT)
            .next_multiple_of(PAGE_SIZE as u64);
        if keep && start < end {
            map(
                DIRECT_MAP + start,
                PhysAddr(start),
                end - start,
                flag::DATA,
                Largest::Huge,
            );
        }
    }
    let (start, end) = (&raw const image_start as u64, &raw const rodata_end as u64);
    paging::protect_alias(PhysAddr(start - IMAGE_WINDOW), end - start);
}

/// Whether any frame of `first..first + count` is RAM.
fn has_ram(memory: &MemoryMap, first: u64, count: u64) -> bool {
    memory
        .usable()
        .any(|run| run.start.0 < first + count && run.end.0 > first)
}

/// How many pages of 2 MiB the tables take.
fn chunks_wanted(memory: &MemoryMap) -> usize {
    let with_ram = |frames: u64| {
        let all = memory.max_page().div_ceil(frames);
        let used = (0..all).filter(|index| has_ram(memory, index * frames, frames));
        (used.count(), all as usize)
    };
    let ((frame_table, all), (m2p, _)) = (with_ram(FRAMES_PER_CHUNK), with_ram(M2P_PER_CHUNK));
    frame_table + usize::from(frame_table < all) + m2p
}

/// Pages of 2 MiB, taken all at once: the boot's allocator does not align.
struct Chunks {
    next: u64,
    left: usize,
    /// What is left over above them.
    spare: Range<Mfn>,
}

impl Chunks {
    const PAGES: u64 = LARGE / PAGE_SIZE as u64;

    fn take(count: usize) -> Self {
        let pages = Self::PAGES as usize;
        let all = (count + 1) * pages - 1;
        let first = pages::alloc_run(all).unwrap_or_else(|| short_of_ram("the tables of frames"));
        let next = first.0.next_multiple_of(Self::PAGES);
        let (used, end) = (next + count as u64 * Self::PAGES, first.0 + all as u64);
        // It was the last that was taken, so what lies below goes back.
        pages::free_run(first, (next - first.0) as usize);
        Self {
            next,
            left: count,
            spare: Mfn(used)..Mfn(end),
        }
    }

    /// The next one, of zeros.
    fn next(&mut self) -> Mfn {
        let Some(left) = self.left.checked_sub(1) else {
            short_of_ram("the tables of frames")
        };
        let first = self.next;
        (self.left, self.next) = (left, first + Self::PAGES);
        for page in first..self.next {
            pages::zero(Mfn(page));
        }
        Mfn(first)
    }
}

fn map_frame_table(memory: &MemoryMap, chunks: &mut Chunks) {
    let mut empty = None;
    for index in 0..memory.max_page().div_ceil(FRAMES_PER_CHUNK) {
        let ram = has_ram(memory, index * FRAMES_PER_CHUNK, FRAMES_PER_CHUNK);
        let frame = if ram {
            chunks.next()
        } else {
            *empty.get_or_insert_with(|| empty_chunk(chunks))
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
fn empty_chunk(chunks: &mut Chunks) -> Mfn {
    let first = chunks.next();
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
    let low = (1 << 20) / PAGE_SIZE as u64;
    let mut next = 0;
    let mark = |from: u64, to: u64| {
        let mut at = from;
        while at < to {
            let chunk = at / FRAMES_PER_CHUNK * FRAMES_PER_CHUNK;
            if has_ram(memory, chunk, FRAMES_PER_CHUNK) {
                if let Some(frame) = HW.frame(Mfn(at)) {
                    let marked = frame.mark_io();
                    debug_assert!(marked.is_ok(), "a new entry is free");
                }
                at += 1;
            } else {
                at = chunk + FRAMES_PER_CHUNK;
            }
        }
    };
    for run in memory.usable() {
        let start = run.start.0.max(low);
        if start < run.end.0 {
            mark(next, start);
            next = run.end.0;
        }
    }
}

/// The M2P in 2 MiB pages: read-only with US for guests, writable for us. Frames without a guest frame
/// read as all ones.
fn map_m2p(memory: &MemoryMap, chunks: &mut Chunks) -> Vec<Option<Mfn>> {
    let mut frames = Vec::new();
    for index in 0..memory.max_page().div_ceil(M2P_PER_CHUNK) {
        if !has_ram(memory, index * M2P_PER_CHUNK, M2P_PER_CHUNK) {
            frames.push(None);
            continue;
        }
        let first = chunks.next();
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
            flag::RODATA | flag::US,
            Largest::Large,
        );
        frames.push(Some(first));
    }
    frames
}
