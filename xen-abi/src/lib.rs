//! The public Xen ABI as Rust types and constants; no behaviour.
#![no_std]
#![forbid(unsafe_code)]
