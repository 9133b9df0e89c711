//! What loaders and firmware hand over may be anything: the boot parsers, used as the binary uses
//! them, must answer random memory with facts or words, within their bounds, and never panic.

use hv_core::base::{Mfn, PhysAddr};
use hv_core::boot::PhysMem;
use hv_core::boot::acpi::{AcpiFacts, find_rsdp};
use hv_core::boot::cmdline::Parsed;
use hv_core::boot::info::{
    BootInfo, MAX_MODULES, MAX_REGIONS, MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, Rsdp,
};
use hv_core::boot::memmap::{MemRegion, MemoryMap, PHYS_LIMIT, RamSize, RegionKind, UsableFrames};
use hv_core::mm::buddy::Buddy;
use proptest::prelude::*;
use xen_abi::hvm_start_info::XEN_HVM_START_MAGIC_VALUE;

/// The first MiB of a machine; nothing else is mapped.
struct LowMemory(Vec<u8>);

const SIZE: usize = 1 << 20;

impl PhysMem for LowMemory {
    fn read(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let at = usize::try_from(addr.0).ok()?;
        self.0.get(at..at.checked_add(len)?)
    }
}

impl LowMemory {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        let end = (at + bytes.len()).min(SIZE);
        if at < end {
            self.0[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }

    /// Makes the bytes from `at` add up to 0 by changing the one at `sum`.
    fn seal(&mut self, at: usize, len: usize, sum: usize) {
        let Some(bytes) = self.0.get(at..at + len) else {
            return;
        };
        let total = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
        self.0[at + sum] = self.0[at + sum].wrapping_sub(total);
    }
}

/// A 32-bit value as hostile structures have it: anything, or an address or count that leads
/// further into the parser.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        2 => any::<u32>(),
        3 => 0..64_u32,
        4 => (0..SIZE as u32).prop_map(|at| at & !7),
        1 => Just(u32::MAX),
        1 => (0..16_u32).prop_map(|bit| 1 << bit),
    ]
}

fn words() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(word(), 0..80)
        .prop_map(|words| words.iter().flat_map(|word| word.to_le_bytes()).collect())
}

/// Pieces of words at places in memory.
type Pieces = Vec<(usize, Vec<u8>)>;

fn pieces() -> impl Strategy<Value = Pieces> {
    let piece = (0..SIZE / 8, words()).prop_map(|(at, bytes)| (at * 8, bytes));
    proptest::collection::vec(piece, 1..12)
}

/// Memory of `fill` with pieces here and there.
fn memory(fill: u8, pieces: &Pieces) -> LowMemory {
    let mut mem = LowMemory(vec![fill; SIZE]);
    for (at, bytes) in pieces {
        mem.put(*at, bytes);
    }
    mem
}

/// Everything that the boot does with what the loader says.
fn boot(mem: &LowMemory, magic: u32, at: u64) {
    let info = match BootInfo::parse(mem, magic, PhysAddr(at)) {
        Ok(info) => info,
        Err(error) => {
            assert!(error.to_string().len() > 20);
            return;
        }
    };
    assert!(info.modules.len() <= MAX_MODULES);
    assert!(info.memory_map.len() <= MAX_REGIONS);
    assert!(!info.video.to_string().is_empty());
    let parsed = Parsed::new(&info.command_line);
    for module in &info.modules {
        let line = parsed.dom0_line(&module.command_line);
        assert!(line.len() >= module.command_line.len());
    }
    let (map, _) = MemoryMap::new(&info.memory_map, PHYS_LIMIT);
    let mut frames = UsableFrames::new(&map);
    for module in &info.modules {
        frames.carve_out(module.start, module.len);
    }
    frames.carve_out_low_mib();
    assert_eq!(frames.find_low(1), None);
    assert!(!RamSize(frames.total_frames()).to_string().is_empty());
    match info.rsdp {
        Some(Rsdp::Address(at)) => drop(AcpiFacts::parse(mem, at)),
        Some(Rsdp::Copy(bytes)) => drop(AcpiFacts::parse_copy(mem, &bytes)),
        None => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn random_loader_structures(
        fill in prop::sample::select(vec![0_u8, 1, b'A', 0xff]),
        pieces in pieces(),
        magic in prop::sample::select(vec![
            MULTIBOOT1_MAGIC, MULTIBOOT2_MAGIC, XEN_HVM_START_MAGIC_VALUE, 0,
        ]),
        at in 0..SIZE as u64,
        head in words(),
    ) {
        let mut mem = memory(fill, &pieces);
        let place = at as usize & !7;
        mem.put(place, &head);
        match magic {
            XEN_HVM_START_MAGIC_VALUE => mem.put(place, &magic.to_le_bytes()),
            // Sizes near the truth, so that the tags behind are looked at.
            MULTIBOOT2_MAGIC => mem.put(place, &(head.len() as u32 + 64).to_le_bytes()),
            _ => {}
        }
        boot(&mem, magic, place as u64);
        boot(&mem, magic, at);
    }

    #[test]
    fn random_acpi_tables(
        pieces in pieces(),
        tables in proptest::collection::vec(
            (prop::sample::select(vec![
                *b"APIC", *b"FACP", *b"HPET", *b"MCFG", *b"SRAT", *b"RSDT", *b"XSDT", *b"FACS",
            ]), words(), 0..4_u8),
            1..10,
        ),
        revision in 0..3_u8,
        root in any::<[u8; 36]>(),
    ) {
        let mut mem = memory(0, &pieces);
        // Tables one after the other from 64 KiB on, the first of them the list of all.
        let place = |index: usize| 0x1_0000 + index * 0x400;
        let mut list = Vec::new();
        for (index, (name, content, damage)) in tables.iter().enumerate() {
            let at = place(index + 1);
            let length = 36 + content.len() as u32 + u32::from(*damage == 1) * 4096;
            mem.put(at, name);
            mem.put(at + 4, &length.to_le_bytes());
            mem.put(at + 36, content);
            if *damage != 2 {
                mem.seal(at, length as usize, 9);
            }
            list.extend((at as u32).to_le_bytes());
        }
        list.extend((place(0) as u32).to_le_bytes());
        mem.put(place(0), b"RSDT");
        mem.put(place(0) + 4, &(36 + list.len() as u32).to_le_bytes());
        mem.put(place(0) + 36, &list);
        mem.seal(place(0), 36 + list.len(), 9);
        let at = 0xf_0000;
        mem.put(at, &root);
        mem.put(at, b"RSD PTR ");
        mem.put(at + 15, &[revision]);
        mem.put(at + 16, &(place(0) as u32).to_le_bytes());
        mem.seal(at, 20, 8);
        // Unless some random piece looks like a root pointer too, this is the one that is found.
        prop_assert!(find_rsdp(&mem).is_some());
        let (facts, warnings) = AcpiFacts::parse(&mem, PhysAddr(at as u64));
        prop_assert!(facts.root.is_some());
        prop_assert!(facts.tables.len() <= tables.len() + 3);
        for warning in &warnings {
            prop_assert!(warning.to_string().starts_with("ACPI: "));
        }
        for table in &facts.tables {
            prop_assert!(!table.to_string().is_empty());
        }
    }

    #[test]
    fn random_maps_feed_the_allocator(
        raw in proptest::collection::vec((0..1_u64 << 34, 0..1_u64 << 27, 0..8_u32), 0..30),
        holes in proptest::collection::vec((0..1_u64 << 34, 0..1_u64 << 28), 0..10),
        requests in proptest::collection::vec((0..20_u32, 0..66_u32), 0..40),
    ) {
        let entries: Vec<_> = raw.iter().map(|&(base, len, kind)| MemRegion {
            base: PhysAddr(base),
            len,
            kind: RegionKind::from_e820(kind),
        }).collect();
        let (map, _) = MemoryMap::new(&entries, 1 << 36);
        let mut frames = UsableFrames::new(&map);
        for &(base, len) in &holes {
            frames.carve_out(PhysAddr(base), len);
        }
        let mut buddy = Buddy::new();
        for run in frames.runs() {
            prop_assert_eq!(buddy.add_region(run), Ok(()));
        }
        prop_assert_eq!(buddy.free_pages(), frames.total_frames());
        let mut taken = Vec::new();
        for &(order, bits) in &requests {
            let Some(Mfn(first)) = buddy.alloc(order, bits) else { continue };
            let end = first + (1 << order);
            prop_assert!(u128::from(end) << 12 <= 1 << bits);
            prop_assert!(frames.runs().any(|run| run.start.0 <= first && end <= run.end.0));
            taken.push((first, order));
        }
        for &(first, order) in &taken {
            prop_assert_eq!(buddy.free(Mfn(first), order), Ok(()));
            prop_assert!(buddy.free(Mfn(first), order).is_err());
        }
        prop_assert_eq!(buddy.free_pages(), frames.total_frames());
    }

    #[test]
    fn random_command_lines(
        words in proptest::collection::vec("(no-)?[a-z0-9_-]{0,12}(=[!-~]{0,20})?", 0..60),
    ) {
        let line = words.join(" ");
        let parsed = Parsed::new(&line);
        prop_assert!(parsed.diagnostics.len() <= 65);
    }
}
