//! Guests in hardware containers (PVH and HVM): what a vCPU consists of there and the rules of its processor, without
//! the hardware and without anything that acts on domains.

pub mod controls;
pub mod cpuid;
pub mod hypercall_page;
pub mod msr;
pub mod mtrr;
pub mod state;
//! The hardware virtual machine of a vCPU: what its virtual devices do, and what the processor is told.
//!
//! All of it decides and nothing touches the machine: `container` puts the parts together, `hw/` enters the guest.
pub mod delivery;
pub mod inbox;
pub mod ioapic;
pub mod lapic;
pub mod vectors;
//! Guests in hardware containers: what is decided about them, apart from the machine.
pub mod copies;
pub mod emulate;
pub mod insn;
pub mod walk;
