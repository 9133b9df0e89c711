//! Interrupts on a fake machine: an I/O APIC and local APICs that behave as the manuals say.

mod lines;
pub(crate) mod machine;
mod messages;
mod model;
mod numbers;
mod registers;
mod service;

use std::collections::BTreeSet;

use xen_abi::errno::Errno;

use super::*;
use crate::base::{CpuId, DomId, PhysAddr};
use crate::events::PirqSharing;
use machine::{Machine, Setup};

/// dom0's bind of a GSI to its own number, on CPU 0.
fn bind(irqs: &Irqs, gsi: u32) {
    irqs.map(0, Numbering::Identity, gsi, Some(gsi)).unwrap();
    irqs.bind_line((0, gsi), PirqSharing::Shared, 0).unwrap();
}
