//! Records of saved domains: there and back, and hostile ones.

use super::*;

fn saved(lapic: &Lapic, time: &At) -> (Record, [u8; REGISTERS_SIZE]) {
    let mut data = [0xa5; REGISTERS_SIZE];
    lapic.save_registers(time, &mut data);
    (lapic.save(), data)
}

/// A state that a guest can reach: from random writes.
fn reached(writes: &[(u32, u32)], x2apic: bool, now: Nanos) -> Lapic {
    let mut lapic = if x2apic { enabled_x2(4) } else { enabled(4) };
    for (number, value) in writes {
        let number = [*number % 64, 0x32, 0x38, 0x3e][(*value >> 13) as usize % 4];
        if x2apic {
            for shift in [0, 16, 24] {
                let _ = lapic.write_msr(0x800 + number, (*value >> shift).into(), &At(now));
            }
            let _ = lapic.write_msr(TSC_DEADLINE_MSR, u64::from(*value) * 50, &At(now));
        } else {
            let _ = lapic.write_mmio(number * 16, 4, (*value).into(), &At(now));
        }
        lapic.accept(*value as u8, *value & 256 != 0);
        if value & 512 != 0 {
            lapic.pending().map(|vector| lapic.acknowledge(vector));
        }
    }
    // The two things that a record does not hold.
    let _ = lapic.write(Register::ErrorStatus, 0, &At(now));
    lapic
}

proptest! {
    #[test]
    fn there_and_back(
        writes in prop::collection::vec((any::<u32>(), any::<u32>()), 0..60),
        x2apic: bool, swapped: bool, later in 0..1_000_u64,
    ) {
        let now = 1_000_000;
        let lapic = reached(&writes, x2apic, now);
        let then = At(now + later * 10);
        let (record, data) = saved(&lapic, &then);
        let mut other = Lapic::new(4, FACTS);
        if swapped {
            other.load_registers(&data, &then).unwrap();
            other.load(&record, &then).unwrap();
        } else {
            other.load(&record, &then).unwrap();
            other.load_registers(&data, &then).unwrap();
        }
        prop_assert_eq!(saved(&other, &then).0, record);
        prop_assert_eq!(other.pending(), lapic.pending());
        prop_assert_eq!(other.address(), lapic.address());
        // A count that had run out begins anew: all else is the same.
        let expired = lapic.timer.current(then.now()) == 0 && lapic.timer.initial() != 0;
        if expired {
            prop_assert_eq!(other.timer.current(then.now()), lapic.timer.initial());
        } else {
            let current = lapic.timer.current(then.now());
            prop_assert_eq!(other.timer.current(then.now()), current);
            prop_assert_eq!(saved(&other, &then).1, data);
            let armed = |timer: &Timer| timer.next_service().is_some();
            prop_assert_eq!(armed(&other.timer), armed(&lapic.timer));
            if lapic.timer.mode() == TimerMode::TscDeadline {
                prop_assert_eq!(other.next_deadline(), lapic.next_deadline());
            }
        }
    }

    /// Whatever the bytes: refused and nothing changed, or a state that is saved and loaded the same.
    #[test]
    fn hostile_bytes(
        bytes in prop::collection::vec(any::<u8>(), REGISTERS_SIZE),
        base: u64, disabled: u32, divisor: u32, deadline: u64, mended: u8, now: u64,
    ) {
        let mut data: [u8; REGISTERS_SIZE] = bytes.try_into().unwrap();
        let mut record = Record {
            apic_base_msr: base, disabled, timer_divisor: divisor, tdt_msr: deadline,
        };
        if mended & 1 != 0 {
            data[0x20..0x24].copy_from_slice(&[0, 0, 0, 8]);
            data[0x322] &= 0xf9;
        }
        if mended & 2 != 0 {
            record.apic_base_msr = base & 0x3fff_ffff_f000 | 1 << 11 | base & 1 << 10;
            record.disabled &= 3;
            record.timer_divisor = 1 << (divisor & 7);
        }
        let mut lapic = enabled(4);
        let before = lapic.clone();
        let time = At(now);
        if mended & 4 != 0 {
            if lapic.load_registers(&data, &time).is_err() {
                prop_assert_eq!(&lapic, &before);
            }
            let _ = lapic.load(&record, &time);
        } else {
            if lapic.load(&record, &time).is_err() {
                prop_assert_eq!(&lapic, &before);
            }
            let _ = lapic.load_registers(&data, &time);
        }
        prop_assert!(lapic.requested.highest().is_none_or(|vector| vector >= 16));
        prop_assert_eq!(lapic.address().id, 8);
        let _ = lapic.advance(now);
        let _ = lapic.advance(u64::MAX);
        while lapic.eoi().is_some() {}
        while let Some(vector) = lapic.pending() {
            prop_assert!(vector >= 16 && lapic.acknowledge(vector));
        }
        let (record, data) = saved(&lapic, &time);
        let mut other = enabled(4);
        other.load(&record, &time).unwrap();
        other.load_registers(&data, &time).unwrap();
        prop_assert_eq!(saved(&other, &time).0, record);
    }
}

#[test]
fn refusals_name_the_field() {
    let mut lapic = enabled(4);
    let time = &At(0);
    let (good, data) = saved(&lapic, time);
    let cases = [
        (
            Record {
                apic_base_msr: 1 << 10,
                ..good
            },
            RecordError::Base,
        ),
        (
            Record {
                apic_base_msr: good.apic_base_msr | 1,
                ..good
            },
            RecordError::Base,
        ),
        (
            Record {
                disabled: 4,
                ..good
            },
            RecordError::Disabled,
        ),
        (
            Record {
                timer_divisor: 3,
                ..good
            },
            RecordError::Divisor,
        ),
        (
            Record {
                timer_divisor: 256,
                ..good
            },
            RecordError::Divisor,
        ),
        (
            Record {
                timer_divisor: 0,
                ..good
            },
            RecordError::Divisor,
        ),
    ];
    for (record, error) in cases {
        assert_eq!(lapic.load(&record, time), Err(error));
    }
    let mut other = data;
    other[0x23] ^= 2;
    assert_eq!(lapic.load_registers(&other, time), Err(RecordError::Id));
    let mut other = data;
    other[0x322] |= 6;
    assert_eq!(
        lapic.load_registers(&other, time),
        Err(RecordError::TimerMode)
    );
    assert_eq!(lapic.load_registers(&data, time), Ok(()));
}

#[test]
fn the_layout_is_that_of_the_page() {
    let mut lapic = enabled_x2(4);
    lapic.accept(0x47, true);
    let (record, data) = saved(&lapic, &At(0));
    assert_eq!(record.apic_base_msr, 0xfee0_0c00);
    assert_eq!((record.disabled, record.timer_divisor), (0, 2));
    assert_eq!(data[0x20..0x24], [8, 0, 0, 0]);
    assert_eq!(data[0x30..0x34], [0x14, 0, 5, 0]);
    assert_eq!(data[0xf0..0xf4], [0xff, 1, 0, 0]);
    assert_eq!(data[0x220..0x224], [0x80, 0, 0, 0], "IRR");
    assert_eq!(data[0x1a0..0x1a4], [0x80, 0, 0, 0], "TMR");
    let mut fresh = Lapic::new(4, FACTS);
    assert_eq!(fresh.save().disabled, 2);
    let _ = fresh.write_msr(BASE_MSR, DEFAULT_BASE, &At(0)).unwrap();
    assert_eq!(fresh.save().disabled, 3);
}
