//! The map that all guests of VT-x share: which MSRs a guest reaches without leaving (Intel SDM vol. 3, 25.6.9). Ports
//! need none: all accesses are exits.

use crate::cpuid::msr::index::{
    CSTAR, FS_BASE, GS_BASE, KERNEL_GS_BASE, LSTAR, SFMASK, STAR, SYSENTER_CS, SYSENTER_EIP,
    SYSENTER_ESP,
};

#[cfg(test)]
mod tests;

/// 64-bit words of the map: 4 KiB, in four parts: reads of low and of high MSRs, then writes.
pub const MSR_MAP_WORDS: usize = 512;

/// MSRs of which the guest has its own in the CPU while it runs, and that take any value from it that they take from us.
pub const OWN_MSRS: [u32; 6] = [
    SYSENTER_CS,
    SYSENTER_ESP,
    SYSENTER_EIP,
    FS_BASE,
    GS_BASE,
    KERNEL_GS_BASE,
];

/// MSRs that are the guest's own as well, but have no place in a VMCS: writes are exits, so that what it has is always
/// known, and switched only where it differs.
pub const KNOWN_MSRS: [u32; 4] = [STAR, LSTAR, CSTAR, SFMASK];

/// First MSR of the low and of the high part, of 8192 each. Others have no bit and are always exits.
const PARTS: [u32; 2] = [0, 0xc000_0000];
const MSRS_PER_PART: u32 = 8192;
const PART_WORDS: usize = 128;
/// Where the bits for writes begin.
const WRITES: usize = 2 * PART_WORDS;

/// Where an MSR's bit for reads is: word and shift. `None`: it has none.
fn place(msr: u32) -> Option<(usize, u32)> {
    let part = PARTS
        .iter()
        .position(|first| msr.wrapping_sub(*first) < MSRS_PER_PART)?;
    let index = msr - PARTS[part];
    Some((part * PART_WORDS + (index / 64) as usize, index % 64))
}

/// A word of the map. All accesses are exits but those to [`OWN_MSRS`], and reads of [`KNOWN_MSRS`].
#[must_use]
pub fn msr_map(word: usize) -> u64 {
    let reads = OWN_MSRS.iter().chain(&KNOWN_MSRS).map(|msr| (msr, 0));
    let writes = OWN_MSRS.iter().map(|msr| (msr, WRITES));
    reads
        .chain(writes)
        .filter_map(|(msr, base)| place(*msr).map(|(at, shift)| (base + at, shift)))
        .filter(|(at, _)| *at == word)
        .fold(!0, |bits, (_, shift)| bits & !(1 << shift))
}
