//! Copying bytes between frames that guests may be using: by atomic words, so that bytes beside the
//! copied ones are never written, not even with their old values.

use core::sync::atomic::{AtomicU64, Ordering};

/// A frame.
type Words = [AtomicU64; 512];
/// Bytes in a word.
const WORD: usize = size_of::<u64>();

/// Copies `len` bytes from offset `from.1` of one frame to offset `to.1` of another; they may be
/// the same and the ranges may overlap. What leaves a frame is not copied.
pub fn copy(from: (&Words, usize), to: (&Words, usize), len: usize) {
    if len == 0 {
        return;
    }
    let (source, target) = (from.0, to.0);
    let distance = from.1 as isize - to.1 as isize;
    let range = to.1..to.1 + len;
    let step = |index: usize| {
        let Some(word) = target.get(index) else {
            return;
        };
        let first = index * WORD;
        let kept = keep_mask(
            range.start.saturating_sub(first),
            (range.end - first).min(WORD),
        );
        store_kept(word, gather(source, first as isize + distance), kept);
    };
    let words = range.start / WORD..range.end.div_ceil(WORD);
    // In one frame, what is still to be read must not be overwritten.
    if core::ptr::eq(source, target) && distance < 0 {
        words.rev().for_each(step);
    } else {
        words.for_each(step);
    }
}

/// The bits of a word outside its bytes `from..to`.
const fn keep_mask(from: usize, to: usize) -> u64 {
    let low = if from == 0 {
        0
    } else {
        u64::MAX >> (64 - from * 8)
    };
    let high = if to >= WORD { 0 } else { u64::MAX << (to * 8) };
    low | high
}

/// Eight bytes at any offset; those beyond the frame read as 0.
fn gather(frame: &Words, at: isize) -> u64 {
    let word = |index: isize| {
        let index = usize::try_from(index).ok();
        let word = index.and_then(|i| frame.get(i));
        word.map_or(0, |w| w.load(Ordering::Relaxed))
    };
    let (index, shift) = (
        at.div_euclid(WORD as isize),
        at.rem_euclid(WORD as isize) * 8,
    );
    if shift == 0 {
        word(index)
    } else {
        word(index) >> shift | word(index + 1) << (64 - shift)
    }
}

/// Stores a word but for the bits in `kept`.
fn store_kept(word: &AtomicU64, value: u64, kept: u64) {
    if kept == 0 {
        return word.store(value, Ordering::Relaxed);
    }
    let mut seen = word.load(Ordering::Relaxed);
    loop {
        let new = seen & kept | value & !kept;
        match word.compare_exchange_weak(seen, new, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => seen = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(seed: u8) -> Box<Words> {
        let word = |i: usize| [0, 1, 2, 3, 4, 5, 6, 7].map(|b| (i * 8 + b) as u8 ^ seed);
        Box::new(core::array::from_fn(|i| {
            AtomicU64::new(u64::from_le_bytes(word(i)))
        }))
    }

    fn bytes(frame: &Words) -> Vec<u8> {
        let words = frame
            .iter()
            .map(|w| w.load(Ordering::Relaxed).to_le_bytes());
        words.flatten().collect()
    }

    /// An offset and a length that stay in a frame.
    fn piece() -> impl Strategy<Value = (usize, usize, usize)> {
        let ends = (0..=4096usize, 0..=4096usize, 0..=4096usize);
        ends.prop_map(|(a, b, len)| (a, b, len.min(4096 - a).min(4096 - b)))
    }

    proptest! {
        #[test]
        fn copies_exactly_the_bytes((a, b, len) in piece()) {
            let (source, target) = (frame(3), frame(200));
            let mut want = bytes(&target);
            want[b..b + len].copy_from_slice(&bytes(&source)[a..a + len]);
            copy((&source, a), (&target, b), len);
            prop_assert_eq!(bytes(&target), want);
        }

        #[test]
        fn overlap_in_one_frame_is_a_move((a, b, len) in piece(), near in 0..40usize) {
            // Half of the cases are close together, where it matters.
            let b = if near % 2 == 0 { (a + near / 2).min(4096 - len) } else { b };
            let one = frame(9);
            let mut want = bytes(&one);
            want.copy_within(a..a + len, b);
            copy((&one, a), (&one, b), len);
            prop_assert_eq!(bytes(&one), want);
        }
    }

    #[test]
    fn neighbours_are_never_written() {
        let (source, target) = (frame(1), frame(2));
        let before = bytes(&target);
        copy((&source, 0), (&target, 13), 1);
        let after = bytes(&target);
        let changed: Vec<usize> = (0..4096).filter(|&i| before[i] != after[i]).collect();
        assert_eq!(changed, [13]);
    }
}
