//! Registers that tools give a vCPU: what `Registers::check` lets through can be entered.

use proptest::prelude::*;

use super::*;
use crate::hvm::controls::{Controls, cr0, efer};
use crate::hvm::records::tests::terms;
use crate::hvm::registers::{Registers, SEGMENTS};
use crate::hvm::vmx_facts::AtEntry;
use crate::pv::frame::GuestFrame;

const CS: usize = 0;
const SS: usize = 5;
const TR: usize = 6;
const LDTR: usize = 7;

/// The control block that a vCPU with these registers has.
fn entered(given: &Registers) -> Block {
    let mut block = blank();
    let controls = &given.controls;
    if controls.long_mode() {
        let all = block.get(Field::EntryControls) | super::entry_bits(AtEntry::LONG_MODE_GUEST);
        block.set(Field::EntryControls, all);
    }
    for (field, value) in [
        (Field::Cr0, controls.cr0 & !(cr0::CD | cr0::NW) | cr0::NE),
        (Field::Cr3, controls.cr3),
        (Field::Cr4, controls.cr4 | 0x2040),
        (Field::Efer, controls.efer & !efer::FFXSR),
        (Field::Dr7, given.status[1]),
        (Field::Rip, given.regs.rip),
        (Field::Rsp, given.regs.rsp),
        (Field::Rflags, given.regs.rflags),
    ] {
        block.set(field, value);
    }
    for (name, segment) in SEGMENTS.iter().zip(given.segments) {
        block.put(*name, segment);
    }
    block.put(SegmentName::Gdtr, given.tables[0]);
    block.put(SegmentName::Idtr, given.tables[1]);
    block
}

fn segment(attributes: u16, limit: u32) -> Segment {
    Segment {
        attributes,
        limit,
        ..Segment::default()
    }
}

/// Of real mode, of protected mode at level 3, of virtual 8086 mode, and of long mode.
fn of_mode(mode: usize) -> Registers {
    let controls = |cr0, cr4, efer| Controls {
        cr0,
        cr3: 0x1000,
        cr4,
        efer,
    };
    let (controls, rflags, code, data) = match mode {
        0 => (controls(0x10, 0, 0), 0x2, 0x9b, 0x93),
        1 => (controls(0x8000_0011, 0x10, 0), 0x202, 0xcfb, 0xcf3),
        2 => (controls(0x8000_0011, 0x10, 0), 0x2_0202, 0xf3, 0xf3),
        _ => (controls(0x8000_0011, 0x20, 0xd01), 0x202, 0xa9b, 0xc93),
    };
    let limit = if code & 0x800 == 0 { 0xffff } else { u32::MAX };
    let mut segments = [segment(data, limit); 8];
    segments[CS] = segment(code, limit);
    segments[TR] = segment(0x8b, 0x67);
    segments[LDTR] = segment(0x82, 0);
    Registers {
        regs: GuestFrame {
            rip: 0x1000,
            rflags,
            ..GuestFrame::default()
        },
        controls,
        cr2: 0,
        debug: [0; 4],
        status: [0; 2],
        segments,
        tables: [segment(0, 0xffff); 2],
    }
}

/// The violation that an entry would meet, if the registers are not refused.
fn outcome(mut given: Registers) -> Result<Option<Violation>, &'static str> {
    let policy = terms().policy;
    given.check(policy)?;
    Ok(entered(&given).violation_within(policy.physical_address_bits() as u8))
}

fn with(
    mode: usize,
    change: impl FnOnce(&mut Registers),
) -> Result<Option<Violation>, &'static str> {
    let mut given = of_mode(mode);
    change(&mut given);
    outcome(given)
}

#[test]
fn plausible_registers_can_be_entered() {
    for mode in 0..4 {
        assert_eq!(with(mode, |_| {}), Ok(None));
    }
}

#[test]
fn levels_have_to_agree() {
    // Code of another level than the stack; conforming code of a less privileged one.
    assert!(with(1, |r| r.segments[CS].attributes = 0xc9b).is_err());
    assert!(with(3, |r| r.segments[CS].attributes = 0xafb).is_err());
    assert!(with(3, |r| r.segments[CS].attributes = 0xaff).is_err());
    assert!(with(0, |r| r.segments[CS].attributes = 0xfb).is_err());
    assert_eq!(with(1, |r| r.segments[CS].attributes = 0xc9f), Ok(None));
    assert_eq!(with(0, |r| r.segments[CS].attributes = 0x93), Ok(None));
    assert!(with(3, |r| r.segments[SS].attributes = 0x60).is_err());
    assert!(
        with(1, |r| r.segments[CS].attributes = 0xcf3).is_err(),
        "data"
    );
}

#[test]
fn virtual_8086_mode_has_one_form_of_segments() {
    let scaled = |r: &mut Registers| {
        r.segments[CS] = Segment {
            selector: 0x1234,
            base: 0x1_2340,
            ..segment(0, 0xffff_ffff)
        };
    };
    assert_eq!(with(2, scaled), Ok(None));
    assert!(with(2, |r| r.segments[CS].base = 0x1_2341).is_err());
    assert!(with(2, |r| r.segments[4].selector = 1).is_err());
}

#[test]
fn tasks_and_local_tables() {
    assert!(with(1, |r| r.segments[TR].selector = 4).is_err());
    assert!(with(1, |r| r.segments[LDTR].selector = 4).is_err());
    let none = |r: &mut Registers| {
        r.segments[LDTR] = Segment {
            selector: 4,
            ..Segment::default()
        };
        r.segments[TR] = Segment::default();
    };
    assert_eq!(with(1, none), Ok(None));
    assert_eq!(with(3, none), Ok(None));
    // A task of 16 bits is one of 64 in long mode.
    assert_eq!(with(1, |r| r.segments[TR].attributes = 0x83), Ok(None));
    assert_eq!(with(3, |r| r.segments[TR].attributes = 0x83), Ok(None));
}

/// Values that say something to one register or another.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        any::<u64>(),
        any::<u16>().prop_map(u64::from),
        any::<u32>().prop_map(u64::from),
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| u64::MAX << bit),
        prop::sample::select(vec![
            0,
            0x83,
            0x89,
            0x8b,
            0x93,
            0x9b,
            0x9f,
            0xf3,
            0xfb,
            0xa9b,
            0xafb,
            0xc93,
            0xcf3,
            0xfff,
            0x2_0202,
            0xd01,
            0x8000_0011,
        ]),
    ]
}

/// Changes one register.
fn change(given: &mut Registers, which: usize, word: u64) {
    match which {
        0 => given.controls.cr0 = word,
        1 => given.controls.cr3 = word,
        2 => given.controls.cr4 ^= word,
        3 => given.controls.efer ^= word,
        4 => given.regs.rflags ^= word,
        5 => given.regs.rip = word,
        6 => given.status[1] = word,
        7 => given.tables[(word & 1) as usize].base = word,
        8 => given.tables[(word & 1) as usize].limit = word as u32,
        _ => {
            let segment = &mut given.segments[which % 8];
            match which / 8 % 4 {
                0 => segment.selector = word as u16,
                1 => segment.attributes = word as u16,
                2 => segment.limit = word as u32,
                _ => segment.base = word,
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_tools_may_give_can_be_entered(
        mode in 0..4usize,
        changes in prop::collection::vec((0..41usize, word()), 0..4),
    ) {
        let mut given = of_mode(mode);
        for (which, word) in changes {
            change(&mut given, which, word);
        }
        if let Ok(found) = outcome(given) {
            prop_assert_eq!(found, None);
        }
    }
}
