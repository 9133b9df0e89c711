//! The page of registers.

use super::*;

#[test]
fn registers_after_reset() {
    let mut lapic = Lapic::new(3, FACTS);
    let expected = [
        (ID, 6 << 24),
        (0x30, 0x0005_0014),
        (TPR, 0),
        (LDR, 0),
        (DFR, u32::MAX),
        (SVR, 0xff),
        (LVT_TIMER, 0x1_0000),
        (LINT0, 0x1_0000),
        (LVT_ERROR, 0x1_0000),
        (INITIAL, 0),
        (CURRENT, 0),
        (DIVIDE, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(read(&mut lapic, offset), value, "{offset:#x}");
    }
    assert_eq!(lapic.window(), Some(0xfee0_0000));
}

#[test]
fn init_keeps_id_mode_and_base() {
    let mut lapic = enabled_x2(5);
    lapic.set_cr8(3);
    lapic.accept(0x80, true);
    lapic.init();
    assert!(lapic.is_x2apic() && !lapic.is_enabled());
    assert_eq!(lapic.read_msr(0x802, &At(0)), Ok(10));
    assert_eq!(lapic.read_msr(0x80d, &At(0)), Ok(1 << 10));
    assert_eq!((lapic.cr8(), lapic.pending()), (0, None));
    lapic.reset();
    assert_eq!(lapic, Lapic::new(5, FACTS));
}

#[test]
fn what_is_read_only_stays() {
    let mut lapic = enabled(1);
    lapic.accept(0x99, false);
    let before: Vec<u32> = (0..64)
        .map(|number| read(&mut lapic, number * 16))
        .collect();
    for number in [2, 3, 0xa, 0x10, 0x18, 0x20, 0x24, 0x39] {
        assert_eq!(write(&mut lapic, number * 16, u32::MAX), Effect::None);
        assert_eq!(read(&mut lapic, number * 16), before[number as usize]);
    }
}

#[test]
fn writable_bits() {
    let mut lapic = enabled(1);
    let cases = [
        (TPR, 0xff),
        (LDR, 0xff00_0000),
        (DFR, u32::MAX),
        (SVR, 0x3ff),
        (LVT_TIMER, 0x1_00ff),
        (LINT0, 0x1_a7ff),
        (0x340, 0x1_07ff),
        (LVT_ERROR, 0x1_00ff),
        (ICR2, 0xff00_0000),
        (DIVIDE, 0xb),
    ];
    for (offset, bits) in cases {
        let _ = write(&mut lapic, offset, u32::MAX);
        assert_eq!(read(&mut lapic, offset), bits, "{offset:#x}");
    }
    let _ = write(&mut lapic, DFR, 0);
    assert_eq!(read(&mut lapic, DFR), 0x0fff_ffff);
    assert!(!lapic.address().flat);
}

#[test]
fn disabling_by_software_masks_the_local_vectors() {
    let mut lapic = enabled(1);
    let _ = write(&mut lapic, LINT1, 0x400);
    let _ = write(&mut lapic, SVR, 0xff);
    assert_eq!(read(&mut lapic, LINT1), 0x1_0400);
    let _ = write(&mut lapic, LINT1, 0x400);
    assert_eq!(read(&mut lapic, LINT1), 0x1_0400, "and keeps them masked");
    let _ = write(&mut lapic, SVR, 0x1ff);
    assert_eq!(read(&mut lapic, LINT1), 0x1_0400);
}

#[test]
fn errors_are_latched_by_a_write() {
    let mut lapic = enabled(1);
    let _ = write(&mut lapic, LVT_ERROR, 0xfe);
    assert_eq!(read(&mut lapic, 0x40), 0);
    assert_eq!(lapic.pending(), Some(0xfe));
    assert!(lapic.acknowledge(0xfe));
    assert_eq!(lapic.eoi(), None);
    assert_eq!(read(&mut lapic, 0x40), 0);
    assert_eq!(
        lapic.pending(),
        None,
        "the same error once until it is read"
    );
    assert_eq!(read(&mut lapic, ESR), 0);
    let _ = write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0x80);
    let _ = write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0);
    assert_eq!(write(&mut lapic, ICR, 0x000f), Effect::None);
    assert_eq!(lapic.pending(), Some(0xfe));
    let _ = write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0x20);
    // An illegal vector for the error's own interrupt is an error too, and no more than that.
    let _ = write(&mut lapic, LVT_ERROR, 3);
    let _ = write(&mut lapic, ESR, 0);
    lapic.accept(3, false);
    let _ = write(&mut lapic, 0x400, 0);
    let _ = write(&mut lapic, ESR, 0);
    assert_eq!(read(&mut lapic, ESR), 0xc0);
}

#[test]
fn narrow_accesses_name_a_part() {
    let mut lapic = enabled(1);
    let time = &At(0);
    let _ = write(&mut lapic, LINT0, 0xa755);
    assert_eq!(lapic.read_mmio(LINT0 + 1, 1, time), 0xa7);
    assert_eq!(lapic.read_mmio(LINT0, 2, time), 0xa755);
    assert_eq!(lapic.read_mmio(LINT0 + 2, 2, time), 0);
    let _ = lapic.write_mmio(LINT0 + 1, 1, 0x04, time);
    assert_eq!(read(&mut lapic, LINT0), 0x0455);
    let _ = lapic.write_mmio(LINT0, 2, 0xffff_0031, time);
    assert_eq!(read(&mut lapic, LINT0), 0x0031);
    for (offset, size) in [
        (LINT0 + 4, 4),
        (LINT0 + 3, 2),
        (LINT0, 8),
        (LINT0, 0),
        (LINT0 + 15, 1),
    ] {
        assert_eq!(lapic.read_mmio(offset, size, time), 0);
        assert_eq!(lapic.write_mmio(offset, size, 0, time), Effect::None);
        assert_eq!(read(&mut lapic, LINT0), 0x0031);
    }
}

proptest! {
    #[test]
    fn any_accesses(accesses in prop::collection::vec(
        (any::<u32>(), any::<u8>(), any::<u64>(), any::<u64>(), any::<bool>()), 0..200,
    )) {
        let mut lapic = enabled(1);
        for (offset, size, value, now, plain) in accesses {
            let (offset, size) = if plain { (offset & 0x3f0, 4) } else { (offset, size & 15) };
            let _ = lapic.write_mmio(offset, size, value, &At(now));
            let _ = lapic.read_mmio(offset, size, &At(now));
            let _ = lapic.advance(now);
            if let Some(vector) = lapic.pending() {
                prop_assert!(vector >= 16 && lapic.acknowledge(vector));
            }
        }
    }
}
