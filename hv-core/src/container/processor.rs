//! Short ways to the vCPU's processor.

use super::exits::shutdown;
use super::{Cell, Room};
use crate::base::insn::CodeSize;
use crate::hvm::emulate::Exception;
use crate::hvm::processor::{Event, EventKind, Processor, Register, SegmentName, is_big, is_long};
use crate::hvm::walk::{PagingMode, cr0, efer};
use crate::hypercall::Host;
use crate::pv::frame::{GuestFrame, rflags};

const PAGE_FAULT: u8 = 14;
const DOUBLE_FAULT: u8 = 8;
/// #BP, for any exception or interrupt during whose delivery another exception is nothing special.
const BENIGN: u8 = 3;

/// What becomes of an exception that is met while another is delivered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Together {
    /// It is delivered in place of the first.
    Second,
    /// #DF is.
    DoubleFault,
    /// A triple fault.
    Shutdown,
}

/// What comes of two exceptions (AMD APM vol. 2, 8.2.9, table 8-3).
pub(super) const fn together(first: u8, second: u8) -> Together {
    const fn contributory(vector: u8) -> bool {
        matches!(vector, 0 | 10..=13)
    }
    match (first, second) {
        (DOUBLE_FAULT, _) if contributory(second) || second == PAGE_FAULT => Together::Shutdown,
        (PAGE_FAULT, PAGE_FAULT) => Together::DoubleFault,
        _ if contributory(second) && (contributory(first) || first == PAGE_FAULT) => {
            Together::DoubleFault
        }
        _ => Together::Second,
    }
}

/// General registers in the order in which instructions number them.
pub(super) fn gprs(regs: &GuestFrame) -> [u64; 16] {
    [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ]
}

/// Puts such a list back.
pub(super) fn set_gprs(regs: &mut GuestFrame, values: &[u64; 16]) {
    [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8,
        regs.r9, regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ] = *values;
}

impl<H: Host + Room> Cell<'_, H> {
    /// A register as the guest sees it.
    pub(super) fn register(&self, which: Register) -> u64 {
        self.state.processor.read(which)
    }

    /// How the guest's linear addresses are translated now.
    pub(super) fn paging(&self) -> PagingMode {
        self.state.paging(self.regs.rflags)
    }

    /// What code the guest runs.
    pub(super) fn code_size(&self) -> CodeSize {
        let code = self.state.processor.attributes(SegmentName::Cs);
        let protected = self.register(Register::Cr0) & cr0::PE != 0;
        if !protected || self.regs.rflags & rflags::VM != 0 {
            CodeSize::Bits16
        } else if self.register(Register::Efer) & efer::LMA != 0 && is_long(code) {
            CodeSize::Bits64
        } else if is_big(code) {
            CodeSize::Bits32
        } else {
            CodeSize::Bits16
        }
    }

    /// The privilege level at which the guest runs.
    pub(super) fn cpl(&self) -> u8 {
        self.state.processor.cpl()
    }

    /// Passes over an instruction that is done: a single step ends here.
    pub(super) fn advance(&mut self, length: u8) {
        self.pass(length);
        if self.regs.rflags & rflags::TF != 0 {
            self.single_step();
        }
    }

    /// Passes over an instruction. What it held back of interrupts ends with it.
    pub(super) fn pass(&mut self, length: u8) {
        let next = self.regs.rip.wrapping_add(length.into());
        self.regs.rip = match self.code_size() {
            CodeSize::Bits64 => next,
            CodeSize::Bits32 => next & 0xffff_ffff,
            CodeSize::Bits16 => next & 0xffff,
        };
        self.regs.rflags &= !rflags::RF;
        self.state.processor.set_interrupt_shadow(false);
    }

    /// The guest gets the trap that follows each instruction while it asks for that (DR6.BS).
    pub(super) fn single_step(&mut self) {
        let status = self.register(Register::Dr6) | 1 << 14;
        self.state.processor.write(Register::Dr6, status);
        self.state.processor.inject(Event::exception(1, None));
    }

    /// The guest gets an exception in place of what it did, or of the event that it was taking.
    pub(super) fn raise(&mut self, exception: Exception) {
        if let Some(address) = exception.address {
            self.state.processor.write(Register::Cr2, address);
        }
        let first = match self.state.processor.injected() {
            Some(event) if event.kind == EventKind::Exception => event.vector,
            _ => BENIGN,
        };
        let event = match together(first, exception.vector) {
            Together::Second => Event::exception(exception.vector, exception.error),
            Together::DoubleFault => Event::exception(DOUBLE_FAULT, Some(0)),
            Together::Shutdown => return shutdown(self),
        };
        self.state.processor.inject(event);
    }

    /// The same as #GP(0).
    pub(super) fn protection(&mut self) {
        self.raise(Exception::PROTECTION);
    }

    /// The same as #UD.
    pub(super) fn invalid_opcode(&mut self) {
        self.raise(Exception::INVALID_OPCODE);
    }
}
