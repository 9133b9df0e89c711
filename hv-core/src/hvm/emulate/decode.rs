//! From bytes to what an instruction does; no register is looked at.

use crate::base::alu::{Arith, BitOp};
use crate::base::insn::{
    Address, CodeSize, Failure, ModRm, Prefixes, Reader, Reg, Repeat, Segment, Width,
};

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Reg(Reg),
    Immediate(u64),
}

/// One operand, changed in place.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unary {
    Not,
    Neg,
    Inc,
    Dec,
}

/// A string instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Strings {
    Movs,
    Stos,
    Lods,
    Ins,
    Outs,
}

/// What is done with the memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// Into a register of this width; extended by the sign or by zeroes.
    Load {
        reg: Reg,
        to: Width,
        signed: bool,
    },
    Store(Source),
    /// Memory is left operand and destination.
    Arith(Arith, Source),
    /// A register is.
    ArithLoad(Arith, Reg),
    Test(Source),
    Unary(Unary),
    Xchg(Reg),
    Xadd(Reg),
    Cmpxchg(Reg),
    /// The bit lies in the operand.
    Bit(BitOp, u32),
    /// The bit's signed offset is in a register, and may lead far from the operand.
    BitString(BitOp, Reg),
    /// The memory operand is the source, if there is one; the destination, if there is one, is in ES.
    Strings {
        what: Strings,
        repeated: bool,
    },
}

impl Op {
    /// Whether LOCK is allowed: memory is read and written.
    const fn lockable(&self) -> bool {
        match self {
            Self::Arith(op, _) => op.stores(),
            Self::Bit(op, _) | Self::BitString(op, _) => op.stores(),
            Self::Unary(_) | Self::Xchg(_) | Self::Xadd(_) | Self::Cmpxchg(_) => true,
            _ => false,
        }
    }
}

/// A decoded instruction with one memory operand (MOVS: see `Op::Strings`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Insn {
    pub(super) op: Op,
    /// Of the memory operand.
    pub(super) width: Width,
    pub(super) address: Address,
    pub(super) length: u8,
    /// LOCK stands where it is not allowed: #UD.
    pub(super) bad_lock: bool,
}

type Parts = (Op, Width, Address);

pub(super) fn decode(bytes: &[u8], code: CodeSize) -> Result<Insn, Failure> {
    let mut reader = Reader::new(bytes);
    let (prefixes, opcode) = Prefixes::read(&mut reader, code)?;
    let (op, width, address) = match opcode {
        0x0f => two_byte(&mut reader, &prefixes)?,
        0x00..=0x3f => arithmetic(&mut reader, &prefixes, opcode)?,
        0xa0..=0xa3 => absolute(&mut reader, &prefixes, opcode)?,
        0x6c..=0x6f | 0xa4 | 0xa5 | 0xaa..=0xad => string(&prefixes, opcode),
        _ => one_byte(&mut reader, &prefixes, opcode)?,
    };
    Ok(Insn {
        op,
        width,
        address,
        length: reader.length(),
        bad_lock: prefixes.lock && !op.lockable(),
    })
}

/// 00 to 3F: arithmetic between memory and a register.
fn arithmetic(reader: &mut Reader<'_>, p: &Prefixes, opcode: u8) -> Result<Parts, Failure> {
    if opcode & 7 > 3 {
        return Err(Failure::NotOurs);
    }
    let (op, width) = (Arith::of(opcode >> 3), p.width_by(opcode));
    let modrm = ModRm::read(reader, p)?;
    let reg = p.reg(modrm.field, width);
    let op = if opcode & 2 == 0 {
        Op::Arith(op, Source::Reg(reg))
    } else {
        Op::ArithLoad(op, reg)
    };
    Ok((op, width, modrm.memory()?))
}

/// A0 to A3: moves between the accumulator and an address in the instruction.
fn absolute(reader: &mut Reader<'_>, p: &Prefixes, opcode: u8) -> Result<Parts, Failure> {
    let width = p.width_by(opcode);
    let size = p.address_width();
    let offset = reader.signed(size)? & size.mask();
    let op = if opcode & 2 == 0 {
        load(Reg::RAX, width)
    } else {
        Op::Store(Source::Reg(Reg::RAX))
    };
    let segment = p.segment.unwrap_or(Segment::Ds);
    Ok((op, width, Address::at(offset, segment, size)))
}

fn string(p: &Prefixes, opcode: u8) -> Parts {
    const RSI: u8 = 6;
    const RDI: u8 = 7;
    let size = p.address_width();
    let source = Address::in_register(RSI, p.segment.unwrap_or(Segment::Ds), size);
    let destination = Address::in_register(RDI, Segment::Es, size);
    let width = p.width_by(opcode);
    // There are no 64-bit ports.
    let narrow = width.min(Width::Dword);
    let (what, width, address) = match opcode & !1 {
        0x6c => (Strings::Ins, narrow, destination),
        0x6e => (Strings::Outs, narrow, source),
        0xa4 => (Strings::Movs, width, source),
        0xac => (Strings::Lods, width, source),
        _ => (Strings::Stos, width, destination),
    };
    let repeated = p.repeat != Repeat::None;
    (Op::Strings { what, repeated }, width, address)
}

const fn load(reg: Reg, width: Width) -> Op {
    Op::Load {
        reg,
        to: width,
        signed: false,
    }
}

fn one_byte(reader: &mut Reader<'_>, p: &Prefixes, opcode: u8) -> Result<Parts, Failure> {
    let long = p.code == CodeSize::Bits64;
    match opcode {
        0x63 if long => {}
        // In 64-bit code 82 is no alias of 80.
        0x82 if long => return Err(Failure::NotOurs),
        0x80..=0x8b | 0xc6 | 0xc7 | 0xf6 | 0xf7 | 0xfe | 0xff => {}
        _ => return Err(Failure::NotOurs),
    }
    let width = p.width_by(opcode);
    let modrm = ModRm::read(reader, p)?;
    let address = modrm.memory()?;
    let reg = p.reg(modrm.field, width);
    let op = match opcode {
        0x63 => {
            let from = width.min(Width::Dword);
            let op = Op::Load {
                reg: Reg::whole(p.extend_reg(modrm.field)),
                to: width,
                signed: true,
            };
            return Ok((op, from, address));
        }
        0x80..=0x82 => Op::Arith(
            Arith::of(modrm.field),
            Source::Immediate(reader.immediate(width)?),
        ),
        0x83 => {
            let value = reader.signed(Width::Byte)? & width.mask();
            Op::Arith(Arith::of(modrm.field), Source::Immediate(value))
        }
        0x84 | 0x85 => Op::Test(Source::Reg(reg)),
        0x86 | 0x87 => Op::Xchg(reg),
        0x88 | 0x89 => Op::Store(Source::Reg(reg)),
        0x8a | 0x8b => load(reg, width),
        _ => group(reader, width, opcode, modrm.field)?,
    };
    Ok((op, width, address))
}

/// Opcodes whose meaning depends on the middle field of ModRM.
fn group(reader: &mut Reader<'_>, width: Width, opcode: u8, field: u8) -> Result<Op, Failure> {
    Ok(match (opcode, field) {
        (0xc6 | 0xc7, 0) => Op::Store(Source::Immediate(reader.immediate(width)?)),
        (0xf6 | 0xf7, 0 | 1) => Op::Test(Source::Immediate(reader.immediate(width)?)),
        (0xf6 | 0xf7, 2) => Op::Unary(Unary::Not),
        (0xf6 | 0xf7, 3) => Op::Unary(Unary::Neg),
        (0xfe | 0xff, 0) => Op::Unary(Unary::Inc),
        (0xfe | 0xff, 1) => Op::Unary(Unary::Dec),
        _ => return Err(Failure::NotOurs),
    })
}

fn two_byte(reader: &mut Reader<'_>, p: &Prefixes) -> Result<Parts, Failure> {
    let opcode = reader.byte()?;
    match opcode {
        0xa3 | 0xab | 0xb0 | 0xb1 | 0xb3 | 0xb6 | 0xb7 | 0xba | 0xbb | 0xbe | 0xbf | 0xc0
        | 0xc1 => {}
        // MOVNTI; with these prefixes it is none.
        0xc3 if !p.operand_size && p.repeat == Repeat::None => {}
        _ => return Err(Failure::NotOurs),
    }
    let modrm = ModRm::read(reader, p)?;
    let address = modrm.memory()?;
    let width = p.width();
    let reg = Reg::whole(p.extend_reg(modrm.field));
    Ok(match opcode {
        0xb6 | 0xb7 | 0xbe | 0xbf => {
            let op = Op::Load {
                reg,
                to: width,
                signed: opcode & 8 != 0,
            };
            let from = if opcode & 1 == 0 {
                Width::Byte
            } else {
                Width::Word
            };
            (op, from, address)
        }
        0xb0 | 0xb1 => {
            let width = p.width_by(opcode);
            (Op::Cmpxchg(p.reg(modrm.field, width)), width, address)
        }
        0xc0 | 0xc1 => {
            let width = p.width_by(opcode);
            (Op::Xadd(p.reg(modrm.field, width)), width, address)
        }
        0xba if modrm.field >= 4 => {
            let bit = u32::from(reader.byte()?) & (width.bits() - 1);
            (Op::Bit(BitOp::of(modrm.field), bit), width, address)
        }
        0xba => return Err(Failure::NotOurs),
        // It has no form of 16 bits.
        0xc3 => (
            Op::Store(Source::Reg(reg)),
            width.max(Width::Dword),
            address,
        ),
        _ => (Op::BitString(BitOp::of(opcode >> 3), reg), width, address),
    })
}
