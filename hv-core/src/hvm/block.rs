//! The control block of a vCPU: that of the machine's processors.
//!
//! All blocks of a machine are of one kind, so the choice in each call here is always the same one.

use super::exit::Exit;
use super::processor::{Event, Intercept, Processor, Register, Segment, SegmentName};
use super::vmcb::Vmcb;
use super::vmcs::Vmcs;
use crate::base::Mfn;
use crate::pv::frame::GuestFrame;

/// A control block.
#[allow(
    clippy::large_enum_variant,
    reason = "1 KiB beside the FPU image of each vCPU; a box of its own could fail to be made"
)]
pub enum Block {
    /// AMD's.
    Vmcb(Vmcb),
    /// Intel's.
    Vmcs(Vmcs),
}

impl From<Vmcb> for Block {
    fn from(block: Vmcb) -> Self {
        Self::Vmcb(block)
    }
}

impl From<Vmcs> for Block {
    fn from(block: Vmcs) -> Self {
        Self::Vmcs(block)
    }
}

impl Block {
    /// The pages that it is made of, which go when the vCPU does.
    pub fn pages(&self) -> impl Iterator<Item = Mfn> + use<> {
        let (first, second) = match self {
            Self::Vmcb(block) => (block.mfn(), None),
            Self::Vmcs(block) => (block.mfn(), block.task_page()),
        };
        core::iter::once(first).chain(second)
    }
}

/// Each method is that of the block. Inlined, so that a register that is named costs no search for its place in a VMCB.
macro_rules! delegate {
    ($(fn $name:ident(&self $(, $argument:ident: $type:ty)*) $(-> $result:ty)?;)*
     mut $(fn $changes:ident(&mut self $(, $given:ident: $kind:ty)*);)*) => {
        $(#[inline(always)]
        fn $name(&self $(, $argument: $type)*) $(-> $result)? {
            match self {
                Self::Vmcb(block) => block.$name($($argument),*),
                Self::Vmcs(block) => block.$name($($argument),*),
            }
        })*
        $(#[inline(always)]
        fn $changes(&mut self $(, $given: $kind)*) {
            match self {
                Self::Vmcb(block) => block.$changes($($given),*),
                Self::Vmcs(block) => block.$changes($($given),*),
            }
        })*
    };
}

impl Processor for Block {
    fn want_nmi_window(&mut self, wanted: bool) -> bool {
        match self {
            Self::Vmcb(block) => block.want_nmi_window(wanted),
            Self::Vmcs(block) => block.want_nmi_window(wanted),
        }
    }

    delegate! {
        fn read(&self, which: Register) -> u64;
        fn segment(&self, which: SegmentName) -> Segment;
        fn attributes(&self, which: SegmentName) -> u16;
        fn cpl(&self) -> u8;
        fn exit(&self) -> Exit;
        fn instruction_length(&self) -> Option<u8>;
        fn instruction_bytes(&self, bytes: &mut [u8; 15]) -> usize;
        fn interrupted_delivery(&self) -> Option<Event>;
        fn injecting(&self) -> bool;
        fn injected(&self) -> Option<Event>;
        fn interrupt_shadow(&self) -> bool;
        fn nmi_masked(&self) -> bool;
        fn task_priority(&self) -> u8;
        fn wants_directories(&self) -> bool;
        mut
        fn write(&mut self, which: Register, value: u64);
        fn set_segment(&mut self, which: SegmentName, value: Segment);
        fn inject(&mut self, event: Event);
        fn set_interrupt_shadow(&mut self, on: bool);
        fn set_nmi_masked(&mut self, on: bool);
        fn want_interrupt_window(&mut self, wanted: bool);
        fn set_task_priority(&mut self, cr8: u8);
        fn set_nested_root(&mut self, root: Mfn);
        fn forget_translations(&mut self);
        fn intercept(&mut self, what: Intercept, on: bool);
        fn forget_events(&mut self);
        fn complete_frame(&mut self, regs: &mut GuestFrame);
        fn set_directories(&mut self, entries: [u64; 4]);
    }
}
