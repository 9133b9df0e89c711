//! The parts of small PV kernels that check a hypervisor from inside; on the host there is nothing to build.
//!
//! `micro-pv` has all checks and runs as dom0 or as a domU, `micro-domu` is what fits into a domU of 4 MiB. What
//! a program does is its function `micro_program`, called with the command line when traps have handlers.
#![no_std]
#![cfg(target_os = "none")]
#![allow(
    clippy::precedence,
    clippy::identity_op,
    reason = "page-table entries are written as sums of fields, as the manuals show them"
)]

pub mod call;
pub mod checks;
pub mod console;
pub mod crash;
pub mod hostile;
pub mod kernel;
pub mod measure;
pub mod memory;
pub mod pci;
pub mod report;
pub mod shares;
pub mod store;
pub mod tables;
pub mod trap;
pub mod unprivileged;
