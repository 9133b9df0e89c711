//! Emulation against a made-up vCPU.

mod decode;
mod instructions;
mod strings;
pub(crate) mod world;
