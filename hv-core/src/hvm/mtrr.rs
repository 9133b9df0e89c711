//! Memory types as a guest in a container sets them (AMD APM vol. 2, 7.7 and 7.8; Intel SDM vol. 3, 12.11 and 12.12).
//!
//! They are kept and told, and change nothing: nested tables say how memory is cached.

use crate::cpuid::Policy;
use crate::cpuid::msr::index;

/// Pairs of variable-range registers.
pub const VARIABLE: usize = 8;
/// Fixed-range registers.
pub const FIXED: usize = 11;
/// MTRR capabilities: the pairs, the fixed ranges (bit 8), write-combining (bit 10).
pub const CAPABILITIES: u64 = VARIABLE as u64 | 1 << 8 | 1 << 10;
/// PAT at reset: WB, WT, UC-, UC, twice (AMD APM vol. 2, 7.8.1).
pub const RESET_PAT: u64 = 0x0007_0406_0007_0406;
/// Default type: the type, fixed ranges on (bit 10), all on (bit 11).
const DEFAULT_BITS: u64 = 0xff | 1 << 10 | 1 << 11;
/// Of a base: the type; of a mask: it is in use.
const TYPE: u64 = 0xff;
const VALID: u64 = 1 << 11;

/// The memory-type range registers of a vCPU, apart from the capabilities.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mtrrs {
    /// Bases and masks by turns.
    variable: [u64; 2 * VARIABLE],
    /// 64 KiB, 16 KiB twice, 4 KiB eight times.
    fixed: [u64; FIXED],
    default: u64,
}

/// Where a register stands.
enum Place {
    Variable(usize),
    Fixed(usize),
    Default,
}

const fn place(msr: u32) -> Option<Place> {
    Some(match msr {
        index::MTRR_VARIABLE..=index::MTRR_VARIABLE_LAST => {
            Place::Variable((msr - index::MTRR_VARIABLE) as usize)
        }
        index::MTRR_FIXED_64K => Place::Fixed(0),
        index::MTRR_FIXED_16K => Place::Fixed(1),
        index::MTRR_FIXED_16K_HIGH => Place::Fixed(2),
        index::MTRR_FIXED_4K..=index::MTRR_FIXED_4K_LAST => {
            Place::Fixed((msr - index::MTRR_FIXED_4K) as usize + 3)
        }
        index::MTRR_DEFAULT => Place::Default,
        _ => return None,
    })
}

/// Whether a byte is a memory type of ranges: UC, WC, WT, WP, WB.
const fn is_type(byte: u8) -> bool {
    matches!(byte, 0 | 1 | 4 | 5 | 6)
}

/// Whether PAT may have a value: eight types, of which UC- is one.
#[must_use]
pub fn is_valid_pat(value: u64) -> bool {
    value
        .to_le_bytes()
        .into_iter()
        .all(|byte| is_type(byte) || byte == 7)
}

impl Mtrrs {
    /// What a register holds; `None` for others.
    #[must_use]
    pub fn read(&self, msr: u32) -> Option<u64> {
        if msr == index::MTRR_CAP {
            return Some(CAPABILITIES);
        }
        match place(msr)? {
            Place::Variable(at) => self.variable.get(at).copied(),
            Place::Fixed(at) => self.fixed.get(at).copied(),
            Place::Default => Some(self.default),
        }
    }

    /// Changes a register; whether it may have the value. Addresses end where the policy says.
    #[must_use]
    pub fn write(&mut self, msr: u32, value: u64, policy: &Policy) -> bool {
        let Some(place) = place(msr) else {
            return false;
        };
        let end = 1_u64 << policy.physical_address_bits().clamp(32, 52);
        let addresses = (end - 1) & !0xfff;
        let is_valid = match place {
            Place::Variable(at) if at.is_multiple_of(2) => {
                value & !(addresses | TYPE) == 0 && is_type(value as u8)
            }
            Place::Variable(_) => value & !(addresses | VALID) == 0,
            Place::Fixed(_) => value.to_le_bytes().into_iter().all(is_type),
            Place::Default => value & !DEFAULT_BITS == 0 && is_type(value as u8),
        };
        let slot = match place {
            Place::Variable(at) => self.variable.get_mut(at),
            Place::Fixed(at) => self.fixed.get_mut(at),
            Place::Default => Some(&mut self.default),
        };
        match slot {
            Some(slot) if is_valid => {
                *slot = value;
                true
            }
            _ => false,
        }
    }

    /// The words of `hvm_hw_mtrr` (hvm/save.h): PAT, variable ranges, fixed ranges, capabilities, default type.
    #[must_use]
    pub fn words(&self, pat: u64) -> [u64; WORDS] {
        let mut words = [0; WORDS];
        let all = core::iter::once(pat)
            .chain(self.variable)
            .chain(self.fixed)
            .chain([CAPABILITIES, self.default]);
        words
            .iter_mut()
            .zip(all)
            .for_each(|(word, value)| *word = value);
        words
    }

    /// PAT and registers from such words; `None` if one of them cannot be. What the capabilities say is not looked at, but
    /// for there being as many variable ranges.
    #[must_use]
    pub fn from_words(words: &[u64; WORDS], policy: &Policy) -> Option<(u64, Self)> {
        let [pat, ranges @ .., capabilities, default] = words;
        let (variable, fixed) = ranges.split_at(2 * VARIABLE);
        if !is_valid_pat(*pat) || capabilities & 0xff != VARIABLE as u64 {
            return None;
        }
        let mut mtrrs = Self::default();
        let numbers = (index::MTRR_VARIABLE..)
            .take(2 * VARIABLE)
            .chain(FIXED_NUMBERS)
            .chain([index::MTRR_DEFAULT]);
        let values = variable.iter().chain(fixed).chain([default]);
        for (msr, value) in numbers.zip(values) {
            if !mtrrs.write(msr, *value, policy) {
                return None;
            }
        }
        Some((*pat, mtrrs))
    }
}

/// Words of `hvm_hw_mtrr`.
pub const WORDS: usize = 1 + 2 * VARIABLE + FIXED + 2;
/// The fixed-range registers in their order there.
const FIXED_NUMBERS: [u32; FIXED] = [
    index::MTRR_FIXED_64K,
    index::MTRR_FIXED_16K,
    index::MTRR_FIXED_16K_HIGH,
    index::MTRR_FIXED_4K,
    index::MTRR_FIXED_4K + 1,
    index::MTRR_FIXED_4K + 2,
    index::MTRR_FIXED_4K + 3,
    index::MTRR_FIXED_4K + 4,
    index::MTRR_FIXED_4K + 5,
    index::MTRR_FIXED_4K + 6,
    index::MTRR_FIXED_4K_LAST,
];

#[cfg(test)]
mod tests;
