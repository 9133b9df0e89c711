//! What the hypervisor's tables of frames and its direct map must cover: chunks, holes and parts.

use core::ops::Range;

use super::{MemoryMap, RegionKind};
use crate::base::PAGE_SIZE;

/// First byte above the area that the direct map has whole, whatever the map says.
const LOW: u64 = 1 << 20;
const PAGE: u64 = PAGE_SIZE as u64;

impl MemoryMap {
    /// Whether any frame of `frames` is RAM.
    #[must_use]
    pub fn has_ram(&self, frames: Range<u64>) -> bool {
        self.usable()
            .any(|run| run.start.0 < frames.end && run.end.0 > frames.start)
    }

    /// The chunks of a table with an entry for each frame up to [`MemoryMap::max_page`], each of `frames`
    /// entries: whether there is RAM behind it, else it needs no memory of its own.
    pub fn chunks(&self, frames: u64) -> impl Iterator<Item = bool> + '_ {
        (0..self.max_page().div_ceil(frames))
            .map(move |index| self.has_ram(index * frames..(index + 1) * frames))
    }

    /// Runs of frames that are no RAM of ours to give, in the chunks that have RAM: holes, and the first MiB.
    /// A run lies in one chunk.
    pub fn holes(&self, frames: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let low = LOW / PAGE;
        let mut next = 0;
        self.usable()
            .filter_map(move |run| {
                let start = run.start.0.max(low);
                if start >= run.end.0 {
                    return None;
                }
                let hole = next..start;
                next = run.end.0;
                Some(hole)
            })
            .flat_map(move |hole| by_chunk(hole, frames))
            .filter(move |part| {
                let chunk = part.start / frames;
                self.has_ram(chunk * frames..(chunk + 1) * frames)
            })
    }

    /// The parts of memory below `limit` that the direct map has beside the first MiB, in whole pages: RAM,
    /// and what firmware keeps in RAM.
    pub fn direct_parts(&self, limit: u64) -> impl Iterator<Item = Range<u64>> + '_ {
        let keep = |kind| {
            matches!(
                kind,
                RegionKind::Usable | RegionKind::AcpiTables | RegionKind::AcpiNvs
            )
        };
        self.regions()
            .iter()
            .filter(move |region| keep(region.kind))
            .map(move |region| {
                let start = region.base.0.max(LOW) & !(PAGE - 1);
                start..region.end().min(limit).next_multiple_of(PAGE)
            })
            .filter(|part| part.start < part.end)
    }
}

/// Cuts a run where chunks begin.
fn by_chunk(run: Range<u64>, frames: u64) -> impl Iterator<Item = Range<u64>> {
    let mut at = run.start;
    core::iter::from_fn(move || {
        let start = at;
        at = ((start / frames + 1) * frames).min(run.end);
        (start < run.end).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::base::PhysAddr;
    use crate::boot::memmap::MemRegion;

    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    /// Bytes of an entry of the frame table.
    const ENTRY: u64 = 32;
    /// Entries of the frame table and of the M2P in 2 MiB.
    const FRAMES: u64 = (2 << 20) / ENTRY;
    const M2P: u64 = (2 << 20) / 8;

    fn map(parts: &[(u64, u64, RegionKind)]) -> MemoryMap {
        let entries: Vec<_> = parts
            .iter()
            .map(|&(base, end, kind)| MemRegion {
                base: PhysAddr(base),
                len: end - base,
                kind,
            })
            .collect();
        let (map, warnings) = MemoryMap::new(&entries, 4 * TIB);
        assert!(warnings.is_empty(), "{warnings:?}");
        map
    }

    /// A server's 4 TiB less holes: PCI below 4 GiB, one between two sockets, one below 1 TiB as on machines
    /// with HyperTransport, and the end reserved by firmware.
    fn four_tib() -> MemoryMap {
        use RegionKind::{AcpiNvs, AcpiTables, Reserved, Usable};
        map(&[
            (0, 0x9_f000, Usable),
            (0x9_f000, 0x10_0000, Reserved),
            (0x10_0000, 0x7fef_0000, Usable),
            (0x7fef_0000, 0x7fff_0000, AcpiTables),
            (0x7fff_0000, 0x8000_0000, AcpiNvs),
            (0xe000_0000, 0xf000_0000, Reserved),
            (0xfec0_0000, 4 * GIB, Reserved),
            (4 * GIB, 512 * GIB, Usable),
            (640 * GIB, 0xfd_0000_0000, Usable),
            (0xfd_0000_0000, TIB, Reserved),
            (TIB, 4 * TIB - 3 * GIB, Usable),
            (4 * TIB - 3 * GIB, 4 * TIB, Reserved),
        ])
    }

    /// Entries of each frame, as the tables that are built would have them.
    fn check(map: &MemoryMap) {
        let chunks: Vec<_> = map.chunks(FRAMES).collect();
        assert_eq!(chunks.len() as u64, map.max_page().div_ceil(FRAMES));
        // All RAM has entries of its own.
        for run in map.usable() {
            for chunk in run.start.0 / FRAMES..run.end.0.div_ceil(FRAMES) {
                assert!(chunks[chunk as usize]);
            }
        }
        // In these chunks every frame is either RAM above the first MiB or in just one hole.
        let holes: Vec<_> = map.holes(FRAMES).collect();
        for pair in holes.windows(2) {
            assert!(pair[0].end <= pair[1].start);
        }
        for hole in &holes {
            assert!(chunks[(hole.start / FRAMES) as usize]);
            assert_eq!(hole.start / FRAMES, (hole.end - 1) / FRAMES);
            assert!(hole.end <= 256 || !map.has_ram(hole.start.max(256)..hole.end));
        }
        let ram: u64 = map
            .usable()
            .map(|run| run.end.0.saturating_sub(run.start.0.max(256)))
            .sum();
        let marked: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        let whole = chunks.iter().filter(|ram| **ram).count() as u64 * FRAMES;
        let beyond = chunks.len() as u64 * FRAMES - map.max_page();
        assert_eq!(ram + marked, whole - beyond);
    }

    #[test]
    fn four_tib_with_holes() {
        let map = four_tib();
        assert_eq!(map.max_page(), (4 * TIB - 3 * GIB) / PAGE);
        check(&map);
        // The holes cost nothing: 32 and 8 bytes for each frame of RAM, and what chunks round up.
        let ram = map.total_frames();
        let taken = |frames: u64| map.chunks(frames).filter(|ram| *ram).count() as u64 * (2 << 20);
        let slack = map.usable().count() as u64 * (4 << 20);
        assert!(taken(FRAMES) <= ram * ENTRY + slack);
        assert!(taken(M2P) <= ram * 8 + slack);
        assert!(map.chunks(FRAMES).any(|ram| !ram));
        // Each table fits into its slot of 512 GiB.
        assert!(map.max_page() * ENTRY <= 512 * GIB);
        // The direct map: the ACPI tables behind the low RAM, nothing of devices, nothing beyond.
        let direct: Vec<_> = map.direct_parts(4 * TIB).collect();
        assert_eq!(
            direct,
            [
                0x10_0000..0x7fef_0000,
                0x7fef_0000..0x7fff_0000,
                0x7fff_0000..0x8000_0000,
                4 * GIB..512 * GIB,
                640 * GIB..0xfd_0000_0000,
                TIB..4 * TIB - 3 * GIB,
            ]
        );
    }

    #[test]
    fn other_layouts() {
        use RegionKind::{Reserved, Usable};
        let pc = |size: u64| {
            let low = size.min(3 * GIB);
            let mut parts = alloc::vec![
                (0, 0x9_fc00, Usable),
                (0x9_fc00, 0xa_0000, Reserved),
                (0x10_0000, low - 0x2_0000, Usable),
                (low - 0x2_0000, low, Reserved),
            ];
            if size > low {
                parts.push((4 * GIB, 4 * GIB + size - low, Usable));
            }
            map(&parts)
        };
        for size in [GIB / 2, GIB, 2 * GIB, 8 * GIB, 64 * GIB, TIB] {
            check(&pc(size));
        }
        // RAM that begins and ends inside a chunk, with a hole of one page.
        check(&map(&[
            (0x10_0000, 0x123_4000, Usable),
            (0x123_5000, 0x1765_4000, Usable),
            (0x2000_3000, 0x2000_4000, Usable),
        ]));
        check(&map(&[]));
        // Only the first MiB.
        assert_eq!(map(&[(0, 0x9_f000, Usable)]).holes(FRAMES).count(), 0);
    }

    #[test]
    fn what_lies_beyond_four_tib_is_cut() {
        let entries = [MemRegion {
            base: PhysAddr(TIB),
            len: 7 * TIB,
            kind: RegionKind::Usable,
        }];
        let (map, warnings) = MemoryMap::new(&entries, 4 * TIB);
        assert_eq!(map.max_page(), 4 * TIB / PAGE);
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].to_string().contains("beyond"));
    }
}
