//! The decoder, with iced-x86 as the judge of lengths and operands.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use proptest::prelude::*;

use super::*;
use crate::base::insn::tests::{bits, code_size, offset, prefixes, segment};

/// AMD's decoder knows LOCK MOV CR0.
fn judge(bytes: &[u8], code: CodeSize) -> Instruction {
    Decoder::with_ip(bits(code), bytes, 0x1234_5678, DecoderOptions::AMD).decode()
}

/// Whether an instruction is one that we mean to decode.
fn is_ours(i: &Instruction) -> bool {
    use Mnemonic as M;
    if i.is_invalid() || i.has_lock_prefix() && i.mnemonic() != M::Mov {
        return false;
    }
    match i.mnemonic() {
        M::Cpuid | M::Rdtsc | M::Rdtscp | M::Rdmsr | M::Wrmsr | M::Rdpmc | M::Hlt | M::Pause => {
            true
        }
        M::Vmmcall | M::Vmcall | M::Invd | M::Wbinvd | M::Wbnoinvd | M::Invlpg => true,
        M::Xgetbv | M::Xsetbv | M::Monitor | M::Mwait | M::Clts | M::Lmsw | M::Smsw => true,
        M::In | M::Out | M::Insb | M::Insw | M::Insd | M::Outsb | M::Outsw | M::Outsd => true,
        M::Int | M::Int1 | M::Int3 | M::Into | M::Ud2 => true,
        M::Sgdt | M::Sidt | M::Lgdt | M::Lidt | M::Sldt | M::Str | M::Lldt | M::Ltr => true,
        M::Mov => special(i, 0).is_some() || special(i, 1).is_some(),
        _ => false,
    }
}

/// The control or debug register that is this operand.
fn special(i: &Instruction, operand: u32) -> Option<String> {
    let name = (i.op_kind(operand) == OpKind::Register)
        .then(|| format!("{:?}", i.op_register(operand)))?;
    (name.starts_with("CR") || name.starts_with("DR")).then_some(name)
}

fn io_width(i: &Instruction) -> Width {
    match i.code() {
        Code::In_AL_imm8 | Code::In_AL_DX | Code::Out_imm8_AL | Code::Out_DX_AL => Width::Byte,
        Code::In_AX_imm8 | Code::In_AX_DX | Code::Out_imm8_AX | Code::Out_DX_AX => Width::Word,
        Code::Insb_m8_DX | Code::Outsb_DX_m8 => Width::Byte,
        Code::Insw_m16_DX | Code::Outsw_DX_m16 => Width::Word,
        _ => Width::Dword,
    }
}

fn port_agrees(i: &Instruction, operand: u32, port: Port) -> bool {
    match port {
        Port::Immediate(number) => {
            i.op_kind(operand) == OpKind::Immediate8 && i.immediate8() == number
        }
        Port::Dx => format!("{:?}", i.op_register(operand)) == "DX",
    }
}

fn string_agrees(i: &Instruction, io: &StringIo, kinds: [OpKind; 3]) -> bool {
    let kind = match io.address {
        Width::Word => kinds[0],
        Width::Dword => kinds[1],
        _ => kinds[2],
    };
    io.width == io_width(i)
        && io.repeated == (i.has_rep_prefix() || i.has_repne_prefix())
        && (0..2).any(|operand| i.op_kind(operand) == kind)
}

fn move_agrees(i: &Instruction, operand: u32, name: String, gpr: u8) -> bool {
    special(i, operand) == Some(name) && i.op_register(1 - operand).number() == usize::from(gpr)
}

fn operand_agrees(i: &Instruction, code: CodeSize, operand: Operand) -> bool {
    match operand {
        Operand::Register(n) => {
            i.op0_kind() == OpKind::Register && i.op0_register().number() == usize::from(n)
        }
        Operand::Memory(address) => address_agrees(i, code, &address),
    }
}

fn address_agrees(i: &Instruction, code: CodeSize, address: &Address) -> bool {
    let gpr: [u64; 16] =
        std::array::from_fn(|n| 0x0123_4567_89ab_cdef_u64.rotate_left(n as u32 * 7));
    i.op0_kind() == OpKind::Memory
        && address.offset(|n| gpr[usize::from(n)], i.next_ip()) == offset(i, 0, &gpr)
        && address.segment == segment(i, code)
}

fn agrees(op: Operation, i: &Instruction, code: CodeSize) -> bool {
    use {Mnemonic as M, Operation as O};
    let m = i.mnemonic();
    match op {
        O::Cpuid => m == M::Cpuid,
        O::Rdmsr => m == M::Rdmsr,
        O::Wrmsr => m == M::Wrmsr,
        O::Rdtsc => m == M::Rdtsc,
        O::Rdtscp => m == M::Rdtscp,
        O::Rdpmc => m == M::Rdpmc,
        O::Hlt => m == M::Hlt,
        O::Pause => m == M::Pause,
        O::Vmmcall => matches!(m, M::Vmmcall | M::Vmgexit),
        O::Vmcall => m == M::Vmcall,
        O::Invd => m == M::Invd,
        O::Wbinvd => matches!(m, M::Wbinvd | M::Wbnoinvd),
        O::Invlpg(address) => m == M::Invlpg && address_agrees(i, code, &address),
        O::Xgetbv => m == M::Xgetbv,
        O::Xsetbv => m == M::Xsetbv,
        O::Monitor => m == M::Monitor,
        O::Mwait => m == M::Mwait,
        O::Clts => m == M::Clts,
        O::Lmsw(operand) => m == M::Lmsw && operand_agrees(i, code, operand),
        O::Smsw(operand, width) => {
            let register =
                i.op0_kind() != OpKind::Register || i.op0_register().size() as u64 == width.bytes();
            m == M::Smsw && operand_agrees(i, code, operand) && register
        }
        O::ReadControl { cr, gpr } => move_agrees(i, 1, format!("CR{cr}"), gpr),
        O::WriteControl { cr, gpr } => move_agrees(i, 0, format!("CR{cr}"), gpr),
        O::ReadDebug { dr, gpr } => move_agrees(i, 1, format!("DR{dr}"), gpr),
        O::WriteDebug { dr, gpr } => move_agrees(i, 0, format!("DR{dr}"), gpr),
        O::In { width, port } => m == M::In && width == io_width(i) && port_agrees(i, 1, port),
        O::Out { width, port } => m == M::Out && width == io_width(i) && port_agrees(i, 0, port),
        O::Ins(io) => {
            matches!(m, M::Insb | M::Insw | M::Insd)
                && string_agrees(
                    i,
                    &io,
                    [OpKind::MemoryESDI, OpKind::MemoryESEDI, OpKind::MemoryESRDI],
                )
        }
        O::Outs(io) => {
            matches!(m, M::Outsb | M::Outsw | M::Outsd)
                && io.segment == segment(i, code)
                && string_agrees(
                    i,
                    &io,
                    [
                        OpKind::MemorySegSI,
                        OpKind::MemorySegESI,
                        OpKind::MemorySegRSI,
                    ],
                )
        }
        O::Int3 => m == M::Int3,
        O::Into => m == M::Into,
        O::Int(n) => m == M::Int && i.immediate8() == n,
        O::Icebp => m == M::Int1,
        O::Ud2 => m == M::Ud2,
        O::Descriptors => matches!(
            m,
            M::Sgdt | M::Sidt | M::Lgdt | M::Lidt | M::Sldt | M::Str | M::Lldt | M::Ltr
        ),
    }
}

fn compare(bytes: &[u8], code: CodeSize) {
    let i = judge(bytes, code);
    match decode(bytes, code) {
        Ok(ours) => {
            // Registers that do not exist are the caller's to refuse, after the processor has.
            let no_register = matches!(
                ours.operation,
                Operation::ReadControl { .. }
                    | Operation::WriteControl { .. }
                    | Operation::ReadDebug { .. }
                    | Operation::WriteDebug { .. }
            );
            if i.is_invalid() && no_register {
                return;
            }
            assert_eq!(
                usize::from(ours.length),
                i.len(),
                "{bytes:02x?} {code:?} `{i}`"
            );
            assert!(
                agrees(ours.operation, &i, code),
                "{bytes:02x?} {code:?} is {ours:?} and `{i}`"
            );
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

const OPCODES: &[&[u8]] = &[
    &[0x0f, 0xa2],
    &[0x0f, 0x30],
    &[0x0f, 0x31],
    &[0x0f, 0x32],
    &[0x0f, 0x33],
    &[0xf4],
    &[0x90],
    &[0x0f, 0x08],
    &[0x0f, 0x09],
    &[0x0f, 0x06],
    &[0x0f, 0x0b],
    &[0x0f, 0x01],
    &[0x0f, 0x01, 0xd9],
    &[0x0f, 0x01, 0xc1],
    &[0x0f, 0x01, 0xc8],
    &[0x0f, 0x01, 0xc9],
    &[0x0f, 0x01, 0xd0],
    &[0x0f, 0x01, 0xd1],
    &[0x0f, 0x01, 0xf9],
    &[0x0f, 0x20],
    &[0x0f, 0x21],
    &[0x0f, 0x22],
    &[0x0f, 0x23],
    &[0x0f, 0x00],
    &[0xcc],
    &[0xcd],
    &[0xce],
    &[0xf1],
    &[0x6c],
    &[0x6d],
    &[0x6e],
    &[0x6f],
    &[0xe4],
    &[0xe5],
    &[0xe6],
    &[0xe7],
    &[0xec],
    &[0xed],
    &[0xee],
    &[0xef],
];

fn code() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        8 => prop::sample::select(OPCODES).prop_map(<[u8]>::to_vec),
        1 => any::<u8>().prop_map(|b| vec![b]),
        1 => any::<u8>().prop_map(|b| vec![0x0f, b]),
    ];
    (prefixes(), opcode, prop::collection::vec(any::<u8>(), 0..9))
        .prop_map(|(p, o, r)| [p, o, r].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn decodes_what_iced_decodes(bytes in code(), size in code_size()) {
        compare(&bytes, size);
    }

    #[test]
    fn any_bytes_are_decoded_alike_or_declined(
        bytes in prop::collection::vec(any::<u8>(), 0..17), size in code_size(),
    ) {
        compare(&bytes, size);
    }
}

#[test]
fn every_instruction_is_too_short_until_its_last_byte() {
    let whole = [0x66, 0x65, 0x0f, 0x01, 0xbc, 0x24, 1, 2, 3, 4];
    for cut in 0..whole.len() {
        assert_eq!(
            decode(&whole[..cut], CodeSize::Bits64),
            Err(Failure::TooShort)
        );
    }
    assert_eq!(decode(&whole, CodeSize::Bits64).map(|i| i.length), Ok(10));
}

mod fetching {
    use super::super::InsnBytes;
    use crate::hvm::copies::{GuestMemory, Reason};
    use crate::hvm::walk::{GuestPhysical, PagingMode};

    /// RAM below an address.
    struct Below(u64);

    impl GuestPhysical for Below {
        fn load(&self, _: u64) -> Option<u64> {
            None
        }
        fn compare_exchange(&self, _: u64, _: u64, _: u64) -> Option<bool> {
            None
        }
    }

    impl GuestMemory for Below {
        fn read(&self, gpa: u64, into: &mut [u8]) -> Option<()> {
            into.fill(gpa as u8);
            (gpa < self.0).then_some(())
        }
        fn write(&self, _: u64, _: &[u8]) -> Option<()> {
            None
        }
    }

    #[test]
    fn bytes_end_where_memory_does() {
        let fetch = |at| InsnBytes::fetch(&Below(0x2000), &PagingMode::default(), 0, at);
        let whole = fetch(0x1ff1);
        assert_eq!((whole.as_slice().len(), whole.fault()), (15, None));
        let cut = fetch(0x1ffc);
        assert_eq!(cut.as_slice(), [0xfc; 4]);
        assert_eq!(cut.fault().unwrap().va, 0x2000);
        assert_eq!(
            cut.fault().unwrap().reason,
            Reason::NoMemory { gpa: 0x2000 }
        );
        assert!(fetch(0x2000).as_slice().is_empty());
        assert_eq!(InsnBytes::given(&[1; 20]).as_slice().len(), 15);
    }
}
