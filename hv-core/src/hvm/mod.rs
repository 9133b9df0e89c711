//! Guests in hardware containers (PVH and HVM): what a vCPU consists of there and the rules of its processor, without
//! the hardware and without anything that acts on domains.

pub mod controls;
pub mod cpuid;
pub mod hypercall_page;
pub mod msr;
pub mod mtrr;
pub mod state;
