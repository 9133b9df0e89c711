//! INS and OUTS.

use proptest::prelude::*;

use super::world::{BASE, CODE, GP, HOLE, READ_ONLY, World, vcpu};
use crate::domain::Rights;
use crate::pv::frame::{GuestFrame, rflags};
use crate::pv::privop::{Effect, Stepping, Verdict};
use crate::pv::state::{PvState, StateBox};

const DONE: Verdict = Verdict::Done(Effect::Nothing, Stepping::Off);
const REP_INSW: &[u8] = b"\xf3\x66\x6d";
const REP_OUTSB: &[u8] = b"\xf3\x6e";

/// Runs until the instruction is done or refused; the number of portions as well.
fn finish(
    world: &World,
    regs: &mut GuestFrame,
    state: &mut PvState,
    code: &[u8],
) -> (Verdict, usize) {
    for portions in 1..200 {
        match world.run(regs, state, code, GP) {
            Verdict::Again => assert_eq!(regs.rip, CODE),
            end => return (end, portions),
        }
    }
    panic!("no end");
}

fn setup() -> (World, GuestFrame, StateBox) {
    let (regs, state) = vcpu();
    (
        World::new(Rights::Control),
        GuestFrame { rdx: 0x1f0, ..regs },
        state,
    )
}

#[test]
fn a_sector_is_read_at_once() {
    let (world, mut regs, mut state) = setup();
    (regs.rdi, regs.rcx) = (BASE + 0x3000, 256);
    assert_eq!(finish(&world, &mut regs, &mut state, REP_INSW), (DONE, 1));
    assert_eq!((regs.rdi, regs.rcx, regs.rip), (BASE + 0x3200, 0, CODE + 3));
    assert_eq!(world.get(BASE + 0x3000, 6), [1, 2, 2, 3, 3, 4]);
    assert_eq!(world.ports_taken().len(), 256);
}

#[test]
fn long_counts_are_done_in_portions() {
    let (world, mut regs, mut state) = setup();
    (regs.rdi, regs.rcx) = (BASE + 0x3000, 0x1000);
    let (verdict, portions) = finish(&world, &mut regs, &mut state, REP_INSW);
    assert_eq!((verdict, portions), (DONE, 16));
    assert_eq!(world.ports_taken().len(), 0x1000);
}

#[test]
fn a_count_of_zero_touches_nothing() {
    let (world, mut regs, mut state) = setup();
    regs.rdi = HOLE;
    assert_eq!(world.run(&mut regs, &mut state, REP_INSW, GP), DONE);
    assert!(world.ports_taken().is_empty());
}

#[test]
fn data_is_not_lost_when_memory_is_missing() {
    let (world, mut regs, mut state) = setup();
    for (start, count, done) in [
        (HOLE - 8, 100, 4),
        (READ_ONLY - 6, 100, 3),
        (HOLE, 1, 0),
        (READ_ONLY, 1, 0),
    ] {
        (regs.rdi, regs.rcx) = (start, count);
        let (verdict, _) = finish(&world, &mut regs, &mut state, REP_INSW);
        assert_eq!(
            verdict,
            Verdict::PageFault {
                address: start + 2 * done,
                error: 2
            }
        );
        assert_eq!(
            (regs.rdi, regs.rcx, regs.rip),
            (start + 2 * done, count - done, CODE)
        );
        assert_eq!(world.ports_taken().len(), done as usize);
    }
    // One element over the border.
    (regs.rdi, regs.rcx) = (HOLE - 1, 5);
    let (verdict, _) = finish(&world, &mut regs, &mut state, REP_INSW);
    assert_eq!(
        verdict,
        Verdict::PageFault {
            address: HOLE,
            error: 2
        }
    );
    (regs.rsi, regs.rcx) = (HOLE - 1, 5);
    let (verdict, _) = finish(&world, &mut regs, &mut state, REP_OUTSB);
    assert_eq!(
        verdict,
        Verdict::PageFault {
            address: HOLE,
            error: 0
        }
    );
    assert_eq!(world.ports_taken().len(), 1);
}

#[test]
fn strings_go_down_with_the_direction_flag() {
    let (world, mut regs, mut state) = setup();
    world.put(BASE + 0x3000, &[10, 11, 12, 13]);
    regs.rflags |= rflags::DF;
    (regs.rsi, regs.rcx) = (BASE + 0x3003, 4);
    assert_eq!(finish(&world, &mut regs, &mut state, REP_OUTSB), (DONE, 4));
    let values: Vec<_> = world.ports_taken().iter().map(|(.., v)| *v).collect();
    assert_eq!(values, [13, 12, 11, 10]);
    assert_eq!(regs.rsi, BASE + 0x2fff);
}

#[test]
fn sources_may_lie_in_gs_and_addresses_may_be_short() {
    let (world, mut regs, mut state) = setup();
    world.bases.borrow_mut().insert("gs", BASE);
    world.put(BASE + 0x3000, &[0x55]);
    (regs.rsi, regs.rcx) = (0xffff_ffff_0000_3000, 0xffff_ffff_0000_0001);
    assert_eq!(
        world.run(&mut regs, &mut state, b"\x65\x67\xf3\x6e", GP),
        DONE
    );
    assert_eq!(world.ports_taken(), [('o', 0x1f0, 1, 0x55)]);
    assert_eq!((regs.rsi, regs.rcx), (0x3001, 0));
}

#[test]
fn addresses_that_are_not_canonical_are_refused() {
    let (world, mut regs, mut state) = setup();
    (regs.rdi, regs.rcx) = (0x8000_0000_0000, 1);
    assert_eq!(
        world.run(&mut regs, &mut state, REP_INSW, GP),
        Verdict::Reflect
    );
    (regs.rdi, regs.rcx) = (0x7fff_ffff_ffff, 1);
    assert_eq!(
        world.run(&mut regs, &mut state, REP_INSW, GP),
        Verdict::Reflect
    );
    (regs.rdi, regs.rcx) = (u64::MAX, 1);
    assert!(matches!(
        world.run(&mut regs, &mut state, b"\x6c", GP),
        Verdict::PageFault { .. }
    ));
    assert!(world.ports_taken().is_empty());
}

proptest! {
    #[test]
    fn whatever_the_registers_nothing_breaks(
        code in prop::sample::select(vec![&b"\xf3\x6c"[..], b"\xf3\x66\x6d", b"\xf3\x6d", b"\x6f", b"\x67\xf3\x6f", b"\x65\xf3\x6e"]),
        rdi in any::<u64>(), rsi in any::<u64>(), rcx in any::<u64>(), offset in 0u64..0x1_0000, near in any::<bool>(), down in any::<bool>(),
    ) {
        let (world, mut regs, mut state) = setup();
        if down { regs.rflags |= rflags::DF; }
        (regs.rdi, regs.rsi, regs.rcx) = if near { (BASE + offset, BASE + offset, rcx) } else { (rdi, rsi, rcx) };
        let before = regs.rcx;
        for _ in 0..5 {
            let _ = world.run(&mut regs, &mut state, code, GP);
        }
        prop_assert!(regs.rcx <= before);
    }
}
