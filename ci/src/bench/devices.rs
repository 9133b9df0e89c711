//! `cargo xtask bench --devices`: disks and networks in dom0.
//!
//! Only instructions compare. While dom0 waits for a device time passes with the wall clock, so times depend on this
//! machine and are left out; rates are those of a CPU that takes a nanosecond for each instruction and never waits.
//! (Were time to jump to the next timer, as it does in other measurements, dom0 would handle as many of these as fit
//! into the time that the emulator's other thread takes to answer.)

use tests_linux_guests::case::{Case, Script};
use tests_linux_guests::devices;
use tests_linux_guests::emulator::{Clock, Hypervisor, Machine};

use super::counts::Events;
use super::table::Column;
use super::{Figure, boot, events, figures};
use crate::failure::Result;
use crate::hypervisor::Profile;
use crate::image;
use crate::layout::Layout;

const CASE: Case = Case {
    name: "bench-devices",
    machine: Machine {
        clock: Clock::InstructionsAndWaits,
        ..Machine::BASE
    },
    devices: Some(&devices::MEASURED),
    script: Script::Guest("bench-devices"),
    seconds: 900,
    ..Case::BASE
};

/// Boots once and measures all.
pub fn measure(layout: &Layout, hypervisor: Hypervisor) -> Result<Column> {
    let mut files = crate::boot::prepare(layout, hypervisor, Profile::Release)?;
    files.dom0 = image::with_drivers(layout, &files.dom0)?;
    let name = format!("bench-devices-{hypervisor:?}").to_lowercase();
    let (console, counts) = boot(layout, &CASE, &mut files, &name)?;
    let events = events(&console, &counts)?;
    let mut figures = figures(&console);
    figures.retain(|(name, _)| name.ends_with("interrupts"));
    figures.extend(events.iter().flat_map(|(name, events)| costs(name, events)));
    Ok(Column {
        hypervisor,
        figures,
        events,
    })
}

/// What an operation costs, and how many a second that allows.
fn costs(name: &str, events: &Events) -> [Figure; 3] {
    [
        (format!("{name}: instructions"), events.instructions),
        (format!("{name}: hypervisor's"), events.hypervisor),
        (format!("{name}: a second"), 1e9 / events.instructions),
    ]
}
