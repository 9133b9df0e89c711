//! The hypervisor's own memcpy, memmove and memset, run on the host.

#![cfg(target_arch = "x86_64")]

use proptest::prelude::*;

core::arch::global_asm!(include_str!("../src/hw/mem.S"));

// SAFETY: the assembly above defines them, with the arguments of the C functions.
unsafe extern "C" {
    fn fast_memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn fast_memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn fast_memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8;
}

/// Room on both sides of every area, in which nothing may change.
const MARGIN: usize = 64;
const MOST: usize = 200;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 256 + 1) as u8).collect()
}

#[test]
fn every_short_length_is_copied_and_nothing_else() {
    for bytes in 0..MOST {
        for shift in 0..9 {
            let from = pattern(MARGIN + MOST);
            let mut to = vec![0xee; 2 * MARGIN + MOST];
            let at = MARGIN + shift;
            let mut expected = to.clone();
            expected[at..at + bytes].copy_from_slice(&from[shift..shift + bytes]);
            // SAFETY: both areas lie inside their vectors.
            let back =
                unsafe { fast_memcpy(to.as_mut_ptr().add(at), from.as_ptr().add(shift), bytes) };
            assert_eq!(back, to[at..].as_mut_ptr());
            assert_eq!(to, expected, "{bytes} bytes");
        }
    }
}

#[test]
fn every_short_length_is_filled_and_nothing_else() {
    for bytes in 0..MOST {
        let mut to = vec![0xee; 2 * MARGIN + MOST];
        let mut expected = to.clone();
        expected[MARGIN..MARGIN + bytes].fill(0x5a);
        // SAFETY: the area lies inside the vector.
        let back = unsafe { fast_memset(to.as_mut_ptr().add(MARGIN), 0x15a, bytes) };
        assert_eq!(back, to[MARGIN..].as_mut_ptr());
        assert_eq!(to, expected, "{bytes} bytes");
    }
}

proptest! {
    /// Areas that overlap in every way.
    #[test]
    fn overlapping_areas_are_moved(
        bytes in 0_usize..MOST,
        from in 0_usize..2 * MOST,
        to in 0_usize..2 * MOST,
    ) {
        let mut memory = pattern(3 * MOST);
        let mut expected = memory.clone();
        expected.copy_within(from..from + bytes, to);
        let base = memory.as_mut_ptr();
        // SAFETY: both areas lie inside the vector.
        unsafe { fast_memmove(base.add(to), base.add(from), bytes) };
        prop_assert_eq!(memory, expected);
    }
}
