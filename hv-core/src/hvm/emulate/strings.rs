//! MOVS, STOS, LODS, INS and OUTS, with and without repetition.

use super::access::Span;
use super::decode::{Insn, Strings};
use super::execute::End;
use super::{Bus, State, Trouble, rflags};
use crate::base::insn::{Address, Reg, Segment, Width};
use crate::hvm::walk::Kind;

/// Elements that are done before the guest is entered again.
pub(super) const AT_ONCE: u32 = 64;

const COUNT: Reg = Reg::whole(1);
const SOURCE: Reg = Reg::whole(6);
const DESTINATION: Reg = Reg::whole(7);

pub(super) fn execute(
    insn: &Insn,
    what: Strings,
    repeated: bool,
    state: &mut State,
    bus: &mut impl Bus,
) -> Result<End, Trouble> {
    if !repeated {
        element(insn, what, state, bus)?;
        return Ok(End::Whole);
    }
    let address = insn.address.width;
    for _ in 0..AT_ONCE {
        let left = state.get(COUNT, address);
        if left == 0 {
            return Ok(End::Whole);
        }
        element(insn, what, state, bus)?;
        state.set(COUNT, address, left - 1);
    }
    Ok(if state.get(COUNT, address) == 0 {
        End::Whole
    } else {
        End::Repeats
    })
}

fn element(
    insn: &Insn,
    what: Strings,
    state: &mut State,
    bus: &mut impl Bus,
) -> Result<(), Trouble> {
    let (width, address) = (insn.width, &insn.address);
    match what {
        Strings::Movs => {
            let from = span(state, bus, address, width, Kind::Read)?;
            let there = Address::in_register(DESTINATION.index, Segment::Es, address.width);
            let to = span(state, bus, &there, width, Kind::Write)?;
            let value = from.load(bus);
            to.store(bus, value);
            step(state, SOURCE, address.width, width);
            step(state, DESTINATION, address.width, width);
        }
        Strings::Stos => {
            let to = span(state, bus, address, width, Kind::Write)?;
            to.store(bus, state.get(Reg::RAX, width));
            step(state, DESTINATION, address.width, width);
        }
        Strings::Lods => {
            let value = span(state, bus, address, width, Kind::Read)?.load(bus);
            state.set(Reg::RAX, width, value);
            step(state, SOURCE, address.width, width);
        }
        Strings::Ins => {
            let to = span(state, bus, address, width, Kind::Write)?;
            let value = bus.input(port(state), width);
            to.store(bus, value);
            step(state, DESTINATION, address.width, width);
        }
        Strings::Outs => {
            let value = span(state, bus, address, width, Kind::Read)?.load(bus);
            bus.output(port(state), width, value);
            step(state, SOURCE, address.width, width);
        }
    }
    Ok(())
}

fn span(
    state: &State,
    bus: &impl Bus,
    address: &Address,
    width: Width,
    kind: Kind,
) -> Result<Span, Trouble> {
    let offset = address.offset(|index| state.gpr[usize::from(index & 15)], 0);
    Span::new(state, bus, (address.segment, offset), width, kind)
}

fn port(state: &State) -> u16 {
    state.get(Reg::whole(2), Width::Word) as u16
}

/// Moves an index register on by one element.
fn step(state: &mut State, reg: Reg, address: Width, width: Width) {
    let old = state.get(reg, address);
    let new = if state.rflags & rflags::DF == 0 {
        old.wrapping_add(width.bytes())
    } else {
        old.wrapping_sub(width.bytes())
    };
    state.set(reg, address, new);
}
