//! Feature words in the order of xen/arch-x86/cpufeatureset.h, and which features guests get.
//!
//! The masks follow the letters of that header (A and a: for all guests; S and H: for HVM guests; a small letter: not
//! by default), except that what would need registers that we do not keep for a guest is left out: the
//! speculation control MSRs (IBRSB, STIBP, SSBD, PSFD, IBRS and what goes with it), ARCH_CAPABILITIES, MPX; and
//! virtualisation in the guest (SVM, VMX), which there is not.

/// Words of a feature set.
pub const WORDS: usize = 19;

/// A feature set.
pub type Words = [u32; WORDS];

/// A bit of a feature set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feature {
    /// Index of the word.
    pub word: usize,
    /// The bit in it.
    pub mask: u32,
}

const fn feature(word: usize, bit: u32) -> Feature {
    Feature {
        word,
        mask: 1 << bit,
    }
}

/// Features that the code asks for (cpufeatureset.h).
#[allow(missing_docs, reason = "named as in the header")]
impl Feature {
    pub const FPU: Self = feature(0, 0);
    pub const VME: Self = feature(0, 1);
    pub const DE: Self = feature(0, 2);
    pub const PSE: Self = feature(0, 3);
    pub const TSC: Self = feature(0, 4);
    pub const PAE: Self = feature(0, 6);
    pub const MCE: Self = feature(0, 7);
    pub const APIC: Self = feature(0, 9);
    pub const SEP: Self = feature(0, 11);
    pub const MTRR: Self = feature(0, 12);
    pub const PGE: Self = feature(0, 13);
    pub const PAT: Self = feature(0, 16);
    pub const MMX: Self = feature(0, 23);
    pub const FXSR: Self = feature(0, 24);
    pub const SSE: Self = feature(0, 25);
    pub const SSE2: Self = feature(0, 26);
    pub const HTT: Self = feature(0, 28);
    pub const SSE3: Self = feature(1, 0);
    pub const SSSE3: Self = feature(1, 9);
    pub const PCID: Self = feature(1, 17);
    pub const SSE4_1: Self = feature(1, 19);
    pub const X2APIC: Self = feature(1, 21);
    pub const TSC_DEADLINE: Self = feature(1, 24);
    pub const XSAVE: Self = feature(1, 26);
    pub const OSXSAVE: Self = feature(1, 27);
    pub const AVX: Self = feature(1, 28);
    pub const HYPERVISOR: Self = feature(1, 31);
    pub const SYSCALL: Self = feature(2, 11);
    pub const NX: Self = feature(2, 20);
    pub const FFXSR: Self = feature(2, 25);
    pub const PAGE1GB: Self = feature(2, 26);
    pub const RDTSCP: Self = feature(2, 27);
    pub const LM: Self = feature(2, 29);
    pub const AMD_3DNOW: Self = feature(2, 31);
    pub const CMP_LEGACY: Self = feature(3, 1);
    pub const SVM: Self = feature(3, 2);
    pub const LWP: Self = feature(3, 15);
    pub const DBEXT: Self = feature(3, 26);
    pub const XSAVEC: Self = feature(4, 1);
    pub const XSAVES: Self = feature(4, 3);
    pub const FSGSBASE: Self = feature(5, 0);
    pub const TSC_ADJUST: Self = feature(5, 1);
    pub const FDP_EXCP_ONLY: Self = feature(5, 6);
    pub const SMEP: Self = feature(5, 7);
    pub const INVPCID: Self = feature(5, 10);
    pub const NO_FPU_SEL: Self = feature(5, 13);
    pub const MPX: Self = feature(5, 14);
    pub const AVX512F: Self = feature(5, 16);
    pub const SMAP: Self = feature(5, 20);
    pub const UMIP: Self = feature(6, 2);
    pub const PKU: Self = feature(6, 3);
    pub const OSPKE: Self = feature(6, 4);
    pub const RDPID: Self = feature(6, 22);
    pub const ITSC: Self = feature(7, 8);
    pub const IBPB: Self = feature(8, 12);
    pub const NO_LMSL: Self = feature(8, 20);
    pub const LFENCE_DISPATCH: Self = feature(11, 2);
}

/// Features that have a name in the header: others are not passed on.
pub const KNOWN: Words = [
    0xbfeb_fbff,
    0xfffe_f3ff,
    0xee50_0800,
    0x2469_bfff,
    0x0000_000f,
    0xffbf_ffff,
    0x3a40_5fdf,
    0x0000_0780,
    0x779f_d205,
    0xfc91_ef1c,
    0x0000_1c30,
    0xf800_0164,
    0x0000_0001,
    0x0000_0037,
    0,
    0x0004_0000,
    0x1fbe_ffff,
    0x4000_0000,
    0x0000_0006,
];

/// Features of a PV guest unless it is told otherwise.
pub const PV_DEFAULT: Words = [
    0x1fc9_cbf5,
    0xf6d8_3203,
    0xea50_0800,
    0x0421_09e3,
    0x0000_0007,
    0xfdaf_0b29,
    0x0240_5f43,
    0,
    0x6400_1005,
    0x0000_441c,
    0x0000_1c30,
    0x7800_0064,
    0,
    0x0000_0020,
    0,
    0,
    0,
    0,
    0x0000_0006,
];

/// Features that any guest can be given and has not by default: HLE, MOVDIRI, MOVDIR64B, ITSC, AVX512_VP2INTERSECT,
/// TSXLDTRK.
const ON_DEMAND: [(usize, u32); 4] = [
    (5, 0x0000_0010),
    (6, 0x1800_0000),
    (7, 0x0000_0100),
    (9, 0x0001_0100),
];

/// The most that a PV guest can be given.
pub const PV_MAX: Words = with(PV_DEFAULT, &ON_DEMAND);

/// Features of an HVM guest unless it is told otherwise: those of a PV guest, and VME, PSE, MTRR, PGE, PSE36; PCID,
/// X2APIC, TSC_DEADLINE; PAGE1GB; CR8_LEGACY; XSAVES; TSC_ADJUST, SMEP, INVPCID, SMAP; UMIP, PKU; NO_LMSL.
pub const HVM_DEFAULT: Words = with(
    PV_DEFAULT,
    &[
        (0, 0x0002_300a),
        (1, 0x0122_0000),
        (2, 0x0400_0000),
        (3, 0x0000_0010),
        (4, 0x0000_0008),
        (5, 0x0010_0482),
        (6, 0x0000_000c),
        (8, 0x0010_0000),
    ],
);

/// The most that an HVM guest can be given.
pub const HVM_MAX: Words = with(HVM_DEFAULT, &ON_DEMAND);

/// Bits that AMD CPUs repeat from leaf 1 EDX in leaf 0x8000_0001 EDX (AMD APM vol. 3, appendix E.4).
pub const AMD_REPEATED: u32 = 0x0183_f3ff;

const fn with(mut words: Words, more: &[(usize, u32)]) -> Words {
    let mut i = 0;
    while i < more.len() {
        words[more[i].0] |= more[i].1;
        i += 1;
    }
    words
}

/// AVX-512F and what needs it.
pub const NEED_AVX512: Words = with(
    [0; WORDS],
    &[
        (5, 0xdc23_0000),
        (6, 0x0000_5842),
        (9, 0x0080_010c),
        (10, 0x0000_0020),
    ],
);

/// AVX and what needs it: FMA, F16C, XOP, FMA4, AVX2, VAES, VPCLMULQDQ, AVX-VNNI, AVX-512.
pub const NEED_AVX: Words = with(
    NEED_AVX512,
    &[
        (1, 0x3000_1000),
        (3, 0x0001_0800),
        (5, 0x0000_0020),
        (6, 0x0000_0600),
        (10, 0x0000_0010),
    ],
);

/// XSAVE and what needs it: its variants, AVX, LWP, MPX, PKU.
pub const NEED_XSAVE: Words = with(
    NEED_AVX,
    &[
        (1, 0x0400_0000),
        (3, 0x0000_8000),
        (4, !0),
        (5, 0x0000_4000),
        (6, 0x0000_0008),
    ],
);

/// Extensions of extensions, bases before what builds on them: without the feature, those bits of a word are of
/// no use (Intel SDM vol. 1, 11.4, 12.1.1 and 12.13; AMD APM vol. 3, appendix D.2).
const BUILT_ON: [(Feature, usize, u32); 12] = [
    (Feature::FPU, 0, 0x0080_0000),
    (Feature::MMX, 2, 0x8040_0000),
    (Feature::AMD_3DNOW, 2, 0x4000_0000),
    (Feature::TSC, 2, 0x0800_0000),
    (Feature::FXSR, 0, 0x0200_0000),
    (Feature::FXSR, 2, 0x0200_0000),
    (Feature::SSE, 0, 0x0400_0000),
    (Feature::SSE2, 1, 0x0200_0003),
    (Feature::SSE2, 5, 0x2000_0000),
    (Feature::SSE3, 1, 0x0000_0200),
    (Feature::SSSE3, 1, 0x0008_0000),
    (Feature::SSE4_1, 1, 0x0010_0000),
];

/// Takes features away whose base is missing.
pub fn drop_baseless(words: &mut Words) {
    for (base, word, mask) in BUILT_ON {
        if words[base.word] & base.mask == 0 {
            words[word] &= !mask;
        }
    }
    for (base, needing) in [
        (Feature::XSAVE, &NEED_XSAVE),
        (Feature::AVX, &NEED_AVX),
        (Feature::AVX512F, &NEED_AVX512),
    ] {
        if words[base.word] & base.mask == 0 {
            words
                .iter_mut()
                .zip(needing)
                .for_each(|(word, needs)| *word &= !needs);
        }
    }
}
