//! Hypercalls, by the instruction of this CPU's maker.
//!
//! They are safe functions by this kernel's convention: every caller passes pages that Rust never borrows, a value of its
//! own, or addresses at which the hypervisor may do what it likes.

use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicBool, Ordering};

use xen_abi::hypercall::__HYPERVISOR_memory_op;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Whether it is AMD's instruction.
static AMD: AtomicBool = AtomicBool::new(false);

/// Finds out which instruction it is; before any call.
pub fn init() {
    // "Auth" and "Hygo".
    AMD.store(
        matches!(__cpuid(0).ebx, 0x6874_7541 | 0x6f67_7948),
        Ordering::Relaxed,
    );
}

/// Calls the hypervisor with the number in `rax`, all 64 bits of it.
pub fn raw(number: u64, args: [u64; 6]) -> i64 {
    macro_rules! call {
        ($instruction:literal) => {{
            let result: i64;
            // SAFETY: the hypervisor preserves all registers but these; see above for memory.
            unsafe {
                asm!(
                    $instruction,
                    inlateout("rax") number => result,
                    inlateout("rdi") args[0] => _,
                    inlateout("rsi") args[1] => _,
                    inlateout("rdx") args[2] => _,
                    inlateout("r10") args[3] => _,
                    inlateout("r8") args[4] => _,
                    inlateout("r9") args[5] => _,
                );
            }
            result
        }};
    }
    if AMD.load(Ordering::Relaxed) {
        call!("vmmcall")
    } else {
        call!("vmcall")
    }
}

/// A hypercall with up to six arguments.
pub fn hypercall<const N: usize>(number: u32, args: [u64; N]) -> i64 {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    raw(number.into(), all)
}

/// A hypercall of the form (command, pointer to a structure); returns the result and the structure as it was left.
pub fn with<T: FromBytes + IntoBytes + Immutable + Copy>(
    number: u32,
    command: u32,
    value: &T,
) -> (i64, T) {
    let mut copy = *value;
    let address = &raw mut copy;
    let result = hypercall(number, [command.into(), address as u64]);
    // SAFETY: it is our own, and of a type that any bytes make.
    (result, unsafe { address.read_volatile() })
}

/// As [`with`], without the structure.
pub fn send<T: FromBytes + IntoBytes + Immutable + Copy>(
    number: u32,
    command: u32,
    value: &T,
) -> i64 {
    with(number, command, value).0
}

/// A `memory_op`.
pub fn memory<T: FromBytes + IntoBytes + Immutable + Copy>(command: u32, value: &T) -> (i64, T) {
    with(__HYPERVISOR_memory_op, command, value)
}
