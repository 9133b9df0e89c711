//! A vCPU in a container over a small hypervisor: what it gets before it enters, and what becomes of each exit.

mod devices;
mod instructions;
mod interrupts;
mod random;
mod starts;
mod world;

use super::*;
