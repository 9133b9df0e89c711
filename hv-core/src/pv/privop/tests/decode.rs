//! The decoder, with iced-x86 as the judge of lengths and meanings.

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};
use proptest::prelude::*;

use crate::pv::ports::Width;
use crate::pv::privop::privdecode::*;

/// What iced makes of the bytes.
fn judge(bytes: &[u8], bits: u32) -> Instruction {
    Decoder::with_ip(bits, bytes, 0, DecoderOptions::NONE).decode()
}

/// Whether an instruction is one that we mean to decode.
fn is_ours(i: &Instruction, bitness: Bitness) -> bool {
    if i.is_invalid() || i.has_lock_prefix() {
        return false;
    }
    let long = bitness == Bitness::Long;
    match i.mnemonic() {
        Mnemonic::Cpuid
        | Mnemonic::Rdtsc
        | Mnemonic::Rdtscp
        | Mnemonic::Rdmsr
        | Mnemonic::Wrmsr => true,
        Mnemonic::Clts | Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => true,
        Mnemonic::Xsetbv | Mnemonic::In | Mnemonic::Out | Mnemonic::Cli | Mnemonic::Sti => true,
        Mnemonic::Insb
        | Mnemonic::Insw
        | Mnemonic::Insd
        | Mnemonic::Outsb
        | Mnemonic::Outsw
        | Mnemonic::Outsd => long,
        Mnemonic::Mov => {
            let special = |k: u32| {
                let name = format!("{:?}", i.op_register(k));
                i.op_kind(k) == OpKind::Register
                    && (name.starts_with("CR") || name.starts_with("DR"))
            };
            special(0) || special(1)
        }
        _ => false,
    }
}

fn width(i: &Instruction) -> Width {
    match i.code() {
        Code::In_AL_imm8 | Code::In_AL_DX | Code::Out_imm8_AL | Code::Out_DX_AL => Width::Byte,
        Code::In_AX_imm8 | Code::In_AX_DX | Code::Out_imm8_AX | Code::Out_DX_AX => Width::Word,
        Code::Insb_m8_DX | Code::Outsb_DX_m8 => Width::Byte,
        Code::Insw_m16_DX | Code::Outsw_DX_m16 => Width::Word,
        _ => Width::Dword,
    }
}

fn agrees(op: Operation, i: &Instruction) -> bool {
    use Operation as O;
    let repeated = |s: &StringIo| {
        (s.repeat == Repeat::Counted) == (i.has_rep_prefix() || i.has_repne_prefix())
    };
    match op {
        O::Cpuid => i.mnemonic() == Mnemonic::Cpuid,
        O::ReadTsc => i.mnemonic() == Mnemonic::Rdtsc,
        O::ReadTscAndAux => i.mnemonic() == Mnemonic::Rdtscp,
        O::ReadMsr => i.mnemonic() == Mnemonic::Rdmsr,
        O::WriteMsr => i.mnemonic() == Mnemonic::Wrmsr,
        O::ClearTaskSwitched => i.mnemonic() == Mnemonic::Clts,
        O::WriteBackCaches => matches!(i.mnemonic(), Mnemonic::Wbinvd | Mnemonic::Wbnoinvd),
        O::SetXcr => i.mnemonic() == Mnemonic::Xsetbv,
        O::ClearInterrupts => i.mnemonic() == Mnemonic::Cli,
        O::SetInterrupts => i.mnemonic() == Mnemonic::Sti,
        O::In { width: w, .. } => i.mnemonic() == Mnemonic::In && w == width(i),
        O::Out { width: w, .. } => i.mnemonic() == Mnemonic::Out && w == width(i),
        O::InString(s) => {
            format!("{:?}", i.mnemonic()).starts_with("Ins") && s.width == width(i) && repeated(&s)
        }
        O::OutString(s) => {
            format!("{:?}", i.mnemonic()).starts_with("Outs") && s.width == width(i) && repeated(&s)
        }
        O::ReadControl { index, to } => move_agrees(i, 1, index, "CR", 0, to),
        O::WriteControl { index, from } => move_agrees(i, 0, index, "CR", 1, from),
        O::ReadDebug { index, to } => move_agrees(i, 1, index, "DR", 0, to),
        O::WriteDebug { index, from } => move_agrees(i, 0, index, "DR", 1, from),
    }
}

fn move_agrees(
    i: &Instruction,
    special: u32,
    index: u8,
    name: &str,
    general: u32,
    register: Register,
) -> bool {
    format!("{:?}", i.op_register(special)) == format!("{name}{index}")
        && i.op_register(general).number() == usize::from(register.0)
}

const OPCODES: &[&[u8]] = &[
    &[0x0f, 0xa2],
    &[0x0f, 0x31],
    &[0x0f, 0x30],
    &[0x0f, 0x32],
    &[0x0f, 0x06],
    &[0x0f, 0x08],
    &[0x0f, 0x09],
    &[0x0f, 0x01],
    &[0x0f, 0x01, 0xd1],
    &[0x0f, 0x01, 0xf9],
    &[0x0f, 0x01, 0x38],
    &[0x0f, 0x01, 0x3c],
    &[0x0f, 0x01, 0x3d],
    &[0x0f, 0x01, 0x7c],
    &[0x0f, 0x01, 0xbc],
    &[0x0f, 0x20],
    &[0x0f, 0x21],
    &[0x0f, 0x22],
    &[0x0f, 0x23],
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
    &[0xf4],
    &[0xfa],
    &[0xfb],
];

fn likely() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop::sample::select(vec![
        0x66u8, 0x67, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0xf0, 0x40, 0x44, 0x48, 0x41,
        0x4f, 0x42,
    ]);
    (
        prop::collection::vec(prefix, 0..4),
        prop::sample::select(OPCODES),
        prop::collection::vec(any::<u8>(), 16),
    )
        .prop_map(|(prefixes, opcode, tail)| [&prefixes[..], opcode, &tail[..]].concat())
}

fn check(bytes: &[u8], bitness: Bitness) -> Result<(), TestCaseError> {
    let instruction = judge(bytes, if bitness == Bitness::Long { 64 } else { 32 });
    match decode(bytes, bitness) {
        Ok(decoded) => {
            // Registers that do not exist are refused when it comes to them.
            if instruction.is_invalid() {
                let moves = matches!(
                    decoded.operation,
                    Operation::ReadControl { .. }
                        | Operation::WriteControl { .. }
                        | Operation::ReadDebug { .. }
                        | Operation::WriteDebug { .. }
                );
                prop_assert!(moves, "{bytes:x?} is invalid, not {decoded:?}");
                return Ok(());
            }
            prop_assert_eq!(
                usize::from(decoded.length),
                instruction.len(),
                "{:x?} {:?}",
                bytes,
                decoded
            );
            prop_assert!(
                agrees(decoded.operation, &instruction),
                "{bytes:x?} {decoded:?} {instruction}"
            );
            let short = &bytes[..usize::from(decoded.length) - 1];
            prop_assert_eq!(decode(short, bitness), Err(Failure::TooShort));
        }
        Err(_) => prop_assert!(
            !is_ours(&instruction, bitness),
            "{bytes:x?} is {instruction}"
        ),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn likely_bytes_mean_what_iced_says(bytes in likely()) {
        check(&bytes, Bitness::Long)?;
        check(&bytes, Bitness::Compatible)?;
    }

    #[test]
    fn any_bytes_mean_what_iced_says(bytes in prop::collection::vec(any::<u8>(), 16)) {
        check(&bytes, Bitness::Long)?;
        check(&bytes, Bitness::Compatible)?;
    }
}

#[test]
fn sixteen_bytes_are_no_instruction() {
    let mut bytes = [0x66; 17];
    bytes[15] = 0xfa;
    assert_eq!(decode(&bytes, Bitness::Long), Err(Failure::NotOurs));
    bytes[14] = 0xfa;
    assert_eq!(
        decode(&bytes, Bitness::Long),
        Ok(Decoded {
            operation: Operation::ClearInterrupts,
            length: 15
        })
    );
}
