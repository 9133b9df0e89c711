//! Decoding the instructions with which kernels change live page-table entries.
//!
//! A deliberately small part of the 64-bit instruction set (AMD APM vol. 3): stores, exchanges, and
//! the arithmetic and bit operations that have a memory destination. Every other instruction, and every form that
//! no compiler emits for this purpose (address-size prefix, repeat prefixes, a lock where it is
//! not allowed, `mov` to an absolute 64-bit address), is [`NotHandled`]. Nothing here has an effect: the
//! result says what the instruction would do.

use crate::base::GuestVa;

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
}

/// The instruction is none of those emulated; the guest gets its own fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotHandled;

/// Size of the memory operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

impl Width {
    /// Size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.bits() as u64 / 8
    }

    /// Size in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Byte => 8,
            Self::Word => 16,
            Self::Dword => 32,
            Self::Qword => 64,
        }
    }

    /// All ones of this size.
    #[must_use]
    pub const fn mask(self) -> u64 {
        !0 >> (64 - self.bits())
    }
}

/// A register operand: where it is and how much of it counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reg {
    index: u8,
    /// Bits 15..8 of a legacy register (AH, CH, DH, BH).
    high: bool,
}

impl Reg {
    const RAX: Self = Self {
        index: 0,
        high: false,
    };

    const RDI: Self = Self {
        index: 7,
        high: false,
    };

    /// Its value, cut to the width.
    pub fn read(self, regs: &impl Regs, width: Width) -> u64 {
        let whole = regs.gpr(self.index);
        (if self.high { whole >> 8 } else { whole }) & width.mask()
    }

    /// Writes it as the processor does: 32 bits clear the upper half, less leaves the rest.
    pub fn write(self, regs: &mut impl Regs, width: Width, value: u64) {
        let whole = regs.gpr(self.index);
        let shift = if self.high { 8 } else { 0 };
        let value = match width {
            Width::Qword => value,
            Width::Dword => value & width.mask(),
            Width::Word | Width::Byte => {
                whole & !(width.mask() << shift) | (value & width.mask()) << shift
            }
        };
        regs.set_gpr(self.index, value);
    }

    /// The accumulator.
    #[must_use]
    pub const fn accumulator() -> Self {
        Self::RAX
    }

    /// The destination of string instructions.
    #[must_use]
    pub const fn destination() -> Self {
        Self::RDI
    }
}

/// Two-operand arithmetic with a memory destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arith {
    /// Addition.
    Add,
    /// Bitwise or.
    Or,
    /// Bitwise and.
    And,
    /// Subtraction.
    Sub,
    /// Bitwise exclusive or.
    Xor,
}

/// Bit test and change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BitOp {
    /// Sets the bit.
    Set,
    /// Clears it.
    Reset,
    /// Inverts it.
    Complement,
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

/// Bytes still to be decoded.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Code<'_> {
    /// No instruction is longer (#GP on the processor).
    const MAX: usize = 15;

    fn byte(&mut self) -> Result<u8, NotHandled> {
        let b = *self
            .bytes
            .get(self.at)
            .filter(|_| self.at < Self::MAX)
            .ok_or(NotHandled)?;
        self.at += 1;
        Ok(b)
    }

    /// A little-endian number of `n` bytes, sign-extended.
    fn signed(&mut self, n: u32) -> Result<u64, NotHandled> {
        let mut value = 0;
        for i in 0..n {
            value |= u64::from(self.byte()?) << (8 * i);
        }
        let unused = 64 - 8 * n;
        Ok(((value << unused) as i64 >> unused) as u64)
    }
}

/// Prefixes in front of the opcode.
#[derive(Default)]
struct Prefixes {
    rex: u8,
    word: bool,
    lock: bool,
    base: SegmentBase,
}

#[derive(Default)]
enum SegmentBase {
    /// ES, CS, SS and DS have base 0 in 64-bit mode.
    #[default]
    Zero,
    Fs,
    Gs,
}

impl Prefixes {
    const W: u8 = 8;
    const R: u8 = 4;
    const X: u8 = 2;
    const B: u8 = 1;

    /// Reads prefixes and returns the first opcode byte.
    fn read(code: &mut Code<'_>) -> Result<(Self, u8), NotHandled> {
        let mut p = Self::default();
        loop {
            match code.byte()? {
                0x26 | 0x2e | 0x36 | 0x3e => {}
                0x64 => p.base = SegmentBase::Fs,
                0x65 => p.base = SegmentBase::Gs,
                0x66 => p.word = true,
                0xf0 => p.lock = true,
                0x67 | 0xf2 | 0xf3 => return Err(NotHandled),
                rex @ 0x40..=0x4f => {
                    // REX counts only right before the opcode.
                    p.rex = rex;
                    return Ok((p, code.byte()?));
                }
                opcode => return Ok((p, opcode)),
            }
        }
    }

    const fn width(&self) -> Width {
        if self.rex & Self::W != 0 {
            Width::Qword
        } else if self.word {
            Width::Word
        } else {
            Width::Dword
        }
    }

    const fn extend(&self, bit: u8, index: u8) -> u8 {
        if self.rex & bit != 0 {
            index + 8
        } else {
            index
        }
    }
}

/// A ModRM byte that names memory, with all that follows it.
struct Memory {
    /// The middle field, without REX.R: a register or part of the opcode.
    field: u8,
    /// Base register plus scaled index plus displacement, without segment base; for RIP-relative
    /// operands, relative to the end of the instruction.
    offset: u64,
    rip_relative: bool,
}

impl Memory {
    fn read(code: &mut Code<'_>, p: &Prefixes, regs: &impl Regs) -> Result<Self, NotHandled> {
        let modrm = code.byte()?;
        let (mode, field, rm) = (modrm >> 6, modrm >> 3 & 7, modrm & 7);
        if mode == 3 {
            return Err(NotHandled);
        }
        let mut rip_relative = false;
        let mut offset = match (rm, mode) {
            (4, _) => Self::scaled(code, p, regs, mode)?,
            (5, 0) => {
                rip_relative = true;
                code.signed(4)?
            }
            _ => regs.gpr(p.extend(Prefixes::B, rm)),
        };
        match mode {
            1 => offset = offset.wrapping_add(code.signed(1)?),
            2 => offset = offset.wrapping_add(code.signed(4)?),
            _ => {}
        }
        Ok(Self {
            field,
            offset,
            rip_relative,
        })
    }

    /// The SIB byte.
    fn scaled(
        code: &mut Code<'_>,
        p: &Prefixes,
        regs: &impl Regs,
        mode: u8,
    ) -> Result<u64, NotHandled> {
        let sib = code.byte()?;
        let base = match (sib & 7, mode) {
            (5, 0) => code.signed(4)?,
            (base, _) => regs.gpr(p.extend(Prefixes::B, base)),
        };
        // Index 4 without REX.X means none.
        let index = match p.extend(Prefixes::X, sib >> 3 & 7) {
            4 => 0,
            index => regs.gpr(index) << (sib >> 6),
        };
        Ok(base.wrapping_add(index))
    }

    fn address(&self, p: &Prefixes, regs: &impl Regs, len: usize) -> u64 {
        let base = match p.base {
            SegmentBase::Zero => 0,
            SegmentBase::Fs => regs.fs_base(),
            SegmentBase::Gs => regs.gs_base(),
        };
        let next = if self.rip_relative {
            regs.rip().wrapping_add(len as u64)
        } else {
            0
        };
        self.offset.wrapping_add(next).wrapping_add(base)
    }

    /// The middle field as a register.
    const fn reg(&self, p: &Prefixes, width: Width) -> Reg {
        // Without any REX, 4 to 7 are the second bytes of the first four registers.
        if matches!(width, Width::Byte) && p.rex == 0 && self.field >= 4 {
            return Reg {
                index: self.field - 4,
                high: true,
            };
        }
        Reg {
            index: p.extend(Prefixes::R, self.field),
            high: false,
        }
    }
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
    let reg = Reg {
        index: modrm >> 3 | (rex & Prefixes::R) << 1,
        high: false,
    };
    let op = if opcode == 0x87 {
        Op::Xchg(reg)
    } else {
        Op::Mov(regs.gpr(reg.index))
    };
    Some(Store {
        va: GuestVa(regs.gpr(modrm & 7 | (rex & Prefixes::B) << 3)),
        width: Width::Qword,
        op,
        len: 3,
    })
}

fn decode_any(bytes: &[u8], regs: &impl Regs) -> Result<Store, NotHandled> {
    let code = &mut Code { bytes, at: 0 };
    let (p, opcode) = Prefixes::read(code)?;
    let (memory, width, op, lock) = match opcode {
        0xaa | 0xab => return stos(&p, opcode, code.at, regs),
        0x0f => two_byte(code, &p, regs)?,
        _ => one_byte(code, &p, regs, opcode)?,
    };
    if p.lock && lock == Lock::Forbidden {
        return Err(NotHandled);
    }
    let mut va = memory.address(&p, regs, code.at);
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
        len: code.at as u8,
    })
}

/// STOS, once: its destination is in ES, whatever the prefixes say.
fn stos(p: &Prefixes, opcode: u8, len: usize, regs: &impl Regs) -> Result<Store, NotHandled> {
    /// RFLAGS.DF.
    const DOWN: u64 = 1 << 10;
    if p.lock {
        return Err(NotHandled);
    }
    let width = if opcode == 0xaa {
        Width::Byte
    } else {
        p.width()
    };
    let step = if regs.flags() & DOWN == 0 {
        width.bytes()
    } else {
        width.bytes().wrapping_neg()
    };
    Ok(Store {
        va: GuestVa(Reg::destination().read(regs, Width::Qword)),
        width,
        op: Op::Stos(step),
        len: len as u8,
    })
}

/// An operation before its address is known.
enum Form {
    Plain(Op),
    /// The signed bit offset may lead outside the operand.
    BitString(BitOp, u64),
}

type Decoded = (Memory, Width, Form, Lock);

fn one_byte(
    code: &mut Code<'_>,
    p: &Prefixes,
    regs: &impl Regs,
    opcode: u8,
) -> Result<Decoded, NotHandled> {
    let width = if opcode & 1 == 0 {
        Width::Byte
    } else {
        p.width()
    };
    let arith = match opcode {
        0x00 | 0x01 => Some(Arith::Add),
        0x08 | 0x09 => Some(Arith::Or),
        0x20 | 0x21 => Some(Arith::And),
        0x28 | 0x29 => Some(Arith::Sub),
        0x30 | 0x31 => Some(Arith::Xor),
        0x80 | 0x81 | 0x83 | 0x86..=0x89 | 0xc6 | 0xc7 => None,
        _ => return Err(NotHandled),
    };
    let memory = Memory::read(code, p, regs)?;
    let reg = memory.reg(p, width);
    let (op, lock) = match (arith, opcode) {
        (Some(arith), _) => (Op::Arith(arith, reg.read(regs, width)), Lock::Allowed),
        (None, 0x86 | 0x87) => (Op::Xchg(reg), Lock::Allowed),
        (None, 0x88 | 0x89) => (Op::Mov(reg.read(regs, width)), Lock::Forbidden),
        (None, 0xc6 | 0xc7) if memory.field == 0 => {
            (Op::Mov(immediate(code, width)?), Lock::Forbidden)
        }
        (None, 0x80 | 0x81) => (
            Op::Arith(group_1(memory.field)?, immediate(code, width)?),
            Lock::Allowed,
        ),
        (None, 0x83) => {
            let value = code.signed(1)? & width.mask();
            (Op::Arith(group_1(memory.field)?, value), Lock::Allowed)
        }
        _ => return Err(NotHandled),
    };
    Ok((memory, width, Form::Plain(op), lock))
}

fn two_byte(code: &mut Code<'_>, p: &Prefixes, regs: &impl Regs) -> Result<Decoded, NotHandled> {
    let opcode = code.byte()?;
    let width = if opcode == 0xb0 {
        Width::Byte
    } else {
        p.width()
    };
    if !matches!(opcode, 0xab | 0xb0 | 0xb1 | 0xb3 | 0xba | 0xbb) {
        return Err(NotHandled);
    }
    let memory = Memory::read(code, p, regs)?;
    let reg = memory.reg(p, width);
    let form = match opcode {
        0xb0 | 0xb1 => Form::Plain(Op::Cmpxchg(reg)),
        0xba => {
            let op = group_8(memory.field)?;
            let bit = u32::from(code.byte()?) & (width.bits() - 1);
            Form::Plain(Op::Bit(op, bit))
        }
        other => {
            let op = match other {
                0xab => BitOp::Set,
                0xb3 => BitOp::Reset,
                _ => BitOp::Complement,
            };
            let unused = 64 - width.bits();
            let offset = (reg.read(regs, width) << unused) as i64 >> unused;
            Form::BitString(op, offset as u64)
        }
    };
    Ok((memory, width, form, Lock::Allowed))
}

/// An immediate of the operand's size; of 4 bytes, sign-extended, for 8.
fn immediate(code: &mut Code<'_>, width: Width) -> Result<u64, NotHandled> {
    Ok(code.signed(width.bytes().min(4) as u32)? & width.mask())
}

fn group_1(field: u8) -> Result<Arith, NotHandled> {
    match field {
        0 => Ok(Arith::Add),
        1 => Ok(Arith::Or),
        4 => Ok(Arith::And),
        5 => Ok(Arith::Sub),
        6 => Ok(Arith::Xor),
        _ => Err(NotHandled),
    }
}

fn group_8(field: u8) -> Result<BitOp, NotHandled> {
    match field {
        5 => Ok(BitOp::Set),
        6 => Ok(BitOp::Reset),
        7 => Ok(BitOp::Complement),
        _ => Err(NotHandled),
    }
}
