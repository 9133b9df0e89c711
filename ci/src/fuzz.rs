//! `cargo xtask fuzz`: random damage to what the boot parses, for as long as wanted.
//!
//! The fuzzer is the test `fuzz` of hv-core (`hv-core/tests/fuzz/`), which has a short run in every
//! `cargo test`; this starts it optimised. It needs no nightly compiler, and so no cargo-fuzz: instead
//! of coverage it has good inputs from real machines to begin with.

use std::process::Command;

use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::{kernel, process};

/// Passes the words on; see hv-core/tests/fuzz/main.rs.
pub fn run(layout: &Layout, words: &[String]) -> Result<()> {
    // Its good inputs are made of Debian's kernel.
    kernel::fetch(layout)?;
    let mut cargo = command(layout);
    cargo.args(["--", "--fuzz"]);
    for (index, word) in words.iter().enumerate() {
        // The fuzzer does not run in the caller's folder.
        if index > 0 && words[index - 1] == "--replay" {
            cargo.arg(std::path::absolute(word).context(word)?);
        } else {
            cargo.arg(word);
        }
    }
    process::run(&mut cargo)
}

/// All targets, so many seconds in all: part of the long tests.
pub fn all(layout: &Layout, seconds: u32) -> Result<()> {
    run(layout, &["--seconds".to_owned(), seconds.to_string()])
}

fn command(layout: &Layout) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["test", "--quiet", "--profile", "fuzz"])
        .args(["--package", "hv-core", "--test", "fuzz"])
        .current_dir(&layout.root);
    cargo
}
