//! Time: reading it, telling guests, and acting on deadlines.
//!
//! One clock for all: nanoseconds since boot ("system time"), computed from the TSC by the same
//! arithmetic that guests use. [`mod@reference`] and [`mod@calibrate`] find the TSC's rate, [`scale`] turns
//! it into factors, [`pvclock`] and [`wallclock`] publish to guests, [`timers`] holds a CPU's
//! deadlines, [`vtimer`] and [`runstate`] are the parts of a vCPU that concern time, [`watchdog`] is one of a domain,
//! [`heartbeat`] that of the hypervisor.
//! [`warp`] finds CPUs whose TSC is not everybody's; [`guest_tsc`] is about domains that have one of their own.

pub mod calibrate;
pub mod guest_tsc;
pub mod heartbeat;
pub mod pvclock;
pub mod reference;
pub mod runstate;
pub mod scale;
pub mod timers;
pub mod vtimer;
pub mod wallclock;
pub mod warp;
pub mod watchdog;

pub use calibrate::{CalibrationError, calibrate, calibrate_patiently};
pub use guest_tsc::{DomainTsc, OwnTsc};
pub use reference::{Counter, Rate, Reference};
pub use runstate::{Runstate, State};
pub use scale::{Clock, TscScale};
pub use timers::{DeadlineHeap, TimerId};
pub use vtimer::VcpuTimers;
pub use warp::WarpMeter;
pub use watchdog::Watchdogs;
