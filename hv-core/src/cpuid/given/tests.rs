use proptest::prelude::*;

use super::*;
use crate::cpuid::features::WORDS;
use crate::cpuid::tests::{ALL_ON, Table, reference_cpu};
use crate::domain::Rights;

const XSAVE_BIT: u32 = 1 << 26;
const AVX_BIT: u32 = 1 << 28;

fn amd() -> Policies {
    Policies::new(&reference_cpu(), &ALL_ON)
}

/// A CPU of Intel's with two caches and AVX-512.
fn intel() -> Policies {
    let mut table = reference_cpu();
    table.0.retain(|(leaf, ..)| {
        !matches!(
            leaf,
            0 | 5 | 6 | 7 | 0xb | 0x8000_0000 | 0x8000_0001 | 0x8000_0005..
        )
    });
    table.0.extend([
        (0, u32::MAX, [0xd, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]),
        (2, u32::MAX, [0x7603_6301, 0x00f0_b5ff, 0, 0xc3_0000]),
        (4, 0, [0x1c00_4121, 0x1c0_003f, 0x3f, 0]),
        (4, 1, [0x1c00_4122, 0x1c0_003f, 0x3f, 0]),
        (7, 0, [0, 0xd19f_4fbb, 0x818, 0xbc00_0400]),
        (0xa, u32::MAX, [0x0730_0404, 0, 0, 0x603]),
        (0x8000_0000, u32::MAX, [0x8000_0008, 0, 0, 0]),
        (0x8000_0001, u32::MAX, [0, 0, 0x121, 0x2c10_0800]),
        (0x8000_0006, u32::MAX, [0, 0, 0x0100_6040, 0]),
        (0x8000_0007, u32::MAX, [0, 0, 0, 0x100]),
        (0x8000_0008, u32::MAX, [0x302e, 0, 0, 0]),
        (0xd, 5, [0x40, 0x440, 0, 0]),
        (0xd, 6, [0x200, 0x480, 0, 0]),
        (0xd, 7, [0x400, 0x680, 0, 0]),
    ]);
    let states = table.0.iter_mut().find(|(l, s, _)| (*l, *s) == (0xd, 0));
    states.unwrap().2 = [0xe7, 0, 0xa80, 0];
    Policies::new(&Table(table.0), &ALL_ON)
}

/// What comes of leaves and registers over the default.
fn give(
    policies: &Policies,
    leaves: &[CpuidLeaf],
    msrs: &[MsrEntry],
) -> Result<(Policy, Words), Refused> {
    give_to(DomainKind::Pv64, policies, leaves, msrs)
}

/// The same for any kind of guest.
fn give_to(
    kind: DomainKind,
    policies: &Policies,
    leaves: &[CpuidLeaf],
    msrs: &[MsrEntry],
) -> Result<(Policy, Words), Refused> {
    let mut policy = policies.of_domain(kind, Rights::Guest).clone();
    policy.overlay(leaves, msrs)?;
    policy.settled(policies, kind)
}

/// A leaf of the default, changed.
fn changed(policies: &Policies, leaf: u32, change: impl Fn(&mut CpuidLeaf)) -> CpuidLeaf {
    let list = policies.get(Which::PvDefault).leaves().unwrap();
    let mut found = *list.iter().find(|l| l.leaf == leaf).unwrap();
    change(&mut found);
    found
}

fn place(refused: Result<(Policy, Words), Refused>) -> (Errno, u32, u32, u32) {
    let why = refused.unwrap_err();
    (why.errno, why.leaf, why.subleaf, why.msr)
}

#[test]
fn what_guests_have_can_be_given() {
    for policies in [amd(), intel()] {
        for which in [Which::PvDefault, Which::PvMax] {
            let policy = policies.get(which);
            let (given, missing) =
                give(&policies, &policy.leaves().unwrap(), &policy.msrs()).unwrap();
            assert_eq!(&given, policy, "{which:?}");
            assert_eq!(missing, [0; WORDS]);
        }
    }
}

#[test]
fn features_go_with_what_they_are_built_on() {
    let policies = amd();
    let without = |bits: u32| {
        let leaf = changed(&policies, 1, |l| l.c &= !bits);
        give(&policies, &[leaf], &[]).unwrap().0
    };
    let no_avx = without(AVX_BIT);
    assert!(no_avx.has(Feature::XSAVE) && !no_avx.has(Feature::AVX));
    assert_eq!(no_avx.features[0][1] & 1 << 5, 0, "AVX2");
    assert_eq!((no_avx.xcr0_mask(), no_avx.states[0][2]), (3, 576));
    assert_eq!(no_avx.states[2], [0; 4]);
    let no_xsave = without(XSAVE_BIT);
    assert!(!no_xsave.has(Feature::AVX));
    assert_eq!(no_xsave.states, [[0; 4]; 20]);
    let no_sse3 = without(1);
    assert_eq!(no_sse3.basic[1][2] & 0x0018_0200, 0, "SSSE3, SSE4");
    // Without leaf 0xd nobody could use XSAVE.
    let short = changed(&policies, 0, |l| l.a = 7);
    let (short, _) = give(&policies, &[short], &[]).unwrap();
    assert_eq!((short.basic[0][0], short.xcr0_mask()), (7, 0));
    assert!(!short.has(Feature::XSAVE) && short.leaves().unwrap().len() < 50);
}

#[test]
fn what_cannot_be_had_is_left_out_and_told() {
    let policies = amd();
    // MONITOR is for nobody, hyperthreads are the toolstack's to tell.
    let leaf = changed(&policies, 1, |l| {
        l.c |= 1 << 3;
        l.d |= Feature::HTT.mask;
    });
    let (policy, missing) = give(&policies, &[leaf], &[]).unwrap();
    assert_eq!(missing[1], 1 << 3);
    assert!(policy.has(Feature::HTT) && policy.basic[1][2] & 1 << 3 == 0);
    let frequencies = CpuidLeaf {
        leaf: 6,
        subleaf: XEN_CPUID_NO_SUBLEAF,
        a: 4,
        ..CpuidLeaf::default()
    };
    let (policy, _) = give(&policies, &[frequencies], &[]).unwrap();
    assert_eq!(&policy, policies.get(Which::PvDefault));
}

#[test]
fn each_kind_has_its_own_most() {
    for policies in [amd(), intel()] {
        for kind in [DomainKind::Pv64, DomainKind::Hvm] {
            // What a kind has, tools can give to it, and to the other what both have.
            let own = policies.of_domain(kind, Rights::Guest).leaves().unwrap();
            let (policy, missing) = give_to(kind, &policies, &own, &[]).unwrap();
            assert_eq!(&policy, policies.of_domain(kind, Rights::Guest));
            assert_eq!(missing, [0; WORDS]);
        }
        let hvm = policies.get(Which::HvmDefault).leaves().unwrap();
        let (policy, missing) = give(&policies, &hvm, &[]).unwrap();
        for feature in [Feature::PSE, Feature::MTRR, Feature::SMEP] {
            assert!(!policy.has(feature), "{feature:?}");
            assert_ne!(missing[feature.word] & feature.mask, 0);
        }
    }
}

#[test]
fn addresses_are_no_wider_than_the_machines() {
    let policies = amd();
    for (wanted, found) in [(0, 36), (30, 36), (38, 38), (40, 40), (52, 40), (255, 40)] {
        let leaf = changed(&policies, 0x8000_0008, |l| l.a = wanted);
        let (policy, _) = give(&policies, &[leaf], &[]).unwrap();
        assert_eq!(policy.extended[8][0], 48 << 8 | found);
    }
}

#[test]
fn hypervisor_leaves_can_end_early() {
    use crate::cpuid::guest::{MachineFacts, View, answer};
    use crate::pv::state::Mode;
    let policies = amd();
    let machine = MachineFacts {
        version: 0x40011,
        tsc_khz: 1,
        address_bits: 32,
    };
    let view = View {
        rights: Rights::Guest,
        mode: Mode::User,
        xcr0: 1,
        machine,
        tsc: None,
    };
    for (limit, last) in [(0, 5), (0x4000_0000, 2), (0x4000_0003, 3), (0x77, 5)] {
        let leaf = changed(&policies, 0x4000_0000, |l| l.a = limit);
        let (policy, _) = give(&policies, &[leaf], &[]).unwrap();
        let first = answer(&policy, &view, 0x4000_0000, 0);
        assert_eq!(first[0], 0x4000_0000 + last);
        let fifth = answer(&policy, &view, 0x4000_0005, 0);
        assert_eq!(fifth[1] != 0, last == 5);
        assert!(policy.leaves().unwrap().contains(&leaf), "told as given");
    }
}

#[test]
fn refusals_name_the_place() {
    let policies = amd();
    let leaf = |leaf, subleaf| CpuidLeaf {
        leaf,
        subleaf,
        ..CpuidLeaf::default()
    };
    let any = XEN_CPUID_NO_SUBLEAF;
    for (number, subleaf) in [
        (0xe, any),
        (0x3fff_ffff, any),
        (0x4000_0001, any),
        (0x8000_0022, any),
        (u32::MAX, any),
        (1, 0),
        (4, 6),
        (4, any),
        (7, 3),
        (0xb, 2),
        (0xd, 63),
        (0xd, any),
        (0x4000_0000, 0),
        (0x8000_0001, 0),
    ] {
        let refused = place(give(&policies, &[leaf(number, subleaf)], &[]));
        assert_eq!(refused, (Errno::ERANGE, number, subleaf, NOWHERE));
    }
    let more = |number, change: fn(&mut CpuidLeaf)| {
        place(give(&policies, &[changed(&policies, number, change)], &[]))
    };
    let beyond = (Errno::EINVAL, 0, NOWHERE, NOWHERE);
    assert_eq!(more(0, |l| l.a = 0xe), beyond);
    assert_eq!(more(0, |l| l.b ^= 1), beyond, "another maker");
    assert_eq!(
        more(7, |l| l.a = 3),
        (Errno::EINVAL, 7, 0, NOWHERE),
        "more than three sub-leaves"
    );
    assert_eq!(
        more(0x8000_0000, |l| l.a += 1),
        (Errno::EINVAL, 0x8000_0000, NOWHERE, NOWHERE)
    );
    for (idx, flags, val, errno) in [
        (0xce, 1, 0, Errno::EINVAL),
        (0xce, 0, 1 << 31, Errno::EINVAL),
        (0x10a, 0, 1, Errno::EINVAL),
        (0x10, 0, 0, Errno::ERANGE),
    ] {
        let refused = place(give(&policies, &[], &[MsrEntry { idx, flags, val }]));
        assert_eq!(refused, (errno, NOWHERE, NOWHERE, idx));
    }
    assert_eq!(check_lengths(120, 2), Ok(()));
    for (leaves, msrs) in [(121, 0), (u32::MAX, 0), (0, 3), (0, u32::MAX)] {
        assert_eq!(
            check_lengths(leaves, msrs).map_err(|e| e.errno),
            Err(Errno::E2BIG)
        );
    }
}

#[test]
fn a_policy_is_fixed_once() {
    let policies = amd();
    let (default, max) = (policies.get(Which::PvDefault), policies.get(Which::PvMax));
    let domain = DomainPolicy::new();
    assert_eq!(&domain.now(default), default);
    domain.give(max.clone()).unwrap();
    assert_eq!(&domain.now(default), max);
    assert_eq!(domain.fix(default), max);
    assert_eq!(domain.give(default.clone()), Err(Errno::EEXIST));
    assert_eq!(&domain.now(default), max);
    let plain = DomainPolicy::new();
    assert_eq!(plain.fix(default), default);
    assert_eq!(plain.give(max.clone()), Err(Errno::EEXIST));
}

/// Leaves at places that exist, nearly always.
fn leaves() -> impl Strategy<Value = Vec<CpuidLeaf>> {
    let number = prop_oneof![
        0..0xeu32,
        Just(1),
        Just(7),
        Just(0xd),
        Just(0x4000_0000),
        Just(0x4000_0100),
        0x8000_0000..0x8000_0022u32,
    ];
    let value = prop_oneof![any::<u32>(), Just(0), Just(!0), 0..32u32];
    let one = (
        number,
        0..20u32,
        [value.clone(), value.clone(), value.clone(), value],
    )
        .prop_map(|(leaf, sub, [a, b, c, d])| CpuidLeaf {
            leaf,
            subleaf: match leaf {
                4 => sub % 6,
                7 => sub % 3,
                0xb => sub % 2,
                0xd => sub,
                _ => XEN_CPUID_NO_SUBLEAF,
            },
            // Else nearly all would be refused at once.
            a: match leaf {
                0 => a % 0x10,
                7 if sub % 3 == 0 => a % 3,
                0x8000_0000 => 0x8000_0000 + a % 0x22,
                _ => a,
            },
            b: if leaf == 0 { 0x6874_7541 } else { b },
            c: if leaf == 0 { 0x444d_4163 } else { c },
            d: if leaf == 0 { 0x6974_6e65 } else { d },
        });
    proptest::collection::vec(one, 0..40)
}

proptest! {
    #[test]
    fn any_list_leads_to_a_refusal_or_to_less_than_the_most(
        list in leaves(),
        kind in prop_oneof![Just(DomainKind::Pv64), Just(DomainKind::Hvm)],
    ) {
        let policies = amd();
        let max = policies.get(Which::max_of(kind));
        if let Ok((policy, _)) = give_to(kind, &policies, &list, &[]) {
            let mut most = max.featureset();
            for feature in [Feature::HTT, Feature::X2APIC, Feature::CMP_LEGACY] {
                set(&mut most, feature);
            }
            for (word, most) in policy.featureset().iter().zip(&most) {
                prop_assert_eq!(word & !most, 0);
            }
            prop_assert_eq!(policy.xcr0_mask() & !max.xcr0_mask(), 0);
            prop_assert_eq!(policy.xcr0_mask() == 0, !policy.has(Feature::XSAVE));
            prop_assert_eq!(policy.xcr0_mask() & 4 != 0, policy.has(Feature::AVX));
            let keys = policy.has(Feature::PKU) && policy.has(Feature::XSAVE);
            prop_assert_eq!(policy.xcr0_mask() >> 9 & 1 != 0, keys);
            prop_assert_eq!(policy.vendor(), max.vendor());
            // Settled for good, and told as it is.
            let told = policy.leaves().unwrap();
            prop_assert!(told.len() <= MAX_LEAVES);
            let (again, missing) = give_to(kind, &policies, &told, &policy.msrs()).unwrap();
            prop_assert_eq!(&again, &policy);
            prop_assert_eq!(missing, [0; WORDS]);
        }
    }

    #[test]
    fn rubbish_is_survived(
        words in proptest::collection::vec(any::<[u32; 6]>(), 0..120),
        msrs in proptest::collection::vec((any::<u32>(), any::<u32>(), any::<u64>()), 0..3),
    ) {
        let list: Vec<_> = words
            .iter()
            .map(|&[leaf, subleaf, a, b, c, d]| CpuidLeaf { leaf: leaf % 0x10, subleaf: subleaf % 9, a, b, c, d })
            .collect();
        let msrs: Vec<_> = msrs
            .iter()
            .map(|&(idx, flags, val)| MsrEntry { idx, flags, val })
            .collect();
        for policies in [amd(), intel()] {
            let _any = give(&policies, &list, &msrs);
            for kind in [DomainKind::Pv64, DomainKind::Hvm] {
                let mut policy = policies.get(Which::max_of(kind)).clone();
                for leaf in &list {
                    let _any = policy.overlay(core::slice::from_ref(leaf), &[]);
                }
                let _any = policy.settled(&policies, kind);
            }
        }
    }
}
