//! Copies between the hypervisor and the address space of the guest that is loaded on this CPU.
//!
//! A fault in the guest's part goes on behind the copy through the fix-up table; the number of bytes
//! not copied comes back. Addresses in the hypervisor's range are refused before the copy.
//!
//! The frames of a guest's entries and exits are copied by code of their own, a word at a time without a loop.

use core::arch::asm;
use core::sync::atomic::AtomicBool;

use xen_abi::arch_x86::IretContext;
use zerocopy::IntoBytes;

use hv_core::base::lock;

use super::layout::{HYPERVISOR_END, M2P_GUEST};

/// Set at boot where the CPU has SMAP: the copies' STAC and CLAC are then patched in.
pub static SMAP: AtomicBool = AtomicBool::new(false);

/// A place for STAC, which opens user pages to the copy that follows; a fault clears AC at its entry.
macro_rules! stac {
    () => {
        concat!(
            "8: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection .smap_sites, \"a\"\n.quad 8b, 0xcb010f\n.popsection"
        )
    };
}

/// A place for CLAC, which closes what STAC has opened.
macro_rules! clac {
    () => {
        concat!(
            "9: .byte 0x0f, 0x1f, 0x00\n",
            ".pushsection .smap_sites, \"a\"\n.quad 9b, 0xca010f\n.popsection"
        )
    };
}

/// Whether `len` bytes at `va` are wholly outside the hypervisor's range and the canonical hole.
#[inline(always)]
fn permitted(va: u64, len: usize) -> bool {
    let Some(end) = va.checked_add(len as u64) else {
        return false;
    };
    end <= 0x8000_0000_0000 || va >= HYPERVISOR_END || (len == 0 && end < M2P_GUEST)
}

/// Copies from the guest; returns the bytes not copied (from the end).
#[inline(always)]
pub fn copy_in(to: &mut [u8], from: u64) -> usize {
    lock::expect_none("a copy from a guest");
    if !permitted(from, to.len()) {
        return to.len();
    }
    // SAFETY: `to` is ours and large enough; `from` is in the guest's range.
    unsafe { copy(to.as_mut_ptr() as u64, from, to.len()) }
}

/// Copies to the guest; returns the bytes not copied (from the end).
#[inline(always)]
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
#[inline(always)]
unsafe fn copy(to: u64, from: u64, len: usize) -> usize {
    let mut left = len as u64;
    // SAFETY: faults in the guest's part go on at 4 or 5 with rcx = what is left; the caller vouches
    // for our part. Small copies take 8 bytes at a time.
    unsafe {
        asm!(
            stac!(),
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
            clac!(),
            ".pushsection .fixup, \"a\"", ".quad 2b, 4b", ".quad 3b, 5b", ".popsection",
            t = out(reg) _, inout("rcx") left, inout("rsi") from => _, inout("rdi") to => _,
            options(nostack)
        )
    };
    left as usize
}

/// A store of words, each with its way out. `$word` are the operands, at the offsets given.
macro_rules! store_words {
    ($to:expr, $($offset:literal $word:expr),*) => {{
        let failed: u32;
        // SAFETY: the caller has seen that the range is the guest's; a fault goes on at 3.
        unsafe {
            asm!(
                "mov {failed:e}, 1",
                stac!(),
                $(concat!(
                    "2: mov [{to} + ", $offset, "], {}\n",
                    ".pushsection .fixup, \"a\"\n.quad 2b, 3f\n.popsection"
                ),)*
                "xor {failed:e}, {failed:e}",
                "3:",
                clac!(),
                $(in(reg) $word,)*
                to = in(reg) $to, failed = out(reg) failed,
                options(nostack)
            )
        };
        failed == 0
    }};
}

/// Copies words to the guest; `false` when not all of them could be written.
#[inline(always)]
pub fn store_words<const N: usize>(to: u64, words: &[u64; N]) -> bool {
    lock::expect_none("a copy to a guest");
    let w = words.as_slice();
    match N {
        7 if permitted(to, 56) => {
            store_words!(to, 0 w[0], 8 w[1], 16 w[2], 24 w[3], 32 w[4], 40 w[5], 48 w[6])
        }
        8 if permitted(to, 64) => {
            store_words!(to, 0 w[0], 8 w[1], 16 w[2], 24 w[3], 32 w[4], 40 w[5], 48 w[6], 56 w[7])
        }
        7 | 8 => false,
        _ => copy_out(to, words.as_bytes()) == 0,
    }
}

/// Loads of words into the places given, each with its way out.
macro_rules! load_words {
    ($from:expr, $($offset:literal $word:expr),*) => {{
        let failed: u32;
        // SAFETY: the caller has seen that the range is the guest's; a fault goes on at 3.
        unsafe {
            asm!(
                "mov {failed:e}, 1",
                stac!(),
                $(concat!(
                    "2: mov {}, [{from} + ", $offset, "]\n",
                    ".pushsection .fixup, \"a\"\n.quad 2b, 3f\n.popsection"
                ),)*
                "xor {failed:e}, {failed:e}",
                "3:",
                clac!(),
                $(out(reg) $word,)*
                from = in(reg) $from, failed = out(reg) failed,
                options(nostack, readonly)
            )
        };
        failed == 0
    }};
}

/// Copies words from the guest; `None` when not all of them could be read.
#[inline(always)]
pub fn load_words<const N: usize>(from: u64) -> Option<[u64; N]> {
    lock::expect_none("a copy from a guest");
    let mut words = [0u64; N];
    let w = words.as_mut_slice();
    let good = match N {
        1 => permitted(from, 8) && load_words!(from, 0 w[0]),
        2 => permitted(from, 16) && load_words!(from, 0 w[0], 8 w[1]),
        3 => permitted(from, 24) && load_words!(from, 0 w[0], 8 w[1], 16 w[2]),
        5 => permitted(from, 40) && load_words!(from, 0 w[0], 8 w[1], 16 w[2], 24 w[3], 32 w[4]),
        _ => copy_in(words.as_mut_bytes(), from) == 0,
    };
    good.then_some(words)
}

/// Copies the frame of an iret hypercall from the guest; `None` when not all of it could be read.
#[inline(always)]
pub fn load_iret_frame(from: u64) -> Option<IretContext> {
    lock::expect_none("a copy from a guest");
    let mut f = IretContext::default();
    let good = permitted(from, size_of::<IretContext>())
        && load_words!(from, 0 f.rax, 8 f.r11, 16 f.rcx, 24 f.flags, 32 f.rip, 40 f.cs, 48 f.rflags, 56 f.rsp, 64 f.ss);
    good.then_some(f)
}

/// Copies four bytes to the guest; `false` when they could not be written.
#[inline(always)]
pub fn store_u32(to: u64, value: u32) -> bool {
    lock::expect_none("a copy to a guest");
    let failed: u32;
    if !permitted(to, 4) {
        return false;
    }
    // SAFETY: the range is the guest's; a fault goes on at 3.
    unsafe {
        asm!(
            "mov {failed:e}, 1",
            stac!(),
            "2: mov [{to}], {value:e}",
            "xor {failed:e}, {failed:e}",
            "3:",
            clac!(),
            ".pushsection .fixup, \"a\"", ".quad 2b, 3b", ".popsection",
            to = in(reg) to, value = in(reg) value, failed = out(reg) failed,
            options(nostack)
        )
    };
    failed == 0
}
