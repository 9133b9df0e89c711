//! The permission maps that all guests share: which ports and which MSRs a guest reaches without leaving
//! (AMD APM vol. 2, 15.10.1 and 15.11).

/// 64-bit words of the map of ports: 12 KiB, one bit for each port and a few beyond.
pub const PORT_MAP_WORDS: usize = 3 * 512;
/// 64-bit words of the map of MSRs: 8 KiB, two bits for each, the lower for reads.
pub const MSR_MAP_WORDS: usize = 2 * 512;

/// A word of the map of ports: every port is intercepted.
#[must_use]
pub const fn port_map(_word: usize) -> u64 {
    !0
}

/// MSRs that VMLOAD and VMSAVE, or the entry itself, switch with the guest: it reads and writes its own.
pub const OWN_MSRS: [u32; 10] = [
    SYSENTER_CS,
    SYSENTER_ESP,
    SYSENTER_EIP,
    STAR,
    LSTAR,
    CSTAR,
    SFMASK,
    FS_BASE,
    GS_BASE,
    KERNEL_GS_BASE,
];

// AMD APM vol. 2, appendix A.
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;

/// First MSR of each part of the map; a part has 2 KiB, for 8192 MSRs. The last one of four is reserved.
const PARTS: [u32; 3] = [0, 0xc000_0000, 0xc001_0000];
const MSRS_PER_PART: u32 = 8192;
const PART_WORDS: usize = 256;
const MSRS_PER_WORD: u32 = 32;
/// A read and a write.
const BOTH: u64 = 0b11;

/// Where an MSR's two bits are: word and shift. `None`: it has none, and is always intercepted.
#[must_use]
pub fn msr_place(msr: u32) -> Option<(usize, u32)> {
    let part = PARTS
        .iter()
        .position(|first| msr.wrapping_sub(*first) < MSRS_PER_PART)?;
    let index = msr - PARTS[part];
    let word = part * PART_WORDS + (index / MSRS_PER_WORD) as usize;
    Some((word, index % MSRS_PER_WORD * 2))
}

/// A word of the map of MSRs: all are intercepted but [`OWN_MSRS`].
#[must_use]
pub fn msr_map(word: usize) -> u64 {
    OWN_MSRS
        .iter()
        .filter_map(|msr| msr_place(*msr))
        .filter(|(place, _)| *place == word)
        .fold(!0, |bits, (_, shift)| bits & !(BOTH << shift))
}
