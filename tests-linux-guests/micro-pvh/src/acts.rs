//! The acts: their names and what is done.

use crate::console::println;
use crate::measure;
use crate::random::Random;

mod ends;
mod frames;
mod instructions;
mod interrupts;
mod registers;
mod starts;
mod tables;
mod wild;

/// An act: its name and what is done.
type Act = (&'static str, fn(&mut Random));

const ACTS: &[Act] = &[
    ("hello", |_| ()),
    ("cpuid", registers::cpuid),
    ("msr-read", registers::msrs_read),
    ("msr-write", registers::msrs_written),
    ("controls", registers::controls),
    ("unchecked", registers::unchecked),
    ("debug", registers::debug),
    ("ports", registers::ports),
    ("instructions", instructions::all),
    ("user", instructions::user),
    ("tables", tables::wild),
    ("tables-race", tables::race),
    ("apic", interrupts::registers),
    ("apic-access", interrupts::accesses),
    ("apic-modes", interrupts::modes),
    ("x2apic", interrupts::x2apic),
    ("ioapic", interrupts::ioapic),
    ("interrupts", interrupts::storm),
    ("timer", interrupts::timer),
    ("nmi", interrupts::nmis),
    ("sipi", starts::storm),
    ("sipi-nmi", starts::storm_with_nmis),
    ("real-mode", starts::real),
    ("two", starts::two),
    ("events", wild::events),
    ("hypercalls", wild::hypercalls),
    ("hypercall-page", wild::page),
    ("parameters", wild::parameters),
    ("physmap", frames::physmap),
    ("balloon", frames::balloon),
    ("measure", |_| measure::run()),
    // What must end this domain.
    ("triple", |_| ends::triple()),
    ("halt", |_| ends::halt()),
    ("root-gone", |_| ends::root_gone()),
    ("fetch-hole", |_| ends::fetch_hole()),
    ("code-gone", |_| ends::code_gone()),
    ("stack-hole", |_| ends::stack_hole()),
    ("crash", |_| ends::crash()),
    ("reboot", |_| ends::reboot()),
    ("endless", |_| ends::endless()),
];

/// Does what the names say; those that must end us and come back say so.
pub fn run(names: &str, seed: u64) {
    for name in names.split(',') {
        match ACTS.iter().find(|(known, _)| *known == name) {
            Some((name, act)) => {
                act(&mut Random::new(seed));
                println!("MICRO-PVH {name} ok");
            }
            None => println!("FAILED no act {name}"),
        }
    }
}
