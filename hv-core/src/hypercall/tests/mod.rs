//! Tests of handlers, through the table of calls.

mod assists;
mod callback;
mod console;
mod control;
mod debugkeys;
mod domains;
mod domains_seen;
mod domctl;
mod domctl_policy;
mod domctl_state;
mod entry;
mod event;
mod exhaustion;
mod foreign;
pub(super) mod fuzz;
mod grant;
mod hostile;
mod hypfs;
pub(super) mod machine;
mod memory;
pub(super) mod platform;
mod save;
mod sched;
pub(super) mod sysctl;
mod sysctl_cpu;
mod sysctl_power;
mod version;
