//! The frames with which a guest's kernel is entered, and the one with which it returns.

use std::sync::atomic::Ordering;

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, IretContext, TI_IF, VGCF_in_syscall};

use crate::base::{GuestVa, Mfn};
use crate::hypercall::Outcome;
use crate::hypercall::testing::{Fixture, GUEST, NOWHERE};
use crate::pv::bounce::{self, Undeliverable};
use crate::pv::frame::{GuestFrame, RETURN_BY_SYSRET, rflags};
use crate::pv::iret;
use crate::pv::state::{Callback, Mode, TrapEntry};

/// Top of the guest kernel's stack, not aligned: the frame is.
const STACK: u64 = GUEST + 0x1008;
const HANDLER: u64 = 0xffff_ffff_8100_0000;
const MASKED: u64 = 1 << 8;

fn registers() -> GuestFrame {
    GuestFrame {
        rcx: 0xcc,
        r11: 0x11,
        rip: 0x40_1000,
        cs: 0xe033,
        rflags: rflags::IF | rflags::FIXED | rflags::TF | rflags::CF,
        rsp: GUEST + 0x708,
        ss: 0xe02b,
        ds: 1,
        es: 2,
        fs: 3,
        gs: 4,
        ..GuestFrame::default()
    }
}

fn from(mode: Mode) -> Fixture {
    let mut f = Fixture::guest();
    f.state.mode = mode;
    f.state.kernel_sp = STACK;
    f.regs = registers();
    f
}

fn upcall_word(f: &mut Fixture, change: impl FnOnce(u64) -> u64) -> u64 {
    f.with(|cx| {
        let word = cx.upcall_word().unwrap();
        word.store(change(word.load(Ordering::Relaxed)), Ordering::Relaxed);
        word.load(Ordering::Relaxed)
    })
}

fn frame<const N: usize>(f: &Fixture) -> [u64; N] {
    f.get(f.regs.rsp)
}

#[test]
fn a_system_call_enters_the_kernel_on_its_own_stack() {
    let mut f = from(Mode::User);
    let entry = Callback {
        address: HANDLER,
        masks_events: true,
    };
    assert_eq!(f.with(|cx| bounce::callback(cx, entry, "test")), Ok(()));
    let old = registers();
    assert_eq!(f.regs.rsp, (STACK & !15) - 56);
    let flags = old.rflags;
    let expected = [0xcc, 0x11, old.rip, old.cs, flags, old.rsp, old.ss];
    assert_eq!(frame::<7>(&f), expected);
    assert_eq!(f.state.mode, Mode::Kernel);
    let (cs, ss) = (FLAT_KERNEL_CS.into(), FLAT_KERNEL_SS.into());
    assert_eq!((f.regs.rip, f.regs.cs, f.regs.ss), (HANDLER, cs, ss));
    assert_eq!(
        f.regs.rflags,
        rflags::IF | rflags::FIXED | rflags::CF,
        "single steps end"
    );
    assert_eq!(f.regs.entry, RETURN_BY_SYSRET);
    assert_eq!(upcall_word(&mut f, |w| w), MASKED);
}

#[test]
fn a_fault_in_the_kernel_stays_on_its_stack_and_shows_the_mask() {
    let mut f = from(Mode::Kernel);
    let gate = TrapEntry {
        address: HANDLER,
        cs: 0,
        flags: TI_IF,
    };
    f.state.traps[14] = gate;
    upcall_word(&mut f, |_| MASKED | 1);
    assert_eq!(f.with(|cx| bounce::page_fault(cx, 0xfau64, 7)), Ok(()));
    let old = registers();
    assert_eq!(f.regs.rsp, (old.rsp & !15) - 64);
    // The kernel's own selector has RPL 0; the mask stands above it, the interrupt flag is its inverse.
    let cs = old.cs & !3 | 1 << 32;
    let flags = old.rflags & !rflags::IF;
    assert_eq!(
        frame::<8>(&f),
        [0xcc, 0x11, 7, old.rip, cs, flags, old.rsp, old.ss]
    );
    let cr2 = f.with(|cx| {
        let (frame, offset) = cx.vcpu.info_place().unwrap();
        let words = cx.domain.machine.words(frame);
        words[(offset + xen_abi::xen::VCPU_INFO_CR2) / 8].load(Ordering::Relaxed)
    });
    assert_eq!(cr2, 0xfa);
}

#[test]
fn a_gate_that_leaves_events_alone_does_not_mask_them() {
    let mut f = from(Mode::User);
    f.state.traps[3] = TrapEntry {
        address: HANDLER,
        cs: 0,
        flags: 3,
    };
    assert_eq!(f.with(|cx| bounce::trap(cx, 3, None)), Ok(()));
    assert_eq!(upcall_word(&mut f, |w| w), 0);
    assert_eq!(
        f.with(|cx| bounce::trap(cx, 4, None)),
        Err(Undeliverable),
        "there is no handler"
    );
}

#[test]
fn the_failsafe_callback_finds_the_selectors() {
    let mut f = from(Mode::User);
    f.state.callbacks.failsafe.address = HANDLER;
    assert_eq!(f.with(bounce::failsafe), Ok(()));
    let old = registers();
    let frame = frame::<11>(&f);
    assert_eq!(frame[..6], [0xcc, 0x11, 1, 2, 3, 4]);
    assert_eq!(frame[6..], [old.rip, old.cs, old.rflags, old.rsp, old.ss]);
}

#[test]
fn a_stack_that_cannot_be_written_ends_the_domain() {
    let mut f = from(Mode::User);
    f.state.kernel_sp = NOWHERE;
    let entry = Callback {
        address: HANDLER,
        masks_events: true,
    };
    let entered = f.with(|cx| bounce::callback(cx, entry, "test"));
    assert_eq!(entered, Err(Undeliverable));
    assert_eq!(f.regs.rip, registers().rip);
}

fn return_with(f: &mut Fixture, context: IretContext) -> Outcome {
    f.regs.rsp = GUEST + 0x100;
    f.put(GUEST + 0x100, &context);
    f.with(iret::iret).unwrap()
}

fn context() -> IretContext {
    IretContext {
        rax: 1,
        r11: 2,
        rcx: 3,
        flags: 0,
        rip: 0x40_0000,
        cs: 0xe030,
        rflags: rflags::IF | rflags::IOPL | rflags::ZF,
        rsp: 0x7000,
        ss: 0xe02b,
    }
}

#[test]
fn iret_loads_the_frame_and_the_mask() {
    let mut f = from(Mode::Kernel);
    upcall_word(&mut f, |_| MASKED | 1);
    f.state.nmi_masked = true;
    assert_eq!(return_with(&mut f, context()), Outcome::Resume);
    let r = f.regs;
    assert_eq!(
        (r.rax, r.r11, r.rcx, r.rip, r.rsp),
        (1, 2, 3, 0x40_0000, 0x7000)
    );
    assert_eq!((r.cs, r.ss), (0xe033, 0xe02b));
    assert_eq!(r.rflags, rflags::IF | rflags::FIXED | rflags::ZF);
    assert_eq!(r.entry, 0);
    assert_eq!(f.state.mode, Mode::Kernel);
    assert!(!f.state.nmi_masked);
    assert_eq!(upcall_word(&mut f, |w| w), 1, "the mask byte only");
    let masked = IretContext {
        rflags: 0,
        ..context()
    };
    assert_eq!(return_with(&mut f, masked), Outcome::Resume);
    assert_eq!(upcall_word(&mut f, |w| w), MASKED | 1);
    assert_ne!(f.regs.rflags & rflags::IF, 0, "interrupts stay on for us");
}

#[test]
fn iret_to_user_mode_needs_a_root_and_a_canonical_address_for_sysret() {
    let user = |rip| IretContext {
        cs: 0xe033,
        rip,
        flags: VGCF_in_syscall,
        ..context()
    };
    let mut f = from(Mode::Kernel);
    assert_eq!(return_with(&mut f, user(0x40_0000)), Outcome::Crash);
    f.state.roots.user = Some(Mfn(5));
    assert_eq!(return_with(&mut f, user(0x40_0000)), Outcome::Resume);
    assert_eq!((f.state.mode, f.regs.entry), (Mode::User, RETURN_BY_SYSRET));
    assert_eq!((f.regs.rcx, f.regs.r11), (0xcc, 0x11), "SYSRET loads them");
    f.state.mode = Mode::Kernel;
    let hole = 0x8000_0000_0000;
    assert!(!GuestVa(hole).is_canonical());
    assert_eq!(return_with(&mut f, user(hole)), Outcome::Resume);
    assert_eq!((f.regs.entry, f.regs.rcx), (0, 3));
    f.regs.rsp = NOWHERE;
    assert_eq!(f.with(iret::iret), Ok(Outcome::Crash));
}
