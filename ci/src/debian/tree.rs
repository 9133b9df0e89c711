//! The installed system as a folder: debootstrap, then apt within it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests_linux_guests::case::PASSWORD;

use super::recipe::{PACKAGES, files};
use crate::debs;
use crate::failure::{Context, Failure, Result};
use crate::process;

/// The folder with the whole system, filled on first use and when the list of packages changes.
pub fn filled(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    let stamp = folder.join("root.stamp");
    let wanted = PACKAGES.join(" ");
    if std::fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(root);
    }
    if !crate::setup::is_root()? {
        return Err(Failure::new(
            "a Debian disk can only be made by root: debootstrap makes device files and changes owners",
        ));
    }
    for old in [&stamp, &root] {
        process::output(Command::new("rm").arg("-rf").arg(old))?;
    }
    println!("Debian: debootstrap, some minutes the first time");
    let downloads = folder.join("downloads");
    std::fs::create_dir_all(&downloads).context(downloads.display())?;
    let mirror = debs::mirror("Debian")?;
    process::output(
        Command::new("debootstrap")
            .arg("--arch=amd64")
            .arg(format!("--cache-dir={}", downloads.display()))
            .arg("bookworm")
            .args([&root, Path::new(&mirror)]),
    )?;
    let mut sources = format!("deb {mirror} bookworm main\ndeb {mirror} bookworm-updates main\n");
    if let Ok(security) = debs::mirror("Debian-Security") {
        sources.push_str(&format!("deb {security} bookworm-security main\n"));
    }
    write(&root, "etc/apt/sources.list", &sources)?;
    println!("Debian: {}", PACKAGES.join(" "));
    let script = SCRIPT
        .replace("PACKAGES", &PACKAGES.join(" "))
        .replace("PASSWORD", PASSWORD);
    process::output(
        Command::new("unshare")
            .args(["--mount", "sh", "-e", "-c", &script])
            .arg(&root),
    )?;
    std::fs::write(&stamp, wanted).context(stamp.display())?;
    Ok(root)
}

/// Installs the packages in the folder `$0`. Its services must not start on this machine; what is mounted goes with
/// the process.
const SCRIPT: &str = r#"
mount -t proc proc "$0/proc"
printf '#!/bin/sh\nexit 101\n' >"$0/usr/sbin/policy-rc.d"
chmod 755 "$0/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
chroot "$0" apt-get -q update
chroot "$0" apt-get -q -y --no-install-recommends full-upgrade
chroot "$0" apt-get -q -y --no-install-recommends install PACKAGES
chroot "$0" apt-get clean
rm -r "$0/usr/sbin/policy-rc.d" "$0"/var/lib/apt/lists/*
echo root:PASSWORD | chroot "$0" chpasswd
chroot "$0" systemctl enable systemd-networkd.service
mkdir -p "$0/boot/efi"
"#;

/// Writes the recipe's files.
pub fn settle(root: &Path) -> Result<()> {
    files()
        .iter()
        .try_for_each(|(path, text)| write(root, path, text))
}

fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).context(folder.display())?;
    }
    std::fs::write(&path, text).context(path.display())
}
