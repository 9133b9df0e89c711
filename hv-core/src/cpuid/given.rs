//! A domain's policy: what a toolstack gives it (`XEN_DOMCTL_set_cpu_policy`, domctl.h), within what a guest of its
//! kind can have.

use alloc::vec::Vec;

use spin::Once;
use xen_abi::arch_x86::{CpuidLeaf, MsrEntry, XEN_CPUID_NO_SUBLEAF};
use xen_abi::errno::Errno;

use super::derive::{masked, put_features, restrict_states, set};
use super::features::{Feature, Words, drop_baseless};
use super::policy::{
    BASIC, EXTENDED, EXTENDED_BASE, HYPERVISOR_RANGES, LISTED_STATES, Leaf, MAX_LEAVES,
    MSR_ARCH_CAPABILITIES, MSR_PLATFORM_INFO, MSRS, Policy,
};
use super::{Policies, Vendor, Which};
use crate::base::lock::{Mutex, rank};
use crate::domain::DomainKind;

/// No place, in [`Refused`].
pub const NOWHERE: u32 = u32::MAX;
/// Type, stepping, model and family of a CPU's signature, without the type of processor.
const SIGNATURE: u32 = 0x0fff_0fff;

/// Why a policy is refused, and where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// For the caller.
    pub errno: Errno,
    /// In words.
    pub why: &'static str,
    /// The leaf at fault, or [`NOWHERE`].
    pub leaf: u32,
    /// Its sub-leaf, or [`NOWHERE`].
    pub subleaf: u32,
    /// The register at fault, or [`NOWHERE`].
    pub msr: u32,
}

impl Refused {
    /// About the whole.
    #[must_use]
    pub const fn whole(errno: Errno, why: &'static str) -> Self {
        Self {
            errno,
            why,
            leaf: NOWHERE,
            subleaf: NOWHERE,
            msr: NOWHERE,
        }
    }

    const fn leaf(errno: Errno, why: &'static str, leaf: u32, subleaf: u32) -> Self {
        Self {
            leaf,
            subleaf,
            ..Self::whole(errno, why)
        }
    }

    const fn msr(errno: Errno, why: &'static str, msr: u32) -> Self {
        Self {
            msr,
            ..Self::whole(errno, why)
        }
    }
}

/// Whether lists of these lengths can be a policy.
///
/// # Errors
/// `E2BIG`.
pub fn check_lengths(leaves: u32, msrs: u32) -> Result<(), Refused> {
    if leaves as usize > MAX_LEAVES {
        return Err(Refused::whole(Errno::E2BIG, "more leaves than there are"));
    }
    if msrs as usize > MSRS {
        return Err(Refused::whole(
            Errno::E2BIG,
            "more registers than there are",
        ));
    }
    Ok(())
}

impl Policy {
    /// Puts leaves and registers over those that are there. Of leaves that come twice the last counts.
    ///
    /// # Errors
    /// `ERANGE` for a place that does not exist, `EINVAL` for flags.
    pub fn overlay(&mut self, leaves: &[CpuidLeaf], msrs: &[MsrEntry]) -> Result<(), Refused> {
        for given in leaves {
            let place = self.place(given.leaf, given.subleaf).ok_or(Refused::leaf(
                Errno::ERANGE,
                "no such leaf",
                given.leaf,
                given.subleaf,
            ))?;
            let values = [given.a, given.b, given.c, given.d];
            match place {
                Place::Leaf(slot) => *slot = values,
                Place::Limit(slot) => *slot = given.a,
                Place::Derived => {}
            }
        }
        for given in msrs {
            if given.flags != 0 {
                return Err(Refused::msr(
                    Errno::EINVAL,
                    "a register with flags",
                    given.idx,
                ));
            }
            match given.idx {
                MSR_PLATFORM_INFO if given.val == 0 => {}
                MSR_PLATFORM_INFO => {
                    let why = "MSR_PLATFORM_INFO has nothing for guests";
                    return Err(Refused::msr(Errno::EINVAL, why, given.idx));
                }
                MSR_ARCH_CAPABILITIES => {
                    self.arch_caps = [given.val as u32, (given.val >> 32) as u32];
                }
                _ => return Err(Refused::msr(Errno::ERANGE, "no such register", given.idx)),
            }
        }
        Ok(())
    }

    /// Where a leaf of a list belongs.
    fn place(&mut self, leaf: u32, subleaf: u32) -> Option<Place<'_>> {
        let sub = subleaf as usize;
        let slot = match leaf {
            4 => self.caches.get_mut(sub),
            7 => self.features.get_mut(sub),
            0xb => self.topology.get_mut(sub),
            // Components that nobody has here: nothing of them is kept.
            0xd if (self.states.len()..LISTED_STATES).contains(&sub) => {
                return Some(Place::Derived);
            }
            0xd => self.states.get_mut(sub),
            _ if subleaf != XEN_CPUID_NO_SUBLEAF => None,
            _ if leaf >= EXTENDED_BASE => self.extended.get_mut((leaf - EXTENDED_BASE) as usize),
            _ => match HYPERVISOR_RANGES.iter().position(|first| *first == leaf) {
                Some(range) => return Some(Place::Limit(&mut self.hypervisor[range])),
                None => self.basic.get_mut(leaf as usize),
            },
        };
        slot.map(Place::Leaf)
    }

    /// The policy that comes of one that a toolstack has put together for a kind of guest, and the features that were asked for and
    /// cannot be had. Those are left out, as are leaves that tell of the machine: toolstacks count on it.
    ///
    /// # Errors
    /// `EINVAL` for another maker's CPU, more leaves, or capabilities beyond those that there are.
    pub fn settled(
        mut self,
        policies: &Policies,
        kind: DomainKind,
    ) -> Result<(Self, Words), Refused> {
        let max = policies.get(Which::max_of(kind));
        let host = policies.get(Which::Host);
        self.check(max)?;
        self.drop_beyond_limits();
        let wanted = self.featureset();
        let words = self.allowed_features(&wanted, max, host);
        let mut missing = wanted;
        missing
            .iter_mut()
            .zip(&words)
            .for_each(|(word, has)| *word &= !has);
        self.hide_machine(max);
        self.states = max.states;
        put_features(&mut self, words);
        restrict_states(&mut self);
        Ok((self, missing))
    }

    fn check(&self, max: &Self) -> Result<(), Refused> {
        let refused = |why, leaf, subleaf| Err(Refused::leaf(Errno::EINVAL, why, leaf, subleaf));
        if self.vendor() != max.vendor() {
            return refused("the CPU of another maker", 0, NOWHERE);
        }
        if self.basic[0][0] > max.basic[0][0] {
            return refused("more basic leaves than there are", 0, NOWHERE);
        }
        if self.features[0][0] > max.features[0][0] {
            return refused("more feature leaves than there are", 7, 0);
        }
        if self.extended[0][0] > max.extended[0][0] {
            let why = "more extended leaves than there are";
            return refused(why, EXTENDED_BASE, NOWHERE);
        }
        let beyond = self.arch_caps.iter().zip(&max.arch_caps);
        if beyond.into_iter().any(|(wants, has)| wants & !has != 0) {
            let why = "capabilities that there are not";
            return Err(Refused::msr(Errno::EINVAL, why, MSR_ARCH_CAPABILITIES));
        }
        Ok(())
    }

    /// Clears what lies behind the last leaves.
    fn drop_beyond_limits(&mut self) {
        let last = (self.basic[0][0] as usize).min(BASIC - 1);
        self.basic[last + 1..].fill([0; 4]);
        for (leaf, list) in [
            (4, &mut self.caches[..]),
            (7, &mut self.features[..]),
            (0xb, &mut self.topology[..]),
            (0xd, &mut self.states[..]),
        ] {
            if leaf > last {
                list.fill([0; 4]);
            }
        }
        let features = self.features[0][0] as usize;
        self.features
            .iter_mut()
            .skip(features.saturating_add(1))
            .for_each(|leaf| *leaf = [0; 4]);
        let extended = self.extended_limit();
        self.extended[extended.max(1)..].fill([0; 4]);
    }

    /// What there is of the features wanted.
    fn allowed_features(&self, wanted: &Words, max: &Self, host: &Self) -> Words {
        let mut allowed = max.featureset();
        // How to read the leaves about topology is the toolstack's business.
        for feature in [Feature::HTT, Feature::X2APIC, Feature::CMP_LEGACY] {
            set(&mut allowed, feature);
        }
        let mut words = masked(*wanted, &allowed);
        if self.basic[0][0] < 0xd {
            words[Feature::XSAVE.word] &= !Feature::XSAVE.mask;
        }
        drop_baseless(&mut words);
        // Quirks of the FPU are there for everybody.
        let quirks = Feature::FDP_EXCP_ONLY.mask | Feature::NO_FPU_SEL.mask;
        words[5] = words[5] & !quirks | host.featureset()[5] & quirks;
        words
    }

    /// Takes out what is not for guests, and puts in what is not for the toolstack to choose.
    fn hide_machine(&mut self, max: &Self) {
        self.basic[1][0] &= SIGNATURE;
        // The lines that CLFLUSH flushes have the machine's size; APIC ids are told elsewhere.
        self.basic[1][1] = self.basic[1][1] & 0x00ff_00ff | max.basic[1][1] & 0xff00;
        for leaf in [3, 5, 6, 8, 9, 0xa, 0xc] {
            self.basic[leaf] = [0; 4];
        }
        self.topology = Default::default();
        self.hide_caches();
        let wanted_bits = self.extended[8][0] & 0xff;
        let linear_bits = if self.has(Feature::LM) { 48 } else { 32 };
        let lowest = max.physical_address_bits().min(36);
        let bits = wanted_bits.clamp(lowest, max.physical_address_bits());
        self.hide_extended(max);
        if self.extended_limit() > 8 {
            self.extended[8][0] = bits | linear_bits << 8;
        }
    }

    fn hide_caches(&mut self) {
        if self.vendor() != Vendor::Intel {
            self.basic[2] = [0; 4];
            self.caches = Default::default();
            return;
        }
        // One question tells all.
        self.basic[2][0] = self.basic[2][0] & !0xff | 1;
        let known = self
            .caches
            .iter()
            .position(|leaf| !matches!(leaf[0] & 0x1f, 1..=3))
            .unwrap_or(self.caches.len());
        for leaf in &mut self.caches[..known] {
            leaf[0] &= 0xffff_c3ff;
            leaf[3] &= 0b111;
        }
        self.caches[known..].fill([0; 4]);
    }

    fn hide_extended(&mut self, max: &Self) {
        let limit = self.extended_limit();
        let signature = self.basic[1][0];
        let [_, b, c, d] = self.basic[0];
        for (index, leaf) in self.extended[..limit].iter_mut().enumerate() {
            let [last, brand, ..] = *leaf;
            match (index, max.vendor().is_amd_like()) {
                (0, true) => *leaf = [last, b, c, d],
                (0, false) => *leaf = [last, 0, 0, 0],
                (1, true) => *leaf = [signature, brand & 0xff00_ffff, 0, 0],
                (6, false) => *leaf = [0, 0, leaf[2], 0],
                (2..=4, _) | (5 | 6, true) => {}
                (8, true) => *leaf = [0, 0, leaf[2] & 0x0003_f0ff, 0],
                // Features are put in afterwards; the rest is unknown to guests.
                _ => *leaf = [0; 4],
            }
        }
    }
}

/// Where a leaf of a list goes.
enum Place<'a> {
    Leaf(&'a mut Leaf),
    /// Only eax counts.
    Limit(&'a mut u32),
    /// Nowhere: the hypervisor makes its own.
    Derived,
}

const _: () = assert!(EXTENDED > 8, "the leaves named above exist");

/// What a domain is given before it first runs.
enum Draft {
    /// At most one policy.
    Open(Vec<Policy>),
    Closed,
}

/// The policy of one domain: that of its kind, or another one that a toolstack gives before the domain runs.
pub struct DomainPolicy {
    draft: Mutex<Draft>,
    fixed: Once<Vec<Policy>>,
}

impl Default for DomainPolicy {
    fn default() -> Self {
        Self::new()
    }
}

impl DomainPolicy {
    /// That of its kind.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            draft: Mutex::new(rank::DOMAIN_POLICY, Draft::Open(Vec::new())),
            fixed: Once::new(),
        }
    }

    /// The policy from now on: it no longer changes. `of_kind` is what a domain has that was given none.
    #[inline]
    #[must_use]
    pub fn fix<'a>(&'a self, of_kind: &'a Policy) -> &'a Policy {
        let fixed = self.fixed.call_once(|| {
            match core::mem::replace(&mut *self.draft.lock(), Draft::Closed) {
                Draft::Open(given) => given,
                Draft::Closed => Vec::new(),
            }
        });
        fixed.first().unwrap_or(of_kind)
    }

    /// Whether it no longer changes: the domain runs, or has run.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(*self.draft.lock(), Draft::Closed)
    }

    /// A copy of the policy as it is now.
    #[must_use]
    pub fn now(&self, of_kind: &Policy) -> Policy {
        if let Draft::Open(given) = &*self.draft.lock() {
            return given.first().unwrap_or(of_kind).clone();
        }
        self.fix(of_kind).clone()
    }

    /// Gives a policy.
    ///
    /// # Errors
    /// `EEXIST` when it no longer changes, `ENOMEM`.
    pub fn give(&self, policy: Policy) -> Result<(), Errno> {
        let mut list = Vec::new();
        list.try_reserve_exact(1).map_err(|_| Errno::ENOMEM)?;
        list.push(policy);
        match &mut *self.draft.lock() {
            Draft::Open(given) => *given = list,
            Draft::Closed => return Err(Errno::EEXIST),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
