//! What containers need of the CPU and the machine beyond what hypercalls need.

use crate::cpuid::msr::MsrLog;
use crate::cpuid::xen::{GuestTsc, MachineFacts};
use crate::domain::Domain;

/// The CPU that runs the vCPU. What is loaded stays loaded while the vCPU runs here.
pub trait Room {
    /// Facts of the machine and of our version, for CPUID.
    fn machine_facts(&self) -> MachineFacts;
    /// What a domain is told of its TSC.
    fn guest_tsc(&self, domain: &Domain) -> Option<GuestTsc>;
    /// The TSC of this CPU.
    fn read_tsc(&self) -> u64;
    /// Loads XCR0 for the guest.
    fn load_xcr0(&self, value: u64);
    /// Loads TSC_AUX for the guest.
    fn load_tsc_aux(&self, value: u32);
    /// Loads the masks of the guest's breakpoints.
    fn load_breakpoint_masks(&self, masks: &[u32; 4]);
    /// Makes this CPU forget its branch predictions.
    fn forget_branches(&self);
    /// An MSR of this CPU, if it has it.
    fn read_machine_msr(&self, msr: u32) -> Option<u64>;
    /// Unknown MSRs that were logged.
    fn msr_log(&self) -> &MsrLog;
}
