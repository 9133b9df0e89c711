//! The VMCS: Intel's control block of one vCPU.

pub mod checks;
pub mod exits;
pub mod layout;
pub mod segments;
