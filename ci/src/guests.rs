//! What a domain that dom0 creates runs: Debian's kernel and a small initramfs.

use std::path::Path;
use std::process::Command;

use crate::cpio::Archive;
use crate::failure::{Context, Result};
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::{dom0, modules, process};

/// Modules of a dom0 that serves disks and networks; `brd` makes disks of memory.
pub const BACKENDS: &[&str] = &["brd", "bridge", "loop", "xen-blkback", "xen-netback"];

/// Modules of a guest.
const FRONTENDS: &[&str] = &["xen-blkfront", "xen-netfront"];

/// Commands that end a system, which the kernel calls, too: nobody is told who could end it in good order.
const ENDINGS: &[(&str, &str)] = &[
    ("poweroff", "#!/bin/sh\nexec /bin/busybox poweroff -f\n"),
    ("reboot", "#!/bin/sh\nexec /bin/busybox reboot -f\n"),
];

/// Adds these commands to a folder.
pub fn add_endings(archive: &mut Archive, folder: &str) {
    for (name, script) in ENDINGS {
        let path = format!("{folder}/{name}");
        archive.file(&path, 0o755, script.as_bytes().to_vec());
    }
}

/// Adds `guest/vmlinuz`, which is Debian's, `guest/vmlinux.gz`, the same in a form that is unpacked in a tenth of
/// the time, `guest/initrd.gz`, and `guest/release`, the kernel's version.
pub fn add(archive: &mut Archive, layout: &Layout, kernel: &Kernel, busybox: &Path) -> Result<()> {
    archive.copy("guest/vmlinuz", &kernel.vmlinuz, 0o644)?;
    archive.file("guest/vmlinux.gz", 0o644, packed(&kernel.vmlinux)?);
    let release = format!("{}\n", kernel.release());
    archive.file("guest/release", 0o644, release.into_bytes());
    let plain = layout.target.join("guest.cpio");
    let bytes = initramfs(layout, kernel, busybox)?;
    std::fs::write(&plain, bytes).context(plain.display())?;
    archive.file("guest/initrd.gz", 0o644, packed(&plain)?);
    Ok(())
}

fn packed(file: &Path) -> Result<Vec<u8>> {
    process::output(Command::new("gzip").args(["-1", "-n", "-c"]).arg(file))
}

fn initramfs(layout: &Layout, kernel: &Kernel, busybox: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["dev", "proc", "sys", "run", "tmp", "mnt", "usr/bin"] {
        archive.folder(folder);
    }
    for (link, to) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
        archive.link(link, to);
    }
    archive.device("dev/console", 5, 1);
    for name in process::text(Command::new(busybox).arg("--list"))?.lines() {
        archive.link(&format!("usr/bin/{name}"), "busybox");
    }
    // Its own name is on that list too.
    archive.copy("usr/bin/busybox", busybox, 0o755)?;
    add_endings(&mut archive, "sbin");
    archive.copy("usr/bin/bench", &dom0::program(layout, "bench")?, 0o755)?;
    let init = layout.root.join("tests-linux-guests/guest/guests/init");
    archive.copy("init", &init, 0o755)?;
    modules::add(&mut archive, kernel, FRONTENDS)?;
    Ok(archive.bytes())
}
