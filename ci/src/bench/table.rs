//! The tables that `cargo xtask bench` prints.

use tests_linux_guests::emulator::Hypervisor;

use super::Figure;
use super::counts::Events;

/// All that was measured on one hypervisor.
#[derive(Debug)]
pub struct Column {
    /// Which.
    pub hypervisor: Hypervisor,
    /// Times and sizes.
    pub figures: Vec<Figure>,
    /// What the operations did.
    pub events: Vec<(String, Events)>,
}

/// The figures, a line each, and their ratio.
pub fn figures(columns: &[Column]) {
    let Some(first) = columns.first() else {
        return;
    };
    print!("{:40}", "ns (1 = one instruction)");
    for column in columns {
        print!(" {:>15}", format!("{:?}", column.hypervisor));
    }
    println!("{}", if columns.len() == 2 { "    ratio" } else { "" });
    for (name, reference) in &first.figures {
        print!("{name:40} {reference:>15.0}");
        for column in &columns[1..] {
            match column.figures.iter().find(|(other, _)| other == name) {
                Some((_, value)) => print!(" {value:>15.0} {:>8.2}", value / reference),
                None => print!(" {:>15}", "-"),
            }
        }
        println!();
    }
}

/// What the hypervisor did for one operation, a line for each hypervisor.
pub fn events(columns: &[Column]) {
    let Some(first) = columns.first() else {
        return;
    };
    println!(
        "\n{:32} {:10} {:>12} {:>10} {:>10} {:>10} {:>10}",
        "the hypervisor, for each", "", "instructions", "CR3 loads", "flushes", "INVLPG", "entries"
    );
    for (name, _) in &first.events {
        for column in columns {
            let Some((_, e)) = column.events.iter().find(|(other, _)| other == name) else {
                continue;
            };
            println!(
                "{name:32} {:10} {:>12.0} {:>10.2} {:>10.2} {:>10.2} {:>10.2}",
                format!("{:?}", column.hypervisor),
                e.hypervisor,
                e.cr3,
                e.flushes,
                e.invlpg,
                e.entries
            );
        }
    }
}
