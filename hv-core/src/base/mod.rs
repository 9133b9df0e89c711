//! What every layer uses, with neither hardware nor state (but which locks are held, in debug builds): address types, locks,
//! and the parts of which decoders and emulators of instructions are built ([`insn`], [`alu`]).

pub mod addr;
pub mod alu;
pub mod insn;
pub mod lock;

pub use addr::{Gfn, GuestVa, Mfn, PAGE_SHIFT, PAGE_SIZE, PhysAddr};
/// Domain identifier, as in the ABI (`domid_t`).
pub type DomId = u16;
/// Index of a physical CPU, dense from 0 (0 is the boot CPU).
pub type CpuId = u32;
/// Index of a virtual CPU inside its domain.
pub type VcpuId = u32;
/// Nanoseconds since the hypervisor booted ("system time" of the ABI).
pub type Nanos = u64;
