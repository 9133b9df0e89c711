use std::boxed::Box;
use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;

use super::fields::Ports;
use super::layout::{Class, Field, event, interruptibility};
use super::*;
use crate::boot::cmdline::VmxOptions;
use crate::hvm::processor::{REGISTERS, Register, Segment, SegmentName, is_long};
use crate::hvm::vmx_facts::tests::server;
use crate::hvm::vmx_facts::{Pin, Primary};

/// A processor: the VMCS it knows, and how often it was asked.
#[derive(Default)]
struct Model {
    fields: Mutex<BTreeMap<(u64, u32), u64>>,
    msrs: Mutex<BTreeMap<u32, u64>>,
    reads: Mutex<u64>,
    writes: Mutex<u64>,
}

impl Ports for Model {
    fn clear(&self, block: Mfn) {
        self.fields
            .lock()
            .unwrap()
            .retain(|(at, _), _| *at != block.0);
    }

    fn read(&self, block: Mfn, field: Field) -> u64 {
        *self.reads.lock().unwrap() += 1;
        self.peek(block, field)
    }

    fn write(&self, block: Mfn, field: Field, value: u64) {
        assert_ne!(field.class(), Class::Told, "VMWRITE of {field:?}");
        *self.writes.lock().unwrap() += 1;
        self.poke(block, field, value);
    }

    fn read_msr(&self, msr: u32) -> u64 {
        self.msrs.lock().unwrap().get(&msr).copied().unwrap_or(0)
    }

    fn write_msr(&self, msr: u32, value: u64) {
        assert!(GUARDED_MSRS.contains(&msr));
        self.msrs.lock().unwrap().insert(msr, value);
    }
}

impl Model {
    fn peek(&self, block: Mfn, field: Field) -> u64 {
        let fields = self.fields.lock().unwrap();
        fields
            .get(&(block.0, field.encoding()))
            .copied()
            .unwrap_or(0)
    }

    fn poke(&self, block: Mfn, field: Field, value: u64) {
        let mut fields = self.fields.lock().unwrap();
        fields.insert((block.0, field.encoding()), value);
    }
}

/// A vCPU on such a processor.
struct Bench {
    model: &'static Model,
    vmcs: Vmcs,
    regs: GuestFrame,
    asids: Asids,
}

const BLOCK: Mfn = Mfn(0x77);

impl Bench {
    fn new() -> Self {
        let model: &'static Model = Box::leak(Box::default());
        let page = || -> &'static Words { Box::leak(Box::new([const { AtomicU64::new(0) }; 512])) };
        let common = Common {
            facts: VmxFacts::of(&server(), &VmxOptions::default()).unwrap(),
            msr_map: PhysAddr(0x5000),
            ports: model,
        };
        let task = common.wants_task_page().then(|| (Mfn(0x78), page()));
        let mut vmcs = Vmcs::new((BLOCK, page()), task, common);
        vmcs.set_nested_root(Mfn(0x99));
        let regs = GuestFrame {
            rip: 0xfff0,
            rflags: 2,
            ..GuestFrame::default()
        };
        let asids = Asids::new(0x1_0000);
        asids.start();
        Self {
            model,
            vmcs,
            regs,
            asids,
        }
    }

    /// In 64-bit code at `rip`, on a CPU.
    fn running() -> Self {
        let mut b = Self::new();
        let code = Segment {
            selector: 8,
            attributes: 0xa9b,
            limit: u32::MAX,
            base: 0,
        };
        let data = Segment {
            selector: 16,
            attributes: 0xc93,
            ..code
        };
        b.vmcs.write(Register::Cr4, 1 << 5);
        b.vmcs.write(Register::Efer, 1 << 8);
        b.vmcs.write(Register::Cr0, 1 << 31 | 1);
        b.vmcs.set_segment(SegmentName::Cs, code);
        b.vmcs.set_segment(SegmentName::Ss, data);
        b.regs.rip = 0x1000;
        b.vmcs.loaded();
        b
    }

    fn field(&self, which: Field) -> u64 {
        self.model.peek(BLOCK, which)
    }

    /// An entry and the exit that follows, for which the processor writes `told`.
    fn run(&mut self, told: &[(Field, u64)]) -> Exit {
        let _flush = self.vmcs.prepare(&self.asids, 0);
        self.vmcs.load_frame(&self.regs);
        let given = self.field(Field::EntryEvent) & !event::VALID;
        self.model.poke(BLOCK, Field::EntryEvent, given);
        self.model.poke(BLOCK, Field::VectoringEvent, 0);
        for (field, value) in told {
            self.model.poke(BLOCK, *field, *value);
        }
        self.vmcs.left(&self.asids);
        self.vmcs.store_frame(&mut self.regs);
        self.vmcs.exit()
    }

    fn violation(&self) -> Option<checks::Violation> {
        self.vmcs.violation(40)
    }
}

#[test]
fn a_new_one_can_be_entered() {
    let b = Bench::new();
    assert_eq!(b.violation().map(|v| v.to_string()), None);
    assert_eq!(Bench::running().violation().map(|v| v.to_string()), None);
}

#[test]
fn what_is_always_on_is_on_but_not_seen() {
    let b = Bench::new();
    assert_ne!(b.field(Field::Cr0) & 1 << 5, 0, "CR0.NE");
    assert_ne!(b.field(Field::Cr4) & 1 << 13, 0, "CR4.VMXE");
    assert_ne!(b.field(Field::Cr4) & 1 << 6, 0, "CR4.MCE");
    assert_eq!(b.vmcs.read(Register::Cr4), 0);
    assert_eq!(b.field(Field::Cr4Shadow), 0);
    assert_eq!(b.vmcs.read(Register::Cr0), 1 << 4);
    assert_eq!(b.field(Field::Cr0Shadow), 1 << 4);
}

#[test]
fn long_mode_goes_with_paging() {
    let mut b = Bench::running();
    assert_eq!(b.vmcs.read(Register::Efer), 1 << 8 | 1 << 10);
    assert_ne!(b.field(Field::EntryControls) & 1 << 9, 0);
    b.vmcs.write(Register::Cr0, 1);
    assert_eq!(b.vmcs.read(Register::Efer), 1 << 8);
    assert_eq!(b.field(Field::Efer), 1 << 8);
    assert_eq!(b.field(Field::EntryControls) & 1 << 9, 0);
}

#[test]
fn a_narrow_task_does_not_keep_a_guest_from_long_mode() {
    let mut b = Bench::new();
    b.vmcs.write(Register::Cr0, 1);
    let task = Segment {
        selector: 0x28,
        attributes: 0x83,
        limit: 0x2b,
        base: 0x1000,
    };
    b.vmcs.set_segment(SegmentName::Tr, task);
    assert_eq!(b.vmcs.segment(SegmentName::Tr).attributes, 0x83);
    assert_eq!(b.violation().map(|v| v.to_string()), None);
    b.vmcs.write(Register::Cr4, 1 << 5);
    b.vmcs.write(Register::Efer, 1 << 8);
    b.vmcs.write(Register::Cr0, 1 << 31 | 1);
    assert_eq!(b.violation().map(|v| v.to_string()), None);
}

/// PAE's four entries are loaded where something else than the guest's own MOV to CR3 chose them.
#[test]
fn directories_are_asked_for() {
    let mut b = Bench::new();
    assert!(!b.vmcs.wants_directories());
    b.vmcs.write(Register::Cr4, 1 << 5);
    b.vmcs.write(Register::Cr3, 0x3000);
    assert!(!b.vmcs.wants_directories(), "no paging");
    b.vmcs.write(Register::Cr0, 1 << 31 | 1);
    assert!(b.vmcs.wants_directories());
    b.vmcs.set_directories([0x4001, 0x5001, 0, 0x6001]);
    assert!(!b.vmcs.wants_directories());
    assert_eq!(b.field(Field::Pdpte3), 0x6001);
    assert!(!Bench::running().vmcs.wants_directories(), "long mode");
}

#[test]
fn a_window_for_an_nmi_is_one_of_its_own() {
    let mut b = Bench::running();
    let window = |b: &Bench| {
        let bits = u64::from(Primary::NMI_WINDOW_EXITING.bits());
        b.field(Field::PrimaryControls) & bits != 0
    };
    assert!(b.vmcs.want_nmi_window(true));
    assert!(window(&b));
    assert!(b.vmcs.want_nmi_window(false));
    assert!(!window(&b));
    b.vmcs.inject(Event::nmi());
    assert!(b.vmcs.want_nmi_window(false));
    assert!(window(&b), "its handler has not ended");
}

#[test]
fn a_hypercall_costs_six_accesses() {
    let mut b = Bench::running();
    let told = [(Field::ExitReason, 18), (Field::InstructionLength, 3)];
    for round in 0..3 {
        if round == 1 {
            // The first entry has all to write.
            (
                *b.model.reads.lock().unwrap(),
                *b.model.writes.lock().unwrap(),
            ) = (0, 0);
        }
        assert_eq!(b.run(&told), Exit::Hypercall);
        // What its handling asks for.
        assert_eq!(b.vmcs.cpl(), 0);
        assert!(is_long(b.vmcs.attributes(SegmentName::Cs)));
        // Where copies begin.
        let _root = b.vmcs.read(Register::Cr3);
        b.regs.rip += 3;
        b.vmcs.set_interrupt_shadow(false);
        b.model.poke(BLOCK, Field::Rip, b.regs.rip);
    }
    let (reads, writes) = (
        *b.model.reads.lock().unwrap(),
        *b.model.writes.lock().unwrap(),
    );
    assert_eq!((reads, writes), (2 * 5, 2), "in two runs");
}

#[test]
fn no_run_lasts_for_ever() {
    let mut b = Bench::running();
    let pin = Pin::from_bits_retain(b.field(Field::PinControls) as u32);
    assert!(pin.contains(Pin::PREEMPTION_TIMER));
    // The server's timer counts once in 128 ticks.
    assert_eq!(b.field(Field::PreemptionTimer), LONGEST_RUN / 128);
    assert_eq!(b.run(&[(Field::ExitReason, 52)]), Exit::Interrupt);
    assert_eq!(b.field(Field::PreemptionTimer), LONGEST_RUN / 128);
}

#[test]
fn an_event_goes_in_once() {
    let mut b = Bench::running();
    b.regs.rflags |= 1 << 9;
    b.vmcs.inject(Event::interrupt(0xf3));
    assert!(b.vmcs.injecting());
    let _flush = b.vmcs.prepare(&b.asids, 0);
    b.vmcs.load_frame(&b.regs);
    assert_eq!(b.field(Field::EntryEvent), event::VALID | 0xf3);
    assert_eq!(b.violation().map(|v| v.to_string()), None);
    b.run(&[(Field::ExitReason, 1)]);
    assert!(!b.vmcs.injecting());
    b.run(&[(Field::ExitReason, 1)]);
    assert_eq!(b.field(Field::EntryEvent) & event::VALID, 0);
}

#[test]
fn a_delivery_that_was_interrupted_is_told_of() {
    let mut b = Bench::running();
    let hardware =
        event::VALID | event::HARDWARE_EXCEPTION << event::KIND_SHIFT | event::HAS_ERROR | 14;
    b.run(&[
        (Field::ExitReason, 48),
        (Field::VectoringEvent, hardware),
        (Field::VectoringErrorCode, 2),
    ]);
    assert_eq!(
        b.vmcs.interrupted_delivery(),
        Some(Event::exception(14, Some(2)))
    );
    // The instruction will do it again.
    let software = event::VALID | event::SOFTWARE_INTERRUPT << event::KIND_SHIFT | 0x80;
    b.run(&[(Field::ExitReason, 48), (Field::VectoringEvent, software)]);
    assert_eq!(b.vmcs.interrupted_delivery(), None);
}

#[test]
fn nmis_are_masked_until_the_handler_ends() {
    let mut b = Bench::running();
    b.vmcs.inject(Event::nmi());
    assert!(b.vmcs.nmi_masked());
    b.run(&[
        (Field::ExitReason, 1),
        (Field::Interruptibility, interruptibility::NMI),
    ]);
    assert_ne!(
        b.field(Field::PrimaryControls) & u64::from(Primary::NMI_WINDOW_EXITING.bits()),
        0
    );
    assert_eq!(
        b.run(&[(Field::ExitReason, 8), (Field::Interruptibility, 0)]),
        Exit::NmiWindow
    );
    b.vmcs.set_nmi_masked(false);
    assert_eq!(
        b.field(Field::PrimaryControls) & u64::from(Primary::NMI_WINDOW_EXITING.bits()),
        0
    );
    // One that is given again finds none masked.
    b.run(&[
        (Field::ExitReason, 48),
        (Field::Interruptibility, interruptibility::NMI),
    ]);
    b.vmcs.inject(Event::nmi());
    assert_eq!(b.field(Field::Interruptibility), 0);
}

#[test]
fn a_shadow_that_is_over_does_not_hold_an_event_back() {
    let mut b = Bench::running();
    b.regs.rflags |= 1 << 9;
    b.model.poke(BLOCK, Field::Rflags, b.regs.rflags);
    let told = [
        (Field::ExitReason, 12),
        (Field::Interruptibility, interruptibility::STI),
    ];
    b.run(&told);
    assert!(b.vmcs.interrupt_shadow());
    b.vmcs.set_interrupt_shadow(false);
    assert!(!b.vmcs.interrupt_shadow());
    b.vmcs.inject(Event::interrupt(0x20));
    b.vmcs.load_frame(&b.regs);
    assert_eq!(b.field(Field::Interruptibility), 0);
    assert_eq!(b.violation().map(|v| v.to_string()), None);
}

#[test]
fn what_turns_interrupts_off_behind_sti_ends_the_shadow() {
    let behind_sti = || {
        let mut b = Bench::running();
        b.regs.rflags |= 1 << 9;
        b.run(&[
            (Field::ExitReason, 1),
            (Field::Rflags, 0x202),
            (Field::Interruptibility, interruptibility::STI),
        ]);
        assert!(b.vmcs.interrupt_shadow());
        b
    };
    // An INIT.
    let mut b = behind_sti();
    b.vmcs.reset();
    b.regs.rflags = 2;
    b.vmcs.load_frame(&b.regs);
    assert_eq!(b.field(Field::Interruptibility), 0);
    assert_eq!(b.violation(), None);
    // A toolstack's registers.
    let mut b = behind_sti();
    b.vmcs.set_interrupt_shadow(false);
    b.regs.rflags = 2;
    b.vmcs.load_frame(&b.regs);
    assert_eq!(b.violation(), None);
}

#[test]
fn a_debug_exception_shows_in_dr6() {
    let mut b = Bench::running();
    b.vmcs.write(Register::Dr6, 0xffff_0ff0 | 2);
    b.run(&[
        (Field::ExitReason, 0),
        (
            Field::ExitEvent,
            event::VALID | event::HARDWARE_EXCEPTION << event::KIND_SHIFT | 1,
        ),
        (Field::Qualification, 1 << 14 | 1),
    ]);
    assert_eq!(b.vmcs.read(Register::Dr6), 0xffff_0ff0 | 1 << 14 | 1);
}

#[test]
fn an_entry_that_failed_keeps_the_event() {
    let mut b = Bench::running();
    b.vmcs.inject(Event::interrupt(0x30));
    assert_eq!(b.run(&[(Field::ExitReason, 1 << 31 | 33)]), Exit::Invalid);
    assert!(b.vmcs.injecting());
    assert!(!b.vmcs.is_launched());
    b.run(&[(Field::ExitReason, 1)]);
    assert!(b.vmcs.is_launched());
}

#[test]
fn the_msrs_of_syscall_go_with_the_vcpu() {
    let mut b = Bench::new();
    b.vmcs.write(Register::Lstar, 0x1234);
    b.vmcs.write(Register::KernelGsBase, 0x5678);
    assert_eq!(b.model.read_msr(index::LSTAR), 0, "at rest");
    b.vmcs.loaded();
    assert_eq!(b.model.read_msr(index::LSTAR), 0x1234);
    assert_eq!(b.vmcs.read(Register::KernelGsBase), 0x5678);
    b.vmcs.write(Register::Lstar, 0x4321);
    assert_eq!(b.model.read_msr(index::LSTAR), 0x4321);
    // By SWAPGS.
    b.model.write_msr(index::KERNEL_GS_BASE, 0x9999);
    assert_eq!(b.vmcs.read(Register::KernelGsBase), 0x9999);
    b.vmcs.parked();
    b.model.write_msr(index::KERNEL_GS_BASE, 0);
    assert_eq!(b.vmcs.read(Register::KernelGsBase), 0x9999);
}

#[test]
fn other_tables_or_roots_mean_another_tag() {
    let mut b = Bench::running();
    let tag = |b: &mut Bench| {
        let _flush = b.vmcs.prepare(&b.asids, 0);
        b.field(Field::Vpid)
    };
    let first = tag(&mut b);
    assert_ne!(first, 0);
    assert_eq!(tag(&mut b), first);
    for change in [
        (|v: &mut Vmcs| v.write(Register::Cr3, 0x2000)) as fn(&mut Vmcs),
        |v| v.write(Register::Cr4, 1 << 5 | 1 << 7),
        |v| v.set_nested_root(Mfn(0x55)),
    ] {
        let before = tag(&mut b);
        change(&mut b.vmcs);
        assert_ne!(tag(&mut b), before);
    }
}

proptest! {
    /// What was written is read, at rest and on a CPU, whatever is in force.
    #[test]
    fn registers_are_as_they_were_written(values in prop::collection::vec(any::<u64>(), REGISTERS.len()), loaded: bool) {
        let mut b = Bench::new();
        if loaded {
            b.vmcs.loaded();
        }
        for (register, value) in REGISTERS.iter().zip(&values) {
            b.vmcs.write(*register, *value);
        }
        for (register, value) in REGISTERS.iter().zip(&values) {
            let found = b.vmcs.read(*register);
            if *register == Register::Efer {
                prop_assert_eq!(found & !(1 << 10), value & !(1 << 10));
            } else {
                prop_assert_eq!(found, *value, "{:?}", register);
            }
        }
    }

    /// Nothing is written that the VMCS has already.
    #[test]
    fn the_same_again_costs_no_write(values in prop::collection::vec(any::<u64>(), REGISTERS.len())) {
        let mut b = Bench::new();
        let write = |b: &mut Bench| {
            for (register, value) in REGISTERS.iter().zip(&values) {
                b.vmcs.write(*register, *value);
            }
            *b.model.writes.lock().unwrap()
        };
        let first = write(&mut b);
        // CR0, CR4 and EFER pass through states in between.
        prop_assert!(write(&mut b) <= first + 2);
    }

    /// Every event that the rules allow is one that the processor takes.
    #[test]
    fn events_are_well_formed(vector in 0u8..32, kind in 0u8..3, error: Option<u32>, real: bool) {
        let mut b = if real { Bench::new() } else { Bench::running() };
        b.regs.rflags |= 1 << 9;
        let event = match kind {
            0 => Event::interrupt(vector),
            1 => Event { kind: EventKind::SoftwareInterrupt, vector, error: None },
            _ if vector == 2 => Event::nmi(),
            _ => Event::exception(vector, error),
        };
        b.vmcs.inject(event);
        b.vmcs.load_frame(&b.regs);
        prop_assert_eq!(b.violation().map(|v| v.to_string()), None);
    }
}
