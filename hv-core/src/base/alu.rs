//! Integer arithmetic with the status flags of x86 (AMD APM vol. 1, 3.1.4; Intel SDM vol. 1, 3.4.3.1).
//!
//! Operands and results are cut to their width. Flags that the architecture leaves undefined (AF after the bitwise
//! operations) are clear.

use super::insn::Width;

#[cfg(test)]
mod tests;

/// Status flags of RFLAGS.
#[allow(missing_docs, reason = "named as in the manuals")]
pub mod flag {
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const OF: u64 = 1 << 11;
    /// All of them.
    pub const ARITHMETIC: u64 = CF | PF | AF | ZF | SF | OF;
}

/// Arithmetic of two operands, numbered as in opcodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Arith {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    /// Subtraction for the flags alone.
    Cmp,
}

impl Arith {
    /// The operation with this number: bits 5..3 of an opcode below 40, or the middle field of ModRM after 80 to 83.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number & 7 {
            0 => Self::Add,
            1 => Self::Or,
            2 => Self::Adc,
            3 => Self::Sbb,
            4 => Self::And,
            5 => Self::Sub,
            6 => Self::Xor,
            _ => Self::Cmp,
        }
    }

    /// Whether the result goes anywhere.
    #[must_use]
    pub const fn stores(self) -> bool {
        !matches!(self, Self::Cmp)
    }
}

/// Result and status flags of `left op right`; `carry` is what CF was.
#[must_use]
pub fn combine(op: Arith, left: u64, right: u64, carry: bool, width: Width) -> (u64, u64) {
    let logic = |result: u64| (result, result_flags(result, width));
    match op {
        Arith::And => logic(left & right),
        Arith::Or => logic(left | right),
        Arith::Xor => logic(left ^ right),
        Arith::Add => sum(left, right, false, width),
        Arith::Adc => sum(left, right, carry, width),
        Arith::Sub | Arith::Cmp => difference(left, right, false, width),
        Arith::Sbb => difference(left, right, carry, width),
    }
}

fn sum(left: u64, right: u64, carry: bool, width: Width) -> (u64, u64) {
    let result = left.wrapping_add(right).wrapping_add(carry.into()) & width.mask();
    let carries = left & right | (left | right) & !result;
    let overflow = (left ^ result) & (right ^ result);
    (
        result,
        flags(result, carries, left ^ right ^ result, overflow, width),
    )
}

fn difference(left: u64, right: u64, borrow: bool, width: Width) -> (u64, u64) {
    let result = left.wrapping_sub(right).wrapping_sub(borrow.into()) & width.mask();
    let borrows = !left & right | !(left ^ right) & result;
    let overflow = (left ^ right) & (left ^ result);
    (
        result,
        flags(result, borrows, left ^ right ^ result, overflow, width),
    )
}

/// All flags, from the bits that they are taken of.
fn flags(result: u64, carries: u64, half: u64, overflow: u64, width: Width) -> u64 {
    let mut flags = result_flags(result, width);
    if carries & sign(width) != 0 {
        flags |= flag::CF;
    }
    if overflow & sign(width) != 0 {
        flags |= flag::OF;
    }
    if half & 0x10 != 0 {
        flags |= flag::AF;
    }
    flags
}

const fn sign(width: Width) -> u64 {
    1 << (width.bits() - 1)
}

/// ZF, SF and PF of a result; the others are clear.
fn result_flags(result: u64, width: Width) -> u64 {
    let mut flags = 0;
    if result == 0 {
        flags |= flag::ZF;
    }
    if result & sign(width) != 0 {
        flags |= flag::SF;
    }
    if (result as u8).count_ones().is_multiple_of(2) {
        flags |= flag::PF;
    }
    flags
}

/// Bit test and change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BitOp {
    /// Only looks.
    Test,
    /// Sets the bit.
    Set,
    /// Clears it.
    Reset,
    /// Inverts it.
    Complement,
}

impl BitOp {
    /// The operation with this number: the middle field of ModRM after 0F BA, less 4; bits 4..3 of the other opcodes.
    #[must_use]
    pub const fn of(number: u8) -> Self {
        match number & 3 {
            0 => Self::Test,
            1 => Self::Set,
            2 => Self::Reset,
            _ => Self::Complement,
        }
    }

    /// Whether the operand is written.
    #[must_use]
    pub const fn stores(self) -> bool {
        !matches!(self, Self::Test)
    }

    /// Result and CF, with bit `bit` (below 64) of `value`.
    #[must_use]
    pub const fn apply(self, value: u64, bit: u32) -> (u64, u64) {
        let one = 1 << (bit & 63);
        let result = match self {
            Self::Test => value,
            Self::Set => value | one,
            Self::Reset => value & !one,
            Self::Complement => value ^ one,
        };
        let carry = if value & one != 0 { flag::CF } else { 0 };
        (result, carry)
    }
}
