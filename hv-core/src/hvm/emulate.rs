//! Instructions that access registers of devices: decoded, and done for the guest.
//!
//! A nested page fault at the page of the local APIC or the I/O APIC leaves an instruction to be emulated, and so does a
//! string instruction to a port. Those are known that compilers emit for memory: moves with and without extension,
//! exchanges, arithmetic, bit operations and the string instructions MOVS, STOS and LODS, with INS and OUTS beside them
//! (AMD APM vol. 3). Everything else is [`Outcome::Unsupported`]: the caller names the bytes, and the guest gets #UD.
//! Whether a port may be used the processor has checked before it left the container.
//!
//! Operands are translated by the guest's own tables ([`walk`](super::walk::walk)) and reached through a [`Bus`], which
//! knows RAM and devices: an instruction may have an operand of each, and the code may have changed since it
//! left the container. Segment limits are not checked: the processor did before the nested fault. LOCK is accepted where
//! the processor accepts it, and not needed: nobody else drives a vCPU's registers meanwhile.

use super::insn::InsnBytes;
use super::walk::{GuestPhysical, PagingMode};
use crate::base::insn::{CodeSize, Failure, Reg, Segment, Width};

mod access;
mod decode;
mod execute;
mod strings;
#[cfg(test)]
mod tests;

/// RFLAGS bits that matter here, beyond those of arithmetic.
mod rflags {
    /// Single step.
    pub const TF: u64 = 1 << 8;
    /// String instructions go down.
    pub const DF: u64 = 1 << 10;
    /// Breakpoints of instructions are passed over once.
    pub const RF: u64 = 1 << 16;
}

/// Guest physical addresses as the emulator accesses them. An access never crosses a page.
pub trait Bus: GuestPhysical {
    /// Reads; all ones where nothing answers.
    fn read(&mut self, gpa: u64, width: Width) -> u64;

    /// Writes the lowest bits of `value`; dropped where nothing answers.
    fn write(&mut self, gpa: u64, width: Width, value: u64);

    /// Reads a port; all ones where nothing answers.
    fn input(&mut self, port: u16, width: Width) -> u64;

    /// Writes to a port; dropped where nothing answers.
    fn output(&mut self, port: u16, width: Width, value: u64);
}

/// The registers of the vCPU that an instruction can use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// General registers by their number in instructions: RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub gpr: [u64; 16],
    /// Address of the instruction in CS.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Kind of the code segment.
    pub code: CodeSize,
    /// Current privilege level.
    pub cpl: u8,
    /// Segment bases by their number in instructions: ES, CS, SS, DS, FS, GS.
    pub bases: [u64; 6],
    /// How addresses are translated.
    pub paging: PagingMode,
}

impl State {
    /// The linear address of an offset in a segment. Only FS and GS have bases in 64-bit code.
    #[must_use]
    pub const fn linear(&self, segment: Segment, offset: u64) -> u64 {
        let base = self.bases[segment as usize];
        match (self.code, segment) {
            (CodeSize::Bits64, Segment::Fs | Segment::Gs) => base.wrapping_add(offset),
            (CodeSize::Bits64, _) => offset,
            _ => base.wrapping_add(offset) & 0xffff_ffff,
        }
    }

    /// Where the instruction is to be fetched from.
    #[must_use]
    pub const fn code_address(&self) -> u64 {
        self.linear(Segment::Cs, self.rip)
    }

    /// The instruction pointer after so many bytes.
    #[must_use]
    pub const fn next_rip(&self, length: u8) -> u64 {
        let next = self.rip.wrapping_add(length as u64);
        match self.code {
            CodeSize::Bits16 => next & 0xffff,
            CodeSize::Bits32 => next & 0xffff_ffff,
            CodeSize::Bits64 => next,
        }
    }

    fn get(&self, reg: Reg, width: Width) -> u64 {
        reg.cut(self.gpr[usize::from(reg.index & 15)], width)
    }

    fn set(&mut self, reg: Reg, width: Width, value: u64) {
        let whole = &mut self.gpr[usize::from(reg.index & 15)];
        *whole = reg.merge(*whole, width, value);
    }
}

/// An exception for the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// Error code.
    pub error: Option<u32>,
    /// What CR2 becomes.
    pub address: Option<u64>,
}

impl Exception {
    /// #UD.
    pub const INVALID_OPCODE: Self = Self {
        vector: 6,
        error: None,
        address: None,
    };
    /// #SS(0).
    pub const STACK: Self = Self {
        vector: 12,
        error: Some(0),
        address: None,
    };
    /// #GP(0).
    pub const PROTECTION: Self = Self {
        vector: 13,
        error: Some(0),
        address: None,
    };

    /// #PF at a linear address.
    #[must_use]
    pub const fn page_fault(error: u32, address: u64) -> Self {
        Self {
            vector: 14,
            error: Some(error),
            address: Some(address),
        }
    }
}

/// What came of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Done; the state is that after it, the interrupt shadow is over.
    Done {
        /// A single-step trap (#DB with DR6.BS) is due.
        trap: bool,
    },
    /// The guest is to run it again: it is repeated and not at its end (the state says how far it came), or the guest's
    /// page tables kept changing.
    Again,
    /// It faults. What a repeated instruction did before is in the state.
    Fault(Exception),
    /// None of the instructions known here, or its operand is no memory.
    Unsupported,
}

/// Why an instruction did not come to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    Fault(Exception),
    Again,
    Unsupported,
}

/// Does the instruction in `bytes`, which stand at the state's instruction pointer.
///
/// At most some tens of elements of a repeated string instruction are done at once.
pub fn emulate(bytes: &InsnBytes, state: &mut State, bus: &mut impl Bus) -> Outcome {
    let insn = match decode::decode(bytes.as_slice(), state.code) {
        Ok(insn) => insn,
        Err(Failure::NotOurs) => return Outcome::Unsupported,
        Err(Failure::TooShort) => {
            return match bytes.fault() {
                Some(fault) => access::fetch_trouble(&fault).into(),
                None => Outcome::Unsupported,
            };
        }
    };
    match execute::execute(&insn, state, bus) {
        Ok(execute::End::Whole) => {
            state.rip = state.next_rip(insn.length);
            state.rflags &= !rflags::RF;
            Outcome::Done {
                trap: state.rflags & rflags::TF != 0,
            }
        }
        Ok(execute::End::Repeats) => {
            state.rflags |= rflags::RF;
            Outcome::Again
        }
        Err(trouble) => trouble.into(),
    }
}

impl From<Trouble> for Outcome {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Fault(exception) => Self::Fault(exception),
            Trouble::Again => Self::Again,
            Trouble::Unsupported => Self::Unsupported,
        }
    }
}
