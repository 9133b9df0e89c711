use proptest::prelude::*;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn region(base: u64, end: u64, kind: RegionKind) -> MemRegion {
    MemRegion {
        base: PhysAddr(base),
        len: end - base,
        kind,
    }
}

/// What the emulator's firmware says for a machine of 2.5 GiB.
fn pc_2560m() -> Vec<MemRegion> {
    use RegionKind::{Reserved, Usable};
    vec![
        region(0, 0x9_fc00, Usable),
        region(0x9_fc00, 0xa_0000, Reserved),
        region(0xf_0000, 0x10_0000, Reserved),
        region(0x10_0000, 0x9ffe_0000, Usable),
        region(0x9ffe_0000, 0xa000_0000, Reserved),
        region(0xfffc_0000, 0x1_0000_0000, Reserved),
        region(0xfd_0000_0000, 0x100_0000_0000, Reserved),
    ]
}

#[test]
fn a_clean_map_stays_as_it_is() {
    let (map, warnings) = MemoryMap::new(&pc_2560m(), PHYS_LIMIT);
    assert!(warnings.is_empty());
    assert_eq!(map.regions(), pc_2560m());
    assert_eq!(
        RamSize(map.total_frames()).to_string(),
        "2559MB (2620924kB)"
    );
    assert_eq!(map.max_page(), 0x9ffe0);
    assert_eq!(
        map.regions()[0].to_string(),
        "[0000000000000000, 000000000009fbff] (usable)"
    );
    assert_eq!(map.kind_at(PhysAddr(0x9_fc00)), Some(RegionKind::Reserved));
    assert_eq!(map.kind_at(PhysAddr(0xa_0000)), None);
}

#[test]
fn dom0_sees_the_interrupt_controllers_as_reserved() {
    let (map, _) = MemoryMap::new(&pc_2560m(), PHYS_LIMIT);
    let seen = map.machine_map(PhysAddr(0xfee0_0000), &[PhysAddr(0xfec0_0000)]);
    let mut want = pc_2560m();
    want.insert(5, region(0xfec0_0000, 0xfec0_1000, RegionKind::Reserved));
    want.insert(6, region(0xfee0_0000, 0xfef0_0000, RegionKind::Reserved));
    assert_eq!(seen.regions(), want);
}

#[test]
fn reserved_holes_do_not_touch_what_is_described() {
    let kinds = [
        region(MIB, 2 * MIB, RegionKind::Usable),
        region(3 * MIB, 4 * MIB, RegionKind::AcpiNvs),
    ];
    let (mut map, _) = MemoryMap::new(&kinds, PHYS_LIMIT);
    map.reserve_holes(PhysAddr(0), 5 * MIB);
    let got: Vec<_> = map.regions().iter().map(|r| (r.base.0, r.kind)).collect();
    use RegionKind::{AcpiNvs, Reserved, Usable};
    let want = [Reserved, Usable, Reserved, AcpiNvs, Reserved];
    assert_eq!(
        got,
        (0..5)
            .map(|i| (i * MIB, want[i as usize]))
            .collect::<Vec<_>>()
    );
}

#[test]
fn overlaps_take_the_stronger_kind_in_any_order() {
    use RegionKind::{AcpiNvs, Reserved, Usable};
    let entries = [
        region(4 * MIB, 6 * MIB, AcpiNvs),
        region(0, 10 * MIB, Usable),
        region(5 * MIB, 7 * MIB, Reserved),
    ];
    let want = [
        region(0, 4 * MIB, Usable),
        region(4 * MIB, 5 * MIB, AcpiNvs),
        region(5 * MIB, 7 * MIB, Reserved),
        region(7 * MIB, 10 * MIB, Usable),
    ];
    for turn in 0..3 {
        let mut entries = entries;
        entries.rotate_left(turn);
        let (map, warnings) = MemoryMap::new(&entries, PHYS_LIMIT);
        assert_eq!(map.regions(), want);
        assert_eq!(warnings.len(), 3);
    }
}

#[test]
fn wrapping_and_far_entries_are_cut() {
    let far = MemRegion {
        base: PhysAddr(u64::MAX - 10),
        len: 100,
        kind: RegionKind::Usable,
    };
    let wide = MemRegion {
        base: PhysAddr(GIB),
        len: u64::MAX,
        kind: RegionKind::Usable,
    };
    let empty = MemRegion {
        base: PhysAddr(0),
        len: 0,
        kind: RegionKind::Usable,
    };
    let (map, warnings) = MemoryMap::new(&[far, wide, empty], 1 << 40);
    assert_eq!(map.regions(), [region(GIB, 1 << 40, RegionKind::Usable)]);
    assert_eq!(
        warnings,
        [MapWarning::BeyondLimit(far), MapWarning::BeyondLimit(wide)]
    );
}

#[test]
fn partial_pages_are_not_usable() {
    let (map, _) = MemoryMap::new(
        &[
            region(0x1001, 0x2fff, RegionKind::Usable),
            region(0x4001, 0x7fff, RegionKind::Usable),
        ],
        PHYS_LIMIT,
    );
    assert_eq!(map.usable().collect::<Vec<_>>(), [Mfn(5)..Mfn(7)]);
}

#[test]
fn layouts_from_half_a_gib_to_four_tib() {
    for size in [GIB / 2, GIB, 3 * GIB, 64 * GIB, 4096 * GIB] {
        let low = size.min(2 * GIB);
        let mut entries = vec![
            region(0x10_0000, low, RegionKind::Usable),
            region(0, 0x9_f000, RegionKind::Usable),
        ];
        if size > low {
            entries.push(region(4 * GIB, 4 * GIB + size - low, RegionKind::Usable));
            entries.push(region(7 << 29, 4 * GIB, RegionKind::Reserved));
        }
        let (map, warnings) = MemoryMap::new(&entries, 1 << 46);
        assert!(warnings.is_empty());
        let lost = 0x10_0000 - 0x9_f000;
        assert_eq!(map.total_frames(), (size - lost) >> PAGE_SHIFT);
        let top = if size > low {
            4 * GIB + size - low
        } else {
            low
        };
        assert_eq!(map.max_page(), top >> PAGE_SHIFT);
    }
}

#[test]
fn carving_rounds_outwards_and_splits() {
    let (map, _) = MemoryMap::new(&pc_2560m(), PHYS_LIMIT);
    let mut frames = UsableFrames::new(&map);
    assert_eq!(frames.find_low(2), Some(Mfn(0x9d)));
    assert_eq!(frames.find_low(0x9f), None);
    frames.carve_out(PhysAddr(0x20_0001), 0x1000);
    frames.carve_out(PhysAddr(0x9fff_0000), u64::MAX);
    frames.carve_out(PhysAddr(0x30_0000), 0);
    frames.carve_out_low_mib();
    let runs: Vec<_> = frames.runs().collect();
    assert_eq!(runs, [Mfn(0x100)..Mfn(0x200), Mfn(0x202)..Mfn(0x9ffe0)]);
    assert_eq!(frames.find_low(1), None);
    assert_eq!(frames.total_frames(), 0x9ffe0 - 0x100 - 2);
}

proptest! {
    #[test]
    fn the_map_is_sorted_and_says_what_the_entries_say(
        raw in proptest::collection::vec((0_u64..64, 0_u64..24, 0_u32..9), 0..20)
    ) {
        let entries: Vec<_> = raw.iter().map(|&(base, len, kind)| MemRegion {
            base: PhysAddr(base),
            len,
            kind: RegionKind::from_e820(kind),
        }).collect();
        let (map, _) = MemoryMap::new(&entries, 80);
        for pair in map.regions().windows(2) {
            prop_assert!(pair[0].end() <= pair[1].base.0);
            prop_assert!(pair[0].end() < pair[1].base.0 || pair[0].kind != pair[1].kind);
        }
        for at in 0..80 {
            let want = entries.iter()
                .filter(|entry| (entry.base.0..entry.end()).contains(&at))
                .map(|entry| entry.kind)
                .max();
            prop_assert_eq!(map.kind_at(PhysAddr(at)), want);
        }
    }

    #[test]
    fn any_entries_are_survived(
        raw in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u32>()), 0..40),
        limit in any::<u64>(),
        hole in (any::<u64>(), any::<u64>()),
    ) {
        let entries: Vec<_> = raw.iter().map(|&(base, len, kind)| MemRegion {
            base: PhysAddr(base),
            len,
            kind: RegionKind::from_e820(kind),
        }).collect();
        let (mut map, _) = MemoryMap::new(&entries, limit);
        prop_assert!(map.max_page() <= PHYS_LIMIT >> PAGE_SHIFT);
        let mut frames = UsableFrames::new(&map);
        frames.carve_out(PhysAddr(hole.0), hole.1);
        prop_assert!(frames.total_frames() <= map.total_frames());
        map.reserve_holes(PhysAddr(hole.0), hole.1);
        for pair in map.regions().windows(2) {
            prop_assert!(pair[0].end() <= pair[1].base.0);
        }
    }
}
