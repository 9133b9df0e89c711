//! What hypercalls need of the binary beside the machine: the console, the CPU policies, and
//! registers to show.

use core::fmt;

use xen_abi::errno::Errno;

use crate::boot::efi::{EfiFacts, Service};
use crate::console::ConsoleSink;
use crate::cpuid::Policies;

/// Machine state in words, for debug keys. Called in a hypercall or in a CPU's run loop, never in
/// an interrupt handler.
pub trait Diagnostics: Send + Sync {
    /// Writes what each CPU does and has counted (debug key `d`).
    ///
    /// # Errors
    /// Those of `out`.
    fn registers(&self, out: &mut dyn fmt::Write) -> fmt::Result;
    /// Writes vectors, redirection entries and whom they interrupt (debug key `i`).
    ///
    /// # Errors
    /// Those of `out`.
    fn interrupts(&self, out: &mut dyn fmt::Write) -> fmt::Result;
    /// Ends the hypervisor as a bug of its own would: registers, a back-trace, stop (debug key `C`).
    /// Returns in tests only.
    fn crash(&self);
    /// Stands still with a lock held and interrupts off, as a bug of the hypervisor would (debug key `H`, which only builds with
    /// debug assertions have). Returns in tests only.
    #[cfg(debug_assertions)]
    fn hang(&self);
}

/// An argument of a firmware call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EfiArgument {
    /// The value itself.
    Value(u64),
    /// The address of this byte of the call's memory.
    At(usize),
}

/// The runtime services of EFI.
pub trait EfiServices: Send + Sync {
    /// What the firmware says of itself.
    fn facts(&self) -> &EfiFacts;
    /// Calls a service and returns its status, EFI_DEVICE_ERROR for one that has crashed. `memory` is what its
    /// arguments point into; it holds what the firmware wrote then.
    ///
    /// # Errors
    /// `ENOMEM` when that is too much, `EOPNOTSUPP` after a crash.
    fn call(
        &self,
        service: Service,
        arguments: [EfiArgument; 5],
        memory: &mut [u8],
    ) -> Result<u64, Errno>;
}

/// The parts of the binary that tools reach.
#[derive(Clone, Copy)]
pub struct Services {
    /// The console.
    pub console: &'static dyn ConsoleSink,
    /// CPUID and MSRs of the machine and of kinds of guests.
    pub policies: &'static Policies,
    /// CPUs and interrupts in words.
    pub diagnostics: &'static dyn Diagnostics,
    /// The firmware, where it is EFI that can be called.
    pub efi: Option<&'static dyn EfiServices>,
}
