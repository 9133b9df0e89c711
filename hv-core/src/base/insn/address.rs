//! ModRM, SIB and displacement: register and memory operands.

use super::{CodeSize, Failure, Prefixes, Reader, Segment, Width};

const BX: u8 = 3;
const SP: u8 = 4;
const BP: u8 = 5;
const SI: u8 = 6;
const DI: u8 = 7;

/// How a memory operand's address is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// Segment: the prefix's, or the usual one of the base register.
    pub segment: Segment,
    /// Size to which the sum is cut.
    pub width: Width,
    base: Option<u8>,
    index: Option<u8>,
    /// log2 of the factor of the index.
    scale: u8,
    displacement: u64,
    /// Relative to the end of the instruction.
    relative: bool,
}

impl Address {
    /// What one register holds: the operand of a string instruction.
    #[must_use]
    pub const fn in_register(index: u8, segment: Segment, width: Width) -> Self {
        Self {
            base: Some(index),
            ..Self::at(0, segment, width)
        }
    }

    /// An address that stands in the instruction.
    #[must_use]
    pub const fn at(offset: u64, segment: Segment, width: Width) -> Self {
        Self {
            segment,
            width,
            base: None,
            index: None,
            scale: 0,
            displacement: offset,
            relative: false,
        }
    }

    /// The offset in the segment, from the general registers (by number) and the address of the next instruction.
    #[must_use]
    pub fn offset(&self, gpr: impl Fn(u8) -> u64, next: u64) -> u64 {
        let base = self.base.map_or(0, &gpr);
        let index = self.index.map_or(0, |index| gpr(index) << self.scale);
        let next = if self.relative { next } else { 0 };
        let sum = self.displacement.wrapping_add(base).wrapping_add(index);
        sum.wrapping_add(next) & self.width.mask()
    }

    /// Whether a base of the stack's makes SS the usual segment.
    const fn usual(base: Option<u8>) -> Segment {
        match base {
            Some(SP | BP) => Segment::Ss,
            _ => Segment::Ds,
        }
    }
}

/// What ModRM's mode and low field name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A register by its number, REX.B included.
    Register(u8),
    /// Memory.
    Memory(Address),
}

/// A ModRM byte with all that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModRm {
    /// The byte itself.
    pub byte: u8,
    /// The middle field, without REX.R: a register or part of the opcode.
    pub field: u8,
    /// The other operand.
    pub operand: Operand,
}

impl ModRm {
    /// Reads the byte, and SIB and displacement where there are any.
    ///
    /// # Errors
    /// As [`Reader::byte`].
    pub fn read(reader: &mut Reader<'_>, prefixes: &Prefixes) -> Result<Self, Failure> {
        let byte = reader.byte()?;
        let (mode, field, low) = (byte >> 6, byte >> 3 & 7, byte & 7);
        let operand = if mode == 3 {
            Operand::Register(prefixes.extend_base(low))
        } else if prefixes.address_width() == Width::Word {
            Operand::Memory(short(reader, prefixes, mode, low)?)
        } else {
            Operand::Memory(wide(reader, prefixes, mode, low)?)
        };
        Ok(Self {
            byte,
            field,
            operand,
        })
    }

    /// The memory operand.
    ///
    /// # Errors
    /// `NotOurs` where it is a register.
    pub const fn memory(&self) -> Result<Address, Failure> {
        match self.operand {
            Operand::Memory(address) => Ok(address),
            Operand::Register(_) => Err(Failure::NotOurs),
        }
    }
}

/// The 16-bit forms (Intel SDM vol. 2, table 2-1).
fn short(
    reader: &mut Reader<'_>,
    prefixes: &Prefixes,
    mode: u8,
    low: u8,
) -> Result<Address, Failure> {
    let (base, index) = match low {
        0 => (Some(BX), Some(SI)),
        1 => (Some(BX), Some(DI)),
        2 => (Some(BP), Some(SI)),
        3 => (Some(BP), Some(DI)),
        4 => (Some(SI), None),
        5 => (Some(DI), None),
        6 if mode == 0 => (None, None),
        6 => (Some(BP), None),
        _ => (Some(BX), None),
    };
    let displacement = match mode {
        0 if base.is_none() => reader.signed(Width::Word)?,
        0 => 0,
        1 => reader.signed(Width::Byte)?,
        _ => reader.signed(Width::Word)?,
    };
    Ok(Address {
        segment: prefixes.segment.unwrap_or(Address::usual(base)),
        width: Width::Word,
        base,
        index,
        scale: 0,
        displacement,
        relative: false,
    })
}

/// The 32-bit and 64-bit forms (Intel SDM vol. 2, tables 2-2 and 2-3).
fn wide(
    reader: &mut Reader<'_>,
    prefixes: &Prefixes,
    mode: u8,
    low: u8,
) -> Result<Address, Failure> {
    let sib = if low == SP { reader.byte()? } else { low };
    // Without base there are four bytes of displacement.
    let without_base = mode == 0 && sib & 7 == BP;
    let base = (!without_base).then(|| prefixes.extend_base(sib & 7));
    let (index, scale) = match prefixes.extend_index(sib >> 3 & 7) {
        _ if low != SP => (None, 0),
        SP => (None, 0),
        index => (Some(index), sib >> 6),
    };
    let displacement = match mode {
        0 if !without_base => 0,
        1 => reader.signed(Width::Byte)?,
        _ => reader.signed(Width::Dword)?,
    };
    Ok(Address {
        segment: prefixes.segment.unwrap_or(Address::usual(base)),
        width: prefixes.address_width(),
        base,
        index,
        scale,
        displacement,
        relative: without_base && low == BP && prefixes.code == CodeSize::Bits64,
    })
}
