//! Hypercalls.
//!
//! They are safe functions by this kernel's convention. A hypercall can change any memory named by
//! its arguments; every check passes either pages of the pool (`memory::Page`), which Rust never
//! borrows, values copied to such a page, or addresses that the hypervisor must refuse. That it
//! does refuse them is what this program is for.

use core::arch::asm;

use xen_abi::hypercall::__HYPERVISOR_memory_op;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::memory::Page;

/// Calls the hypervisor with the number in `rax`, all 64 bits of it.
pub fn raw(number: u64, args: [u64; 5]) -> i64 {
    let result: i64;
    // SAFETY: the hypervisor preserves all registers but these, and the memory it writes is not
    // borrowed by Rust code (see above). The syscall instruction uses no stack of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            inlateout("rdi") args[0] => _,
            inlateout("rsi") args[1] => _,
            inlateout("rdx") args[2] => _,
            inlateout("r10") args[3] => _,
            inlateout("r8") args[4] => _,
            // Must be kept as well, which `checks::registers` checks; the others do not rely on it.
            out("r9") _,
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

/// A hypercall with up to five arguments.
pub fn hypercall<const N: usize>(number: u32, args: [u64; N]) -> i64 {
    let mut all = [0; 5];
    all[..N].copy_from_slice(&args);
    raw(number.into(), all)
}

/// A structure given to a hypercall: it lies at the start of its own page.
pub struct Argument<T> {
    page: &'static Page,
    value: core::marker::PhantomData<T>,
}

impl<T: FromBytes + IntoBytes + Immutable> Argument<T> {
    /// Copies the value to a page of the pool.
    pub fn new(value: &T) -> Self {
        let page = Page::take();
        page.put_bytes(0, value.as_bytes());
        Self {
            page,
            value: core::marker::PhantomData,
        }
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.page.address()
    }

    /// The value as the hypervisor left it.
    pub fn get(&self) -> T {
        self.page.get(0)
    }
}

impl<T> Drop for Argument<T> {
    fn drop(&mut self) {
        self.page.give_back();
    }
}

/// A hypercall of the form (command, pointer to a structure); returns the result and the
/// structure as it was left.
pub fn with<T: FromBytes + IntoBytes + Immutable>(
    number: u32,
    command: u32,
    value: &T,
) -> (i64, T) {
    let argument = Argument::new(value);
    let result = hypercall(number, [command.into(), argument.address()]);
    (result, argument.get())
}

/// As [`with`], without the structure.
pub fn send<T: FromBytes + IntoBytes + Immutable>(number: u32, command: u32, value: &T) -> i64 {
    with(number, command, value).0
}

/// `memory_op` with all 64 bits of the command, as a restarted call has them.
pub fn memory<T: FromBytes + IntoBytes + Immutable>(command: u64, value: &T) -> (i64, T) {
    let argument = Argument::new(value);
    let result = hypercall(__HYPERVISOR_memory_op, [command, argument.address()]);
    (result, argument.get())
}
