//! The Xenolith image: the hypervisor as it runs on the machine. The logic is the library's; `hw` is
//! what touches the hardware.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod hw;

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is a hypervisor: build it with `cargo xtask build`");
}
