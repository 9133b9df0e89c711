//! Physical interrupts: from a line at an I/O APIC to a port of the domain that owns the device.
//!
//! - [`ioapic`]: registers of the I/O APICs (Intel 82093AA data sheet, ACPI 5.2.12.3).
//! - [`routing`]: which I/O APIC serves a global system interrupt (GSI) and how its line signals.
//! - [`vectors`]: CPU vectors for devices, and which line a vector belongs to.
//! - `line`: the life of one line: whose it is, when it must be masked.
//! - [`service`]: what a CPU has accepted and not yet ended.
//! - `storm`: the bound on how often one line may interrupt.
//! - `numbers`: the numbers (PIRQs) by which domains name lines.
//! - [`eoi_page`]: the bitmap in which a domain sees which of its PIRQs want `PHYSDEVOP_eoi`.
//! - [`pirqs`]: all of it as one object, [`Irqs`].
//! - `messages`: message interrupts, which are lines too, without an I/O APIC.
//! - [`pci`]: the PCI functions that dom0 has reported.
//!
//! # The rule of a line
//! A line is unmasked exactly when somebody is bound to it, no storm holds it and, for a level line,
//! every domain that was told of it has ended its interrupt. One function decides that and writes
//! the mask bit (`LineState::settle`); every change of state goes through it.
//!
//! A level line is masked in the I/O APIC before the local APIC gets its end of interrupt, which clears
//! the Remote IRR bit. While masked it cannot interrupt again, whatever the guest does; when it is
//! unmasked with the line still asserted the I/O APIC sends it anew, so nothing is lost. An edge is
//! ended at once: an edge that comes while the first is handled waits in the local APIC.
//!
//! # Locks
//! Only the run loop and hypercalls take them, in this order: the PCI functions, the table of numbers, one line,
//! one I/O APIC or access to PCI. Binding, unbinding and routing are called with the domain's event ledger held, so no
//! ledger is ever taken under a lock of this layer; interrupts are raised with none of them held.

pub mod eoi_page;
pub mod ioapic;
mod line;
mod messages;
mod numbers;
pub mod pci;
pub mod pirqs;
pub mod routing;
pub mod service;
mod storm;
pub mod vectors;

#[cfg(test)]
pub(crate) mod tests;

pub use eoi_page::AtEnd;
pub use ioapic::{ChipPlace, IoApicRegs};
pub use messages::{Messages, TableStays, Unmappable};
pub use numbers::Numbering;
pub use pirqs::{Arrival, IrqHost, Irqs, LineStatus, STORM_LIMIT};
pub use routing::{LineMode, Override, Polarity, Trigger};
