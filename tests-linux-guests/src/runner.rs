//! Boots one case and judges it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::case::{Case, Exposure, FORBIDDEN, Nmis, PASSWORD, Script};
use crate::console::{Console, Missed};
use crate::debugger::Debugger;
use crate::devices::Attached;
use crate::emulator::{self, Emulator, Files, Hypervisor, Payload, Software, Terminal};
use crate::exposure;
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
    // Xen's own way in and out lies elsewhere.
    let looks = case.exposure == Exposure::Least && files.which == Hypervisor::Xenolith;
    let wanted = case.nmis == Nmis::Many || looks || !case.monitor.is_empty();
    let mut button = wanted.then(|| NmiButton::attach(&mut command, case.name));
    let damage = case.firmware.damage();
    let debugger = damage.map(|_| Debugger::attach(&mut command, case.name));
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
    // Kept to the end: what is said to a monitor that hangs up may not be heard.
    let mut monitor = None;
    let milestones = match case.payload() {
        Payload::Linux(_) if case.machine.loader.is_disk() => DISK_MILESTONES,
        Payload::Linux(_) => LINUX_MILESTONES,
        Payload::Micro => MICRO_MILESTONES,
    };
    let alive = boot(milestones, &mut console, &mut checks)
        // One at a time has the monitor.
        && (!looks || look(button.as_ref(), &mut checks))
        && (case.nmis == Nmis::None || press(button.as_mut(), &mut checks))
        && damage_firmware(damage.zip(debugger.as_ref()), &console, &mut checks)
        && say(
            case.monitor,
            button.as_ref(),
            &mut monitor,
            &mut console,
            &mut checks,
        )
        && drive(case, &mut console, &mut checks);
    drop(button);
    if alive {
        power_off(case, files, &mut console, &mut checks);
    }
    match case.script {
        Script::Guest(name) | Script::LoggedIn(name) => {
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
    if case.machine.loader.is_disk() {
        let name = "the menu starts the hypervisor that is tested";
        checks.push(shown(&console, name, files.which.greeting()));
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

/// Looks what is mapped while dom0 runs.
fn look(button: Option<&NmiButton>, checks: &mut Vec<Check>) -> bool {
    let Some(button) = button else { return true };
    let name = "of the hypervisor, a guest's CPU maps the way in and out alone";
    let seen = exposure::at_cpl3(button.socket()).map_err(|error| error.to_string());
    let verdict = seen.and_then(|listed| exposure::judge(&listed));
    checks.push(match &verdict {
        Ok(()) => Check::passed(name),
        Err(why) => Check::failed(name, why.clone()),
    });
    verdict.is_ok()
}

/// Writes over the beginning of EFI's GetTime, whose address the hypervisor has told, where that is wanted.
fn damage_firmware(
    damage: Option<([u8; 2], &Debugger)>,
    console: &Console,
    checks: &mut Vec<Check>,
) -> bool {
    let Some((code, debugger)) = damage else {
        return true;
    };
    let told = console.text().split("EFI: GetTime is at 0x").nth(1);
    let digits = told.and_then(|rest| rest.split(|c: char| !c.is_ascii_hexdigit()).next());
    let address = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let name = "the firmware's code is damaged";
    let done = address
        .ok_or_else(|| "its address was not told".to_owned())
        .and_then(|at| {
            let written = debugger.write(at, &code);
            written.map_err(|error| error.to_string())
        });
    checks.push(match &done {
        Ok(()) => Check::passed(name),
        Err(why) => Check::failed(name, why.clone()),
    });
    done.is_ok()
}

/// Says what is to be said at the monitor, when it is time.
fn say(
    lines: &[(&str, &str)],
    button: Option<&NmiButton>,
    monitor: &mut Option<UnixStream>,
    console: &mut Console,
    checks: &mut Vec<Check>,
) -> bool {
    let Some(button) = button else { return true };
    lines.iter().all(|(marker, line)| {
        if !wait(
            console,
            checks,
            &format!("it is time for \"{line}\""),
            marker,
        ) {
            return false;
        }
        let said = match monitor {
            None => button.say(line).map(|heard| *monitor = Some(heard)),
            Some(heard) => writeln!(heard, "{line}"),
        };
        if let Err(error) = &said {
            checks.push(Check::failed("the monitor listens", error.to_string()));
        }
        said.is_ok()
    })
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

/// The same of an installed system, whose kernel is told to be quiet.
const DISK_MILESTONES: &[(&str, &str)] = &[
    ("the disk's GRUB starts", "GNU GRUB"),
    ("dom0 asks who is there", " login: "),
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

/// Logs in and starts a script. What is typed appears on the console, so the words that are waited for are written in
/// two parts; a hypervisor keeps 128 keys that dom0 has not read and drops more, so lines are short and typed at a
/// prompt. In the end systemd is told to show what it stops: a quiet boot shows nothing.
fn log_in(case: &Case, script: &str, console: &mut Console, checks: &mut Vec<Check>) -> bool {
    let (cpus, total) = (case.machine.cpus, case.machine.memory_mib);
    let dom0 = case.dom0_mib;
    let sizes = format!("export XCPUS={cpus} XTOTAL={total} XDOM0={dom0}");
    let run = format!(
        "bash /tests/{script}.sh; echo XTEST''-RESULT {script} $?; kill -s RTMIN+20 1; poweroff"
    );
    let steps = [
        ("root", "Password: "),
        (PASSWORD, "# "),
        ("mkdir -p /tests; mount -o ro LABEL=TESTS /tests", "# "),
        (&sizes, "# "),
        (&run, "BEGIN "),
    ];
    let name = format!("the script ends within {} s", case.seconds);
    steps.iter().all(|(typed, answer)| {
        let name = format!("typing \"{typed}\"");
        console.send(typed).is_ok() && wait(console, checks, &name, answer)
    }) && wait(console, checks, &name, &format!("XTEST-RESULT {script} "))
}

fn drive(case: &Case, console: &mut Console, checks: &mut Vec<Check>) -> bool {
    match case.script {
        Script::LoggedIn(script) => log_in(case, script, console, checks),
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

fn power_off(case: &Case, files: &Files, console: &mut Console, checks: &mut Vec<Check>) {
    let name = "the machine powers off";
    checks.push(match console.wait_end() {
        Ok(status) if case.machine.emulator == Emulator::Bochs => {
            match files.bochs.powered_off(status) {
                Ok(()) => Check::passed(name),
                Err(why) => Check::failed(name, why),
            }
        }
        Ok(status) if status.success() => Check::passed(name),
        Ok(status) => Check::failed(name, format!("QEMU: {status}")),
        Err(Missed::TimeOut) => Check::failed(name, "still running when time was up"),
        Err(missed) => Check::failed(name, missed.to_string()),
    });
}
