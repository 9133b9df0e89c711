//! Facts about the machine and the boot, gathered once before anything runs.
//!
//! The binary maps low memory, hands what its loader left behind to [`info`], the command line to
//! [`cmdline`], the memory map to [`memmap`] and the firmware's tables to [`acpi`]. All of it is
//! read through [`PhysMem`], is bounded, and answers nonsense with words: a bad table costs what
//! it described, never the boot itself.

pub mod acpi;
pub mod cmdline;
pub mod efi;
pub mod framelist;
pub mod info;
pub mod memmap;
pub mod microcode;
pub mod modules;
mod phys;
pub mod reset;

pub use phys::PhysMem;
