//! `cargo xtask bench --guests`: what guests do, and what it takes to create them.
//!
//! Disks and networks are dom0's own memory, so that nothing waits for a device of the emulator. What is waited for are
//! timers, which then fire at once: times compare, and are the same in each run.

use tests_linux_guests::case::{Case, Guests, Script};
use tests_linux_guests::emulator::{Clock, Hypervisor, Machine};

use super::counts::Events;
use super::table::Column;
use super::{Figure, boot, events, figure};
use crate::failure::{Failure, Result};
use crate::hypervisor::Profile;
use crate::image;
use crate::layout::Layout;

const CASE: Case = Case {
    name: "bench-guests",
    machine: Machine {
        clock: Clock::Instructions,
        // Thirty guests of 96 MiB beside dom0.
        memory_mib: 4096,
        ..Machine::BASE
    },
    guests: Guests::Linux,
    script: Script::Guest("bench-guests"),
    seconds: 3600,
    ..Case::BASE
};

/// What can be measured alone, and the word for the script that measures.
const PARTS: [(&str, &str); 13] = [
    ("creation", "XPART=creation"),
    ("crowd", "XPART=crowd"),
    ("micros", "XPART=micros"),
    ("wakeups", "XPART=wakeups"),
    ("loops", "XPART=loops"),
    ("disks", "XPART=disks"),
    ("networks", "XPART=networks"),
    // Only by their names.
    ("pvh-micros", "XPART=pvh-micros"),
    ("pvh-loops", "XPART=loops XTYPE=pvh"),
    ("pvh-creation", "XPART=creation XTYPE=pvh"),
    ("pvh-disks", "XPART=disks XTYPE=pvh"),
    ("pvh-networks", "XPART=networks XTYPE=pvh"),
    ("pvh-migration", "XPART=migration XTYPE=pvh"),
];

/// The boot that measures one part, or all.
fn case(part: Option<&str>) -> Result<Case> {
    let Some(part) = part else { return Ok(CASE) };
    let named = PARTS.iter().find(|(name, _)| *name == part);
    let (_, kernel_args) = named.ok_or_else(|| {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        Failure::new(format!("--only {part}: one of {}", names.join(", ")))
    })?;
    Ok(Case {
        kernel_args,
        ..CASE
    })
}

/// Boots once and measures all, or one part.
pub fn measure(layout: &Layout, hypervisor: Hypervisor, part: Option<&str>) -> Result<Column> {
    let case = case(part)?;
    let mut files = crate::boot::prepare(layout, hypervisor, Profile::Release)?;
    files.dom0 = image::build_guests(layout)?.dom0;
    files.dom0 = image::with_micro(layout, &files.dom0)?;
    let name = format!("bench-guests-{hypervisor:?}").to_lowercase();
    let (console, counts) = boot(layout, &case, &mut files, &name)?;
    let events = events(&console, &counts)?;
    Ok(Column {
        hypervisor,
        figures: figures(&console, &events),
        events,
    })
}

/// The times, each with the instructions of all domains and of the hypervisor: where these are fewer than nanoseconds,
/// the rest was spent waiting.
fn figures(console: &str, events: &[(String, Events)]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, time) in console.lines().filter_map(figure) {
        let counted = events.iter().find(|(counted, _)| *counted == name);
        figures.push((name.clone(), time));
        figures.extend(counted.map(|(_, e)| (format!("{name}: done"), e.instructions)));
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::{Events, case, figures};

    #[test]
    fn a_part_is_named_on_the_command_line() {
        assert_eq!(case(None).unwrap().kernel_args, "");
        assert_eq!(case(Some("crowd")).unwrap().kernel_args, "XPART=crowd");
        assert!(case(Some("crowds")).is_err());
    }

    #[test]
    fn what_was_done_stands_behind_the_time_it_took() {
        let events = [(
            "b".to_owned(),
            Events {
                instructions: 40.0,
                hypervisor: 3.0,
                cr3: 0.0,
                flushes: 0.0,
                invlpg: 0.0,
                entries: 0.0,
            },
        )];
        let read = figures(
            "one| BENCH x 1\nBENCH a 7\nBENCH b 50\nCOUNTED 2\n",
            &events,
        );
        let names: Vec<_> = read.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "b", "b: done"]);
        assert_eq!((read[1].1, read[2].1), (50.0, 40.0));
    }
}
