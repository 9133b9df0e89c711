//! Kernel files: boot images and ELF files, from the kernel that boots in the tests.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pvh_boot::bzimage::find_payload;
use pvh_boot::elf::Kernel;
use pvh_boot::pv::{
    DomainMemory, Initrd, Layout, PV_FEATURES, PvKernel, Request, StartOfDay, build,
};
use pvh_boot::unwrap_kernel;

use crate::engine::Answer;

/// Most bytes that a kernel may unpack to.
const LIMIT: usize = 16 << 20;
/// Bytes of a real kernel that are packed again.
const PART: usize = 96 << 10;
/// Pages of the domain.
const PAGES: u64 = 1 << 16;
/// Bytes kept of each segment.
const KEPT: usize = 512;

/// Debian's kernel, unpacked.
fn vmlinux() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| cached("vmlinux"))
}

fn vmlinuz() -> &'static [u8] {
    static FILE: OnceLock<Vec<u8>> = OnceLock::new();
    FILE.get_or_init(|| cached("vmlinuz"))
}

fn cached(name: &str) -> Vec<u8> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let place = |folder: &Path| folder.join("target/cache").join(name);
    let path: PathBuf = manifest
        .ancestors()
        .map(place)
        .find(|path| path.exists())
        .unwrap_or_else(|| place(manifest));
    std::fs::read(&path).unwrap_or_else(|why| {
        eprintln!(
            "there is no kernel to fuzz with at {} ({why}): `cargo xtask image` provides it",
            path.display()
        );
        std::process::exit(1)
    })
}

/// Runs a packer.
fn filter(tool: &str, arguments: &[&str], input: &'static [u8]) -> Vec<u8> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the packers are installed by `cargo xtask setup`");
    let mut stdin = child.stdin.take().expect("it is piped");
    let writer = std::thread::spawn(move || stdin.write_all(input));
    let output = child.wait_with_output().expect("it runs");
    writer.join().expect("no panic").expect("all is taken");
    assert!(output.status.success(), "{tool} failed");
    output.stdout
}

/// Boot images with the real kernel's setup code and a part of it, by each method.
pub fn boot_images() -> Vec<Vec<u8>> {
    let part = &vmlinux()[..PART];
    let payload = find_payload(vmlinuz()).expect("the real one is good").bytes;
    let start = payload.as_ptr() as usize - vmlinuz().as_ptr() as usize;
    let tools: [(&str, &[&str]); 4] = [
        ("gzip", &["-9", "-c"]),
        ("xz", &["--check=crc32", "--x86", "--lzma2=dict=1MiB", "-c"]),
        ("zstd", &["-19", "-c"]),
        ("lz4", &["-l", "-9", "-c"]),
    ];
    let mut images = vec![part.to_vec()];
    for (tool, arguments) in tools {
        let mut packed = filter(tool, arguments, part);
        images.push(packed.clone());
        // The kernel's build appends the size (gzip has it already).
        if tool != "gzip" {
            packed.extend((PART as u32).to_le_bytes());
        }
        let mut image = vmlinuz()[..start].to_vec();
        image[0x24c..0x250].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        image.extend(packed);
        images.push(image);
    }
    images
}

/// A refusal, which is a sentence.
fn refused(why: &dyn std::fmt::Display) -> Answer {
    assert!(why.to_string().len() > 5);
    Answer::Refused
}

/// Unpacks an image and reads what is in it.
pub fn boot_image(file: &[u8]) -> Answer {
    let kernel = match unwrap_kernel(file, LIMIT) {
        Ok(kernel) => kernel,
        Err(why) => return refused(&why),
    };
    assert!(kernel.len() <= LIMIT.max(file.len()));
    if let Err(why) = Kernel::parse(&kernel) {
        // Only a part of the real one was packed.
        refused(&why);
    }
    Answer::Taken
}

/// The real kernel with all its headers and notes and the first bytes of each segment.
fn shortened() -> Vec<u8> {
    let file = vmlinux();
    let word = |at: usize| u64::from_le_bytes(*file[at..].first_chunk().expect("it is large"));
    let (headers, count) = (word(32) as usize, (word(56) & 0xffff) as usize);
    let mut short = file[..headers + count * 56].to_vec();
    // No sections: they are at the end.
    short[40..48].fill(0);
    short[60..64].fill(0);
    let set = |short: &mut Vec<u8>, at: usize, value: u64| {
        short[at..at + 8].copy_from_slice(&value.to_le_bytes());
    };
    for index in 0..count {
        let header = headers + index * 56;
        let (from, size) = (word(header + 8) as usize, word(header + 32) as usize);
        let is_note = file[header] == 4;
        let kept = if is_note { size } else { size.min(KEPT) };
        let place = short.len() as u64;
        set(&mut short, header + 8, place);
        set(&mut short, header + 32, kept as u64);
        short.extend(&file[from..from + kept]);
    }
    short
}

/// ELF files.
pub fn elf_files() -> Vec<Vec<u8>> {
    vec![shortened()]
}

/// Memory that only checks where it is written.
struct Checked(u64);

impl DomainMemory for Checked {
    fn mfn(&self, pfn: u64) -> u64 {
        assert!(pfn < self.0, "frame {pfn:#x} asked for");
        pfn + 0x1234
    }

    fn write(&mut self, pfn: u64, offset: usize, bytes: &[u8]) {
        assert!(pfn < self.0, "frame {pfn:#x} written");
        assert!(offset + bytes.len() <= 4096, "beyond a page");
    }

    fn zero(&mut self, pfn: u64) {
        assert!(pfn < self.0, "frame {pfn:#x} cleared");
    }
}

/// Loads a kernel as dom0's.
pub fn elf(file: &[u8]) -> Answer {
    let kernel = match Kernel::parse(file) {
        Ok(kernel) => kernel,
        Err(why) => return refused(&why),
    };
    let kernel = match PvKernel::check(&kernel, PV_FEATURES) {
        Ok(kernel) => kernel,
        Err(why) => return refused(&why),
    };
    let request = Request {
        nr_pages: PAGES,
        initrd_len: 0x12_3456,
    };
    let layout = match Layout::plan(&kernel, &request) {
        Ok(layout) => layout,
        Err(why) => return refused(&why),
    };
    assert!(layout.end <= PAGES);
    let start = StartOfDay {
        shared_info: 0x7777_7000,
        command_line: b"console=hvc0",
        initrd: Initrd::InPlace,
        vga: None,
    };
    match build(&kernel, &layout, &start, &mut Checked(PAGES)) {
        Ok(_) => Answer::Taken,
        Err(why) => refused(&why),
    }
}
