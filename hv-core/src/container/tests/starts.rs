//! INIT, start-up messages, NMIs and the end of vCPUs.

use super::world::*;
use super::*;
use crate::domain::{Owed, RunFlags};
use crate::hvm::exit::Exit;
use crate::hvm::processor::{Event, Processor, Register, SegmentName};
use crate::hvm::svm_facts::Features;
use xen_abi::sched::{SHUTDOWN_poweroff, SHUTDOWN_reboot};

const WAITS: u32 = RunFlags::DOWN | RunFlags::UNINITIALISED;

fn second() -> World {
    World::of(1, Features::empty())
}

fn cs_base(w: &World) -> u64 {
    w.f.hvm.processor.segment(SegmentName::Cs).base
}

#[test]
fn init_and_start_up_begin_in_real_mode_at_the_page() {
    let mut w = second();
    w.vcpu().inbox.init();
    assert_eq!(w.prepare(), Ready::Look);
    assert!(w.f.hvm.waits_for_start);
    assert_eq!(w.vcpu().flags(), WAITS);
    w.vcpu().inbox.start_up(0x8);
    w.vcpu().clear_flags(WAITS);
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!((cs_base(&w), w.f.regs.rip), (0x8000, 0));
    assert_eq!(w.register(Register::Cr0) & 0x8000_0001, 0);
    assert!(!w.f.hvm.waits_for_start);
    // A second one finds it running.
    w.f.regs.rip = 0x77;
    w.vcpu().inbox.start_up(0x9);
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!((cs_base(&w), w.f.regs.rip), (0x8000, 0x77));
}

#[test]
fn both_letters_at_once_restart_it() {
    let mut w = second();
    w.vcpu().inbox.init();
    w.vcpu().inbox.start_up(0x6);
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!((cs_base(&w), w.f.regs.rip), (0x6000, 0));
    assert_eq!(w.vcpu().flags(), 0);
}

#[test]
fn a_vcpu_that_waits_is_not_entered_whoever_lets_it_run() {
    let mut w = second();
    w.vcpu().inbox.init();
    assert_eq!(w.prepare(), Ready::Look);
    // A late sender of an earlier start-up message has cleared the flags, and its message is gone.
    w.vcpu().clear_flags(WAITS);
    assert_eq!(w.prepare(), Ready::Look);
    assert_eq!(w.vcpu().flags(), WAITS);
}

#[test]
fn init_takes_back_xcr0_in_the_cpu_too() {
    let mut w = second();
    w.f.hvm.xcr0 = 7;
    w.vcpu().inbox.init();
    w.vcpu().inbox.start_up(1);
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!((w.f.hvm.xcr0, w.given().xcr0), (1, Some(1)));
}

#[test]
fn init_of_the_first_vcpu_restarts_it_at_the_reset_vector() {
    let mut w = World::new();
    w.vcpu().inbox.init();
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!((cs_base(&w), w.f.regs.rip), (0xffff_0000, 0xfff0));
    assert_eq!(w.vcpu().flags(), 0);
}

#[test]
fn an_nmi_comes_by_letter_or_owed_and_masks_others() {
    let mut w = World::new();
    w.vcpu().inbox.nmi();
    assert_eq!(w.enter(), Some(Event::nmi()));
    w.vcpu().owe(Owed::NMI);
    assert_eq!(w.enter(), None, "until the IRET");
    w.exit(Exit::IretDone);
    assert_eq!(w.enter(), None, "not before the IRET is done");
    w.f.hvm.processor.set_interrupt_shadow(false);
    assert_eq!(w.enter(), Some(Event::nmi()));
}

#[test]
fn an_nmi_window_ends_the_masking_at_once() {
    let mut w = World::new();
    w.vcpu().inbox.nmi();
    assert_eq!(w.enter(), Some(Event::nmi()));
    w.vcpu().owe(Owed::NMI);
    w.exit(Exit::NmiWindow);
    assert!(!w.f.hvm.processor.interrupt_shadow());
    assert_eq!(w.enter(), Some(Event::nmi()));
}

#[test]
fn a_message_goes_to_the_vcpu_that_is_meant() {
    let mut w = World::new();
    w.enable_apic();
    let other = w.d.vcpu(1).unwrap();
    assert_eq!(other.flags(), WAITS);
    // To APIC 2: INIT, then a start-up message.
    w.apic_write(0x310, 2 << 24);
    w.apic_write(0x300, 0x4500);
    let other = w.d.vcpu(1).unwrap();
    assert!(!other.inbox.is_empty());
    assert_eq!(other.flags(), WAITS, "INIT alone starts nothing");
    w.apic_write(0x310, 2 << 24);
    w.apic_write(0x300, 0x4607);
    let other = w.d.vcpu(1).unwrap();
    assert_eq!(other.flags(), 0);
    let letters = other.inbox.take().unwrap();
    assert_eq!((letters.init, letters.start_up), (true, Some(7)));
}

fn hlt(w: &mut World) {
    w.exit_at(&[0xf4], Exit::Hlt);
}

#[test]
fn a_halt_waits_and_ends() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    hlt(&mut w);
    assert_eq!(w.passed(), 1);
    assert_eq!(w.vcpu().flags(), RunFlags::BLOCKED);
    w.d.send_nmi(w.vcpu());
    assert_eq!(w.vcpu().flags(), 0);
    assert_eq!(w.enter(), Some(Event::nmi()));
}

#[test]
fn an_interrupt_that_is_there_ends_a_halt_at_once() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    w.f.hvm.processor.set_interrupt_shadow(true);
    assert!(w.f.hvm.lapic.accept(0x40, false));
    hlt(&mut w);
    assert_eq!((w.passed(), w.vcpu().flags()), (1, 0));
    assert_eq!(w.enter(), Some(Event::interrupt(0x40)));
}

#[test]
fn an_interrupt_behind_sti_does_not_come_before_the_halt() {
    for (code, passed) in [(0xf4, 1), (0x90, 0)] {
        let mut w = World::new();
        w.enable_apic();
        w.f.regs.rflags |= IF;
        w.f.hvm.processor.set_interrupt_shadow(true);
        w.exit_at(&[code], Exit::Interrupt);
        w.vcpu().inbox.interrupt(0x40, false);
        let event = w.enter();
        assert_eq!(w.passed(), passed, "{code:#x}");
        assert_eq!(event, (passed == 1).then_some(Event::interrupt(0x40)));
    }
}

#[test]
fn what_the_vcpu_has_not_got_yet_comes_before_its_halt() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    w.vcpu().owe(Owed::ASSISTS);
    hlt(&mut w);
    assert_eq!((w.passed(), w.vcpu().flags()), (0, 0), "HLT again");
    assert_eq!(w.enter(), None);
    hlt(&mut w);
    assert_eq!(w.vcpu().flags(), RunFlags::BLOCKED);
}

#[test]
fn a_masked_interrupt_does_not_end_a_halt() {
    let mut w = World::new();
    w.d.vcpu(1).unwrap().clear_flags(WAITS);
    w.enable_apic();
    w.vcpu().inbox.interrupt(0x40, false);
    hlt(&mut w);
    assert_eq!((w.passed(), w.vcpu().flags()), (0, 0));
    assert_eq!(w.enter(), None);
    hlt(&mut w);
    assert_eq!((w.passed(), w.vcpu().flags()), (0, RunFlags::DOWN));
    assert_eq!(w.down(), None, "another vCPU is up");
}

#[test]
fn a_start_up_message_without_init_does_not_end_a_halt_for_good() {
    let mut w = World::new();
    w.d.vcpu(1).unwrap().clear_flags(WAITS);
    hlt(&mut w);
    assert_eq!(w.vcpu().flags(), RunFlags::DOWN);
    w.vcpu().inbox.start_up(5);
    w.vcpu().clear_flags(WAITS);
    assert_eq!(w.enter(), None);
    assert_eq!(w.passed(), 0, "it halts again");
}

#[test]
fn the_last_vcpu_that_halts_for_good_powers_off() {
    let mut w = World::new();
    hlt(&mut w);
    assert_eq!(w.down(), Some(SHUTDOWN_poweroff));
}

#[test]
fn a_stepped_halt_traps() {
    let mut w = World::new();
    w.f.regs.rflags |= TF | IF;
    hlt(&mut w);
    assert_eq!((w.passed(), w.vcpu().flags()), (1, 0));
    assert_eq!(w.enter(), Some(Event::exception(1, None)));
    assert_eq!(w.register(Register::Dr6) & 1 << 14, 1 << 14);
}

#[test]
fn a_triple_fault_reboots() {
    let mut w = World::new();
    w.exit(Exit::Shutdown);
    assert_eq!(w.down(), Some(SHUTDOWN_reboot));
}

#[test]
fn what_is_not_known_crashes_the_domain() {
    let unknown = Exit::Unknown {
        code: 0x123,
        name: "a test",
        info1: 0,
        info2: 0,
    };
    for exit in [unknown, Exit::Invalid, Exit::TaskSwitch] {
        let mut w = World::new();
        w.exit(exit);
        assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_crash));
    }
}
