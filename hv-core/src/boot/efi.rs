//! What EFI left behind: its memory map, its tables, and how its runtime services are to be mapped.
//!
//! Firmware is trusted with the machine, not with our parsing: every address is read through [`PhysMem`], every
//! count bounded. What is called later must lie in memory that the map says is the runtime services' code.

mod map;
mod tables;

#[cfg(test)]
mod tests;

use core::fmt;

pub use map::{EfiMapError, EfiRegion, attribute, kind};
pub use tables::{Cache, EfiFacts, EfiProblem, Runtime, RuntimeMapping, Service};

use alloc::vec::Vec;

use crate::base::PhysAddr;

/// What a loader says of EFI.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EfiHandover {
    /// The system table.
    pub system_table: Option<EfiSystemTable>,
    /// The memory map after the end of the boot services; empty when the loader gave none.
    pub memory: Vec<EfiRegion>,
}

/// Where the system table is, by the width of the firmware's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EfiSystemTable {
    /// 32-bit firmware: its services cannot be called.
    Narrow(PhysAddr),
    /// 64-bit firmware.
    Wide(PhysAddr),
}

/// A revision as EFI's tables have it (UEFI 2.10, 4.2.1): prints as `2.70` or `2.3.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EfiRevision(pub u32);

impl fmt::Display for EfiRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = (self.0 >> 16, self.0 & 0xffff);
        write!(f, "{major}.{}", minor / 10)?;
        match minor % 10 {
            0 => Ok(()),
            third => write!(f, ".{third}"),
        }
    }
}
