//! `cargo xtask build`: the hypervisor as an ELF image, with and without symbols, and compressed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::elf;
use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::process;
use crate::toolchain::{TARGET, Toolchain};

/// The files a build leaves.
#[derive(Debug)]
pub struct Hypervisor {
    /// What is booted: segments only.
    pub image: PathBuf,
    /// The same with sections, symbols and line tables.
    pub debug: PathBuf,
    /// `image`, gzip -9; what is installed under /boot.
    pub compressed: PathBuf,
}

/// Which profile of the workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// What is installed.
    Release,
    /// The same with debug assertions: it panics where its own rules are broken.
    Checked,
}

impl Profile {
    /// Its name, for cargo and as the folder of what is built.
    const fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Checked => "checked",
        }
    }
}

impl Hypervisor {
    /// Where a build leaves them.
    pub fn at(layout: &Layout, profile: Profile) -> Self {
        let stem = match profile {
            Profile::Release => "xenolith",
            Profile::Checked => "xenolith-checked",
        };
        Self {
            image: layout.image.join(stem),
            debug: layout.image.join(format!("{stem}.debug")),
            compressed: layout.image.join(format!("{stem}.gz")),
        }
    }
}

/// Builds the hypervisor and prints what was made.
pub fn build(layout: &Layout, profile: Profile) -> Result<Hypervisor> {
    let toolchain = Toolchain::select(layout)?;
    println!("hypervisor: {}", toolchain.describe());
    let mut cargo = toolchain.cargo(layout, "build");
    process::run(cargo.args(["--profile", profile.name()]).args(PACKAGE))?;
    let linked = layout
        .target
        .join("hv")
        .join(TARGET)
        .join(profile.name())
        .join("xenolith");
    let files = Hypervisor::at(layout, profile);
    let whole = std::fs::read(&linked).context(linked.display())?;
    let stripped = elf::segments_only(&whole).context(linked.display())?;
    let fresh = write_if_changed(&files.image, &stripped)?;
    write_if_changed(&files.debug, &whole)?;
    if fresh || !files.compressed.exists() {
        process::output_to_file(
            Command::new("gzip")
                .args(["-9", "-n", "-c"])
                .arg(&files.image),
            &files.compressed,
        )?;
    }
    for file in [&files.image, &files.compressed] {
        let size = std::fs::metadata(file).context(file.display())?.len();
        println!("{} {size} bytes", file.display());
    }
    Ok(files)
}

/// Builds micro-pv, the kernel that checks the hypercall interface, and beside it the small micro-domu and micro-pvh.
pub fn build_micro(layout: &Layout) -> Result<PathBuf> {
    let toolchain = Toolchain::select(layout)?;
    let mut cargo = toolchain.cargo(layout, "build");
    cargo.args(["--quiet", "--release"]);
    process::run(cargo.args(["--package", "micro-pv", "--package", "micro-pvh"]))?;
    let folder = layout.target.join("hv").join(TARGET).join("release");
    Ok(folder.join("micro-pv"))
}

/// A copy without the multiboot 1 header's magic number: QEMU then takes the PVH note.
pub fn hide_multiboot(image: &Path, copy: &Path) -> Result<()> {
    let mut bytes = std::fs::read(image).context(image.display())?;
    // The header lies in the first 8 KiB, at a multiple of 4 (multiboot specification, 3.1).
    let header = bytes
        .chunks_exact_mut(4)
        .take(8192 / 4)
        .find(|word| **word == 0x1bad_b002_u32.to_le_bytes())
        .ok_or("the image has no multiboot header")?;
    header.fill(0);
    std::fs::write(copy, bytes).context(copy.display())
}

/// Type-checks the hypervisor without linking it.
pub fn check(layout: &Layout) -> Result<()> {
    let toolchain = Toolchain::select(layout)?;
    let mut cargo = toolchain.cargo(layout, "check");
    process::run(cargo.arg("--release").args(PACKAGE))
}

/// Which binary.
const PACKAGE: [&str; 4] = ["--package", "hv-core", "--bin", "xenolith"];

/// Writes the file unless it has these bytes already, so that its date tells whether it changed.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    std::fs::write(path, bytes).context(path.display())?;
    Ok(true)
}
