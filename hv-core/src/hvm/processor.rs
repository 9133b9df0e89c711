//! What one vCPU's hardware container can do, whichever vendor made the processor.
//!
//! The general registers are not in it: they lie in the vCPU's `GuestFrame` (`pv/frame.rs`). Of those that are in both
//! (RIP, RSP, RFLAGS, RAX) **the frame is what counts**: the entry copies them from the frame into the container, and
//! the exit copies them back. So what handles an exit changes the frame.

use crate::base::Mfn;
use crate::pv::frame::GuestFrame;

use super::exit::Exit;

/// One segment register of a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// Attributes as a VMCB packs them (AMD APM vol. 2, 15.5.1): type in bits 0-3, S 4, DPL 5-6, P 7, AVL 8, L 9,
    /// D/B 10, G 11.
    pub attributes: u16,
    /// Limit in bytes: the last offset that is inside.
    pub limit: u32,
    /// Linear address of its first byte.
    pub base: u64,
}

/// Bits of [`Segment::attributes`].
pub mod attribute {
    /// Accessed, in the type of code and data.
    pub const ACCESSED: u16 = 1 << 0;
    /// Code or data, not a system segment.
    pub const S: u16 = 1 << 4;
    /// Where the descriptor's privilege level starts; two bits.
    pub const DPL_SHIFT: u16 = 5;
    /// Present.
    pub const P: u16 = 1 << 7;
    /// 64-bit code.
    pub const L: u16 = 1 << 9;
    /// 32-bit code, stack or big data.
    pub const DB: u16 = 1 << 10;
    /// The limit counts pages.
    pub const G: u16 = 1 << 11;
}

/// Whether these attributes are those of 64-bit code, as long mode understands it.
#[must_use]
pub const fn is_long(attributes: u16) -> bool {
    attributes & attribute::L != 0
}

/// Whether operands and addresses are 32 bits wide by default.
#[must_use]
pub const fn is_big(attributes: u16) -> bool {
    attributes & attribute::DB != 0
}

impl Segment {
    /// The descriptor's privilege level.
    #[must_use]
    pub const fn dpl(&self) -> u8 {
        (self.attributes >> attribute::DPL_SHIFT & 3) as u8
    }

    /// Whether it is 64-bit code, as long mode understands it.
    #[must_use]
    pub const fn is_long(&self) -> bool {
        is_long(self.attributes)
    }

    /// Whether operands and addresses are 32 bits wide by default.
    #[must_use]
    pub const fn is_big(&self) -> bool {
        is_big(self.attributes)
    }
}

/// The segment registers. Of GDTR and IDTR there are base and limit only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum SegmentName {
    Es,
    Cs,
    Ss,
    Ds,
    Fs,
    Gs,
    Ldtr,
    Tr,
    Gdtr,
    Idtr,
}

/// Registers that live in the hardware's control block. CR0, CR4, EFER and PAT are what the guest sees of them, which
/// may be less than what is in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as in the manuals")]
pub enum Register {
    /// As of the last exit; the frame's counts (see the module).
    Rip,
    /// As of the last exit; the frame's counts.
    Rsp,
    /// As of the last exit; the frame's counts.
    Rflags,
    /// As of the last exit; the frame's counts.
    Rax,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    /// LMA is what LME and CR0.PG make it, whatever is written.
    Efer,
    Dr6,
    Dr7,
    Star,
    Lstar,
    Cstar,
    Sfmask,
    KernelGsBase,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    /// Kept for the guest; memory is cached as the nested tables say.
    Pat,
    /// Added to the machine's TSC where the guest reads its own, modulo 2^64.
    TscOffset,
}

/// What an event is to the guest that gets it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// An interrupt from outside.
    Interrupt,
    /// A non-maskable interrupt.
    Nmi,
    /// An exception: a fault is delivered with the rip of the instruction, a trap with that of the next one.
    Exception,
    /// `INT n`; the frame's rip is already that of the next instruction.
    SoftwareInterrupt,
}

/// Something that the guest takes through its IDT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What it is.
    pub kind: EventKind,
    /// Its vector; 2 for an NMI.
    pub vector: u8,
    /// The error code that is pushed.
    pub error: Option<u32>,
}

impl Event {
    /// An interrupt with a vector.
    #[must_use]
    pub const fn interrupt(vector: u8) -> Self {
        Self {
            kind: EventKind::Interrupt,
            vector,
            error: None,
        }
    }

    /// An exception with or without error code.
    #[must_use]
    pub const fn exception(vector: u8, error: Option<u32>) -> Self {
        Self {
            kind: EventKind::Exception,
            vector,
            error,
        }
    }

    /// A non-maskable interrupt.
    #[must_use]
    pub const fn nmi() -> Self {
        Self {
            kind: EventKind::Nmi,
            vector: 2,
            error: None,
        }
    }
}

/// What of a guest's doing leaves the guest at some times and not at others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Intercept {
    /// RDTSC and RDTSCP.
    Rdtsc,
    /// PAUSE in a tight loop; nothing happens where the CPU cannot count.
    Pause,
    /// Reads and writes of all debug registers; on at first.
    DebugRegisters,
    /// Reads and writes of CR3.
    Cr3,
    /// Writes of CR8.
    TaskPriority,
    /// #BP.
    Breakpoint,
    /// #UD.
    InvalidOpcode,
}

/// What one vCPU's hardware container can do. AMD-V implements it over a VMCB, VT-x over a VMCS.
pub trait Processor {
    /// A register as the guest sees it.
    fn read(&self, which: Register) -> u64;

    /// Changes a register as the guest sees it. The caller has checked that the guest may have the value
    /// (`hvm/controls.rs`); translations that it makes wrong are forgotten with the next entry.
    fn write(&mut self, which: Register, value: u64);

    /// A segment register.
    fn segment(&self, which: SegmentName) -> Segment;

    /// The attributes of a segment register alone; not for GDTR and IDTR.
    fn attributes(&self, which: SegmentName) -> u16 {
        self.segment(which).attributes
    }

    /// Changes a segment register. SS takes the privilege level ([`Self::cpl`]) with it: it becomes its DPL.
    fn set_segment(&mut self, which: SegmentName, value: Segment);

    /// The privilege level at which the guest runs.
    fn cpl(&self) -> u8;

    /// Why the last run ended.
    fn exit(&self) -> Exit;

    /// How long the instruction is that ended the last run, where the hardware tells.
    fn instruction_length(&self) -> Option<u8>;

    /// The bytes of the instruction that met a nested fault, where the hardware tells; how many.
    fn instruction_bytes(&self, bytes: &mut [u8; 15]) -> usize;

    /// The event that was being delivered when the guest left, if it is to be given again. An instruction that raises
    /// an event of its own (`INT n`, INT3, INTO) is not told of: it is executed again.
    fn interrupted_delivery(&self) -> Option<Event>;

    /// Gives the guest an event with the next entry, whatever it masks. An NMI masks others.
    fn inject(&mut self, event: Event);

    /// Whether an event waits for the next entry.
    fn injecting(&self) -> bool;

    /// The event that waits for the next entry.
    fn injected(&self) -> Option<Event>;

    /// Whether interrupts wait for the instruction after STI or a load of SS.
    fn interrupt_shadow(&self) -> bool;

    /// Sets or ends that.
    fn set_interrupt_shadow(&mut self, on: bool);

    /// Whether an NMI is being handled: the guest takes no other until its IRET.
    fn nmi_masked(&self) -> bool;

    /// Sets or ends that. See [`Exit::IretDone`] and [`Exit::NmiWindow`].
    fn set_nmi_masked(&mut self, on: bool);

    /// Asks for [`Exit::InterruptWindow`] as soon as the guest can take an interrupt, whatever its task priority; or
    /// takes that back. It stays until taken back.
    fn want_interrupt_window(&mut self, wanted: bool);

    /// Asks for an exit as soon as the guest can take an NMI, whatever RFLAGS say, or takes that back; `false`: the hardware has no such
    /// thing, so an interrupt window has to do.
    fn want_nmi_window(&mut self, _: bool) -> bool {
        false
    }

    /// Sets what the guest reads from CR8, 0 to 15.
    fn set_task_priority(&mut self, cr8: u8);

    /// What the guest wrote to CR8, 0 to 15.
    fn task_priority(&self) -> u8;

    /// The root of the tables that translate the guest's physical addresses.
    fn set_nested_root(&mut self, root: Mfn);

    /// Nothing that the guest's own tables led to is used again. Not for changes of the nested tables, which more
    /// than one CPU may know: those flush the CPUs.
    fn forget_translations(&mut self);

    /// Turns an intercept on or off.
    fn intercept(&mut self, what: Intercept, on: bool);

    /// No event waits for the next entry, and none was being delivered.
    fn forget_events(&mut self);

    /// Puts into the frame what an exit left in the hardware because its handling has no use for it.
    fn complete_frame(&mut self, _: &mut GuestFrame) {}

    /// Whether [`Self::set_directories`] is to come before the next entry: VT-x does not read them by itself where something else
    /// than the guest's own MOV to CR3 has chosen them.
    fn wants_directories(&self) -> bool {
        false
    }

    /// The four entries above PAE's tables, at CR3.
    fn set_directories(&mut self, _: [u64; 4]) {}

    /// Makes the registers what they are after a reset (AMD APM vol. 2, 14.1.3; Intel SDM vol. 3, 10.1.1). Intercepts, offsets
    /// and the nested root stay. The registers of the frame, RIP 0xfff0 among them, are the caller's to set.
    fn reset(&mut self) {
        for (name, value) in after_reset() {
            self.set_segment(name, value);
        }
        for register in ZERO_AFTER_RESET {
            self.write(register, 0);
        }
        self.write(Register::Cr0, RESET_CR0);
        self.write(Register::Rflags, RESET_RFLAGS);
        self.write(Register::Rip, 0xfff0);
        self.write(Register::Dr6, RESET_DR6);
        self.write(Register::Dr7, RESET_DR7);
        self.write(Register::Pat, RESET_PAT);
        self.forget_events();
        self.set_interrupt_shadow(false);
        self.set_nmi_masked(false);
        self.want_interrupt_window(false);
        self.set_task_priority(0);
    }
}

/// Exceptions that every guest leaves for: #DB and #AC, whose delivery can raise themselves without end, and #MC, which is ours.
pub(super) const INTERCEPTED_EXCEPTIONS: u32 = 1 << 1 | 1 << 17 | 1 << 18;

/// All registers.
#[cfg(test)]
pub(crate) const REGISTERS: [Register; 21] = [
    Register::Rip,
    Register::Rsp,
    Register::Rflags,
    Register::Rax,
    Register::Cr0,
    Register::Cr2,
    Register::Cr3,
    Register::Cr4,
    Register::Efer,
    Register::Dr6,
    Register::Dr7,
    Register::Star,
    Register::Lstar,
    Register::Cstar,
    Register::Sfmask,
    Register::KernelGsBase,
    Register::SysenterCs,
    Register::SysenterEsp,
    Register::SysenterEip,
    Register::Pat,
    Register::TscOffset,
];

/// CR0 after a reset: ET alone. A guest's caches are on at once.
const RESET_CR0: u64 = 1 << 4;
/// RFLAGS: the bit that is always set.
const RESET_RFLAGS: u64 = 2;
/// DR6 and DR7 (AMD APM vol. 2, 13.1.1).
const RESET_DR6: u64 = 0xffff_0ff0;
const RESET_DR7: u64 = 0x400;
/// PAT (AMD APM vol. 2, 7.8.2).
pub const RESET_PAT: u64 = 0x0007_0406_0007_0406;

/// Registers that a reset makes zero.
const ZERO_AFTER_RESET: [Register; 14] = [
    Register::Cr2,
    Register::Cr3,
    Register::Cr4,
    Register::Efer,
    Register::Star,
    Register::Lstar,
    Register::Cstar,
    Register::Sfmask,
    Register::KernelGsBase,
    Register::SysenterCs,
    Register::SysenterEsp,
    Register::SysenterEip,
    Register::Rax,
    Register::Rsp,
];

/// The segment registers after a reset.
fn after_reset() -> [(SegmentName, Segment); 10] {
    let code = Segment {
        selector: 0xf000,
        attributes: 0x9b,
        limit: 0xffff,
        base: 0xffff_0000,
    };
    let of = |attributes| Segment {
        attributes,
        limit: 0xffff,
        ..Segment::default()
    };
    [
        (SegmentName::Cs, code),
        (SegmentName::Ds, of(0x93)),
        (SegmentName::Es, of(0x93)),
        (SegmentName::Ss, of(0x93)),
        (SegmentName::Fs, of(0x93)),
        (SegmentName::Gs, of(0x93)),
        (SegmentName::Ldtr, of(0x82)),
        (SegmentName::Tr, of(0x8b)),
        (SegmentName::Gdtr, of(0)),
        (SegmentName::Idtr, of(0)),
    ]
}
