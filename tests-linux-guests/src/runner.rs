//! Boots one case and judges it.

use std::path::Path;
use std::time::Duration;

use crate::case::{Case, FORBIDDEN, Nmis, Script};
use crate::console::{Console, Missed};
use crate::devices::Attached;
use crate::emulator::{self, Files, Payload, Software, Terminal};
use crate::monitor::NmiButton;
use crate::report::{self, Check};

/// What a boot proved.
#[derive(Debug)]
pub struct Outcome {
    /// All checks of the case.
    pub checks: Vec<Check>,
    /// Wall time of the boot.
    pub took: Duration,
    /// The console's text.
    pub console: String,
}

impl Outcome {
    /// Whether every check passed.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.failure.is_none())
    }
}

/// Boots the case and checks all that it asks for; the console's text stays in `log`.
///
/// # Errors
/// The emulator could not be started.
pub fn run(case: &Case, files: &Files, log: &Path) -> std::io::Result<Outcome> {
    let hypervisor = case.hypervisor_line();
    let kernel = case.kernel_line();
    let software = Software {
        hypervisor_line: &hypervisor,
        payload: case.payload(),
        kernel_line: &kernel,
    };
    let mut command = emulator::command(&case.machine, files, software, Terminal::Program);
    let mut button = (case.nmis == Nmis::Many).then(|| NmiButton::attach(&mut command, case.name));
    let attached = match case.devices {
        Some(devices) => Some(Attached::attach(devices, &mut command, log)?),
        None => None,
    };
    let mut console = Console::start(&mut command, log, Duration::from_secs(case.seconds))?;
    let trouble = FORBIDDEN
        .iter()
        .filter(|line| !case.tolerated.contains(line));
    console.forbid(&trouble.copied().collect::<Vec<_>>());
    console.forbid(case.forbidden);
    let mut checks = Vec::new();
    let milestones = match case.payload() {
        Payload::Linux(_) => LINUX_MILESTONES,
        Payload::Micro => MICRO_MILESTONES,
    };
    let alive = boot(milestones, &mut console, &mut checks)
        && press(button.as_mut(), &mut checks)
        && drive(case.script, &mut console, &mut checks);
    drop(button);
    if alive {
        power_off(&mut console, &mut checks);
    }
    match case.script {
        Script::Guest(name) => {
            checks.extend(report::parse(console.text()));
            let result = format!("XTEST-RESULT {name} 0");
            checks.push(shown(&console, "the script succeeds", &result));
        }
        Script::Micro => checks.extend(report::parse(console.text())),
        Script::Typed(_) | Script::MicroAct => {}
    }
    if let Some(attached) = attached {
        checks.extend(attached.checks()?);
    }
    for line in case.expected {
        checks.push(shown(
            &console,
            &format!("the console shows \"{line}\""),
            line,
        ));
    }
    checks.push(match console.first_forbidden() {
        None => Check::passed("no sign of trouble on the console"),
        Some(line) => Check::failed("no sign of trouble on the console", line),
    });
    Ok(Outcome {
        checks,
        took: console.elapsed(),
        console: console.text().to_owned(),
    })
}

/// Lets NMIs begin, where there is a button for them.
fn press(button: Option<&mut NmiButton>, checks: &mut Vec<Check>) -> bool {
    let Some(button) = button else { return true };
    match button.press() {
        Ok(()) => true,
        Err(error) => {
            checks.push(Check::failed("NMIs are sent", error.to_string()));
            false
        }
    }
}

fn shown(console: &Console, name: &str, line: &str) -> Check {
    if console.text().contains(line) {
        return Check::passed(name);
    }
    Check::failed(name, format!("\"{line}\" was not printed"))
}

/// What Linux and its user space print on their way up, with what each line means.
const LINUX_MILESTONES: &[(&str, &str)] = &[
    ("dom0's kernel starts", "Linux version"),
    ("dom0 reaches user space", "DOM0-USERSPACE"),
    ("the Xen daemons start", "DOM0-DAEMONS rc=0"),
    ("dom0 is ready", "DOM0-READY"),
];

/// The same of micro-pv.
const MICRO_MILESTONES: &[(&str, &str)] = &[("micro-pv starts", "micro-pv starts")];

/// Waits for the milestones; false when one is missed.
fn boot(milestones: &[(&str, &str)], console: &mut Console, checks: &mut Vec<Check>) -> bool {
    milestones
        .iter()
        .all(|(name, marker)| wait(console, checks, name, marker))
}

/// Waits for a marker and notes whether it came.
pub(crate) fn wait(
    console: &mut Console,
    checks: &mut Vec<Check>,
    name: &str,
    marker: &str,
) -> bool {
    match console.wait_for(marker) {
        Ok(()) => {
            checks.push(Check::passed(name));
            true
        }
        Err(missed) => {
            let last = console
                .text()
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty());
            let why = format!(
                "{missed} after {:.0} s; last line: {}",
                console.elapsed().as_secs_f64(),
                last.unwrap_or("none")
            );
            checks.push(Check::failed(name, why));
            false
        }
    }
}

fn drive(script: Script, console: &mut Console, checks: &mut Vec<Check>) -> bool {
    match script {
        Script::Guest(name) => wait(
            console,
            checks,
            "the script ends",
            &format!("XTEST-RESULT {name} "),
        ),
        Script::Micro => wait(console, checks, "the checks end", "MICRO-RESULT "),
        Script::MicroAct => wait(console, checks, "the act begins", "MICRO-ACT "),
        Script::Typed(steps) => {
            wait(console, checks, "a prompt appears", "# ")
                && steps.iter().all(|(typed, answer)| {
                    let name = format!("typing \"{typed}\" answers \"{answer}\"");
                    if let Err(error) = console.send(typed) {
                        checks.push(Check::failed(name, error.to_string()));
                        return false;
                    }
                    wait(console, checks, &name, answer)
                })
        }
    }
}

fn power_off(console: &mut Console, checks: &mut Vec<Check>) {
    let name = "the machine powers off";
    checks.push(match console.wait_end() {
        Ok(status) if status.success() => Check::passed(name),
        Ok(status) => Check::failed(name, format!("QEMU: {status}")),
        Err(Missed::TimeOut) => Check::failed(name, "still running when time was up"),
        Err(missed) => Check::failed(name, missed.to_string()),
    });
}
