//! The public Xen ABI for x86-64 guests as Rust types and constants; no behaviour but the arithmetic
//! of byte rings ([`ring`]) and of the messages in one of them ([`xs_message`]).
//!
//! One module per public header (`xen/*.h` of Xen 4.17). Rules that hold everywhere:
//!
//! - Constants keep the header's spelling and have the width the interface gives them.
//! - Structures are `#[repr(C)]`, named in CamelCase without `xen_` and `_t`. All padding is an
//!   explicit field, so every structure is plain bytes (`zerocopy`) and nothing uninitialised can
//!   reach a guest.
//! - A C union is an integer array of the union's size; its alternatives are structures of their
//!   own (`EvtchnStatusInterdomain`), read and written with `zerocopy`'s `read_from_prefix` and
//!   `write_to_prefix` on the array's bytes.
//! - Structures that a guest and the hypervisor share while both run (shared info, rings) are
//!   layouts; modules give offsets beside them because such memory is accessed by atomics.
//! - Structures of 32-bit callers that differ are in [`narrow`].
//! - `tests/layout` compares every structure and constant with the C headers.
//! - Words chosen by a guest are integers with named constants, never a Rust `enum`.
#![no_std]
#![forbid(unsafe_code)]

mod handle;

pub mod arch_x86;
pub mod callback;
pub mod cpuid;
pub mod domctl;
pub mod e820;
pub mod elfnote;
pub mod errno;
pub mod event_channel;
pub mod features;
pub mod grant_table;
pub mod hvm_op;
pub mod hvm_save;
pub mod hvm_start_info;
pub mod hvm_vcpu;
pub mod hypercall;
pub mod hypfs;
pub mod io_console;
pub mod io_xs_wire;
pub mod kexec;
pub mod mca;
pub mod memory;
pub mod narrow;
pub mod nmi;
pub mod physdev;
pub mod platform;
pub mod ring;
pub mod sched;
pub mod start_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod xen;
pub mod xenpmu;
pub mod xs_message;
pub mod xsm;

pub use handle::GuestHandle;
