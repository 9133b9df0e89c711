//! The dom0 initramfs: Debian's own programs and libraries, our init and test scripts.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::debs::Set;
use crate::elf;
use crate::failure::{Context, Failure, Result};
use crate::kernel::{Kernel, newer};
use crate::layout::Layout;
use crate::{guests, modules, process};

/// Where the programs and the libraries that they load come from.
const PACKAGES: &[&str] = &[
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "libacl1",
    "libattr1",
    "libblkid1",
    "libbz2-1.0",
    "libc6",
    "libgcc-s1",
    "libgmp10",
    "liblzma5",
    "liblzo2-2",
    "libmount1",
    "libncurses6",
    "libnl-3-200",
    "libnl-route-3-200",
    "libpcre2-8-0",
    "libselinux1",
    "libsmartcols1",
    "libtinfo6",
    "libudev1",
    "libuuid1",
    "libxencall1",
    "libxendevicemodel1",
    "libxenevtchn1",
    "libxenforeignmemory1",
    "libxengnttab1",
    "libxenhypfs1",
    "libxenmisc4.17",
    "libxenstore4",
    "libxentoolcore1",
    "libxentoollog1",
    "libyajl2",
    "libzstd1",
    "mount",
    "ncurses-base",
    "util-linux",
    "xen-utils-4.17",
    "xen-utils-common",
    "xenstore-utils",
    "zlib1g",
];

/// Programs taken from Debian's packages; busybox stands in for every other common command.
const PROGRAMS: &[&str] = &[
    "bash", "busybox", "cat", "cp", "cut", "date", "dash", "dd", "dmesg", "env", "head", "id",
    "ls", "mkdir", "mount", "mv", "nproc", "rm", "setsid", "sleep", "sort", "stat", "sync", "tail",
    "taskset", "timeout", "tr", "umount", "uname", "uniq", "wc",
];

/// Programs of the Xen packages, below usr/lib/xen-4.17/bin.
const XEN_PROGRAMS: &[&str] = &[
    "libxl-save-helper",
    "lsevtchn",
    "oxenstored",
    "xen-cpuid",
    "xen-diag",
    "xen-hptool",
    "xen-hvmctx",
    "xen-init-dom0",
    "xen-lowmemd",
    "xen-mfndump",
    "xen-ucode",
    "xenconsole",
    "xenconsoled",
    "xenctx",
    "xenlockprof",
    "xenperf",
    "xenpm",
    "xenstore-control",
    "xenstored",
    "xentop",
    "xentrace",
    "xentrace_setsize",
    "xenwatchdogd",
    "xl",
];

/// Other files and folders taken as they are.
const TREES: &[&str] = &[
    "etc/xen",
    "etc/default/xen",
    "usr/lib/xen-common",
    "usr/lib/terminfo/l/linux",
    "usr/lib/terminfo/v/vt100",
    "usr/lib/terminfo/x/xterm",
    "lib/terminfo/l/linux",
    "lib/terminfo/v/vt100",
    "lib/terminfo/x/xterm",
];

/// Kernel modules with what they depend on.
const MODULES: &[&str] = &[
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xen-acpi-processor",
];

/// What an image has beside the parts of all.
#[derive(Debug)]
pub struct More {
    /// The name of the set of packages.
    set: &'static str,
    packages: &'static [&'static str],
    programs: &'static [&'static str],
    modules: &'static [&'static [&'static str]],
    /// C programs of ours, below the folder of the test scripts.
    sources: &'static [&'static str],
    /// Files and folders of the packages.
    trees: &'static [&'static str],
    /// Libraries that these open by name.
    libraries: &'static [&'static str],
    /// What else it holds.
    content: Content,
}

/// What an image is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// dom0 alone.
    Dom0,
    /// dom0 that starts other domains: their kernel and their initramfs.
    Guests,
}

/// Nothing.
pub const PLAIN: More = More {
    set: "dom0",
    packages: &[],
    programs: &[],
    modules: &[],
    sources: &[],
    trees: &[],
    libraries: &[],
    content: Content::Dom0,
};

/// EFI's variables, and a disk to name in a boot entry.
pub const UEFI: More = More {
    set: "dom0-uefi",
    packages: &[
        "e2fsprogs",
        "efibootmgr",
        "libcom-err2",
        "libefiboot1",
        "libefivar1",
        "libext2fs2",
        "libpopt0",
    ],
    programs: &["chattr", "efibootmgr"],
    modules: &[&["efivarfs", "ahci", "sd-mod"]],
    sources: &["uefi/efi-calls"],
    trees: &[],
    libraries: &[],
    content: Content::Dom0,
};

/// What creates other domains and serves them disks and networks.
pub const GUESTS: More = More {
    set: "dom0-guests",
    packages: &["bsdutils"],
    programs: &["flock", "losetup", "script"],
    modules: &[DRIVERS, guests::BACKENDS],
    sources: &["guests/free-pages", "guests/cpu-times"],
    trees: &[],
    libraries: &[],
    content: Content::Guests,
};

/// The same with what boots guests from their disks: GRUB for PVH guests, and for PV guests Python, in which Xen's boot
/// loader is written; and a file system for such a disk.
pub const PYGRUB: More = More {
    set: "dom0-pygrub",
    packages: &[
        "bsdutils",
        "grub-xen-host",
        "libcom-err2",
        "libexpat1",
        "libext2fs2",
        "libffi8",
        "libncursesw6",
        "libpython3.11-minimal",
        "libpython3.11-stdlib",
        "python3.11-minimal",
    ],
    programs: &["flock", "losetup", "script", "python3.11"],
    // ext4 asks for the checksum by name, so that no module's list has it.
    modules: &[DRIVERS, guests::BACKENDS, &["crc32c-generic", "ext4"]],
    sources: &["guests/free-pages"],
    trees: &[
        "usr/lib/grub-xen/grub-i386-xen_pvh.bin",
        "usr/lib/python3.11",
        "usr/lib/xen-4.17/bin/pygrub",
        "usr/lib/xen-4.17/lib/python/grub",
        "usr/lib/xen-4.17/lib/python/xenfsimage.cpython-311-x86_64-linux-gnu.so",
        "usr/lib/xen-4.17/lib/x86_64-linux-gnu",
    ],
    libraries: &[
        "libcom_err.so.2",
        "libext2fs.so.2",
        "libffi.so.8",
        "libncursesw.so.6",
    ],
    content: Content::Guests,
};

/// Drivers that only boots with devices want, for what QEMU can emulate.
const DRIVERS: &[&str] = &[
    "ahci",
    "ata-piix",
    "button",
    "e1000",
    "e1000e",
    "ehci-pci",
    "evdev",
    "hid-generic",
    "i6300esb",
    "nvme",
    "sd-mod",
    "uhci-hcd",
    "uio-pci-generic",
    "usbhid",
    "virtio-blk",
    "virtio-net",
    "virtio-pci",
    "xhci-pci",
];

/// Libraries that programs open by name while they run, so that no ELF header names them:
/// glibc loads libgcc_s when a thread is cancelled, as xl does on its way out.
const OPENED_AT_RUN_TIME: &[&str] = &["libgcc_s.so.1"];

/// Folders in which libraries are searched, in the unpacked packages.
const LIBRARY_FOLDERS: &[&str] = &[
    "usr/lib/x86_64-linux-gnu",
    "lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
];

/// Builds the archive's bytes.
pub fn archive(layout: &Layout, kernel: &Kernel, more: &More) -> Result<Vec<u8>> {
    let root = set_of(more).unpacked(layout)?;
    let mut image = Builder {
        archive: Archive::default(),
        root,
        libraries: OPENED_AT_RUN_TIME
            .iter()
            .chain(more.libraries)
            .map(|name| (*name).to_owned())
            .collect(),
    };
    image.skeleton();
    image.programs(more.programs)?;
    for tree in TREES.iter().chain(more.trees) {
        image.tree(tree)?;
    }
    guests::add_endings(&mut image.archive, "usr/sbin");
    image.busybox_links()?;
    image.libraries()?;
    modules::add(
        &mut image.archive,
        kernel,
        &[MODULES, &more.modules.concat()].concat(),
    )?;
    image.own_files(layout)?;
    if more.content == Content::Guests {
        let busybox = image.root.join("bin/busybox");
        guests::add(&mut image.archive, layout, kernel, &busybox)?;
    }
    for source in more.sources {
        image.own_program(layout, source)?;
    }
    Ok(image.archive.bytes())
}

/// An archive that is appended to that of [`GUESTS`]: another kernel for guests, and their initramfs with its modules.
pub fn other_guest(layout: &Layout, kernel: &Kernel) -> Result<Vec<u8>> {
    let busybox = set_of(&GUESTS).unpacked(layout)?.join("bin/busybox");
    let mut archive = Archive::default();
    guests::add(&mut archive, layout, kernel, &busybox)?;
    Ok(archive.bytes())
}

/// The packages that an image is made of.
fn set_of(more: &More) -> Set<'static> {
    let packages = PACKAGES.iter().chain(more.packages);
    Set {
        name: more.set,
        packages: packages.map(|name| (*name).to_owned()).collect(),
        suite: None,
    }
}

/// An archive that is appended to the other for boots with devices: all modules, drivers too.
pub fn drivers(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    modules::add(&mut archive, kernel, &[MODULES, DRIVERS].concat())?;
    Ok(archive.bytes())
}

struct Builder {
    archive: Archive,
    root: PathBuf,
    /// Libraries still to be added.
    libraries: Vec<String>,
}

impl Builder {
    fn skeleton(&mut self) {
        for folder in [
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "root",
            "mnt",
            "var/lib/xen",
            "var/log",
            "usr/bin",
            "usr/sbin",
            "usr/lib64",
        ] {
            self.archive.folder(folder);
        }
        for (link, to) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/sbin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
            ("var/run", "/run"),
            ("var/lock", "/run/lock"),
            ("usr/bin/sh", "dash"),
            ("etc/mtab", "/proc/self/mounts"),
        ] {
            self.archive.link(link, to);
        }
        self.archive.device("dev/console", 5, 1);
        let accounts = b"root:x:0:0:root:/root:/bin/bash\n".to_vec();
        self.archive.file("etc/passwd", 0o644, accounts);
        self.archive
            .file("etc/group", 0o644, b"root:x:0:\n".to_vec());
    }

    fn programs(&mut self, more: &[&str]) -> Result<()> {
        for name in PROGRAMS.iter().chain(more) {
            let from = ["usr/bin", "bin", "usr/sbin", "sbin"]
                .iter()
                .map(|folder| self.root.join(folder).join(name))
                .find(|path| path.exists())
                .ok_or_else(|| Failure::new(format!("no package has the program {name}")))?;
            self.program(&format!("usr/bin/{name}"), &from)?;
        }
        for name in XEN_PROGRAMS {
            let path = format!("usr/lib/xen-4.17/bin/{name}");
            self.program(&path, &self.root.join(&path))?;
        }
        // Debian gives some of these no name in the search path; here all have one.
        for name in XEN_PROGRAMS {
            let wrapper = "../lib/xen-common/bin/xen-utils-wrapper";
            self.archive.link(&format!("usr/sbin/{name}"), wrapper);
        }
        for folder in ["usr/bin", "usr/sbin"] {
            let path = self.root.join(folder);
            for entry in std::fs::read_dir(&path).context(path.display())?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name == "xenhypfs" || name.starts_with("xenstore") {
                    let path = format!("{folder}/{name}");
                    if !self.archive.contains(&path) {
                        self.program(&path, &entry.path())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds an executable and notes the libraries that it needs.
    fn program(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = std::fs::read(from).context(from.display())?;
        self.note_needs(&content);
        self.archive.file(path, 0o755, content);
        Ok(())
    }

    fn note_needs(&mut self, content: &[u8]) {
        // What is not ELF is a script, and its interpreter is on the lists above.
        self.libraries
            .extend(elf::needed(content).unwrap_or_default());
    }

    fn libraries(&mut self) -> Result<()> {
        let loader = "ld-linux-x86-64.so.2";
        let from = self.library(loader)?;
        self.archive
            .copy(&format!("usr/lib64/{loader}"), &from, 0o755)?;
        while let Some(name) = self.libraries.pop() {
            let path = format!("usr/lib/x86_64-linux-gnu/{name}");
            if name == loader || self.archive.contains(&path) {
                continue;
            }
            let from = self.library(&name)?;
            let content = std::fs::read(&from).context(from.display())?;
            self.note_needs(&content);
            self.archive.file(&path, 0o644, content);
        }
        Ok(())
    }

    fn library(&self, name: &str) -> Result<PathBuf> {
        LIBRARY_FOLDERS
            .iter()
            .map(|folder| self.root.join(folder).join(name))
            .find(|path| path.is_file())
            .ok_or_else(|| Failure::new(format!("no package on dom0's list has {name}")))
    }

    /// Copies a file or a folder with all below it; a missing one is left out.
    fn tree(&mut self, path: &str) -> Result<()> {
        let from = self.root.join(path);
        if let Ok(to) = std::fs::read_link(&from) {
            self.archive.link(&merged(path), &to.to_string_lossy());
        } else if from.is_dir() {
            self.archive.folder(&merged(path));
            for entry in std::fs::read_dir(&from).context(from.display())?.flatten() {
                self.tree(&format!("{path}/{}", entry.file_name().to_string_lossy()))?;
            }
        } else if from.is_file() {
            self.archive.copy(&merged(path), &from, 0o755)?;
        }
        Ok(())
    }

    fn busybox_links(&mut self) -> Result<()> {
        let busybox = self.root.join("bin/busybox");
        for name in process::text(Command::new(busybox).arg("--list"))?.lines() {
            let path = format!("usr/bin/{name}");
            if !self.archive.contains(&path) && !self.archive.contains(&format!("usr/sbin/{name}"))
            {
                self.archive.link(&path, "busybox");
            }
        }
        Ok(())
    }

    fn own_files(&mut self, layout: &Layout) -> Result<()> {
        let folder = layout.root.join("tests-linux-guests/guest");
        self.archive.copy("init", &folder.join("init"), 0o755)?;
        for entry in std::fs::read_dir(&folder)
            .context(folder.display())?
            .flatten()
        {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".sh") {
                self.archive
                    .copy(&format!("tests/{name}"), &entry.path(), 0o755)?;
            } else if let Some(stem) = name.strip_suffix(".c") {
                self.own_program(layout, stem)?;
            }
        }
        Ok(())
    }

    /// Compiles and adds a program of `guest/`.
    fn own_program(&mut self, layout: &Layout, name: &str) -> Result<()> {
        let built = program(layout, name)?;
        let stem = name.rsplit('/').next().unwrap_or(name);
        self.archive
            .copy(&format!("usr/bin/{stem}"), &built, 0o755)?;
        Ok(())
    }
}

/// The program of this name in `guest/`, which may have a folder before it, compiled.
pub fn program(layout: &Layout, name: &str) -> Result<PathBuf> {
    let source = format!("tests-linux-guests/guest/{name}.c");
    let built = layout.target.join("guest").join(name);
    compile(&layout.root.join(source), &built)?;
    Ok(built)
}

/// Compiles a test program; it is static, so that nothing but the kernel is measured or tested. One whose name ends in
/// 32 is a 32-bit program, without the C library, which Debian's compiler alone has in 64 bits only.
fn compile(source: &Path, to: &Path) -> Result<()> {
    let header = source.with_file_name("calls.h");
    if !(newer(source, to) || header.exists() && newer(&header, to)) {
        return Ok(());
    }
    let folder = to.parent().ok_or("a program lies in a folder")?;
    std::fs::create_dir_all(folder).context(folder.display())?;
    let narrow = to.to_string_lossy().ends_with("32");
    let more: &[&str] = if narrow {
        &["-m32", "-nostdlib"]
    } else {
        &["-pthread"]
    };
    let mut gcc = Command::new("gcc");
    gcc.args(["-static", "-O2", "-Wall", "-Wextra", "-Werror"]);
    process::run(gcc.args(more).arg("-o").args([to, source]))
}

/// The path in a file system where bin, sbin and lib are links into usr.
fn merged(path: &str) -> String {
    match path.split('/').next() {
        Some("bin" | "sbin" | "lib" | "lib64") => format!("usr/{path}"),
        _ => path.to_owned(),
    }
}
