//! MSRs: the base and its transitions, x2APIC's registers and their faults.

use super::*;

const EN: u64 = 1 << 11;
const EXTD: u64 = 1 << 10;

#[test]
fn transitions_of_the_base() {
    // From, to, allowed; bits 11 and 10.
    let rows = [
        (EN, EN | EXTD, true),
        (EN, 0, true),
        (EN, EXTD, false),
        (EN | EXTD, EN, false),
        (EN | EXTD, 0, true),
        (EN | EXTD, EXTD, false),
        (EN | EXTD, EN | EXTD, true),
        (0, EN, true),
        (0, EN | EXTD, false),
        (0, EXTD, false),
        (0, 0, true),
    ];
    for (from, to, allowed) in rows {
        let mut lapic = match from {
            EN => enabled(1),
            0 => {
                let mut lapic = enabled(1);
                let _ = lapic.write_msr(BASE_MSR, DEFAULT_BASE, &At(0)).unwrap();
                lapic
            }
            _ => enabled_x2(1),
        };
        let before = lapic.clone();
        let result = lapic.write_msr(BASE_MSR, DEFAULT_BASE | to, &At(0));
        assert_eq!(result.is_ok(), allowed, "{from:#x} -> {to:#x}");
        if allowed {
            assert_eq!(lapic.read_msr(BASE_MSR, &At(0)), Ok(DEFAULT_BASE | to));
        } else {
            assert_eq!(lapic, before);
        }
    }
}

#[test]
fn the_base_moves_and_keeps_the_bootstrap_bit() {
    let mut lapic = enabled(0);
    let time = &At(0);
    assert_eq!(lapic.read_msr(BASE_MSR, time), Ok(0xfee0_0900));
    let moved = lapic.write_msr(BASE_MSR, 0x1234_5000 | EN, time);
    assert_eq!(moved, Ok(Effect::Base { moved: true }));
    assert_eq!(lapic.window(), Some(0x1234_5000));
    assert_eq!(lapic.read_msr(BASE_MSR, time), Ok(0x1234_5900));
    for reserved in [1, 1 << 7, 1 << 9, 1 << 46, 1 << 63] {
        assert_eq!(
            lapic.write_msr(BASE_MSR, DEFAULT_BASE | EN | reserved, time),
            Err(Fault)
        );
    }
    let without = Facts {
        x2apic: false,
        ..FACTS
    };
    lapic.set_facts(without);
    assert_eq!(
        lapic.write_msr(BASE_MSR, DEFAULT_BASE | EN | EXTD, time),
        Err(Fault)
    );
}

#[test]
fn disabling_resets_and_unreaches() {
    let mut lapic = enabled_x2(1);
    lapic.accept(0x50, false);
    let _ = lapic.write_msr(BASE_MSR, DEFAULT_BASE, &At(0)).unwrap();
    assert_eq!(lapic.address().mode, Mode::Disabled);
    assert_eq!((lapic.pending(), lapic.window()), (None, None));
    let _ = lapic
        .write_msr(BASE_MSR, DEFAULT_BASE | EN, &At(0))
        .unwrap();
    assert_eq!(lapic, Lapic::new(1, FACTS));
}

#[test]
fn x2apic_mode_keeps_what_it_has_in_common() {
    let mut lapic = enabled(9);
    let _ = write(&mut lapic, LDR, 0x0400_0000);
    let _ = write(&mut lapic, LINT1, 0x400);
    lapic.accept(0x61, false);
    let _ = lapic
        .write_msr(BASE_MSR, DEFAULT_BASE | EN | EXTD, &At(0))
        .unwrap();
    assert!(lapic.is_enabled());
    assert_eq!(lapic.pending(), Some(0x61));
    assert_eq!(lapic.read_msr(0x836, &At(0)), Ok(0x400));
    assert_eq!(lapic.read_msr(0x80d, &At(0)), Ok(1 << 16 | 1 << 2));
}

#[test]
fn no_registers_in_msrs_outside_x2apic_mode() {
    let mut lapic = enabled(1);
    for index in 0x800..=0x8ff {
        assert!(owns_msr(index));
        assert_eq!(lapic.read_msr(index, &At(0)), Err(Fault));
        assert_eq!(lapic.write_msr(index, 0, &At(0)), Err(Fault));
    }
    assert!(!owns_msr(0x7ff) && !owns_msr(0x900) && !owns_msr(0x1c));
}

#[test]
fn which_registers_exist_and_how() {
    let read_only: Vec<u32> = [0x802, 0x803, 0x80a, 0x80d, 0x839]
        .into_iter()
        .chain(0x810..=0x827)
        .collect();
    let both = [
        0x808, 0x80f, 0x828, 0x830, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837, 0x838, 0x83e,
    ];
    let write_only = [0x80b, 0x83f];
    for index in 0x800..=0x8ff {
        let mut lapic = enabled_x2(1);
        let readable = read_only.contains(&index) || both.contains(&index);
        assert_eq!(
            lapic.read_msr(index, &At(0)).is_ok(),
            readable,
            "read {index:#x}"
        );
        let writable = both.contains(&index) || write_only.contains(&index);
        assert_eq!(
            lapic.write_msr(index, 0, &At(0)).is_ok(),
            writable,
            "write {index:#x}"
        );
    }
}

#[test]
fn reserved_bits_fault() {
    // Bits that may be set, besides those of the command register.
    let rows = [
        (0x808, 0xff),
        (0x80b, 0),
        (0x80f, 0x3ff),
        (0x828, 0),
        (0x832, 0x7_50ff),
        (0x833, 0x1_57ff),
        (0x835, 0x1_f7ff),
        (0x837, 0x1_50ff),
        (0x838, 0xffff_ffff),
        (0x83e, 0xb),
        (0x83f, 0xff),
    ];
    for (index, allowed) in rows {
        for bit in 0..64 {
            let mut lapic = enabled_x2(1);
            let value = 1 << bit;
            let result = lapic.write_msr(index, value, &At(0));
            assert_eq!(result.is_ok(), allowed & value != 0, "{index:#x} bit {bit}");
        }
    }
    assert_eq!(enabled_x2(1).write_msr(0x832, 3 << 17, &At(0)), Err(Fault));
    let mut lapic = enabled_x2(1);
    lapic.set_facts(Facts {
        tsc_deadline: false,
        ..FACTS
    });
    assert_eq!(lapic.write_msr(0x832, 2 << 17, &At(0)), Err(Fault));
    assert_eq!(lapic.read_msr(TSC_DEADLINE_MSR, &At(0)), Err(Fault));
    assert_eq!(lapic.write_msr(TSC_DEADLINE_MSR, 0, &At(0)), Err(Fault));
}

proptest! {
    #[test]
    fn any_msr(accesses in prop::collection::vec((any::<u32>(), any::<u64>(), 0..64_u32), 0..200)) {
        let mut lapic = enabled(1);
        for (index, value, shift) in accesses {
            let index = match shift % 4 {
                0 => BASE_MSR,
                1 => TSC_DEADLINE_MSR,
                _ => 0x800 + index % 0x100,
            };
            let before = lapic.clone();
            if lapic.write_msr(index, value >> shift, &At(0)).is_err() {
                prop_assert_eq!(&lapic, &before);
            }
            let _ = lapic.read_msr(index, &At(0));
            prop_assert!(lapic.load(&lapic.clone().save(), &At(0)).is_ok());
        }
    }
}
