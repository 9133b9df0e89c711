//! What `cargo xtask fuzz` is told.

use std::time::Duration;

use super::engine::{Job, Target, Until};

/// `[TARGET] [--seconds N] [--seed N] [--number N] [--replay FILE]`
pub fn chosen(all: &'static [Target], words: &[String]) -> Result<Vec<Job>, String> {
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
    let known = || all.iter().map(|t| t.name).collect::<Vec<_>>().join(", ");
    let targets: Vec<_> = all
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
