//! The front: from a guest's registers to a handler and back.
//!
//! `front` holds the one table of calls and the one place where results are written. A handler
//! takes the context and its arguments and returns what should happen ([`Outcome`]) or an error of
//! the ABI. Handlers copy guest memory through the context only, each value once.

pub mod callback;
pub mod context;
pub mod descriptors;
pub mod exchange;
pub mod front;
pub mod memory;
pub mod misc;
pub mod mmu;
pub mod multicall;
pub mod physdev;
pub mod sched;
pub mod vcpu;

pub use context::{Args, Ctx, DONE, Flush, Host, Outcome, Reply, SegmentBase, TaskSwitched};
