//! Decoding the instructions with which kernels change live page-table entries.
//!
//! A deliberately small part of the 64-bit instruction set (AMD APM vol. 3): stores, exchanges, and
//! the arithmetic and bit operations that have a memory destination. Every other instruction, and every form that
//! no compiler emits for this purpose (address-size prefix, repeat prefixes, a lock where it is
//! not allowed, `mov` to an absolute 64-bit address), is [`NotHandled`]. Nothing here has an effect: the
//! result says what the instruction would do.

use crate::base::GuestVa;
use crate::base::alu::{Arith, BitOp};
use crate::base::insn::{
    Address, CodeSize, Failure, ModRm, Prefixes, Reader, Reg, Repeat, Segment, Width,
};

/// The registers an instruction can use.
pub trait Regs {
    /// A general register by its encoding (0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI, then R8 to R15).
    fn gpr(&self, index: u8) -> u64;
    /// Sets a general register.
    fn set_gpr(&mut self, index: u8, value: u64);
    /// Address of the instruction.
    fn rip(&self) -> u64;
    /// Sets the instruction pointer.
    fn set_rip(&mut self, value: u64);
    /// RFLAGS.
    fn flags(&self) -> u64;
    /// Sets RFLAGS; only status flags differ from what was read.
    fn set_flags(&mut self, value: u64);
    /// Base of FS.
    fn fs_base(&self) -> u64;
    /// Base of GS as the guest's current mode sees it.
    fn gs_base(&self) -> u64;

    /// A register operand, cut to the width.
    #[inline(always)]
    fn read(&self, reg: Reg, width: Width) -> u64 {
        reg.cut(self.gpr(reg.index), width)
    }

    /// Writes a register operand.
    #[inline(always)]
    fn write(&mut self, reg: Reg, width: Width, value: u64) {
        self.set_gpr(reg.index, reg.merge(self.gpr(reg.index), width, value));
    }
}

/// The destination of string instructions.
pub const RDI: Reg = Reg::whole(7);

/// The instruction is none of those emulated; the guest gets its own fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHandled;

impl From<Failure> for NotHandled {
    fn from(_: Failure) -> Self {
        Self
    }
}

/// What happens to the memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Stores a value.
    Mov(u64),
    /// Stores the accumulator and moves the destination register on by this.
    Stos(u64),
    /// Swaps with a register.
    Xchg(Reg),
    /// Stores the register if the accumulator equals memory.
    Cmpxchg(Reg),
    /// Combines with a value; the flags follow the result.
    Arith(Arith, u64),
    /// Changes one bit (counted from the operand's lowest); the carry flag is its old value.
    Bit(BitOp, u32),
}

/// A decoded store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Store {
    /// Address of the operand.
    pub va: GuestVa,
    /// Its size.
    pub width: Width,
    /// What is done.
    pub op: Op,
    /// Length of the instruction in bytes.
    pub len: u8,
}

/// Whether a lock prefix is allowed (elsewhere it raises #UD).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Allowed,
    Forbidden,
}

/// Decodes the instruction at the start of `bytes`, which the guest was executing in 64-bit mode.
///
/// # Errors
/// [`NotHandled`] for everything but the stores this module knows, also where `bytes` is too short.
#[inline(always)]
pub fn decode(bytes: &[u8], regs: &impl Regs) -> Result<Store, NotHandled> {
    match whole_entry(bytes, regs) {
        Some(store) => Ok(store),
        None => decode_any(bytes, regs),
    }
}

/// The form in which compilers store or exchange a whole entry: `mov [base], reg` or `xchg [base], reg`, 64 bits,
/// without displacement. Nearly all faults on page tables are of it.
#[inline(always)]
fn whole_entry(bytes: &[u8], regs: &impl Regs) -> Option<Store> {
    let [
        rex @ 0x48..=0x4f,
        opcode @ (0x87 | 0x89),
        modrm @ 0..0x40,
        ..,
    ] = *bytes
    else {
        return None;
    };
    // 4 announces another byte, 5 is relative to the instruction.
    if modrm & 6 == 4 {
        return None;
    }
    // REX.R and REX.B.
    let reg = Reg::whole(modrm >> 3 | (rex & 4) << 1);
    let op = if opcode == 0x87 {
        Op::Xchg(reg)
    } else {
        Op::Mov(regs.gpr(reg.index))
    };
    Some(Store {
        va: GuestVa(regs.gpr(modrm & 7 | (rex & 1) << 3)),
        width: Width::Qword,
        op,
        len: 3,
    })
}

fn decode_any(bytes: &[u8], regs: &impl Regs) -> Result<Store, NotHandled> {
    let reader = &mut Reader::new(bytes);
    let (p, opcode) = Prefixes::read(reader, CodeSize::Bits64)?;
    if p.address_size || p.repeat != Repeat::None {
        return Err(NotHandled);
    }
    let (memory, width, op, lock) = match opcode {
        0xaa | 0xab => return stos(&p, opcode, reader.length(), regs),
        0x0f => two_byte(reader, &p, regs)?,
        _ => one_byte(reader, &p, regs, opcode)?,
    };
    if p.lock && lock == Lock::Forbidden {
        return Err(NotHandled);
    }
    let mut va = address(&memory, regs, reader.length());
    let op = match op {
        Form::Plain(op) => op,
        Form::BitString(op, offset) => {
            // A bit offset in a register selects among all of memory, in units of the operand.
            let bits = width.bits();
            let units = (offset as i64) >> bits.trailing_zeros();
            va = va.wrapping_add((units as u64).wrapping_mul(width.bytes()));
            Op::Bit(op, (offset & u64::from(bits - 1)) as u32)
        }
    };
    Ok(Store {
        va: GuestVa(va),
        width,
        op,
        len: reader.length(),
    })
}

/// Linear address of an operand of an instruction that has this length.
fn address(memory: &Address, regs: &impl Regs, len: u8) -> u64 {
    // ES, CS, SS and DS have base 0 in 64-bit mode.
    let base = match memory.segment {
        Segment::Fs => regs.fs_base(),
        Segment::Gs => regs.gs_base(),
        Segment::Es | Segment::Cs | Segment::Ss | Segment::Ds => 0,
    };
    let next = regs.rip().wrapping_add(u64::from(len));
    memory
        .offset(|index| regs.gpr(index), next)
        .wrapping_add(base)
}

/// STOS, once: its destination is in ES, whatever the prefixes say.
fn stos(p: &Prefixes, opcode: u8, len: u8, regs: &impl Regs) -> Result<Store, NotHandled> {
    /// RFLAGS.DF.
    const DOWN: u64 = 1 << 10;
    if p.lock {
        return Err(NotHandled);
    }
    let width = p.width_by(opcode);
    let step = if regs.flags() & DOWN == 0 {
        width.bytes()
    } else {
        width.bytes().wrapping_neg()
    };
    Ok(Store {
        va: GuestVa(regs.read(RDI, Width::Qword)),
        width,
        op: Op::Stos(step),
        len,
    })
}

/// An operation before its address is known.
enum Form {
    Plain(Op),
    /// The signed bit offset may lead outside the operand.
    BitString(BitOp, u64),
}

type Decoded = (Address, Width, Form, Lock);

fn one_byte(
    reader: &mut Reader<'_>,
    p: &Prefixes,
    regs: &impl Regs,
    opcode: u8,
) -> Result<Decoded, NotHandled> {
    let arith = match opcode {
        0x00 | 0x01 | 0x08 | 0x09 | 0x20 | 0x21 | 0x28 | 0x29 | 0x30 | 0x31 => {
            Some(Arith::of(opcode >> 3))
        }
        0x80 | 0x81 | 0x83 | 0x86..=0x89 | 0xc6 | 0xc7 => None,
        _ => return Err(NotHandled),
    };
    let width = p.width_by(opcode);
    let modrm = ModRm::read(reader, p)?;
    let memory = modrm.memory()?;
    let reg = p.reg(modrm.field, width);
    let (op, lock) = match (arith, opcode) {
        (Some(arith), _) => (Op::Arith(arith, regs.read(reg, width)), Lock::Allowed),
        (None, 0x86 | 0x87) => (Op::Xchg(reg), Lock::Allowed),
        (None, 0x88 | 0x89) => (Op::Mov(regs.read(reg, width)), Lock::Forbidden),
        (None, 0xc6 | 0xc7) if modrm.field == 0 => {
            (Op::Mov(reader.immediate(width)?), Lock::Forbidden)
        }
        (None, 0x80 | 0x81) => (
            Op::Arith(group_1(modrm.field)?, reader.immediate(width)?),
            Lock::Allowed,
        ),
        (None, 0x83) => {
            let value = reader.signed(Width::Byte)? & width.mask();
            (Op::Arith(group_1(modrm.field)?, value), Lock::Allowed)
        }
        _ => return Err(NotHandled),
    };
    Ok((memory, width, Form::Plain(op), lock))
}

fn two_byte(
    reader: &mut Reader<'_>,
    p: &Prefixes,
    regs: &impl Regs,
) -> Result<Decoded, NotHandled> {
    let opcode = reader.byte()?;
    let width = if opcode == 0xb0 {
        Width::Byte
    } else {
        p.width()
    };
    if !matches!(opcode, 0xab | 0xb0 | 0xb1 | 0xb3 | 0xba | 0xbb) {
        return Err(NotHandled);
    }
    let modrm = ModRm::read(reader, p)?;
    let memory = modrm.memory()?;
    let reg = p.reg(modrm.field, width);
    let form = match opcode {
        0xb0 | 0xb1 => Form::Plain(Op::Cmpxchg(reg)),
        0xba if modrm.field > 4 => {
            let bit = u32::from(reader.byte()?) & (width.bits() - 1);
            Form::Plain(Op::Bit(BitOp::of(modrm.field), bit))
        }
        0xba => return Err(NotHandled),
        other => {
            let offset = width.extend(regs.read(reg, width));
            Form::BitString(BitOp::of(other >> 3), offset)
        }
    };
    Ok((memory, width, form, Lock::Allowed))
}

/// Those of the operations after 80 to 83 that kernels use on entries.
fn group_1(field: u8) -> Result<Arith, NotHandled> {
    match Arith::of(field) {
        op @ (Arith::Add | Arith::Or | Arith::And | Arith::Sub | Arith::Xor) => Ok(op),
        Arith::Adc | Arith::Sbb | Arith::Cmp => Err(NotHandled),
    }
}
