//! The policies against what the reference hypervisor shows on a known CPU (AMD, family 15).

use super::features::Feature;
use super::guest::{GuestTsc, MachineFacts, View, answer};
use super::*;
use crate::domain::Rights;
use crate::pv::state::Mode;

/// The CPU of the reference, and a way to change it.
pub(crate) struct Table(pub Vec<(u32, u32, Leaf)>);

impl CpuidSource for Table {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> Leaf {
        let found = self
            .0
            .iter()
            .find(|(l, s, _)| *l == leaf && (*s == u32::MAX || *s == subleaf));
        found.map_or([0; 4], |(.., values)| *values)
    }
}

impl Table {
    fn change(mut self, leaf: u32, values: Leaf) -> Self {
        self.0.retain(|(l, ..)| *l != leaf);
        self.0.push((leaf, u32::MAX, values));
        self
    }
}

const ANY: u32 = u32::MAX;

pub(crate) fn reference_cpu() -> Table {
    Table(vec![
        (0, ANY, [0xd, 0x68747541, 0x444d4163, 0x69746e65]),
        (1, ANY, [0x00060fb1, 0x01020800, 0xfed8320b, 0x1fcbfbfd]),
        (5, ANY, [0, 0, 3, 0]),
        (6, ANY, [4, 0, 0, 0]),
        (7, 0, [0, 0x01c843a9, 0x8001021c, 0]),
        (0xb, 0, [0, 1, 0x100, 0]),
        (0xb, 1, [1, 2, 0x201, 0]),
        (0xd, 0, [0x21f, 0xa88, 0xa88, 0]),
        (0xd, 1, [5, 0x3c8, 0, 0]),
        (0xd, 2, [0x100, 0x240, 0, 0]),
        (0xd, 3, [0x40, 0x3c0, 0, 0]),
        (0xd, 4, [0x40, 0x400, 0, 0]),
        (0xd, 9, [8, 0xa80, 0, 0]),
        (
            0x80000000,
            ANY,
            [0x8000000a, 0x68747541, 0x444d4163, 0x69746e65],
        ),
        (0x80000001, ANY, [0x00060fb1, 0, 0x77, 0xe5d3fbfd]),
        (
            0x80000002,
            ANY,
            [0x554d4551, 0x47435420, 0x55504320, 0x72657620],
        ),
        (0x80000003, ANY, [0x6e6f6973, 0x352e3220, 0x2b, 0]),
        (
            0x80000005,
            ANY,
            [0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140],
        ),
        (0x80000006, ANY, [0, 0x42004200, 0x02008140, 0x00808140]),
        (0x80000008, ANY, [0x3928, 0, 0x1001, 0]),
        (0x8000000a, ANY, [1, 0x10, 0, 0x10010001]),
    ])
}

pub(crate) const ALL_ON: HostSetup = HostSetup {
    lfence: Lfence::Unknown,
    tsc_aux: TscAux::PerVcpu,
    xcr0: !0,
    hvm: Some(HvmSetup { unkept: Vec::new() }),
};

fn policies() -> Policies {
    Policies::new(&reference_cpu(), &ALL_ON)
}

fn view(rights: Rights, mode: Mode) -> View {
    let machine = MachineFacts {
        version: 0x40011,
        tsc_khz: 2_600_000,
        address_bits: 32,
    };
    View {
        rights,
        mode,
        xcr0: 1,
        machine,
        tsc: None,
    }
}

fn shown(rights: Rights, mode: Mode, leaf: u32, subleaf: u32) -> Leaf {
    let policies = policies();
    answer(
        policies.of_domain(DomainKind::Pv64, rights),
        &view(rights, mode),
        leaf,
        subleaf,
    )
}

/// Leaves that a dom0 kernel got, apart from those that were all zero.
const CONTROL_LEAVES: &[(u32, u32, Leaf)] = &[
    (0, 0, [0xd, 0x68747541, 0x444d4163, 0x69746e65]),
    (1, 0, [0x00060fb1, 0x00020800, 0xfed83203, 0x1fc9d3f5]),
    (7, 0, [0, 0x01880329, 0x200, 0]),
    (0xd, 0, [7, 0x240, 0x340, 0]),
    (0xd, 1, [5, 0, 0, 0]),
    (0xd, 2, [0x100, 0x240, 0, 0]),
    (
        0x40000000,
        0,
        [0x40000005, 0x566e6558, 0x65584d4d, 0x4d4d566e],
    ),
    (0x40000001, 0, [0x40011, 0, 0, 0]),
    (0x40000002, 0, [1, 0x40000000, 1, 0]),
    (0x40000003, 2, [0x27ac40, 0, 0, 0]),
    (0x40000005, 0, [0, 0x20, 0, 0]),
    (
        0x80000000,
        0,
        [0x80000021, 0x68747541, 0x444d4163, 0x69746e65],
    ),
    (0x80000001, 0, [0x00060fb1, 0, 0x63, 0xe1d1dbf5]),
    (
        0x80000002,
        0,
        [0x554d4551, 0x47435420, 0x55504320, 0x72657620],
    ),
    (0x80000003, 0, [0x6e6f6973, 0x352e3220, 0x2b, 0]),
    (
        0x80000005,
        0,
        [0x01ff01ff, 0x01ff01ff, 0x40020140, 0x40020140],
    ),
    (0x80000006, 0, [0, 0x42004200, 0x02008140, 0x00808140]),
    (0x80000008, 0, [0x3028, 0, 0x1001, 0]),
    (0x80000021, 0, [4, 0, 0, 0]),
];

#[test]
fn the_control_domain_sees_what_the_reference_shows() {
    let places = (0..0x10)
        .chain(0x4000_0000..0x4000_0200)
        .chain(0x8000_0000..0x8000_0040);
    for (leaf, subleaf) in places.flat_map(|leaf| (0..5).map(move |s| (leaf, s))) {
        let repeats = !matches!(leaf, 4 | 7 | 0xb | 0xd | 0x4000_0003);
        let wanted = CONTROL_LEAVES
            .iter()
            .find(|(l, s, _)| *l == leaf && (repeats || *s == subleaf));
        let wanted = wanted.map_or([0; 4], |(.., values)| *values);
        assert_eq!(
            shown(Rights::Control, Mode::Kernel, leaf, subleaf),
            wanted,
            "leaf {leaf:#x}.{subleaf}"
        );
    }
}

#[test]
fn memory_types_are_for_the_control_domains_kernel_alone() {
    for (rights, mode) in [
        (Rights::Control, Mode::User),
        (Rights::Guest, Mode::Kernel),
        (Rights::Guest, Mode::User),
    ] {
        assert_eq!(
            shown(rights, mode, 1, 0),
            [0x00060fb1, 0x00020800, 0xfed83203, 0x1fc9c3f5]
        );
        assert_eq!(
            shown(rights, mode, 0x80000001, 0),
            [0x00060fb1, 0, 0x63, 0xe1d1cbf5]
        );
    }
}

#[test]
fn sizes_follow_xcr0() {
    let policies = policies();
    let mut view = view(Rights::Guest, Mode::User);
    view.xcr0 = 7;
    assert_eq!(
        answer(
            policies.of_domain(DomainKind::Pv64, Rights::Guest),
            &view,
            0xd,
            0
        ),
        [7, 0x340, 0x340, 0]
    );
}

#[test]
fn a_guest_with_its_own_tsc_is_told() {
    let policies = policies();
    let mut view = view(Rights::Guest, Mode::Kernel);
    view.tsc = Some(GuestTsc {
        flags: 1,
        khz: 2_600_000,
        incarnation: 1,
        mul_frac: 0xc4ec4ec4,
        shift: -1,
        ..GuestTsc::default()
    });
    let policy = policies.of_domain(DomainKind::Pv64, Rights::Guest);
    assert_eq!(answer(policy, &view, 0x4000_0003, 0), [1, 0, 0x27ac40, 1]);
    assert_eq!(
        answer(policy, &view, 0x4000_0003, 1),
        [0, 0, 0xc4ec4ec4, 0xffffffff]
    );
}

#[test]
fn policies_list_as_many_leaves_as_the_reference() {
    let policies = policies();
    let counts = [(Which::Raw, 37), (Which::Host, 59), (Which::PvMax, 54)];
    for (which, count) in counts {
        assert_eq!(
            policies.get(which).leaves().expect("memory").len(),
            count,
            "{which:?}"
        );
    }
    let find = |which, leaf, subleaf| {
        let list = policies.get(which).leaves().expect("memory");
        let found = list
            .iter()
            .find(|l| l.leaf == leaf && l.subleaf == subleaf)
            .copied()
            .expect("listed");
        [found.a, found.b, found.c, found.d]
    };
    assert_eq!(
        find(Which::Raw, 1, ANY),
        [0x00060fb1, 0x00020800, 0xfed8320b, 0x1fcbfbfd]
    );
    assert_eq!(find(Which::Raw, 0xb, 1), [1, 2, 0x201, 0]);
    assert_eq!(find(Which::Raw, 0xd, 9), [8, 0xa80, 0, 0]);
    assert_eq!(
        find(Which::Host, 1, ANY),
        [0x00060fb1, 0x00020800, 0xf6d8320b, 0x1fcbf3fd]
    );
    assert_eq!(find(Which::Host, 7, 0), [0, 0x018843a9, 0x20c, 0]);
    assert_eq!(find(Which::Host, 0xd, 0), [0x21f, 0, 0xa88, 0]);
    assert_eq!(
        find(Which::Host, 0x8000_0001, ANY),
        [0x00060fb1, 0, 0x77, 0xe5d3fbfd]
    );
    assert_eq!(
        find(Which::PvMax, 1, ANY),
        [0x00060fb1, 0x00020800, 0xf6f83203, 0x1fc9c3f5]
    );
    assert_eq!(find(Which::PvMax, 7, 0), [2, 0x01880329, 0x200, 0]);
    assert_eq!(
        policies.get(Which::Host).msrs().map(|m| (m.idx, m.val)),
        [(0xce, 0), (0x10a, 0)]
    );
}

#[test]
fn the_host_featureset_is_that_of_the_reference() {
    let words = policies().get(Which::Host).featureset();
    let wanted = [
        0x1fcbf3fd, 0xf6d8320b, 0xe4500800, 0x77, 5, 0x018843a9, 0x20c, 0,
    ];
    assert_eq!(words[..8], wanted);
}

#[test]
fn without_xsave_nothing_that_needs_it_is_left() {
    let setup = HostSetup { xcr0: 0, ..ALL_ON };
    let policies = Policies::new(&reference_cpu(), &setup);
    let policy = policies.of_domain(DomainKind::Pv64, Rights::Control);
    assert!(!policy.has(Feature::XSAVE) && !policy.has(Feature::AVX));
    let view = View {
        xcr0: 0,
        ..view(Rights::Control, Mode::Kernel)
    };
    let leaf_1 = answer(policy, &view, 1, 0);
    assert_eq!(
        leaf_1[2],
        0xfed83203 & !0x3c00_1000,
        "no XSAVE, OSXSAVE, AVX, F16C, FMA"
    );
    assert_eq!(
        answer(policy, &view, 7, 0)[1],
        0x01880329 & !0x20,
        "no AVX2"
    );
    assert_eq!(answer(policy, &view, 0xd, 0), [0; 4]);
    assert_eq!(answer(policy, &view, 0xd, 2), [0; 4]);
    assert_eq!(policy.xcr0_mask(), 0);
}

#[test]
fn only_sse_in_xcr0_means_no_avx() {
    let setup = HostSetup { xcr0: 3, ..ALL_ON };
    let policies = Policies::new(&reference_cpu(), &setup);
    let policy = policies.of_domain(DomainKind::Pv64, Rights::Guest);
    assert!(policy.has(Feature::XSAVE) && !policy.has(Feature::AVX));
    assert_eq!(policy.xcr0_mask(), 3);
}

#[test]
fn an_intel_cpu_keeps_its_caches_and_loses_its_speculation_controls() {
    let mut cpu = reference_cpu()
        .change(0, [0x16, 0x756e6547, 0x6c65746e, 0x49656e69])
        .change(0x80000000, [0x80000008, 0, 0, 0])
        .change(0x80000001, [0, 0, 0x121, 0x2c100800])
        .change(4, [0, 0, 0, 0]);
    cpu.0.retain(|(l, ..)| *l != 4 && *l != 7);
    cpu.0.push((4, 0, [0x1c004121, 0x01c0003f, 0x3f, 0]));
    cpu.0.push((7, 0, [0, 0xd19ffffb, 0x40000004, 0xbc000400]));
    let policies = Policies::new(&cpu, &ALL_ON);
    assert_eq!(policies.get(Which::Raw).vendor(), Vendor::Intel);
    let policy = policies.of_domain(DomainKind::Pv64, Rights::Guest);
    let view = view(Rights::Guest, Mode::Kernel);
    assert_eq!(
        answer(policy, &view, 4, 0),
        [0x1c004121, 0x01c0003f, 0x3f, 0]
    );
    assert_eq!(
        answer(policy, &view, 7, 0)[3],
        0x400,
        "MD_CLEAR alone: the rest needs MSRs"
    );
    assert_eq!(
        answer(policy, &view, 1, 0)[3] & 1 << 11,
        1 << 11,
        "SYSENTER"
    );
    assert_eq!(answer(policy, &view, 0x8000_0000, 0)[0], 0x8000_0008);
    assert_eq!(
        answer(policy, &view, 0x8000_0001, 0)[3],
        0x28100800,
        "nothing repeated, no 1 GiB pages"
    );
    assert_eq!(answer(policy, &view, 0x15, 0), [0; 4]);
}

#[test]
fn lfence_is_as_good_as_the_set_up() {
    let family_17 = || reference_cpu().change(1, [0x0080_0f11, 0, 0, 0]);
    let eax = |setup: &HostSetup| {
        Policies::new(&family_17(), setup)
            .get(Which::PvDefault)
            .leaf(0x8000_0021, 0)[0]
    };
    assert_eq!(eax(&ALL_ON), 0);
    assert_eq!(
        eax(&HostSetup {
            lfence: Lfence::Dispatching,
            ..ALL_ON
        }),
        4
    );
}

#[test]
fn no_guest_has_more_than_the_cpu() {
    let policies = policies();
    let (raw, host) = (policies.get(Which::Raw), policies.get(Which::Host));
    let emulated = Feature::HYPERVISOR.mask | Feature::X2APIC.mask;
    for (max, default) in [
        (Which::PvMax, Which::PvDefault),
        (Which::HvmMax, Which::HvmDefault),
    ] {
        let mut ours = [0; features::WORDS];
        ours[1] = emulated;
        if max == Which::HvmMax {
            // What AMD's CPUs have outside long mode alone, and what they need not tell.
            ours[0] = Feature::SEP.mask & raw.featureset()[0];
            ours[8] = Feature::NO_LMSL.mask;
        }
        let (max, default) = (
            policies.get(max).featureset(),
            policies.get(default).featureset(),
        );
        let host = host.featureset();
        for word in 0..features::WORDS {
            assert_eq!(max[word] & !host[word] & !ours[word], 0);
            assert_eq!(default[word] & !max[word], 0);
        }
    }
}

#[test]
fn hvm_guests_are_shown_what_pv_guests_cannot_have() {
    let policies = policies();
    let words = |which| policies.get(which).featureset();
    let (pv, hvm) = (words(Which::PvDefault), words(Which::HvmDefault));
    for word in 0..features::WORDS {
        assert_eq!(pv[word] & !hvm[word], 0, "{word}");
    }
    let more = [
        0x0002_3808,
        0x0020_0000,
        0x0400_0000,
        0x0000_0010,
        0,
        0x0000_0080,
        0x0000_000c,
        0,
        0x0010_0000,
    ];
    let found: Vec<_> = pv.iter().zip(&hvm).map(|(pv, hvm)| hvm & !pv).collect();
    assert_eq!(found[..9], more);
    assert_eq!(policies.get(Which::HvmDefault).xcr0_mask(), 0x207);
    assert!(policies.has_hvm());
    let none = HostSetup {
        hvm: None,
        ..ALL_ON
    };
    assert!(!Policies::new(&reference_cpu(), &none).has_hvm());
    // Where PKRU is not saved, there are no keys.
    let less = HostSetup { xcr0: 7, ..ALL_ON };
    let less = Policies::new(&reference_cpu(), &less);
    assert!(!less.get(Which::HvmMax).has(Feature::PKU));
    assert_eq!(less.get(Which::HvmMax).xcr0_mask(), 7);
}

#[test]
fn tsc_aux_is_told_of_where_it_is_kept() {
    let cpu = reference_cpu().change(0x8000_0001, [0x0006_0fb1, 0, 0x77, 0xedd3_fbfd]);
    let hvm = Some(HvmSetup {
        unkept: vec![Feature::DBEXT],
    });
    let setup = HostSetup {
        tsc_aux: TscAux::Missing,
        hvm,
        ..ALL_ON
    };
    let policies = Policies::new(&cpu, &setup);
    assert!(!policies.get(Which::PvMax).has(Feature::RDTSCP));
    assert!(policies.get(Which::HvmDefault).has(Feature::RDTSCP));
}
