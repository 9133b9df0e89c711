//! Nested faults: at the local APIC, where nothing is, and at what is not to be written.

use super::world::*;
use super::*;
use crate::base::Gfn;
use crate::domain::{Machine, Removed, Step};
use crate::hvm::copies::GuestMemory;
use crate::hvm::exit::Exit;
use crate::hvm::processor::{Event, Processor};
use crate::mm::p2m::P2mKind;

/// Where nothing is.
const HOLE: u64 = 0x8000_0000;
const PROTECTION: Option<Event> = Some(Event::exception(13, Some(0)));

#[test]
fn the_registers_of_the_local_apic_are_read_and_written() {
    let mut w = World::new();
    assert_eq!(w.apic_read(0x30), 0x0005_0014);
    w.apic_write(0x80, 0x37);
    assert_eq!(w.prepare(), Ready::Enter);
    assert_eq!(w.apic_read(0x80), 0x37);
    assert_eq!(w.f.hvm.processor.task_priority(), 3);
    // An exit without a change of CR8 keeps the lower half.
    w.exit(Exit::Interrupt);
    assert_eq!(w.apic_read(0x80), 0x37);
}

#[test]
fn the_bytes_may_come_with_the_fault() {
    let mut w = World::new();
    w.f.hvm.processor.set_interrupt_shadow(true);
    w.f.regs.rbx = APIC + 0x30;
    w.exit_at(&[0x8b, 0x03], fault(APIC + 0x30, false));
    assert_eq!((w.f.regs.rax, w.passed()), (0x0005_0014, 2));
    assert!(!w.f.hvm.processor.interrupt_shadow());
}

#[test]
fn a_hole_gives_ones_and_takes_what_is_written() {
    let mut w = World::new();
    w.f.regs.rbx = HOLE;
    w.exit_at(&[0x48, 0x8b, 0x03], fault(HOLE, false));
    assert_eq!((w.f.regs.rax, w.passed()), (u64::MAX, 3));
    w.exit_at(&[0x48, 0x89, 0x03], fault(HOLE, true));
    assert_eq!(w.passed(), 3);
}

#[test]
fn a_copy_from_the_apic_to_memory_is_done() {
    let mut w = World::new();
    (w.f.regs.rsi, w.f.regs.rdi) = (APIC + 0x30, 0x7008);
    // movsd
    w.exit_at(&[0xa5], fault(APIC + 0x30, false));
    assert_eq!(w.passed(), 1);
    assert_eq!(w.read(0x7008) as u32, 0x0005_0014);
}

#[test]
fn each_write_of_a_string_instruction_has_its_effect() {
    let mut w = World::new();
    w.enable_apic();
    w.apic_write(0x310, 2 << 24);
    // INIT to APIC 2, then three words that are no registers: rep stosd
    (w.f.regs.rax, w.f.regs.rcx, w.f.regs.rdi) = (0x4500, 4, APIC + 0x300);
    w.exit_at(&[0xf3, 0xab], fault(APIC + 0x300, true));
    assert_eq!((w.f.regs.rcx, w.passed()), (0, 2));
    let letters = w.d.vcpus()[1].inbox.take().unwrap();
    assert!(letters.init);
}

#[test]
fn a_fault_of_the_emulated_instruction_is_the_guests() {
    let mut w = World::new();
    (w.f.regs.rsi, w.f.regs.rdi) = (APIC + 0x30, 1 << 40);
    w.exit_at(&[0xa5], fault(APIC + 0x30, false));
    assert_eq!(w.take_injected(), Some(Event::exception(14, Some(2))));
    assert_eq!(w.passed(), 0);
}

#[test]
fn a_stepped_access_traps() {
    let mut w = World::new();
    w.f.regs.rflags |= TF;
    w.f.regs.rbx = APIC + 0x30;
    w.exit_at(&[0x8b, 0x03], fault(APIC + 0x30, false));
    assert_eq!(w.take_injected(), Some(Event::exception(1, None)));
}

#[test]
fn what_cannot_be_emulated_is_no_instruction() {
    let mut w = World::new();
    // fld dword ptr [rbx]
    w.exit_at(&[0xd9, 0x03], fault(HOLE, false));
    assert_eq!(w.take_injected(), Some(Event::exception(6, None)));
    assert_eq!((w.down(), w.passed()), (None, 0));
}

fn grant(w: &World, gfn: u64, write: bool) {
    let page = w.f.machine.page_of(0);
    w.map()
        .add_grant(Gfn(gfn), page, write, &mut Removed::new())
        .unwrap();
}

#[test]
fn a_grant_is_written_only_if_it_may() {
    let mut w = World::new();
    grant(&w, 0x20, false);
    grant(&w, 0x21, true);
    w.exit_at(&[0x89, 0x03], fault(0x20_000, true));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    for exit in [fault(0x20_000, false), fault(0x21_000, true)] {
        w.exit_at(&[0x89, 0x03], exit);
        assert_eq!((w.take_injected(), w.passed()), (None, 0), "again");
    }
}

#[test]
fn a_grant_is_not_executed() {
    let mut w = World::new();
    grant(&w, 0x20, false);
    let fetch = |gfn: u64| Exit::NestedFault {
        address: gfn << 12,
        write: false,
        fetch: true,
        present: true,
        in_walk: false,
    };
    w.exit(fetch(0x20));
    assert_eq!(w.take_injected(), PROTECTION);
    w.exit(fetch(3));
    assert_eq!(w.take_injected(), None, "RAM: again");
    w.f.regs.rip = HOLE;
    w.exit(fetch(HOLE >> 12));
    assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_crash));
}

#[test]
fn a_write_is_logged_once() {
    let mut w = World::new();
    while w.map().set_log(true, 100) == Ok(Step::More) {}
    assert_eq!(w.map().lookup(Gfn(5)).unwrap().1, P2mKind::RamLogDirty);
    let before = w.f.machine.free_pages();
    w.exit_at(&[0x89, 0x03], fault(0x5000, true));
    assert_eq!((w.take_injected(), w.passed()), (None, 0));
    assert_eq!(w.map().lookup(Gfn(5)).unwrap().1, P2mKind::Ram);
    let mut bits = [0; 2];
    let _ = w.map().log_read(Gfn(0), &mut bits, false);
    assert_eq!(bits[0] & 1 << 5, 1 << 5);
    assert_eq!(w.f.machine.free_pages(), before);
}

/// What is promised at 0x20 and 0x21, and one page for it.
fn promise(w: &World) {
    for gfn in [0x20, 0x21] {
        w.map().promise(Gfn(gfn), 0).unwrap();
    }
    w.map().set_aside(w.f.machine.page_of(1)).unwrap();
}

#[test]
fn a_promise_is_kept_when_the_guest_touches_it() {
    let mut w = World::new();
    promise(&w);
    w.exit_at(&[0x89, 0x03], fault(0x20_008, true));
    assert_eq!((w.take_injected(), w.passed()), (None, 0), "again");
    assert_eq!(w.map().lookup(Gfn(0x20)).unwrap().1, P2mKind::Ram);
    assert_eq!((w.read(0x20_008), w.down()), (0, None));
}

#[test]
fn a_promise_is_kept_when_the_hypervisor_touches_it() {
    let mut w = World::new();
    promise(&w);
    assert_eq!(w.read(0x20_000), 0);
    w.write(0x20_000, &[1]);
    assert_eq!((w.read(0x20_000), w.map().demand().promised), (1, 1));
    w.exit_at(&[0x90], Exit::Interrupt);
    assert_eq!(w.down(), None);
}

#[test]
fn a_guest_whose_promise_is_broken_crashes() {
    let mut w = World::new();
    promise(&w);
    w.write(0x20_000, &[1]);
    // Each touch looks at a part of its memory, and comes again.
    for gfn in 0..PAGES {
        w.write((gfn << 12) + 8, &[1]);
    }
    for _ in 0..4 {
        assert_eq!(w.passed(), 0);
        w.exit(fault(0x21_000, true));
    }
    assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_crash));
    assert_eq!(w.take_injected(), None);
    let mut w = World::new();
    promise(&w);
    for gfn in (0..PAGES).chain([0x20]) {
        w.write((gfn << 12) + 8, &[1]);
    }
    // By the hypervisor: the next exit is the last.
    assert_eq!(Memory(&w.d).read(0x21_000, &mut [0]), None);
    w.exit(Exit::Interrupt);
    assert_eq!(w.down(), Some(xen_abi::sched::SHUTDOWN_crash));
}
