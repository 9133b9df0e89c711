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

use std::process::ExitCode;
use std::time::Duration;

use engine::{Job, Until};
use targets::TARGETS;

/// Inputs for each target within `cargo test`.
const FEW: u64 = 4000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let ours = words.iter().position(|word| word == "--fuzz");
    match ours {
        Some(at) => match chosen(&words[at + 1..]) {
            Ok(jobs) => engine::run(&jobs),
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
    engine::run(&jobs)
}

/// `[TARGET] [--seconds N] [--seed N] [--number N] [--replay FILE]`
fn chosen(words: &[String]) -> Result<Vec<Job>, String> {
    let mut name = None;
    let (mut seconds, mut seed, mut number, mut replay) = (60, 0, None, None);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{word} needs a value"));
        let parse = |text: &String| text.parse::<u64>().map_err(|_| format!("{word}: {text}?"));
        match word.as_str() {
            "--seconds" => seconds = parse(value()?)?,
            "--seed" => seed = parse(value()?)?,
            "--number" => number = Some(parse(value()?)?),
            "--replay" => replay = Some(value()?.clone()),
            other if !other.starts_with('-') && name.is_none() => name = Some(other.to_owned()),
            other => return Err(format!("unknown argument: {other}")),
        }
    }
    let known = || {
        TARGETS
            .iter()
            .map(|t| t.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let targets: Vec<_> = TARGETS
        .iter()
        .filter(|target| name.as_ref().is_none_or(|name| name == target.name))
        .collect();
    if targets.is_empty() {
        return Err(format!(
            "no target {}; there are {}",
            name.unwrap_or_default(),
            known()
        ));
    }
    if replay.is_some() && targets.len() > 1 {
        return Err("--replay needs the target's name".to_owned());
    }
    let share = Duration::from_secs(seconds) / targets.len() as u32;
    Ok(targets
        .into_iter()
        .map(|target| Job {
            target,
            seed,
            until: match (&replay, number) {
                (Some(file), _) => Until::Replayed(file.clone()),
                (None, Some(number)) => Until::Only(number),
                (None, None) => Until::Elapsed(share),
            },
        })
        .collect())
}
