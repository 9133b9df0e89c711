//! Which missing operations were logged already: each is named once.

use core::sync::atomic::{AtomicU64, Ordering};

/// Calls whose sub-operations are noted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// sysctl.
    Sysctl,
    /// domctl.
    Domctl,
    /// platform_op.
    Platform,
    /// mca.
    Mca,
    /// grant_table_op.
    Grant,
    /// hvm_op.
    Hvm,
}

/// Number of families.
const FAMILIES: usize = Family::Hvm as usize + 1;
/// Words of 64 sub-operations for each family.
const WORDS: usize = 2;

/// What was logged, one bit each. Numbers beyond 127 share the last bit.
#[derive(Debug, Default)]
pub struct Notes {
    seen: [[AtomicU64; WORDS]; FAMILIES],
}

impl Notes {
    /// Whether this is the first call for this sub-operation.
    pub fn first(&self, family: Family, number: u32) -> bool {
        let number = number.min(WORDS as u32 * u64::BITS - 1);
        let bit = 1 << (number % u64::BITS);
        let word = &self.seen[family as usize][(number / u64::BITS) as usize];
        word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_is_first_once() {
        let notes = Notes::default();
        assert!(notes.first(Family::Domctl, 64));
        assert!(!notes.first(Family::Domctl, 64));
        assert!(notes.first(Family::Sysctl, 64));
        assert!(notes.first(Family::Domctl, 1000));
        assert!(!notes.first(Family::Domctl, 1001));
    }
}
