//! The checks, an area of the interface each.

pub mod clock;
mod second;
pub mod upcall;

use crate::console::println;

/// An area: its name and what checks it.
type Area = (&'static str, fn());

const AREAS: &[Area] = &[];

/// Runs all areas, or the one of this name.
pub fn run(only: Option<&str>) {
    for (name, check) in AREAS {
        if only.is_none_or(|only| only == *name) {
            println!("area {name}");
            check();
        }
    }
}
