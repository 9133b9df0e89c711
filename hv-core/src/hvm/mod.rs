//! Guests in hardware containers (PVH and HVM): what a vCPU consists of there and the rules of its processor, without
//! anything that acts on domains.
//!
//! [`processor`] says what a container can do, in words that do not name a vendor; [`vmcb`] does it by AMD-V, [`vmcs`]
//! by VT-x, and [`block`] is the one that the machine has. Entering the guest is `hw/svm.rs` and `hw/vmx.rs`. Whoever
//! runs a vCPU owns its container: nothing here is shared between CPUs but where a module says so.

pub mod asid;
pub mod block;
pub mod controls;
pub mod copies;
pub mod cpuid;
pub mod delivery;
pub mod emulate;
pub mod exit;
pub mod first;
pub mod hypercall_page;
pub mod inbox;
pub mod insn;
pub mod ioapic;
pub mod lapic;
pub mod msr;
pub mod mtrr;
pub mod processor;
pub mod records;
pub mod registers;
pub mod start;
pub mod state;
pub mod svm_facts;
pub mod vectors;
pub mod vmcb;
pub mod vmcs;
pub mod vmx_facts;
pub mod vmx_maps;
pub mod walk;
