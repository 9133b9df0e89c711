//! `cargo xtask install`: puts the hypervisor beside Debian's Xen, where `update-grub` finds it by itself.
//!
//! `/etc/grub.d/20_linux_xen` makes entries for every `/boot/xen*`, the newest version first, and that first one is what the
//! plain entry "with Xen hypervisor" boots, which xen-hypervisor-common makes the default. So the name alone
//! decides: [`NAME`] counts as newer than all of Debian's files of version 4.17, and as older than those of the
//! next version, whose tools would find no hypervisor of theirs here.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::Arguments;
use crate::failure::{Context, Failure, Result};
use crate::grub_menu::Menu;
use crate::hypervisor::{self, Profile};
use crate::layout::Layout;
use crate::{process, setup};

/// The file's name in `/boot`.
pub const NAME: &str = "xenolith-4.17.gz";

/// While it is written: no pattern of 20_linux_xen takes it.
const PART: &str = ".xenolith.part";

/// Where the tools lie that work with this hypervisor.
const TOOLS: &str = "usr/lib/xen-4.17/bin";

/// `--root DIR`, `--uninstall`, `--image FILE`.
pub fn run(mut arguments: Arguments) -> Result<()> {
    let root = arguments.value("--root")?.map(PathBuf::from);
    let root = root.ok_or("install needs --root DIR; --root / is this machine itself")?;
    let uninstall = arguments.flag("--uninstall");
    let image = arguments.value("--image")?.map(PathBuf::from);
    arguments.finish()?;
    let boot = boot_folder(&root)?;
    if uninstall {
        return take_out(&root, &boot);
    }
    let image = match image {
        Some(image) => image,
        None => {
            setup::ensure()?;
            hypervisor::build(&Layout::open()?, Profile::Release)?.compressed
        }
    };
    let size = place(&image, &boot)?;
    println!("installed {} ({size} bytes)", boot.join(NAME).display());
    if !root.join(TOOLS).exists() {
        println!("note: no {TOOLS} there: `xl` comes with Debian's package xen-system-amd64");
    }
    update_grub(&root, &boot)
}

/// The folder `boot` of a root file system.
fn boot_folder(root: &Path) -> Result<PathBuf> {
    let boot = root.join("boot");
    if boot.is_dir() {
        return Ok(boot);
    }
    let root = root.display();
    Err(Failure::new(format!(
        "{root} has no folder boot: it is not the root of an installed system"
    )))
}

/// Copies the image into the folder `boot`; returns its size.
pub fn place(image: &Path, boot: &Path) -> Result<usize> {
    let bytes = std::fs::read(image).context(image.display())?;
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        let image = image.display();
        return Err(Failure::new(format!(
            "{image}: not a compressed hypervisor (target/image/xenolith.gz)"
        )));
    }
    let to = boot.join(NAME);
    if std::fs::read(&to).is_ok_and(|old| old == bytes) {
        return Ok(bytes.len());
    }
    let part = boot.join(PART);
    let write = || {
        let mut file = std::fs::File::create(&part)?;
        file.write_all(&bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        // A power failure must not leave an empty file under the name that GRUB loads.
        file.sync_all()?;
        std::fs::rename(&part, &to)
    };
    write().map_err(|error| {
        // The reason to tell is the first one.
        let _ = std::fs::remove_file(&part);
        refusal(&error, boot, bytes.len())
    })?;
    Ok(bytes.len())
}

/// Why nothing could be written, in words.
fn refusal(error: &std::io::Error, boot: &Path, bytes: usize) -> Failure {
    let boot = boot.display();
    Failure::new(match error.kind() {
        ErrorKind::PermissionDenied => format!("no permission to write in {boot}: run it as root"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("no room in {boot} for another {} KiB", bytes.div_ceil(1024))
        }
        ErrorKind::ReadOnlyFilesystem => format!("{boot} is mounted read-only"),
        _ => format!("{boot}: {error}"),
    })
}

fn take_out(root: &Path, boot: &Path) -> Result<()> {
    let file = boot.join(NAME);
    match std::fs::remove_file(&file) {
        Ok(()) => println!("removed {}", file.display()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            println!("{} is not there", file.display());
            if !menu_text(boot).contains(NAME) {
                return Ok(());
            }
        }
        Err(error) => return Err(refusal(&error, boot, 0)),
    }
    update_grub(root, boot)
}

/// The text of the menu; empty where there is none, or none that may be read.
fn menu_text(boot: &Path) -> String {
    std::fs::read_to_string(boot.join("grub/grub.cfg")).unwrap_or_default()
}

/// Has Debian make its GRUB menu anew, and tells what it boots.
fn update_grub(root: &Path, boot: &Path) -> Result<()> {
    if !root.join("usr/sbin/update-grub").exists() || !boot.join("grub").is_dir() {
        println!("no update-grub there: no menu was changed");
        return Ok(());
    }
    let mut command = if is_same(root, Path::new("/"))? {
        Command::new("update-grub")
    } else if !is_mounted(root)? {
        println!(
            "{} is a folder and no mounted disk, so GRUB's menu cannot be made from here: \
             run update-grub once it has booted",
            root.display()
        );
        return Ok(());
    } else {
        chrooted(root)
    };
    process::output(&mut command)?;
    report(&Menu::parse(&menu_text(boot)));
    Ok(())
}

/// `update-grub` in another root, with devices; the mounts are gone with the process.
fn chrooted(root: &Path) -> Command {
    let script = "for folder in dev proc sys; do mount --rbind /$folder \"$0/$folder\"; done\n\
                  exec chroot \"$0\" update-grub";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-e", "-c", script]);
    command.arg(root);
    command
}

fn is_same(a: &Path, b: &Path) -> Result<bool> {
    let (a, b) = (metadata(a)?, metadata(b)?);
    Ok((a.dev(), a.ino()) == (b.dev(), b.ino()))
}

/// Whether a file system is mounted right there.
fn is_mounted(root: &Path) -> Result<bool> {
    let root = root.canonicalize().context(root.display())?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("the mount table")?;
    // The fifth word of a line is the place (proc(5)); one with a space in it is written otherwise and not found.
    let mut places = table.lines().filter_map(|line| line.split(' ').nth(4));
    Ok(places.any(|place| Path::new(place) == root))
}

fn metadata(path: &Path) -> Result<std::fs::Metadata> {
    std::fs::metadata(path).context(path.display())
}

/// Tells which entry starts by itself, and where ours is if that is another.
fn report(menu: &Menu) {
    let is_ours = |loads: &str| loads.rsplit('/').next() == Some(NAME);
    let default = menu.default();
    match &default {
        Some(entry) => println!("GRUB starts \"{}\": {}", entry.title, entry.loads),
        None => println!("GRUB starts the entry that its environment block names"),
    }
    if default.is_some_and(|entry| is_ours(entry.loads)) {
        return;
    }
    if let Some(ours) = menu.entries().iter().find(|entry| is_ours(entry.loads)) {
        println!("Xenolith's entry is \"{}\"", ours.path);
        println!("(GRUB_DEFAULT in /etc/default/grub and XEN_OVERRIDE_GRUB_DEFAULT decide)");
    }
}

#[cfg(test)]
mod tests {
    use super::{NAME, boot_folder, place, refusal, take_out, update_grub};
    use std::io::{Error, ErrorKind};
    use std::path::{Path, PathBuf};

    /// A root file system in a folder, and an image.
    fn system(name: &str) -> (PathBuf, PathBuf) {
        let folder = format!("install-{}-{name}", std::process::id());
        let root = std::env::temp_dir().join(folder);
        std::fs::create_dir_all(root.join("boot/grub")).expect("a folder");
        let image = root.join("image");
        std::fs::write(&image, b"\x1f\x8bimage").expect("a file");
        (root, image)
    }

    fn names(boot: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(boot).expect("a folder").flatten();
        let mut names: Vec<_> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_installed_twice_is_taken_out_without_a_trace() {
        let (root, image) = system("twice");
        let boot = boot_folder(&root).expect("it is there");
        let before = names(&boot);
        for _ in 0..2 {
            assert_eq!(place(&image, &boot).expect("it fits"), 7);
            update_grub(&root, &boot).expect("there is none");
            assert_eq!(names(&boot), ["grub", NAME]);
        }
        for _ in 0..2 {
            take_out(&root, &boot).expect("it goes");
            assert_eq!(names(&boot), before);
        }
        std::fs::remove_dir_all(root).expect("it was made here");
    }

    #[test]
    fn a_new_image_replaces_the_old_one() {
        let (root, image) = system("new");
        let boot = root.join("boot");
        place(&image, &boot).expect("it fits");
        std::fs::write(&image, b"\x1f\x8bnewer image").expect("a file");
        place(&image, &boot).expect("it fits");
        let installed = std::fs::read(boot.join(NAME)).expect("it is there");
        assert_eq!(installed, b"\x1f\x8bnewer image");
        std::fs::remove_dir_all(root).expect("it was made here");
    }

    #[test]
    fn what_cannot_be_installed_is_refused_in_words() {
        let (root, image) = system("refused");
        let said = boot_folder(&root.join("boot")).unwrap_err().to_string();
        assert!(said.contains("has no folder boot"), "{said}");
        std::fs::write(&image, b"\x7fELF").expect("a file");
        let said = place(&image, &root.join("boot")).unwrap_err().to_string();
        assert!(said.contains("not a compressed hypervisor"), "{said}");
        assert_eq!(names(&root.join("boot")), ["grub"]);
        std::fs::remove_dir_all(root).expect("it was made here");
    }

    #[test]
    fn reasons_are_told_apart() {
        for (kind, words) in [
            (ErrorKind::PermissionDenied, "run it as root"),
            (ErrorKind::StorageFull, "no room in /boot for another 2 KiB"),
            (ErrorKind::ReadOnlyFilesystem, "read-only"),
        ] {
            let said = refusal(&Error::from(kind), Path::new("/boot"), 1025).to_string();
            assert!(said.contains(words), "{said}");
        }
    }
}
