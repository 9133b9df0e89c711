//! The disk's image: partitions and file systems from the folder, then Debian's first boot.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tests_linux_guests::case::PASSWORD;
use tests_linux_guests::console::{Console, Missed};

use super::filesystem::FileSystem;
use super::recipe::{
    BIOS_BOOT, DISK_MIB, ESP, ESP_ID, FIRST_BOOT, PACKAGES, ROOT, ROOT_UUID, files,
};
use super::tree;
use crate::failure::{Context, Failure, Result};
use crate::install;
use crate::layout::Layout;
use crate::process;

/// Wall time for the first boot; it takes one to two minutes.
const FIRST_BOOT_LIMIT: Duration = Duration::from_secs(900);

/// The finished disk; made when it is missing or the recipe has changed.
pub fn made(layout: &Layout, folder: &Path, compressed: &Path) -> Result<PathBuf> {
    let image = folder.join("disk.img");
    let stamp = folder.join("disk.stamp");
    let wanted = recipe_text();
    if image.exists() && std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(image);
    }
    let root = tree::filled(folder)?;
    tree::settle(&root)?;
    install::place(compressed, &root.join("boot"))?;
    // Whatever a run before has changed goes with the old disk.
    for old in [&stamp, &folder.join("kept.img")] {
        let _ = std::fs::remove_file(old);
    }
    println!("Debian: the disk");
    partition(&image)?;
    fill(&image, &root)?;
    println!("Debian: its first boot installs GRUB, a minute or two");
    first_boot(layout, &image, &root)?;
    std::fs::write(&stamp, wanted).context(stamp.display())?;
    Ok(image)
}

/// All that decides what the disk is like.
fn recipe_text() -> String {
    let partitions = [BIOS_BOOT, ESP, ROOT];
    format!(
        "{PACKAGES:?} {:?} {FIRST_BOOT} {PASSWORD} {partitions:?} {}",
        files(),
        install::NAME
    )
}

fn partition(image: &Path) -> Result<()> {
    let file = std::fs::File::create(image).context(image.display())?;
    file.set_len(DISK_MIB << 20).context(image.display())?;
    let mut table = "label: gpt\n".to_owned();
    for part in [BIOS_BOOT, ESP, ROOT] {
        table.push_str(&format!(
            "start={}MiB, size={}MiB, type={}\n",
            part.from_mib, part.mib, part.kind
        ));
    }
    let mut sfdisk = Command::new("/sbin/sfdisk")
        .arg("--quiet")
        .arg(image)
        .stdin(Stdio::piped())
        .spawn()
        .context("sfdisk")?;
    if let Some(mut input) = sfdisk.stdin.take() {
        input.write_all(table.as_bytes()).context("sfdisk")?;
    }
    match sfdisk.wait().context("sfdisk")? {
        status if status.success() => Ok(()),
        status => Err(Failure::new(format!("sfdisk: {status}"))),
    }
}

fn fill(image: &Path, root: &Path) -> Result<()> {
    let sector = (ESP.from_mib << 20) / 512;
    // Clusters of one sector: FAT32 is what has at least 65,525 of them, and firmware takes nothing else for it.
    process::output(
        Command::new("/sbin/mkfs.fat")
            .args([
                "-F",
                "32",
                "-s",
                "1",
                "-n",
                "ESP",
                "-i",
                &ESP_ID.replace('-', ""),
            ])
            .arg(format!("--offset={sector}"))
            .arg(image)
            .arg((ESP.mib << 10).to_string()),
    )?;
    let offset = ROOT.from_mib << 20;
    process::output(
        Command::new("/sbin/mkfs.ext4")
            .args(["-q", "-F", "-b", "4096", "-U", ROOT_UUID])
            .arg("-d")
            .arg(root)
            .args(["-E", &format!("offset={offset}")])
            .arg(image)
            .arg(((ROOT.mib << 20) / 4096).to_string()),
    )?;
    Ok(())
}

/// Boots the system's own kernel without a hypervisor and without its services.
fn first_boot(layout: &Layout, image: &Path, root: &Path) -> Result<()> {
    let log = layout.logs.join("debian-first-boot.log");
    let script = image.with_extension("script");
    write_script(&script)?;
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg", "-cpu", "max", "-m", "1024"])
        .args(["-nographic", "-no-reboot", "-net", "none"])
        .args(["-monitor", "none", "-serial", "stdio"]);
    for (disk, snapshot) in [(image, "off"), (script.as_path(), "on")] {
        let disk = disk.display();
        let drive = format!("if=ide,format=raw,snapshot={snapshot},file={disk}");
        qemu.args(["-drive", &drive]);
    }
    // The shell reads the second disk as its script.
    let line = "root=/dev/sda3 rw quiet console=ttyS0 init=/bin/sh -- /dev/sdb";
    qemu.arg("-kernel").arg(root.join("vmlinuz"));
    qemu.arg("-initrd").arg(root.join("initrd.img"));
    qemu.args(["-append", line]);
    let mut console = Console::start(&mut qemu, &log, FIRST_BOOT_LIMIT).context("the emulator")?;
    let done = console
        .wait_for("FIRST-BOOT rc=0")
        .and_then(|()| console.wait_end());
    match done {
        Ok(status) if status.success() => {}
        Ok(_) | Err(Missed::TimeOut | Missed::Ended | Missed::Forbidden(_)) => {
            return Err(Failure::new(format!(
                "Debian's first boot went wrong, see {}",
                log.display()
            )));
        }
    }
    std::fs::remove_file(&script).context(script.display())?;
    FileSystem::of_disk(image).repair()
}

/// A disk that holds the script: lines without content up to the end of its last sector.
fn write_script(path: &Path) -> Result<()> {
    let write = || {
        let mut file = std::fs::File::create(path)?;
        file.write_all(&[b'\n'; 4096])?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(FIRST_BOOT.as_bytes())
    };
    write().context(path.display())
}
