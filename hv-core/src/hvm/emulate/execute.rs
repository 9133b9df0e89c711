//! Doing what was decoded.

use super::access::Span;
use super::decode::{Insn, Op, Source, Unary};
use super::{Bus, Exception, State, Trouble, strings};
use crate::base::alu::{Arith, combine, flag};
use crate::base::insn::{Reg, Segment, Width};
use crate::hvm::walk::Kind;

/// How far an instruction came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// To its end.
    Whole,
    /// It is to be run again for the rest.
    Repeats,
}

pub(super) fn execute(insn: &Insn, state: &mut State, bus: &mut impl Bus) -> Result<End, Trouble> {
    if insn.bad_lock {
        return Err(Trouble::Fault(Exception::INVALID_OPCODE));
    }
    if let Op::Strings { what, repeated } = insn.op {
        return strings::execute(insn, what, repeated, state, bus);
    }
    let next = state.next_rip(insn.length);
    let offset = insn
        .address
        .offset(|index| state.gpr[usize::from(index & 15)], next);
    let at = (insn.address.segment, offset);
    one(insn, at, state, bus)?;
    Ok(End::Whole)
}

/// An instruction that is not repeated, with its operand there.
fn one(
    insn: &Insn,
    at: (Segment, u64),
    state: &mut State,
    bus: &mut impl Bus,
) -> Result<(), Trouble> {
    let width = insn.width;
    match insn.op {
        Op::Load { reg, to, signed } => {
            let value = Span::new(state, bus, at, width, Kind::Read)?.load(bus);
            let value = if signed { width.extend(value) } else { value };
            state.set(reg, to, value);
        }
        Op::Store(source) => {
            let value = value_of(source, state, width);
            Span::new(state, bus, at, width, Kind::Write)?.store(bus, value);
        }
        Op::ArithLoad(op, reg) => {
            let right = Span::new(state, bus, at, width, Kind::Read)?.load(bus);
            let left = state.get(reg, width);
            let result = arithmetic(state, op, left, right, width);
            if op.stores() {
                state.set(reg, width, result);
            }
        }
        Op::Test(source) => {
            let left = Span::new(state, bus, at, width, Kind::Read)?.load(bus);
            let right = value_of(source, state, width);
            arithmetic(state, Arith::And, left, right, width);
        }
        Op::BitString(op, reg) => {
            let offset = width.extend(state.get(reg, width));
            // In units of the operand, rounded down.
            let units = (offset as i64 >> width.bits().trailing_zeros()) as u64;
            let moved = at.1.wrapping_add(units.wrapping_mul(width.bytes()));
            let there = (at.0, moved & insn.address.width.mask());
            let bit = (offset & u64::from(width.bits() - 1)) as u32;
            let insn = Insn {
                op: Op::Bit(op, bit),
                ..*insn
            };
            change(&insn, there, state, bus)?;
        }
        _ => change(insn, at, state, bus)?,
    }
    Ok(())
}

/// Reads the operand and, where the instruction has a result for it, writes it.
fn change(
    insn: &Insn,
    at: (Segment, u64),
    state: &mut State,
    bus: &mut impl Bus,
) -> Result<(), Trouble> {
    let width = insn.width;
    let kind = match insn.op {
        Op::Arith(op, _) if !op.stores() => Kind::Read,
        Op::Bit(op, _) if !op.stores() => Kind::Read,
        _ => Kind::Write,
    };
    let span = Span::new(state, bus, at, width, kind)?;
    let old = span.load(bus);
    if let Some(new) = changed(insn, old, state)? {
        span.store(bus, new);
    }
    Ok(())
}

/// The operand's new value; registers and flags are those after the instruction.
fn changed(insn: &Insn, old: u64, state: &mut State) -> Result<Option<u64>, Trouble> {
    let width = insn.width;
    Ok(match insn.op {
        Op::Arith(op, source) => {
            let right = value_of(source, state, width);
            let result = arithmetic(state, op, old, right, width);
            op.stores().then_some(result)
        }
        Op::Unary(op) => Some(unary(state, op, old, width)),
        Op::Xchg(reg) => {
            let new = state.get(reg, width);
            state.set(reg, width, old);
            Some(new)
        }
        Op::Xadd(reg) => {
            let right = state.get(reg, width);
            let result = arithmetic(state, Arith::Add, old, right, width);
            state.set(reg, width, old);
            Some(result)
        }
        Op::Cmpxchg(reg) => {
            let expected = state.get(Reg::RAX, width);
            arithmetic(state, Arith::Cmp, expected, old, width);
            if expected == old {
                Some(state.get(reg, width))
            } else {
                state.set(Reg::RAX, width, old);
                None
            }
        }
        Op::Bit(op, bit) => {
            let (result, carry) = op.apply(old, bit);
            set_flags(state, flag::CF, carry);
            op.stores().then_some(result)
        }
        // The others were done where they have no read before a write.
        _ => return Err(Trouble::Unsupported),
    })
}

fn unary(state: &mut State, op: Unary, old: u64, width: Width) -> u64 {
    let kept = flag::ARITHMETIC & !flag::CF;
    let (arith, left, right, mask) = match op {
        Unary::Not => return !old & width.mask(),
        Unary::Neg => (Arith::Sub, 0, old, flag::ARITHMETIC),
        Unary::Inc => (Arith::Add, old, 1, kept),
        Unary::Dec => (Arith::Sub, old, 1, kept),
    };
    let (result, flags) = combine(arith, left, right, false, width);
    set_flags(state, mask, flags & mask);
    result
}

fn arithmetic(state: &mut State, op: Arith, left: u64, right: u64, width: Width) -> u64 {
    let carry = state.rflags & flag::CF != 0;
    let (result, flags) = combine(op, left, right, carry, width);
    set_flags(state, flag::ARITHMETIC, flags);
    result
}

const fn set_flags(state: &mut State, mask: u64, flags: u64) {
    state.rflags = state.rflags & !mask | flags;
}

fn value_of(source: Source, state: &State, width: Width) -> u64 {
    match source {
        Source::Reg(reg) => state.get(reg, width),
        Source::Immediate(value) => value,
    }
}
