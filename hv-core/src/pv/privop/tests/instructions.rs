//! One instruction at a time.

use super::world::{BASE, CODE, GP, HOLE, World, vcpu};
use crate::base::Mfn;
use crate::domain::Rights;
use crate::pv::frame::{GuestFrame, RETURN_BY_SYSRET, rflags};
use crate::pv::privop::{CodeSegment, Effect, Stepping, Trap, Verdict, emulate, hardware_cr4};
use crate::pv::state::{IoplPlace, Mode, PortBitmap, PvState, StateBox};

const DONE: Verdict = Verdict::Done(Effect::Nothing, Stepping::Off);
const FORCED_CPUID: &[u8] = b"\x0f\x0bxen\x0f\xa2";

fn control() -> (World, GuestFrame, StateBox) {
    let (regs, state) = vcpu();
    (World::new(Rights::Control), regs, state)
}

#[test]
fn forced_cpuid_is_answered_in_both_modes() {
    let (world, mut regs, mut state) = control();
    for (mode, edx) in [(Mode::Kernel, 0x1fc9_d3f5), (Mode::User, 0x1fc9_c3f5)] {
        state.mode = mode;
        regs.rax = 0xffff_ffff_0000_0001;
        regs.entry = RETURN_BY_SYSRET | 6;
        assert_eq!(
            world.run(&mut regs, &mut state, FORCED_CPUID, Trap::InvalidOpcode),
            DONE
        );
        assert_eq!(
            [regs.rax, regs.rbx, regs.rcx, regs.rdx],
            [0x60fb1, 0x20800, 0xfed8_3203, edx]
        );
        assert_eq!(regs.rip, CODE + 7);
        assert_eq!(regs.entry & RETURN_BY_SYSRET, 0, "rcx must survive");
    }
}

#[test]
fn other_undefined_instructions_are_the_guests() {
    let (world, mut regs, mut state) = control();
    for code in [
        &b"\x0f\x0b"[..],
        b"\x0f\xa2",
        b"\x0f\x0bxen\xf4",
        b"\x0f\x0bxeo\x0f\xa2",
        b"\x0f\x0bxen\x66\x0f\xa2",
    ] {
        let before = regs.rax;
        assert_eq!(
            world.run(&mut regs, &mut state, code, Trap::InvalidOpcode),
            Verdict::Reflect
        );
        assert_eq!((regs.rip, regs.rax), (CODE, before));
    }
}

#[test]
fn a_faulting_cpuid_is_answered() {
    let (world, mut regs, mut state) = control();
    state.mode = Mode::User;
    regs.rax = 0x4000_0000;
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\xa2", GP), DONE);
    assert_eq!(regs.rax, 0x4000_0005);
    world.segment.set(CodeSegment::Flat32);
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\xa2", GP), DONE);
    assert_eq!(regs.rip, (CODE + 2) & 0xffff_ffff);
    world.segment.set(CodeSegment::Other);
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\xa2", GP),
        Verdict::Reflect
    );
}

#[test]
fn a_selector_in_the_error_code_means_another_fault() {
    let (world, mut regs, mut state) = control();
    let why = Trap::GeneralProtection { error: 0x42 };
    assert_eq!(
        world.run(&mut regs, &mut state, b"\xf4", why),
        Verdict::Reflect
    );
}

#[test]
fn instructions_may_cross_into_another_page() {
    let (world, mut regs, mut state) = control();
    let at = BASE + 0x2ffc;
    world.put(at, FORCED_CPUID);
    regs.rip = at;
    assert_eq!(
        emulate(&world, &mut regs, &mut state, Trap::InvalidOpcode),
        DONE
    );
    // Into the missing one.
    for length in [2, 5] {
        regs.rip = HOLE - length as u64;
        world.put(regs.rip, &FORCED_CPUID[..length]);
        assert_eq!(
            emulate(&world, &mut regs, &mut state, Trap::InvalidOpcode),
            Verdict::Reflect
        );
    }
    world.put(HOLE - 1, b"\x0f");
    regs.rip = HOLE - 1;
    let fault = Verdict::PageFault {
        address: HOLE,
        error: 0x10,
    };
    assert_eq!(emulate(&world, &mut regs, &mut state, GP), fault);
    // Up to it, no further.
    state.iopl = 1;
    world.put(HOLE - 1, b"\xfa");
    regs.rip = HOLE - 1;
    assert_eq!(
        emulate(&world, &mut regs, &mut state, GP),
        Verdict::Done(Effect::MaskEvents, Stepping::Off)
    );
    state.mode = Mode::User;
    regs.rip = HOLE;
    let fault = Verdict::PageFault {
        address: HOLE,
        error: 0x14,
    };
    assert_eq!(emulate(&world, &mut regs, &mut state, GP), fault);
    // No page fault there: the jump itself is what is wrong.
    regs.rip = 1 << 47;
    let verdict = emulate(&world, &mut regs, &mut state, GP);
    assert_eq!(verdict, Verdict::Reflect);
}

#[test]
fn user_programs_get_their_exceptions() {
    let (world, mut regs, mut state) = control();
    state.mode = Mode::User;
    state.iopl = 2;
    let refused: &[&[u8]] = &[
        b"\xf4",
        b"\xfa",
        b"\xfb",
        b"\x0f\x06",
        b"\x0f\x09",
        b"\x0f\x20\xc0",
        b"\x0f\x22\xd8",
        b"\x0f\x23\xc0",
        b"\x0f\x30",
        b"\x0f\x32",
        b"\x0f\x01\x38",
        b"\x0f\x01\xd1",
        b"\xec",
        b"\xee",
        b"\x6c",
        b"\x6e",
    ];
    for code in refused {
        assert_eq!(
            world.run(&mut regs, &mut state, code, GP),
            Verdict::Reflect,
            "{code:x?}"
        );
    }
    assert!(world.ports_taken().is_empty());
}

#[test]
fn ports_need_privilege() {
    let (world, mut regs, mut state) = control();
    regs.rdx = 0x1f7;
    for (mode, iopl, allowed) in [
        (Mode::Kernel, 0, false),
        (Mode::Kernel, 1, true),
        (Mode::User, 2, false),
        (Mode::User, 3, true),
    ] {
        (state.mode, state.iopl) = (mode, iopl);
        let verdict = world.run(&mut regs, &mut state, b"\xec", GP);
        assert_eq!(verdict, if allowed { DONE } else { Verdict::Reflect });
        assert_eq!(world.ports_taken().len(), usize::from(allowed));
    }
    // A kernel of ring 0 needs none, its programs do.
    state.iopl = 0;
    state.iopl_place = IoplPlace::Flags;
    for (mode, verdict) in [(Mode::Kernel, DONE), (Mode::User, Verdict::Reflect)] {
        state.mode = mode;
        assert_eq!(world.run(&mut regs, &mut state, b"\xec", GP), verdict);
    }
}

#[test]
fn the_bitmap_allows_single_ports() {
    let (world, mut regs, mut state) = control();
    state.iopl = 0;
    state.port_bitmap = PortBitmap {
        address: BASE + 0x3000,
        ports: 0x400,
    };
    world.put(BASE + 0x3000, &[0xff; 0x80]);
    // 0x1f6 to 0x1f9: clear across the border of two bytes; 0x3ff: the last.
    world.put(BASE + 0x3000 + 0x3e, &[0x3f, 0xfc]);
    world.put(BASE + 0x3000 + 0x7f, &[0x7f]);
    for mode in [Mode::Kernel, Mode::User] {
        state.mode = mode;
        for (port, code, allowed) in [
            (0x1f5, &b"\xec"[..], false),
            (0x1f6, b"\xec", true),
            (0x1f9, b"\xee", true),
            (0x1fa, b"\xee", false),
            (0x1f5, b"\xed", false),
            (0x1f6, b"\xed", true),
            (0x1f7, b"\xef", false),
            (0x1f8, b"\x66\xed", true),
            (0x1f9, b"\x66\xed", false),
            (0x1f6, b"\x6f", true),
            (0x1f7, b"\x6d", false),
            (0x3ff, b"\xec", true),
            (0x3ff, b"\x66\xed", false),
            (0x400, b"\xec", false),
            (0xffff, b"\xed", false),
        ] {
            (regs.rdx, regs.rsi, regs.rdi) = (port, BASE, BASE);
            let verdict = world.run(&mut regs, &mut state, code, GP);
            let expected = if allowed { DONE } else { Verdict::Reflect };
            assert_eq!(verdict, expected, "{mode:?} {port:#x} {code:x?}");
            assert_eq!(world.ports_taken().len(), usize::from(allowed));
        }
        assert_eq!(
            world.run(&mut regs, &mut state, b"\xfa", GP),
            Verdict::Reflect,
            "CLI is about the privilege alone"
        );
    }
}

#[test]
fn bits_that_cannot_be_read_deny() {
    let (world, mut regs, mut state) = control();
    (state.mode, state.iopl) = (Mode::User, 0);
    // The second byte lies in the hole; its bits are those of ports 8 to 15.
    state.port_bitmap = PortBitmap {
        address: HOLE - 1,
        ports: 0x1_0000,
    };
    for (port, allowed) in [(7, true), (8, false), (0x7fff, false), (0xffff, true)] {
        regs.rdx = port;
        let verdict = world.run(&mut regs, &mut state, b"\xec", GP);
        assert_eq!(verdict, if allowed { DONE } else { Verdict::Reflect });
    }
    regs.rdx = 7;
    let verdict = world.run(&mut regs, &mut state, b"\x66\xed", GP);
    assert_eq!(verdict, Verdict::Reflect);
    state.port_bitmap.address = u64::MAX - 3;
    regs.rdx = 80;
    let verdict = world.run(&mut regs, &mut state, b"\xec", GP);
    assert_eq!(verdict, Verdict::Reflect, "behind the last address");
}

#[test]
fn port_accesses_come_in_three_sizes() {
    let (world, mut regs, mut state) = control();
    for (code, rax) in [
        (&b"\xe4\x61"[..], 0x1122_3344_5566_7701),
        (b"\x66\xed", 0x1122_3344_5566_0302),
        (b"\xed", 0x0605_0403),
        (b"\x48\xed", 0x0706_0504),
    ] {
        (regs.rax, regs.rdx) = (0x1122_3344_5566_7788, 0x0fff_f1f0);
        assert_eq!(world.run(&mut regs, &mut state, code, GP), DONE);
        assert_eq!(regs.rax, rax, "{code:x?}");
    }
    for code in [&b"\xe6\x61"[..], b"\x66\xef", b"\xef"] {
        (regs.rax, regs.rdx) = (0x1122_3344_5566_7788, 0x1f0);
        assert_eq!(world.run(&mut regs, &mut state, code, GP), DONE);
    }
    let log = world.ports_taken();
    assert_eq!(
        log[..4],
        [
            ('i', 0x61, 1, 0),
            ('i', 0xf1f0, 2, 0),
            ('i', 0xf1f0, 4, 0),
            ('i', 0xf1f0, 4, 0)
        ]
    );
    assert_eq!(
        log[4..],
        [
            ('o', 0x61, 1, 0x88),
            ('o', 0x1f0, 2, 0x7788),
            ('o', 0x1f0, 4, 0x5566_7788)
        ]
    );
}

#[test]
fn a_guest_without_ports_reads_ones() {
    let (regs, mut state) = vcpu();
    let world = World::new(Rights::Guest);
    let mut regs = GuestFrame { rdx: 0xcfc, ..regs };
    assert_eq!(world.run(&mut regs, &mut state, b"\xed", GP), DONE);
    assert_eq!(regs.rax, 0xffff_ffff);
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\x09", GP),
        DONE,
        "nothing to write back"
    );
}

#[test]
fn control_registers_read_as_the_reference_shows() {
    let (world, mut regs, mut state) = control();
    state.roots.kernel = Some(Mfn(0x1234));
    for (modrm, value) in [
        (0xc0, 0x8005_0033),
        (0xd0, 0xdead),
        (0xd8, 0x123_4000),
        (0xe0, 0x660),
    ] {
        assert_eq!(
            world.run(&mut regs, &mut state, &[0x0f, 0x20, modrm], GP),
            DONE
        );
        assert_eq!(regs.rax, value);
    }
    state.task_switched = true;
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x41\x0f\x20\xc4", GP),
        DONE
    );
    assert_eq!(regs.r12, 0x8005_003b);
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\x20\xc8", GP),
        Verdict::Reflect,
        "CR1"
    );
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x44\x0f\x20\xc0", GP),
        Verdict::Reflect,
        "CR8"
    );
}

#[test]
fn control_registers_are_written_within_bounds() {
    let (world, mut regs, mut state) = control();
    let mut write = |index: u8, value: u64, state: &mut PvState| {
        regs.rcx = value;
        (
            world.run(&mut regs, state, &[0x0f, 0x22, 0xc1 | index << 3], GP),
            regs.rip,
        )
    };
    assert_eq!(write(0, 0x8005_003b, &mut state).0, DONE);
    assert!(state.task_switched);
    assert_eq!(
        write(0, 0x0005_0033, &mut state).0,
        Verdict::Reflect,
        "paging stays on"
    );
    assert_eq!(write(2, 77, &mut state).0, DONE);
    assert_eq!(world.cr2.get(), 77);
    assert_eq!(write(4, 0x1_0664, &mut state).0, DONE);
    assert_eq!(state.cr4, 0x1_0004);
    assert_eq!(hardware_cr4(&state), 0x1_0004);
    // RDTSC faults too where the TSC is not the host's.
    state.cr4 = 0;
    assert_eq!(hardware_cr4(&state), 0);
    let scale = crate::time::TscScale::from_khz(1_000_000).unwrap();
    state.tsc = Some(crate::time::Clock::starting_at(0, scale));
    assert_eq!(hardware_cr4(&state), 4);
    let (verdict, rip) = write(3, 0x7000, &mut state);
    assert_eq!(
        verdict,
        Verdict::NewBase {
            mfn: Mfn(7),
            next_rip: CODE + 3
        }
    );
    assert_eq!(rip, CODE, "not done yet");
    assert_eq!(write(3, 0x7001, &mut state).0, Verdict::Reflect, "no PCID");
    let (world, mut regs, mut state) = control();
    state.task_switched = true;
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\x06", GP), DONE);
    assert!(!state.task_switched);
}

#[test]
fn debug_registers_are_checked() {
    let (world, mut regs, mut state) = control();
    regs.rax = 0x40_1000;
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\x23\xc0", GP), DONE);
    assert_eq!(
        (state.debug[0], world.debug.borrow()[0]),
        (0x40_1000, 0x40_1000)
    );
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\x21\xc3", GP), DONE);
    assert_eq!(regs.rbx, 0x40_1000);
    regs.rax = 0xffff_8200_0000_0000;
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\x23\xc8", GP),
        Verdict::Reflect,
        "our address"
    );
    state.cr4 |= 1 << 3;
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\x21\xe0", GP),
        Verdict::Reflect,
        "DR4 with CR4.DE"
    );
}

#[test]
fn effects_are_left_to_the_caller() {
    let (world, mut regs, mut state) = control();
    for (code, effect) in [
        (&b"\x0f\x09"[..], Effect::WriteBackCaches),
        (b"\xf3\x0f\x09", Effect::WriteBackCaches),
        (b"\xfa", Effect::MaskEvents),
        (b"\xfb", Effect::UnmaskEvents),
    ] {
        assert_eq!(
            world.run(&mut regs, &mut state, code, GP),
            Verdict::Done(effect, Stepping::Off),
            "{code:x?}"
        );
        assert_eq!(regs.rip, CODE + code.len() as u64);
    }
}

#[test]
fn what_has_a_hypercall_is_not_emulated() {
    let (world, mut regs, mut state) = control();
    regs.rbx = 0x40_0000;
    for code in [&b"\xf4"[..], b"\x0f\x08", b"\x0f\x01\x3b"] {
        let verdict = world.run(&mut regs, &mut state, code, GP);
        assert_eq!(verdict, Verdict::Reflect, "{code:x?}");
    }
}

#[test]
fn xcr0_takes_what_the_policy_allows() {
    let (world, mut regs, mut state) = control();
    let values = [
        (0, 7, true),
        (0, 3, true),
        (0, 1, true),
        (0, 5, false),
        (0, 6, false),
        (0, 0x1f, false),
        (1, 7, false),
    ];
    for (index, value, allowed) in values {
        (regs.rcx, regs.rax, regs.rdx) = (index, value, 0);
        let verdict = world.run(&mut regs, &mut state, b"\x0f\x01\xd1", GP);
        let taken = Verdict::Done(Effect::SetXcr0(value), Stepping::Off);
        assert_eq!(
            verdict,
            if allowed { taken } else { Verdict::Reflect },
            "{value:#x}"
        );
    }
}

#[test]
fn the_time_stamp_counter_can_be_kept_from_programs() {
    let (world, mut regs, mut state) = control();
    state.cr4 = 1 << 2;
    world.aux.set(5);
    assert_eq!(world.run(&mut regs, &mut state, b"\x0f\x01\xf9", GP), DONE);
    assert_eq!((regs.rdx, regs.rax, regs.rcx), (0x1234, 0x5678_9abc, 5));
    state.mode = Mode::User;
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x0f\x31", GP),
        Verdict::Reflect
    );
}

#[test]
fn a_single_step_is_noted() {
    let (world, mut regs, mut state) = control();
    regs.rflags |= rflags::TF | rflags::RF;
    let verdict = world.run(&mut regs, &mut state, b"\x0f\xa2", GP);
    assert_eq!(verdict, Verdict::Done(Effect::Nothing, Stepping::DebugTrap));
    assert_eq!(state.debug[6] & 1 << 14, 1 << 14);
    assert_eq!(regs.rflags & rflags::RF, 0);
}
