//! Sets of physical CPUs.

use crate::base::CpuId;

/// How many CPUs a set can name.
pub const MAX_CPUS: u32 = 512;

const WORDS: usize = (MAX_CPUS / u64::BITS) as usize;

/// A set of physical CPUs below [`MAX_CPUS`].
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSet {
    words: [u64; WORDS],
}

impl CpuSet {
    /// No CPU.
    pub const EMPTY: Self = Self { words: [0; WORDS] };
    /// Every CPU that there could be.
    pub const ALL: Self = Self { words: [!0; WORDS] };

    /// The set of one CPU.
    #[must_use]
    pub fn single(cpu: CpuId) -> Self {
        let mut set = Self::EMPTY;
        set.insert(cpu);
        set
    }

    /// The set that an ABI bitmap (`xenctl_bitmap`, little-endian bytes) describes. Bits beyond
    /// `bits` and beyond [`MAX_CPUS`] are dropped.
    #[must_use]
    pub fn from_bytes(bytes: &[u8], bits: u32) -> Self {
        let present = u32::try_from(bytes.len()).map_or(u32::MAX, |n| n.saturating_mul(8));
        (0..bits.min(MAX_CPUS).min(present))
            .filter(|&cpu| bytes[cpu as usize / 8] >> (cpu % 8) & 1 == 1)
            .collect()
    }

    /// Writes the set as an ABI bitmap; bytes beyond [`MAX_CPUS`] become 0.
    pub fn write_bytes(&self, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            let word = self.words.get(index / 8).copied().unwrap_or(0);
            *byte = word.to_le_bytes()[index % 8];
        }
    }

    /// Adds a CPU; one beyond [`MAX_CPUS`] is ignored.
    pub fn insert(&mut self, cpu: CpuId) {
        if let Some(word) = self.words.get_mut((cpu / u64::BITS) as usize) {
            *word |= 1 << (cpu % u64::BITS);
        }
    }

    /// Takes a CPU out.
    pub fn remove(&mut self, cpu: CpuId) {
        if let Some(word) = self.words.get_mut((cpu / u64::BITS) as usize) {
            *word &= !(1 << (cpu % u64::BITS));
        }
    }

    /// Whether the CPU is in the set.
    #[must_use]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.bits(cpu, 1) == 1
    }

    /// Whether no CPU is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// How many CPUs are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The CPUs that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let mut words = self.words;
        for (word, theirs) in words.iter_mut().zip(other.words) {
            *word &= theirs;
        }
        Self { words }
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        (0..MAX_CPUS).filter(|&cpu| self.contains(cpu))
    }

    /// `width` bits, at most 64, from CPU `base` on, bit 0 being `base`.
    pub(super) fn bits(&self, base: CpuId, width: u32) -> u64 {
        let (index, shift) = ((base / u64::BITS) as usize, base % u64::BITS);
        let word = |index: usize| self.words.get(index).copied().unwrap_or(0);
        let mut bits = word(index) >> shift;
        if shift + width > u64::BITS {
            bits |= word(index + 1) << (u64::BITS - shift);
        }
        let mask = if width >= u64::BITS {
            !0
        } else {
            (1 << width) - 1
        };
        bits & mask
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(cpus: I) -> Self {
        let mut set = Self::EMPTY;
        for cpu in cpus {
            set.insert(cpu);
        }
        set
    }
}

/// Ranges as the tools write them: `0-3,8`.
impl core::fmt::Display for CpuSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if *self == Self::ALL {
            return f.write_str("all");
        }
        let mut separator = "";
        let mut cpu = 0;
        while cpu < MAX_CPUS {
            if !self.contains(cpu) {
                cpu += 1;
                continue;
            }
            let first = cpu;
            while self.contains(cpu + 1) {
                cpu += 1;
            }
            write!(f, "{separator}{first}")?;
            if cpu > first {
                write!(f, "-{cpu}")?;
            }
            separator = ",";
            cpu += 1;
        }
        Ok(())
    }
}

impl core::fmt::Debug for CpuSet {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmap_round_trips_and_drops_what_is_beyond() {
        let set: CpuSet = [0, 1, 2, 9, 63, 64, 511].into_iter().collect();
        let mut bytes = [0xff; 70];
        set.write_bytes(&mut bytes);
        assert_eq!(bytes[64..], [0; 6]);
        assert_eq!(CpuSet::from_bytes(&bytes, 4096), set);
        assert_eq!(
            CpuSet::from_bytes(&bytes, 9),
            [0, 1, 2].into_iter().collect()
        );
        assert_eq!(CpuSet::from_bytes(&bytes[..1], 64).len(), 3);
        assert_eq!(CpuSet::from_bytes(&[], 64), CpuSet::EMPTY);
    }

    #[test]
    fn shows_as_ranges() {
        let set: CpuSet = [0, 1, 2, 9, 510, 511].into_iter().collect();
        assert_eq!(format!("{set}"), "0-2,9,510-511");
        assert_eq!(format!("{}", CpuSet::ALL), "all");
    }

    #[test]
    fn cpus_beyond_the_limit_are_never_members() {
        let mut set = CpuSet::ALL;
        assert!(!set.contains(MAX_CPUS));
        set.insert(u32::MAX);
        set.remove(u32::MAX);
        assert_eq!(set.len(), MAX_CPUS);
    }

    #[test]
    fn bits_are_relative_to_the_base() {
        let set: CpuSet = [64, 66, 80].into_iter().collect();
        assert_eq!(set.bits(64, 16), 0b101);
        assert_eq!(set.bits(80, 16), 1);
        assert_eq!(set.bits(64, 64), 0b101 | 1 << 16);
        assert_eq!(set.bits(1024, 16), 0);
        assert_eq!(set.bits(60, 8), 0b0101_0000);
        assert_eq!(set.bits(17, 64), 1 << 47 | 1 << 49 | 1 << 63);
        assert_eq!(CpuSet::ALL.bits(500, 64), 0xfff);
    }
}
