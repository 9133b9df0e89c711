//! A minimal PV kernel that boots as dom0 and checks the hypercall interface from inside.
//!
//! Each check prints `ok NAME` or `FAILED NAME: got X, want Y`; what is wanted is what Xen 4.17
//! answers, unless a comment says otherwise. The words `area=NAME` on the command line choose one
//! area, `crash=NAME` an act that must end this domain and nothing else. It powers the machine off
//! at the end. On the host there is nothing to build: the program is empty there.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(
    clippy::precedence,
    clippy::identity_op,
    reason = "page-table entries are written as sums of fields, as the manuals show them"
)]

#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod checks;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod crash;
#[cfg(target_os = "none")]
mod kernel;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod pci;
#[cfg(target_os = "none")]
mod report;
#[cfg(target_os = "none")]
mod tables;
#[cfg(target_os = "none")]
mod trap;

#[cfg(not(target_os = "none"))]
fn main() {}
