//! Reading physical memory while the machine is still being discovered.

use alloc::string::String;
use alloc::vec::Vec;

use crate::base::{PAGE_SIZE, PhysAddr};

/// Physical memory as the boot code sees it: what the binary has mapped, read-only.
pub trait PhysMem {
    /// The `len` bytes at `addr`, or `None` when any of them is not mapped. A `len` of 0 may
    /// answer either way.
    fn read(&self, addr: PhysAddr, len: usize) -> Option<&[u8]>;
}

/// Little-endian fields of a firmware or loader structure; every access is checked.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// `N` bytes at offset `at`.
    pub(crate) fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk::<N>().copied()
    }

    /// The byte at offset `at`.
    pub(crate) fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    /// The 16-bit value at offset `at`.
    pub(crate) fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    /// The 32-bit value at offset `at`.
    pub(crate) fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    /// The 64-bit value at offset `at`.
    pub(crate) fn u64(self, at: usize) -> Option<u64> {
        self.array(at).map(u64::from_le_bytes)
    }
}

/// Why a zero-terminated string could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StringFault {
    /// Part of it is not mapped.
    Unmapped,
    /// No terminator within the limit.
    TooLong,
}

/// Copies the zero-terminated string at `addr`, of at most `limit` bytes without its terminator.
/// Bytes that are not UTF-8 become the replacement character.
pub(crate) fn read_string<M: PhysMem + ?Sized>(
    mem: &M,
    addr: PhysAddr,
    limit: usize,
) -> Result<String, StringFault> {
    let mut bytes = Vec::new();
    while bytes.len() <= limit {
        let here = addr
            .0
            .checked_add(bytes.len() as u64)
            .map(PhysAddr)
            .ok_or(StringFault::Unmapped)?;
        // Up to the end of the page in one piece; byte by byte where what is mapped ends earlier.
        let chunk = mem
            .read(here, PAGE_SIZE - here.offset())
            .or_else(|| mem.read(here, 1))
            .ok_or(StringFault::Unmapped)?;
        let part = &chunk[..chunk.len().min(limit + 1 - bytes.len())];
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            bytes.extend_from_slice(&part[..end]);
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        if part.is_empty() {
            return Err(StringFault::Unmapped);
        }
        bytes.extend_from_slice(part);
    }
    Err(StringFault::TooLong)
}

/// Physical memory made of pieces, for tests.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct FakeMem {
    pieces: alloc::collections::BTreeMap<u64, Vec<u8>>,
}

#[cfg(test)]
impl FakeMem {
    pub(crate) fn put(&mut self, addr: u64, bytes: &[u8]) {
        self.pieces.insert(addr, bytes.to_vec());
    }
}

#[cfg(test)]
impl PhysMem for FakeMem {
    fn read(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        let (base, bytes) = self.pieces.range(..=addr.0).next_back()?;
        let at = usize::try_from(addr.0 - base).ok()?;
        bytes.get(at..at.checked_add(len)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_end_at_their_terminator_the_limit_or_the_mapping() {
        let mut mem = FakeMem::default();
        mem.put(0x1ffe, b"abcdef\0");
        mem.put(0x5000, b"never ends");
        let read = |addr, limit| read_string(&mem, PhysAddr(addr), limit);
        assert_eq!(read(0x1ffe, 6).as_deref(), Ok("abcdef"));
        assert_eq!(read(0x1ffe, 5), Err(StringFault::TooLong));
        assert_eq!(read(0x5000, 100), Err(StringFault::Unmapped));
        assert_eq!(read(u64::MAX, 100), Err(StringFault::Unmapped));
    }

    #[test]
    fn fields_outside_the_bytes_are_absent() {
        let fields = Fields(&[1, 0, 0, 0, 2]);
        assert_eq!(fields.u32(0), Some(1));
        assert_eq!(fields.u32(1), Some(0x0200_0000));
        assert_eq!(fields.u32(2), None);
        assert_eq!(fields.u64(usize::MAX), None);
    }
}
