//! What a guest is: domains, their vCPUs and the registry that finds them.

mod delivery;
#[allow(
    clippy::module_inception,
    reason = "the layer is named after its central type"
)]
mod domain;
mod hotplug;
mod hvm;
mod life;
mod machine;
pub mod machine_check;
mod notes;
mod pagecopy;
mod pools;
mod processor;
mod registry;
mod services;
pub mod translated;
mod vcpu;

pub use domain::{Backing, Domain, DomainKind, Limits, Rights, ShutdownReason};
pub use hotplug::{CpuChange, CpuWay, Hotplug, Progress};
pub use hvm::{BlockShape, Containers, HvmDomain, Setter, Vendor};
pub use life::{AtRest, Claim, TableWork, Turn};
pub use machine::{IdleTimes, Machine, PirqLayer, SleepRequest};
pub use notes::{Family, Notes};
pub use processor::{CpuPlace, Processor};
pub use registry::{Facts, Hypervisor, Identity};
pub use services::{Diagnostics, EfiArgument, EfiServices, Services};
pub use translated::{HeldPage, Removed, Step, Translated};
pub use vcpu::{Owed, RunFlags, UnitSlot, Vcpu, VcpuState};
