//! A set of small numbers as a tree of bits: a bit above says that any of 64 below is set.
//!
//! Membership costs one word, insertion, removal and "the highest below" one word per level: five
//! for the 2^30 frames of 4 TiB.

/// Levels that suffice for 2^42 members, more than there can be frames.
const MAX_LEVELS: usize = 7;
/// log2 of the bits in a word.
const WORD_SHIFT: u32 = 6;

/// Where the levels of one tree lie in a slice of words; the bits themselves are kept by the owner,
/// so that many trees share one allocation.
#[derive(Clone, Copy, Default)]
pub(super) struct BitTree {
    /// Members are below this.
    len: u64,
    /// First word of each level, from the bottom; the top level has one word.
    starts: [usize; MAX_LEVELS],
    levels: usize,
}

impl BitTree {
    /// A tree for the numbers below `len` whose words begin at `start`.
    pub(super) fn new(len: u64, start: usize) -> Self {
        let mut tree = Self {
            len,
            ..Self::default()
        };
        let mut at = start;
        let mut bits = len;
        while tree.levels < MAX_LEVELS {
            tree.starts[tree.levels] = at;
            tree.levels += 1;
            let words = bits.div_ceil(64).max(1);
            at += words as usize;
            if words == 1 {
                break;
            }
            bits = words;
        }
        tree
    }

    /// First word after the tree.
    pub(super) fn end(&self) -> usize {
        // The top level is a single word.
        self.starts[..self.levels]
            .last()
            .map_or(0, |start| start + 1)
    }

    /// Whether `index` is a member; numbers out of range are none.
    pub(super) fn contains(&self, words: &[u64], index: u64) -> bool {
        index < self.len && words[self.word(0, index)] & bit(index) != 0
    }

    /// Adds `index`, which is in range.
    pub(super) fn insert(&self, words: &mut [u64], index: u64) {
        let mut index = index;
        for level in 0..self.levels {
            let word = &mut words[self.word(level, index)];
            let was_empty = *word == 0;
            *word |= bit(index);
            if !was_empty {
                break;
            }
            index >>= WORD_SHIFT;
        }
    }

    /// Removes `index`, which is in range.
    pub(super) fn remove(&self, words: &mut [u64], index: u64) {
        let mut index = index;
        for level in 0..self.levels {
            let word = &mut words[self.word(level, index)];
            *word &= !bit(index);
            if *word != 0 {
                break;
            }
            index >>= WORD_SHIFT;
        }
    }

    /// The highest member below `limit`.
    pub(super) fn highest_below(&self, words: &[u64], limit: u64) -> Option<u64> {
        let mut limit = limit.min(self.len);
        // Up: from the word that the limit falls into, until some word has a member below it.
        for level in 0..self.levels {
            let last = limit.checked_sub(1)?;
            let word = words[self.word(level, last)] & up_to(last);
            if word != 0 {
                return Some(self.descend(words, level, last >> WORD_SHIFT, word));
            }
            // Words before this one.
            limit = last >> WORD_SHIFT;
        }
        None
    }

    /// The highest member under a word of a level, of which `word` has the bits that count.
    fn descend(&self, words: &[u64], level: usize, word_index: u64, word: u64) -> u64 {
        let mut index = word_index << WORD_SHIFT | u64::from(word.ilog2());
        for below in (0..level).rev() {
            // A set bit above promises a set bit here.
            let word = words[self.starts[below] + index as usize];
            index = index << WORD_SHIFT | u64::from(word.checked_ilog2().unwrap_or(0));
        }
        index
    }

    /// Position of the word that holds bit `index` of a level.
    fn word(&self, level: usize, index: u64) -> usize {
        self.starts[level] + (index >> WORD_SHIFT) as usize
    }
}

/// The bit of `index` in its word.
fn bit(index: u64) -> u64 {
    1 << (index & 63)
}

/// The bits of a word up to that of `index`, inclusive.
fn up_to(index: u64) -> u64 {
    u64::MAX >> (63 - (index & 63))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tree_is_a_set(
            len in prop_oneof![1..70_u64, 4000..5000_u64, 260_000..270_000_u64],
            steps in proptest::collection::vec((any::<bool>(), any::<u64>()), 1..200),
        ) {
            let tree = BitTree::new(len, 3);
            let mut words = vec![0; tree.end()];
            let mut model = BTreeSet::new();
            for (add, number) in steps {
                let index = number % len;
                if add {
                    tree.insert(&mut words, index);
                    model.insert(index);
                } else {
                    tree.remove(&mut words, index);
                    model.remove(&index);
                }
                prop_assert_eq!(tree.contains(&words, index), add);
                let limit = number.rotate_left(17) % (len + 9);
                let want = model.range(..limit).next_back().copied();
                prop_assert_eq!(tree.highest_below(&words, limit), want);
            }
            prop_assert_eq!(&words[..3], &[0; 3]);
        }
    }

    #[test]
    fn trees_reach_their_largest_size() {
        let tree = BitTree::new(1 << 40, 0);
        assert_eq!(tree.levels, 7);
        assert!(!tree.contains(&[], 1 << 40));
    }
}
