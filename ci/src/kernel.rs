//! Debian's kernel: fetched, and its bzImage unpacked to the ELF file inside.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::debs::{self, Set};
use crate::failure::{Context, Failure, Result};
use crate::layout::Layout;

/// A kernel on disk.
#[derive(Debug)]
pub struct Kernel {
    /// The compressed kernel as the package has it.
    pub vmlinuz: PathBuf,
    /// Its modules, `lib/modules/VERSION`.
    pub modules: PathBuf,
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
    Ok(Kernel { vmlinuz, ..kernel })
}

/// Where [`fetch`] leaves the ELF file.
pub fn unpacked(layout: &Layout) -> PathBuf {
    layout.cache.join("vmlinux")
}

/// The kernel of Debian 13.
pub fn fetch_debian13(layout: &Layout) -> Result<Kernel> {
    from_package(layout, "kernel-debian13", Some("trixie"))
}

/// Unpacks the package that linux-image-amd64 depends on; its name is noted beside the tree.
fn from_package(layout: &Layout, set: &str, suite: Option<&str>) -> Result<Kernel> {
    let name = layout.cache.join(format!("{set}-package"));
    let package = match std::fs::read_to_string(&name) {
        Ok(package) => package,
        Err(_) => {
            let package = debs::dependency_of(layout, suite, "linux-image-amd64", "linux-image-")?;
            std::fs::write(&name, &package).context(name.display())?;
            package
        }
    };
    let version = package
        .strip_prefix("linux-image-")
        .ok_or("a kernel package begins with linux-image-")?
        .to_owned();
    let root = Set {
        name: set,
        packages: vec![package],
        suite,
    }
    .unpacked(layout)?;
    let modules = ["usr/lib/modules", "lib/modules"]
        .map(|folder| root.join(folder).join(&version))
        .into_iter()
        .find(|folder| folder.exists())
        .ok_or("the kernel's package has no modules")?;
    Ok(Kernel {
        vmlinuz: root.join(format!("boot/vmlinuz-{version}")),
        modules,
    })
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
