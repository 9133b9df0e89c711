//! Decoder for the instructions that are emulated (Intel SDM vol. 2; AMD APM vol. 3, 1 and appendix A).

use crate::base::insn::{self, CodeSize, Prefixes, Reader};
use crate::pv::ports::Width;

pub use crate::base::insn::{Failure, MAX_LENGTH};

/// `ud2; "xen"`: what a PV guest puts before CPUID to have it emulated.
pub const FORCED_PREFIX: [u8; 5] = [0x0f, 0x0b, b'x', b'e', b'n'];

/// How the code segment is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bitness {
    /// 64-bit code.
    Long,
    /// 32-bit code.
    Compatible,
}

/// A general register, 0 (rax) to 15 (r15).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register(pub u8);

/// Segments that matter in 64-bit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Segment {
    Flat,
    Fs,
    Gs,
}

/// Size of address calculations.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by size")]
pub enum AddressSize {
    Bits32,
    Bits64,
}

/// Which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortOperand {
    /// In the instruction.
    Immediate(u8),
    /// In DX.
    Dx,
}

/// Whether an IN or OUT of a string is repeated rcx times.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by their meaning")]
pub enum Repeat {
    Once,
    Counted,
}

/// An IN or OUT of a string.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringIo {
    /// Size of an element.
    pub width: Width,
    /// Repeated?
    pub repeat: Repeat,
    /// Which part of rcx, rsi and rdi counts.
    pub size: AddressSize,
    /// Where the source of OUTS lies.
    pub segment: Segment,
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "one instruction each")]
pub enum Operation {
    Cpuid,
    ReadTsc,
    ReadTscAndAux,
    ReadMsr,
    WriteMsr,
    ReadControl {
        index: u8,
        to: Register,
    },
    WriteControl {
        index: u8,
        from: Register,
    },
    ReadDebug {
        index: u8,
        to: Register,
    },
    WriteDebug {
        index: u8,
        from: Register,
    },
    ClearTaskSwitched,
    /// WBINVD and WBNOINVD.
    WriteBackCaches,
    SetXcr,
    In {
        width: Width,
        port: PortOperand,
    },
    Out {
        width: Width,
        port: PortOperand,
    },
    InString(StringIo),
    OutString(StringIo),
    ClearInterrupts,
    SetInterrupts,
}

/// A decoded instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// What it does.
    pub operation: Operation,
    /// Its bytes.
    pub length: u8,
}

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See `Failure`.
pub fn decode(bytes: &[u8], bitness: Bitness) -> Result<Decoded, Failure> {
    let mut reader = Reader::new(bytes);
    let code = match bitness {
        Bitness::Long => CodeSize::Bits64,
        Bitness::Compatible => CodeSize::Bits32,
    };
    let (prefixes, opcode) = Prefixes::read(&mut reader, code)?;
    // LOCK is not allowed with any of them; AMD gives MOV CR0 with it another meaning, not ours.
    if prefixes.lock {
        return Err(Failure::NotOurs);
    }
    let operation = match opcode {
        0x0f => two_byte(&mut reader, &prefixes)?,
        _ => one_byte(&mut reader, &prefixes, opcode)?,
    };
    Ok(Decoded {
        operation,
        length: reader.length(),
    })
}

/// The width of what goes through a port: at most 32 bits.
const fn width_of(prefixes: &Prefixes, opcode: u8) -> Width {
    match prefixes.width_by(opcode) {
        insn::Width::Byte => Width::Byte,
        insn::Width::Word => Width::Word,
        insn::Width::Dword | insn::Width::Qword => Width::Dword,
    }
}

fn string(prefixes: &Prefixes, width: Width) -> Result<StringIo, Failure> {
    // Segments of 32-bit code have bases and limits that are not looked at here.
    if prefixes.code != CodeSize::Bits64 {
        return Err(Failure::NotOurs);
    }
    Ok(StringIo {
        width,
        repeat: match prefixes.repeat {
            insn::Repeat::None => Repeat::Once,
            insn::Repeat::Equal | insn::Repeat::NotEqual => Repeat::Counted,
        },
        size: match prefixes.address_width() {
            insn::Width::Dword => AddressSize::Bits32,
            _ => AddressSize::Bits64,
        },
        segment: match prefixes.segment {
            Some(insn::Segment::Fs) => Segment::Fs,
            Some(insn::Segment::Gs) => Segment::Gs,
            _ => Segment::Flat,
        },
    })
}

fn one_byte(
    reader: &mut Reader<'_>,
    prefixes: &Prefixes,
    opcode: u8,
) -> Result<Operation, Failure> {
    let width = width_of(prefixes, opcode);
    Ok(match opcode {
        0x6c | 0x6d => Operation::InString(string(prefixes, width)?),
        0x6e | 0x6f => Operation::OutString(string(prefixes, width)?),
        0xe4 | 0xe5 => Operation::In {
            width,
            port: PortOperand::Immediate(reader.byte()?),
        },
        0xe6 | 0xe7 => Operation::Out {
            width,
            port: PortOperand::Immediate(reader.byte()?),
        },
        0xec | 0xed => Operation::In {
            width,
            port: PortOperand::Dx,
        },
        0xee | 0xef => Operation::Out {
            width,
            port: PortOperand::Dx,
        },
        0xfa => Operation::ClearInterrupts,
        0xfb => Operation::SetInterrupts,
        _ => return Err(Failure::NotOurs),
    })
}

fn two_byte(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let opcode = reader.byte()?;
    Ok(match opcode {
        0x01 => return group_7(reader, prefixes),
        0x06 => Operation::ClearTaskSwitched,
        0x09 => Operation::WriteBackCaches,
        0x20..=0x23 => {
            // The mod field is ignored: the operand is always a register.
            let modrm = reader.byte()?;
            let index = prefixes.extend_reg(modrm >> 3 & 7);
            let register = Register(prefixes.extend_base(modrm & 7));
            match opcode {
                0x20 => Operation::ReadControl {
                    index,
                    to: register,
                },
                0x21 => Operation::ReadDebug {
                    index,
                    to: register,
                },
                0x22 => Operation::WriteControl {
                    index,
                    from: register,
                },
                _ => Operation::WriteDebug {
                    index,
                    from: register,
                },
            }
        }
        0x30 => Operation::WriteMsr,
        0x31 => Operation::ReadTsc,
        0x32 => Operation::ReadMsr,
        0xa2 => Operation::Cpuid,
        _ => return Err(Failure::NotOurs),
    })
}

/// 0f 01: XSETBV, RDTSCP.
fn group_7(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let modrm = reader.byte()?;
    match modrm {
        0xd1 if prefixes.operand_size || prefixes.repeat != insn::Repeat::None => {
            Err(Failure::NotOurs)
        }
        0xd1 => Ok(Operation::SetXcr),
        0xf9 => Ok(Operation::ReadTscAndAux),
        _ => Err(Failure::NotOurs),
    }
}
