//! Runs one boot of bad input and judges its console.

use std::path::Path;
use std::time::Duration;

use super::{BadBoot, End};
use crate::case::FORBIDDEN;
use crate::console::{Console, Missed};
use crate::emulator::{self, Files, Loader, Terminal};
use crate::monitor::NmiButton;
use crate::report::Check;
use crate::runner::{Outcome, wait};
use crate::screen::Screen;

/// Wall time after which a boot has failed.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a machine that should stand still is watched.
const WATCHED: Duration = Duration::from_millis(700);

/// Boots it and checks all that it asks for; the console's text stays in `log`, files that are made
/// for it in `folder`.
///
/// # Errors
/// A file could not be made or the emulator not be started.
pub fn run(boot: &BadBoot, files: &Files, folder: &Path, log: &Path) -> std::io::Result<Outcome> {
    std::fs::create_dir_all(folder)?;
    let mut qemu = emulator::machine_alone(&boot.machine, files, Terminal::Program);
    if boot.machine.loader == Loader::GrubUefi {
        emulator::uefi_drives(&mut qemu, files);
    } else {
        qemu.arg("-kernel").arg(&files.hypervisor);
        qemu.args(["-append", &boot.hypervisor_line()]);
        if let Some(kernel) = boot.kernel.file(files, &folder.join("kernel"))? {
            let module = format!("{} {}", kernel.display(), boot.kernel_args);
            qemu.args(["-initrd", module.trim_end()]);
        }
    }
    boot.tables.give(&mut qemu, folder)?;
    let monitor = NmiButton::attach(&mut qemu, boot.name);
    let mut console = Console::start(&mut qemu, log, LIMIT)?;
    let trouble = FORBIDDEN.iter().filter(|line| !boot.wants(line));
    console.forbid(&trouble.copied().collect::<Vec<_>>());
    console.forbid(boot.forbidden);
    let mut checks = Vec::new();
    if let Some(screen) = boot.screen {
        let shown = watch(boot, screen, &monitor, folder, &mut console)?;
        checks.extend(boot.expected.iter().map(|line| once(&shown, line)));
        checks.push(ends(boot.end, &mut console));
        return Ok(Outcome {
            checks,
            took: console.elapsed(),
            console: console.text().to_owned() + &shown,
        });
    }
    if shows_all(boot, &mut console, &mut checks)
        && answers_monitor(boot, &monitor, &mut console, &mut checks)
    {
        checks.push(ends(boot.end, &mut console));
    }
    for line in boot.expected {
        checks.push(once(console.text(), line));
    }
    Ok(Outcome {
        checks,
        took: console.elapsed(),
        console: console.text().to_owned(),
    })
}

/// Looks at the screen until it shows all that it must, or time is up; returns what it shows then.
fn watch(
    boot: &BadBoot,
    screen: Screen,
    monitor: &NmiButton,
    folder: &Path,
    console: &mut Console,
) -> std::io::Result<String> {
    loop {
        let alive = console.stays(WATCHED).is_ok();
        let shown = screen.read(monitor, folder)?;
        let all = boot.expected.iter().all(|line| shown.contains(line));
        if all || !alive || console.elapsed() > LIMIT {
            return Ok(shown);
        }
    }
}

/// Waits for all that must appear, pressing keys in between.
fn shows_all(boot: &BadBoot, console: &mut Console, checks: &mut Vec<Check>) -> bool {
    let shown = boot.expected.iter().all(|line| {
        wait(
            console,
            checks,
            &format!("the console shows \"{line}\""),
            line,
        )
    });
    shown
        && boot.keys.iter().all(|(keys, answer)| {
            let name = format!("pressing {keys:?} answers \"{answer}\"");
            if let Err(error) = console.press(keys) {
                checks.push(Check::failed(name, error.to_string()));
                return false;
            }
            wait(console, checks, &name, answer)
        })
}

/// Says what is to be said to QEMU's monitor, and waits for what comes of it.
fn answers_monitor(
    boot: &BadBoot,
    monitor: &NmiButton,
    console: &mut Console,
    checks: &mut Vec<Check>,
) -> bool {
    let Some((line, answers)) = boot.monitor else {
        return true;
    };
    let _heard = match monitor.say(line) {
        Ok(heard) => heard,
        Err(error) => {
            checks.push(Check::failed("the monitor listens", error.to_string()));
            return false;
        }
    };
    answers.iter().all(|answer| {
        let name = format!("\"{line}\" in the monitor leads to \"{answer}\"");
        wait(console, checks, &name, answer)
    })
}

fn ends(end: End, console: &mut Console) -> Check {
    match end {
        End::Stays => {
            let name = "then nothing happens any more";
            match console.stays(WATCHED) {
                Ok(()) => Check::passed(name),
                Err(Missed::Ended) => Check::failed(name, "the machine was reset"),
                Err(missed) => Check::failed(name, missed.to_string()),
            }
        }
        End::Resets => {
            let name = "then the machine is reset";
            match console.wait_end() {
                Ok(_) => Check::passed(name),
                Err(missed) => Check::failed(name, missed.to_string()),
            }
        }
    }
}

fn once(console: &str, line: &str) -> Check {
    let name = format!("\"{line}\" is said once");
    match console.matches(line).count() {
        1 => Check::passed(name),
        times => Check::failed(name, format!("{times} times")),
    }
}
