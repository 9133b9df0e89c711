//! `cargo xtask symbolize`: names for the hypervisor's addresses in a log.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use crate::elf;
use crate::failure::{Context, Failure, Result};
use crate::process;

/// Prints `log` (standard input for `-`), and under each line with addresses of the image one line
/// for each of them: function, file and line, the inlined callers behind it.
pub fn run(debug: &Path, log: &str) -> Result<()> {
    let mut text = String::new();
    if log == "-" {
        std::io::stdin()
            .read_to_string(&mut text)
            .context("standard input")?;
    } else {
        let bytes = std::fs::read(log).context(log)?;
        text = String::from_utf8_lossy(&bytes).into_owned();
    }
    print!("{}", annotate(debug, &text)?);
    Ok(())
}

/// The text with names, as [`run`] prints it.
pub fn annotate(debug: &Path, text: &str) -> Result<String> {
    let image = std::fs::read(debug).context(debug.display())?;
    let sections = elf::sections(&image).context(debug.display())?;
    let code: Vec<_> = sections
        .iter()
        .filter(|section| section.flags & elf::SHF_EXECINSTR != 0)
        .map(|section| section.address..section.address + section.size)
        .collect();
    let is_code = |address: &u64| code.iter().any(|range| range.contains(address));
    let mut found: Vec<u64> = text.lines().flat_map(addresses).filter(is_code).collect();
    found.sort_unstable();
    found.dedup();
    let names = look_up(debug, &found)?;
    let mut annotated = String::new();
    for line in text.lines() {
        annotated.push_str(&format!("{line}\n"));
        for address in addresses(line) {
            if let Some(name) = names.get(&address) {
                annotated.push_str(&format!("    {address:#x} = {name}\n"));
            }
        }
    }
    Ok(annotated)
}

/// Asks addr2line once for all addresses.
fn look_up(debug: &Path, addresses: &[u64]) -> Result<BTreeMap<u64, String>> {
    let mut names = BTreeMap::new();
    if addresses.is_empty() {
        return Ok(names);
    }
    let words = addresses.iter().map(|address| format!("{address:#x}"));
    let said = process::text(
        Command::new("addr2line")
            .args(["-a", "-f", "-i", "-C", "-e"])
            .arg(debug)
            .args(words),
    )?;
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        let address = line
            .strip_prefix("0x")
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
            .ok_or_else(|| Failure::new(format!("addr2line says: {line}")))?;
        let mut frames = Vec::new();
        while lines.peek().is_some_and(|line| !line.starts_with("0x")) {
            let function = lines.next().unwrap_or_default();
            let place = lines.next().unwrap_or_default();
            frames.push(format!("{function} ({place})"));
        }
        names.insert(address, frames.join(", inlined into "));
    }
    Ok(names)
}

/// The numbers of sixteen hexadecimal digits in a line, with or without 0x.
fn addresses(line: &str) -> impl Iterator<Item = u64> {
    line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .map(|word| word.strip_prefix("0x").unwrap_or(word))
        .filter(|word| word.len() == 16)
        .filter_map(|word| u64::from_str_radix(word, 16).ok())
}

#[cfg(test)]
mod tests {
    use super::addresses;

    #[test]
    fn addresses_are_found_in_common_forms() {
        let line = "rip 0xffff82d040201234, [ffff82d040205678] 0x12 x0000000000000001";
        let found: Vec<_> = addresses(line).collect();
        assert_eq!(found, [0xffff_82d0_4020_1234, 0xffff_82d0_4020_5678]);
    }
}
