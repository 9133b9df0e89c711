//! A set of interrupt vectors: what IRR, ISR and TMR hold (Intel SDM vol. 3, "Interrupt Acceptance for Fixed
//! Interrupts"; AMD APM vol. 2, 16.6).

/// First vector that may be used for an interrupt: those below are exceptions, and reserved for them.
pub const FIRST_LEGAL: u8 = 16;

/// A set of vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Vectors([u64; 4]);

impl Vectors {
    /// No vector.
    #[must_use]
    pub const fn none() -> Self {
        Self([0; 4])
    }

    /// The set with bit `n` of word `n / 64` for vector `n`.
    #[must_use]
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    const fn place(vector: u8) -> (usize, u64) {
        ((vector >> 6) as usize, 1 << (vector & 63))
    }

    /// Puts `vector` in.
    pub fn insert(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.0[word] |= bit;
    }

    /// Takes `vector` out.
    pub fn remove(&mut self, vector: u8) {
        let (word, bit) = Self::place(vector);
        self.0[word] &= !bit;
    }

    /// Puts `vector` in or takes it out.
    pub fn assign(&mut self, vector: u8, present: bool) {
        if present {
            self.insert(vector);
        } else {
            self.remove(vector);
        }
    }

    /// Whether `vector` is in.
    #[must_use]
    pub const fn contains(&self, vector: u8) -> bool {
        let (word, bit) = Self::place(vector);
        self.0[word] & bit != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// The highest vector, which has the highest priority.
    #[must_use]
    pub fn highest(&self) -> Option<u8> {
        (0..4_u8)
            .rev()
            .zip(self.0.iter().rev())
            .find_map(|(word, bits)| {
                let bit = bits.checked_ilog2()?;
                Some(word * 64 + u8::try_from(bit).ok()?)
            })
    }

    /// All vectors, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u8> + use<> {
        let words = (0..4_u8).zip(self.0);
        words.flat_map(|(word, mut bits)| {
            core::iter::from_fn(move || {
                let bit = u8::try_from(bits.trailing_zeros()).ok()?;
                bits &= bits.checked_sub(1)?;
                Some(word * 64 + bit)
            })
        })
    }

    /// Vectors `32 * index ..` as the 32-bit register of that index holds them; 0 from index 8 on.
    #[must_use]
    pub fn register(&self, index: u8) -> u32 {
        let word = self.0.get(usize::from(index >> 1)).copied().unwrap_or(0);
        (word >> ((index & 1) * 32)) as u32
    }

    /// Sets vectors `32 * index ..` from that register; vectors that are not legal stay out.
    pub fn set_register(&mut self, index: u8, value: u32) {
        let Some(word) = self.0.get_mut(usize::from(index >> 1)) else {
            return;
        };
        let shift = (index & 1) * 32;
        *word = *word & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
        self.0[0] &= !((1 << FIRST_LEGAL) - 1);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_is_a_set(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..60)) {
            let (mut real, mut model) = (Vectors::none(), BTreeSet::new());
            for (insert, vector) in steps {
                real.assign(vector, insert);
                if insert { model.insert(vector); } else { model.remove(&vector); }
                prop_assert_eq!(real.highest(), model.last().copied());
                prop_assert_eq!(real.contains(vector), insert);
                prop_assert_eq!(real.is_empty(), model.is_empty());
            }
            prop_assert!(real.iter().eq(model.iter().copied()));
            let mut copy = Vectors::none();
            for index in 0..8 {
                copy.set_register(index, real.register(index));
            }
            prop_assert!(copy.iter().eq(model.range(FIRST_LEGAL..).copied()));
        }
    }
}
