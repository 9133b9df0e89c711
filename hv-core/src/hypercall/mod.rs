//! The front: from a guest's registers to a handler and back.
//!
//! `front` holds the one table of calls and the one place where results are written. A handler
//! takes the context and its arguments and returns what should happen ([`Outcome`]) or an error of
//! the ABI. Handlers copy guest memory through the context only, each value once.

pub mod arguments;
mod bitmap;
pub mod callback;
pub mod console;
mod contained;
pub mod context;
pub mod control;
pub mod debugkeys;
pub mod descriptors;
mod destroy;
mod domain_info;
pub mod domctl;
pub mod event;
pub mod exchange;
pub mod front;
pub mod grant;
mod grant_host;
mod hotplug;
pub mod hvm;
pub mod hypfs;
mod interface;
pub mod mca;
pub mod memory;
pub mod misc;
pub mod mmu;
pub mod multicall;
pub mod narrow;
pub mod physdev;
mod physdev_pci;
mod physmap;
pub mod platform;
mod pools;
pub mod sched;
pub mod sysctl;
mod sysctl_cpu;
mod sysctl_power;
mod translated;
pub mod vcpu;
pub mod version;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use context::{
    AnyCtx, AnyState, Args, Ctx, DONE, Flush, Host, Outcome, Reply, SegmentBase, TaskSwitched,
};
