//! The log ring that `xl dmesg` reads (`XEN_SYSCTL_readconsole`, sysctl.h).
//!
//! Positions are 32-bit counters of bytes ever written, which wrap; the slot of a position is its
//! low bits, hence the power-of-two size. The writer never waits: it overwrites the oldest text.

use alloc::vec::Vec;
use core::fmt;

/// Smallest ring that can be asked for, in bytes.
pub const MIN_SIZE: usize = 1 << 12;
/// Largest ring that can be asked for, in bytes.
pub const MAX_SIZE: usize = 1 << 27;
/// Size when `conring_size=` is absent, in bytes.
pub const DEFAULT_SIZE: usize = 1 << 16;

/// What a `readconsole` call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadRequest {
    /// Where to begin; `None` (not incremental) begins with the oldest text kept.
    pub from: Option<u32>,
    /// Whether the text read is dropped from the ring.
    pub after: AfterRead,
}

/// What happens to the text once it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRead {
    /// The next reader that is not incremental sees it again.
    Keep,
    /// Dropped (`clear`).
    Clear,
}

/// What a `readconsole` call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadResult {
    /// Bytes copied out (`count`).
    pub count: usize,
    /// Position behind the last byte copied: where an incremental reader goes on (`index`).
    pub index: u32,
}

/// A ring of log text in storage `B`: an array in early boot, a `Vec` afterwards.
#[derive(Debug)]
pub struct LogRing<B> {
    storage: B,
    /// Position of the next byte written.
    produced: u32,
    /// Position of the oldest byte kept; never more than the size behind `produced`.
    oldest: u32,
}

/// The size used for a requested one: rounded down to a power of two, within
/// [`MIN_SIZE`]`..=`[`MAX_SIZE`]. `None` gives [`DEFAULT_SIZE`].
#[must_use]
pub fn usable_size(requested: Option<u64>) -> usize {
    let Some(bytes) = requested else {
        return DEFAULT_SIZE;
    };
    let bytes = bytes.clamp(MIN_SIZE as u64, MAX_SIZE as u64);
    1 << bytes.ilog2()
}

impl LogRing<Vec<u8>> {
    /// An empty ring on the heap of `usable_size(requested)` bytes; `None` when memory is short.
    #[must_use]
    pub fn try_on_heap(requested: Option<u64>) -> Option<Self> {
        let size = usable_size(requested);
        let mut storage = Vec::new();
        storage.try_reserve_exact(size).ok()?;
        storage.resize(size, 0);
        Self::new(storage)
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> LogRing<B> {
    /// An empty ring; `None` unless the storage's length is a power of two that fits 31 bits.
    #[must_use]
    pub fn new(storage: B) -> Option<Self> {
        let size = storage.as_ref().len();
        (size.is_power_of_two() && size <= 1 << 30).then_some(Self {
            storage,
            produced: 0,
            oldest: 0,
        })
    }

    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.storage.as_ref().len()
    }

    /// Bytes kept.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.produced.wrapping_sub(self.oldest) as usize
    }

    /// Whether nothing is kept.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds text, overwriting the oldest when full.
    pub fn write(&mut self, text: &[u8]) {
        let size = self.size();
        let mask = size - 1;
        // Only the tail of an oversized text can survive; the counter still moves by all of it.
        let skipped = text.len().saturating_sub(size);
        self.produced = self.produced.wrapping_add(skipped as u32);
        let mut rest = &text[skipped..];
        while !rest.is_empty() {
            let at = self.produced as usize & mask;
            let n = rest.len().min(size - at);
            self.storage.as_mut()[at..at + n].copy_from_slice(&rest[..n]);
            self.produced = self.produced.wrapping_add(n as u32);
            rest = &rest[n..];
        }
        if skipped > 0 || self.len() > size {
            self.oldest = self.produced.wrapping_sub(size as u32);
        }
    }

    /// Copies text out as `readconsole` does: from `request.from` if that lies inside the kept
    /// text, from the oldest kept byte if it was overwritten or never existed.
    pub fn read(&mut self, request: ReadRequest, out: &mut [u8]) -> ReadResult {
        let start = request.from.map_or(self.oldest, |at| self.clamp(at));
        let kept = self.produced.wrapping_sub(start) as usize;
        let count = kept.min(out.len());
        let at = start as usize & (self.size() - 1);
        let first = count.min(self.size() - at);
        let storage = self.storage.as_ref();
        out[..first].copy_from_slice(&storage[at..at + first]);
        out[first..count].copy_from_slice(&storage[..count - first]);
        let index = start.wrapping_add(count as u32);
        if request.after == AfterRead::Clear {
            self.oldest = index;
        }
        ReadResult { count, index }
    }

    /// Moves everything that `earlier` keeps into this ring, keeping its positions so that an
    /// incremental reader is not confused. Text already here is dropped.
    pub fn adopt<C: AsRef<[u8]> + AsMut<[u8]>>(&mut self, earlier: &LogRing<C>) {
        self.produced = earlier.oldest;
        self.oldest = earlier.oldest;
        let mask = earlier.size() - 1;
        let at = earlier.oldest as usize & mask;
        let first = earlier.len().min(earlier.size() - at);
        let storage = earlier.storage.as_ref();
        self.write(&storage[at..at + first]);
        self.write(&storage[..earlier.len() - first]);
    }

    /// `at` if it lies in `oldest..=produced` (on the wrapping circle), else `oldest`.
    const fn clamp(&self, at: u32) -> u32 {
        if at.wrapping_sub(self.oldest) as usize <= self.len() {
            at
        } else {
            self.oldest
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> fmt::Write for LogRing<B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEEK: ReadRequest = ReadRequest {
        from: None,
        after: AfterRead::Keep,
    };

    fn text(ring: &mut LogRing<[u8; 16]>, request: ReadRequest) -> (String, u32) {
        let mut out = [0; 64];
        let r = ring.read(request, &mut out);
        (String::from_utf8(out[..r.count].to_vec()).unwrap(), r.index)
    }

    fn ring() -> LogRing<[u8; 16]> {
        LogRing::new([0; 16]).unwrap()
    }

    #[test]
    fn oldest_text_is_overwritten() {
        let mut r = ring();
        r.write(b"0123456789");
        r.write(b"abcdefghij");
        assert_eq!(text(&mut r, PEEK), ("456789abcdefghij".into(), 20));
        r.write(b"a text much longer than the ring");
        assert_eq!(text(&mut r, PEEK).0, "er than the ring");
    }

    #[test]
    fn incremental_reader_sees_each_byte_once() {
        let mut r = ring();
        r.write(b"hello ");
        let (first, at) = text(&mut r, PEEK);
        r.write(b"world");
        let next = ReadRequest {
            from: Some(at),
            after: AfterRead::Keep,
        };
        let (second, at) = text(&mut r, next);
        assert_eq!((first + &second, at), ("hello world".into(), 11));
        let idle = ReadRequest {
            from: Some(at),
            after: AfterRead::Keep,
        };
        assert_eq!(text(&mut r, idle), (String::new(), 11));
    }

    #[test]
    fn position_from_nowhere_starts_with_the_oldest() {
        let mut r = ring();
        r.write(b"abc");
        let odd = ReadRequest {
            from: Some(0x8000_0000),
            after: AfterRead::Keep,
        };
        assert_eq!(text(&mut r, odd).0, "abc");
    }

    #[test]
    fn clear_drops_only_what_was_read() {
        let mut r = ring();
        r.write(b"abcdef");
        let mut out = [0; 4];
        let clear = ReadRequest {
            from: None,
            after: AfterRead::Clear,
        };
        assert_eq!(r.read(clear, &mut out).count, 4);
        assert_eq!(text(&mut r, PEEK).0, "ef");
        text(&mut r, clear);
        assert!(r.is_empty());
    }

    #[test]
    fn counters_wrap() {
        let mut r = ring();
        r.produced = u32::MAX - 3;
        r.oldest = u32::MAX - 3;
        r.write(b"0123456789");
        assert_eq!(text(&mut r, PEEK), ("0123456789".into(), 6));
        r.write(b"abcdefghij");
        assert_eq!(text(&mut r, PEEK).0, "456789abcdefghij");
    }

    #[test]
    fn early_text_moves_to_the_larger_ring() {
        let mut early = ring();
        early.write(b"0123456789abcdefgh");
        let mut big = LogRing::try_on_heap(Some(5000)).unwrap();
        assert_eq!(big.size(), 4096);
        big.adopt(&early);
        let mut out = [0; 64];
        let r = big.read(PEEK, &mut out);
        assert_eq!((&out[..r.count], r.index), (&b"23456789abcdefgh"[..], 18));
    }

    #[test]
    fn sizes_are_powers_of_two_within_bounds() {
        assert_eq!(usable_size(None), DEFAULT_SIZE);
        assert_eq!(usable_size(Some(0)), MIN_SIZE);
        assert_eq!(usable_size(Some(u64::MAX)), MAX_SIZE);
        assert_eq!(usable_size(Some(0x1_ffff)), 0x1_0000);
        assert!(LogRing::new([0u8; 12]).is_none());
    }

    proptest! {
        #[test]
        fn ring_is_the_tail_of_everything_written(
            start in any::<u32>(),
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        ) {
            let mut r = ring();
            r.produced = start;
            r.oldest = start;
            let mut all = Vec::new();
            for t in &texts {
                r.write(t);
                all.extend_from_slice(t);
            }
            let mut out = [0; 16];
            let got = r.read(PEEK, &mut out);
            let want = &all[all.len().saturating_sub(16)..];
            prop_assert_eq!(&out[..got.count], want);
            prop_assert_eq!(got.index, start.wrapping_add(all.len() as u32));
        }
    }
}
