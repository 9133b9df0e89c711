//! A minimal PVH kernel of a few MiB that does to the hypervisor under it what only a hostile guest does.
//!
//! It boots by the PVH entry point, prints on its console's ring, and does what the word `act=` of its command line
//! names, several with commas between them. Each act ends with a line `MICRO-PVH NAME ok`, or this domain ends; what the
//! hypervisor answered on the way is printed too, so that two hypervisors can be compared. On the host there is nothing
//! to build: the program is empty there.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod acts;
#[cfg(target_os = "none")]
mod apic;
#[cfg(target_os = "none")]
mod call;
#[cfg(target_os = "none")]
mod console;
#[cfg(target_os = "none")]
mod events;
#[cfg(target_os = "none")]
mod kernel;
#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod pages;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod second;
#[cfg(target_os = "none")]
mod trap;

#[cfg(not(target_os = "none"))]
fn main() {}
