//! A distribution's kernel, taken apart and loaded. Needs that kernel: see [`kernel_file`].

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pvh_boot::bzimage::find_payload;
use pvh_boot::elf::Kernel;
use pvh_boot::pv::{
    Initrd, InitrdPlace, Layout, PV_FEATURES, PvKernel, Request, StartOfDay, StartState, build,
};
use pvh_boot::unpack::{Method, UnpackError};
use pvh_boot::{UnwrapError, unwrap_kernel};
use support::{FakeMemory, PAGE, Walked};
use xen_abi::start_info::Dom0VgaConsoleInfo;

const LIMIT: usize = 256 << 20;

/// The kernel under test: $XENOLITH_KERNEL, or target/cache/vmlinuz in a folder above this crate.
fn kernel_file() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| {
        let path = std::env::var_os("XENOLITH_KERNEL").map_or_else(cached_kernel, PathBuf::from);
        std::fs::read(&path).unwrap_or_else(|error| {
            panic!(
                "there is no kernel to test with at {} ({error}): `cargo xtask setup` provides it",
                path.display()
            )
        })
    })
}

fn cached_kernel() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = |folder: &Path| folder.join("target/cache/vmlinuz");
    manifest
        .ancestors()
        .map(place)
        .find(|path| path.exists())
        .unwrap_or_else(|| place(manifest.parent().unwrap()))
}

/// The kernel's ELF file, unpacked once for all tests.
fn vmlinux() -> &'static [u8] {
    static ELF: OnceLock<Vec<u8>> = OnceLock::new();
    ELF.get_or_init(|| unwrap_kernel(kernel_file(), LIMIT).unwrap().into_owned())
}

/// Runs a tool on `input` and returns what it prints.
fn filter(tool: &str, arguments: &[&str], input: &'static [u8]) -> Vec<u8> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool} cannot be run: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "{tool} failed");
    output.stdout
}

/// The same boot image with another payload.
fn rewrap(payload: &[u8]) -> Vec<u8> {
    let file = kernel_file();
    let old = find_payload(file).unwrap().bytes;
    let start = old.as_ptr() as usize - file.as_ptr() as usize;
    let mut image = file[..start].to_vec();
    image[0x24c..0x250].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    image.extend_from_slice(payload);
    image
}

#[test]
fn xz_result_is_that_of_the_xz_tool() {
    let payload = find_payload(kernel_file()).unwrap().bytes;
    assert_eq!(Method::detect(payload), Some(Method::Xz));
    let expected = filter("xz", &["-dc"], &payload[..payload.len() - 4]);
    assert!(vmlinux() == expected, "unpacked kernels differ");
}

#[test]
fn other_compressions_give_the_same_kernel() {
    let tools: [(&str, &[&str], bool); 4] = [
        ("gzip", &["-6", "-c"], false),
        ("zstd", &["-3", "-c"], true),
        ("zstd", &["-1", "--long=27", "--no-check", "-c"], true),
        ("lz4", &["-l", "-1", "-c"], true),
    ];
    for (tool, arguments, size_appended) in tools {
        let bare = filter(tool, arguments, vmlinux());
        let unpacked = unwrap_kernel(&bare, LIMIT).unwrap();
        assert!(unpacked == vmlinux(), "{tool}: bare file differs");

        let mut payload = bare;
        if size_appended {
            payload.extend_from_slice(&(vmlinux().len() as u32).to_le_bytes());
        }
        let image = rewrap(&payload);
        let unpacked = unwrap_kernel(&image, LIMIT).unwrap();
        assert!(unpacked == vmlinux(), "{tool}: boot image differs");
    }
    let image = rewrap(vmlinux());
    assert!(unwrap_kernel(&image, LIMIT).unwrap() == vmlinux());
}

#[test]
fn unsupported_compressions_are_refused_by_name() {
    let start = &vmlinux()[..1 << 20];
    let tools: [(&str, &[&str], &str); 2] = [
        ("bzip2", &["-1", "-c"], "bzip2"),
        ("xz", &["--format=lzma", "-1", "-c"], "lzma"),
    ];
    for (tool, arguments, name) in tools {
        let image = rewrap(&filter(tool, arguments, start));
        let said = unwrap_kernel(&image, LIMIT).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("compressed with {name}, which")),
            "{said}"
        );
    }
}

#[test]
fn damage_and_limits_are_reported() {
    let payload = find_payload(kernel_file()).unwrap().bytes;
    let mut damaged = payload.to_vec();
    damaged[payload.len() / 2] ^= 0x10;
    assert!(matches!(
        unwrap_kernel(&rewrap(&damaged), LIMIT),
        Err(UnwrapError::Unpack(UnpackError::Damaged(Method::Xz, _)))
    ));

    let mut short = payload[..payload.len() / 2].to_vec();
    short.extend_from_slice(&payload[payload.len() - 4..]);
    assert_eq!(
        unwrap_kernel(&rewrap(&short), LIMIT)
            .unwrap_err()
            .to_string(),
        "xz data is cut short"
    );

    assert_eq!(
        unwrap_kernel(kernel_file(), 1 << 20),
        Err(UnwrapError::Unpack(UnpackError::TooLarge {
            limit: 1 << 20
        }))
    );

    let mut larger = payload.to_vec();
    let at = larger.len() - 4;
    larger[at..].copy_from_slice(&(vmlinux().len() as u32 + 1).to_le_bytes());
    assert!(matches!(
        unwrap_kernel(&rewrap(&larger), LIMIT),
        Err(UnwrapError::Unpack(UnpackError::SizeMismatch { .. }))
    ));
}

#[test]
fn notes_are_those_of_a_linux_kernel() {
    let kernel = Kernel::parse(vmlinux()).unwrap();
    let notes = &kernel.notes;
    assert_eq!(notes.guest_os, Some("linux"));
    assert_eq!(notes.guest_version, Some("2.6"));
    assert_eq!(notes.xen_version, Some("xen-3.0"));
    assert_eq!(notes.loader, Some("generic"));
    assert_eq!(notes.virt_base, Some(0xffff_ffff_8000_0000));
    assert_eq!(notes.init_p2m, Some(0x80_0000_0000));
    assert_eq!(notes.hv_start_low, Some(0xffff_8000_0000_0000));
    assert_eq!(notes.mod_start_pfn, Some(true));
    assert_eq!(notes.suspend_cancel, Some(true));
    assert_eq!(notes.paddr_offset, Some(0));
    assert_eq!(notes.hypercall_page, None);
    assert!(notes.entry.is_some() && notes.phys32_entry.is_some());
    let pairs: Vec<_> = notes.l1_mfn_valid.unwrap().pairs().collect();
    assert_eq!(pairs, [(1, 1)]);
    let features = notes.all_features();
    assert_eq!(features.required, 1 << 0);
    assert_eq!(features.supported & (1 << 11), 1 << 11);
    assert!(PvKernel::check(&kernel, PV_FEATURES).is_ok());
    assert_eq!(
        PvKernel::check(&kernel, PV_FEATURES & !1)
            .unwrap_err()
            .to_string(),
        "the kernel requires the feature writable_page_tables, which PV domains do not have here"
    );
}

const INITRD: &[u8] = &[0x42; 3 * PAGE + 100];
const VGA: Dom0VgaConsoleInfo = Dom0VgaConsoleInfo {
    video_type: 3,
    _pad0: [0; 3],
    u: [0x0707_0707; 9],
};

fn load(nr_pages: u64, initrd: Initrd<'_>) -> (Layout, StartState, FakeMemory) {
    let kernel = Kernel::parse(vmlinux()).unwrap();
    let kernel = PvKernel::check(&kernel, PV_FEATURES).unwrap();
    let request = Request {
        nr_pages,
        initrd_len: INITRD.len() as u64,
    };
    let layout = Layout::plan(&kernel, &request).unwrap();
    let mut memory = FakeMemory::new(nr_pages);
    let start = StartOfDay {
        shared_info: 0x1234_5000,
        command_line: b"console=hvc0",
        initrd,
        vga: Some(&VGA),
    };
    let state = build(&kernel, &layout, &start, &mut memory).unwrap();
    (layout, state, memory)
}

/// Checks tables and p2m list of a loaded domain by reading them back.
fn check_address_space(layout: &Layout, state: &StartState, memory: &FakeMemory) {
    let walked = Walked::from_root(memory, state.root_pfn);

    let mut planned = std::collections::HashMap::new();
    for frames in layout.tables.frames() {
        planned.extend(frames.pfns.map(|pfn| (pfn, frames.level as u8)));
    }
    assert_eq!(walked.tables, planned, "tables and their levels");

    let list = layout.p2m.list;
    let own_list = (0..list.pages).map(|page| (layout.p2m.virt + page * 4096, list.pfn + page));
    let initial = (0..layout.mapped_pages).map(|pfn| (layout.virt_base + pfn * 4096, pfn));
    let mut expected: Vec<_> = own_list.chain(initial).collect();
    expected.sort_unstable();
    let found: Vec<_> = walked.mappings.iter().map(|m| (m.virt, m.pfn)).collect();
    assert!(found == expected, "mappings differ from the plan");
    for mapping in &walked.mappings {
        let is_table = walked.tables.contains_key(&mapping.pfn);
        assert_eq!(mapping.writable, !is_table, "{mapping:x?}");
    }
}

#[test]
fn domains_of_many_sizes_are_built() {
    for mib in [256, 511, 1024, 4096] {
        let nr_pages = mib * 256;
        let (layout, state, memory) = load(nr_pages, Initrd::Copy(INITRD));
        check_address_space(&layout, &state, &memory);

        for pfn in 0..nr_pages {
            let at = layout.p2m.list.pfn + pfn / 512;
            let mfn = memory.u64_at(at, (pfn % 512) as usize * 8);
            assert_eq!(memory.pfn_of(mfn), pfn, "p2m list");
        }
        assert_eq!(layout.mapped_pages % 1024, 0);
        assert!(layout.mapped_pages - layout.stack.end() >= 128);
        assert_eq!(layout.kernel.end(), layout.start_info.pfn);
        assert_eq!(layout.start_info.end(), layout.page_tables.pfn);
        assert_eq!(layout.page_tables.end(), layout.stack.pfn);
        assert_eq!(state.rsp, layout.virt_base + layout.stack.end() * 4096);
        assert_eq!(state.root_pfn, layout.page_tables.pfn);
    }
}

#[test]
fn kernel_and_initrd_arrive_unchanged() {
    let (layout, state, memory) = load(1 << 16, Initrd::Copy(INITRD));
    let kernel = Kernel::parse(vmlinux()).unwrap();
    assert_eq!(Some(state.rip), kernel.notes.entry);
    for segment in &kernel.segments {
        let loaded = memory.bytes(segment.paddr, segment.mem_size as usize);
        let (data, bss) = loaded.split_at(segment.data.len());
        assert!(data == segment.data, "segment at {:#x}", segment.paddr);
        assert!(bss.iter().all(|&byte| byte == 0), "bss is not zero");
    }
    let InitrdPlace::Unmapped(place) = layout.initrd else {
        panic!("a Linux kernel takes its initrd unmapped");
    };
    assert_eq!(place.pfn, layout.mapped_pages);
    assert_eq!(memory.bytes(place.pfn * 4096, INITRD.len()), INITRD);
    assert_eq!(memory.page(place.end() - 1)[101..], [0; PAGE - 101]);
}

#[test]
fn start_info_says_where_things_are() {
    let (layout, state, memory) = load(1 << 16, Initrd::InPlace);
    let at = layout.start_info.pfn;
    assert_eq!(state.rsi, layout.virt_base + at * 4096);
    let page = memory.page(at);
    assert_eq!(&page[..16], b"xen-3.0-x86_64\0\0");
    let InitrdPlace::Unmapped(initrd) = layout.initrd else {
        panic!("a Linux kernel takes its initrd unmapped");
    };
    // Offsets of struct start_info, xen.h.
    let words = [
        (32, 1 << 16),
        (40, 0x1234_5000),
        (88, layout.virt_base + layout.page_tables.pfn * 4096),
        (96, layout.page_tables.pages),
        (104, 0x80_0000_0000),
        (112, initrd.pfn),
        (120, INITRD.len() as u64),
        (1152, initrd.end()),
        (1160, layout.end - initrd.end()),
    ];
    for (offset, value) in words {
        assert_eq!(memory.u64_at(at, offset), value, "word at {offset}");
    }
    assert_eq!(memory.u32_at(at, 48), 0xb, "flags");
    assert_eq!(memory.u32_at(at, 72), 1168, "info_off");
    assert_eq!(memory.u32_at(at, 76), 40, "info_size");
    assert_eq!(&page[128..141], b"console=hvc0\0");
    assert_eq!(page[1168..1172], [3, 0, 0, 0]);
    assert_eq!(page[1172..1208], [7; 36]);
    assert!(page[1208..].iter().all(|&byte| byte == 0));
}
