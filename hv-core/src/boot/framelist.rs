//! The machine frames of a domain that is being built, in the order of its own frame numbers: as runs, because
//! a list with a word for each frame of a large machine would be larger than any block of memory.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::cell::Cell;
use core::ops::Range;

/// Consecutive machine frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// The domain's number of the first.
    pfn: u64,
    /// The machine's number of the first.
    mfn: u64,
    count: u64,
}

/// The frames of a domain.
#[derive(Debug, Default)]
pub struct FrameList {
    /// Ascending by `pfn`, without gaps from 0 on.
    runs: Vec<Run>,
    len: u64,
    /// The run that was asked for last: questions come in rows.
    last: Cell<usize>,
}

impl FrameList {
    /// A domain without frames.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            runs: Vec::new(),
            len: 0,
            last: Cell::new(0),
        }
    }

    /// Number of frames.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds frames at the end.
    ///
    /// # Errors
    /// No memory for the list.
    pub fn push(&mut self, frames: Range<u64>) -> Result<(), TryReserveError> {
        let count = frames.end.saturating_sub(frames.start);
        if count == 0 {
            return Ok(());
        }
        match self.runs.last_mut() {
            Some(run) if run.mfn + run.count == frames.start => run.count += count,
            _ => {
                self.runs.try_reserve(1)?;
                self.runs.push(Run {
                    pfn: self.len,
                    mfn: frames.start,
                    count,
                });
            }
        }
        self.len += count;
        Ok(())
    }

    /// The machine frame behind a frame of the domain; `None` beyond its end.
    #[must_use]
    pub fn get(&self, pfn: u64) -> Option<u64> {
        let within = |run: &&Run| pfn.wrapping_sub(run.pfn) < run.count;
        let run = match self.runs.get(self.last.get()).filter(within) {
            Some(run) => run,
            None => {
                let after = self.runs.partition_point(|run| run.pfn <= pfn);
                let index = after.checked_sub(1)?;
                self.last.set(index);
                self.runs.get(index).filter(within)?
            }
        };
        Some(run.mfn + (pfn - run.pfn))
    }

    /// The runs: the domain's number of the first frame, and the machine's numbers.
    pub fn runs(&self) -> impl Iterator<Item = (u64, Range<u64>)> + '_ {
        self.runs
            .iter()
            .map(|run| (run.pfn, run.mfn..run.mfn + run.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_are_joined() {
        let mut list = FrameList::new();
        assert!(list.is_empty());
        for frames in [10..14, 14..20, 5..5, 0..10] {
            list.push(frames).unwrap();
        }
        assert_eq!(list.len(), 20);
        assert_eq!(list.runs().collect::<Vec<_>>(), [(0, 10..20), (10, 0..10)]);
        assert_eq!(list.get(9), Some(19));
        assert_eq!(list.get(10), Some(0));
        assert_eq!(list.get(20), None);
        assert_eq!(list.get(u64::MAX), None);
    }

    #[test]
    fn four_tib_take_a_short_list() {
        let mut list = FrameList::new();
        // Blocks of a GiB from the top down, as the allocator gives them.
        for block in (4..4096_u64).rev() {
            list.push(block << 18..(block + 1) << 18).unwrap();
        }
        assert_eq!(list.len(), 4092 << 18);
        assert_eq!(list.runs().count(), 4092);
        assert_eq!(list.get(0), Some(4095 << 18));
        assert_eq!(list.get((4092 << 18) - 1), Some((5 << 18) - 1));
    }

    proptest! {
        #[test]
        fn it_answers_as_a_plain_list(
            blocks in proptest::collection::vec((0..50_u64, 0..6_u64), 0..20),
            questions in proptest::collection::vec(0..120_u64, 0..60),
        ) {
            let mut list = FrameList::new();
            let mut plain = Vec::new();
            for (start, count) in blocks {
                list.push(start..start + count).unwrap();
                plain.extend(start..start + count);
            }
            prop_assert_eq!(list.len(), plain.len() as u64);
            for pfn in questions {
                prop_assert_eq!(list.get(pfn), plain.get(pfn as usize).copied());
            }
            let told: Vec<_> = list.runs().flat_map(|(_, frames)| frames).collect();
            prop_assert_eq!(told, plain);
        }
    }
}
