//! Fuzzing of what loaders, firmware and kernel files say: real inputs, damaged at random, go through
//! the same parsers as at boot. Each must come through without a panic and within its bounds of time and
//! memory. Every input follows from target, seed and number alone, so that a failure can be made again;
//! it is saved as a file as well.
//!
//! Within `cargo test` each target gets a few inputs from a fixed seed. `cargo xtask fuzz` goes on for as
//! long as it is told; its words arrive here behind `--fuzz`.

mod engine;
mod heap;
mod kernels;
mod memory;
mod targets;
mod words;

use std::process::ExitCode;

use engine::{Job, Until};
use targets::TARGETS;

/// Inputs for each target within `cargo test`.
const FEW: u64 = 4000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ours = words.iter().position(|word| word == "--fuzz");
    match ours {
        Some(at) => match words::chosen(TARGETS, &words[at + 1..]) {
            Ok(jobs) => run(&jobs),
            Err(why) => {
                eprintln!("fuzz: {why}");
                ExitCode::FAILURE
            }
        },
        None => few(&words),
    }
}

/// What `cargo test` wants: all targets shortly, or those that its filter names.
fn few(words: &[String]) -> ExitCode {
    if words.iter().any(|word| word == "--list") {
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|f| format!("fuzz::{name}").contains(*f))
    };
    let jobs: Vec<_> = TARGETS
        .iter()
        .filter(|target| wanted(target.name))
        .map(|target| Job {
            target,
            seed: 1,
            until: Until::Count(FEW / target.slowness),
        })
        .collect();
    run(&jobs)
}

fn run(jobs: &[Job]) -> ExitCode {
    // A failure is told once, by the engine.
    std::panic::set_hook(Box::new(|_| {}));
    match engine::run(jobs) {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
