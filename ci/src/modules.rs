//! Modules of Debian's kernel, for an initramfs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cpio::Archive;
use crate::elf;
use crate::failure::{Context, Failure, Result};
use crate::kernel::Kernel;
use crate::process;

/// Adds the modules with what they depend on, and the table by which modprobe finds them.
pub fn add(archive: &mut Archive, kernel: &Kernel, names: &[&str]) -> Result<()> {
    let version = kernel
        .modules
        .file_name()
        .ok_or("the modules' folder is named after the version")?
        .to_string_lossy()
        .into_owned();
    let folder = format!("usr/lib/modules/{version}");
    let all = module_files(&kernel.modules)?;
    let mut needs = BTreeMap::new();
    let mut todo: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = todo.pop() {
        if needs.contains_key(&name) {
            continue;
        }
        let Some(file) = all.iter().find(|file| module_name(file) == name) else {
            return Err(Failure::new(format!("the kernel has no module {name}")));
        };
        let content = module_content(file)?;
        let direct = elf::module_depends(&content).context(file.display())?;
        let direct: Vec<_> = direct.iter().map(|need| need.replace('_', "-")).collect();
        archive.file(&format!("{folder}/{name}.ko"), 0o644, content);
        todo.extend(direct.iter().cloned());
        needs.insert(name, direct);
    }
    let table: String = needs.keys().map(|name| line(name, &needs)).collect();
    archive.file(&format!("{folder}/modules.dep"), 0o644, table.into_bytes());
    Ok(())
}

/// A module's line of the table: all that it needs, what needs others before them.
fn line(name: &str, needs: &BTreeMap<String, Vec<String>>) -> String {
    let mut all: Vec<&String> = Vec::new();
    let mut todo = vec![name];
    while let Some(next) = todo.pop() {
        for need in needs.get(next).into_iter().flatten() {
            all.retain(|other| *other != need);
            all.push(need);
            todo.push(need);
        }
    }
    let mut line = format!("{name}.ko:");
    for need in all {
        line.push_str(&format!(" {need}.ko"));
    }
    line.push('\n');
    line
}

fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split(".ko").next().unwrap_or_default();
    stem.replace('_', "-")
}

/// A module's ELF file; Debian 13 has them compressed.
fn module_content(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_some_and(|kind| kind == "xz") {
        return process::output(Command::new("xz").args(["-d", "-c"]).arg(file));
    }
    std::fs::read(file).context(file.display())
}

fn module_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in std::fs::read_dir(&folder)
            .context(folder.display())?
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                todo.push(path);
            } else if [".ko", ".ko.xz"]
                .iter()
                .any(|end| entry.file_name().to_string_lossy().ends_with(end))
            {
                files.push(path);
            }
        }
    }
    Ok(files)
}
