//! The hypervisor's command line: Xen's options, parsed once into [`Options`].
//!
//! Names, forms and defaults are those of Xen 4.17 (its `xen-command-line` document), so that an
//! administrator's line keeps working. What is Xen's but not ours, what nobody knows and what makes
//! no sense is returned as [`Diagnostic`]s, one sentence each, and never stops the boot.
//! As with Xen, `-` and `_` are the same in a name, a later option wins over an earlier one, and
//! everything after ` -- ` belongs to dom0.

mod diagnostic;
mod effective;
mod known;
mod memory;
mod scheduler;
mod serial;
mod values;
mod vmx;
mod xpti;

#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;

pub use diagnostic::Diagnostic;
pub use effective::{Param, ParamValue};
pub use memory::{Dom0Mem, Dom0Pages, MemAmount};
pub use scheduler::{Credit2Options, RunQueueBy};
pub use serial::{Baud, Parity, SerialSettings};
pub use values::{AbiVersion, LogLevel, LogThreshold, VcpuRange};
pub use vmx::VmxOptions;
pub use xpti::XptiOptions;

use super::microcode::Wanted;
use super::reset::Plan;
use diagnostic::Findings;
use values::Switch;

/// Most bytes of one option's value that are looked at; longer ones are bad values.
const MAX_VALUE: usize = 1024;
/// Smallest and largest console ring, in bytes.
const CONRING_RANGE: core::ops::RangeInclusive<u64> = (4 << 10)..=(64 << 20);

/// A place that console output goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleSink {
    /// The first serial port.
    Com1,
    /// The second serial port.
    Com2,
    /// The screen.
    Vga,
}

/// How dom0 is virtualised (`dom0=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dom0Mode {
    /// Paravirtualised.
    Pv,
    /// In a hardware container.
    Pvh,
}

/// The scheduler (`sched=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerName {
    /// Weighted fair sharing.
    Credit2,
    /// One vCPU per CPU.
    Null,
}

/// The watchdog over the hypervisor's CPUs (`watchdog`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// No watchdog.
    Off,
    /// Panic when a CPU is stuck.
    On,
    /// The same: NMIs of unknown origin always go to dom0.
    Force,
}

/// What to do after a fatal error of the hypervisor (`noreboot`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPanic {
    /// Restart the machine.
    Reboot,
    /// Stay, so that the message can be read.
    Halt,
}

/// Who has the screen once dom0 runs (`vga=keep`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScreenOwner {
    /// dom0 alone.
    Dom0,
    /// The hypervisor too: it goes on writing.
    Shared,
}

/// All options with their values or defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `console=`: where output goes; empty for `none`.
    pub console: Vec<ConsoleSink>,
    /// `com1=`: `None` when not given (the port is then not ours).
    pub com1: Option<SerialSettings>,
    /// `com2=`: likewise.
    pub com2: Option<SerialSettings>,
    /// `sync_console`: wait for every character to leave.
    pub sync_console: bool,
    /// `conring_size=` in bytes, a power of two.
    pub conring_size: u64,
    /// `loglvl=`: for our own messages.
    pub loglvl: LogThreshold,
    /// `guest_loglvl=`: for messages that guests cause.
    pub guest_loglvl: LogThreshold,
    /// `dom0=pv` or `dom0=pvh`.
    pub dom0_mode: Dom0Mode,
    /// `dom0_mem=`.
    pub dom0_mem: Dom0Mem,
    /// `dom0_max_vcpus=`.
    pub dom0_max_vcpus: VcpuRange,
    /// `maxcpus=` and `nosmp`: most CPUs to bring up; `None` for all.
    pub max_cpus: Option<u32>,
    /// `irq_ratelimit=`: most interrupts of one line in 10 ms, 0 for any number; `None` for ours.
    pub irq_ratelimit: Option<u32>,
    /// `sched=`.
    pub scheduler: SchedulerName,
    /// Those of the scheduler itself.
    pub credit2: Credit2Options,
    /// `abi=` (ours): the Xen version that is reported to guests and tools.
    pub abi: AbiVersion,
    /// `noreboot`, also `reboot=no`.
    pub after_panic: AfterPanic,
    /// `reboot=`.
    pub reset: Plan,
    /// `ucode=`.
    pub microcode: Wanted,
    /// `watchdog`.
    pub watchdog: Watchdog,
    /// `watchdog_timeout=` in seconds; 0: no watchdog.
    pub watchdog_timeout: u32,
    /// `timer_slop=` in nanoseconds: deadlines that are so close together share an interrupt.
    pub timer_slop: u32,
    /// `mwait-idle`: idle CPUs wait by MWAIT.
    pub mwait_idle: bool,
    /// `vga=keep`.
    pub screen: ScreenOwner,
    /// `ept=`, `vpid=` and `apicv=`.
    pub vmx: VmxOptions,
    /// `xpti=`.
    pub xpti: XptiOptions,
}

impl Options {
    /// Seconds after which a CPU counts as stuck; none when nobody is to look.
    #[must_use]
    pub fn watch_for(&self) -> Option<u32> {
        (self.watchdog != Watchdog::Off && self.watchdog_timeout != 0)
            .then_some(self.watchdog_timeout)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            console: [ConsoleSink::Com1, ConsoleSink::Vga].into(),
            com1: None,
            com2: None,
            sync_console: false,
            conring_size: 16 << 10,
            loglvl: LogThreshold::both(LogLevel::Warning),
            guest_loglvl: LogThreshold {
                always: LogLevel::None,
                limited: LogLevel::Warning,
            },
            dom0_mode: Dom0Mode::Pv,
            dom0_mem: Dom0Mem::default(),
            dom0_max_vcpus: VcpuRange::default(),
            max_cpus: None,
            irq_ratelimit: None,
            scheduler: SchedulerName::Credit2,
            credit2: Credit2Options::default(),
            abi: AbiVersion {
                major: 4,
                minor: 17,
            },
            reset: Plan::default(),
            microcode: Wanted::default(),
            after_panic: AfterPanic::Reboot,
            watchdog: Watchdog::Off,
            watchdog_timeout: 5,
            timer_slop: 50_000,
            mwait_idle: false,
            screen: ScreenOwner::Dom0,
            vmx: VmxOptions::default(),
            xpti: XptiOptions::default(),
        }
    }
}

/// The result of parsing a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The options.
    pub options: Options,
    /// Everything that deserves a word in the boot log.
    pub diagnostics: Vec<Diagnostic>,
    /// What follows ` -- `: to be appended to dom0's own command line ([`Parsed::dom0_line`]).
    pub dom0_extra: Option<String>,
}

impl Parsed {
    /// Parses a whole command line (without the image's name).
    #[must_use]
    pub fn new(line: &str) -> Self {
        let (own, dom0_extra) = split_dom0_part(line);
        let mut parser = Parser {
            options: Options::default(),
            findings: Findings::default(),
            one_cpu: false,
        };
        for word in own.split(' ').filter(|word| !word.is_empty()) {
            parser.take_word(word);
        }
        if parser.one_cpu {
            parser.options.max_cpus = Some(1);
        }
        Self {
            options: parser.options,
            diagnostics: parser.findings.into_list(),
            dom0_extra: dom0_extra.map(String::from),
        }
    }

    /// dom0's command line: that of its module and what ours has for it after ` -- `.
    #[must_use]
    pub fn dom0_line(&self, module: &str) -> String {
        let mut line = String::from(module);
        if let Some(extra) = self.dom0_extra.as_deref().filter(|extra| !extra.is_empty()) {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(extra);
        }
        line
    }
}

/// Splits a line at the first ` -- ` into our part and dom0's.
fn split_dom0_part(line: &str) -> (&str, Option<&str>) {
    match line.split_once(" -- ") {
        Some((own, dom0)) => (own, Some(dom0.trim_start_matches(' '))),
        None => (line, None),
    }
}

/// Parsing in progress.
struct Parser {
    options: Options,
    findings: Findings,
    /// `nosmp`, which holds whatever `maxcpus=` says.
    one_cpu: bool,
}

/// One word of the line: `name`, `no-name` or `name=value`.
struct Word<'a> {
    /// The name in the spelling of our tables: `_` only, without `no-`.
    name: String,
    /// What follows the equals sign.
    value: Option<&'a str>,
    /// `no-` in front.
    negated: bool,
    /// The whole word, for messages.
    text: &'a str,
}

impl<'a> Word<'a> {
    fn new(text: &'a str) -> Self {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (text, None),
        };
        let plain = name.strip_prefix("no-");
        Self {
            name: plain.unwrap_or(name).replace('-', "_"),
            value,
            negated: plain.is_some(),
            text,
        }
    }

    /// The value of a boolean: alone, negated by `no-`, or spelled out.
    fn switch(&self) -> Option<Switch> {
        match (self.value, self.negated) {
            (None, false) => Some(Switch::On),
            (None, true) => Some(Switch::Off),
            (Some(value), false) => Switch::parse(value),
            // Both at once has no defined meaning.
            (Some(_), true) => None,
        }
    }

    /// The value of an option that is no boolean.
    fn string(&self) -> Option<&'a str> {
        self.value
            .filter(|value| !self.negated && value.len() <= MAX_VALUE)
    }
}

impl Parser {
    /// Takes one word of the line.
    fn take_word(&mut self, text: &str) {
        let word = Word::new(text);
        if known::is_quiet(&word.name, word.negated, word.value) {
            return;
        }
        let taken = self
            .take_switch(&word)
            .or_else(|| self.take_value(&word))
            .or_else(|| {
                // No value is one that makes no sense.
                let value = word.string().unwrap_or("");
                self.options.credit2.take(&word.name, value)
            });
        match taken {
            Some(Ok(())) => {}
            Some(Err(expected)) => self.findings.add(Diagnostic::BadValue {
                word: String::from(word.text),
                expected,
            }),
            None if known::is_xens(&word.name) => {
                self.findings
                    .add(Diagnostic::NotImplemented(String::from(word.text)));
            }
            None => self
                .findings
                .add(Diagnostic::Unknown(String::from(word.text))),
        }
    }

    /// Takes a boolean option; `None` when the word is none of them.
    fn take_switch(&mut self, word: &Word<'_>) -> Option<Result<(), &'static str>> {
        let options = &mut self.options;
        if word.name == "watchdog" && word.value == Some("force") && !word.negated {
            options.watchdog = Watchdog::Force;
            return Some(Ok(()));
        }
        if !matches!(
            &*word.name,
            "sync_console"
                | "watchdog"
                | "noreboot"
                | "nosmp"
                | "mwait_idle"
                | "apicv"
                | "ept"
                | "vpid"
                | "xpti"
        ) {
            return None;
        }
        // They can be lists, too.
        if matches!(&*word.name, "ept" | "xpti") && word.switch().is_none() {
            return None;
        }
        let Some(switch) = word.switch() else {
            return Some(Err(
                "a boolean: yes or no, on or off, true or false, 1 or 0",
            ));
        };
        let on = switch == Switch::On;
        match &*word.name {
            "sync_console" => options.sync_console = on,
            "mwait_idle" => options.mwait_idle = on,
            "apicv" => options.vmx.apicv = on,
            "ept" => options.vmx.ept = on,
            "vpid" => options.vmx.vpid = on,
            "xpti" => options.xpti = XptiOptions::all(on),
            "watchdog" => options.watchdog = if on { Watchdog::On } else { Watchdog::Off },
            "noreboot" => {
                options.after_panic = if on {
                    AfterPanic::Halt
                } else {
                    AfterPanic::Reboot
                };
            }
            _ => self.one_cpu = on,
        }
        Some(Ok(()))
    }

    /// Takes an option with a value; `None` when the word is none of them.
    fn take_value(&mut self, word: &Word<'_>) -> Option<Result<(), &'static str>> {
        let set: fn(&mut Self, &str) -> Option<()> = match &*word.name {
            "console" => Self::set_console,
            "com1" => |parser, value| {
                parser.options.com1 = Some(serial::parse("com1", value, &mut parser.findings)?);
                Some(())
            },
            "com2" => |parser, value| {
                parser.options.com2 = Some(serial::parse("com2", value, &mut parser.findings)?);
                Some(())
            },
            "conring_size" => Self::set_conring_size,
            "loglvl" => |parser, value| {
                parser.options.loglvl = LogThreshold::parse(value)?;
                Some(())
            },
            "guest_loglvl" => |parser, value| {
                parser.options.guest_loglvl = LogThreshold::parse(value)?;
                Some(())
            },
            "dom0" => Self::set_dom0,
            "dom0_mem" => |parser, value| parser.options.dom0_mem.update(value),
            "dom0_max_vcpus" => |parser, value| {
                parser.options.dom0_max_vcpus = VcpuRange::parse(value)?;
                Some(())
            },
            "maxcpus" => |parser, value| {
                let count = values::unsigned(value).filter(|&count| count > 0)?;
                parser.options.max_cpus = Some(u32::try_from(count).ok()?);
                Some(())
            },
            "irq_ratelimit" => |parser, value| {
                let limit = values::unsigned(value)?;
                parser.options.irq_ratelimit = Some(u32::try_from(limit).ok()?);
                Some(())
            },
            "watchdog_timeout" => |parser, value| {
                let seconds = values::unsigned(value)?;
                parser.options.watchdog_timeout = u32::try_from(seconds).ok()?;
                Some(())
            },
            "timer_slop" => |parser, value| {
                let slop = values::unsigned(value)?;
                parser.options.timer_slop = u32::try_from(slop).ok()?;
                Some(())
            },
            "sched" => Self::set_scheduler,
            "vga" => Self::set_vga,
            "ept" => |parser, value| vmx::look_at_ept(value, &mut parser.findings),
            "xpti" => |parser, value| parser.options.xpti.update(value),
            "abi" => |parser, value| {
                parser.options.abi = AbiVersion::parse(value)?;
                Some(())
            },
            "ucode" => |parser, value| {
                parser.options.microcode = Wanted::parse(value)?;
                Some(())
            },
            "reboot" => |parser, value| {
                parser.options.reset = Plan::parse(value)?;
                if parser.options.reset.stay {
                    parser.options.after_panic = AfterPanic::Halt;
                }
                Some(())
            },
            _ => return None,
        };
        let done = word.string().and_then(|value| set(self, value));
        Some(done.ok_or_else(|| known::expected(&word.name)))
    }

    fn set_console(&mut self, value: &str) -> Option<()> {
        let mut sinks = Vec::new();
        for item in value.split(',').filter(|item| !item.is_empty()) {
            let sink = match item {
                "com1" => ConsoleSink::Com1,
                "com2" => ConsoleSink::Com2,
                "vga" => ConsoleSink::Vga,
                "none" => continue,
                "com1H" | "com1L" | "com2H" | "com2L" | "pv" | "dbgp" | "ehci" | "xhci" => {
                    self.findings.missing("console", item);
                    continue;
                }
                _ => return None,
            };
            if !sinks.contains(&sink) {
                sinks.push(sink);
            }
        }
        self.options.console = sinks;
        Some(())
    }

    fn set_conring_size(&mut self, value: &str) -> Option<()> {
        let size = values::size(value).filter(|size| CONRING_RANGE.contains(size))?;
        self.options.conring_size = size.next_power_of_two();
        Some(())
    }

    fn set_scheduler(&mut self, value: &str) -> Option<()> {
        self.options.scheduler = match value {
            "credit2" => SchedulerName::Credit2,
            "null" => SchedulerName::Null,
            "credit" | "arinc653" | "rtds" => {
                self.findings.missing("sched", value);
                return Some(());
            }
            _ => return None,
        };
        Some(())
    }

    /// The mode is the boot loader's choice; whether to keep the screen is ours.
    fn set_vga(&mut self, value: &str) -> Option<()> {
        for item in value.split(',').filter(|item| !item.is_empty()) {
            let mode = ["text-", "gfx-", "mode-"];
            match item {
                "keep" => self.options.screen = ScreenOwner::Shared,
                "current" => {}
                "ask" => self.findings.missing("vga", item),
                _ if mode.iter().any(|start| item.starts_with(start)) => {
                    self.findings.missing("vga", item);
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn set_dom0(&mut self, value: &str) -> Option<()> {
        const XENS: [&str; 4] = ["shadow", "verbose", "cpuid-faulting", "msr-relaxed"];
        for item in value.split(',').filter(|item| !item.is_empty()) {
            let name = item.split('=').next().unwrap_or(item);
            match item {
                "pv" => self.options.dom0_mode = Dom0Mode::Pv,
                "pvh" => {
                    self.options.dom0_mode = Dom0Mode::Pvh;
                    self.findings.missing("dom0", item);
                }
                _ if XENS.contains(&name.strip_prefix("no-").unwrap_or(name)) => {
                    self.findings.missing("dom0", item);
                }
                _ => return None,
            }
        }
        Some(())
    }
}
