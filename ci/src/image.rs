//! `cargo xtask image`: what a boot needs beside the hypervisor.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debs::Set;
use crate::dom0;
use crate::failure::{Context, Result};
use crate::kernel;
use crate::layout::Layout;
use crate::process;

/// Files to boot with.
#[derive(Debug)]
pub struct Image {
    /// Debian's kernel as the package has it.
    pub kernel: PathBuf,
    /// The dom0 initramfs.
    pub dom0: PathBuf,
}

/// Makes the kernel and the dom0 image; quick when nothing changed.
pub fn build(layout: &Layout) -> Result<Image> {
    let kernel = kernel::fetch(layout)?;
    let plain = layout.target.join("dom0.cpio");
    let dom0 = layout.image.join("dom0.cpio.gz");
    let bytes = dom0::archive(layout, &kernel)?;
    if !dom0.exists() || !std::fs::read(&plain).is_ok_and(|old| old == bytes) {
        std::fs::write(&plain, &bytes).context(plain.display())?;
        // -1 boots as fast as an archive that is not compressed at all, and -9 is slower.
        let mut gzip = Command::new("gzip");
        process::output_to_file(gzip.args(["-1", "-n", "-c"]).arg(&plain), &dom0)?;
        let size = std::fs::metadata(&dom0).context(dom0.display())?.len();
        println!("{} {size} bytes", dom0.display());
    }
    Ok(Image {
        kernel: kernel.vmlinuz,
        dom0,
    })
}

/// Debian's Xen, for comparison: the unpacked ELF file.
pub fn reference_xen(layout: &Layout) -> Result<PathBuf> {
    let root = Set {
        name: "xen",
        packages: vec!["xen-hypervisor-4.17-amd64".to_owned()],
        suite: None,
    }
    .unpacked(layout)?;
    let packed = root.join("boot/xen-4.17-amd64.gz");
    let xen = layout.cache.join("xen-4.17-amd64");
    if kernel::newer(&packed, &xen) {
        let mut unpack = Command::new("gzip");
        process::output_to_file(unpack.args(["-d", "-c"]).arg(&packed), &xen)?;
    }
    Ok(xen)
}

/// QEMU 10 from backports, unpacked; its libraries are those of the machine's own QEMU.
pub fn qemu10(layout: &Layout) -> Result<PathBuf> {
    let packages = [
        "qemu-system-x86",
        "qemu-system-common",
        "qemu-system-data",
        "seabios",
    ];
    Set {
        name: "qemu10",
        packages: packages.map(str::to_owned).to_vec(),
        suite: Some("bookworm-backports"),
    }
    .unpacked(layout)
}

/// What a boot ISO holds.
#[derive(Debug)]
pub struct IsoContent<'a> {
    /// The hypervisor and its command line.
    pub hypervisor: (&'a Path, &'a str),
    /// The kernel and its command line.
    pub kernel: (&'a Path, &'a str),
    /// The initramfs.
    pub dom0: &'a Path,
}

/// Makes a BIOS GRUB ISO that boots the hypervisor through multiboot2.
pub fn build_iso(layout: &Layout, content: &IsoContent<'_>, iso: &Path) -> Result<()> {
    let folder = layout.target.join("iso");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context(folder.display())?;
    }
    let boot = folder.join("boot");
    std::fs::create_dir_all(boot.join("grub")).context(boot.display())?;
    for (from, name) in [
        (content.hypervisor.0, "hypervisor"),
        (content.kernel.0, "vmlinuz"),
        (content.dom0, "dom0.cpio.gz"),
    ] {
        std::fs::copy(from, boot.join(name)).context(from.display())?;
    }
    let config = format!(
        "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n\
         multiboot2 /boot/hypervisor {}\nmodule2 /boot/vmlinuz {}\nmodule2 --nounzip /boot/dom0.cpio.gz\nboot\n",
        content.hypervisor.1, content.kernel.1
    );
    std::fs::write(boot.join("grub/grub.cfg"), config).context("grub.cfg")?;
    process::output(
        Command::new("grub-mkrescue")
            .args(["-d", "/usr/lib/grub/i386-pc", "-o"])
            .arg(iso)
            .arg(&folder)
            .arg("--modules=serial terminal multiboot2 normal iso9660 biosdisk part_msdos")
            .args(["--fonts=", "--locales=", "--themes="]),
    )?;
    Ok(())
}
