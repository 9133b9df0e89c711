//! A minimal PV kernel that boots as dom0, or as a domU of 8 MiB, and checks the hypercall interface from inside.
//!
//! Each check prints `ok NAME` or `FAILED NAME: got X, want Y`; what is wanted is what Xen 4.17
//! answers, unless a comment says otherwise. The words `area=NAME` on the command line choose one
//! area, or several with commas between them, `hostile=NAME` something that only a hostile domain does, `crash=NAME` an act that must end this domain and nothing else. It powers the machine off
//! at the end. On the host there is nothing to build: the program is empty there.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
use micro_pv::{checks, console::println, crash, hostile, kernel, report};

/// What this kernel does.
#[cfg(target_os = "none")]
#[unsafe(no_mangle)]
fn micro_program(line: &str) {
    if let Some(name) = kernel::word(line, "crash") {
        crash::act(name);
        println!("MICRO-SURVIVED {name}");
        return;
    }
    println!("REPORT-BEGIN");
    if let Some(name) = kernel::word(line, "hostile") {
        hostile::act(name);
        report::finish();
        return;
    }
    checks::run(kernel::word(line, "area"));
    report::finish();
}

#[cfg(not(target_os = "none"))]
fn main() {}
