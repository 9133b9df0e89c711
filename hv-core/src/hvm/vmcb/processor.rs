//! The VMCB as a [`Processor`].

use crate::base::Mfn;
use crate::hvm::asid::Ticket;
use crate::hvm::exit::Exit;
use crate::hvm::processor::{
    Event, EventKind, Intercept, Processor, Register, Segment, SegmentName, attribute,
};
use crate::hvm::svm_facts::Features;

use super::exits;
use super::layout::{CPL_SHIFT, clean, control, event, fourth, interrupt, save, third, tlb};
use super::{PAUSE_COUNT, PAUSE_THRESHOLD, Vmcb, place, segment_place};

/// Vectors of INT3 and INTO, which are told of as exceptions.
const BREAKPOINT: u8 = 3;
const OVERFLOW: u8 = 4;
/// CR3's number, and all sixteen debug registers.
const CR3: u32 = 1 << 3;
/// CR8, likewise.
const CR8: u32 = 1 << 8;
const ALL: u32 = 0xffff_ffff;
/// #BP and #UD.
const BP: u32 = 1 << 3;
const UD: u32 = 1 << 6;

fn encode(event: Event) -> u64 {
    let kind = match event.kind {
        EventKind::Interrupt => event::INTERRUPT,
        EventKind::Nmi => event::NMI,
        EventKind::Exception => event::EXCEPTION,
        EventKind::SoftwareInterrupt => event::SOFTWARE,
    };
    let error = event.error.map_or(0, |code| {
        event::HAS_ERROR | u64::from(code) << event::ERROR_SHIFT
    });
    event::VALID | u64::from(event.vector) | kind << event::KIND_SHIFT | error
}

fn decode(raw: u64) -> Option<Event> {
    if raw & event::VALID == 0 {
        return None;
    }
    let kind = match raw >> event::KIND_SHIFT & 7 {
        event::INTERRUPT => EventKind::Interrupt,
        event::NMI => EventKind::Nmi,
        event::EXCEPTION => EventKind::Exception,
        event::SOFTWARE => EventKind::SoftwareInterrupt,
        _ => return None,
    };
    Some(Event {
        kind,
        vector: (raw & event::VECTOR) as u8,
        error: (raw & event::HAS_ERROR != 0).then_some((raw >> event::ERROR_SHIFT) as u32),
    })
}

impl Processor for Vmcb {
    #[inline]
    fn read(&self, which: Register) -> u64 {
        match which {
            Register::Cr0 => self.shadow.cr0,
            Register::Cr4 => self.shadow.cr4,
            Register::Efer => self.shadow.efer | self.long_mode_active(),
            Register::Pat => self.shadow.pat,
            _ => self.page.get(place(which).0),
        }
    }

    #[inline]
    fn write(&mut self, which: Register, value: u64) {
        match which {
            Register::Cr0 => self.write_cr0(value),
            Register::Cr4 => self.write_cr4(value),
            Register::Efer => self.write_efer(value),
            Register::Pat => self.shadow.pat = value,
            _ => {
                let (offset, group) = place(which);
                self.page.set(offset, value);
                self.spoil(group);
                if which == Register::Cr3 {
                    self.forget_translations();
                }
            }
        }
    }

    #[inline]
    fn segment(&self, which: SegmentName) -> Segment {
        let (offset, _) = segment_place(which);
        let first = self.page.get(offset);
        let mut segment = Segment {
            selector: first as u16,
            attributes: (first >> 16) as u16 & 0xfff,
            limit: (first >> 32) as u32,
            base: self.page.get(offset + 8),
        };
        if which == SegmentName::Ss {
            // SYSRET leaves the attributes of SS as they were: CPL alone is right.
            segment.attributes &= !(3 << attribute::DPL_SHIFT);
            segment.attributes |= u16::from(self.cpl()) << attribute::DPL_SHIFT;
        }
        segment
    }

    fn attributes(&self, which: SegmentName) -> u16 {
        match which {
            SegmentName::Ss => self.segment(which).attributes,
            _ => (self.page.get(segment_place(which).0) >> 16) as u16 & 0xfff,
        }
    }

    fn set_segment(&mut self, which: SegmentName, value: Segment) {
        let (offset, group) = segment_place(which);
        let first = u64::from(value.selector)
            | u64::from(value.attributes & 0xfff) << 16
            | u64::from(value.limit) << 32;
        self.page.set(offset, first);
        self.page.set(offset + 8, value.base);
        self.spoil(group);
        if which == SegmentName::Ss {
            let rest = self.page.get(save::CPL_WORD) & !(0xff << CPL_SHIFT);
            self.page
                .set(save::CPL_WORD, rest | u64::from(value.dpl()) << CPL_SHIFT);
        }
    }

    fn cpl(&self) -> u8 {
        (self.page.get(save::CPL_WORD) >> CPL_SHIFT) as u8 & 3
    }

    fn exit(&self) -> Exit {
        let assists = if self.features.contains(Features::DECODE_ASSISTS) {
            exits::Assists::Decoded
        } else {
            exits::Assists::Absent
        };
        let p = self.page;
        exits::decode(
            p.get(control::EXIT_CODE),
            p.get(control::EXIT_INFO_1),
            p.get(control::EXIT_INFO_2),
            assists,
        )
    }

    fn instruction_length(&self) -> Option<u8> {
        let next = self
            .features
            .contains(Features::NEXT_RIP)
            .then(|| self.page.get(control::NEXT_RIP));
        exits::instruction_length(&self.exit(), self.page.get(save::RIP), next)
    }

    fn instruction_bytes(&self, bytes: &mut [u8; 15]) -> usize {
        let told = self.features.contains(Features::DECODE_ASSISTS);
        if !told || !matches!(self.exit(), Exit::NestedFault { fetch: false, .. }) {
            return 0;
        }
        let low = self.page.get(control::FETCHED).to_le_bytes();
        let high = self.page.get(control::FETCHED + 8).to_le_bytes();
        bytes[..7].copy_from_slice(&low[1..]);
        bytes[7..].copy_from_slice(&high);
        usize::from(low[0] & 0xf)
    }

    fn interrupted_delivery(&self) -> Option<Event> {
        decode(self.page.get(control::EXIT_INTERRUPT_INFO)).filter(|event| match event.kind {
            EventKind::Interrupt | EventKind::Nmi => true,
            EventKind::Exception => !matches!(event.vector, BREAKPOINT | OVERFLOW),
            EventKind::SoftwareInterrupt => false,
        })
    }

    fn inject(&mut self, event: Event) {
        self.page.set(control::EVENT_INJECTION, encode(event));
        if event.kind == EventKind::Nmi {
            self.set_nmi_masked(true);
        }
    }

    fn injecting(&self) -> bool {
        self.page.get(control::EVENT_INJECTION) & event::VALID != 0
    }

    fn injected(&self) -> Option<Event> {
        decode(self.page.get(control::EVENT_INJECTION))
    }

    fn interrupt_shadow(&self) -> bool {
        self.page.get(control::INTERRUPT_SHADOW) & 1 != 0
    }

    fn set_interrupt_shadow(&mut self, on: bool) {
        let rest = self.page.get(control::INTERRUPT_SHADOW) & !1;
        self.page
            .set(control::INTERRUPT_SHADOW, rest | u64::from(on));
    }

    fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    fn set_nmi_masked(&mut self, on: bool) {
        self.nmi_masked = on;
        self.switch(control::INTERCEPT_THIRD, third::IRET, on);
    }

    fn want_interrupt_window(&mut self, wanted: bool) {
        // A virtual interrupt that is intercepted before it is taken. Its vector means nothing.
        let ask = interrupt::V_IRQ | interrupt::V_IGN_TPR | interrupt::V_INTR_PRIO;
        let old = self.page.get(control::VIRTUAL_INTERRUPT);
        let new = if wanted { old | ask } else { old & !ask };
        if new != old {
            self.page.set(control::VIRTUAL_INTERRUPT, new);
            self.spoil(clean::TPR);
        }
        self.switch(control::INTERCEPT_THIRD, third::VINTR, wanted);
    }

    fn set_task_priority(&mut self, cr8: u8) {
        let old = self.page.get(control::VIRTUAL_INTERRUPT);
        let new = old & !interrupt::V_TPR | u64::from(cr8 & 0xf);
        if new != old {
            self.page.set(control::VIRTUAL_INTERRUPT, new);
            self.spoil(clean::TPR);
        }
    }

    fn task_priority(&self) -> u8 {
        self.page.get(control::VIRTUAL_INTERRUPT) as u8 & 0xf
    }

    fn set_nested_root(&mut self, root: Mfn) {
        self.page.set(control::NESTED_CR3, root.addr().0);
        self.spoil(clean::NP);
        self.forget_translations();
    }

    fn forget_translations(&mut self) {
        // A new tag.
        self.ticket = Ticket::default();
    }

    fn intercept(&mut self, what: Intercept, on: bool) {
        match what {
            Intercept::Rdtsc => {
                self.switch(control::INTERCEPT_THIRD, third::RDTSC, on);
                self.switch(control::INTERCEPT_FOURTH, fourth::RDTSCP, on);
            }
            Intercept::Pause => self.intercept_pause(on),
            Intercept::DebugRegisters => self.switch(control::INTERCEPT_DR, ALL, on),
            Intercept::Cr3 => self.switch(control::INTERCEPT_CR, CR3 | CR3 << 16, on),
            Intercept::TaskPriority => self.switch(control::INTERCEPT_CR, CR8 << 16, on),
            Intercept::Breakpoint => self.switch(control::INTERCEPT_EXCEPTIONS, BP, on),
            Intercept::InvalidOpcode => self.switch(control::INTERCEPT_EXCEPTIONS, UD, on),
        }
    }

    fn forget_events(&mut self) {
        self.page.set(control::EVENT_INJECTION, 0);
        self.page.set(control::EXIT_INTERRUPT_INFO, 0);
    }
}

impl Vmcb {
    /// The tag of this guest's translations for the next entry, and whether all translations of the CPU go first.
    pub(super) fn set_asid(&mut self, asid: u32, flush: bool) {
        if self.page.get32(control::ASID) != asid {
            self.page.set32(control::ASID, asid);
            self.spoil(clean::ASID);
        }
        let what = if flush { tlb::FLUSH_ALL } else { tlb::KEEP };
        self.page.set32(control::TLB_CONTROL, what);
    }

    fn switch(&mut self, offset: usize, bits: u32, on: bool) {
        if self.page.switch32(offset, bits, on) {
            self.spoil(clean::INTERCEPTS);
        }
    }

    /// A PAUSE that leaves each time would cost more than it saves.
    fn intercept_pause(&mut self, on: bool) {
        let counts = self.features.contains(Features::PAUSE_FILTER);
        let threshold = if self.features.contains(Features::PAUSE_THRESHOLD) {
            PAUSE_THRESHOLD
        } else {
            0
        };
        if counts {
            self.page
                .set32(control::PAUSE_FILTER, PAUSE_COUNT << 16 | threshold);
        }
        self.switch(control::INTERCEPT_THIRD, third::PAUSE, on && counts);
    }
}
