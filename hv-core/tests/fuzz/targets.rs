//! The parsers of the boot, each with what the boot does with its answer.

use hv_core::base::PhysAddr;
use hv_core::boot::acpi::{AcpiFacts, find_rsdp};
use hv_core::boot::cmdline::Parsed;
use hv_core::boot::efi::{EfiFacts, EfiRegion, EfiSystemTable};
use hv_core::boot::info::{BootInfo, Rsdp, ScreenMaker};
use hv_core::boot::memmap::{MemoryMap, RamSize, UsableFrames};
use hv_core::boot::microcode::{Maker, Target as Cpu, in_initrd, select};
use hv_core::boot::modules::check_modules;
use hv_core::mm::buddy::Buddy;

use crate::engine::{Answer, Target};
use crate::kernels;
use crate::memory::{self, Memory};

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "acpi",
        corpus: || vec![files!("acpi-pc"), files!("acpi-q35")],
        seal: memory::seal_tables,
        read: acpi,
        bytes: 1 << 20,
        slowness: 1,
    },
    Target {
        name: "loader",
        corpus: || {
            vec![
                files!("multiboot1"),
                files!("multiboot2"),
                files!("multiboot2-efi"),
                files!("pvh"),
            ]
        },
        seal: |_| {},
        read: loader,
        bytes: 4 << 20,
        slowness: 1,
    },
    Target {
        name: "command-line",
        corpus: command_lines,
        seal: |_| {},
        read: command_line,
        bytes: 1 << 20,
        slowness: 1,
    },
    Target {
        name: "microcode",
        corpus: microcode_files,
        seal: |_| {},
        read: microcode,
        bytes: 1 << 16,
        slowness: 1,
    },
    Target {
        name: "elf",
        corpus: kernels::elf_files,
        seal: |_| {},
        read: kernels::elf,
        bytes: 32 << 20,
        slowness: 8,
    },
    Target {
        name: "bzimage",
        corpus: kernels::boot_images,
        seal: |_| {},
        read: kernels::boot_image,
        bytes: 64 << 20,
        slowness: 20,
    },
];

/// A file of the corpus.
macro_rules! files {
    ($name:literal) => {
        include_bytes!(concat!("corpus/", $name, ".bin")).to_vec()
    };
}
use files;

/// An archive with a file of AMD's, and one of Intel's; what CPU they are for, the code below knows.
fn microcode_files() -> Vec<Vec<u8>> {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
    let mut amd = words(&[
        0x0041_4d44,
        0,
        32,
        7,
        0,
        0,
        9,
        0,
        0,
        0,
        0,
        1,
        64,
        0,
        5,
        0,
        0,
        0,
        0,
        9,
    ]);
    amd.resize(amd.len() + 36, 0);
    let mut intel = words(&[1, 5, 0, 7, 0, 1, 1, 16, 100, 0, 0, 0, 1, 2, 3, 4]);
    intel.extend(words(&[1, 0, 0, 0, 0, 8, 1, 0, 0]));
    let sum = intel.chunks(4).fold(0u32, |sum, w| {
        sum.wrapping_add(w.try_into().map_or(0, u32::from_le_bytes))
    });
    intel[16..20].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
    let name = "kernel/x86/microcode/AuthenticAMD.bin\0";
    let mut archive = String::from("070701");
    for field in 0..13 {
        let number = match field {
            6 => amd.len(),
            11 => name.len(),
            _ => 0,
        };
        archive.push_str(&format!("{number:08x}"));
    }
    archive.push_str(name);
    let mut archive = archive.into_bytes();
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(&amd);
    vec![amd, intel, archive]
}

fn microcode(file: &[u8]) -> Answer {
    let mut answer = Answer::Refused;
    for maker in [Maker::Amd, Maker::Intel] {
        let target = Cpu {
            maker,
            signature: 7,
            platform: 1,
            revision: 0,
        };
        for file in in_initrd(file, maker).into_iter().chain([file]) {
            match select(file, target) {
                Ok(patch) => {
                    assert!(patch.revision > 0 && patch.entry < patch.bytes.len());
                    answer = Answer::Taken;
                }
                Err(why) => assert!(!why.to_string().is_empty()),
            }
        }
    }
    answer
}

fn acpi(file: &[u8]) -> Answer {
    let Some(mem) = Memory::read(file) else {
        return Answer::Refused;
    };
    if let Some(at) = find_rsdp(&mem) {
        facts(&AcpiFacts::parse(&mem, at));
    }
    facts(&AcpiFacts::parse_copy(&mem, mem.first()));
    facts(&AcpiFacts::parse(&mem, PhysAddr(mem.at)))
}

fn facts((facts, warnings): &(AcpiFacts, Vec<hv_core::boot::acpi::AcpiWarning>)) -> Answer {
    assert!(warnings.iter().all(|w| w.to_string().starts_with("ACPI: ")));
    assert!(facts.tables.iter().all(|t| !t.to_string().is_empty()));
    let _ = facts.hpet_address();
    if warnings.is_empty() && facts.madt.is_some() && facts.fadt.is_some() {
        Answer::Taken
    } else {
        Answer::Refused
    }
}

fn loader(file: &[u8]) -> Answer {
    let Some(mem) = Memory::read(file) else {
        return Answer::Refused;
    };
    let info = match BootInfo::parse(&mem, mem.magic, PhysAddr(mem.at)) {
        Ok(info) => info,
        Err(why) => {
            assert!(why.to_string().len() > 20);
            return Answer::Refused;
        }
    };
    let parsed = Parsed::new(&info.command_line);
    for module in &info.modules {
        let _ = parsed.dom0_line(&module.command_line);
    }
    let (map, warnings) = MemoryMap::new(&info.memory_map, 1 << 42);
    assert!(warnings.iter().all(|w| !w.to_string().is_empty()));
    // Where the image was when the good inputs were taken.
    let image = 0x20_0000..0x33_d000;
    let good = check_modules(&info.modules, &map, image.clone()).is_ok();
    let mut frames = UsableFrames::new(&map);
    frames.carve_out_low_mib();
    frames.carve_out(PhysAddr(image.start), image.end - image.start);
    for module in &info.modules {
        frames.carve_out(module.start, module.len);
    }
    assert!(!RamSize(frames.total_frames()).to_string().is_empty());
    // A bit for each page: only for as much RAM as there is on a small machine.
    if good && frames.runs().last().is_some_and(|run| run.end.0 < 4 << 20) {
        let mut buddy = Buddy::new();
        for run in frames.runs() {
            assert_eq!(buddy.add_region(run), Ok(()));
        }
        assert_eq!(buddy.free_pages(), frames.total_frames());
    }
    if let Some(EfiSystemTable::Wide(at)) = info.efi.system_table {
        firmware(&mem, at, info.efi.memory);
    }
    let _ = info.video.for_dom0(&map, ScreenMaker::Efi);
    if let Some(Rsdp::Copy(bytes)) = info.rsdp {
        facts(&AcpiFacts::parse_copy(&mem, &bytes));
    }
    if good { Answer::Taken } else { Answer::Refused }
}

/// Only what is the firmware's own to have is mapped, whole pages of the lower half.
fn firmware(mem: &Memory<'_>, at: PhysAddr, memory: Vec<EfiRegion>) {
    let facts = match EfiFacts::read(mem, at, memory) {
        Ok(facts) => facts,
        Err(why) => return assert!(!why.to_string().is_empty()),
    };
    match &facts.runtime {
        Ok(runtime) => {
            for part in runtime.mappings() {
                let end = part.base.0.checked_add(part.len);
                assert!(end.is_some_and(|end| end <= 1 << 47) && part.base.offset() == 0);
                let mut owners = facts.memory.iter().filter(|r| r.is_runtime());
                assert!(owners.any(|r| r.holds(part.base.0, part.len)));
            }
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

fn command_lines() -> Vec<Vec<u8>> {
    [
        "console=com1,vga com1=115200,8n1,0x3f8,4 dom0_mem=1024M,max:1024M loglvl=all guest_loglvl=none/all",
        "placeholder dom0_mem=min:512M,max:2G,-25% dom0_max_vcpus=1-4 maxcpus=4 nosmp no-real-mode edd=off noreboot",
        "abi=4.17 sched=credit2 conring_size=64k watchdog=force dom0=pv iommu=yes ucode=scan smt=0 -- root=/dev/sda1 ro",
    ]
    .map(|line| line.as_bytes().to_vec())
    .to_vec()
}

fn command_line(file: &[u8]) -> Answer {
    let line = String::from_utf8_lossy(file);
    let parsed = Parsed::new(&line);
    assert!(parsed.diagnostics.len() <= 65);
    assert!(parsed.diagnostics.iter().all(|d| !d.to_string().is_empty()));
    let options = &parsed.options;
    for (free, total) in [(0, 0), (1 << 18, 1 << 19), (1 << 30, 1 << 30)] {
        assert!(options.dom0_mem.resolve(free, total).initial <= free);
        assert!(options.dom0_max_vcpus.pick(4) >= 1);
    }
    Answer::Taken
}
