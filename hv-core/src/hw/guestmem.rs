//! Copies between the hypervisor and the address space of the guest that is loaded on this CPU.
//!
//! A fault in the guest's part goes on behind the copy through the fix-up table; the number of bytes
//! not copied comes back. Addresses in the hypervisor's range are refused before the copy.

use core::arch::asm;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_core::base::lock;

use super::layout::{HYPERVISOR_END, M2P_GUEST};

/// Set at boot where the CPU has SMAP.
pub static SMAP: AtomicBool = AtomicBool::new(false);

/// Whether `len` bytes at `va` are wholly outside the hypervisor's range and the canonical hole.
fn permitted(va: u64, len: usize) -> bool {
    let Some(end) = va.checked_add(len as u64) else {
        return false;
    };
    end <= 0x8000_0000_0000 || va >= HYPERVISOR_END || (len == 0 && end < M2P_GUEST)
}

/// Copies from the guest; returns the bytes not copied (from the end).
pub fn copy_in(to: &mut [u8], from: u64) -> usize {
    lock::expect_none("a copy from a guest");
    if !permitted(from, to.len()) {
        return to.len();
    }
    // SAFETY: `to` is ours and large enough; `from` is in the guest's range.
    unsafe { copy(to.as_mut_ptr() as u64, from, to.len()) }
}

/// Copies to the guest; returns the bytes not copied (from the end).
pub fn copy_out(to: u64, from: &[u8]) -> usize {
    lock::expect_none("a copy to a guest");
    if !permitted(to, from.len()) {
        return from.len();
    }
    // SAFETY: `to` is in the guest's range, which holds nothing of ours; `from` is ours.
    unsafe { copy(to, from.as_ptr() as u64, from.len()) }
}

/// Copies with recovery from faults.
///
/// # Safety
/// One side must be valid memory of ours for `len` bytes, the other in the guest's range.
unsafe fn copy(to: u64, from: u64, len: usize) -> usize {
    let mut left = len as u64;
    if SMAP.load(Ordering::Relaxed) {
        // SAFETY: opens user pages to the copy below only; a fault clears AC at its entry.
        unsafe { asm!("stac", options(nostack, nomem)) };
    }
    // SAFETY: faults in the guest's part go on at 3 with rcx = what is left; the caller vouches
    // for our part. Small copies take 8 bytes at a time.
    unsafe {
        asm!(
            "mov {t}, rcx",
            "shr rcx, 3",
            "2: rep movsq",
            "mov rcx, {t}",
            "and ecx, 7",
            "3: rep movsb",
            "jmp 5f",
            "4: and {t}, 7",
            "lea rcx, [{t} + rcx*8]",
            "5:",
            ".pushsection .fixup, \"a\"", ".quad 2b, 4b", ".quad 3b, 5b", ".popsection",
            t = out(reg) _, inout("rcx") left, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack)
        )
    };
    if SMAP.load(Ordering::Relaxed) {
        // SAFETY: closes what was opened above.
        unsafe { asm!("clac", options(nostack, nomem)) };
    }
    left as usize
}
