//! `cargo xtask lint`: format, clippy for both targets, and the rules that no tool knows.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{Context, Failure, Result};
use crate::layout::Layout;
use crate::process;
use crate::toolchain::Toolchain;

/// A check of the whole tree.
type Step = fn(&Layout) -> Result<()>;

/// All checks, in the order in which they are run.
pub const STEPS: &[(&str, Step)] = &[
    ("the format of the code", format),
    ("clippy for the host crates", clippy_host),
    ("clippy for the hypervisor", clippy_hypervisor),
    ("unsafe code only where it is allowed", unsafe_code),
    ("modules use only the layers below them", layers),
];

/// Runs all checks and fails if one did.
pub fn run(layout: &Layout) -> Result<()> {
    let mut failed = 0;
    for (name, step) in STEPS {
        match step(layout) {
            Ok(()) => println!("ok {name}"),
            Err(failure) => {
                println!("FAILED {name}: {failure}");
                failed += 1;
            }
        }
    }
    if failed == 0 {
        return Ok(());
    }
    Err(Failure::new(format!("{failed} checks failed")))
}

fn cargo(layout: &Layout) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(&layout.root);
    command
}

fn format(layout: &Layout) -> Result<()> {
    process::run(cargo(layout).args(["fmt", "--all", "--check"]))
}

fn clippy_host(layout: &Layout) -> Result<()> {
    let mut clippy = cargo(layout);
    // With the simulator, which nothing else builds; without it the hypervisor is checked below.
    clippy.args(["clippy", "--quiet", "--all-targets"]);
    clippy.args(["--features", "hv-core/sim", "--", "-D", "warnings"]);
    process::run(&mut clippy)
}

fn clippy_hypervisor(layout: &Layout) -> Result<()> {
    let mut clippy = Toolchain::select(layout)?.cargo(layout, "clippy");
    clippy.args([
        "--quiet",
        "--package",
        "hv-core",
        "--package",
        "micro-pv",
        "--package",
        "micro-pvh",
        "--bins",
    ]);
    process::run(clippy.args(["--", "-D", "warnings"]))
}

/// Where `unsafe` may stand: what touches the machine, a test kernel, and tests (some call other crates' unsafe
/// functions to compare answers).
fn may_be_unsafe(path: &Path) -> bool {
    path.starts_with("hv-core/src/hw")
        || path == Path::new("hv-core/src/main.rs")
        || path.starts_with("tests-linux-guests/micro-base")
        || path.starts_with("tests-linux-guests/micro-pv")
        || path.starts_with("tests-linux-guests/micro-pvh")
        || path.ends_with("tests.rs")
        || path.components().any(|part| part.as_os_str() == "tests")
}

fn unsafe_code(layout: &Layout) -> Result<()> {
    let mut offences = Vec::new();
    for path in sources(layout)? {
        if may_be_unsafe(&path) {
            continue;
        }
        let text = std::fs::read_to_string(layout.root.join(&path)).context(path.display())?;
        for (number, line) in (1..).zip(text.lines()) {
            if has_word(&code_of(line), "unsafe") {
                offences.push(format!("{}:{number}", path.display()));
            }
        }
    }
    none(offences)
}

/// hv-core's modules from the bottom up. Those in one row may use each other. Of `pv`, what a vCPU at
/// rest consists of belongs to the domains; the rest works on hypercall contexts.
const LAYERS: &[&[&str]] = &[
    &["base"],
    &["boot", "console"],
    &["mm", "pci", "time"],
    &[
        "cpuid",
        "domain",
        "sched",
        "events",
        "grants",
        "hvm",
        "irq",
        "pv::frame",
        "pv::ports",
        "pv::state",
    ],
    &["container", "hypercall", "pv"],
];

/// The row of a path into hv-core: by its first two names where they are listed, else by the first.
fn rank(path: &str) -> Option<usize> {
    let row = |name: &str| LAYERS.iter().position(|row| row.contains(&name));
    let mut names = path.split("::");
    let first = names.next()?;
    let second = names.next().unwrap_or_default();
    row(&format!("{first}::{second}")).or_else(|| row(first))
}

fn layers(layout: &Layout) -> Result<()> {
    let mut offences = Vec::new();
    for path in sources(layout)? {
        let Ok(inside) = path.strip_prefix("hv-core/src") else {
            continue;
        };
        let own = inside.with_extension("");
        let own = own.to_string_lossy().replace('/', "::");
        let Some(own_rank) = rank(&own) else {
            continue;
        };
        let text = std::fs::read_to_string(layout.root.join(&path)).context(path.display())?;
        for (number, line) in (1..).zip(text.lines()) {
            for used in crate_paths(&code_of(line)) {
                if rank(used).is_some_and(|used| used > own_rank) {
                    offences.push(format!("{}:{number} uses {used}", path.display()));
                }
            }
        }
    }
    none(offences)
}

fn none(offences: Vec<String>) -> Result<()> {
    if offences.is_empty() {
        return Ok(());
    }
    Err(Failure::new(offences.join(", ")))
}

/// The paths that follow `crate::` in a line.
fn crate_paths(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(rest.len());
        &rest[..end]
    })
}

/// The line without what stands in quotes and without a trailing comment. A string that goes over
/// several lines is not understood.
fn code_of(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if quoted => drop(letters.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && letters.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => code.push(letter),
        }
    }
    code
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|part| part == word)
}

/// All Rust sources, relative to the root, without what was built.
fn sources(layout: &Layout) -> Result<Vec<PathBuf>> {
    let list = process::text(
        Command::new("git")
            .args([
                "ls-files",
                "--cached",
                "--others",
                "--exclude-standard",
                "*.rs",
            ])
            .current_dir(&layout.root),
    )?;
    let files = list.lines().map(PathBuf::from);
    Ok(files
        .filter(|path| layout.root.join(path).exists())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{code_of, crate_paths, has_word, rank};

    #[test]
    fn words_are_found_whole_and_outside_comments() {
        assert!(has_word("    danger { x }", "danger"));
        assert!(!has_word("forbid(danger_code)", "danger"));
        assert!(!has_word(&code_of("let a = 1; // danger"), "danger"));
        let quoted = r#"say("danger \" // danger"); danger_one()"#;
        assert!(!has_word(&code_of(quoted), "danger"));
    }

    #[test]
    fn paths_into_the_crate_are_found() {
        let used: Vec<_> = crate_paths("use crate::mm::x; crate::base::y()").collect();
        assert_eq!(used, ["mm::x", "base::y"]);
    }

    #[test]
    fn parts_of_a_module_can_lie_deeper() {
        assert!(rank("pv::state::PvState") < rank("pv::bounce"));
        assert!(rank("pv::ports") < rank("pv"));
        assert!(rank("mm::refs") < rank("domain"));
        assert_eq!(rank("hw::run"), None);
    }
}
