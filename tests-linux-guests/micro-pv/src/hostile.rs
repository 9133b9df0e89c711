//! What only a hostile domain does: races, floods, exhaustion. Each must get the interface's error, and nothing may
//! come of it in other domains, which dom0 looks at. One domain for each.

mod exhaust;
mod flood;
mod foreign;
mod race;
mod rights;

use crate::report;

/// An act: its name and what is done.
type Act = (&'static str, fn());

const ACTS: &[Act] = &[
    ("race-entry", race::entry),
    ("race-pin", race::pin),
    ("race-arguments", race::arguments),
    ("event-flood", flood::events),
    ("timer-flood", flood::timers),
    ("exhaust-memory", exhaust::memory_all),
    ("exhaust-grants", exhaust::grants),
    ("exhaust-maptrack", exhaust::maptrack),
    ("rights", rights::control),
    ("foreign-frames", foreign::frames),
    ("foreign-tables", foreign::tables),
    ("foreign-grants", foreign::grants),
];

/// Does what the name says.
pub fn act(name: &str) {
    match ACTS.iter().find(|(known, _)| *known == name) {
        Some((name, act)) => {
            report::enter(name);
            act();
        }
        None => report::holds("this act", false, name),
    }
}
