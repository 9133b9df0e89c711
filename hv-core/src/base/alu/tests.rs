//! Flags by their definitions, in numbers wide enough for every result.

use proptest::prelude::*;

use super::*;

/// The value as a signed number.
fn signed(value: u64, width: Width) -> i128 {
    i128::from(width.extend(value) as i64)
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::Byte, Width::Word, Width::Dword, Width::Qword])
}

/// Numbers among which carries and overflows are common.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<i8>().prop_map(|n| n as u64),
        (0..64_u32, any::<i8>()).prop_map(|(bit, n)| (1_u64 << bit).wrapping_add(n as u64)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn sums_and_differences_have_the_flags_of_their_definition(
        left in number(), right in number(), carry in any::<bool>(), number in 0..8_u8, width in width(),
    ) {
        let (left, right) = (left & width.mask(), right & width.mask());
        let op = Arith::of(number);
        let (result, flags) = combine(op, left, right, carry, width);
        let c = i128::from(carry && matches!(op, Arith::Adc | Arith::Sbb));
        let sign = match op {
            Arith::Add | Arith::Adc => 1,
            Arith::Sub | Arith::Sbb | Arith::Cmp => -1,
            _ => 0,
        };
        let plain = i128::from(left) + sign * (i128::from(right) + c);
        let with_sign = signed(left, width) + sign * (signed(right, width) + c);
        let nibbles = i128::from(left & 15) + sign * (i128::from(right & 15) + c);
        let expected = match op {
            Arith::And => left & right,
            Arith::Or => left | right,
            Arith::Xor => left ^ right,
            _ => plain as u64 & width.mask(),
        };
        prop_assert_eq!(result, expected);
        let is = |bit: u64| flags & bit != 0;
        prop_assert_eq!(is(flag::CF), sign != 0 && !(0..=i128::from(width.mask())).contains(&plain));
        prop_assert_eq!(is(flag::OF), sign != 0 && signed(result, width) != with_sign);
        prop_assert_eq!(is(flag::AF), sign != 0 && !(0..16).contains(&nibbles));
        prop_assert_eq!(is(flag::ZF), result == 0);
        prop_assert_eq!(is(flag::SF), signed(result, width) < 0);
        let ones = (0..8).filter(|bit| result >> bit & 1 == 1).count();
        prop_assert_eq!(is(flag::PF), ones % 2 == 0);
        prop_assert_eq!(flags & !flag::ARITHMETIC, 0);
    }

    #[test]
    fn bits_are_changed_alone(value in any::<u64>(), bit in 0..64_u32) {
        for (number, wanted) in [None, Some(true), Some(false), Some(value >> bit & 1 == 0)].into_iter().enumerate() {
            let (result, carry) = BitOp::of(number as u8).apply(value, bit);
            prop_assert_eq!(carry, value >> bit & 1);
            let wanted = wanted.unwrap_or(value >> bit & 1 == 1);
            prop_assert_eq!(result >> bit & 1 == 1, wanted);
            prop_assert_eq!((result ^ value) & !(1 << bit), 0);
        }
    }
}
