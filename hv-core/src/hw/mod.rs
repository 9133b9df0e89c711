//! What touches the CPU and the devices. All `unsafe` of the hypervisor is here.

pub mod apic;
pub mod bringup;
mod caller;
pub mod clock;
pub mod console;
mod container;
pub mod context;
pub mod cpu;
mod cpuid_fault;
pub mod cpuinfo;
pub mod devices;
pub mod dom0;
pub mod efi;
pub mod exits;
pub mod fpu;
pub mod guestmem;
pub mod heap;
pub mod high;
pub mod host;
pub mod hvm;
mod idle;
pub mod irq;
pub mod layout;
pub mod mce;
mod memory;
pub mod microcode;
mod mmio;
pub mod nmi;
pub mod pages;
pub mod paging;
mod pci;
pub mod percpu;
pub mod power;
pub mod privileged;
pub mod publish;
pub mod run;
pub mod serial;
pub mod serial_line;
pub mod setup;
pub mod setup_hv;
pub mod smp;
pub mod start;
pub mod svm;
pub mod tables;
pub mod tlb;
pub mod traps;
mod vcpu_timers;
pub mod vga;
pub mod view;
pub mod vmx;
mod watchdog;

core::arch::global_asm!(include_str!("boot.S"));
core::arch::global_asm!(include_str!("ap.S"), options(att_syntax));
core::arch::global_asm!(
    include_str!("mem.S"),
    // In the place of the compiler's own.
    ".global memcpy, memmove, memset",
    ".set memcpy, fast_memcpy",
    ".set memmove, fast_memmove",
    ".set memset, fast_memset",
);
