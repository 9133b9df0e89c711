//! Decoding the instructions that leave a hardware container (AMD APM vol. 3; Intel SDM vol. 2).
//!
//! What the guest did is known from the exit; this says how long the instruction was, where the processor does not
//! say, and what its operands were. Guests can change code between the exit and the fetch: what is decoded need not
//! be what left the container, so callers compare.

use crate::base::insn::{
    Address, CodeSize, Failure, ModRm, Operand, Prefixes, Reader, Repeat, Segment, Width,
};

mod fetch;
#[cfg(test)]
mod tests;

pub use fetch::{FetchFault, InsnBytes};

/// Which port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Port {
    /// In the instruction.
    Immediate(u8),
    /// In DX.
    Dx,
}

/// INS or OUTS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StringIo {
    /// Size of an element.
    pub width: Width,
    /// Whether it is repeated, by the count register.
    pub repeated: bool,
    /// Which part of the count and index registers counts.
    pub address: Width,
    /// Where the source of OUTS lies; the destination of INS is in ES.
    pub segment: Segment,
}

/// What an instruction does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "one instruction each, named as in the manuals")]
pub enum Operation {
    Cpuid,
    Rdmsr,
    Wrmsr,
    Rdtsc,
    Rdtscp,
    Rdpmc,
    Hlt,
    Pause,
    Vmmcall,
    Vmcall,
    Invd,
    /// WBINVD and WBNOINVD.
    Wbinvd,
    Invlpg(Address),
    Xgetbv,
    Xsetbv,
    Monitor,
    Mwait,
    Clts,
    Lmsw(Operand),
    /// To a register, of this width.
    Smsw(Operand, Width),
    ReadControl {
        cr: u8,
        gpr: u8,
    },
    WriteControl {
        cr: u8,
        gpr: u8,
    },
    ReadDebug {
        dr: u8,
        gpr: u8,
    },
    WriteDebug {
        dr: u8,
        gpr: u8,
    },
    In {
        width: Width,
        port: Port,
    },
    Out {
        width: Width,
        port: Port,
    },
    Ins(StringIo),
    Outs(StringIo),
    Int3,
    Into,
    Int(u8),
    Icebp,
    Ud2,
    /// SGDT, SIDT, LGDT, LIDT, SLDT, STR, LLDT or LTR.
    Descriptors,
}

/// A decoded instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    /// What it does.
    pub operation: Operation,
    /// Its bytes.
    pub length: u8,
}

/// Decodes the instruction at the start of `bytes`.
///
/// # Errors
/// See `Failure`.
pub fn decode(bytes: &[u8], code: CodeSize) -> Result<Instruction, Failure> {
    let mut reader = Reader::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut reader, code)?;
    let operation = match opcode {
        0x0f => two_byte(&mut reader, &prefixes)?,
        // LOCK is not allowed with any of them.
        _ if prefixes.lock => return Err(Failure::NotOurs),
        _ => one_byte(&mut reader, &prefixes, opcode)?,
    };
    Ok(Instruction {
        operation,
        length: reader.length(),
    })
}

fn one_byte(
    reader: &mut Reader<'_>,
    prefixes: &Prefixes,
    opcode: u8,
) -> Result<Operation, Failure> {
    // There are no 64-bit ports.
    let width = prefixes.width_by(opcode).min(Width::Dword);
    let long = prefixes.code == CodeSize::Bits64;
    Ok(match opcode {
        0x6c | 0x6d => Operation::Ins(string(prefixes, width)),
        0x6e | 0x6f => Operation::Outs(string(prefixes, width)),
        0x90 if prefixes.repeat == Repeat::Equal => Operation::Pause,
        0xcc => Operation::Int3,
        0xcd => Operation::Int(reader.byte()?),
        0xce if !long => Operation::Into,
        0xe4 | 0xe5 => Operation::In {
            width,
            port: Port::Immediate(reader.byte()?),
        },
        0xe6 | 0xe7 => Operation::Out {
            width,
            port: Port::Immediate(reader.byte()?),
        },
        0xec | 0xed => Operation::In {
            width,
            port: Port::Dx,
        },
        0xee | 0xef => Operation::Out {
            width,
            port: Port::Dx,
        },
        0xf1 => Operation::Icebp,
        0xf4 => Operation::Hlt,
        _ => return Err(Failure::NotOurs),
    })
}

fn string(prefixes: &Prefixes, width: Width) -> StringIo {
    StringIo {
        width,
        repeated: prefixes.repeat != Repeat::None,
        address: prefixes.address_width(),
        segment: prefixes.segment.unwrap_or(Segment::Ds),
    }
}

fn two_byte(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let opcode = reader.byte()?;
    if let 0x20..=0x23 = opcode {
        return moves(reader, prefixes, opcode);
    }
    if prefixes.lock {
        return Err(Failure::NotOurs);
    }
    Ok(match opcode {
        0x00 => {
            let modrm = ModRm::read(reader, prefixes)?;
            match modrm.field {
                0..=3 => Operation::Descriptors,
                _ => return Err(Failure::NotOurs),
            }
        }
        0x01 => return group_7(reader, prefixes),
        0x06 => Operation::Clts,
        0x08 => Operation::Invd,
        0x09 => Operation::Wbinvd,
        0x0b => Operation::Ud2,
        0x30 => Operation::Wrmsr,
        0x31 => Operation::Rdtsc,
        0x32 => Operation::Rdmsr,
        0x33 => Operation::Rdpmc,
        0xa2 => Operation::Cpuid,
        _ => return Err(Failure::NotOurs),
    })
}

/// MOV to and from control and debug registers.
fn moves(reader: &mut Reader<'_>, prefixes: &Prefixes, opcode: u8) -> Result<Operation, Failure> {
    // The mode is ignored: the operand is always a register.
    let modrm = reader.byte()?;
    let number = prefixes.extend_reg(modrm >> 3 & 7);
    let gpr = prefixes.extend_base(modrm & 7);
    let cr = match (prefixes.lock, number, opcode) {
        (false, ..) => number,
        // AMD: CR8 for code that has no REX (APM vol. 3, MOV CRn).
        (true, 0, 0x20 | 0x22) => 8,
        (true, ..) => return Err(Failure::NotOurs),
    };
    Ok(match opcode {
        0x20 => Operation::ReadControl { cr, gpr },
        0x21 => Operation::ReadDebug { dr: number, gpr },
        0x22 => Operation::WriteControl { cr, gpr },
        _ => Operation::WriteDebug { dr: number, gpr },
    })
}

/// 0F 01.
fn group_7(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Operation, Failure> {
    let modrm = ModRm::read(reader, prefixes)?;
    Ok(match (modrm.byte, modrm.field, modrm.operand) {
        (_, 4, operand) => Operation::Smsw(operand, prefixes.width()),
        (_, 6, operand) => Operation::Lmsw(operand),
        (_, 7, Operand::Memory(address)) => Operation::Invlpg(address),
        (_, 0..=3, Operand::Memory(_)) => Operation::Descriptors,
        (0xd9, ..) => Operation::Vmmcall,
        (0xf9, ..) => Operation::Rdtscp,
        // The rest is another instruction with one of these prefixes, or none.
        _ if prefixes.operand_size || prefixes.repeat != Repeat::None => {
            return Err(Failure::NotOurs);
        }
        (0xc1, ..) => Operation::Vmcall,
        (0xc8, ..) => Operation::Monitor,
        (0xc9, ..) => Operation::Mwait,
        (0xd0, ..) => Operation::Xgetbv,
        (0xd1, ..) => Operation::Xsetbv,
        _ => return Err(Failure::NotOurs),
    })
}
