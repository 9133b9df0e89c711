//! The static ACPI tables: which CPUs, interrupt controllers, timers and buses there are.
//!
//! AML is dom0's work; here only fixed tables are read (ACPI specification 6.5, chapter 5). The
//! `acpi` crate reads the same tables, but every way into it is an `unsafe fn` that trusts the
//! addresses and lengths in the tables: its handler must map whatever is asked for and cannot
//! refuse, a MADT entry of length 0 makes its iterator loop for ever, and checksums are optional. This
//! library has no unsafe code and takes no firmware's word, so the tables are read here, from byte
//! slices with a bound on everything; the crate is the oracle that the tests compare with.
//!
//! A table that is broken is skipped with an [`AcpiWarning`]; an entry that is broken costs
//! itself only, unless the walk cannot go on after it.

mod facts;
mod fadt;
mod madt;
mod rsdp;
mod table;
mod warning;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use facts::{AcpiFacts, Hpet, Mcfg, MemoryAffinity, ProcessorAffinity, Srat};
pub use fadt::{Fadt, GenericAddress, PmTimer, ResetRegister, SpaceId};
pub use madt::{
    CpuEntry, CpuTarget, IoApicEntry, LocalNmi, Madt, NmiSource, Override, Polarity, Trigger,
};
pub use rsdp::{RootPointer, find_rsdp};
pub use table::{Origin, TableSummary};
pub use warning::{AcpiWarning, Signature};
