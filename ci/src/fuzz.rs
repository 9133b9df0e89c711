//! `cargo xtask fuzz`: random damage to what the boot parses and to sequences of hypercalls, for as long as wanted.
//!
//! The fuzzer of what the boot parses is the test `fuzz` of hv-core (`hv-core/tests/fuzz/`), that of hypercalls stands
//! within the library (`hypercall/tests/fuzz.rs`). Both have a short run in every `cargo test`; this starts them optimised. It needs no nightly compiler, and so no cargo-fuzz: instead
//! of coverage it has good inputs from real machines to begin with.

use std::process::Command;

use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::{kernel, process};

/// The targets that are sequences of hypercalls.
const CALLS: &[&str] = &["domctl", "sysctl", "grants", "events", "records"];

/// Passes the words on; see hv-core/tests/fuzz/words.rs.
pub fn run(layout: &Layout, words: &[String]) -> Result<()> {
    let mut words = words.to_vec();
    for index in 1..words.len() {
        // The fuzzer does not run in the caller's folder.
        if words[index - 1] == "--replay" {
            let path = std::path::absolute(&words[index]).context(&words[index])?;
            words[index] = path.display().to_string();
        }
    }
    match words.first().filter(|word| !word.starts_with('-')) {
        Some(name) if CALLS.contains(&name.as_str()) => calls(layout, &words),
        Some(_) => parsers(layout, &words),
        None => {
            parsers(layout, &words)?;
            calls(layout, &words)
        }
    }
}

/// All targets, so many seconds in all: part of the long tests.
pub fn all(layout: &Layout, seconds: u32) -> Result<()> {
    let half = (seconds / 2).to_string();
    run(layout, &["--seconds".to_owned(), half])
}

fn parsers(layout: &Layout, words: &[String]) -> Result<()> {
    // Its good inputs are made of Debian's kernel.
    kernel::fetch(layout)?;
    let mut cargo = command(layout);
    process::run(cargo.args(["--test", "fuzz", "--", "--fuzz"]).args(words))
}

fn calls(layout: &Layout, words: &[String]) -> Result<()> {
    let mut cargo = command(layout);
    cargo.args(["--lib", "hypercall::tests::fuzz::fuzz", "--"]);
    cargo.args(["--exact", "--nocapture"]);
    process::run(cargo.env("XENOLITH_FUZZ", words.join("\n")))
}

fn command(layout: &Layout) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args([
            "test",
            "--quiet",
            "--profile",
            "fuzz",
            "--package",
            "hv-core",
        ])
        .current_dir(&layout.root);
    cargo
}
