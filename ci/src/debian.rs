//! A disk with a real Debian 12: GRUB for BIOS and UEFI, Debian's Xen with its own services, OpenSSH, and this
//! hypervisor as [`crate::install`] puts it there.
//!
//! debootstrap fills a folder below `target/debian`; the disk is made from it without mounting anything. What only the
//! installed system can do (GRUB's installation, its menu) Debian does itself at its first boot, in the emulator.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests_linux_guests::emulator::{Disk, Files, Hypervisor, Linux, Payload, Software, Writes};

use crate::failure::{Context, Failure, Result};
use crate::grub_menu::Menu;
use crate::hypervisor::{self, Profile};
use crate::install;
use crate::layout::Layout;
use crate::process;

mod disk;
mod filesystem;
mod recipe;
mod session;
mod tree;

use filesystem::FileSystem;
pub use session::run;

/// What is wanted of a boot other than what the disk's menu does by itself.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Whose entry of the menu starts.
    pub hypervisor: Hypervisor,
    /// Words added to the hypervisor's command line.
    pub hypervisor_words: &'a str,
    /// Words added to the kernel's.
    pub kernel_words: &'a str,
}

impl Wish<'_> {
    /// Whether the disk does this as it is.
    fn is_default(&self) -> bool {
        self.hypervisor == Hypervisor::Xenolith
            && self.hypervisor_words.is_empty()
            && self.kernel_words.is_empty()
    }
}

/// The disk with this hypervisor (compressed) installed; made if it is not there yet.
pub fn disk(layout: &Layout, compressed: &Path) -> Result<PathBuf> {
    crate::setup::ensure_for_debian()?;
    let folder = folder(layout)?;
    let image = disk::made(layout, &folder, compressed)?;
    renew(&image, compressed)?;
    Ok(image)
}

/// The disk for a wish: the very same, or a copy of this name whose menu is changed.
pub fn disk_for(
    layout: &Layout,
    compressed: &Path,
    wish: &Wish<'_>,
    name: &str,
) -> Result<PathBuf> {
    let image = disk(layout, compressed)?;
    if wish.is_default() {
        return Ok(image);
    }
    let copy = folder(layout)?.join(format!("{name}.img"));
    copy_sparse(&image, &copy)?;
    let files = FileSystem::of_disk(&copy);
    let config = String::from_utf8_lossy(&files.read(MENU)?).into_owned();
    files.write(MENU, changed(&config, wish)?.as_bytes())?;
    Ok(copy)
}

/// The disks for a boot test: the system, and one with the scripts and what they install.
pub fn for_test(
    layout: &Layout,
    files: &Files,
    name: &str,
    software: Software<'_>,
) -> Result<Disk> {
    let compressed = match files.which {
        Hypervisor::Xenolith => files.compressed.clone(),
        Hypervisor::Xen => hypervisor::build(layout, Profile::Release)?.compressed,
    };
    let wish = Wish {
        hypervisor: files.which,
        hypervisor_words: software.hypervisor_line,
        kernel_words: software.kernel_line,
    };
    Ok(Disk {
        image: disk_for(layout, &compressed, &wish, name)?,
        writes: Writes::Dropped,
        scripts: scripts(layout, &compressed)?,
        ssh_port: None,
    })
}

/// A disk that says when it is about to ask for a login, by this program.
pub fn for_measurement(layout: &Layout, files: &Files, program: &Path, name: &str) -> Result<Disk> {
    let nothing = Software {
        hypervisor_line: "",
        payload: Payload::Linux(Linux::Debian12),
        kernel_line: "",
    };
    let disk = for_test(layout, files, name, nothing)?;
    let image = folder(layout)?.join(format!("{name}.img"));
    if disk.image != image {
        copy_sparse(&disk.image, &image)?;
    }
    let system = FileSystem::of_disk(&image);
    let bytes = std::fs::read(program).context(program.display())?;
    system.write_program("/usr/local/bin/bench", &bytes)?;
    system.make_folder(GETTY)?;
    system.write(&format!("{GETTY}/bench.conf"), GETTY_WITH_BENCH.as_bytes())?;
    Ok(Disk { image, ..disk })
}

/// What is changed of the service that asks for a login.
const GETTY: &str = "/etc/systemd/system/serial-getty@.service.d";
const GETTY_WITH_BENCH: &str = "[Service]\nExecStart=\nExecStart=-/bin/sh -c \"bench login; \
                                exec /sbin/agetty --keep-baud 115200 - $TERM\"\n";

/// Size of the disk with the scripts, in MiB: this program with its debugging symbols takes most of it.
const SCRIPTS_MIB: u64 = 64;

/// Makes the disk with the label TESTS: the scripts of `guest/`, this program and the hypervisor.
fn scripts(layout: &Layout, compressed: &Path) -> Result<PathBuf> {
    let image = folder(layout)?.join("tests.img");
    let file = std::fs::File::create(&image).context(image.display())?;
    file.set_len(SCRIPTS_MIB << 20).context(image.display())?;
    process::output(
        Command::new("/sbin/mkfs.fat")
            .args(["-F", "32", "-n", "TESTS"])
            .arg(&image),
    )?;
    let program = std::env::current_exe().context("this program")?;
    let guest = layout.root.join("tests-linux-guests/guest");
    let scripts = std::fs::read_dir(&guest).context(guest.display())?;
    let scripts = scripts.flatten().map(|entry| entry.path());
    let wanted = scripts.filter(|path| path.extension().is_some_and(|kind| kind == "sh"));
    process::output(
        Command::new("mcopy")
            .arg("-i")
            .arg(&image)
            .args(wanted)
            .args([&program, compressed])
            .arg("::"),
    )?;
    Ok(image)
}

/// A copy of the disk on which changes are kept from run to run.
pub fn kept(layout: &Layout, compressed: &Path) -> Result<PathBuf> {
    let kept = folder(layout)?.join("kept.img");
    if !kept.exists() {
        copy_sparse(&disk(layout, compressed)?, &kept)?;
    }
    renew(&kept, compressed)?;
    Ok(kept)
}

const MENU: &str = "/boot/grub/grub.cfg";

fn folder(layout: &Layout) -> Result<PathBuf> {
    let folder = layout.target.join("debian");
    std::fs::create_dir_all(&folder).context(folder.display())?;
    Ok(folder)
}

/// Puts this build of the hypervisor in the place of the one that is installed.
fn renew(image: &Path, compressed: &Path) -> Result<()> {
    let files = FileSystem::of_disk(image);
    let path = format!("/boot/{}", install::NAME);
    let bytes = std::fs::read(compressed).context(compressed.display())?;
    // One that was taken out by hand stays out.
    match files.read(&path) {
        Ok(installed) if installed != bytes => {
            files.repair()?;
            files.write(&path, &bytes)
        }
        _ => Ok(()),
    }
}

fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    process::output(Command::new("cp").arg("--sparse=always").args([from, to])).map(drop)
}

/// The menu's text as the wish wants it, as if its words had been typed in GRUB's editor.
fn changed(config: &str, wish: &Wish<'_>) -> Result<String> {
    let file = match wish.hypervisor {
        Hypervisor::Xenolith => install::NAME,
        Hypervisor::Xen => "xen-4.17-amd64.gz",
    };
    let menu = Menu::parse(config);
    let entries = menu.entries();
    let entry = entries
        .iter()
        .find(|entry| entry.loads.ends_with(file))
        .ok_or_else(|| Failure::new(format!("GRUB's menu has no entry for {file}")))?;
    let mut text = String::new();
    for line in config.lines() {
        let words: Vec<_> = line.split_whitespace().take(3).collect();
        text.push_str(&match words[..] {
            ["multiboot2", ..] => format!("{line} {}", wish.hypervisor_words),
            ["module2", _, "placeholder"] => format!("{line} {}", wish.kernel_words),
            ["set", default, ..] if default.starts_with("default=") => {
                format!("set default=\"{}\"", entry.path)
            }
            _ => line.to_owned(),
        });
        text.push('\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Wish, changed};
    use tests_linux_guests::emulator::Hypervisor;

    #[test]
    fn a_wish_changes_the_default_and_the_words() {
        let config = "set default=\"Debian GNU/Linux, with Xen hypervisor\"\nmenuentry 'a' $menuentry_id_option 'ours' {\n\
            \tmultiboot2\t/boot/xenolith-4.17.gz placeholder\n\tmodule2\t/boot/vmlinuz placeholder ro\n\
            \tmodule2\t--nounzip /boot/initrd\n}\nmenuentry 'b' $menuentry_id_option 'theirs' {\n\
            multiboot2 /boot/xen-4.17-amd64.gz placeholder\n}\n";
        let wish = Wish {
            hypervisor: Hypervisor::Xen,
            hypervisor_words: "dom0_mem=1G",
            kernel_words: "debug",
        };
        let text = changed(config, &wish).expect("both are there");
        for line in [
            "set default=\"b\"",
            "\tmultiboot2\t/boot/xenolith-4.17.gz placeholder dom0_mem=1G",
            "\tmodule2\t/boot/vmlinuz placeholder ro debug",
            "\tmodule2\t--nounzip /boot/initrd",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in {text}");
        }
        assert!(changed("", &wish).is_err());
    }
}
