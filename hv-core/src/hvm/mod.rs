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
//! The hardware container of a vCPU that is not PV: what the processor's virtualization offers, in words that do not
//! name a vendor, and the devices that a guest finds in it.
//! All of it decides and keeps; entering the guest is `hw/svm.rs`. Whoever runs a vCPU owns its container: nothing
//! here is shared between CPUs but where a module says so.
pub mod asid;
pub mod exit;
pub mod processor;
pub mod svm_facts;
pub mod vmcb;
