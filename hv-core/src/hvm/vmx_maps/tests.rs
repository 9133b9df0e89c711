use proptest::prelude::*;

use super::*;

/// Whether an access is an exit, as the manual reads the map by bytes.
fn is_exit(msr: u32, write: bool) -> bool {
    let map: Vec<u8> = (0..MSR_MAP_WORDS)
        .flat_map(|word| msr_map(word).to_le_bytes())
        .collect();
    let part = match msr {
        0..=0x1fff => 0,
        0xc000_0000..=0xc000_1fff => 1024,
        _ => return true,
    };
    let index = (msr & 0x1fff) as usize;
    let byte = map[part + if write { 2048 } else { 0 } + index / 8];
    byte >> (index % 8) & 1 != 0
}

/// Those of SYSENTER, then the bases, then those of SYSCALL, by number.
const OPEN: [u32; 6] = [0x174, 0x175, 0x176, 0xc000_0100, 0xc000_0101, 0xc000_0102];
const READABLE: [u32; 4] = [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084];

fn near() -> impl Strategy<Value = u32> {
    prop_oneof![
        proptest::sample::select(&OPEN[..]),
        proptest::sample::select(&READABLE[..]),
        0..0x2000u32,
        0xc000_0000..0xc000_2000u32,
        any::<u32>(),
    ]
}

proptest! {
    #[test]
    fn what_is_not_the_guests_own_is_an_exit(msr in near()) {
        prop_assert_eq!(is_exit(msr, true), !OPEN.contains(&msr));
        let readable = OPEN.contains(&msr) || READABLE.contains(&msr);
        prop_assert_eq!(is_exit(msr, false), !readable);
    }
}

#[test]
fn nothing_else_is_open() {
    assert_eq!(MSR_MAP_WORDS * 8, 4096);
    let open: u32 = (0..MSR_MAP_WORDS)
        .map(|word| msr_map(word).count_zeros())
        .sum();
    assert_eq!(open, 2 * 6 + 4);
}
