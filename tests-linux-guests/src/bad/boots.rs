//! The list of boots of bad input.

use super::BadBoot;
use crate::emulator::Machine;

mod ends;
mod images;
mod machines;
mod screens;

/// Said after all that stops for good.
const STOPPED: &str = "Stopped; it is safe to switch the machine off";
/// Said of a kernel that is a text.
const UNREADABLE: &str = "Cannot boot: dom0 kernel: neither an ELF file nor compressed";
/// Said when the hypervisor came all the way to a dom0 that crashes at once.
const DOM0_CRASHED: &str = "Hardware Dom0 crashed";
/// A line of letters.
const fn letters(bytes: &'static [u8]) -> &'static str {
    match core::str::from_utf8(bytes) {
        Ok(line) => line,
        Err(_) => "",
    }
}

/// More than the 1024 bytes that a PV kernel can be given (xen.h, `MAX_GUEST_CMDLINE`).
const LONG_LINE: &str = letters(&[b'x'; 1500]);
/// More than is taken from a loader.
const ENDLESS_LINE: &str = letters(&[b'y'; 5000]);

const SMALL: Machine = BadBoot::BASE.machine;
/// Two CPUs and no tables of the emulator's.
const BARE: Machine = Machine {
    cpus: 2,
    board: "pc,acpi=off",
    ..SMALL
};

/// All of them.
pub fn all() -> impl Iterator<Item = &'static BadBoot> {
    [screens::BOOTS, images::BOOTS, machines::BOOTS, ends::BOOTS]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::all;
    use crate::suite::cases;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_fit_a_file_name() {
        let mut names: BTreeSet<_> = cases().map(|case| case.name).collect();
        for boot in all() {
            assert!(names.insert(boot.name), "{} twice", boot.name);
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(boot.name.starts_with("bad-") && boot.name.chars().all(fits));
            assert!(!boot.expected.is_empty(), "{} expects nothing", boot.name);
        }
    }
}
