//! Instructions that leave the container.

use super::world::*;
use crate::hvm::controls::{cr0, cr4};
use crate::hvm::exit::Exit;
use crate::hvm::processor::{Event, Processor, Register};
use xen_abi::errno::Errno;
use xen_abi::hypercall::__HYPERVISOR_xen_version;

const PROTECTION: Option<Event> = Some(Event::exception(13, Some(0)));
const INVALID: Option<Event> = Some(Event::exception(6, None));
const OSXSAVE: u64 = cr4::OSXSAVE;

const fn access(cr: u8, write: bool) -> Exit {
    Exit::CrAccess {
        cr,
        write,
        gpr: None,
    }
}

const fn debug(dr: u8, write: bool) -> Exit {
    Exit::DrAccess {
        dr,
        write,
        gpr: None,
    }
}

#[test]
fn cpuid_answers_by_the_policy() {
    let mut w = World::new();
    (w.f.regs.rax, w.f.regs.rcx) = (0x4000_0000, 0);
    w.exit_at(&[0x0f, 0xa2], Exit::Cpuid);
    assert_eq!(w.passed(), 2);
    assert_eq!(w.f.regs.rbx, 0x566e_6558, "XenV");
    assert_eq!(w.f.regs.rcx, 0x6558_4d4d, "MMXe");
    assert_eq!(w.f.regs.rdx, 0x4d4d_566e, "nVMM");
}

#[test]
fn msrs_are_read_and_written_or_refused() {
    let mut w = World::new();
    (w.f.regs.rcx, w.f.regs.rax, w.f.regs.rdx) = (0xc000_0082, 0x1234, 0xffff_8000);
    w.exit_at(&[0x0f, 0x30], Exit::Msr { write: true });
    assert_eq!(w.passed(), 2);
    assert_eq!(w.register(Register::Lstar), 0xffff_8000_0000_1234);
    (w.f.regs.rax, w.f.regs.rdx) = (u64::MAX, u64::MAX);
    w.exit_at(&[0x0f, 0x32], Exit::Msr { write: false });
    assert_eq!((w.f.regs.rax, w.f.regs.rdx), (0x1234, 0xffff_8000));
    // Not canonical; unknown.
    w.f.regs.rdx = 0x1234_5678;
    w.exit_at(&[0x0f, 0x30], Exit::Msr { write: true });
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    w.f.regs.rcx = 0xdead;
    w.exit_at(&[0x0f, 0x32], Exit::Msr { write: false });
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
}

#[test]
fn an_msr_of_a_feature_that_is_not_there_is_refused() {
    let mut w = World::new();
    (w.f.regs.rcx, w.f.regs.rax, w.f.regs.rdx) = (0xc000_0103, 77, 0);
    w.exit_at(&[0x0f, 0x30], Exit::Msr { write: true });
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    assert_eq!((w.f.hvm.msrs.tsc_aux, w.given().tsc_aux), (0, None));
}

#[test]
fn no_user_reads_msrs() {
    let mut w = World::new();
    w.user();
    w.f.regs.rcx = 0xc000_0082;
    w.exit_at(&[0x0f, 0x32], Exit::Msr { write: false });
    assert_eq!(w.take_injected(), PROTECTION);
}

const fn port(write: bool, size: u8, string: bool, length: u64) -> Exit {
    Exit::Port {
        write,
        port: 0x3f8,
        size,
        string,
        rep: false,
        next_rip: CODE + length,
    }
}

#[test]
fn ports_give_ones_and_take_what_is_written() {
    let mut w = World::new();
    let before = 0x1122_3344_5566_7788;
    for (size, after) in [
        (1, 0x1122_3344_5566_77ff),
        (2, 0x1122_3344_5566_ffff),
        (4, 0xffff_ffff),
    ] {
        w.f.regs.rax = before;
        w.exit_at(&[0xec], port(false, size, false, 1));
        assert_eq!((w.f.regs.rax, w.passed()), (after, 1));
        w.f.regs.rax = before;
        w.exit_at(&[0xee], port(true, size, false, 1));
        assert_eq!((w.f.regs.rax, w.passed()), (before, 1));
    }
}

#[test]
fn strings_go_to_ports_and_get_ones() {
    let mut w = World::new();
    let data = CODE + 0x800;
    w.write(data, &[0; 16]);
    w.f.regs.rdi = data;
    w.f.regs.rcx = 2;
    // rep insw
    w.exit_at(&[0x66, 0xf3, 0x6d], port(false, 2, true, 3));
    assert_eq!((w.read(data), w.read(data + 4)), (0xffff_ffff, 0));
    assert_eq!((w.f.regs.rcx, w.f.regs.rdi, w.passed()), (0, data + 4, 3));
    // outsb
    w.f.regs.rsi = data;
    w.exit_at(&[0x6e], port(true, 1, true, 1));
    assert_eq!((w.f.regs.rsi, w.passed()), (data + 1, 1));
    // Another instruction by now: it is left to the guest.
    w.exit_at(&[0x90], port(true, 1, true, 1));
    assert_eq!((w.take_injected(), w.passed()), (None, 0));
}

#[test]
fn control_registers_are_moved() {
    let mut w = World::new();
    w.exit_at(&[0x0f, 0x20, 0xc3], access(0, false));
    assert_eq!((w.f.regs.rbx, w.passed()), (0x8001_0031, 3));
    w.f.regs.rbx = 0x8001_0033;
    w.exit_at(&[0x0f, 0x22, 0xc3], access(0, true));
    assert_eq!((w.register(Register::Cr0), w.passed()), (0x8001_0033, 3));
    w.f.regs.rbx = 0x20 | cr4::OSFXSR;
    w.exit_at(&[0x0f, 0x22, 0xe3], access(4, true));
    assert_eq!(w.register(Register::Cr4), 0x20 | cr4::OSFXSR);
    w.exit_at(&[0x0f, 0x20, 0xe1], access(4, false));
    assert_eq!(w.f.regs.rcx, 0x20 | cr4::OSFXSR);
    // No PAE in long mode.
    w.f.regs.rbx = 0;
    w.exit_at(&[0x0f, 0x22, 0xe3], access(4, true));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    w.f.regs.rbx = 0x10;
    w.exit_at(&[0x44, 0x0f, 0x22, 0xc3], access(8, true));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
}

#[test]
fn the_cpu_may_tell_of_a_move() {
    let mut w = World::told();
    // MOV CR0 from r11; nothing is at the instruction pointer.
    w.f.regs.r11 = 0x8001_003b;
    w.hardware(0x10, (1 << 63 | 11, 0), 4);
    assert_eq!((w.register(Register::Cr0), w.passed()), (0x8001_003b, 4));
    w.hardware(0x24, (3, 0), 3);
    assert_eq!((w.f.regs.rbx, w.passed()), (0xffff_0ff0, 7), "DR4 is DR6");
}

#[test]
fn the_parts_of_cr0_have_instructions_of_their_own() {
    let mut w = World::new();
    w.set_register(Register::Cr0, 0x8001_0031 | cr0::TS);
    w.exit_at(&[0x0f, 0x06], access(0, true));
    assert_eq!((w.register(Register::Cr0), w.passed()), (0x8001_0031, 2));
    // LMSW ax: TS on, PE stays.
    w.f.regs.rax = 0x8;
    w.exit_at(&[0x0f, 0x01, 0xf0], access(0, true));
    assert_eq!(
        (w.register(Register::Cr0), w.passed()),
        (0x8001_0031 | cr0::TS, 3)
    );
    // SMSW ax, eax, rax.
    for (bytes, expected) in [
        (&[0x66, 0x0f, 0x01, 0xe0][..], 0xffff_ffff_ffff_0039),
        (&[0x0f, 0x01, 0xe0], 0x8001_0039),
        (&[0x48, 0x0f, 0x01, 0xe0], 0x8001_0039),
    ] {
        w.f.regs.rax = u64::MAX;
        w.exit_at(bytes, access(0, false));
        assert_eq!((w.f.regs.rax, w.passed()), (expected, bytes.len() as u64));
    }
    // To memory.
    w.exit_at(&[0x0f, 0x01, 0x20], access(0, false));
    assert_eq!(w.take_injected(), INVALID);
}

#[test]
fn a_user_gets_no_control_register_by_changing_the_code() {
    let mut w = World::new();
    w.user();
    // SMSW left the container; by now it is something else.
    for bytes in [
        &[0x0f, 0x22, 0xc0][..],
        &[0x0f, 0x22, 0xe0],
        &[0x0f, 0x20, 0xe0],
        &[0x0f, 0x06],
        &[0x44, 0x0f, 0x22, 0xc0],
    ] {
        w.f.regs.rax = 0x31;
        w.exit_at(bytes, access(0, false));
        assert_eq!((w.take_injected(), w.passed()), (None, 0), "{bytes:x?}");
    }
    w.exit_at(&[0x0f, 0x20, 0xc0], access(0, false));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    w.exit_at(&[0x48, 0x0f, 0x01, 0xe0], access(0, false));
    assert_eq!((w.f.regs.rax, w.passed()), (0x8001_0031, 4));
    w.exit_at(&[0x0f, 0x21, 0xf8], debug(7, false));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    assert_eq!(w.register(Register::Cr0), 0x8001_0031);
    assert_eq!(w.register(Register::Cr4), 0x20);
}

#[test]
fn debug_registers_are_kept() {
    let mut w = World::new();
    w.f.hvm.debug_loaded = true;
    w.f.regs.rax = 0x1234_5678_9abc;
    w.exit_at(&[0x0f, 0x23, 0xd0], debug(2, true));
    assert_eq!((w.f.hvm.debug[2], w.passed()), (0x1234_5678_9abc, 3));
    assert!(!w.f.hvm.debug_loaded);
    w.exit_at(&[0x0f, 0x21, 0xd3], debug(2, false));
    assert_eq!(w.f.regs.rbx, 0x1234_5678_9abc);
    w.f.regs.rax = 0x55;
    w.exit_at(&[0x0f, 0x23, 0xf8], debug(7, true));
    assert_eq!(w.register(Register::Dr7), 0x455);
    w.f.regs.rax = 1 << 32;
    w.exit_at(&[0x0f, 0x23, 0xf8], debug(7, true));
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    // DR4 is DR6, unless the guest wants to be told.
    w.exit_at(&[0x0f, 0x21, 0xe3], debug(4, false));
    assert_eq!((w.f.regs.rbx, w.passed()), (0xffff_0ff0, 3));
    w.set_register(Register::Cr4, 0x28);
    w.exit_at(&[0x0f, 0x21, 0xe3], debug(4, false));
    assert_eq!((w.take_injected(), w.passed()), (INVALID, 0));
}

#[test]
fn another_debug_register_by_now_is_tried_again() {
    let mut w = World::new();
    w.exit_at(&[0x0f, 0x23, 0xf8], debug(2, true));
    assert_eq!((w.take_injected(), w.passed()), (None, 0));
    assert_eq!(w.register(Register::Dr7), 0x400);
}

#[test]
fn xsetbv_goes_to_the_cpu() {
    let mut w = World::new();
    let bytes = [0x0f, 0x01, 0xd1];
    (w.f.regs.rcx, w.f.regs.rax, w.f.regs.rdx) = (0, 7, 0);
    w.exit_at(&bytes, Exit::Xsetbv);
    assert_eq!((w.take_injected(), w.passed()), (INVALID, 0), "no OSXSAVE");
    w.set_register(Register::Cr4, 0x20 | OSXSAVE);
    w.exit_at(&bytes, Exit::Xsetbv);
    assert_eq!((w.f.hvm.xcr0, w.given().xcr0, w.passed()), (7, Some(7), 3));
    // AVX without SSE; another register.
    for (rcx, rax) in [(0, 5), (0, 6), (1, 7)] {
        (w.f.regs.rcx, w.f.regs.rax) = (rcx, rax);
        w.exit_at(&bytes, Exit::Xsetbv);
        assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
    }
    assert_eq!(w.f.hvm.xcr0, 7);
}

#[test]
fn hypercalls_are_the_kernels_in_64_and_32_bits() {
    let mut w = World::new();
    let call = [0x0f, 0x01, 0xd9];
    (w.f.regs.rax, w.f.regs.rdi) = (__HYPERVISOR_xen_version.into(), 0);
    w.exit_at(&call, Exit::Hypercall);
    assert_eq!((w.f.regs.rax, w.passed()), (0x4_0011, 3));
    w.protected();
    (w.f.regs.rax, w.f.regs.rbx) = (__HYPERVISOR_xen_version.into(), 0);
    w.exit_at(&call, Exit::Hypercall);
    assert_eq!((w.f.regs.rax, w.passed()), (0x4_0011, 3));
    w.real();
    w.f.regs.rax = __HYPERVISOR_xen_version.into();
    w.exit_at(&call, Exit::Hypercall);
    assert_eq!(w.f.regs.rax, Errno::ENOSYS.to_ret() as u64);
    w.user();
    w.f.regs.rax = __HYPERVISOR_xen_version.into();
    w.exit_at(&call, Exit::Hypercall);
    assert_eq!(
        (w.f.regs.rax, w.passed()),
        (Errno::EPERM.to_ret() as u64, 3)
    );
}

#[test]
fn a_stepped_hypercall_traps_once_it_has_ended() {
    let mut w = World::new();
    w.f.regs.rflags |= TF;
    (w.f.regs.rax, w.f.regs.rdi) = (__HYPERVISOR_xen_version.into(), 0);
    w.exit_at(&[0x0f, 0x01, 0xd9], Exit::Hypercall);
    assert_eq!(w.take_injected(), Some(Event::exception(1, None)));
}

#[test]
fn what_no_guest_has_is_invalid() {
    let mut w = World::new();
    for exit in [Exit::Forbidden, Exit::Monitor, Exit::Mwait] {
        w.exit_at(&[0x90], exit);
        assert_eq!((w.take_injected(), w.passed()), (INVALID, 0));
    }
    w.exit_at(&[0x0f, 0x33], Exit::Rdpmc);
    assert_eq!((w.take_injected(), w.passed()), (PROTECTION, 0));
}

#[test]
fn caches_and_pauses_pass() {
    let mut w = World::new();
    w.exit_at(&[0x0f, 0x09], Exit::Wbinvd);
    assert_eq!(w.passed(), 2);
    w.exit_at(&[0x0f, 0x08], Exit::Wbinvd);
    assert_eq!(w.passed(), 2, "as some emulators have it");
    w.exit_at(&[0x0f, 0x08], Exit::Invd);
    assert_eq!(w.passed(), 2);
    w.exit_at(&[0xf3, 0x90], Exit::Pause);
    assert_eq!(w.passed(), 2);
}

#[test]
fn the_tsc_is_read_where_it_passed_zero() {
    let mut w = World::new();
    let clock = w.f.hvm.clock.as_mut().unwrap();
    clock.tsc = 0_u64.wrapping_sub(1_000_000);
    w.f.hvm.msrs.tsc_aux = 5;
    // 2 GHz for 1 ms, less a million.
    w.exit_at(&[0x0f, 0x01, 0xf9], Exit::Rdtscp);
    assert_eq!((w.f.regs.rax, w.f.regs.rdx), (1_000_000, 0));
    assert_eq!((w.f.regs.rcx, w.passed()), (5, 3));
}

#[test]
fn code_that_changed_under_the_exit_runs_again() {
    let mut w = World::new();
    for exit in [
        Exit::Cpuid,
        Exit::Hlt,
        Exit::Msr { write: true },
        Exit::Wbinvd,
        Exit::Xsetbv,
        access(0, true),
        debug(7, true),
    ] {
        w.exit_at(&[0x90, 0x90, 0x90], exit);
        assert_eq!((w.take_injected(), w.passed()), (None, 0), "{exit:?}");
    }
    assert_eq!(w.vcpu().flags(), 0);
}

#[test]
fn code_that_is_gone_faults() {
    let mut w = World::new();
    w.f.regs.rip = 1 << 40;
    w.exit(Exit::Cpuid);
    assert_eq!(
        w.take_injected(),
        Some(Event::exception(14, Some(0))),
        "not present"
    );
    assert_eq!(w.register(Register::Cr2), 1 << 40);
}

#[test]
fn passing_over_an_instruction_ends_what_it_held_back() {
    let mut w = World::new();
    w.f.hvm.processor.set_interrupt_shadow(true);
    w.f.regs.rflags |= 1 << 16;
    w.exit_at(&[0x0f, 0xa2], Exit::Cpuid);
    assert!(!w.f.hvm.processor.interrupt_shadow());
    assert_eq!(w.f.regs.rflags & 1 << 16, 0);
}
