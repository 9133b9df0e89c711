//! The store decoder against iced-x86.

use crate::base::alu::{Arith, BitOp};
use crate::base::insn::Width;
use crate::mm::ptdecode::{NotHandled, Op, Regs, Store, decode};
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use proptest::prelude::*;

pub const RIP: u64 = 0xffff_ffff_8123_4560;

/// Registers at rest.
#[derive(Clone, Debug, PartialEq)]
pub struct Bank {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub flags: u64,
}

impl Default for Bank {
    fn default() -> Self {
        Self {
            gpr: std::array::from_fn(|i| 0x0111_2222_3333_0101 * (i as u64 + 1)),
            rip: RIP,
            flags: 0x202,
        }
    }
}

impl Regs for Bank {
    fn gpr(&self, index: u8) -> u64 {
        self.gpr[index as usize]
    }
    fn set_gpr(&mut self, index: u8, value: u64) {
        self.gpr[index as usize] = value;
    }
    fn rip(&self) -> u64 {
        self.rip
    }
    fn set_rip(&mut self, value: u64) {
        self.rip = value;
    }
    fn flags(&self) -> u64 {
        self.flags
    }
    fn set_flags(&mut self, value: u64) {
        self.flags = value;
    }
    fn fs_base(&self) -> u64 {
        0x7f00_1234_5000
    }
    fn gs_base(&self) -> u64 {
        0xffff_8880_1234_0000
    }
}

fn iced(bytes: &[u8]) -> Instruction {
    let mut decoder = Decoder::with_ip(64, bytes, RIP, DecoderOptions::NONE);
    decoder.decode()
}

/// The value of a register by iced's name.
fn value_of(reg: Register, regs: &Bank) -> u64 {
    let whole = |r: Register| regs.gpr[r.full_register().number()];
    match reg {
        Register::None | Register::ES | Register::CS | Register::SS | Register::DS => 0,
        Register::FS => regs.fs_base(),
        Register::GS => regs.gs_base(),
        Register::AH | Register::CH | Register::DH | Register::BH => whole(reg) >> 8 & 0xff,
        _ => whole(reg) & (!0 >> (64 - 8 * reg.size())),
    }
}

fn address(i: &Instruction, regs: &Bank) -> u64 {
    i.virtual_address(0, 0, |reg, _, _| Some(value_of(reg, regs)))
        .unwrap()
}

/// Whether iced's instruction is one of those we mean to handle.
fn is_ours(i: &Instruction) -> bool {
    let plain = !i.has_rep_prefix() && !i.has_repne_prefix();
    let named = matches!(
        i.mnemonic(),
        Mnemonic::Mov
            | Mnemonic::Xchg
            | Mnemonic::Cmpxchg
            | Mnemonic::Add
            | Mnemonic::Or
            | Mnemonic::And
            | Mnemonic::Sub
            | Mnemonic::Xor
            | Mnemonic::Bts
            | Mnemonic::Btr
            | Mnemonic::Btc
    );
    let moffs = matches!(
        i.code(),
        Code::Mov_moffs8_AL | Code::Mov_moffs16_AX | Code::Mov_moffs32_EAX | Code::Mov_moffs64_RAX
    );
    let segment = i.op_count() > 1
        && i.op1_kind() == OpKind::Register
        && i.op1_register().is_segment_register();
    let string = matches!(
        i.mnemonic(),
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq
    );
    if string {
        return plain && !i.has_lock_prefix();
    }
    plain && named && !moffs && !segment && i.op0_kind() == OpKind::Memory
}

fn mnemonic(store: &Store) -> Mnemonic {
    match &store.op {
        Op::Stos(_) => match store.width {
            Width::Byte => Mnemonic::Stosb,
            Width::Word => Mnemonic::Stosw,
            Width::Dword => Mnemonic::Stosd,
            Width::Qword => Mnemonic::Stosq,
        },
        Op::Mov(_) => Mnemonic::Mov,
        Op::Xchg(_) => Mnemonic::Xchg,
        Op::Cmpxchg(_) => Mnemonic::Cmpxchg,
        Op::Arith(Arith::Add, _) => Mnemonic::Add,
        Op::Arith(Arith::Or, _) => Mnemonic::Or,
        Op::Arith(Arith::And, _) => Mnemonic::And,
        Op::Arith(Arith::Sub, _) => Mnemonic::Sub,
        Op::Arith(Arith::Xor, _) => Mnemonic::Xor,
        Op::Arith(Arith::Adc | Arith::Sbb | Arith::Cmp, _) | Op::Bit(BitOp::Test, _) => {
            unreachable!("not decoded")
        }
        Op::Bit(BitOp::Set, _) => Mnemonic::Bts,
        Op::Bit(BitOp::Reset, _) => Mnemonic::Btr,
        Op::Bit(BitOp::Complement, _) => Mnemonic::Btc,
    }
}

fn compare(bytes: &[u8], regs: &Bank) {
    let i = iced(bytes);
    let ours = decode(bytes, regs);
    let Ok(store) = ours else {
        // Prefixes that no compiler puts there are declined on purpose.
        let declined = bytes[..i.len().max(1)]
            .iter()
            .take_while(|b| is_prefix(**b))
            .any(|b| matches!(b, 0x67 | 0xf2 | 0xf3));
        assert!(
            !is_ours(&i) || declined,
            "{bytes:02x?} is `{i}` and was not decoded"
        );
        return;
    };
    assert!(
        is_ours(&i),
        "{bytes:02x?} decoded as {store:x?}, but it is `{i}`"
    );
    assert_eq!(store.len as usize, i.len(), "{bytes:02x?} `{i}`");
    assert_eq!(mnemonic(&store), i.mnemonic(), "{bytes:02x?} `{i}`");
    assert_eq!(
        store.width.bytes() as usize,
        i.memory_size().size(),
        "{bytes:02x?} `{i}`"
    );
    compare_operand(&i, &store, regs);
}

fn is_prefix(b: u8) -> bool {
    matches!(b, 0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3)
}

fn compare_operand(i: &Instruction, store: &Store, regs: &Bank) {
    let width = store.width;
    let source = match i.op1_kind() {
        OpKind::Register => value_of(i.op1_register(), regs),
        _ => i.immediate(1),
    } & width.mask();
    let mut at = address(i, regs);
    match store.op {
        Op::Mov(value) | Op::Arith(_, value) => assert_eq!(value, source, "`{i}`"),
        Op::Stos(step) => assert_eq!(step, width.bytes(), "`{i}`"),
        Op::Xchg(reg) | Op::Cmpxchg(reg) => assert_eq!(regs.read(reg, width), source, "`{i}`"),
        Op::Bit(_, bit) => {
            let bits = i64::from(width.bits());
            let unused = 64 - width.bits();
            let whole = (source << unused) as i64 >> unused;
            assert_eq!(i64::from(bit), whole.rem_euclid(bits), "`{i}`");
            if i.op1_kind() == OpKind::Register {
                at = at.wrapping_add((whole.div_euclid(bits) * width.bytes() as i64) as u64);
            }
        }
    }
    assert_eq!(store.va.0, at, "`{i}`");
}

/// Bytes that often make up a store.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        Just(vec![]),
        Just(vec![0xf0]),
        Just(vec![0x66]),
        Just(vec![0x3e, 0xf0]),
        Just(vec![0x64]),
        Just(vec![0x65, 0xf0]),
        prop::collection::vec(
            prop_oneof![Just(0x67_u8), Just(0xf2), Just(0xf3), Just(0x2e)],
            1..3
        ),
    ];
    let rex = prop_oneof![1 => Just(vec![]), 3 => (0x40..0x50_u8).prop_map(|b| vec![b])];
    let opcode = prop_oneof![
        6 => prop::sample::select(vec![
            vec![0x89], vec![0x88], vec![0xc7], vec![0xc6], vec![0x87], vec![0x86], vec![0x80], vec![0x81], vec![0x83],
            vec![0xaa], vec![0xab], vec![0x01], vec![0x08], vec![0x21], vec![0x29], vec![0x31], vec![0x0f, 0xb1], vec![0x0f, 0xb0],
            vec![0x0f, 0xab], vec![0x0f, 0xb3], vec![0x0f, 0xbb], vec![0x0f, 0xba],
        ]),
        1 => any::<u8>().prop_map(|b| vec![b]),
        1 => any::<u8>().prop_map(|b| vec![0x0f, b]),
    ];
    (
        prefix,
        rex,
        opcode,
        prop::collection::vec(any::<u8>(), 0..10),
    )
        .prop_map(|(p, r, o, rest)| [p, r, o, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn decodes_what_iced_decodes(bytes in code(), gpr in any::<[u64; 16]>()) {
        compare(&bytes, &Bank { gpr, ..Bank::default() });
    }

    #[test]
    fn any_bytes_are_decoded_alike_or_declined(bytes in prop::collection::vec(any::<u8>(), 1..16)) {
        compare(&bytes, &Bank::default());
    }
}

#[test]
fn the_forms_that_linux_uses() {
    let regs = Bank::default();
    let rdi = regs.gpr[7];
    let cases: [(&[u8], Op, Width, u64); 8] = [
        (&[0x48, 0x89, 0x37], Op::Mov(regs.gpr[6]), Width::Qword, rdi),
        (
            &[0x48, 0xc7, 0x07, 0, 0, 0, 0],
            Op::Mov(0),
            Width::Qword,
            rdi,
        ),
        (
            &[0xf0, 0x80, 0x27, 0xfd],
            Op::Arith(Arith::And, 0xfd),
            Width::Byte,
            rdi,
        ),
        (
            &[0xf0, 0x48, 0x0f, 0xba, 0x37, 5],
            Op::Bit(BitOp::Reset, 5),
            Width::Qword,
            rdi,
        ),
        (
            &[0xf0, 0x80, 0x4f, 0x01, 0x08],
            Op::Arith(Arith::Or, 8),
            Width::Byte,
            rdi + 1,
        ),
        (
            &[0x48, 0x83, 0x0f, 0xff],
            Op::Arith(Arith::Or, !0),
            Width::Qword,
            rdi,
        ),
        (
            &[0xc7, 0x47, 0x04, 1, 0, 0, 0x80],
            Op::Mov(0x8000_0001),
            Width::Dword,
            rdi + 4,
        ),
        (
            &[0x65, 0x48, 0x89, 0x04, 0x25, 8, 0, 0, 0],
            Op::Mov(regs.gpr[0]),
            Width::Qword,
            regs.gs_base() + 8,
        ),
    ];
    for (bytes, op, width, va) in cases {
        let store = decode(bytes, &regs).unwrap();
        assert_eq!(
            (store.op, store.width, store.va.0),
            (op, width, va),
            "{bytes:02x?}"
        );
        assert_eq!(store.len as usize, bytes.len());
    }
}

#[test]
fn cut_and_overlong_instructions_are_declined() {
    let regs = Bank::default();
    let whole = [0x48, 0xc7, 0x87, 1, 0, 0, 0, 2, 0, 0, 0];
    for cut in 0..whole.len() {
        assert_eq!(decode(&whole[..cut], &regs), Err(NotHandled));
    }
    let mut long = vec![0x3e; 13];
    long.extend([0x48, 0x89, 0x37]);
    assert_eq!(decode(&long, &regs), Err(NotHandled));
    assert_eq!(
        decode(&[0xf0, 0x48, 0x89, 0x37], &regs),
        Err(NotHandled),
        "a locked mov"
    );
}
