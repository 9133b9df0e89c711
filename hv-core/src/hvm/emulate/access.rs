//! Memory operands: translated, and read and written as one or, over a page's end, byte by byte.

use super::{Bus, Exception, State, Trouble};
use crate::base::PAGE_SIZE;
use crate::base::insn::{CodeSize, Segment, Width};
use crate::hvm::copies::Reason;
use crate::hvm::insn::FetchFault;
use crate::hvm::walk::{Access, Kind, Refused, walk};

/// A translated operand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    width: Width,
    /// Guest physical address of the first byte.
    first: u64,
    /// Bytes in the first page, and the guest physical address of the rest.
    split: Option<(u64, u64)>,
}

impl Span {
    /// Translates the operand at this offset, for accesses of this kind. Nothing has been accessed yet.
    pub(super) fn new(
        state: &State,
        bus: &impl Bus,
        (segment, offset): (Segment, u64),
        width: Width,
        kind: Kind,
    ) -> Result<Self, Trouble> {
        let at = state.linear(segment, offset);
        let first = translate(state, bus, segment, at, kind)?;
        let room = PAGE_SIZE as u64 - at % PAGE_SIZE as u64;
        let split = if room < width.bytes() {
            let mut next = at.wrapping_add(room);
            if state.code != CodeSize::Bits64 {
                next &= 0xffff_ffff;
            }
            Some((room, translate(state, bus, segment, next, kind)?))
        } else {
            None
        };
        Ok(Self {
            width,
            first,
            split,
        })
    }

    pub(super) fn load(&self, bus: &mut impl Bus) -> u64 {
        if self.split.is_none() {
            return bus.read(self.first, self.width) & self.width.mask();
        }
        (0..self.width.bytes()).fold(0, |value, i| {
            let byte = bus.read(self.byte(i), Width::Byte) & 0xff;
            value | byte << (8 * i)
        })
    }

    pub(super) fn store(&self, bus: &mut impl Bus, value: u64) {
        if self.split.is_none() {
            return bus.write(self.first, self.width, value & self.width.mask());
        }
        for i in 0..self.width.bytes() {
            bus.write(self.byte(i), Width::Byte, value >> (8 * i) & 0xff);
        }
    }

    /// Guest physical address of byte `i`.
    const fn byte(&self, i: u64) -> u64 {
        match self.split {
            Some((room, rest)) if i >= room => rest.wrapping_add(i - room),
            _ => self.first.wrapping_add(i),
        }
    }
}

fn translate(
    state: &State,
    bus: &impl Bus,
    segment: Segment,
    at: u64,
    kind: Kind,
) -> Result<u64, Trouble> {
    let mode = crate::hvm::walk::PagingMode {
        rflags: state.rflags,
        ..state.paging
    };
    match walk(bus, &mode, at, Access::at_cpl(kind, state.cpl)) {
        Ok(found) => Ok(found.gpa),
        Err(refused) => Err(trouble(refused, at, segment)),
    }
}

/// What the guest gets for an address that leads nowhere.
const fn trouble(refused: Refused, at: u64, segment: Segment) -> Trouble {
    match refused {
        Refused::Page(fault) => Trouble::Fault(Exception::page_fault(fault.error, at)),
        Refused::NotCanonical => Trouble::Fault(match segment {
            Segment::Ss => Exception::STACK,
            _ => Exception::PROTECTION,
        }),
        Refused::NoMemory { .. } => Trouble::Unsupported,
        Refused::Unsteady => Trouble::Again,
    }
}

/// What the guest gets for code that cannot be fetched to its end.
pub(super) const fn fetch_trouble(fault: &FetchFault) -> Trouble {
    match fault.reason {
        Reason::Refused(refused) => trouble(refused, fault.va, Segment::Cs),
        Reason::End => Trouble::Fault(Exception::PROTECTION),
        Reason::NoMemory { .. } => Trouble::Unsupported,
    }
}
