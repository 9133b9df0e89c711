//! Running other programs.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::failure::{Context, Failure, Result};

/// A command as a person would type it, for messages.
pub fn describe(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}

/// Runs the command on our terminal; an error unless it exits with 0.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().context(describe(command))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{}: {status}", describe(command))))
}

/// Runs the command silently and returns its standard output; on failure the error holds what it
/// said on standard error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let result = command
        .stdin(Stdio::null())
        .output()
        .context(describe(command))?;
    if result.status.success() {
        return Ok(result.stdout);
    }
    let said = String::from_utf8_lossy(&result.stderr);
    Err(Failure::new(format!(
        "{}: {}\n{}",
        describe(command),
        result.status,
        said.trim_end()
    )))
}

/// Like [`output`], as text.
pub fn text(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&output(command)?).into_owned())
}

/// Runs the command with its standard output going to the file `to`, which appears whole or not
/// at all.
pub fn output_to_file(command: &mut Command, to: &Path) -> Result<()> {
    let part = to.with_extension("part");
    let file = std::fs::File::create(&part).context(part.display())?;
    run(command.stdin(Stdio::null()).stdout(file))?;
    std::fs::rename(&part, to).context(to.display())
}

/// Whether a program of this name is found on the search path.
pub fn on_path(name: impl AsRef<OsStr>) -> bool {
    let name = name.as_ref();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
        || ["/usr/sbin", "/sbin"]
            .iter()
            .any(|folder| Path::new(folder).join(name).is_file())
}
