//! The options as they are in effect, for tools that ask (`/params` of hypfs).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::{AfterPanic, Options};

/// Value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParamValue {
    /// In the form in which it is given.
    Text(String),
    /// A number.
    Number(u32),
    /// A boolean.
    Switch(bool),
}

/// An option and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Name, as on the command line.
    pub name: &'static str,
    /// Its value, given or not.
    pub value: ParamValue,
}

impl Options {
    /// The options that decide something on the running system, in the order of their names. What
    /// has no value unless it is given is only there then.
    #[must_use]
    pub fn in_effect(&self) -> Vec<Param> {
        use ParamValue::{Number, Switch, Text};
        let conring = u32::try_from(self.conring_size).unwrap_or(u32::MAX);
        let all = [
            ("abi", Some(Text(self.abi.to_string()))),
            ("conring_size", Some(Number(conring))),
            ("guest_loglvl", Some(Text(self.guest_loglvl.to_string()))),
            ("irq_ratelimit", self.irq_ratelimit.map(Number)),
            ("loglvl", Some(Text(self.loglvl.to_string()))),
            ("maxcpus", self.max_cpus.map(Number)),
            (
                "noreboot",
                Some(Switch(self.after_panic == AfterPanic::Halt)),
            ),
            // The only one there is, whatever was asked for.
            ("sched", Some(Text(String::from("credit2")))),
            ("sync_console", Some(Switch(self.sync_console))),
            ("timer_slop", Some(Number(self.timer_slop))),
            ("watchdog", Some(Switch(self.watch_for().is_some()))),
            ("watchdog_timeout", self.watch_for().map(Number)),
        ];
        let scheduler = self.credit2.in_effect();
        let scheduler = scheduler
            .into_iter()
            .map(|(name, value)| (name, Some(value)));
        let mut params: Vec<Param> = (all.into_iter().chain(scheduler))
            .filter_map(|(name, value)| value.map(|value| Param { name, value }))
            .collect();
        params.sort_by_key(|param| param.name);
        params
    }
}
