//! The logic of the Xenolith hypervisor: everything that decides.
//!
//! This library is safe Rust without inline assembly or static mutable state; what it needs of the
//! machine it takes through small traits, so it runs under `cargo test` on the host. What touches
//! the CPU or a device lives in the binary (`src/main.rs`, `src/hw/`).
#![cfg_attr(not(test), no_std)]
#![cfg_attr(not(test), forbid(unsafe_code))]

extern crate alloc;

pub mod base;
pub mod boot;
pub mod console;
pub mod container;
pub mod cpuid;
pub mod domain;
pub mod events;
pub mod grants;
pub mod hvm;
pub mod hypercall;
pub mod irq;
pub mod mm;
pub mod pci;
pub mod pv;
pub mod sched;
pub mod time;
