//! The page of hypercall stubs that a PV kernel may have filled at its HYPERCALL_PAGE note.

use xen_abi::hypercall::__HYPERVISOR_iret;

/// Bytes of one stub.
const SLOT: usize = 32;
const INT3: u8 = 0xcc;

/// push rcx; push r11; mov eax, N; syscall; pop r11; pop rcx; ret
const STUB: [u8; 15] = [
    0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3, INT3,
];
/// Where the number stands in [`STUB`].
const STUB_NUMBER: usize = 4;
/// push rcx; push r11; push rax; mov eax, N; syscall: the frame is what the iret hypercall reads.
const IRET_STUB: [u8; 11] = [0x51, 0x41, 0x53, 0x50, 0xb8, 0, 0, 0, 0, 0x0f, 0x05];
/// Where the number stands in [`IRET_STUB`].
const IRET_STUB_NUMBER: usize = 5;

/// Fills a page with the stubs of a 64-bit PV domain: stub `n` is at `32 * n` and calls hypercall
/// `n`. SYSCALL destroys rcx and r11, so the stubs save them.
pub fn hypercall_page(out: &mut [u8; 4096]) {
    out.fill(INT3);
    for (number, slot) in (0u32..).zip(out.chunks_exact_mut(SLOT)) {
        let (stub, at): (&[u8], usize) = if number == __HYPERVISOR_iret {
            (&IRET_STUB, IRET_STUB_NUMBER)
        } else {
            (&STUB, STUB_NUMBER)
        };
        slot[..stub.len()].copy_from_slice(stub);
        slot[at..at + 4].copy_from_slice(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stubs_hold_their_numbers() {
        let mut page = [0; 4096];
        hypercall_page(&mut page);
        assert_eq!(
            page[17 * 32..][..14],
            [
                0x51, 0x41, 0x53, 0xb8, 17, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3
            ]
        );
        assert_eq!(
            page[23 * 32..][..12],
            [0x51, 0x41, 0x53, 0x50, 0xb8, 23, 0, 0, 0, 0x0f, 0x05, 0xcc]
        );
        assert_eq!(page[127 * 32 + 4], 127);
    }
}
