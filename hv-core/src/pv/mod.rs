//! What makes a domain a PV guest: its registers, trap tables, segments and the instructions that
//! are emulated for it.

pub mod bounce;
pub mod context;
pub mod frame;
pub mod iret;
pub mod msr;
pub mod ports;
pub mod privop;
pub mod state;
pub mod xpti;
