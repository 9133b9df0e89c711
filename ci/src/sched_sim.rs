//! `cargo xtask sched-sim`: the scheduler on a simulated machine. The program is hv-core's example of the same name.

use std::process::Command;

use crate::failure::{Context, Result};
use crate::layout::Layout;
use crate::process;

/// Builds it optimised and passes the words on; see hv-core/examples/sched-sim/options.rs.
pub fn run(layout: &Layout, words: &[String]) -> Result<()> {
    let mut words = words.to_vec();
    for index in 1..words.len() {
        // The simulator does not run in the caller's folder.
        if words[index - 1] == "--svg" {
            let path = std::path::absolute(&words[index]).context(&words[index])?;
            words[index] = path.display().to_string();
        }
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--quiet", "--release", "--package", "hv-core"]);
    cargo.args(["--features", "sim", "--example", "sched-sim", "--"]);
    process::run(cargo.args(&words).current_dir(&layout.root))
}
