//! The VMCS: Intel's control block of one vCPU.

pub mod exits;
pub mod layout;
