//! What is delivered, and when.

use proptest::prelude::*;

use super::world::*;
use crate::container::interrupts::{Time, time, tsc_at};
use crate::domain::{Machine, Owed, Setter};
use crate::hvm::exit::Exit;
use crate::hvm::lapic::TimeSource;
use crate::hvm::processor::{Event, Processor, Register};
use crate::time::{Clock, TscScale};
use core::sync::atomic::Ordering;
use xen_abi::hvm_op::HVM_PARAM_CALLBACK_IRQ;

fn with_callback(vector: u64) -> World {
    let w = World::new();
    let hvm = w.d.hvm.as_ref().unwrap();
    hvm.set(HVM_PARAM_CALLBACK_IRQ, 2 << 56 | vector, Setter::Guest)
        .unwrap();
    w
}

#[test]
fn the_callback_comes_with_if_and_not_in_a_shadow() {
    let mut w = with_callback(0xf3);
    w.set_pending(true);
    assert_eq!(w.enter(), None);
    assert!(w.wants_window());
    w.f.regs.rflags |= IF;
    w.f.hvm.processor.set_interrupt_shadow(true);
    assert_eq!(w.enter(), None);
    assert!(w.wants_window());
    w.f.hvm.processor.set_interrupt_shadow(false);
    assert_eq!(w.enter(), Some(Event::interrupt(0xf3)));
    w.set_pending(false);
    assert_eq!(w.enter(), None);
    assert!(!w.wants_window());
}

#[test]
fn a_local_apic_is_told_of_events_when_it_is_enabled() {
    let mut w = World::new();
    w.f.regs.rflags |= IF;
    w.vcpu().set_upcall_vector(0x50);
    w.set_pending(true);
    w.d.tell_of_events(w.vcpu());
    assert!(w.vcpu().owes(Owed::UPCALL));
    assert_eq!(w.enter(), None);
    assert!(w.vcpu().owes_nothing());
    assert_eq!(w.apic_read(0x220), 0, "nothing is left there");
    w.enable_apic();
    assert_eq!(w.enter(), Some(Event::interrupt(0x50)));
    assert_eq!(w.enter(), None, "in service");
    w.apic_write(0xb0, 0);
    assert_eq!(w.enter(), None, "and told once");
    w.set_pending(false);
    w.enable_apic();
    assert_eq!(w.enter(), None, "there is nothing to tell");
}

#[test]
fn the_timer_of_the_local_apic_is_served_when_owed() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    // Its vector is 0x60, and the count is short.
    w.apic_write(0x320, 0x60);
    w.apic_write(0x380, 16);
    let deadline = w.f.hvm.lapic.next_deadline().unwrap();
    assert_eq!(w.vcpu().timers.lock().next_deadline(), Some(deadline));
    w.f.machine.now.store(deadline, Ordering::Relaxed);
    w.d.fire_timers(w.vcpu());
    assert!(w.vcpu().owes(Owed::LAPIC));
    assert_eq!(w.enter(), Some(Event::interrupt(0x60)));
}

#[test]
fn interrupts_of_others_come_in_the_order_of_their_classes() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    w.vcpu().inbox.interrupt(0x40, false);
    w.vcpu().inbox.interrupt(0x90, false);
    assert_eq!(w.enter(), Some(Event::interrupt(0x90)));
    assert_eq!(w.enter(), None);
    w.apic_write(0xb0, 0);
    assert_eq!(w.enter(), Some(Event::interrupt(0x40)));
}

#[test]
fn cr8_holds_back_what_is_not_above_it() {
    let mut w = World::new();
    w.enable_apic();
    w.f.regs.rflags |= IF;
    w.f.hvm.processor.set_task_priority(9);
    w.exit(Exit::Interrupt);
    assert!(w.f.hvm.lapic.accept(0x80, false));
    assert_eq!(w.enter(), None);
    assert_eq!(w.f.hvm.processor.task_priority(), 9);
    w.f.regs.rcx = 0;
    // mov cr8, rcx
    let exit = Exit::CrAccess {
        cr: 8,
        write: true,
        gpr: None,
    };
    w.exit_at(&[0x44, 0x0f, 0x22, 0xc1], exit);
    assert_eq!(w.passed(), 4);
    assert_eq!(w.enter(), Some(Event::interrupt(0x80)));
    assert_eq!(w.f.hvm.processor.task_priority(), 0);
}

#[test]
fn an_interrupted_delivery_is_given_again() {
    let mut w = World::new();
    for event in [
        Event::interrupt(0x31),
        Event::exception(14, Some(2)),
        Event::nmi(),
    ] {
        w.was_taking(Some(event));
        w.exit(Exit::Interrupt);
        w.was_taking(None);
        w.vcpu().inbox.nmi();
        assert_eq!(w.enter(), Some(event), "before all that waits");
    }
}

#[test]
fn faults_during_a_delivery_double() {
    // To a page that is to be read only, from nowhere to be found among instructions.
    for (first, second) in [
        (Event::exception(14, Some(2)), Some(8)),
        (Event::exception(13, Some(0)), Some(8)),
        (Event::exception(6, None), Some(13)),
        (Event::interrupt(0x40), Some(13)),
        (Event::exception(8, Some(0)), None),
    ] {
        let mut w = World::new();
        w.was_taking(Some(first));
        w.cell(|cx| {
            let event = cx.state.processor.interrupted_delivery().unwrap();
            cx.state.processor.inject(event);
            cx.protection();
        });
        match second {
            Some(vector) => {
                let expected = Event::exception(vector, Some(0));
                assert_eq!(w.take_injected(), Some(expected), "{first:?}");
                assert_eq!(w.down(), None);
            }
            None => assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_reboot)),
        }
    }
}

#[test]
fn what_cannot_be_delivered_for_want_of_memory_is_no_instruction() {
    let mut w = World::new();
    w.write(CODE, &[0x89, 0x03]);
    w.was_taking(Some(Event::interrupt(0x40)));
    w.exit(fault(APIC + 0xf0, true));
    assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_crash));
    assert_eq!(w.passed(), 0);
}

#[test]
fn exceptions_that_leave_the_guest_go_back_and_machine_checks_do_not() {
    let mut w = World::new();
    let exit = |vector, error| Exit::Exception {
        vector,
        error,
        address: 0,
    };
    w.exit(exit(1, None));
    assert_eq!(w.enter(), Some(Event::exception(1, None)));
    w.exit(exit(17, Some(0)));
    assert_eq!(w.enter(), Some(Event::exception(17, Some(0))));
    w.exit(exit(18, None));
    assert_eq!(w.enter(), None);
}

#[test]
fn a_guest_that_moves_its_tsc_is_interrupted_in_time() {
    let mut w = World::new();
    w.enable_apic();
    // TSC = 100: now it is behind the clock's reference point, modulo 2^64.
    (w.f.regs.rcx, w.f.regs.rax, w.f.regs.rdx) = (0x10, 100, 0);
    w.exit_at(&[0x0f, 0x30], Exit::Msr { write: true });
    assert_eq!(w.passed(), 2);
    assert_eq!(w.register(Register::TscOffset).wrapping_add(2_000_000), 100);
    assert!(w.vcpu().owes(Owed::TIME), "its clock is to be told again");
    let now = w.f.machine.now();
    let due = w.cell(|cx| time(cx).time_of_tsc(100 + 5000));
    assert!((now + 2500..now + 2510).contains(&due), "{due}");
    assert_eq!(w.cell(|cx| time(cx).time_of_tsc(99)), now);
}

proptest! {
    /// Wherever the reference point is modulo 2^64, a TSC that is ahead comes when it has been counted to.
    #[test]
    fn a_deadline_is_never_early(tsc: u64, elapsed in 0..1_u64 << 50, ahead in 1..1_u64 << 50, khz in 800_000..5_000_000_u32) {
        let clock = Clock { tsc, ns: 1000, scale: TscScale::from_khz(khz).unwrap() };
        let now = 1000 + elapsed;
        let current = tsc_at(&clock, now);
        prop_assume!(current.checked_add(ahead).is_some());
        let time = Time::at(now, Some(clock));
        let due = time.time_of_tsc(current + ahead);
        let counted = tsc_at(&clock, due).wrapping_sub(current);
        prop_assert!(counted >= ahead, "{counted} < {ahead}");
        prop_assert!(counted - ahead < 32 + (ahead >> 20), "{counted} > {ahead}");
        prop_assert_eq!(time.time_of_tsc(current), now);
    }
}
