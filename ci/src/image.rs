//! `cargo xtask image`: what a boot needs beside the hypervisor.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests_linux_guests::emulator::Linux;

use crate::cpio::Archive;
use crate::debs::Set;
use crate::dom0::{self, More};
use crate::failure::{Context, Result};
use crate::kernel::{self, Kernel};
use crate::layout::Layout;
use crate::{hypervisor, process};

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
    with_kernel(layout, kernel::fetch(layout)?, "dom0", &dom0::PLAIN)
}

/// The same with what a machine with UEFI has more.
pub fn build_uefi(layout: &Layout) -> Result<Image> {
    with_kernel(layout, kernel::fetch(layout)?, "dom0-uefi", &dom0::UEFI)
}

/// The same with what creates other domains, and what these run.
pub fn build_guests(layout: &Layout) -> Result<Image> {
    let kernel = kernel::fetch(layout)?;
    with_kernel(layout, kernel, "dom0-guests", &dom0::GUESTS)
}

/// The same with the boot loaders that start guests from their disks.
pub fn build_pygrub(layout: &Layout) -> Result<Image> {
    let kernel = kernel::fetch(layout)?;
    with_kernel(layout, kernel, "dom0-pygrub", &dom0::PYGRUB)
}

/// The plain one with the kernel of another Debian.
pub fn build_other(layout: &Layout, linux: Linux) -> Result<Image> {
    let name = format!("dom0{}", suffix(linux));
    with_kernel(layout, kernel::of(layout, linux)?, &name, &dom0::PLAIN)
}

/// [`build_guests`] with the kernel of another Debian for the guests.
pub fn build_other_guests(layout: &Layout, linux: Linux) -> Result<Image> {
    let image = build_guests(layout)?;
    let suffix = suffix(linux);
    let guest = layout.target.join(format!("guest{suffix}.cpio"));
    let kernel = kernel::of(layout, linux)?;
    std::fs::write(&guest, dom0::other_guest(layout, &kernel)?).context(guest.display())?;
    let to = layout.image.join(format!("dom0-guests-of{suffix}.cpio.gz"));
    let dom0 = both(&image.dom0, &guest, &to)?;
    Ok(Image { dom0, ..image })
}

/// What the names of files for a kernel end with.
fn suffix(linux: Linux) -> &'static str {
    match linux {
        Linux::Debian12 | Linux::Debian12Unpacked => "",
        Linux::Debian13 => "-debian13",
        Linux::DebianUnstable => "-unstable",
    }
}

/// Debian 12's dom0 image with drivers behind it.
pub fn with_drivers(layout: &Layout, dom0: &Path) -> Result<PathBuf> {
    let drivers = layout.target.join("drivers.cpio");
    let kernel = kernel::fetch(layout)?;
    std::fs::write(&drivers, dom0::drivers(&kernel)?).context(drivers.display())?;
    both(dom0, &drivers, &layout.image.join("dom0-drivers.cpio.gz"))
}

/// What dom0 uses beside `xl` to look at our own guests.
const MICRO_TOOLS: &[&str] = &["domain-race", "free-pages", "hold-grant", "pool-race"];

/// A dom0 image with our own guest kernels behind it.
pub fn with_micro(layout: &Layout, dom0: &Path) -> Result<PathBuf> {
    let micro = hypervisor::build_micro(layout)?;
    let mut archive = Archive::default();
    for name in ["micro-pv", "micro-domu", "micro-pvh"] {
        archive.copy(&format!("guest/{name}"), &micro.with_file_name(name), 0o644)?;
    }
    for name in MICRO_TOOLS {
        let built = dom0::program(layout, &format!("guests/{name}"))?;
        archive.copy(&format!("usr/bin/{name}"), &built, 0o755)?;
    }
    let plain = layout.target.join("micro.cpio");
    std::fs::write(&plain, archive.bytes()).context(plain.display())?;
    both(dom0, &plain, &layout.image.join("dom0-micro.cpio.gz"))
}

/// A dom0 image with the guests' kernel as it is when unpacked behind it.
pub fn with_unpacked_kernel(layout: &Layout, dom0: &Path) -> Result<PathBuf> {
    let kernel = kernel::fetch(layout)?;
    let mut archive = Archive::default();
    archive.copy("guest/vmlinux", &kernel.vmlinux, 0o644)?;
    let plain = layout.target.join("vmlinux.cpio");
    std::fs::write(&plain, archive.bytes()).context(plain.display())?;
    both(dom0, &plain, &layout.image.join("dom0-vmlinux.cpio.gz"))
}

/// An image that is not compressed, for a machine that is slow to unpack it.
pub fn unpacked(layout: &Layout, dom0: &Path, name: &str) -> Result<PathBuf> {
    let plain = layout.image.join(format!("{name}.cpio"));
    let mut unpack = Command::new("gzip");
    process::output_to_file(unpack.args(["-d", "-c"]).arg(dom0), &plain)?;
    Ok(plain)
}

/// An image with another archive behind it: the kernel takes one after the other, each packed for itself.
fn both(dom0: &Path, more: &Path, to: &Path) -> Result<PathBuf> {
    let mut bytes = std::fs::read(dom0).context(dom0.display())?;
    let mut gzip = Command::new("gzip");
    bytes.extend(process::output(gzip.args(["-1", "-n", "-c"]).arg(more))?);
    // Another boot may be reading the file that is there.
    let part = to.with_extension("part");
    std::fs::write(&part, bytes).context(part.display())?;
    std::fs::rename(&part, to).context(to.display())?;
    Ok(to.to_owned())
}

/// The dom0 image of this name with the kernel's modules.
fn with_kernel(layout: &Layout, kernel: Kernel, name: &str, more: &More) -> Result<Image> {
    let plain = layout.target.join(format!("{name}.cpio"));
    let dom0 = layout.image.join(format!("{name}.cpio.gz"));
    let bytes = dom0::archive(layout, &kernel, more)?;
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

/// Debian's Xen, for comparison: the unpacked ELF file and the compressed one.
pub fn reference_xen(layout: &Layout) -> Result<(PathBuf, PathBuf)> {
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
    Ok((xen, packed))
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

/// The GRUB commands that load a hypervisor.
#[derive(Clone, Copy, Debug)]
pub enum GrubCommands {
    /// `multiboot2`, `module2`.
    Multiboot2,
    /// `multiboot`, `module`.
    Multiboot1,
    /// Those of multiboot 2, on UEFI.
    Multiboot2Uefi,
}

impl GrubCommands {
    /// The folder of GRUB's modules.
    fn platform(self) -> &'static str {
        match self {
            Self::Multiboot2 | Self::Multiboot1 => "/usr/lib/grub/i386-pc",
            Self::Multiboot2Uefi => "/usr/lib/grub/x86_64-efi",
        }
    }

    /// Modules that GRUB has from the start.
    fn modules(self) -> &'static str {
        match self {
            Self::Multiboot2 | Self::Multiboot1 => {
                "--modules=serial terminal multiboot multiboot2 gzio normal iso9660 biosdisk part_msdos"
            }
            Self::Multiboot2Uefi => {
                "--modules=serial terminal multiboot2 gzio normal iso9660 part_msdos part_gpt fat"
            }
        }
    }

    /// What is said first: a screen is only found with drivers for it, as on an installed system.
    fn video(self) -> &'static str {
        match self {
            Self::Multiboot2 | Self::Multiboot1 => "",
            Self::Multiboot2Uefi => "insmod all_video\n",
        }
    }
}

/// What a boot ISO holds.
#[derive(Debug)]
pub struct IsoContent<'a> {
    /// How GRUB loads it.
    pub commands: GrubCommands,
    /// The hypervisor and its command line.
    pub hypervisor: (&'a Path, &'a str),
    /// The kernel and its command line.
    pub kernel: (&'a Path, &'a str),
    /// The initramfs.
    pub dom0: &'a Path,
}

/// Makes a GRUB ISO that boots the hypervisor.
pub fn build_iso(layout: &Layout, content: &IsoContent<'_>, iso: &Path) -> Result<()> {
    let folder = layout.target.join("iso");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context(folder.display())?;
    }
    let boot = folder.join("boot");
    std::fs::create_dir_all(boot.join("grub")).context(boot.display())?;
    for (from, name) in [
        (content.hypervisor.0, "hypervisor"),
        (content.kernel.0, "kernel"),
        (content.dom0, "initrd"),
    ] {
        std::fs::copy(from, boot.join(name)).context(from.display())?;
    }
    let (load, module) = match content.commands {
        GrubCommands::Multiboot2 | GrubCommands::Multiboot2Uefi => ("multiboot2", "module2"),
        GrubCommands::Multiboot1 => ("multiboot", "module"),
    };
    // gzio unpacks a hypervisor that is compressed, without a word.
    let config = format!(
        "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\ninsmod gzio\n\
         {}{load} /boot/hypervisor {}\n{module} /boot/kernel {}\n{module} --nounzip /boot/initrd\nboot\n",
        content.commands.video(),
        content.hypervisor.1,
        content.kernel.1
    );
    std::fs::write(boot.join("grub/grub.cfg"), config).context("grub.cfg")?;
    process::output(
        Command::new("grub-mkrescue")
            .args(["-d", content.commands.platform(), "-o"])
            .arg(iso)
            .arg(&folder)
            .arg(content.commands.modules())
            .args(["--fonts=", "--locales=", "--themes="]),
    )?;
    Ok(())
}
