//! The VMCS as a [`Processor`].

use core::sync::atomic::Ordering;

use crate::base::Mfn;
use crate::hvm::asid::Ticket;
use crate::hvm::controls::{cr0, cr4, efer, stale};
use crate::hvm::exit::Exit;
use crate::hvm::processor::{
    Event, EventKind, Intercept, Processor, Register, Segment, SegmentName, attribute,
};
use crate::pv::frame::{GuestFrame, rflags};

use super::layout::{Field, event, interruptibility};
use super::segments;
use super::{KERNEL_GS, TASK_PRIORITY, Vmcs, exits};
use crate::hvm::vmx_facts::{AtEntry, Primary, Secondary};

/// #BP and #UD in the exception bitmap.
const BP: u64 = 1 << 3;
const UD: u64 = 1 << 6;

/// Where a register is.
enum Place {
    Field(Field),
    /// One of [`super::GUARDED_MSRS`].
    Guarded(usize),
    /// In the shadow, by its own rules.
    Shadow,
}

const fn place(which: Register) -> Place {
    Place::Field(match which {
        Register::Rip => Field::Rip,
        Register::Rsp => Field::Rsp,
        Register::Rflags => Field::Rflags,
        Register::Cr3 => Field::Cr3,
        Register::Dr7 => Field::Dr7,
        Register::SysenterCs => Field::SysenterCs,
        Register::SysenterEsp => Field::SysenterEsp,
        Register::SysenterEip => Field::SysenterEip,
        Register::TscOffset => Field::TscOffset,
        Register::Star => return Place::Guarded(0),
        Register::Lstar => return Place::Guarded(1),
        Register::Cstar => return Place::Guarded(2),
        Register::Sfmask => return Place::Guarded(3),
        Register::KernelGsBase => return Place::Guarded(KERNEL_GS),
        Register::Rax
        | Register::Cr0
        | Register::Cr2
        | Register::Cr4
        | Register::Efer
        | Register::Dr6
        | Register::Pat => return Place::Shadow,
    })
}

/// The privilege level as the rights of CS tell it: that of code that does not conform to its callers'.
const fn level_of_code(rights: u64) -> Option<u8> {
    const CONFORMING: u16 = 1 << 2;
    const CODE: u16 = 1 << 3;
    let attributes = segments::attributes(rights);
    if attributes & (CODE | CONFORMING) != CODE {
        return None;
    }
    Some((attributes >> attribute::DPL_SHIFT & 3) as u8)
}

impl Processor for Vmcs {
    #[inline(never)]
    fn read(&self, which: Register) -> u64 {
        match place(which) {
            Place::Field(field) => self.fields.get(field),
            // SWAPGS changes it.
            Place::Guarded(KERNEL_GS) if self.loaded => {
                self.common.ports.read_msr(super::GUARDED_MSRS[KERNEL_GS])
            }
            Place::Guarded(index) => self.shadow.guarded[index],
            Place::Shadow => match which {
                Register::Cr0 => self.shadow.cr0,
                Register::Cr2 => self.shadow.cr2,
                Register::Cr4 => self.shadow.cr4,
                Register::Efer => self.shadow.efer | self.long_mode_active(),
                Register::Dr6 => self.shadow.dr6,
                Register::Pat => self.shadow.pat,
                _ => self.shadow.rax,
            },
        }
    }

    #[inline(never)]
    fn write(&mut self, which: Register, value: u64) {
        match place(which) {
            Place::Field(field) => {
                self.fields.set(field, value);
                match which {
                    Register::Cr3 => {
                        self.directories_are_stale = true;
                        self.forget_translations();
                    }
                    // No processor enters a guest behind STI whose interrupts are off.
                    Register::Rflags if value & rflags::IF == 0 => {
                        let held = interruptibility::STI;
                        self.fields.switch(Field::Interruptibility, held, false);
                    }
                    _ => {}
                }
            }
            Place::Guarded(index) => {
                self.shadow.guarded[index] = value;
                if self.loaded {
                    self.common
                        .ports
                        .write_msr(super::GUARDED_MSRS[index], value);
                }
            }
            Place::Shadow => match which {
                Register::Cr0 => self.write_cr0(value),
                Register::Cr2 => self.shadow.cr2 = value,
                Register::Cr4 => self.write_cr4(value),
                Register::Efer => self.write_efer(value),
                Register::Dr6 => self.shadow.dr6 = value,
                Register::Pat => self.shadow.pat = value,
                _ => self.shadow.rax = value,
            },
        }
    }

    #[inline(never)]
    fn segment(&self, which: SegmentName) -> Segment {
        let f = &self.fields;
        let place = segments::place(which);
        let (selector, attributes) = match place.described {
            Some((selector, rights)) => {
                (f.get(selector) as u16, segments::attributes(f.get(rights)))
            }
            None => (0, 0),
        };
        Segment {
            selector,
            attributes,
            limit: f.get(place.limit) as u32,
            base: f.get(place.base),
        }
    }

    fn attributes(&self, which: SegmentName) -> u16 {
        segments::place(which).described.map_or(0, |(_, rights)| {
            segments::attributes(self.fields.get(rights))
        })
    }

    #[inline(never)]
    fn set_segment(&mut self, which: SegmentName, value: Segment) {
        let f = &self.fields;
        let place = segments::place(which);
        let value = segments::conform(which, value);
        if let Some((selector, rights)) = place.described {
            f.set(selector, value.selector.into());
            f.set(rights, segments::rights(value.attributes));
        }
        f.set(place.limit, value.limit.into());
        f.set(place.base, value.base);
    }

    fn cpl(&self) -> u8 {
        let code = self.fields.get(Field::CsRights);
        level_of_code(code)
            .unwrap_or_else(|| (self.attributes(SegmentName::Ss) >> attribute::DPL_SHIFT & 3) as u8)
    }

    fn exit(&self) -> Exit {
        self.exit
    }

    #[inline(never)]
    fn instruction_length(&self) -> Option<u8> {
        exits::instruction_length(&self.exit, |field| self.fields.get(field))
    }

    fn instruction_bytes(&self, _: &mut [u8; 15]) -> usize {
        0
    }

    #[inline(never)]
    fn interrupted_delivery(&self) -> Option<Event> {
        // Others come between instructions, or instead of one: nothing was being delivered.
        let possible = matches!(
            self.exit,
            Exit::Exception { .. }
                | Exit::NestedFault { .. }
                | Exit::TaskSwitch
                | Exit::Unknown { .. }
        );
        if !possible {
            return None;
        }
        let given = self.fields.get(Field::VectoringEvent);
        let error = if given & event::HAS_ERROR != 0 {
            self.fields.get(Field::VectoringErrorCode)
        } else {
            0
        };
        exits::interrupted(given, error)
    }

    #[inline(never)]
    fn inject(&mut self, event: Event) {
        self.event = Some(event);
        if event.kind == EventKind::Nmi {
            // The entry masks others by itself, and takes none while they are masked.
            let nmi = interruptibility::NMI;
            self.fields.switch(Field::Interruptibility, nmi, false);
            self.watch_for_iret(true);
        }
    }

    fn injecting(&self) -> bool {
        self.event.is_some()
    }

    fn injected(&self) -> Option<Event> {
        self.event
    }

    fn interrupt_shadow(&self) -> bool {
        let held = interruptibility::STI | interruptibility::MOV_SS;
        !self.shadow_ended && self.fields.get(Field::Interruptibility) & held != 0
    }

    fn set_interrupt_shadow(&mut self, on: bool) {
        self.shadow_ended = !on;
        if on {
            let held = interruptibility::MOV_SS;
            self.fields.switch(Field::Interruptibility, held, true);
        }
    }

    fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    fn set_nmi_masked(&mut self, on: bool) {
        let nmi = interruptibility::NMI;
        self.fields.switch(Field::Interruptibility, nmi, on);
        self.watch_for_iret(on);
    }

    fn want_interrupt_window(&mut self, wanted: bool) {
        self.primary(Primary::INTERRUPT_WINDOW_EXITING, wanted);
    }

    fn want_nmi_window(&mut self, wanted: bool) -> bool {
        self.primary(Primary::NMI_WINDOW_EXITING, wanted || self.nmi_masked);
        true
    }

    fn set_task_priority(&mut self, cr8: u8) {
        match self.task {
            Some((_, words)) => {
                words[TASK_PRIORITY].store(u64::from(cr8 & 0xf) << 4, Ordering::Relaxed);
            }
            None => self.priority = cr8 & 0xf,
        }
    }

    fn task_priority(&self) -> u8 {
        match self.task {
            Some((_, words)) => (words[TASK_PRIORITY].load(Ordering::Relaxed) >> 4) as u8 & 0xf,
            None => self.priority,
        }
    }

    fn set_nested_root(&mut self, root: Mfn) {
        self.fields.set(Field::EptPointer, super::eptp(root));
        self.forget_translations();
    }

    fn forget_translations(&mut self) {
        // A new tag.
        self.ticket = Ticket::default();
    }

    fn intercept(&mut self, what: Intercept, on: bool) {
        match what {
            Intercept::Rdtsc => self.primary(Primary::RDTSC_EXITING, on),
            Intercept::Pause => {
                let loops = Secondary::PAUSE_LOOP_EXITING;
                let on = on && self.has(loops);
                self.fields
                    .switch(Field::SecondaryControls, loops.bits().into(), on);
            }
            Intercept::DebugRegisters => self.primary(Primary::MOV_DR_EXITING, on),
            Intercept::Cr3 => {
                self.primary(Primary::CR3_LOAD_EXITING | Primary::CR3_STORE_EXITING, on)
            }
            // Without a virtual APIC's page it is so always.
            Intercept::TaskPriority => {
                self.primary(Primary::CR8_LOAD_EXITING, on || self.task.is_none());
            }
            Intercept::Breakpoint => self.fields.switch(Field::ExceptionBitmap, BP, on),
            Intercept::InvalidOpcode => self.fields.switch(Field::ExceptionBitmap, UD, on),
        }
    }

    fn forget_events(&mut self) {
        self.event = None;
        self.exit = Exit::Interrupt;
    }

    fn complete_frame(&mut self, regs: &mut GuestFrame) {
        if core::mem::take(&mut self.rsp_is_left) {
            regs.rsp = self.fields.get(Field::Rsp);
        }
    }

    fn wants_directories(&self) -> bool {
        let legacy = self.shadow.cr0 & cr0::PG != 0
            && self.shadow.cr4 & cr4::PAE != 0
            && self.long_mode_active() == 0;
        self.directories_are_stale && legacy
    }

    fn set_directories(&mut self, entries: [u64; 4]) {
        self.directories_are_stale = false;
        for (field, entry) in [Field::Pdpte0, Field::Pdpte1, Field::Pdpte2, Field::Pdpte3]
            .into_iter()
            .zip(entries)
        {
            self.fields.set(field, entry);
        }
    }
}

impl Vmcs {
    fn primary(&self, what: Primary, on: bool) {
        let bits = what.bits().into();
        self.fields.switch(Field::PrimaryControls, bits, on);
    }

    /// While an NMI is handled the guest leaves at the IRET that ends that.
    fn watch_for_iret(&mut self, on: bool) {
        self.nmi_masked = on;
        self.primary(Primary::NMI_WINDOW_EXITING, on);
    }

    fn write_cr0(&mut self, value: u64) {
        let changed = self.shadow.cr0 ^ value;
        self.shadow.cr0 = value;
        let in_force = self.common.facts.cr0_in_force(value & !(cr0::CD | cr0::NW));
        self.fields.set(Field::Cr0Shadow, value);
        self.fields.set(Field::Cr0, in_force);
        self.put_efer();
        self.directories_are_stale |= changed & cr0::PG != 0;
        if changed & stale::CR0 != 0 {
            self.forget_translations();
        }
    }

    fn write_cr4(&mut self, value: u64) {
        let changed = self.shadow.cr4 ^ value;
        self.shadow.cr4 = value;
        let in_force = self.common.facts.cr4_in_force(value | cr4::MCE);
        self.fields.set(Field::Cr4Shadow, value);
        self.fields.set(Field::Cr4, in_force);
        self.directories_are_stale |= changed & stale::CR4 != 0;
        if changed & stale::CR4 != 0 {
            self.forget_translations();
        }
    }

    fn write_efer(&mut self, value: u64) {
        let changed = self.shadow.efer ^ value;
        self.shadow.efer = value & !efer::LMA;
        self.put_efer();
        self.directories_are_stale |= changed & efer::LME != 0;
        if changed & stale::EFER != 0 {
            self.forget_translations();
        }
    }

    fn put_efer(&mut self) {
        let active = self.long_mode_active();
        self.fields.set(Field::Efer, self.shadow.efer | active);
        let long: u64 = AtEntry::LONG_MODE_GUEST.bits().into();
        let was_long = self.fields.get(Field::EntryControls) & long != 0;
        if active != 0 && !was_long {
            // A task that a legacy mode left there is one of 64 bits now.
            let task = segments::long_task(self.segment(SegmentName::Tr));
            self.set_segment(SegmentName::Tr, task);
        }
        self.fields.switch(Field::EntryControls, long, active != 0);
    }
}
