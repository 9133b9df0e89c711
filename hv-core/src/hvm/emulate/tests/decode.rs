//! Lengths, operands and sizes against iced-x86.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use proptest::prelude::*;

use super::*;
use crate::base::insn::tests::{code_size, iced, offset, prefixes, segment};
use crate::hvm::emulate::decode::{Insn, Op, decode};

/// The operand that is memory.
fn memory(i: &Instruction) -> Option<u32> {
    (0..i.op_count()).find(|n| i.op_kind(*n) == OpKind::Memory)
}

fn is_string(i: &Instruction) -> bool {
    use Mnemonic as M;
    match i.mnemonic() {
        M::Movsd => i.code() == Code::Movsd_m32_m32,
        M::Movsb | M::Movsw | M::Movsq => true,
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => true,
        M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => true,
        M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => true,
        _ => false,
    }
}

fn is_ours(i: &Instruction) -> bool {
    use Mnemonic as M;
    if i.is_invalid() {
        return false;
    }
    if is_string(i) {
        return true;
    }
    if memory(i).is_none() {
        return false;
    }
    let register = |n| {
        n < i.op_count()
            && i.op_kind(n) == OpKind::Register
            && i.op_register(n).is_segment_register()
    };
    match i.mnemonic() {
        M::Mov => !register(0) && !register(1),
        M::Movzx | M::Movsx | M::Movsxd | M::Movnti | M::Xchg | M::Xadd | M::Cmpxchg => true,
        M::Add | M::Or | M::Adc | M::Sbb | M::And | M::Sub | M::Xor | M::Cmp | M::Test => true,
        M::Not | M::Neg | M::Inc | M::Dec => true,
        M::Bt | M::Bts | M::Btr | M::Btc => true,
        _ => false,
    }
}

fn mnemonic_agrees(op: &Op, i: &Instruction) -> bool {
    let name = format!("{:?}", i.mnemonic());
    let is = |what: &dyn std::fmt::Debug| name == format!("{what:?}");
    match op {
        Op::Load { signed: true, .. } => name.starts_with("Movsx"),
        Op::Load { .. } => matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movzx),
        Op::Store(_) => matches!(i.mnemonic(), Mnemonic::Mov | Mnemonic::Movnti),
        Op::Arith(op, _) | Op::ArithLoad(op, _) => is(op),
        Op::Test(_) => is(&Mnemonic::Test),
        Op::Unary(op) => is(op),
        Op::Xchg(_) => is(&Mnemonic::Xchg),
        Op::Xadd(_) => is(&Mnemonic::Xadd),
        Op::Cmpxchg(_) => is(&Mnemonic::Cmpxchg),
        Op::Bit(op, _) | Op::BitString(op, _) => name == ["Bt", "Bts", "Btr", "Btc"][*op as usize],
        Op::Strings { what, .. } => name.starts_with(&format!("{what:?}")),
    }
}

fn compare_operand(ours: &Insn, i: &Instruction, code: CodeSize, gpr: &[u64; 16]) {
    let at = ours.address.offset(|n| gpr[usize::from(n)], i.next_ip());
    assert_eq!(ours.width.bytes() as usize, i.memory_size().size(), "`{i}`");
    if let Op::Strings { repeated, .. } = ours.op {
        assert_eq!(
            repeated,
            i.has_rep_prefix() || i.has_repne_prefix(),
            "`{i}`"
        );
        // The memory operand of ours is the source where there is one.
        let name = format!("{:?}", i.mnemonic());
        let operand = u32::from(!name.starts_with("Stos") && !name.starts_with("Ins"));
        assert_eq!(at, offset(i, operand, gpr), "`{i}`");
        if operand == 1 {
            assert_eq!(ours.address.segment, segment(i, code), "`{i}`");
        }
        return;
    }
    assert_eq!(at, offset(i, memory(i).unwrap(), gpr), "`{i}`");
    assert_eq!(ours.address.segment, segment(i, code), "`{i}`");
}

fn compare(bytes: &[u8], code: CodeSize, gpr: &[u64; 16]) {
    let i = iced(bytes, code);
    match decode(bytes, code) {
        // iced calls a misplaced LOCK invalid.
        Ok(ours) if ours.bad_lock => assert!(i.is_invalid(), "{bytes:02x?} {code:?} `{i}`"),
        Ok(ours) => {
            assert_eq!(
                usize::from(ours.length),
                i.len(),
                "{bytes:02x?} {code:?} `{i}`"
            );
            assert!(
                mnemonic_agrees(&ours.op, &i),
                "{bytes:02x?} {code:?} is {ours:?} and `{i}`"
            );
            compare_operand(&ours, &i, code, gpr);
        }
        Err(Failure::NotOurs) => {
            assert!(
                !is_ours(&i),
                "{bytes:02x?} {code:?} is `{i}` and was not decoded"
            );
        }
        Err(Failure::TooShort) => {
            assert!(i.is_invalid(), "{bytes:02x?} {code:?} is `{i}` and whole");
        }
    }
}

fn code() -> impl Strategy<Value = Vec<u8>> {
    let two = vec![
        0xa3, 0xab, 0xb0, 0xb1, 0xb3, 0xb6, 0xb7, 0xba, 0xbb, 0xbe, 0xbf, 0xc0, 0xc1, 0xc3,
    ];
    let groups = vec![
        0x63, 0x6c, 0x6d, 0x6e, 0x6f, 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad, 0xc6, 0xc7, 0xf6, 0xf7,
        0xfe, 0xff,
    ];
    let opcode = prop_oneof![
        2 => (0..0x40_u8).prop_map(|b| vec![b]),
        2 => (0x80..0x90_u8).prop_map(|b| vec![b]),
        1 => (0xa0..0xa4_u8).prop_map(|b| vec![b]),
        3 => prop::sample::select(groups).prop_map(|b| vec![b]),
        4 => prop::sample::select(two).prop_map(|b| vec![0x0f, b]),
        1 => any::<u8>().prop_map(|b| vec![b]),
        1 => any::<u8>().prop_map(|b| vec![0x0f, b]),
    ];
    (
        prefixes(),
        opcode,
        prop::collection::vec(any::<u8>(), 0..10),
    )
        .prop_map(|(p, o, r)| [p, o, r].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn decodes_what_iced_decodes(bytes in code(), size in code_size(), gpr in any::<[u64; 16]>()) {
        compare(&bytes, size, &gpr);
    }

    #[test]
    fn any_bytes_are_decoded_alike_or_declined(
        bytes in prop::collection::vec(any::<u8>(), 0..17), size in code_size(), gpr in any::<[u64; 16]>(),
    ) {
        compare(&bytes, size, &gpr);
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, ..ProptestConfig::default() })]

    /// Nothing that a guest can put into registers, tables or code stops us, or makes an access over a page's end.
    #[test]
    fn any_instruction_in_any_state_has_an_outcome(
        bytes in code(), size in code_size(), gpr in any::<[u64; 16]>(), rip in any::<u64>(),
        rflags in any::<u64>(), cpl in 0..4_u8, bases in any::<[u64; 6]>(),
        (cr0, cr3, cr4, efer) in any::<(u64, u64, u64, u64)>(), words in prop::collection::vec(any::<(u64, u64)>(), 4),
        (pkru, address_bits, gigabyte_pages) in any::<(u32, u8, bool)>(),
    ) {
        let mut bus = Bytes::default();
        for (at, word) in words {
            bus.put(at, Width::Qword, word);
        }
        let paging = PagingMode { cr0, cr3, cr4, efer, rflags: 0, pkru, address_bits, gigabyte_pages };
        let mut state = State { gpr, rip, rflags, code: size, cpl, bases, paging };
        let before = state.clone();
        match run(&bytes, &mut state, &mut bus) {
            Outcome::Unsupported => prop_assert_eq!(state.rip, before.rip),
            Outcome::Done { .. } => prop_assert!(bus.log.len() <= 1024),
            Outcome::Again | Outcome::Fault(_) => prop_assert_eq!(state.rip, before.rip),
        }
    }
}
