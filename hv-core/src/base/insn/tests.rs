//! Addresses of operands against iced-x86, in all three kinds of code.

use iced_x86::{Decoder, DecoderOptions, Instruction, OpKind, Register};
use proptest::prelude::*;

use super::*;

const IP: u64 = 0x1234_5678;

pub fn bits(code: CodeSize) -> u32 {
    match code {
        CodeSize::Bits16 => 16,
        CodeSize::Bits32 => 32,
        CodeSize::Bits64 => 64,
    }
}

pub fn iced(bytes: &[u8], code: CodeSize) -> Instruction {
    Decoder::with_ip(bits(code), bytes, IP, DecoderOptions::NONE).decode()
}

pub fn code_size() -> impl Strategy<Value = CodeSize> {
    prop::sample::select(vec![CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64])
}

/// What iced makes of the memory operand: its offset in the segment.
pub fn offset(i: &Instruction, operand: u32, gpr: &[u64; 16]) -> u64 {
    i.virtual_address(operand, 0, |register, _, _| {
        if register.is_segment_register() {
            return Some(0);
        }
        let whole = gpr[register.full_register().number()];
        Some(whole & (!0 >> (64 - 8 * register.size())))
    })
    .unwrap()
}

/// The segment of the memory operand. In 64-bit code, iced shows prefixes that have no meaning there.
pub fn segment(i: &Instruction, code: CodeSize) -> Segment {
    let stack = matches!(
        i.memory_base(),
        Register::BP | Register::EBP | Register::ESP | Register::RBP | Register::RSP
    );
    match i.memory_segment() {
        Register::FS => Segment::Fs,
        Register::GS => Segment::Gs,
        _ if code == CodeSize::Bits64 && stack => Segment::Ss,
        _ if code == CodeSize::Bits64 => Segment::Ds,
        Register::ES => Segment::Es,
        Register::CS => Segment::Cs,
        Register::SS => Segment::Ss,
        _ => Segment::Ds,
    }
}

/// Prefixes as they come, REX among them.
pub fn prefixes() -> impl Strategy<Value = Vec<u8>> {
    let plain = prop::sample::select(vec![
        0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3,
    ]);
    let any = prop_oneof![3 => plain, 1 => 0x40..0x50_u8];
    let rex = prop_oneof![1 => Just(vec![]), 1 => (0x40..0x50_u8).prop_map(|b| vec![b])];
    (prop::collection::vec(any, 0..3), rex).prop_map(|(p, r)| [p, r].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    /// MOV r32, r/m32 is there in all modes, and its ModRM is like any other.
    #[test]
    fn operands_are_where_iced_finds_them(
        code in code_size(), before in prefixes(), after in any::<[u8; 8]>(), gpr in any::<[u64; 16]>(),
    ) {
        let before: Vec<u8> = before.into_iter().filter(|b| *b != 0xf0).collect();
        let bytes = [&before[..], &[0x8b], &after[..]].concat();
        let i = iced(&bytes, code);
        let mut reader = Reader::new(&bytes);
        let (prefixes, opcode) = Prefixes::read(&mut reader, code).unwrap();
        if opcode != 0x8b {
            // REX bytes are instructions elsewhere.
            return Ok(());
        }
        let modrm = ModRm::read(&mut reader, &prefixes).unwrap();
        prop_assert_eq!(usize::from(reader.length()), i.len(), "{:02x?} `{}`", bytes, i);
        prop_assert_eq!(prefixes.width().bytes() as usize, i.op0_register().size());
        prop_assert_eq!(usize::from(prefixes.extend_reg(modrm.field)), i.op0_register().number());
        match modrm.operand {
            Operand::Register(number) => {
                prop_assert_eq!(usize::from(number), i.op1_register().number());
            }
            Operand::Memory(address) => {
                prop_assert_eq!(i.op1_kind(), OpKind::Memory);
                let ours = address.offset(|n| gpr[usize::from(n)], IP + u64::from(reader.length()));
                prop_assert_eq!(ours, offset(&i, 1, &gpr), "{:02x?} `{}`", bytes, i);
                prop_assert_eq!(address.segment, segment(&i, code), "{:02x?} `{}`", bytes, i);
            }
        }
    }
}

#[test]
fn short_and_overlong_bytes_are_told_apart() {
    let prefixes = |bytes: &[u8]| Prefixes::read(&mut Reader::new(bytes), CodeSize::Bits32).err();
    assert_eq!(prefixes(&[0x66; 14]), Some(Failure::TooShort));
    assert_eq!(prefixes(&[0x66; 15]), Some(Failure::NotOurs));
    assert_eq!(prefixes(&[]), Some(Failure::TooShort));
}

#[test]
fn writes_of_32_bits_clear_the_rest_and_narrower_ones_keep_it() {
    let old = 0x1122_3344_5566_7788;
    let whole = Reg::whole(0);
    let high = Reg {
        index: 0,
        high: true,
    };
    assert_eq!(whole.merge(old, Width::Dword, !0), 0xffff_ffff);
    assert_eq!(whole.merge(old, Width::Word, 0), 0x1122_3344_5566_0000);
    assert_eq!(high.merge(old, Width::Byte, 0xfab), 0x1122_3344_5566_ab88);
    assert_eq!(high.cut(old, Width::Byte), 0x77);
}
