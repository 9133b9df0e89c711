//! Debian's kernel: fetched, and its bzImage unpacked to the ELF file inside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tests_linux_guests::emulator::Linux;

use crate::debs::{self, Set};
use crate::failure::{Context, Failure, Result};
use crate::layout::Layout;

/// A kernel on disk.
#[derive(Debug)]
pub struct Kernel {
    /// The compressed kernel as the package has it.
    pub vmlinuz: PathBuf,
    /// The ELF file in it.
    pub vmlinux: PathBuf,
    /// Its modules, `lib/modules/VERSION`.
    pub modules: PathBuf,
}

impl Kernel {
    /// What `uname -r` says of it.
    pub fn release(&self) -> String {
        let name = self.modules.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }
}

/// A kernel of Debian's.
pub fn of(layout: &Layout, linux: Linux) -> Result<Kernel> {
    match linux {
        Linux::Debian12 | Linux::Debian12Unpacked => fetch(layout),
        Linux::Debian13 => from_suite(layout, "kernel-debian13", "trixie"),
        Linux::DebianUnstable => from_suite(layout, "kernel-unstable", "sid"),
    }
}

/// The kernel that linux-image-amd64 stands for, with `vmlinuz` and `vmlinux` in `target/cache`.
pub fn fetch(layout: &Layout) -> Result<Kernel> {
    let kernel = from_package(layout, "kernel", None)?;
    let vmlinuz = layout.cache.join("vmlinuz");
    if newer(&kernel.vmlinuz, &vmlinuz) {
        std::fs::copy(&kernel.vmlinuz, &vmlinuz).context(kernel.vmlinuz.display())?;
    }
    let vmlinux = unpacked(layout);
    if newer(&vmlinuz, &vmlinux) {
        extract(&vmlinuz, &vmlinux)?;
    }
    Ok(Kernel {
        vmlinuz,
        vmlinux,
        ..kernel
    })
}

/// Where [`fetch`] leaves the ELF file.
pub fn unpacked(layout: &Layout) -> PathBuf {
    layout.cache.join("vmlinux")
}

/// The kernel of another suite, with its ELF file in the folder of the set.
fn from_suite(layout: &Layout, set: &str, suite: &str) -> Result<Kernel> {
    let kernel = from_package(layout, set, Some(suite))?;
    if newer(&kernel.vmlinuz, &kernel.vmlinux) {
        extract(&kernel.vmlinuz, &kernel.vmlinux)?;
    }
    Ok(kernel)
}

/// Unpacks the packages that linux-image-amd64 stands for; their names are noted beside the tree, so that the kernel
/// stays the same until the cache is deleted.
fn from_package(layout: &Layout, set: &str, suite: Option<&str>) -> Result<Kernel> {
    let note = layout.cache.join(format!("{set}-package"));
    let names = match std::fs::read_to_string(&note) {
        Ok(names) => names,
        Err(_) => {
            let names = current_packages(layout, suite)?.join(" ");
            std::fs::write(&note, &names).context(note.display())?;
            names
        }
    };
    let packages: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
    let version = packages
        .iter()
        .find_map(|name| version_in(name))
        .ok_or("a kernel's package begins with linux-image- or linux-binary-")?
        .to_owned();
    let root = Set {
        name: set,
        packages,
        suite,
    }
    .unpacked(layout)?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|folder| root.join(folder).join(&version))
        .into_iter()
        .find(|folder| folder.exists())
        .ok_or("the kernel's package has no modules")?;
    let vmlinuz = [
        root.join(format!("boot/vmlinuz-{version}")),
        // Since Debian 14.
        modules.join("vmlinuz"),
    ]
    .into_iter()
    .find(|file| file.exists())
    .ok_or("the kernel's package has no kernel")?;
    Ok(Kernel {
        vmlinuz,
        vmlinux: layout.cache.join(set).join("vmlinux"),
        modules,
    })
}

/// The packages with the kernel and the modules of a suite's newest kernel, as its index has them.
fn current_packages(layout: &Layout, suite: Option<&str>) -> Result<Vec<String>> {
    if suite.is_some() {
        // Lists from an earlier day may name what the archive does not keep.
        debs::update(layout, suite)?;
    }
    let images = debs::dependencies_of(layout, suite, "linux-image-amd64", &["linux-image-"])?;
    let image = images
        .first()
        .ok_or("linux-image-amd64 stands for no kernel")?;
    // Since Debian 14 that is a meta package too.
    let parts = debs::dependencies_of(layout, suite, image, &["linux-binary-", "linux-modules-"])?;
    Ok(if parts.is_empty() { images } else { parts })
}

/// The kernel's version, when this is the name of the package with the kernel.
fn version_in(package: &str) -> Option<&str> {
    ["linux-image-", "linux-binary-"]
        .iter()
        .find_map(|prefix| package.strip_prefix(prefix))
}

/// Whether `to` is missing or older than `from`.
pub fn newer(from: &Path, to: &Path) -> bool {
    let date = |path: &Path| {
        std::fs::metadata(path)
            .and_then(|data| data.modified())
            .ok()
    };
    match (date(from), date(to)) {
        (Some(from), Some(to)) => from > to,
        _ => true,
    }
}

/// Unpacks a bzImage (Linux boot protocol 2.08 or newer: payload_offset and payload_length).
fn extract(vmlinuz: &Path, vmlinux: &Path) -> Result<()> {
    let image = std::fs::read(vmlinuz).context(vmlinuz.display())?;
    let payload = payload(&image)
        .ok_or_else(|| Failure::new(format!("{}: not a bzImage", vmlinuz.display())))?;
    let program = match payload {
        [0xfd, b'7', b'z', b'X', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        [0x1f, 0x8b, ..] => "gzip",
        _ => return Err(Failure::new("kernel payload: unknown compression")),
    };
    let file = std::fs::File::create(vmlinux).context(vmlinux.display())?;
    let mut child = Command::new(program)
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(file)
        .stderr(Stdio::null())
        .spawn()
        .context(program)?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(payload).context(program)?;
    }
    // The payload ends with the unpacked size, which these programs report as trailing garbage:
    // what counts is that an ELF file came out.
    child.wait().context(program)?;
    let head = std::fs::read(vmlinux).context(vmlinux.display())?;
    if head.starts_with(b"\x7fELF") {
        return Ok(());
    }
    Err(Failure::new(format!(
        "{}: no ELF inside",
        vmlinuz.display()
    )))
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let setup_sectors = usize::from(*image.get(0x1f1)?);
    let start = (setup_sectors + 1) * 512 + word(0x248)?;
    image.get(start..start.checked_add(word(0x24c)?)?)
}
