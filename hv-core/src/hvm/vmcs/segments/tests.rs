//! Access rights there and back, and what `conform` makes of segments.

use proptest::prelude::*;

use super::*;

const ALL: [SegmentName; 10] = [
    SegmentName::Es,
    SegmentName::Cs,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Fs,
    SegmentName::Gs,
    SegmentName::Ldtr,
    SegmentName::Tr,
    SegmentName::Gdtr,
    SegmentName::Idtr,
];

fn with(name: SegmentName, attributes: u16, limit: u32) -> (u16, u32) {
    let segment = Segment {
        selector: 0x28,
        attributes,
        limit,
        base: 0x1234_5000,
    };
    let got = conform(name, segment);
    assert_eq!((got.selector, got.base), (0x28, 0x1234_5000));
    (got.attributes, got.limit)
}

#[test]
fn access_rights_are_attributes_with_a_gap() {
    assert_eq!(rights(0xa9b), 0xa09b);
    assert_eq!(rights(0xcf3), 0xc0f3);
    assert_eq!(rights(0x93), 0x93);
    assert_eq!(rights(0), 0x1_0000);
    assert_eq!(rights(0x60), 0x1_0060, "the level of SS stays");
    assert_eq!(attributes(0xa09b), 0xa9b);
    assert_eq!(attributes(0x1_c0f3), 0x60);
    for value in (0..=0xfffu16).filter(|value| value & attribute::P != 0) {
        assert_eq!(attributes(rights(value)), value);
        assert_eq!(rights(value) & !0xf0ff, 0);
    }
}

#[test]
fn each_register_has_fields_of_its_own() {
    let mut seen = Vec::new();
    for name in ALL {
        let place = place(name);
        seen.extend([place.base, place.limit]);
        if let Some((selector, rights)) = place.described {
            seen.extend([selector, rights]);
            // The four lie at the same place of their groups.
            assert_eq!(selector.encoding() & 0xf, place.limit.encoding() & 0xf);
            assert_eq!(rights.encoding() - 0x14, place.limit.encoding());
        }
        assert_eq!(
            place.base.encoding() & 0x1f,
            (place.limit.encoding() & 0x1f) + 6
        );
    }
    assert_eq!(seen.len(), 36);
    for (n, field) in seen.iter().enumerate() {
        assert!(!seen[..n].contains(field));
    }
}

#[test]
fn segments_of_a_reset_stay() {
    for (name, attributes) in [
        (SegmentName::Cs, 0x9b),
        (SegmentName::Ds, 0x93),
        (SegmentName::Es, 0x93),
        (SegmentName::Ss, 0x93),
        (SegmentName::Fs, 0x93),
        (SegmentName::Gs, 0x93),
        (SegmentName::Ldtr, 0x82),
        (SegmentName::Tr, 0x8b),
        (SegmentName::Gdtr, 0),
        (SegmentName::Idtr, 0),
    ] {
        assert_eq!(with(name, attributes, 0xffff), (attributes, 0xffff));
    }
}

#[test]
fn what_an_entry_refuses_is_made_the_nearest_that_it_takes() {
    // Not accessed; a data segment that cannot be written, or is code, in SS; code that cannot be read in DS.
    assert_eq!(with(SegmentName::Cs, 0x9a, 0).0, 0x9b);
    assert_eq!(with(SegmentName::Cs, 0x9e, 0).0, 0x9f);
    assert_eq!(with(SegmentName::Ds, 0x92, 0).0, 0x93);
    assert_eq!(with(SegmentName::Ss, 0x90, 0).0, 0x93);
    assert_eq!(with(SegmentName::Ss, 0x96, 0).0, 0x97);
    assert_eq!(with(SegmentName::Ss, 0x9a, 0).0, 0x93);
    assert_eq!(with(SegmentName::Ds, 0x98, 0).0, 0x9b);
    assert_eq!(with(SegmentName::Fs, 0x82, 0).0, 0x93);
    // Data in CS, of level 0 and 3; no CS at all.
    assert_eq!(with(SegmentName::Cs, 0x92, 0).0, 0x93);
    assert_eq!(with(SegmentName::Cs, 0xf1, 0).0, 0xf3);
    assert_eq!(with(SegmentName::Cs, 0, 0).0, 0x93);
    // Tasks that are not busy, of 16 and 32 bits; none; something else.
    assert_eq!(with(SegmentName::Tr, 0x81, 0x67).0, 0x83);
    assert_eq!(with(SegmentName::Tr, 0x89, 0x67).0, 0x8b);
    assert_eq!(with(SegmentName::Tr, 0, 0x67), (0x8b, 0x67));
    assert_eq!(with(SegmentName::Tr, 0x9f, 0x67).0, 0x8b);
    assert_eq!(with(SegmentName::Ldtr, 0x9f, 0).0, 0x82);
    let legacy = Segment {
        attributes: 0x83,
        ..Segment::default()
    };
    assert_eq!(long_task(legacy).attributes, 0x8b);
    // What is not usable is left alone.
    assert_eq!(
        with(SegmentName::Ds, 0x63, 0x1234_5678),
        (0x63, 0x1234_5678)
    );
    assert_eq!(with(SegmentName::Ldtr, 0, 0), (0, 0));
    assert_eq!(with(SegmentName::Ss, 0xf060, 0), (0x060, 0));
}

#[test]
fn limits_decide_what_they_count() {
    let ds = |attributes, limit| with(SegmentName::Ds, attributes, limit);
    assert_eq!(ds(0x93, 0xffff_ffff), (0x893, 0xffff_ffff));
    assert_eq!(ds(0x893, 0xffff), (0x893, 0xffff));
    assert_eq!(ds(0x893, 0xfffe), (0x093, 0xfffe));
    assert_eq!(ds(0x893, 0xf_ffff), (0x893, 0xf_ffff));
    assert_eq!(ds(0x93, 0x10_0000), (0x893, 0x10_0fff));
}

proptest! {
    #[test]
    fn what_was_made_to_fit_fits(which in 0..ALL.len(), attributes: u16, limit: u32) {
        let name = ALL[which];
        let (attributes, limit) = with(name, attributes, limit);
        prop_assert_eq!(with(name, attributes, limit), (attributes, limit));
    }
}
