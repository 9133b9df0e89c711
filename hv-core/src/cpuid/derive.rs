//! How the policies follow from each other.

use super::features::{
    AMD_REPEATED, Feature, HVM_DEFAULT, HVM_MAX, KNOWN, NEED_AVX, NEED_AVX512, NEED_XSAVE,
    PV_DEFAULT, PV_MAX, WORDS, Words,
};
use super::policy::{BASIC, EXTENDED, EXTENDED_BASE, FEATURES, Leaf, Policy, STATES};
use super::{CpuidSource, HostSetup, HvmSetup, Lfence, TscAux, Vendor};

/// State components: x87 and SSE, which always go together here.
const X87_SSE: u64 = 0b11;
/// The upper halves of the AVX registers.
const AVX: u64 = 1 << 2;
/// The three parts of AVX-512.
const AVX512: u64 = 0b111 << 5;
/// PKRU.
const PROTECTION_KEYS: u64 = 1 << 9;
/// Widest guest-physical address, in bits: that of nested tables with four levels.
const NESTED_BITS: u32 = 48;
/// Size of the legacy area and the header of an XSAVE image (Intel SDM vol. 1, 13.4).
pub(super) const XSAVE_HEADER_END: u32 = 576;
/// Extended leaves with facts that are not feature bits and can be passed on.
const PASSED_EXTENDED: [usize; 9] = [0, 1, 2, 3, 4, 5, 6, 8, 0xa];

/// Reads the hardware.
pub(super) fn raw<S: CpuidSource>(cpu: &S) -> Policy {
    let mut policy = Policy::empty();
    let last = (cpu.cpuid(0, 0)[0] as usize).min(BASIC - 1);
    for (index, leaf) in policy.basic.iter_mut().enumerate().take(last + 1) {
        if !matches!(index, 4 | 7 | 0xb | 0xd) {
            *leaf = cpu.cpuid(index as u32, 0);
        }
    }
    let fill = |leaf: u32, list: &mut [Leaf]| {
        if leaf as usize <= last {
            for (slot, index) in list.iter_mut().zip(0..) {
                *slot = cpu.cpuid(leaf, index);
            }
        }
    };
    fill(4, &mut policy.caches);
    fill(7, &mut policy.features[..1]);
    // Beyond the last sub-leaf an Intel CPU would repeat another leaf.
    let count = (policy.features[0][0] as usize + 1).min(FEATURES);
    fill(7, &mut policy.features[..count]);
    fill(0xb, &mut policy.topology);
    fill(0xd, &mut policy.states);
    policy.extended[0] = cpu.cpuid(EXTENDED_BASE, 0);
    for index in 1..policy.extended_limit() {
        policy.extended[index] = cpu.cpuid(EXTENDED_BASE + index as u32, 0);
    }
    // The boot CPU's APIC id says nothing about others.
    policy.basic[1][1] &= 0x00ff_ffff;
    policy
}

/// What we can make use of or pass on.
pub(super) fn host(raw: &Policy, setup: &HostSetup) -> Policy {
    let mut policy = raw.clone();
    let vendor = raw.vendor();
    policy.basic[0][0] = policy.basic[0][0].min(BASIC as u32 - 1);
    for leaf in [5, 6, 8, 9, 0xa] {
        policy.basic[leaf] = [0; 4];
    }
    policy.topology = Default::default();
    for (index, leaf) in policy.extended.iter_mut().enumerate() {
        if !PASSED_EXTENDED.contains(&index) && !matches!(index, 7 | 0x21) {
            *leaf = [0; 4];
        }
    }
    let last = (EXTENDED as u32 - 1) | EXTENDED_BASE;
    if vendor.is_amd_like() {
        // Leaf 0x8000_0021 may have to tell more than the CPU's own.
        policy.extended[0][0] = last;
    } else {
        policy.extended[0][0] = policy.extended[0][0].min(EXTENDED_BASE | 8);
    }
    put_features(&mut policy, host_features(raw, setup));
    policy.features[0][0] = raw.features[0][0].min(FEATURES as u32 - 1);
    policy.states[0][0] &= setup.xcr0 as u32;
    policy.states[0][3] &= (setup.xcr0 >> 32) as u32;
    // Sizes depend on what is on at the moment.
    policy.states[0][1] = 0;
    policy.states[1][1] = 0;
    policy
}

fn host_features(raw: &Policy, setup: &HostSetup) -> Words {
    let mut words = masked(raw.featureset(), &KNOWN);
    clear(&mut words, Feature::OSXSAVE);
    clear(&mut words, Feature::OSPKE);
    for (components, needing) in [
        (X87_SSE, &NEED_XSAVE),
        (AVX, &NEED_AVX),
        (AVX512, &NEED_AVX512),
    ] {
        if setup.xcr0 & components != components {
            let unneeded = needing.map(|word| !word);
            words = masked(words, &unneeded);
        }
    }
    if raw.vendor().is_amd_like() {
        // AMD CPUs have no SYSENTER in long mode.
        clear(&mut words, Feature::SEP);
        if setup.lfence == Lfence::Dispatching || always_dispatches(raw.basic[1][0]) {
            set(&mut words, Feature::LFENCE_DISPATCH);
        }
    }
    words
}

/// AMD's families 0xf and 0x11 have no choice about LFENCE (AMD, "Software techniques for managing
/// speculation").
fn always_dispatches(signature: u32) -> bool {
    let family = (signature >> 8 & 0xf) + (signature >> 20 & 0xff);
    matches!(family, 0xf | 0x11)
}

/// The most for a PV guest.
pub(super) fn pv_max(host: &Policy, setup: &HostSetup) -> Policy {
    let mut policy = pv(host, setup, &PV_MAX);
    policy.basic[1][2] |= Feature::X2APIC.mask;
    policy.features[0][0] = FEATURES as u32 - 1;
    policy
}

/// What a PV guest gets.
pub(super) fn pv_default(host: &Policy, setup: &HostSetup) -> Policy {
    without_empty_end(pv(host, setup, &PV_DEFAULT))
}

/// The most for an HVM guest.
pub(super) fn hvm_max(raw: &Policy, host: &Policy, setup: &HvmSetup) -> Policy {
    let mut policy = hvm(raw, host, setup, &HVM_MAX);
    policy.features[0][0] = FEATURES as u32 - 1;
    policy
}

/// What an HVM guest gets.
pub(super) fn hvm_default(raw: &Policy, host: &Policy, setup: &HvmSetup) -> Policy {
    without_empty_end(hvm(raw, host, setup, &HVM_DEFAULT))
}

/// Lowers the numbers of the last leaves to those of the last that tell something.
fn without_empty_end(mut policy: Policy) -> Policy {
    let used = |list: &[Leaf]| list.iter().rposition(|l| *l != [0; 4]).unwrap_or(0) as u32;
    policy.features[0][0] = used(&policy.features);
    let mut basic = policy.basic;
    basic[4] = policy.caches[0];
    basic[7] = policy.features[0];
    basic[0xd] = policy.states[0];
    policy.basic[0][0] = policy.basic[0][0].min(used(&basic));
    if policy.extended_limit() != 0 {
        policy.extended[0][0] = EXTENDED_BASE | used(&policy.extended[..policy.extended_limit()]);
    }
    policy
}

/// The control domain stays on this machine: it may know that the TSC never stops.
pub(super) fn control(pv_default: &Policy, host: &Policy) -> Policy {
    let mut policy = pv_default.clone();
    policy.extended[7][3] |= host.extended[7][3] & Feature::ITSC.mask;
    policy
}

fn pv(host: &Policy, setup: &HostSetup, mask: &Words) -> Policy {
    let mut words = masked(host.featureset(), mask);
    if setup.tsc_aux == TscAux::Missing {
        clear(&mut words, Feature::RDTSCP);
        clear(&mut words, Feature::RDPID);
    }
    guest(host, words)
}

fn hvm(raw: &Policy, host: &Policy, setup: &HvmSetup, mask: &Words) -> Policy {
    let mut words = masked(host.featureset(), mask);
    // Interrupt controllers are emulated, whatever the machine has.
    set(&mut words, Feature::APIC);
    set(&mut words, Feature::X2APIC);
    if host.vendor().is_amd_like() {
        // Outside long mode, where we are not but the guest may be, AMD CPUs have SYSENTER.
        if raw.has(Feature::SEP) {
            set(&mut words, Feature::SEP);
        }
        // EFER.LMSLE is refused.
        set(&mut words, Feature::NO_LMSL);
    }
    if host.xcr0_mask() & PROTECTION_KEYS == 0 {
        clear(&mut words, Feature::PKU);
    }
    for feature in &setup.unkept {
        clear(&mut words, *feature);
    }
    let mut policy = guest(host, words);
    let [address_bits, ..] = &mut policy.extended[8];
    *address_bits = *address_bits & !0xff | (*address_bits & 0xff).min(NESTED_BITS);
    policy
}

/// What all guests have in common, with these features.
fn guest(host: &Policy, mut words: Words) -> Policy {
    let mut policy = host.clone();
    set(&mut words, Feature::HYPERVISOR);
    // Quirks of the FPU are there for everybody.
    words[5] |= host.featureset()[5] & (Feature::FDP_EXCP_ONLY.mask | Feature::NO_FPU_SEL.mask);
    put_features(&mut policy, words);
    if host.vendor() != Vendor::Intel {
        policy.basic[2] = [0; 4];
        policy.caches = Default::default();
    }
    // Only five-level paging, which no guest has, makes linear addresses wider; no second address width.
    let address_bits = policy.extended[8][0] & 0xff;
    policy.extended[8][0] = address_bits | 48 << 8;
    policy.extended[8][3] = 0;
    policy.extended[0xa] = [0; 4];
    restrict_states(&mut policy);
    policy
}

/// Leaves the state components that go with the features.
pub(super) fn restrict_states(policy: &mut Policy) {
    let mut mask = 0;
    if policy.has(Feature::XSAVE) {
        mask |= X87_SSE;
        for (feature, components) in [
            (Feature::AVX, AVX),
            (Feature::AVX512F, AVX512),
            (Feature::PKU, PROTECTION_KEYS),
        ] {
            mask |= if policy.has(feature) { components } else { 0 };
        }
    }
    mask &= policy.xcr0_mask();
    let old = core::mem::replace(&mut policy.states, [[0; 4]; STATES]);
    policy.states[0] = [mask as u32, 0, 0, (mask >> 32) as u32];
    policy.states[1][0] = if mask == 0 { 0 } else { old[1][0] };
    for component in (2..STATES).filter(|i| mask & 1 << i != 0) {
        policy.states[component] = [
            old[component][0],
            old[component][1],
            old[component][2] & !1,
            0,
        ];
    }
    policy.states[0][2] = if mask == 0 {
        0
    } else {
        image_size(policy, mask)
    };
}

/// Size of an XSAVE image in the standard format with these components, in bytes.
pub(super) fn image_size(policy: &Policy, components: u64) -> u32 {
    let ends = policy
        .states
        .iter()
        .enumerate()
        .skip(2)
        .filter(|(i, _)| components & 1 << i != 0);
    ends.map(|(_, [size, offset, ..])| size.saturating_add(*offset))
        .fold(XSAVE_HEADER_END, u32::max)
}

/// Size of an XSAVE image in the compacted format, in bytes.
pub(super) fn compact_size(policy: &Policy, components: u64) -> u32 {
    policy
        .states
        .iter()
        .enumerate()
        .skip(2)
        .filter(|(i, _)| components & 1 << i != 0)
        .fold(XSAVE_HEADER_END, |end, (_, [size, _, flags, _])| {
            let start = if flags & 2 != 0 {
                end.next_multiple_of(64)
            } else {
                end
            };
            start.saturating_add(*size)
        })
}

pub(super) fn put_features(policy: &mut Policy, mut words: Words) {
    if policy.vendor().is_amd_like() {
        words[2] |= words[0] & AMD_REPEATED;
    }
    policy.set_featureset(&words);
}

pub(super) fn masked(mut words: Words, mask: &Words) -> Words {
    for index in 0..WORDS {
        words[index] &= mask[index];
    }
    words
}

pub(super) fn set(words: &mut Words, feature: Feature) {
    words[feature.word] |= feature.mask;
}

pub(super) fn clear(words: &mut Words, feature: Feature) {
    words[feature.word] &= !feature.mask;
}
