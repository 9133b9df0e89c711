//! Tests that boot real kernels in QEMU or Bochs and drive `xl`.
//!
//! A [`case::Case`] says what is booted and what must be seen; [`suite::cases`] lists them;
//! [`runner`] boots one and judges its console. The in-guest half is `guest/*.sh`, which the dom0
//! image carries under `/tests`. [`bad`] has the boots of wrong input, which never get to dom0.
#![forbid(unsafe_code)]

pub mod bad;
pub mod bochs;
pub mod case;
pub mod console;
pub mod debugger;
pub mod devices;
pub mod emulator;
pub mod exposure;
pub mod monitor;
pub mod report;
pub mod runner;
pub mod screen;
pub mod suite;
