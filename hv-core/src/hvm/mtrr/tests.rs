use proptest::prelude::*;

use super::*;
use crate::cpuid::tests::{ALL_ON, reference_cpu};
use crate::cpuid::{Policies, Which};

fn policy() -> Policy {
    let policies = Policies::new(&reference_cpu(), &ALL_ON);
    policies.get(Which::HvmDefault).clone()
}

#[test]
fn registers_take_what_the_manual_allows() {
    let (mut mtrrs, policy) = (Mtrrs::default(), policy());
    let mut put = |msr, value| mtrrs.write(msr, value, &policy);
    for (msr, value) in [
        (0x2ff, 0xc06),
        (0x2ff, 0),
        (0x200, 0xc000_0000),
        (0x20f, 0xff_c000_0800),
        (0x250, 0x0606_0504_0100_0606),
        (0x26f, 0x0606_0606_0606_0606),
    ] {
        assert!(put(msr, value), "{msr:#x} {value:#x}");
    }
    for (msr, value) in [
        (0xfe, 0x508),
        (0x2ff, 0x1000),
        (0x2ff, 2),
        (0x200, 3),
        (0x200, 0x106),
        (0x200, 1 << 40),
        (0x201, 0x400),
        (0x201, 1 << 40 | 0x800),
        (0x201, 1 << 63 | 0x800),
        (0x250, 0x0606_0604_0700_0606),
        (0x210, 0),
        (0x251, 0),
        (0x277, 0),
    ] {
        assert!(!put(msr, value), "{msr:#x} {value:#x}");
    }
    assert_eq!(mtrrs.read(0xfe), Some(0x508));
    assert_eq!(mtrrs.read(0x20f), Some(0xff_c000_0800));
    assert_eq!(mtrrs.read(0x210), None);
}

#[test]
fn page_attributes_are_eight_types() {
    assert!(is_valid_pat(RESET_PAT));
    assert!(is_valid_pat(0x0000_0501_0007_0406), "the ABI's");
    for bad in [2, 3, 8, 0x0200_0000_0000_0000, !0] {
        assert!(!is_valid_pat(bad), "{bad:#x}");
    }
}

#[test]
fn the_record_is_laid_out_as_the_header_says() {
    let (mut mtrrs, policy) = (Mtrrs::default(), policy());
    for (msr, value) in [
        (0x200, 0x1006),
        (0x20f, 0x2800),
        (0x250, 4),
        (0x26f, 5),
        (0x2ff, 0xc06),
    ] {
        assert!(mtrrs.write(msr, value, &policy));
    }
    let words = mtrrs.words(RESET_PAT);
    let at = |index: usize| words[index];
    assert_eq!(size_of_val(&words), 240);
    assert_eq!((at(0), at(1), at(16)), (RESET_PAT, 0x1006, 0x2800));
    assert_eq!((at(17), at(27)), (4, 5));
    assert_eq!((at(28), at(29)), (0x508, 0xc06));
    assert_eq!(Mtrrs::from_words(&words, &policy), Some((RESET_PAT, mtrrs)));
    for (index, value) in [(0, 2), (1, 3), (17, 2), (28, 0x50a), (29, 0x1000)] {
        let mut words = words;
        words[index] = value;
        assert_eq!(Mtrrs::from_words(&words, &policy), None, "{index}");
    }
}

proptest! {
    #[test]
    fn what_a_guest_could_write_comes_back(
        list in proptest::collection::vec((0x1f0..0x300u32, any::<u64>(), any::<bool>()), 0..200),
    ) {
        let (mut mtrrs, policy) = (Mtrrs::default(), policy());
        for (msr, value, tame) in list {
            let value = if tame { value & 0xff_ffff_f800 | 6 } else { value };
            let before = mtrrs.read(msr);
            let done = mtrrs.write(msr, value, &policy);
            prop_assert_eq!(mtrrs.read(msr), if done { Some(value) } else { before });
        }
        let back = Mtrrs::from_words(&mtrrs.words(RESET_PAT), &policy);
        prop_assert_eq!(back, Some((RESET_PAT, mtrrs)));
    }
}
