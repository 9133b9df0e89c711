//! The page of stubs through which a guest in a container makes hypercalls (xen/arch-x86/xen.h: each entry has 32 bytes and is
//! called with the arguments in registers; xen/arch-x86/cpuid.h tells the MSR that asks for it).

use xen_abi::hypercall::__HYPERVISOR_iret;

use crate::base::PAGE_SIZE;
use crate::cpuid::Vendor;

/// Bytes of an entry.
const ENTRY: usize = 32;
/// MOV to EAX of the number that follows.
const MOV_EAX: u8 = 0xb8;
/// VMMCALL (AMD APM vol. 3) and VMCALL (Intel SDM vol. 3, 30.3).
const VMMCALL: [u8; 3] = [0x0f, 0x01, 0xd9];
const VMCALL: [u8; 3] = [0x0f, 0x01, 0xc1];
/// RET.
const RETURN: u8 = 0xc3;
/// UD2: IRET is no hypercall in containers.
const INVALID: [u8; 2] = [0x0f, 0x0b];
/// INT3, behind each entry.
const PADDING: u8 = 0xcc;

/// The contents of the page, the same for code of 64 and 32 bits.
#[must_use]
pub fn contents(vendor: Vendor) -> [u8; PAGE_SIZE] {
    let leave = if vendor.is_amd_like() {
        VMMCALL
    } else {
        VMCALL
    };
    let mut page = [PADDING; PAGE_SIZE];
    let (entries, _) = page.as_chunks_mut::<ENTRY>();
    for (entry, number) in entries.iter_mut().zip(0_u8..) {
        if u32::from(number) == __HYPERVISOR_iret {
            entry[..2].copy_from_slice(&INVALID);
        } else {
            entry[..5].copy_from_slice(&[MOV_EAX, number, 0, 0, 0]);
            entry[5..8].copy_from_slice(&leave);
            entry[8] = RETURN;
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_entry_makes_its_call() {
        for (vendor, leave) in [
            (Vendor::Amd, VMMCALL),
            (Vendor::Hygon, VMMCALL),
            (Vendor::Intel, VMCALL),
        ] {
            let page = contents(vendor);
            for number in (0..128).filter(|n| *n != 23) {
                let entry = &page[number * 32..][..32];
                let mut wanted = vec![0xb8, number as u8, 0, 0, 0];
                wanted.extend(leave);
                wanted.push(0xc3);
                assert_eq!(entry[..9], wanted, "{number}");
            }
            assert_eq!(page[23 * 32..][..2], [0x0f, 0x0b], "iret");
        }
    }
}
