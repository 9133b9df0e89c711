//! A table of CPUID leaves, and its views for the toolstack.

use alloc::vec::Vec;

use arrayvec::ArrayVec;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry, XEN_CPUID_NO_SUBLEAF};
use xen_abi::cpuid::XEN_CPUID_FIRST_LEAF;
use xen_abi::errno::Errno;

use super::derive;
use super::features::{AMD_REPEATED, Feature, WORDS, Words};

/// eax, ebx, ecx, edx.
pub type Leaf = [u32; 4];

/// Basic leaves in a policy: 0 to 0xd.
pub const BASIC: usize = 0xe;
/// Sub-leaves of leaf 4 (caches).
pub const CACHES: usize = 6;
/// Sub-leaves of leaf 7 (features).
pub const FEATURES: usize = 3;
/// Sub-leaves of leaf 0xb (topology).
pub const TOPOLOGY: usize = 2;
/// Sub-leaves of leaf 0xd (extended state); components above are not known.
pub const STATES: usize = 20;
/// Extended leaves: 0x8000_0000 to 0x8000_0021.
pub const EXTENDED: usize = 0x22;
/// First extended leaf.
pub const EXTENDED_BASE: u32 = 0x8000_0000;
/// First leaves of the two ranges of hypervisors.
pub(super) const HYPERVISOR_RANGES: [u32; 2] = [XEN_CPUID_FIRST_LEAF, XEN_CPUID_FIRST_LEAF + 0x100];
/// Sub-leaves of leaf 0xd that a list can have: the last is of component 62.
pub(super) const LISTED_STATES: usize = 63;
/// Most leaves that `Policy::leaves` can give, and that a toolstack can: the basic ones with all sub-leaves,
/// two of hypervisors, the extended ones. 120, as tools expect of Xen 4.17.
pub const MAX_LEAVES: usize =
    BASIC - 4 + CACHES + FEATURES + TOPOLOGY + LISTED_STATES + 2 + EXTENDED;
/// What the platform can do (Intel SDM vol. 4); of no bit of it do guests know.
pub(super) const MSR_PLATFORM_INFO: u32 = 0xce;
/// What speculation needs (Intel SDM vol. 4).
pub(super) const MSR_ARCH_CAPABILITIES: u32 = 0x10a;
/// Registers that belong to a policy.
pub const MSRS: usize = 2;

const _: () = assert!(MAX_LEAVES == 120);

/// Maker of the CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named by maker")]
pub enum Vendor {
    Intel,
    Amd,
    Hygon,
    Other,
}

impl Vendor {
    /// Whether AMD's manuals describe the CPU.
    #[must_use]
    pub const fn is_amd_like(self) -> bool {
        matches!(self, Self::Amd | Self::Hygon)
    }
}

/// CPUID of a CPU or of a kind of guest. The entries of leaves with sub-leaves are unused in `basic`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "one array for each family of leaves, explained by the constants above"
)]
pub struct Policy {
    pub(super) basic: [Leaf; BASIC],
    pub(super) caches: [Leaf; CACHES],
    pub(super) features: [Leaf; FEATURES],
    pub(super) topology: [Leaf; TOPOLOGY],
    pub(super) states: [Leaf; STATES],
    pub(super) extended: [Leaf; EXTENDED],
    /// MSR_ARCH_CAPABILITIES.
    pub(super) arch_caps: [u32; 2],
    /// What a toolstack has put into eax of the first leaf of each range of hypervisors: the last leaf, 0
    /// for the usual one.
    pub(super) hypervisor: [u32; 2],
}

impl Policy {
    /// All zero.
    pub(super) const fn empty() -> Self {
        Self {
            basic: [[0; 4]; BASIC],
            caches: [[0; 4]; CACHES],
            features: [[0; 4]; FEATURES],
            topology: [[0; 4]; TOPOLOGY],
            states: [[0; 4]; STATES],
            extended: [[0; 4]; EXTENDED],
            arch_caps: [0; 2],
            hypervisor: [0; 2],
        }
    }

    /// The maker, from leaf 0.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        let [_, b, c, d] = self.basic[0];
        let mut name = [0; 12];
        for (part, word) in name.chunks_exact_mut(4).zip([b, d, c]) {
            part.copy_from_slice(&word.to_le_bytes());
        }
        match &name {
            b"GenuineIntel" => Vendor::Intel,
            b"AuthenticAMD" => Vendor::Amd,
            b"HygonGenuine" => Vendor::Hygon,
            _ => Vendor::Other,
        }
    }

    /// Whether a feature is there.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.word(feature.word) & feature.mask != 0
    }

    /// The feature set in the order of cpufeatureset.h. On AMD the repeated bits of word 2 are left out.
    #[must_use]
    pub fn featureset(&self) -> Words {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            *word = self.word(index);
        }
        if self.vendor().is_amd_like() {
            words[2] &= !AMD_REPEATED;
        }
        words
    }

    /// State components that may be on in XCR0.
    #[must_use]
    pub fn xcr0_mask(&self) -> u64 {
        u64::from(self.states[0][3]) << 32 | u64::from(self.states[0][0])
    }

    /// Bytes of an XSAVE image in the standard format with these components.
    #[must_use]
    pub fn image_size(&self, components: u64) -> u32 {
        derive::image_size(self, components)
    }

    /// EBX of leaf 0xd while XCR0 has a value: bytes that XSAVE needs (sub-leaf 0), that XSAVEC or XSAVES need (1).
    #[must_use]
    pub fn state_size(&self, subleaf: u32, xcr0: u64) -> u32 {
        match subleaf {
            0 if self.xcr0_mask() != 0 => self.image_size(xcr0),
            1 if self.has(Feature::XSAVEC) || self.has(Feature::XSAVES) => {
                derive::compact_size(self, xcr0)
            }
            _ => 0,
        }
    }

    /// Width of physical addresses in bits.
    #[must_use]
    pub fn physical_address_bits(&self) -> u32 {
        self.extended[8][0] & 0xff
    }

    /// The leaves as `XEN_SYSCTL_get_cpu_policy` lists them.
    ///
    /// # Errors
    /// `ENOMEM`.
    pub fn leaves(&self) -> Result<Vec<CpuidLeaf>, Errno> {
        let mut list = Vec::new();
        list.try_reserve_exact(MAX_LEAVES)
            .map_err(|_| Errno::ENOMEM)?;
        let mut put = |leaf, subleaf, [a, b, c, d]: Leaf| {
            list.push(CpuidLeaf {
                leaf,
                subleaf,
                a,
                b,
                c,
                d,
            })
        };
        let last = (self.basic[0][0] as usize).min(BASIC - 1);
        for (leaf, values) in (0..).zip(&self.basic[..=last]) {
            match self.subleaves(leaf) {
                Some(parts) => parts
                    .iter()
                    .zip(0..)
                    .for_each(|(&part, index)| put(leaf, index, part)),
                None => put(leaf, XEN_CPUID_NO_SUBLEAF, *values),
            }
        }
        // What is said there depends on the domain: only the places are listed, and where it ends.
        for (leaf, limit) in HYPERVISOR_RANGES.into_iter().zip(self.hypervisor) {
            put(leaf, XEN_CPUID_NO_SUBLEAF, [limit, 0, 0, 0]);
        }
        let last = self.extended_limit();
        for (leaf, values) in (EXTENDED_BASE..).zip(self.extended.iter().take(last)) {
            put(leaf, XEN_CPUID_NO_SUBLEAF, *values);
        }
        Ok(list)
    }

    /// The MSRs that belong to the policy: MSR_PLATFORM_INFO and MSR_ARCH_CAPABILITIES.
    #[must_use]
    pub fn msrs(&self) -> [MsrEntry; MSRS] {
        let caps = u64::from(self.arch_caps[1]) << 32 | u64::from(self.arch_caps[0]);
        [
            MsrEntry {
                idx: MSR_PLATFORM_INFO,
                flags: 0,
                val: 0,
            },
            MsrEntry {
                idx: MSR_ARCH_CAPABILITIES,
                flags: 0,
                val: caps,
            },
        ]
    }

    /// Number of extended leaves, 0 when there are none.
    pub(super) fn extended_limit(&self) -> usize {
        let last = self.extended[0][0];
        if last < EXTENDED_BASE {
            0
        } else {
            ((last - EXTENDED_BASE) as usize + 1).min(EXTENDED)
        }
    }

    /// The leaf as it stands in the table; zero where there is none.
    #[must_use]
    pub fn leaf(&self, leaf: u32, subleaf: u32) -> Leaf {
        let sub = subleaf as usize;
        if leaf >= EXTENDED_BASE {
            let index = (leaf - EXTENDED_BASE) as usize;
            return self.extended[..self.extended_limit()]
                .get(index)
                .copied()
                .unwrap_or_default();
        }
        if leaf > self.basic[0][0] {
            return [0; 4];
        }
        let found = match leaf {
            4 => self.caches.get(sub),
            7 => self
                .features
                .get(sub)
                .filter(|_| subleaf <= self.features[0][0]),
            0xb => self.topology.get(sub),
            0xd => self.states.get(sub),
            _ => self.basic.get(leaf as usize),
        };
        found.copied().unwrap_or_default()
    }

    /// Sub-leaves to list for a leaf that has them.
    fn subleaves(&self, leaf: u32) -> Option<ArrayVec<Leaf, 64>> {
        match leaf {
            4 => Some(until_type(&self.caches, |l| l[0] & 0x1f)),
            7 => Some(
                self.features
                    .iter()
                    .copied()
                    .take(self.features[0][0] as usize + 1)
                    .collect(),
            ),
            0xb => Some(until_type(&self.topology, |l| l[2] >> 8 & 0xff)),
            0xd => {
                let all = self.xcr0_mask()
                    | u64::from(self.states[1][3]) << 32
                    | u64::from(self.states[1][2]);
                let count = (64 - all.leading_zeros() as usize).clamp(2, LISTED_STATES);
                Some(
                    (0..count)
                        .map(|i| self.states.get(i).copied().unwrap_or_default())
                        .collect(),
                )
            }
            _ => None,
        }
    }

    fn word(&self, index: usize) -> u32 {
        // The places are a function of the index alone: see `word_mut`.
        match index {
            0 => self.basic[1][3],
            1 => self.basic[1][2],
            2 => self.extended[1][3],
            3 => self.extended[1][2],
            4 => self.states[1][0],
            5 => self.features[0][1],
            6 => self.features[0][2],
            7 => self.extended[7][3],
            8 => self.extended[8][1],
            9 => self.features[0][3],
            10 => self.features[1][0],
            11 => self.extended[0x21][0],
            12 => self.features[1][1],
            13 => self.features[2][3],
            14 => self.features[1][2],
            15 => self.features[1][3],
            16 => self.arch_caps[0],
            17 => self.arch_caps[1],
            18 => self.extended[0x21][2],
            _ => 0,
        }
    }

    /// Puts feature words into their leaves.
    pub(super) fn set_featureset(&mut self, words: &Words) {
        let [
            d1,
            c1,
            ed1,
            ec1,
            da1,
            b7,
            c7,
            ed7,
            eb8,
            d7,
            a71,
            ea21,
            b71,
            d72,
            c71,
            d71,
            caps_low,
            caps_high,
            ec21,
        ] = *words;
        (self.basic[1][3], self.basic[1][2]) = (d1, c1);
        (self.extended[1][3], self.extended[1][2]) = (ed1, ec1);
        self.states[1][0] = da1;
        (
            self.features[0][1],
            self.features[0][2],
            self.features[0][3],
        ) = (b7, c7, d7);
        self.extended[7] = [0, 0, 0, ed7];
        self.extended[8][1] = eb8;
        self.features[1] = [a71, b71, c71, d71];
        self.features[2] = [0, 0, 0, d72];
        self.extended[0x21] = [ea21, 0, ec21, 0];
        self.arch_caps = [caps_low, caps_high];
    }
}

/// The entries up to the first whose type is 0, that one included.
fn until_type(all: &[Leaf], kind: impl Fn(&Leaf) -> u32) -> ArrayVec<Leaf, 64> {
    let count = all
        .iter()
        .position(|l| kind(l) == 0)
        .map_or(all.len(), |i| i + 1);
    all[..count].iter().copied().collect()
}
