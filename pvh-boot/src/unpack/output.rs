//! The buffer a decoder fills: allocated fallibly, of announced size or growing up to a limit.

use alloc::vec::Vec;

use super::UnpackError;

/// Smallest buffer of a growing output, in bytes.
const MIN_CAPACITY: usize = 64 * 1024;

/// Where unpacked bytes go.
pub(super) struct Output {
    /// Allocated and zeroed; `bytes[..filled]` is the result so far.
    bytes: Vec<u8>,
    filled: usize,
    limit: usize,
    announced: Option<usize>,
}

impl Output {
    /// A buffer for exactly `size` bytes.
    pub(super) fn exact(size: usize, limit: usize) -> Result<Self, UnpackError> {
        if size > limit {
            return Err(UnpackError::TooLarge { limit });
        }
        let mut output = Self {
            bytes: Vec::new(),
            filled: 0,
            limit,
            announced: Some(size),
        };
        output.extend_to(size)?;
        Ok(output)
    }

    /// A buffer that grows; `guess` is the size to start with.
    pub(super) fn growing(guess: usize, limit: usize) -> Result<Self, UnpackError> {
        let mut output = Self {
            bytes: Vec::new(),
            filled: 0,
            limit,
            announced: None,
        };
        output.extend_to(guess.max(MIN_CAPACITY).min(limit))?;
        Ok(output)
    }

    /// Bytes in the result so far.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// The announced size, if the format or its container told one.
    pub(super) fn announced(&self) -> Option<usize> {
        self.announced
    }

    /// The result so far.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Takes all that `pull` gives: it fills the start of a slice and tells how many bytes; 0 ends.
    pub(super) fn fill_from(
        &mut self,
        mut pull: impl FnMut(&mut [u8]) -> Result<usize, UnpackError>,
    ) -> Result<(), UnpackError> {
        loop {
            if self.filled == self.bytes.len() {
                // Ask once more: the decoder checks its trailers only when it is read to the end.
                let mut probe = [0u8; 1];
                if pull(&mut probe)? == 0 {
                    return Ok(());
                }
                self.window(1)?[0] = probe[0];
                self.filled += 1;
                continue;
            }
            let free = self.bytes.get_mut(self.filled..).unwrap_or_default();
            let room = free.len();
            match pull(free)? {
                0 => return Ok(()),
                n => self.filled += n.min(room),
            }
        }
    }

    /// Free space for up to `wanted` bytes, at least one; less only where size or limit end it.
    pub(super) fn window(&mut self, wanted: usize) -> Result<&mut [u8], UnpackError> {
        let target = self.filled.saturating_add(wanted);
        if target > self.bytes.len() && self.announced.is_none() {
            let doubled = self.bytes.len().saturating_mul(2);
            self.extend_to(doubled.max(target).min(self.limit))?;
        }
        if self.filled == self.bytes.len() {
            return Err(self.overflow());
        }
        let end = target.min(self.bytes.len());
        Ok(self.bytes.get_mut(self.filled..end).unwrap_or_default())
    }

    /// Counts `n` bytes of the last window as filled.
    pub(super) fn advance(&mut self, n: usize) {
        self.filled = self.filled.saturating_add(n).min(self.bytes.len());
    }

    /// Whether fewer than `bytes` more can ever be taken.
    pub(super) fn is_near_end(&self, bytes: usize) -> bool {
        let end = self.announced.unwrap_or(self.limit);
        end.saturating_sub(self.filled) < bytes
    }

    /// The error for data that goes on after the last byte that fits.
    pub(super) fn overflow(&self) -> UnpackError {
        match self.announced {
            Some(announced) => UnpackError::SizeMismatch {
                announced,
                found: announced,
            },
            None => UnpackError::TooLarge { limit: self.limit },
        }
    }

    /// The result.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, UnpackError> {
        match self.announced {
            Some(announced) if announced != self.filled => Err(UnpackError::SizeMismatch {
                announced,
                found: self.filled,
            }),
            _ => {
                self.bytes.truncate(self.filled);
                Ok(self.bytes)
            }
        }
    }

    fn extend_to(&mut self, size: usize) -> Result<(), UnpackError> {
        let more = size.saturating_sub(self.bytes.len());
        self.bytes
            .try_reserve_exact(more)
            .map_err(|_| UnpackError::OutOfMemory(size))?;
        self.bytes.resize(self.bytes.len() + more, 0);
        Ok(())
    }
}
