//! `cargo xtask setup`: Debian packages that the other commands need.

use std::path::Path;
use std::process::Command;

use crate::failure::{Failure, Result};
use crate::process;

/// A file whose presence shows that a package is installed, and the package.
struct Need {
    file: &'static str,
    package: &'static str,
}

const fn need(file: &'static str, package: &'static str) -> Need {
    Need { file, package }
}

/// All that building, imaging and testing use. The first group is the compiler; a rustup
/// toolchain with the bare-metal target can stand in for it, but not for Debian's clippy and
/// rustfmt of the same version, which CI uses.
const NEEDS: &[Need] = &[
    need("/usr/bin/rustc", "rustc-web"),
    need("/usr/bin/cargo", "cargo-web"),
    need(
        "/usr/lib/rustlib/src/rust/library/core/Cargo.toml",
        "rust-web-src",
    ),
    need("/usr/bin/cargo-clippy", "rust-web-clippy"),
    need("/usr/bin/rustfmt", "rustfmt-web"),
    need("/usr/bin/ld.lld", "lld"),
    need("/usr/bin/gcc", "gcc"),
    need("/usr/lib/x86_64-linux-gnu/libc.a", "libc6-dev"),
    need("/usr/bin/nm", "binutils"),
    need("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    need("/usr/bin/grub-mkrescue", "grub-common"),
    need("/usr/lib/grub/i386-pc/multiboot2.mod", "grub-pc-bin"),
    need(
        "/usr/lib/grub/x86_64-efi/multiboot2.mod",
        "grub-efi-amd64-bin",
    ),
    need("/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf"),
    need("/usr/bin/xorriso", "xorriso"),
    need("/usr/bin/mformat", "mtools"),
    need("/usr/include/xen/xen.h", "libxen-dev"),
    need("/usr/bin/xz", "xz-utils"),
    need("/usr/bin/zstd", "zstd"),
    need("/usr/bin/lz4", "lz4"),
    need("/bin/gzip", "gzip"),
    need("/bin/cpio", "cpio"),
    need("/sbin/sfdisk", "fdisk"),
];

/// What making a Debian disk needs beyond that.
const DEBIAN_NEEDS: &[Need] = &[
    need("/usr/sbin/debootstrap", "debootstrap"),
    need("/sbin/mkfs.fat", "dosfstools"),
    need("/sbin/mkfs.ext4", "e2fsprogs"),
];

/// What boots in Bochs need beyond that; bochs-term is the smallest of the packages with a user interface, one of which
/// has to be there.
const BOCHS_NEEDS: &[Need] = &[
    need("/usr/bin/bochs-bin", "bochs"),
    need(
        "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so",
        "bochs-term",
    ),
    need("/usr/share/bochs/BIOS-bochs-latest", "bochsbios"),
    need("/usr/share/vgabios/vgabios.bin", "vgabios"),
];

fn line_for(packages: &[&str]) -> String {
    format!(
        "apt-get update && apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    )
}

/// The full install line, for messages.
pub fn install_line() -> String {
    let all: Vec<_> = NEEDS.iter().map(|need| need.package).collect();
    line_for(&all)
}

/// Installs what is missing when root; otherwise fails with the exact line to run.
pub fn ensure() -> Result<()> {
    ensure_all(NEEDS)
}

/// The same for Debian disks.
pub fn ensure_for_debian() -> Result<()> {
    ensure_all(DEBIAN_NEEDS)
}

/// The same for boots in Bochs.
pub fn ensure_for_bochs() -> Result<()> {
    ensure_all(BOCHS_NEEDS)
}

fn ensure_all(needs: &[Need]) -> Result<()> {
    let missing: Vec<_> = needs
        .iter()
        .filter(|need| !Path::new(need.file).exists())
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root()? {
        return Err(Failure::new(format!(
            "missing: {}. Run as root:\n    {}",
            missing.join(" "),
            line_for(&missing)
        )));
    }
    println!("installing {}", missing.join(" "));
    process::output(apt_get().arg("update"))?;
    process::output(
        apt_get()
            .args(["install", "-y", "--no-install-recommends"])
            .args(&missing),
    )?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Whether this process may do everything.
pub fn is_root() -> Result<bool> {
    Ok(process::text(Command::new("id").arg("-u"))?.trim() == "0")
}
