//! What a machine with UEFI has beside its RAM: the firmware's variables and a disk.

use std::path::PathBuf;
use std::process::Command;

use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::process;

/// Variables of a machine that was never booted, of Debian's package ovmf.
const TEMPLATE: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// The disk's size and its partition, in sectors of 512 bytes.
const SECTORS: u64 = 32 << 11;
const FIRST: u64 = 2048;

/// The variables of a new machine.
///
/// # Errors
/// The template is missing or cannot be copied.
pub fn variables(layout: &Layout, name: &str) -> Result<PathBuf> {
    let file = layout.target.join(format!("{name}.vars"));
    std::fs::copy(TEMPLATE, &file).context(TEMPLATE)?;
    Ok(file)
}

/// A new disk with a GPT and an EFI system partition: a machine's own, as it writes to it.
///
/// # Errors
/// A tool fails, or there is no room.
pub fn disk(layout: &Layout, name: &str) -> Result<PathBuf> {
    let file = layout.target.join(format!("{name}.disk"));
    std::fs::copy(empty_disk(layout)?, &file).context(file.display())?;
    Ok(file)
}

fn empty_disk(layout: &Layout) -> Result<PathBuf> {
    let file = layout.target.join("efi-disk.img");
    if file.exists() {
        return Ok(file);
    }
    let new = layout.target.join("efi-disk.new");
    let image = std::fs::File::create(&new).context(new.display())?;
    image.set_len(SECTORS * 512).context(new.display())?;
    let table = layout.target.join("efi-disk.table");
    let text = format!("label: gpt\nstart={FIRST}, type=uefi, name=ESP\n");
    std::fs::write(&table, text).context(table.display())?;
    let table = std::fs::File::open(&table).context(table.display())?;
    let mut partition = Command::new("/sbin/sfdisk");
    process::run(partition.arg("--quiet").arg(&new).stdin(table))?;
    let partition = format!("{}@@{}", new.display(), FIRST * 512);
    // The table's copy takes the last 33 sectors.
    let size = SECTORS - FIRST - 34;
    let mut format = Command::new("mformat");
    process::output(format.args(["-i", &partition, "-T", &size.to_string(), "::"]))?;
    std::fs::rename(&new, &file).context(file.display())?;
    Ok(file)
}
