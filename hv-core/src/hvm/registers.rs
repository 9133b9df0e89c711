//! A vCPU's registers as tools or a kernel give them, checked before they become those of a container: so that the hardware
//! takes them (AMD APM vol. 2, 15.5.1, "Canonicalization and Consistency Checks"; Intel SDM vol. 3, 27.3.1), and a kernel
//! could have had them. What one register alone can be is made so by whoever needs it (`vmcs/segments.rs`).

use super::controls::{Controls, cr0};
use super::processor::{Processor, Register, Segment, SegmentName, attribute};
use super::state::HvmState;
use crate::base::GuestVa;
use crate::cpuid::Policy;
use crate::pv::frame::{GuestFrame, rflags};

/// Bits of RFLAGS that can be set (AMD APM vol. 1, 3.1.4).
pub(super) const FLAGS: u64 = 0x003f_7fd7;
/// Bits of DR6 and DR7 that are always set, and that can be (AMD APM vol. 2, 13.1.1).
const DR6_FIXED: u64 = 0xffff_0ff0;
const DR6_BITS: u64 = 0xffff_eff8 | 7;
const DR7_FIXED: u64 = 1 << 10;
const DR7_BITS: u64 = 0xffff_23ff | DR7_FIXED;
/// Bits of a segment's attributes.
const ATTRIBUTES: u16 = 0xfff;

/// The segment registers that have a selector, in the order of [`Registers::segments`].
pub const SEGMENTS: [SegmentName; 8] = [
    SegmentName::Cs,
    SegmentName::Ds,
    SegmentName::Es,
    SegmentName::Fs,
    SegmentName::Gs,
    SegmentName::Ss,
    SegmentName::Tr,
    SegmentName::Ldtr,
];

/// Where a register stands in [`SEGMENTS`]; those of code and data come first.
const CS: usize = 0;
const SS: usize = 5;
const ORDINARY: usize = 6;

/// In a selector: of the local table.
const LOCAL: u16 = 1 << 2;
/// Types of segments (AMD APM vol. 2, 4.7).
const TYPE: u16 = 0xf;
const CODE: u16 = 1 << 3;
const CONFORMING_CODE: u16 = CODE | 1 << 2;
const BUSY_TASK: u16 = 0xb;
/// What all segments are in virtual 8086 mode: writable data of level 3.
const ATTRIBUTES_8086: u16 = 0xf3;
const LIMIT_8086: u32 = 0xffff;

/// Registers that were not checked.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    /// General registers, rip, rsp and rflags.
    pub regs: GuestFrame,
    /// Control registers.
    pub controls: Controls,
    /// CR2.
    pub cr2: u64,
    /// DR0 to DR3.
    pub debug: [u64; 4],
    /// DR6 and DR7.
    pub status: [u64; 2],
    /// Those of [`SEGMENTS`].
    pub segments: [Segment; 8],
    /// GDTR and IDTR: base and limit.
    pub tables: [Segment; 2],
}

impl Registers {
    /// Whether a vCPU with this policy can have them. Bits that are always set are set, whatever was given.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn check(&mut self, policy: &Policy) -> Result<(), &'static str> {
        if !self.controls.are_possible(policy) {
            return Err("control registers that it cannot have");
        }
        self.check_flags()?;
        self.check_debug()?;
        for (name, segment) in SEGMENTS.iter().zip(&self.segments) {
            check_segment(*name, segment)?;
        }
        self.check_level()?;
        self.check_system()?;
        let code = &self.segments[CS];
        let long = self.controls.long_mode();
        if long && code.is_long() && code.is_big() {
            return Err("a code segment of 64 and of 32 bits");
        }
        if long && code.is_long() && !GuestVa(self.regs.rip).is_canonical() {
            return Err("rip is not canonical");
        }
        if !(long && code.is_long()) && self.regs.rip >> 32 != 0 {
            return Err("rip is beyond 4 GiB outside of 64-bit code");
        }
        for table in &self.tables {
            if !GuestVa(table.base).is_canonical() || table.limit > 0xffff {
                return Err("a descriptor table that cannot be");
            }
        }
        Ok(())
    }

    fn check_flags(&mut self) -> Result<(), &'static str> {
        let flags = &mut self.regs.rflags;
        *flags |= rflags::FIXED;
        if *flags & !FLAGS != 0 {
            return Err("reserved bits of rflags");
        }
        let protected = self.controls.cr0 & cr0::PE != 0;
        if *flags & rflags::VM != 0 && (self.controls.long_mode() || !protected) {
            return Err("virtual 8086 mode in a mode that has none");
        }
        Ok(())
    }

    fn check_debug(&mut self) -> Result<(), &'static str> {
        let [dr6, dr7] = &mut self.status;
        *dr6 |= DR6_FIXED;
        *dr7 |= DR7_FIXED;
        if *dr6 & !DR6_BITS != 0 || *dr7 & !DR7_BITS != 0 {
            return Err("reserved bits of debug registers");
        }
        Ok(())
    }

    /// The privilege level is SS's; modes that have one level only have that. Code is of that level, unless it conforms to
    /// less privileged callers.
    fn check_level(&mut self) -> Result<(), &'static str> {
        let level = self.segments[SS].dpl();
        let protected = self.controls.cr0 & cr0::PE != 0;
        let only = if !protected {
            Some(0)
        } else if self.regs.rflags & rflags::VM != 0 {
            Some(3)
        } else {
            None
        };
        if only.is_some_and(|only| only != level) {
            return Err("a privilege level that the mode does not have");
        }
        if self.regs.rflags & rflags::VM != 0 {
            return self.check_8086();
        }
        let code = &self.segments[CS];
        if code.attributes & CODE == 0 && level != 0 {
            return Err("data in CS, of an unprivileged level");
        }
        let conforming = code.attributes & CONFORMING_CODE == CONFORMING_CODE;
        let fits = if conforming {
            code.dpl() <= level
        } else {
            code.dpl() == level
        };
        if !fits {
            return Err("a code segment of another privilege level");
        }
        Ok(())
    }

    /// Virtual 8086 mode knows no descriptors. What follows from the mode is made so, whatever was given.
    fn check_8086(&mut self) -> Result<(), &'static str> {
        for segment in &mut self.segments[..ORDINARY] {
            if segment.base != u64::from(segment.selector) << 4 {
                return Err("a segment base that virtual 8086 mode does not have");
            }
            (segment.attributes, segment.limit) = (ATTRIBUTES_8086, LIMIT_8086);
        }
        Ok(())
    }

    /// TR and LDTR are of the global table. Whatever task long mode finds in TR is one of 64 bits there.
    fn check_system(&mut self) -> Result<(), &'static str> {
        let is_local = |segment: &Segment| segment.selector & LOCAL != 0;
        let [.., task, table] = &mut self.segments;
        // There is a task always.
        if is_local(task) || is_local(table) && table.attributes & attribute::P != 0 {
            return Err("a system segment of the local table");
        }
        if self.controls.long_mode() && task.attributes & attribute::P != 0 {
            task.attributes = task.attributes & !TYPE | BUSY_TASK;
        }
        Ok(())
    }

    /// Makes them the vCPU's. They passed [`Self::check`].
    pub fn put(&self, state: &mut HvmState) {
        state.regs = self.regs;
        state.debug = self.debug;
        let processor = &mut state.processor;
        let Controls {
            cr0,
            cr3,
            cr4,
            efer,
        } = self.controls;
        let [dr6, dr7] = self.status;
        for (register, value) in [
            (Register::Cr4, cr4),
            (Register::Efer, efer),
            (Register::Cr0, cr0),
            (Register::Cr3, cr3),
            (Register::Cr2, self.cr2),
            (Register::Dr6, dr6),
            (Register::Dr7, dr7),
            (Register::Rip, self.regs.rip),
            (Register::Rsp, self.regs.rsp),
            (Register::Rflags, self.regs.rflags),
            (Register::Rax, self.regs.rax),
        ] {
            processor.write(register, value);
        }
        for (name, segment) in SEGMENTS.iter().zip(&self.segments) {
            processor.set_segment(*name, *segment);
        }
        let names = [SegmentName::Gdtr, SegmentName::Idtr];
        for (name, table) in names.iter().zip(&self.tables) {
            processor.set_segment(*name, *table);
        }
    }

    /// Those of a vCPU at rest.
    #[must_use]
    pub fn of(state: &HvmState) -> Self {
        let processor = &state.processor;
        let read = |register| processor.read(register);
        Self {
            regs: state.regs,
            controls: Controls {
                cr0: read(Register::Cr0),
                cr3: read(Register::Cr3),
                cr4: read(Register::Cr4),
                efer: read(Register::Efer),
            },
            cr2: read(Register::Cr2),
            debug: state.debug,
            status: [read(Register::Dr6), read(Register::Dr7)],
            segments: SEGMENTS.map(|name| processor.segment(name)),
            tables: [SegmentName::Gdtr, SegmentName::Idtr].map(|name| processor.segment(name)),
        }
    }
}

/// What can be in a segment register, whatever the mode.
fn check_segment(name: SegmentName, segment: &Segment) -> Result<(), &'static str> {
    if segment.attributes & !ATTRIBUTES != 0 {
        return Err("reserved bits of segment attributes");
    }
    let wide = matches!(
        name,
        SegmentName::Fs | SegmentName::Gs | SegmentName::Tr | SegmentName::Ldtr
    );
    let fits = if wide {
        GuestVa(segment.base).is_canonical()
    } else {
        segment.base >> 32 == 0
    };
    if !fits {
        return Err("a segment base that cannot be");
    }
    let system = matches!(name, SegmentName::Tr | SegmentName::Ldtr);
    let present = segment.attributes & attribute::P != 0;
    if present && system && segment.attributes & attribute::S != 0 {
        return Err("code or data where a system segment is to be");
    }
    Ok(())
}
