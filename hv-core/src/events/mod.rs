//! Event channels: the interrupts of a guest, in the 2-level and the FIFO form
//! (public headers `event_channel.h` and `xen.h`).
//!
//! Every domain object owns one [`Events`] and implements [`EventHost`], through which this module
//! reaches the memory shared with the guest, the scheduler and the interrupt layer. The operations
//! are functions over a domain, one for each sub-operation of the hypercall, plus those by which
//! the hypervisor itself raises events. Arguments were copied and domain ids resolved by the
//! caller, who also decided whether the calling domain may act on the named one.
//!
//! # Locks
//!
//! Taken in this order, never the other way:
//!
//! 1. the *ledger* of a domain (allocation, binding, closing); of two domains the lower id first;
//! 2. the *binding* of one port. A sender holds its own port's binding while it delivers, so an
//!    end that becomes unbound receives nothing more. No second binding is taken under a first;
//! 3. the *queues* of a vCPU; of two vCPUs the lower number first. Whoever holds any vCPU's queues
//!    may use the event array: a change of ABI passes through every vCPU's lock before it lets go
//!    of pages.
//!
//! [`EventHost::kick`], [`EventHost::wake_poller`] and [`EventHost::consume`] are called with a
//! binding held: they must not call back into this module. The methods about physical interrupts
//! are called with only a ledger held, so an interrupt layer may hold its own lock when it calls
//! [`raise_pirq`].
//!
//! # The guest
//!
//! Shared words are the guest's to scribble on. They are only accessed atomically, no value read
//! from them is used as an index, and every retry is bounded: a guest can lose its own events and
//! nothing else.

mod bind;
mod close;
mod dump;
mod fifo;
mod fifo_setup;
mod host;
mod poll;
mod port;
mod raise;
mod registry;
mod status;
mod table;
mod two_level;
mod virq;

#[cfg(test)]
mod tests;

pub use bind::{
    alloc_unbound, alloc_unbound_internal, bind_interdomain, bind_ipi, bind_pirq, bind_vcpu,
    bind_virq, vcpu_moved,
};
pub use close::{Progress, close, free_internal, reset, teardown};
pub use dump::dump;
pub use fifo_setup::{expand_array, init_control, set_priority};
pub use host::{Consumer, EventHost, Layout, PirqSharing};
pub use poll::{PollStart, end_poll, start_poll};
pub use raise::{
    is_due, is_pending, notify_internal, pirq_port, raise_global_virq, raise_pirq, raise_virq,
    reraise, send, unmask, upcall_due, upcall_pending,
};
pub use registry::{Events, Limits};
pub use status::{PortStatus, Status, status};
pub use virq::VirqClass;
pub use xen_abi::event_channel::EvtchnPort as PortNumber;
