//! Pins, entries and records of the I/O APIC.

use proptest::prelude::*;

use super::*;

fn write(chip: &mut IoApic, index: u8, value: u32) -> Vec<Ipi> {
    let mut sent = Vec::new();
    chip.write(SELECT, index.into(), &mut |ipi| sent.push(ipi));
    chip.write(DATA, value.into(), &mut |ipi| sent.push(ipi));
    sent
}

fn program(chip: &mut IoApic, pin: u8, low: u32, high: u32) -> Vec<Ipi> {
    let mut sent = write(chip, 0x11 + pin * 2, high);
    sent.extend(write(chip, 0x10 + pin * 2, low));
    sent
}

fn line(chip: &mut IoApic, pin: usize, asserted: bool) -> Vec<Ipi> {
    let mut sent = Vec::new();
    chip.set_line(pin, asserted, &mut |ipi| sent.push(ipi));
    sent
}

fn eoi(chip: &mut IoApic, vector: u8) -> Vec<Ipi> {
    let mut sent = Vec::new();
    chip.eoi(vector, &mut |ipi| sent.push(ipi));
    sent
}

const LEVEL_LOW: u32 = 0x8000;
const MASKED_LOW: u32 = 0x1_0000;

#[test]
fn an_edge_sends_once() {
    let mut chip = IoApic::new();
    assert!(line(&mut chip, 4, true).is_empty(), "masked after reset");
    assert!(program(&mut chip, 4, 0x31, 3 << 24).is_empty());
    assert!(line(&mut chip, 4, true).is_empty(), "was asserted before");
    assert!(line(&mut chip, 4, false).is_empty());
    let sent = line(&mut chip, 4, true);
    let expected = Ipi {
        delivery: Delivery::Fixed,
        vector: 0x31,
        level: false,
        destination: Destination::Physical(3),
    };
    assert_eq!(sent, [expected]);
    assert!(eoi(&mut chip, 0x31).is_empty());
}

#[test]
fn a_level_is_outstanding_until_its_eoi() {
    let mut chip = IoApic::new();
    let low = LEVEL_LOW | 0x0800 | 0x0100 | 0x42;
    assert!(program(&mut chip, 20, low, 0xff << 24).is_empty());
    let sent = line(&mut chip, 20, true);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].level);
    assert_eq!(sent[0].delivery, Delivery::LowestPriority);
    assert_eq!(sent[0].destination, Destination::All);
    assert!(line(&mut chip, 20, false).is_empty());
    assert!(line(&mut chip, 20, true).is_empty(), "outstanding");
    assert!(eoi(&mut chip, 0x43).is_empty(), "another vector");
    assert_eq!(eoi(&mut chip, 0x42), sent, "still asserted");
    let mut again = Vec::new();
    chip.write(EOI, 0x42, &mut |ipi| again.push(ipi));
    assert_eq!(again, sent, "the EOI register does the same");
    line(&mut chip, 20, false);
    assert!(eoi(&mut chip, 0x42).is_empty());
}

#[test]
fn unmasking_an_asserted_level_sends() {
    let mut chip = IoApic::new();
    program(&mut chip, 30, LEVEL_LOW | MASKED_LOW | 0x50, 0);
    assert!(line(&mut chip, 30, true).is_empty());
    assert_eq!(program(&mut chip, 30, LEVEL_LOW | 0x50, 0).len(), 1);
    // Mask, edge, level again: how software without the EOI register ends it.
    assert!(program(&mut chip, 30, MASKED_LOW | 0x50, 0).is_empty());
    assert_eq!(program(&mut chip, 30, LEVEL_LOW | 0x50, 0).len(), 1);
}

#[test]
fn registers_read_as_documented() {
    let mut chip = IoApic::new();
    write(&mut chip, 0, u32::MAX);
    assert_eq!(chip.read(DATA, 4), 0x0f00_0000);
    write(&mut chip, 1, u32::MAX);
    assert_eq!(chip.read(DATA, 4), 0x002f_0020);
    program(&mut chip, 47, MASKED_LOW | 0x7041, u32::MAX);
    write(&mut chip, 0x6f, u32::MAX);
    assert_eq!(chip.read(DATA, 4), 0xff00_0000);
    chip.write(SELECT, 0x6e, &mut |_| ());
    assert_eq!(chip.read(DATA, 4), 0x0001_2041, "read-only bits");
    assert_eq!(chip.read(DATA, 1), 0x41);
    for index in [3, 0x0f, 0x70, 0xff] {
        write(&mut chip, index, u32::MAX);
        assert_eq!(chip.read(DATA, 4), 0, "no register {index:#x}");
    }
}

/// A step: 0 line, 1 entry, 2 EOI, and two free numbers.
fn steps() -> impl Strategy<Value = Vec<(u8, u8, u32)>> {
    prop::collection::vec((0..4_u8, 0..4_u8, any::<u32>()), 0..80)
}

proptest! {
    /// Against pins of the simplest kind: fixed level-triggered ones, of which two share a vector.
    #[test]
    fn levels_follow_the_model(steps in steps()) {
        let vectors = [0x30, 0x40, 0x50, 0x30];
        let mut chip = IoApic::new();
        let (mut lines, mut outstanding, mut open) = ([false; 4], [false; 4], [false; 4]);
        for (what, pin, number) in steps {
            let at = usize::from(pin);
            let sent = match what {
                0 | 1 => {
                    lines[at] = number & 1 != 0;
                    line(&mut chip, at, lines[at])
                }
                2 => {
                    open[at] = number & 1 != 0;
                    let mask = if open[at] { 0 } else { MASKED_LOW };
                    write(&mut chip, 0x10 + pin * 2, LEVEL_LOW | mask | vectors[at])
                }
                _ => {
                    for other in 0..4 {
                        outstanding[other] &= vectors[other] != vectors[at];
                    }
                    eoi(&mut chip, vectors[at] as u8)
                }
            };
            let mut expected = Vec::new();
            for pin in 0..4 {
                if lines[pin] && open[pin] && !outstanding[pin] {
                    outstanding[pin] = true;
                    expected.push(vectors[pin] as u8);
                }
            }
            let sent: Vec<u8> = sent.iter().map(|ipi| ipi.vector).collect();
            prop_assert_eq!(sent, expected);
        }
        let mut record = [0; RECORD_SIZE];
        chip.save(&mut record);
        let mut other = IoApic::new();
        other.load(&record).unwrap();
        for (pin, asserted) in lines.into_iter().enumerate() {
            other.restore_line(pin, asserted, &mut |_| panic!("sent before"));
        }
        prop_assert_eq!(other, chip);
    }

    /// Any record and any accesses: no panic, and what was taken is given back the same.
    #[test]
    fn hostile_records_and_accesses(
        bytes in prop::collection::vec(any::<u8>(), RECORD_SIZE),
        header in any::<bool>(),
        accesses in prop::collection::vec((any::<u32>(), any::<u8>(), any::<u64>()), 0..40),
    ) {
        let mut record: [u8; RECORD_SIZE] = bytes.try_into().unwrap();
        if header {
            record[..8].copy_from_slice(&DEFAULT_BASE.to_le_bytes());
            record[9..12].fill(0);
            record[12..15].fill(0);
            record[15] &= 0xf;
        }
        let mut chip = IoApic::new();
        prop_assert_eq!(chip.load(&record).is_ok(), header);
        for (offset, size, value) in accesses {
            let offset = [SELECT, DATA, EOI, offset][usize::from(size & 3)];
            chip.write(offset, value, &mut |_| ());
            chip.set_line(usize::from(size), value & 1 != 0, &mut |_| ());
            let _ = chip.read(offset, size);
        }
        let (mut first, mut second) = ([0; RECORD_SIZE], [0; RECORD_SIZE]);
        chip.save(&mut first);
        let mut other = IoApic::new();
        other.load(&first).unwrap();
        other.save(&mut second);
        prop_assert_eq!(first, second);
    }
}

#[test]
fn impossible_records_are_refused() {
    let mut chip = IoApic::new();
    let mut good = [0; RECORD_SIZE];
    chip.save(&mut good);
    for (at, error) in [
        (0, RecordError::Base),
        (9, RecordError::Select),
        (12, RecordError::Id),
    ] {
        let mut record = good;
        record[at] ^= 1;
        assert_eq!(chip.load(&record), Err(error));
    }
}
