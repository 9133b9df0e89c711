//! The hypervisor's console: what is printed, what is kept for `xl dmesg`, and who gets the keys.
//!
//! Everything here decides on bytes; the serial port itself is driven by the binary. A printed line
//! takes this way: [`levels::LogGates`] admit it, [`levels::write_host`] puts the prefix on each
//! line, and the text goes to the port and into the [`ring::LogRing`]. Text that an unprivileged
//! domain prints comes through [`guestline::GuestConsole`]; dom0's own text is passed unchanged.
//! Received bytes go through [`input::SerialInput`], whose effects the caller enacts.

pub mod guestline;
pub mod input;
pub mod levels;
pub mod limit;
pub mod ring;
pub mod screen;
pub mod sink;

pub use guestline::GuestConsole;
pub use input::{Focus, InputEffect, SerialInput, SwitchKey};
pub use levels::{LogGates, Severity, Thresholds};
pub use limit::TokenBucket;
pub use ring::{AfterRead, LogRing, ReadRequest, ReadResult};
pub use sink::ConsoleSink;
