use proptest::prelude::*;

use super::*;
use crate::boot::efi::{EfiMapError, EfiSystemTable, attribute, kind};
use crate::boot::memmap::RegionKind;
use crate::boot::phys::FakeMem;

const AT: u64 = 0x9000;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn region(base: u64, len: u64, kind: RegionKind) -> MemRegion {
    MemRegion {
        base: PhysAddr(base),
        len,
        kind,
    }
}

/// A multiboot 1 structure as QEMU's `-kernel -initrd` makes it.
fn multiboot1(loader: &[u8], line: &[u8], module: &[u8]) -> FakeMem {
    let mut mem = FakeMem::default();
    let mut info = vec![0_u8; 88];
    let mut set = |at: usize, value: u32| info[at..at + 4].copy_from_slice(&value.to_le_bytes());
    set(0, 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9);
    set(4, 639);
    set(8, 1 << 20);
    set(16, 0xa000);
    set(20, 1);
    set(24, 0xb000);
    set(44, 48);
    set(48, 0xc000);
    set(64, 0xd000);
    mem.put(AT, &info);
    mem.put(0xa000, line);
    mem.put(0xa800, module);
    mem.put(0xb000, &words(&[0x20_0000, 0x20_1234, 0xa800, 0]));
    mem.put(
        0xc000,
        &words(&[20, 0, 0, 0x9_fc00, 0, 1, 20, 0x9_fc00, 0, 0x400, 0, 2]),
    );
    mem.put(0xd000, loader);
    mem
}

#[test]
fn qemus_multiboot_puts_the_file_name_first() {
    let mem = multiboot1(
        b"qemu\0",
        b"xenolith console=com1  noreboot\0",
        b"bzImage console=hvc0\0",
    );
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.protocol, Protocol::Multiboot1);
    assert_eq!(boot.loader_name, "qemu");
    assert_eq!(boot.command_line, "console=com1  noreboot");
    let module = Module {
        start: PhysAddr(0x20_0000),
        len: 0x1234,
        command_line: "console=hvc0".into(),
    };
    assert_eq!(boot.modules, [module]);
    assert_eq!(
        boot.memory_map,
        [
            region(0, 0x9_fc00, RegionKind::Usable),
            region(0x9_fc00, 0x400, RegionKind::Reserved)
        ]
    );
}

#[test]
fn grub_2_passes_arguments_only() {
    for (loader, kept) in [
        ("GRUB 2.06-13+deb12u1", true),
        ("GRUB 1.99", true),
        ("GNU GRUB 0.97", false),
        ("iPXE 1.21", false),
        ("qemu", false),
    ] {
        let mem = multiboot1(format!("{loader}\0").as_bytes(), b" one two \0", b"only\0");
        let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
        let want = if kept {
            ("one two", "only")
        } else {
            ("two", "")
        };
        let got = (&*boot.command_line, &*boot.modules[0].command_line);
        assert_eq!(got, want, "{loader}");
    }
}

#[test]
fn multiboot_1_without_a_map_has_two_sizes() {
    let mut mem = FakeMem::default();
    let mut info = words(&[1, 639, 0x7_fc00]);
    info.resize(72, 0);
    mem.put(AT, &info);
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.loader_name, "unknown");
    assert_eq!(
        boot.memory_map,
        [
            region(0, 639 << 10, RegionKind::Usable),
            region(1 << 20, 0x7_fc00 << 10, RegionKind::Usable)
        ]
    );
}

#[test]
fn hostile_multiboot_1_is_refused_in_words() {
    let refused = |at: usize, value: u32| {
        let mut mem = multiboot1(b"qemu\0", b"x\0", b"y\0");
        let mut info = mem.read(PhysAddr(AT), 88).unwrap().to_vec();
        info[at..at + 4].copy_from_slice(&value.to_le_bytes());
        mem.put(AT, &info);
        let error = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap_err();
        error.to_string()
    };
    assert_eq!(
        refused(20, u32::MAX),
        "the loader's module list is too large: 0xffffffff, where 0x40 is the limit"
    );
    assert_eq!(
        refused(44, u32::MAX),
        "the loader's memory map is too large: 0xffffffff, where 0x10000 is the limit"
    );
    assert_eq!(
        refused(44, 47),
        "the loader's memory map is too short: 0x14 bytes"
    );
    assert_eq!(
        refused(16, u32::MAX),
        "the loader's command line at 0xffffffff lies outside the memory that can be read"
    );
    let mut mem = multiboot1(b"qemu\0", b"x\0", b"y\0");
    mem.put(0xb000, &words(&[0x2000, 0x1000, 0, 0]));
    let error = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a module of the loader ends at 0x1000, before its start at 0x2000"
    );
    let error = BootInfo::parse(&mem, 7, PhysAddr(AT)).unwrap_err();
    assert_eq!(error, BootError::UnknownMagic(7));
}

#[test]
fn a_map_entry_of_any_size_moves_on() {
    let mut mem = multiboot1(b"qemu\0", b"x\0", b"y\0");
    let mut map = words(&[0; 12]);
    map[20..24].copy_from_slice(&1_u32.to_le_bytes());
    mem.put(0xc000, &map);
    let error = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap_err();
    let part = Part::MemoryMap;
    assert_eq!(error, BootError::TooShort { part, size: 0 });
}

#[test]
fn text_mode_comes_from_the_bios_data_area() {
    let mut mem = multiboot1(b"qemu\0", b"x\0", b"y\0");
    let mut area = [0_u8; 0x100];
    area[0x49] = 3;
    area[0x4a] = 80;
    area[0x50..0x52].copy_from_slice(&[5, 7]);
    area[0x84] = 24;
    area[0x85] = 16;
    mem.put(0x400, &area);
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.video.to_string(), "VGA is text mode 80x25, font 8x16");
    let VideoInfo::Text { cursor, .. } = boot.video else {
        panic!("{:?}", boot.video)
    };
    assert_eq!(cursor, (5, 7));
    area[0x49] = 0x12;
    mem.put(0x400, &area);
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.video, VideoInfo::Unknown);
}

/// A linear framebuffer of 1024x768x32, blue in the lowest bits.
pub(super) fn framebuffer() -> Framebuffer {
    let colour = |position| ColourField { position, size: 8 };
    Framebuffer {
        address: PhysAddr(0xfd00_0000),
        pitch: 4096,
        width: 1024,
        height: 768,
        bits_per_pixel: 32,
        red: colour(16),
        green: colour(8),
        blue: colour(0),
    }
}

/// The framebuffer fields that both multiboot versions share, up to the type.
fn framebuffer_fields() -> Vec<u8> {
    let mut fields = words(&[0xfd00_0000, 0, 4096, 1024, 768]);
    fields.extend([32, 1]);
    fields
}

const COLOURS: [u8; 6] = [16, 8, 8, 8, 0, 8];

#[test]
fn framebuffers_of_multiboot_1() {
    let mut mem = FakeMem::default();
    let mut info = words(&[1 << 12]);
    info.resize(88, 0);
    info.extend(framebuffer_fields());
    info.extend(COLOURS);
    mem.put(AT, &info);
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.video, VideoInfo::Linear(framebuffer()));

    let mut info = words(&[1 << 11]);
    info.resize(88, 0);
    info[76..80].copy_from_slice(&0xb000_u32.to_le_bytes());
    mem.put(AT, &info);
    let mut block = [0_u8; 256];
    block[0] = 0x80;
    block[16..22].copy_from_slice(&[0, 16, 0, 4, 0, 3]);
    block[25] = 32;
    block[27] = 6;
    block[31..37].copy_from_slice(&[8, 16, 8, 8, 8, 0]);
    block[40..44].copy_from_slice(&0xfd00_0000_u32.to_le_bytes());
    mem.put(0xb000, &block);
    let boot = BootInfo::parse(&mem, MULTIBOOT1_MAGIC, PhysAddr(AT)).unwrap();
    assert_eq!(boot.video, VideoInfo::Linear(framebuffer()));
}

fn tag(number: u32, content: &[u8]) -> Vec<u8> {
    let mut tag = words(&[number, 8 + content.len() as u32]);
    tag.extend(content);
    tag.resize(tag.len().next_multiple_of(8), 0);
    tag
}

fn multiboot2(tags: &[Vec<u8>]) -> Vec<u8> {
    let mut all = words(&[0, 0]);
    all.extend(tags.concat());
    all.extend(tag(0, &[]));
    let len = all.len() as u32;
    all[..4].copy_from_slice(&len.to_le_bytes());
    all
}

/// Tags as GRUB passes them.
fn grub_tags() -> Vec<Vec<u8>> {
    let mut module = words(&[0x40_0000, 0x50_0000]);
    module.extend(b"root=/dev/sda1 ro\0");
    let mut map = words(&[24, 0]);
    map.extend(words(&[0, 0, 0x9_fc00, 0, 1, 0]));
    map.extend(words(&[0x10_0000, 0, 0, 1, 1, 0]));
    map.extend(words(&[0xfffc_0000, 0, 0x4_0000, 0, 12, 0]));
    let mut screen = framebuffer_fields();
    screen.extend([0, 0]);
    screen.extend(COLOURS);
    let mut rsdp = b"RSD PTR \0BOCHS \x02".to_vec();
    rsdp.resize(36, 0);
    vec![
        tag(1, b"console=com1 noreboot\0"),
        tag(2, b"GRUB 2.06-13\0"),
        tag(3, &module),
        tag(4, &words(&[639, 0x10_0000])),
        tag(6, &map),
        tag(8, &screen),
        tag(12, &words(&[0x7eb_e018, 0])),
        tag(15, &rsdp),
        tag(14, &rsdp[..20]),
        tag(99, &[1, 2, 3]),
    ]
}

fn parse2(bytes: &[u8]) -> Result<BootInfo, BootError> {
    let mut mem = FakeMem::default();
    mem.put(AT, bytes);
    BootInfo::parse(&mem, MULTIBOOT2_MAGIC, PhysAddr(AT))
}

#[test]
fn grubs_multiboot_2_tags() {
    let boot = parse2(&multiboot2(&grub_tags())).unwrap();
    assert_eq!(boot.protocol, Protocol::Multiboot2);
    assert_eq!(boot.command_line, "console=com1 noreboot");
    assert_eq!(boot.modules[0].command_line, "root=/dev/sda1 ro");
    assert_eq!(boot.modules[0].len, 0x10_0000);
    assert_eq!(
        boot.memory_map,
        [
            region(0, 0x9_fc00, RegionKind::Usable),
            region(0x10_0000, 1 << 32, RegionKind::Usable),
            region(0xfffc_0000, 0x4_0000, RegionKind::Reserved),
        ]
    );
    assert_eq!(boot.video, VideoInfo::Linear(framebuffer()));
    assert_eq!(
        boot.efi.system_table,
        Some(EfiSystemTable::Wide(PhysAddr(0x7eb_e018)))
    );
    let Some(Rsdp::Copy(rsdp)) = boot.rsdp else {
        panic!("no root pointer")
    };
    assert_eq!(rsdp.len(), 36);
}

/// On UEFI, GRUB passes EFI's own map too: it counts.
#[test]
fn efis_memory_map_counts() {
    let mut efi = words(&[48, 1]);
    let part = |kind: u32, base: u32, attributes: u32| {
        words(&[kind, 0, base, 0, 0, 0, 2, 0, attributes, 0, 0, 0])
    };
    efi.extend(part(kind::BOOT_DATA, 0x10_0000, 8));
    efi.extend(part(kind::RUNTIME_DATA, 0x20_0000, 8));
    let with = |efi: &[u8]| {
        let mut tags = grub_tags();
        tags.push(tag(17, efi));
        parse2(&multiboot2(&tags))
    };
    let boot = with(&efi).unwrap();
    let want = [
        region(0x10_0000, 0x2000, RegionKind::Usable),
        region(0x20_0000, 0x2000, RegionKind::Reserved),
    ];
    assert_eq!(boot.memory_map, want);
    assert_eq!(boot.efi.memory[0].attributes, attribute::WB);
    efi[4] = 2;
    let why = with(&efi).unwrap_err();
    assert_eq!(why, BootError::EfiMap(EfiMapError::Version(2)));
    assert!(why.to_string().contains("version 2"));
    assert!(with(&efi[..6]).is_err());
    // An empty one is none.
    assert_eq!(with(&words(&[48, 1])).unwrap().memory_map.len(), 3);
}

/// The `multiboot2` crate must read the same out of the same bytes.
#[test]
fn the_multiboot2_crate_agrees() {
    let bytes = multiboot2(&grub_tags());
    let ours = parse2(&bytes).unwrap();
    let aligned: Vec<u64> = bytes
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(chunk.try_into().unwrap()))
        .collect();
    // SAFETY: the pointer is to initialised memory, aligned to 8 bytes, that holds the whole
    // structure of the size it states and outlives `theirs`.
    let theirs = unsafe { ::multiboot2::BootInformation::load(aligned.as_ptr().cast()) }.unwrap();
    let line = theirs.command_line_tag().unwrap().cmdline().unwrap();
    assert_eq!(ours.command_line, line);
    let loader = theirs.boot_loader_name_tag().unwrap().name().unwrap();
    assert_eq!(ours.loader_name, loader);
    let module = theirs.module_tags().next().unwrap();
    assert_eq!(ours.modules[0].start.0, u64::from(module.start_address()));
    assert_eq!(ours.modules[0].len, u64::from(module.module_size()));
    assert_eq!(ours.modules[0].command_line, module.cmdline().unwrap());
    let areas = theirs.memory_map_tag().unwrap().memory_areas();
    let areas: Vec<_> = areas
        .iter()
        .map(|area| (area.start_address(), area.size()))
        .collect();
    let regions: Vec<_> = ours.memory_map.iter().map(|r| (r.base.0, r.len)).collect();
    assert_eq!(regions, areas);
    let screen = theirs.framebuffer_tag().unwrap().unwrap();
    assert_eq!(screen.address(), framebuffer().address.0);
    assert_eq!(screen.pitch(), framebuffer().pitch);
    let efi = theirs.efi_sdt64_tag().unwrap().sdt_address() as u64;
    assert_eq!(
        ours.efi.system_table,
        Some(EfiSystemTable::Wide(PhysAddr(efi)))
    );
}

#[test]
fn hostile_multiboot_2_is_refused_in_words() {
    let refused = |tag: Vec<u8>| parse2(&multiboot2(&[tag])).unwrap_err().to_string();
    assert_eq!(
        refused(words(&[1, 0])),
        "the loader's boot information tag 1 is too short: 0x0 bytes"
    );
    assert_eq!(
        refused(words(&[1, u32::MAX])),
        "the loader's boot information tag 1 is too large: 0xffffffff, where 0x10 is the limit"
    );
    let map = tag(6, &words(&[0, 0, 1, 2]));
    assert_eq!(
        refused(map),
        "the loader's boot information tag 6 is too short: 0x18 bytes"
    );
    let huge = words(&[u32::MAX, 0]);
    assert!(matches!(
        parse2(&huge),
        Err(BootError::TooLarge {
            part: Part::Header,
            ..
        })
    ));
    assert!(matches!(
        parse2(&words(&[4, 0])),
        Err(BootError::TooShort { .. })
    ));
    let many = vec![tag(3, &words(&[0, 0, 0])); MAX_MODULES + 1];
    assert!(matches!(
        parse2(&multiboot2(&many)),
        Err(BootError::TooLarge {
            part: Part::ModuleList,
            ..
        })
    ));
}

#[test]
fn a_multiboot_2_list_may_lack_its_end() {
    let mut bytes = multiboot2(&[tag(2, b"GRUB 2\0")]);
    bytes.truncate(bytes.len() - 8);
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_le_bytes());
    assert_eq!(parse2(&bytes).unwrap().loader_name, "GRUB 2");
}

/// A PVH structure of `version`.
fn pvh(version: u32) -> FakeMem {
    let mut mem = FakeMem::default();
    let mut info = words(&[
        XEN_HVM_START_MAGIC_VALUE,
        version,
        0,
        1,
        0xb000,
        0,
        0xa000,
        0,
        0xf_59d0,
        0,
    ]);
    if version >= 1 {
        info.extend(words(&[0xc000, 0, 2, 0]));
    }
    mem.put(AT, &info);
    mem.put(0xa000, b"console=com1\0");
    mem.put(0xa800, b"ro quiet\0");
    mem.put(0xb000, &words(&[0x10_0000, 1, 0x3000, 0, 0xa800, 0, 0, 0]));
    mem.put(
        0xc000,
        &words(&[0, 0, 0x8000_0000, 0, 1, 0, 0xfee0_0000, 0, 0x1000, 0, 2, 0]),
    );
    mem
}

#[test]
fn pvh_start_info_of_both_versions() {
    let boot = BootInfo::parse(&pvh(1), XEN_HVM_START_MAGIC_VALUE, PhysAddr(AT)).unwrap();
    assert_eq!(boot.protocol, Protocol::Pvh);
    assert_eq!(boot.command_line, "console=com1");
    assert_eq!(boot.modules[0].start, PhysAddr(0x1_0010_0000));
    assert_eq!(boot.modules[0].command_line, "ro quiet");
    assert_eq!(boot.rsdp, Some(Rsdp::Address(PhysAddr(0xf_59d0))));
    assert_eq!(boot.memory_map.len(), 2);
    let old = BootInfo::parse(&pvh(0), XEN_HVM_START_MAGIC_VALUE, PhysAddr(AT)).unwrap();
    assert_eq!(old.memory_map, []);
    let mem = FakeMem::default();
    let error = BootInfo::parse(&mem, XEN_HVM_START_MAGIC_VALUE, PhysAddr(AT)).unwrap_err();
    assert_eq!(error, BootError::Unmapped(Part::Header, PhysAddr(AT)));
}

proptest! {
    #[test]
    fn any_change_to_any_structure_is_survived(
        which in 0..3_usize,
        changes in proptest::collection::vec((0..512_usize, any::<u8>()), 1..12),
    ) {
        let (mem, magic, at) = match which {
            0 => (multiboot1(b"qemu\0", b"x y\0", b"z\0"), MULTIBOOT1_MAGIC, AT),
            1 => {
                let mut mem = FakeMem::default();
                mem.put(AT, &multiboot2(&grub_tags()));
                (mem, MULTIBOOT2_MAGIC, AT)
            }
            _ => (pvh(1), XEN_HVM_START_MAGIC_VALUE, AT),
        };
        let mut mem = mem;
        for piece in [AT, 0xb000, 0xc000] {
            let Some(len) = (1..1024).rev().find(|&len| mem.read(PhysAddr(piece), len).is_some())
            else { continue };
            let mut bytes = mem.read(PhysAddr(piece), len).unwrap().to_vec();
            for &(offset, value) in &changes {
                let slot = offset % len;
                bytes[slot] = value;
            }
            mem.put(piece, &bytes);
            match BootInfo::parse(&mem, magic, PhysAddr(at)) {
                Ok(boot) => prop_assert!(boot.modules.len() <= MAX_MODULES),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }
}
