use proptest::prelude::*;

use super::*;
use crate::boot::info::{BootInfo, MULTIBOOT2_MAGIC};
use crate::boot::memmap::{MemoryMap, RegionKind};
use crate::boot::phys::{FakeMem, PhysMem};

const SYSTEM: u64 = 0x7000;
const SERVICES: u64 = 0x8000;
const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const FLASH: u64 = 0xffc0_0000;
const ARRAY: u64 = 0x9000;
const FINER: u64 = 0xa000;
const RUNTIME: u64 = attribute::RUNTIME | attribute::WB;

fn region(kind: u32, base: u64, len: u64, attributes: u64) -> EfiRegion {
    let base = PhysAddr(base);
    EfiRegion {
        kind,
        base,
        len,
        attributes,
    }
}

fn memory() -> Vec<EfiRegion> {
    vec![
        region(kind::CONVENTIONAL, 0, 0x10_0000, attribute::WB),
        region(kind::RUNTIME_CODE, CODE, 0x8000, RUNTIME),
        region(kind::RUNTIME_DATA, DATA, 0x4000, RUNTIME),
        region(11, FLASH, 0x40_0000, attribute::RUNTIME | 1),
    ]
}

fn descriptor(kind: u32, base: u64, pages: u64, attributes: u64) -> Vec<u8> {
    let mut bytes = u64::from(kind).to_le_bytes().to_vec();
    for word in [base, 0, pages, attributes] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

fn table(signature: &[u8; 8], revision: u32, words: &[(usize, u64)], len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    bytes[..8].copy_from_slice(signature);
    bytes[8..12].copy_from_slice(&revision.to_le_bytes());
    for (at, word) in words {
        bytes[*at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

fn firmware() -> FakeMem {
    let mut mem = FakeMem::default();
    let words = [
        (24, 0xb000),
        (32, 7),
        (88, SERVICES),
        (104, 2),
        (112, ARRAY),
    ];
    mem.put(SYSTEM, &table(b"IBI SYST", 0x2_0046, &words, 120));
    let functions: Vec<_> = (0..14)
        .map(|i| (24 + i * 8, CODE + i as u64 * 16))
        .collect();
    mem.put(SERVICES, &table(b"RUNTSERV", 0x2_001f, &functions, 136));
    mem.put(0xb000, b"T\0e\0s\0t\0\0\0X\0");
    let mut array = vec![0x11; 16];
    array.extend(0xdead_0000_u64.to_le_bytes());
    array.extend([
        0x1d, 0x91, 0xfa, 0xdc, 0xeb, 0x26, 0x9f, 0x46, 0xa2, 0x20, 0x38, 0xb7, 0xdc, 0x46, 0x12,
        0x20,
    ]);
    array.extend(FINER.to_le_bytes());
    mem.put(ARRAY, &array);
    put_finer(&mut mem, &[(kind::RUNTIME_CODE, CODE, 2, attribute::RO)]);
    mem
}

fn put_finer(mem: &mut FakeMem, parts: &[(u32, u64, u64, u64)]) {
    let mut bytes = Vec::new();
    for word in [1, parts.len() as u32, 40, 0] {
        bytes.extend(word.to_le_bytes());
    }
    for (kind, base, pages, attributes) in parts {
        bytes.extend(descriptor(*kind, *base, *pages, *attributes));
    }
    mem.put(FINER, &bytes);
}

fn read(mem: &FakeMem) -> Result<EfiFacts, EfiProblem> {
    EfiFacts::read(mem, PhysAddr(SYSTEM), memory())
}

#[test]
fn tables_of_good_firmware() {
    let facts = read(&firmware()).unwrap();
    assert_eq!(EfiRevision(facts.revision).to_string(), "2.7");
    assert_eq!(EfiRevision(0x2_001f).to_string(), "2.3.1");
    assert_eq!(String::from_utf16_lossy(&facts.vendor), "Test");
    assert_eq!((facts.vendor_revision, facts.table_count), (7, 2));
    assert_eq!(facts.region_of(DATA + 5).unwrap().kind, kind::RUNTIME_DATA);
    assert_eq!(facts.region_of(0x5000_0000), None);
    let runtime = facts.runtime.unwrap();
    assert_eq!(runtime.function(Service::GetVariable), Some(CODE + 6 * 16));
    let all: Vec<_> = runtime
        .mappings()
        .iter()
        .map(|m| (m.base.0, m.len, m.writable, m.executable, m.cache))
        .collect();
    assert_eq!(
        all,
        [
            (CODE, 0x8000, true, true, Cache::WriteBack),
            (DATA, 0x4000, true, false, Cache::WriteBack),
            (FLASH, 0x40_0000, true, false, Cache::Uncached),
            (CODE, 0x2000, false, true, Cache::WriteBack),
        ]
    );
}

/// As OVMF left it, in the file that the fuzzer begins with: its code in parts, none of which can be both written
/// and executed once all is said.
#[test]
fn real_firmware_tells_of_parts() {
    let file = include_bytes!("../../../tests/fuzz/corpus/multiboot2-efi.bin");
    let word = |at: usize| u64::from_le_bytes(*file[at..].first_chunk().unwrap());
    let (count, at) = ((word(0) >> 32) as usize, word(8));
    let mut mem = FakeMem::default();
    let mut next = 16 + count * 16;
    for piece in 0..count {
        let len = word(24 + piece * 16) as usize;
        mem.put(word(16 + piece * 16), &file[next..next + len]);
        next += len;
    }
    let info = BootInfo::parse(&mem, MULTIBOOT2_MAGIC, PhysAddr(at)).unwrap();
    let Some(EfiSystemTable::Wide(at)) = info.efi.system_table else {
        panic!("no system table")
    };
    let facts = EfiFacts::read(&mem, at, info.efi.memory).unwrap();
    assert_eq!(String::from_utf16_lossy(&facts.vendor), "EDK II");
    let runtime = facts.runtime.unwrap();
    let regions = facts.memory.iter().filter(|r| r.is_runtime()).count();
    assert!(runtime.mappings().len() > regions + 10);
    let mut pages = alloc::collections::BTreeMap::new();
    for part in runtime.mappings() {
        for page in part.base.0 >> 12..(part.base.0 + part.len) >> 12 {
            pages.insert(page, (part.writable, part.executable));
        }
    }
    assert!(pages.values().any(|rights| *rights == (false, true)));
    assert!(pages.values().all(|rights| *rights != (true, true)));
}

#[test]
fn finer_parts_that_make_no_sense_are_left_out() {
    let mut mem = firmware();
    put_finer(
        &mut mem,
        &[
            // Beyond its region, in nobody's, in a device's, not at a page.
            (kind::RUNTIME_CODE, CODE, 9, 0),
            (kind::RUNTIME_CODE, 0x3000, 1, 0),
            (kind::RUNTIME_CODE, FLASH, 1, 0),
            (kind::RUNTIME_CODE, CODE + 8, 1, 0),
            (kind::RUNTIME_CODE, CODE, u64::MAX, 0),
            (kind::RUNTIME_CODE, CODE, 1, attribute::XP),
        ],
    );
    let runtime = read(&mem).unwrap().runtime.unwrap();
    assert_eq!(runtime.mappings().len(), 4);
    assert!(!runtime.mappings()[3].executable);
    for bad in [[0xff; 16], [0; 16]] {
        mem.put(FINER, &bad);
        assert_eq!(read(&mem).unwrap().runtime.unwrap().mappings().len(), 3);
    }
}

#[test]
fn bad_tables_end_in_words() {
    let problem = |at: u64, bytes: &[u8]| {
        let mut mem = firmware();
        let mut old = mem.read(PhysAddr(at), 120).unwrap().to_vec();
        old[..bytes.len()].copy_from_slice(bytes);
        mem.put(at, &old);
        match read(&mem) {
            Err(why) => why.to_string(),
            Ok(facts) => facts.runtime.unwrap_err().to_string(),
        }
    };
    assert_eq!(
        problem(SYSTEM, b"IBI SYSX"),
        "there is no system table at 0x7000"
    );
    assert_eq!(
        problem(SERVICES, b"X"),
        "there is no table of runtime services at 0x8000"
    );
    let mut mem = firmware();
    let wild: Vec<_> = (0..14).map(|i| (24 + i * 8, DATA)).collect();
    mem.put(SERVICES, &table(b"RUNTSERV", 0x2_0000, &wild, 136));
    assert_eq!(
        read(&mem).unwrap().runtime,
        Err(EfiProblem::Stray(DATA)),
        "data is not run"
    );
    let map = |more: EfiRegion| {
        let mut memory = memory();
        memory.push(more);
        EfiFacts::read(&firmware(), PhysAddr(SYSTEM), memory)
            .unwrap()
            .runtime
    };
    for (bad, want) in [
        (
            region(kind::RUNTIME_DATA, 0x30_0800, 0x1000, RUNTIME),
            EfiProblem::Unmappable(PhysAddr(0x30_0800)),
        ),
        (
            region(kind::RUNTIME_DATA, 1 << 47, 0x1000, RUNTIME),
            EfiProblem::Unmappable(PhysAddr(1 << 47)),
        ),
        (
            region(kind::RUNTIME_DATA, 1 << 40, 1 << 40, RUNTIME),
            EfiProblem::TooLarge((1 << 40) + 0x40_c000),
        ),
    ] {
        assert_eq!(map(bad), Err(want));
        assert!(!want.to_string().is_empty());
    }
    let none = EfiFacts::read(&firmware(), PhysAddr(SYSTEM), Vec::new()).unwrap();
    assert_eq!(none.runtime, Err(EfiProblem::NoMap));
}

#[test]
fn the_map_is_checked_and_becomes_ours() {
    let mut bytes = Vec::new();
    for (kind, base, attributes) in [
        (kind::CONVENTIONAL, 0, attribute::WB),
        (kind::BOOT_DATA, 0x1000, attribute::WB),
        (kind::LOADER_CODE, 0x2000, attribute::WB),
        (kind::RUNTIME_CODE, 0x3000, RUNTIME),
        (kind::ACPI_RECLAIM, 0x4000, attribute::WB),
        (kind::ACPI_NVS, 0x5000, attribute::WB),
        (kind::PERSISTENT, 0x6000, attribute::WB),
        (kind::UNUSABLE, 0x7000, attribute::WB),
        (kind::CONVENTIONAL, 0x8000, attribute::WB | attribute::SP),
        (kind::CONVENTIONAL, 0x9000, 1),
        (77, 0xa000, attribute::WB),
    ] {
        bytes.extend(descriptor(kind, base, 1, attributes));
        // A later version's descriptors may be longer.
        bytes.extend([0xff; 8]);
    }
    let regions = EfiRegion::parse_all(&bytes, 48, 1).unwrap();
    let kinds: Vec<_> = regions.iter().map(|r| r.region().kind).collect();
    use RegionKind::*;
    assert_eq!(
        kinds,
        [
            Usable, Usable, Usable, Reserved, AcpiTables, AcpiNvs, Persistent, Unusable, Reserved,
            Reserved, Reserved
        ]
    );
    for (size, version) in [(48, 2), (39, 1), (0, 1), (1025, 1), (u32::MAX, 1)] {
        let why = EfiRegion::parse_all(&bytes, size, version).unwrap_err();
        assert!(why.to_string().starts_with("the EFI memory map has"));
    }
    let many = vec![0; 40 * 4097];
    assert_eq!(
        EfiRegion::parse_all(&many, 40, 1),
        Err(EfiMapError::TooMany(4097))
    );
    let wraps = descriptor(kind::CONVENTIONAL, 0x1000, u64::MAX, attribute::WB);
    let wraps = EfiRegion::parse_all(&wraps, 40, 1).unwrap();
    assert_eq!(wraps[0].end(), u64::MAX);
    let (map, warnings) = MemoryMap::new(&[wraps[0].region()], 1 << 40);
    assert_eq!((map.regions().len(), warnings.len()), (1, 1));
}

proptest! {
    #[test]
    fn nothing_that_firmware_says_is_believed(
        words in proptest::collection::vec(any::<u64>(), 15),
        services in proptest::collection::vec(any::<u64>(), 14),
        array in proptest::collection::vec(any::<u8>(), 0..100),
        map in proptest::collection::vec((0u32..20, any::<u64>(), any::<u64>(), any::<u64>()), 0..12),
        finer in proptest::collection::vec((0u32..20, any::<u64>(), any::<u64>(), any::<u64>()), 0..4),
    ) {
        let mut mem = firmware();
        let words: Vec<_> = (2..15).map(|i| (i * 8, words[i])).collect();
        if array.len() % 2 == 0 {
            mem.put(SYSTEM, &table(b"IBI SYST", 1, &words, 120));
        }
        let services: Vec<_> = (0..14).map(|i| (24 + i * 8, services[i])).collect();
        mem.put(SERVICES, &table(b"RUNTSERV", 1, &services, 136));
        mem.put(ARRAY, &array);
        put_finer(&mut mem, &finer);
        let memory = map.iter().map(|(k, b, l, a)| region(*k, *b, *l, *a)).collect();
        if let Ok(facts) = EfiFacts::read(&mem, PhysAddr(SYSTEM), memory)
            && let Ok(runtime) = facts.runtime {
            for m in runtime.mappings() {
                prop_assert!(m.base.0.checked_add(m.len).is_some_and(|end| end <= 1 << 47));
                prop_assert_eq!(m.base.offset(), 0);
            }
        }
    }
}
