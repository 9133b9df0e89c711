//! Sequences of calls by three domains, damaged at random: no panic, no call without end, bounded memory, and
//! afterwards the books are right.
//!
//! The engine is that of `tests/fuzz`; here it runs a few inputs of each target with the other tests, and
//! `cargo xtask fuzz` goes on with the words that it passes in the environment.

#[path = "../../../tests/fuzz/engine.rs"]
mod engine;
mod events;
mod grants;
#[path = "../../../tests/fuzz/heap.rs"]
pub(in crate::hypercall) mod heap;
mod records;
mod steps;
mod tools;
#[path = "../../../tests/fuzz/words.rs"]
mod words;

use engine::{Job, Target, Until};

/// All targets.
const TARGETS: &[Target] = &[
    target("domctl", tools::of_domains, tools::domctl),
    target("sysctl", tools::of_system, tools::sysctl),
    target("grants", grants::corpus, grants::run),
    target("events", events::corpus, events::run),
    target("records", records::corpus, records::run),
];

const fn target(
    name: &'static str,
    corpus: fn() -> Vec<Vec<u8>>,
    read: fn(&[u8]) -> engine::Answer,
) -> Target {
    Target {
        name,
        corpus,
        seal: |_| {},
        read,
        // The machine itself takes half of it.
        bytes: 2 << 20,
        slowness: 1,
    }
}

/// Inputs for each target when nothing is said.
const FEW: u64 = 300;

#[test]
fn fuzz() {
    let jobs = match std::env::var("XENOLITH_FUZZ") {
        Ok(line) => {
            // A failure is told once, by the engine.
            std::panic::set_hook(Box::new(|_| {}));
            let words: Vec<_> = line.split('\n').map(str::to_owned).collect();
            words::chosen(TARGETS, &words).unwrap()
        }
        Err(_) => {
            let few = |target: &'static Target| Job {
                target,
                seed: 1,
                until: Until::Count(FEW / target.slowness),
            };
            TARGETS.iter().map(few).collect()
        }
    };
    let failures = engine::run(&jobs);
    assert_eq!(failures, 0, "see the lines above");
}

#[test]
fn calls_do_without_memory() {
    for target in TARGETS {
        for input in (target.corpus)() {
            for blocks in 0..3 {
                (target.read)(&steps::limited_to(blocks, &input));
            }
        }
    }
}
