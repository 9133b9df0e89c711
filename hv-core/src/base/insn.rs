//! What all x86 instructions share: bytes, prefixes, ModRM, SIB and displacement (AMD APM vol. 3, 1; Intel SDM vol. 2,
//! 2.1 and 2.2).
//!
//! The decoders of a few instructions each (`mm::ptdecode`, `pv::privop`, `hvm::insn`, `hvm::emulate`) are built of these
//! parts. Nothing here looks at registers or memory, but where it is given values.

mod address;

pub use address::{Address, ModRm, Operand};

#[cfg(test)]
pub(crate) mod tests;

/// Longest instruction in bytes; a longer one raises #GP.
pub const MAX_LENGTH: usize = 15;

/// How a code segment is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CodeSize {
    /// Real mode, virtual-8086 mode, and protected mode with CS.D clear.
    Bits16,
    /// Protected mode with CS.D set, compatibility mode included.
    Bits32,
    /// 64-bit mode.
    Bits64,
}

/// Why nothing was decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// The bytes end inside the instruction.
    TooShort,
    /// None of the instructions that the decoder knows.
    NotOurs,
}

/// Size of an operand or an address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
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

    /// The value's lowest bits of this size as a signed number, sign-extended.
    #[must_use]
    pub const fn extend(self, value: u64) -> u64 {
        let unused = 64 - self.bits();
        ((value << unused) as i64 >> unused) as u64
    }
}

/// A segment register, numbered as in instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Segment {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
}

/// A register operand: which one, and which part of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reg {
    /// 0 RAX, 1 RCX, 2 RDX, 3 RBX, 4 RSP, 5 RBP, 6 RSI, 7 RDI, then R8 to R15.
    pub index: u8,
    /// Bits 15..8 of a legacy register (AH, CH, DH, BH).
    pub high: bool,
}

impl Reg {
    /// The accumulator.
    pub const RAX: Self = Self::whole(0);

    /// The register with this number, from its lowest bit.
    #[must_use]
    pub const fn whole(index: u8) -> Self {
        Self { index, high: false }
    }

    /// The operand in the register's value.
    #[must_use]
    pub const fn cut(self, whole: u64, width: Width) -> u64 {
        (if self.high { whole >> 8 } else { whole }) & width.mask()
    }

    /// The register's value after a write to the operand, as the processor does it: 32 bits clear the upper half, less
    /// leaves the rest.
    #[must_use]
    pub const fn merge(self, whole: u64, width: Width, value: u64) -> u64 {
        let shift = if self.high { 8 } else { 0 };
        match width {
            Width::Qword => value,
            Width::Dword => value & width.mask(),
            Width::Word | Width::Byte => {
                whole & !(width.mask() << shift) | (value & width.mask()) << shift
            }
        }
    }
}

/// Goes through the bytes of one instruction.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.at as u8
    }

    /// The next byte.
    ///
    /// # Errors
    /// `TooShort` at the end of the bytes, `NotOurs` beyond the longest instruction.
    pub fn byte(&mut self) -> Result<u8, Failure> {
        if self.at >= MAX_LENGTH {
            return Err(Failure::NotOurs);
        }
        let byte = *self.bytes.get(self.at).ok_or(Failure::TooShort)?;
        self.at += 1;
        Ok(byte)
    }

    /// A little-endian number of this size, sign-extended.
    ///
    /// # Errors
    /// As `byte`.
    pub fn signed(&mut self, width: Width) -> Result<u64, Failure> {
        let mut value = 0;
        for i in 0..width.bytes() {
            value |= u64::from(self.byte()?) << (8 * i);
        }
        Ok(width.extend(value))
    }

    /// An immediate operand of this size, cut to it; of 4 bytes, sign-extended, for 8.
    ///
    /// # Errors
    /// As `byte`.
    pub fn immediate(&mut self, width: Width) -> Result<u64, Failure> {
        Ok(self.signed(width.min(Width::Dword))? & width.mask())
    }
}

/// F2 and F3: to repeat a string instruction, or part of an opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Repeat {
    /// Neither.
    #[default]
    None,
    /// F2 (REPNE).
    NotEqual,
    /// F3 (REP, REPE).
    Equal,
}

/// The prefixes in front of an opcode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefixes {
    /// The code segment they were read in.
    pub code: CodeSize,
    /// 66.
    pub operand_size: bool,
    /// 67.
    pub address_size: bool,
    /// F0.
    pub lock: bool,
    /// F2 or F3, the last of them.
    pub repeat: Repeat,
    /// The last segment prefix that has a meaning.
    pub segment: Option<Segment>,
    rex: u8,
}

impl Prefixes {
    const W: u8 = 8;
    const R: u8 = 4;
    const X: u8 = 2;
    const B: u8 = 1;

    /// Reads prefixes, and returns the first byte of the opcode with them.
    ///
    /// # Errors
    /// As [`Reader::byte`].
    pub fn read(reader: &mut Reader<'_>, code: CodeSize) -> Result<(Self, u8), Failure> {
        let mut seen = Self {
            code,
            operand_size: false,
            address_size: false,
            lock: false,
            repeat: Repeat::None,
            segment: None,
            rex: 0,
        };
        let long = code == CodeSize::Bits64;
        loop {
            let byte = reader.byte()?;
            let rex = core::mem::take(&mut seen.rex);
            match byte {
                0x66 => seen.operand_size = true,
                0x67 => seen.address_size = true,
                0xf0 => seen.lock = true,
                0xf2 => seen.repeat = Repeat::NotEqual,
                0xf3 => seen.repeat = Repeat::Equal,
                0x64 => seen.segment = Some(Segment::Fs),
                0x65 => seen.segment = Some(Segment::Gs),
                // Without meaning in 64-bit code; they do not take FS or GS back there.
                0x26 | 0x2e | 0x36 | 0x3e if long => {}
                0x26 => seen.segment = Some(Segment::Es),
                0x2e => seen.segment = Some(Segment::Cs),
                0x36 => seen.segment = Some(Segment::Ss),
                0x3e => seen.segment = Some(Segment::Ds),
                // A REX prefix counts only directly before the opcode.
                0x40..=0x4f if long => seen.rex = byte,
                _ => {
                    seen.rex = rex;
                    return Ok((seen, byte));
                }
            }
        }
    }

    /// Size of operands that are not of one byte.
    #[must_use]
    pub const fn width(&self) -> Width {
        match (self.code, self.operand_size) {
            (CodeSize::Bits64, _) if self.rex & Self::W != 0 => Width::Qword,
            (CodeSize::Bits16, true) | (CodeSize::Bits32 | CodeSize::Bits64, false) => Width::Dword,
            (CodeSize::Bits16, false) | (CodeSize::Bits32 | CodeSize::Bits64, true) => Width::Word,
        }
    }

    /// Size of the operands of the many opcodes whose lowest bit tells bytes from the rest.
    #[must_use]
    pub const fn width_by(&self, opcode: u8) -> Width {
        if opcode & 1 == 0 {
            Width::Byte
        } else {
            self.width()
        }
    }

    /// Size of addresses, and of the count and index registers of string instructions.
    #[must_use]
    pub const fn address_width(&self) -> Width {
        match (self.code, self.address_size) {
            (CodeSize::Bits64, false) => Width::Qword,
            (CodeSize::Bits16, false) | (CodeSize::Bits32, true) => Width::Word,
            _ => Width::Dword,
        }
    }

    /// The middle field of ModRM as a number, extended by REX.R.
    #[must_use]
    pub const fn extend_reg(&self, field: u8) -> u8 {
        self.extend(Self::R, field)
    }

    /// The low field of ModRM, a SIB's base or the opcode's own register, extended by REX.B.
    #[must_use]
    pub const fn extend_base(&self, field: u8) -> u8 {
        self.extend(Self::B, field)
    }

    const fn extend_index(&self, field: u8) -> u8 {
        self.extend(Self::X, field)
    }

    const fn extend(&self, bit: u8, field: u8) -> u8 {
        field | if self.rex & bit != 0 { 8 } else { 0 }
    }

    /// The middle field of ModRM as a register operand.
    #[must_use]
    pub const fn reg(&self, field: u8, width: Width) -> Reg {
        // Without any REX, 4 to 7 are the second bytes of the first four registers.
        if matches!(width, Width::Byte) && self.rex == 0 && field >= 4 {
            return Reg {
                index: field - 4,
                high: true,
            };
        }
        Reg::whole(self.extend_reg(field))
    }
}
