//! The machine's memory map: sorted, without overlaps, and the views others need of it.
//!
//! Firmware maps come unsorted, overlapping and now and then wrapping. [`MemoryMap::new`] makes a
//! clean one in which, where two entries disagree, the one that promises less wins (reserved over
//! usable). From it come the frames that may be allocated ([`UsableFrames`]) and the map that dom0
//! is shown (`XENMEM_machine_memory_map`).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use xen_abi::e820::E820Entry;
use xen_abi::hvm_start_info::{
    XEN_HVM_MEMMAP_TYPE_ACPI, XEN_HVM_MEMMAP_TYPE_DISABLED, XEN_HVM_MEMMAP_TYPE_NVS,
    XEN_HVM_MEMMAP_TYPE_PMEM, XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_MEMMAP_TYPE_RESERVED,
    XEN_HVM_MEMMAP_TYPE_UNUSABLE,
};

use crate::base::{Mfn, PAGE_SHIFT, PAGE_SIZE, PhysAddr};

mod plan;
#[cfg(test)]
mod tests;

/// End of the physical address space that x86-64 can address (52 bits; AMD APM vol. 2, 5.1).
pub const PHYS_LIMIT: u64 = 1 << 52;
/// First byte above the area that real-mode code and the BIOS use.
const LOW_MIB: u64 = 1 << 20;

/// What a region of physical memory may be used for. The order is that of strength: where two
/// regions overlap the greater kind wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegionKind {
    /// RAM for everybody (e820 type 1).
    Usable,
    /// Persistent memory (type 7).
    Persistent,
    /// ACPI tables, reclaimable by the dom0 kernel (type 3).
    AcpiTables,
    /// ACPI non-volatile storage (type 4).
    AcpiNvs,
    /// Reserved (type 2, and every type not known here).
    Reserved,
    /// Memory disabled by the firmware (type 6).
    Disabled,
    /// Memory with errors (type 5).
    Unusable,
}

/// All kinds, weakest first; the position is the discriminant.
const KINDS: [RegionKind; 7] = [
    RegionKind::Usable,
    RegionKind::Persistent,
    RegionKind::AcpiTables,
    RegionKind::AcpiNvs,
    RegionKind::Reserved,
    RegionKind::Disabled,
    RegionKind::Unusable,
];

impl RegionKind {
    /// From an e820 type (ACPI specification, "Address Range Types"), which is also that of the
    /// PVH memory map; unknown types are reserved.
    #[must_use]
    pub const fn from_e820(number: u32) -> Self {
        match number {
            XEN_HVM_MEMMAP_TYPE_RAM => Self::Usable,
            XEN_HVM_MEMMAP_TYPE_ACPI => Self::AcpiTables,
            XEN_HVM_MEMMAP_TYPE_NVS => Self::AcpiNvs,
            XEN_HVM_MEMMAP_TYPE_UNUSABLE => Self::Unusable,
            XEN_HVM_MEMMAP_TYPE_DISABLED => Self::Disabled,
            XEN_HVM_MEMMAP_TYPE_PMEM => Self::Persistent,
            _ => Self::Reserved,
        }
    }

    /// The e820 type, as guests are shown it.
    #[must_use]
    pub const fn e820(self) -> u32 {
        match self {
            Self::Usable => XEN_HVM_MEMMAP_TYPE_RAM,
            Self::Reserved => XEN_HVM_MEMMAP_TYPE_RESERVED,
            Self::AcpiTables => XEN_HVM_MEMMAP_TYPE_ACPI,
            Self::AcpiNvs => XEN_HVM_MEMMAP_TYPE_NVS,
            Self::Unusable => XEN_HVM_MEMMAP_TYPE_UNUSABLE,
            Self::Disabled => XEN_HVM_MEMMAP_TYPE_DISABLED,
            Self::Persistent => XEN_HVM_MEMMAP_TYPE_PMEM,
        }
    }
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usable => "usable",
            Self::Reserved => "reserved",
            Self::AcpiTables => "ACPI data",
            Self::AcpiNvs => "ACPI NVS",
            Self::Unusable => "unusable",
            Self::Disabled => "disabled",
            Self::Persistent => "persistent",
        })
    }
}

/// One entry of a memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemRegion {
    /// First byte.
    pub base: PhysAddr,
    /// Length in bytes.
    pub len: u64,
    /// What it may be used for.
    pub kind: RegionKind,
}

impl MemRegion {
    /// First byte after the region; saturates.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.base.0.saturating_add(self.len)
    }
}

impl From<MemRegion> for E820Entry {
    /// The region as guests are shown it.
    fn from(region: MemRegion) -> Self {
        Self {
            addr: region.base.0,
            size: region.len,
            r#type: region.kind.e820(),
        }
    }
}

impl fmt::Display for MemRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.end().saturating_sub(1);
        write!(f, "[{:016x}, {last:016x}] ({})", self.base.0, self.kind)
    }
}

/// Something wrong with an entry of the firmware's map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapWarning {
    /// The entry reaches beyond the addressable space; it was cut there.
    BeyondLimit(MemRegion),
    /// Two entries of different kinds overlap in this range; the stronger kind holds.
    Overlap(MemRegion),
}

impl fmt::Display for MapWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeyondLimit(region) => write!(
                f,
                "memory map: entry at {:#x} of {:#x} bytes ({}) reaches beyond the address space and is cut",
                region.base, region.len, region.kind
            ),
            Self::Overlap(region) => {
                write!(f, "memory map: entries overlap at {region}, which is taken")
            }
        }
    }
}

/// A memory map that is sorted, free of overlaps and of empty entries, with equal neighbours joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryMap {
    regions: Vec<MemRegion>,
}

impl MemoryMap {
    /// Makes a map of the firmware's entries, in any order. Everything from `limit` (bytes; the
    /// CPU's physical address width, at most [`PHYS_LIMIT`]) on is cut off.
    #[must_use]
    pub fn new(entries: &[MemRegion], limit: u64) -> (Self, Vec<MapWarning>) {
        let limit = limit.min(PHYS_LIMIT);
        let mut warnings = Vec::new();
        let mut edges = Vec::with_capacity(entries.len() * 2);
        for entry in entries.iter().filter(|entry| entry.len != 0) {
            let end = entry.base.0.checked_add(entry.len);
            if end.is_none_or(|end| end > limit) {
                warnings.push(MapWarning::BeyondLimit(*entry));
            }
            let end = end.unwrap_or(limit).min(limit);
            if entry.base.0 < end {
                edges.push((entry.base.0, entry.kind, Edge::Begin));
                edges.push((end, entry.kind, Edge::End));
            }
        }
        edges.sort_unstable_by_key(|edge| edge.0);
        let map = sweep(&edges, &mut warnings);
        (map, warnings)
    }

    /// The entries, ascending.
    #[must_use]
    pub fn regions(&self) -> &[MemRegion] {
        &self.regions
    }

    /// Whole usable pages, as ascending ranges of frames; a page that is usable only in part is
    /// left out.
    pub fn usable(&self) -> impl Iterator<Item = Range<Mfn>> + '_ {
        self.regions
            .iter()
            .filter(|region| region.kind == RegionKind::Usable)
            .map(|region| {
                Mfn(region.base.0.div_ceil(PAGE_SIZE as u64))..Mfn(region.end() >> PAGE_SHIFT)
            })
            .filter(|frames| frames.start < frames.end)
    }

    /// Usable frames in all.
    #[must_use]
    pub fn total_frames(&self) -> u64 {
        self.usable().map(|run| run.end.0 - run.start.0).sum()
    }

    /// One more than the highest usable frame: what tables indexed by frame must cover.
    #[must_use]
    pub fn max_page(&self) -> u64 {
        self.usable().last().map_or(0, |run| run.end.0)
    }

    /// The kind of the byte at `addr`, or `None` in a hole.
    #[must_use]
    pub fn kind_at(&self, addr: PhysAddr) -> Option<RegionKind> {
        let after = self.regions.partition_point(|region| region.base <= addr);
        let region = self.regions.get(after.checked_sub(1)?)?;
        (addr.0 < region.end()).then_some(region.kind)
    }

    /// Adds `base..base + len` as reserved where the map says nothing, and leaves what it does
    /// say alone. For devices that the hypervisor keeps and firmware did not mention: the local
    /// APIC's page, those of the I/O APICs, the range of message interrupts.
    pub fn reserve_holes(&mut self, base: PhysAddr, len: u64) {
        let end = base.0.saturating_add(len).min(PHYS_LIMIT);
        let mut at = base.0;
        let mut added = Vec::new();
        for region in &self.regions {
            if at >= end {
                break;
            }
            if region.base.0 > at {
                added.push(at..region.base.0.min(end));
            }
            at = at.max(region.end());
        }
        if at < end {
            added.push(at..end);
        }
        self.regions.extend(added.into_iter().map(|hole| MemRegion {
            base: PhysAddr(hole.start),
            len: hole.end - hole.start,
            kind: RegionKind::Reserved,
        }));
        self.regions.sort_unstable_by_key(|region| region.base);
    }

    /// The map for dom0 (`XENMEM_machine_memory_map`): this one with the pages of the local APIC
    /// (its 1 MiB of message interrupt addresses) and of the I/O APICs reserved.
    #[must_use]
    pub fn machine_map(&self, local_apic: PhysAddr, io_apics: &[PhysAddr]) -> Self {
        let mut map = self.clone();
        for page in io_apics {
            map.reserve_holes(page.mfn().addr(), PAGE_SIZE as u64);
        }
        map.reserve_holes(local_apic.mfn().addr(), PAGE_SIZE as u64);
        map.reserve_holes(MSI_BASE, MSI_LEN);
        map.join();
        map
    }

    /// Joins neighbours of one kind.
    fn join(&mut self) {
        self.regions.dedup_by(|next, kept| {
            let joins = kept.kind == next.kind && kept.end() == next.base.0;
            if joins {
                kept.len += next.len;
            }
            joins
        });
    }
}

/// Where writes are message signalled interrupts (Intel SDM vol. 3, "Message Address Register").
const MSI_BASE: PhysAddr = PhysAddr(0xfee0_0000);
/// Bytes of that range.
const MSI_LEN: u64 = 0x10_0000;

/// The size of all usable RAM, printed as the boot log has it: `2559MB (2620924kB)`.
pub struct RamSize(
    /// Usable frames.
    pub u64,
);

impl fmt::Display for RamSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kib = self.0 << (PAGE_SHIFT - 10);
        write!(f, "{}MB ({kib}kB)", kib >> 10)
    }
}

/// Which end of a region an edge is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Begin,
    End,
}

/// Walks sorted edges and emits the strongest kind that is open between each two of them.
fn sweep(edges: &[(u64, RegionKind, Edge)], warnings: &mut Vec<MapWarning>) -> MemoryMap {
    let mut open = [0_usize; KINDS.len()];
    let mut map = MemoryMap::default();
    let mut from = 0;
    for &(at, kind, edge) in edges {
        if at > from {
            let strongest = KINDS.iter().rev().find(|&&kind| open[kind as usize] > 0);
            if let Some(&kind) = strongest {
                let region = MemRegion {
                    base: PhysAddr(from),
                    len: at - from,
                    kind,
                };
                if open.iter().filter(|&&count| count > 0).count() > 1 {
                    warnings.push(MapWarning::Overlap(region));
                }
                map.regions.push(region);
            }
            from = at;
        }
        match edge {
            Edge::Begin => open[kind as usize] += 1,
            Edge::End => open[kind as usize] -= 1,
        }
    }
    map.join();
    map
}

/// Frames that may be handed to the page allocator: usable RAM less what is already taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsableFrames {
    runs: Vec<Range<u64>>,
}

impl UsableFrames {
    /// All whole usable pages of `map`.
    #[must_use]
    pub fn new(map: &MemoryMap) -> Self {
        let runs = map.usable().map(|run| run.start.0..run.end.0).collect();
        Self { runs }
    }

    /// Takes out every page that `base..base + len` touches: the hypervisor's image, modules, the
    /// loader's structures. Bytes that are not usable anyway do not matter.
    pub fn carve_out(&mut self, base: PhysAddr, len: u64) {
        let end = base.0.saturating_add(len);
        let out = base.mfn().0..end.div_ceil(PAGE_SIZE as u64);
        if len == 0 {
            return;
        }
        let split = |run: Range<u64>| {
            let below = run.start..run.end.min(out.start);
            let above = run.start.max(out.end)..run.end;
            [below, above]
        };
        self.runs = core::mem::take(&mut self.runs)
            .into_iter()
            .flat_map(split)
            .filter(|run| run.start < run.end)
            .collect();
    }

    /// Takes out the first MiB, where the BIOS, its data and the code that starts other CPUs live.
    pub fn carve_out_low_mib(&mut self) {
        self.carve_out(PhysAddr(0), LOW_MIB);
    }

    /// The highest `count` free frames in a row below 1 MiB, for code that a CPU runs in real
    /// mode. Frame 0 is never given: it holds the BIOS data area.
    #[must_use]
    pub fn find_low(&self, count: u64) -> Option<Mfn> {
        let top = LOW_MIB >> PAGE_SHIFT;
        self.runs.iter().rev().find_map(|run| {
            let start = run.end.min(top).checked_sub(count)?;
            (start >= run.start.max(1)).then_some(Mfn(start))
        })
    }

    /// The runs of frames, ascending.
    pub fn runs(&self) -> impl Iterator<Item = Range<Mfn>> + '_ {
        self.runs.iter().map(|run| Mfn(run.start)..Mfn(run.end))
    }

    /// Frames in all.
    #[must_use]
    pub fn total_frames(&self) -> u64 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }
}
