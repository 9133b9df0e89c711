//! Kernels made for tests: what the loader takes, what it refuses and in which words.

mod support;

use proptest::prelude::*;
use pvh_boot::elf::{ElfError, Kernel, NoteError, PaeMode};
use pvh_boot::pv::{
    BuildError, Initrd, InitrdPlace, Layout, LayoutError, PV_FEATURES, PvKernel, Request,
    StartOfDay, build,
};
use support::elf_file::{EHDR, ElfFile, Load, NotesIn, PHDR, add_note, xen_notes};
use support::{FakeMemory, Walked};
use xen_abi::elfnote::*;

const BASE: u64 = 0xffff_ffff_8000_0000;

/// A kernel of two segments whose notes are `numbers` and `texts` beside the usual ones.
fn sample(numbers: &[(u32, u64)], texts: &[(u32, &str)]) -> ElfFile {
    let mut all = vec![
        (XEN_ELFNOTE_VIRT_BASE, BASE),
        (XEN_ELFNOTE_ENTRY, BASE + 0x10_0010),
    ];
    all.extend_from_slice(numbers);
    let mut names = vec![
        (XEN_ELFNOTE_GUEST_OS, "test"),
        (XEN_ELFNOTE_XEN_VERSION, "xen-3.0"),
    ];
    names.extend_from_slice(texts);
    ElfFile {
        entry: 0x10_0000,
        loads: vec![
            Load {
                paddr: 0x10_0000,
                data: (0..5000u32).map(|i| (i % 251) as u8).collect(),
                mem_size: 5000,
            },
            Load {
                paddr: 0x10_1400,
                data: b"data".to_vec(),
                mem_size: 0x3000,
            },
        ],
        notes: xen_notes(&all, &names),
        notes_in: NotesIn::Segment,
    }
}

fn parse_error(file: &[u8]) -> String {
    Kernel::parse(file).unwrap_err().to_string()
}

/// The error of the check for a kernel with these notes more.
fn check_error(numbers: &[(u32, u64)], texts: &[(u32, &str)]) -> String {
    let file = sample(numbers, texts).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    PvKernel::check(&kernel, PV_FEATURES)
        .unwrap_err()
        .to_string()
}

#[test]
fn notes_are_read_from_segments_and_sections() {
    for notes_in in [NotesIn::Segment, NotesIn::Section] {
        let mut elf = sample(
            &[(XEN_ELFNOTE_PHYS32_ENTRY, 0x42)],
            &[(XEN_ELFNOTE_BSD_SYMTAB, "no"), (XEN_ELFNOTE_INFO, "a=b")],
        );
        elf.notes_in = notes_in;
        add_note(
            &mut elf.notes,
            "Xen",
            XEN_ELFNOTE_PAE_MODE,
            b"yes,bimodal\0",
        );
        add_note(&mut elf.notes, "Xen", XEN_ELFNOTE_SUSPEND_CANCEL, &[1]);
        add_note(&mut elf.notes, "Xen", XEN_ELFNOTE_CRASH_INFO, b"ignored");
        let file = elf.bytes();
        let kernel = Kernel::parse(&file).unwrap();
        assert_eq!(kernel.notes.virt_base, Some(BASE));
        assert_eq!(kernel.notes.phys32_entry, Some(0x42));
        assert_eq!(kernel.notes.pae_mode, Some(PaeMode::Bimodal));
        assert_eq!(kernel.notes.bsd_symtab, Some(false));
        assert_eq!(kernel.notes.suspend_cancel, Some(true));
        assert_eq!(kernel.notes.info, Some("a=b"));
        assert_eq!(kernel.extent(), (0x10_0000, 0x10_4400));
    }
}

#[test]
fn files_that_are_no_kernels_are_refused_in_words() {
    let good = sample(&[], &[]).bytes();
    assert_eq!(parse_error(b"MZ"), "it is not an ELF file");
    let patched = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        parse_error(&file)
    };
    assert_eq!(
        patched(4, 1),
        "the kernel is 32-bit only, a 64-bit one is needed"
    );
    assert_eq!(
        patched(18, 183),
        "the kernel is for another processor (ELF machine 183)"
    );
    assert_eq!(patched(16, 1), "the ELF file is not an executable (type 1)");
    assert_eq!(
        parse_error(&good[..40]),
        "the ELF file is cut short: its header is missing"
    );
    assert_eq!(
        parse_error(&good[..EHDR + 2 * PHDR]),
        "the ELF file is cut short: its segment data is missing"
    );
    let mut elf = sample(&[], &[]);
    elf.notes.clear();
    assert_eq!(
        parse_error(&elf.bytes()),
        "the kernel has no Xen ELF notes: it was built without Xen guest support"
    );
}

#[test]
fn impossible_segments_are_refused() {
    let mut elf = sample(&[], &[]);
    elf.loads[0].mem_size = 4999;
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::BadSegment(0x10_0000)
    );
    elf.loads[0].mem_size = 0x1401;
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::Overlap(0x10_1400)
    );
    elf.loads[0].mem_size = u64::MAX;
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::BadSegment(0x10_0000)
    );
    elf.loads.clear();
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::SegmentCount(0)
    );
}

#[test]
fn odd_notes_are_refused() {
    let mut elf = sample(&[], &[]);
    add_note(&mut elf.notes, "Xen", XEN_ELFNOTE_ENTRY, b"abc");
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::Notes(NoteError::BadNumber(XEN_ELFNOTE_ENTRY, 3))
    );
    let mut elf = sample(&[], &[(XEN_ELFNOTE_BSD_SYMTAB, "perhaps")]);
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::Notes(NoteError::BadString(XEN_ELFNOTE_BSD_SYMTAB))
    );
    elf.notes = vec![0xff; 12];
    assert_eq!(
        Kernel::parse(&elf.bytes()).unwrap_err(),
        ElfError::Notes(NoteError::Truncated)
    );
}

#[test]
fn kernels_that_cannot_run_here_are_refused_by_reason() {
    let features = |list| check_error(&[], &[(XEN_ELFNOTE_FEATURES, list)]);
    assert_eq!(
        features("pae_pgdir_above_4gb|!supervisor_mode_kernel"),
        "the kernel requires the feature supervisor_mode_kernel, which PV domains do not have here"
    );
    assert_eq!(
        features("!time_travel"),
        "the kernel requires the feature \"time_travel\", which is unknown"
    );
    let file = sample(&[], &[(XEN_ELFNOTE_FEATURES, "time_travel|!dom0")]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    assert!(PvKernel::check(&kernel, PV_FEATURES).is_ok());

    assert_eq!(
        check_error(&[(XEN_ELFNOTE_SUPPORTED_FEATURES, 1)], &[]),
        "the kernel says that it cannot be the first domain"
    );
    assert_eq!(
        check_error(&[], &[(XEN_ELFNOTE_XEN_VERSION, "xen-2.0")]),
        "the kernel is for the interface \"xen-2.0\", not for \"xen-3.0\""
    );
    assert_eq!(
        check_error(&[], &[(XEN_ELFNOTE_LOADER, "special")]),
        "the kernel wants the loader \"special\", not \"generic\""
    );
    assert!(check_error(&[], &[(XEN_ELFNOTE_BSD_SYMTAB, "yes")]).contains("BSD_SYMTAB"));
    assert_eq!(
        check_error(&[(XEN_ELFNOTE_HV_START_LOW, 0xffff_8800_0000_0000)], &[]),
        "the kernel leaves room for a hypervisor only from 0xffff880000000000, \
         this one starts at 0xffff800000000000"
    );
    assert_eq!(
        check_error(&[(XEN_ELFNOTE_ENTRY, BASE)], &[]),
        "the kernel's entry point 0xffffffff80000000 is not in its place"
    );
    assert!(check_error(&[(XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x10_0800)], &[]).contains("hyperc"));
    assert!(check_error(&[(XEN_ELFNOTE_VIRT_BASE, 0xffff_8100_0000_0000)], &[]).contains("base"));
    assert!(check_error(&[(XEN_ELFNOTE_PADDR_OFFSET, 1 << 30)], &[]).contains("offset"));
}

#[test]
fn a_kernel_with_only_a_pvh_entry_is_told_apart() {
    let mut elf = sample(&[], &[]);
    elf.notes = xen_notes(&[(XEN_ELFNOTE_PHYS32_ENTRY, 0x10_0000)], &[]);
    let file = elf.bytes();
    let kernel = Kernel::parse(&file).unwrap();
    assert_eq!(
        PvKernel::check(&kernel, PV_FEATURES)
            .unwrap_err()
            .to_string(),
        "the kernel has a PVH entry but no PV one: it was built without PV support"
    );
}

fn request(nr_pages: u64, initrd_len: u64) -> Request {
    Request {
        nr_pages,
        initrd_len,
    }
}

fn start<'a>(command_line: &'a [u8], initrd: Initrd<'a>) -> StartOfDay<'a> {
    StartOfDay {
        shared_info: 0x5000,
        command_line,
        initrd,
        vga: None,
    }
}

#[test]
fn without_special_notes_everything_is_in_the_initial_mapping() {
    let file = sample(&[(XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x10_2000)], &[]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    let kernel = PvKernel::check(&kernel, PV_FEATURES).unwrap();
    let initrd = vec![0x77; 10_000];
    let layout = Layout::plan(&kernel, &request(4096, 10_000)).unwrap();
    let mut memory = FakeMemory::new(4096);
    let state = build(
        &kernel,
        &layout,
        &start(b"x", Initrd::Copy(&initrd)),
        &mut memory,
    )
    .unwrap();

    // The ABI's order, packed: kernel, initrd, p2m list, start info, tables, stack.
    let InitrdPlace::Mapped(place) = layout.initrd else {
        panic!("the initrd is not mapped");
    };
    assert_eq!(layout.kernel.pfns(), 0x100..0x105);
    assert_eq!(place.pfns(), 0x105..0x108);
    assert_eq!(layout.p2m.list.pfns(), 0x108..0x110);
    assert_eq!(layout.start_info.pfn, 0x110);
    // 4 MiB: one table each of level 4, 3 and 2, two of level 1.
    assert_eq!(layout.page_tables.pfns(), 0x111..0x116);
    assert_eq!(layout.stack.pfn, 0x116);
    assert_eq!(layout.mapped_pages, 1024);
    assert_eq!(layout.end, 1024);
    assert_eq!(memory.u64_at(0x110, 112), BASE + 0x10_5000, "mod_start");
    assert_eq!(memory.u64_at(0x110, 104), BASE + 0x10_8000, "mfn_list");
    assert_eq!(memory.u64_at(0x110, 1152), 0x108, "first_p2m_pfn");
    assert_eq!(memory.u64_at(0x110, 1160), 8, "nr_p2m_frames");
    assert_eq!(memory.u32_at(0x110, 48), 3, "flags");
    assert_eq!(memory.bytes(0x10_5000, 10_000), initrd);
    assert_eq!(memory.bytes(0x10_0000, 5000), file_data(5000));
    assert_eq!(memory.bytes(0x10_1400, 4), b"data");
    assert_eq!(memory.page(0x102)[32..36], [0x51, 0x41, 0x53, 0xb8]);
    assert_eq!(memory.page(0x104)[..0x400], [0; 0x400]);

    let walked = Walked::from_root(&memory, state.root_pfn);
    assert_eq!(walked.mappings.len(), 1024);
    for mapping in walked.mappings {
        assert_eq!(mapping.virt, BASE + mapping.pfn * 4096);
        assert_eq!(
            mapping.writable,
            !layout.page_tables.pfns().contains(&mapping.pfn)
        );
    }
}

fn file_data(length: u32) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[test]
fn less_than_512_kib_of_slack_costs_another_4_mib() {
    let file = sample(&[], &[]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    let kernel = PvKernel::check(&kernel, PV_FEATURES).unwrap();
    let mapped = |initrd_pages: u64| {
        let layout = Layout::plan(&kernel, &request(8192, initrd_pages * 4096)).unwrap();
        (layout.stack.end(), layout.mapped_pages)
    };
    let (without, _) = mapped(0);
    let fits = 1024 - 128 - without;
    assert_eq!(mapped(fits), (896, 1024));
    // One page more; the larger mapping has two more level-1 tables.
    assert_eq!(mapped(fits + 1), (899, 2048));
}

#[test]
fn a_long_command_line_is_cut_and_reported() {
    let file = sample(&[], &[]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    let kernel = PvKernel::check(&kernel, PV_FEATURES).unwrap();
    let layout = Layout::plan(&kernel, &request(2048, 0)).unwrap();
    let mut memory = FakeMemory::new(2048);
    for (length, cut) in [(1023, 0), (1024, 1), (3000, 1977)] {
        let line = vec![b'a'; length];
        let state = build(
            &kernel,
            &layout,
            &start(&line, Initrd::InPlace),
            &mut memory,
        )
        .unwrap();
        assert_eq!(state.command_line_cut, cut);
        let page = memory.page(layout.start_info.pfn);
        assert_eq!(page[128..128 + 1023], line[..1023]);
        assert_eq!(page[128 + 1023], 0);
        assert_eq!(memory.u64_at(layout.start_info.pfn, 120), 0, "mod_len");
    }
}

#[test]
fn what_does_not_fit_is_said() {
    let file = sample(&[], &[]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    let kernel = PvKernel::check(&kernel, PV_FEATURES).unwrap();
    assert_eq!(
        Layout::plan(&kernel, &request(1023, 0))
            .unwrap_err()
            .to_string(),
        "the domain is too small: kernel, initrd and p2m list need 4096 KiB, it has 4092 KiB"
    );
    assert!(matches!(
        Layout::plan(&kernel, &request(1024, u64::MAX)),
        Err(LayoutError::TooSmall { .. })
    ));
    // 2 GiB of initrd cannot be mapped above the virtual base.
    assert!(matches!(
        Layout::plan(&kernel, &request(1 << 20, 0x8000_0000)),
        Err(LayoutError::MappingTooLarge(_))
    ));
    let layout = Layout::plan(&kernel, &request(2048, 100)).unwrap();
    let mut memory = FakeMemory::new(2048);
    assert_eq!(
        build(
            &kernel,
            &layout,
            &start(b"", Initrd::Copy(b"short")),
            &mut memory
        ),
        Err(BuildError::InitrdSize {
            planned: 100,
            given: 5
        })
    );
}

#[test]
fn a_p2m_list_over_the_kernel_is_refused() {
    for virt in [BASE, BASE + 0x30_0000, 0xffff_8000_0000_0000 - 4096] {
        let file = sample(&[(XEN_ELFNOTE_INIT_P2M, virt)], &[]).bytes();
        let kernel = Kernel::parse(&file).unwrap();
        let planned = PvKernel::check(&kernel, PV_FEATURES)
            .map(|kernel| Layout::plan(&kernel, &request(2048, 0)));
        assert!(!matches!(planned, Ok(Ok(_))), "{virt:#x}");
    }
}

/// Plans, builds and reads back one domain.
fn check_domain(virt_base: u64, p2m: Option<u64>, pages: u64, initrd: u64, unmapped: bool) {
    let mut numbers = vec![
        (XEN_ELFNOTE_VIRT_BASE, virt_base),
        (XEN_ELFNOTE_ENTRY, virt_base + 0x10_0000),
    ];
    numbers.extend(p2m.map(|virt| (XEN_ELFNOTE_INIT_P2M, virt)));
    numbers.push((XEN_ELFNOTE_MOD_START_PFN, u64::from(unmapped)));
    let file = sample(&numbers, &[]).bytes();
    let kernel = Kernel::parse(&file).unwrap();
    let Ok(kernel) = PvKernel::check(&kernel, PV_FEATURES) else {
        return;
    };
    let Ok(layout) = Layout::plan(&kernel, &request(pages, initrd)) else {
        return;
    };
    let mut memory = FakeMemory::new(pages);
    let state = build(&kernel, &layout, &start(b"", Initrd::InPlace), &mut memory).unwrap();
    let walked = Walked::from_root(&memory, state.root_pfn);
    let planned: u64 = layout
        .tables
        .frames()
        .map(|f| f.pfns.end - f.pfns.start)
        .sum();
    assert_eq!(walked.tables.len() as u64, planned);
    assert_eq!(layout.tables.main_count(), layout.page_tables.pages);

    let mut expected: Vec<_> = (0..layout.mapped_pages)
        .map(|pfn| (virt_base + pfn * 4096, pfn))
        .collect();
    if p2m.is_some() {
        let list = layout.p2m.list;
        expected.extend((0..list.pages).map(|i| (layout.p2m.virt + i * 4096, list.pfn + i)));
    }
    expected.sort_unstable();
    let found: Vec<_> = walked.mappings.iter().map(|m| (m.virt, m.pfn)).collect();
    assert_eq!(found, expected);
    for mapping in &walked.mappings {
        assert_eq!(mapping.writable, !walked.tables.contains_key(&mapping.pfn));
        assert_eq!(layout.tables.contains(mapping.pfn), !mapping.writable);
    }
    assert_eq!((virt_base + layout.mapped_pages * 4096) % (4 << 20), 0);
    assert!(layout.mapped_pages - layout.stack.end() >= 128);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The p2m list may share tables with the initial mapping, from above or from below.
    #[test]
    fn tables_hold_for_any_addresses(
        base_slot in prop::sample::select(vec![
            0x1_0000_0000u64, 0x7f_ffc0_0000, 0xffff_8800_0000_0000, BASE, 0x1234_5000,
        ]),
        base_pages in 0u64..2048,
        p2m_offset in prop::option::of(-3000i64..6000),
        pages in 2048u64..9000,
        initrd in 0u64..(3 << 20),
        unmapped: bool,
    ) {
        let base = base_slot + base_pages * 4096;
        let p2m = p2m_offset.map(|offset| base.wrapping_add_signed(offset * 4096));
        check_domain(base, p2m, pages, initrd, unmapped);
    }

    #[test]
    fn damaged_files_never_panic(
        flips in prop::collection::vec((0usize..600, any::<u8>()), 0..4),
        at_end: bool,
        cut in 0usize..8000,
        pages in 0u64..3000,
    ) {
        let numbers = [
            (XEN_ELFNOTE_INIT_P2M, 0x80_0000_0000),
            (XEN_ELFNOTE_HYPERCALL_PAGE, BASE + 0x10_1000),
        ];
        let mut file = sample(&numbers, &[(XEN_ELFNOTE_FEATURES, "!dom0|hvm_pirqs")]).bytes();
        let length = file.len();
        for (at, value) in flips {
            let at = if at_end { length - 1 - at.min(300) } else { at };
            file[at] = value;
        }
        file.truncate(length.min(cut.max(64)));
        if let Ok(kernel) = Kernel::parse(&file)
            && let Ok(kernel) = PvKernel::check(&kernel, PV_FEATURES)
            && let Ok(layout) = Layout::plan(&kernel, &request(pages, 5000))
        {
            let mut memory = FakeMemory::new(pages);
            let start = start(b"", Initrd::InPlace);
            let _ = build(&kernel, &layout, &start, &mut memory);
        }
    }
}
