//! xz (the .xz file format 1.1.0), with the filters that kernel builds use: LZMA2, behind the x86 branch filter or
//! alone. The library decodes LZMA2; container, checks and branch filter are here, because they go over every
//! byte of a kernel and took a third of the time.

use alloc::vec::Vec;

use lzma_rust2::{Error, Lzma2Reader, Read};

use super::crc32::checksum;
use super::output::Output;
use super::{Method, UnpackError};
use crate::fields::u32_at;

mod crc64;
mod x86;

const TRUNCATED: UnpackError = UnpackError::Truncated(Method::Xz);

const HEADER_MAGIC: &[u8] = b"\xfd7zXZ\0";
const FOOTER_MAGIC: &[u8] = b"YZ";
/// Bytes of a stream's header and of its footer.
const STREAM_HEADER: usize = 12;
/// Filter numbers.
const FILTER_X86: u64 = 4;
const FILTER_LZMA2: u64 = 0x21;
/// Most filters in a chain.
const MAX_FILTERS: u8 = 4;

const fn damaged(what: &'static str) -> UnpackError {
    UnpackError::Damaged(Method::Xz, what)
}

const fn lacking(what: &'static str) -> UnpackError {
    UnpackError::Feature(Method::Xz, what)
}

/// Unpacks all streams of `data`; block checks are verified.
pub(super) fn decode(data: &[u8], output: &mut Output) -> Result<(), UnpackError> {
    let mut input = Input { data, at: 0 };
    loop {
        stream(&mut input, output)?;
        // Zeros, four at a time, may stand between streams and behind the last.
        while input.rest().starts_with(&[0; 4]) {
            input.at += 4;
        }
        if input.rest().is_empty() {
            return Ok(());
        }
    }
}

/// What is left to read.
struct Input<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], UnpackError> {
        let taken = self.rest().get(..count).ok_or(TRUNCATED)?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, UnpackError> {
        self.take(1)?.first().copied().ok_or(TRUNCATED)
    }

    fn word(&mut self) -> Result<u32, UnpackError> {
        u32_at(self.take(4)?, 0).ok_or(TRUNCATED)
    }

    /// A number of variable length: seven bits a byte, the lowest first, at most nine bytes.
    fn number(&mut self) -> Result<u64, UnpackError> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                return minimal.then_some(value).ok_or(damaged("a number"));
            }
        }
        Err(damaged("a number"))
    }

    /// Zeros up to a multiple of four bytes from `start`.
    fn padding(&mut self, start: usize) -> Result<(), UnpackError> {
        while !(self.at - start).is_multiple_of(4) {
            if self.byte()? != 0 {
                return Err(damaged("padding"));
            }
        }
        Ok(())
    }
}

/// How the contents of blocks are checked.
#[derive(Clone, Copy)]
enum Check {
    None,
    Crc32,
    Crc64,
}

impl Check {
    fn from_flags(flags: [u8; 2]) -> Result<Self, UnpackError> {
        match flags {
            [0, 0] => Ok(Self::None),
            [0, 1] => Ok(Self::Crc32),
            [0, 4] => Ok(Self::Crc64),
            [0, 10] => Err(lacking("a SHA-256 check")),
            [0, 2..16] => Err(lacking("an unknown check")),
            _ => Err(lacking("unknown stream flags")),
        }
    }

    /// Reads the check and compares.
    fn verify(self, input: &mut Input<'_>, block: &[u8]) -> Result<(), UnpackError> {
        let good = match self {
            Self::None => true,
            Self::Crc32 => input.word()? == checksum(block),
            Self::Crc64 => {
                let low = input.word()?;
                let value = u64::from(input.word()?) << 32 | u64::from(low);
                value == crc64::checksum(block)
            }
        };
        good.then_some(()).ok_or(damaged("checksum"))
    }

    const fn size(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Crc32 => 4,
            Self::Crc64 => 8,
        }
    }
}

/// A block as the index repeats it.
#[derive(PartialEq, Eq)]
struct Record {
    /// Header, packed data and check.
    unpadded: u64,
    unpacked: u64,
}

fn stream(input: &mut Input<'_>, output: &mut Output) -> Result<(), UnpackError> {
    if input.take(HEADER_MAGIC.len())? != HEADER_MAGIC {
        return Err(damaged("stream header"));
    }
    let flags: [u8; 2] = input.take(2)?.try_into().map_err(|_| TRUNCATED)?;
    if input.word()? != checksum(&flags) {
        return Err(damaged("stream header"));
    }
    let check = Check::from_flags(flags)?;
    let mut records = Vec::new();
    let index_start = loop {
        let start = input.at;
        match input.byte()? {
            0 => break start,
            size => {
                let record = block(input, output, start, size, check)?;
                records
                    .try_reserve(1)
                    .map_err(|_| UnpackError::NoWorkingMemory(Method::Xz))?;
                records.push(record);
            }
        }
    };
    index(input, index_start, &records)?;
    let index_len = input.at - index_start;
    footer(input, flags, index_len)
}

/// One block, whose first byte `size` at `start` has been read.
fn block(
    input: &mut Input<'_>,
    output: &mut Output,
    start: usize,
    size: u8,
    check: Check,
) -> Result<Record, UnpackError> {
    let header = BlockHeader::read(input, start, size)?;
    let (packed_start, unpacked_start) = (input.at, output.filled());
    let mut reader = Lzma2Reader::new(input.rest(), header.dictionary, None);
    output.fill_from(|buffer| reader.read(buffer).map_err(translate))?;
    input.at = input.data.len() - reader.into_inner().len();
    let packed = (input.at - packed_start) as u64;
    let contents = output.since(unpacked_start);
    let unpacked = contents.len() as u64;
    let differs = |stated: Option<u64>, found| stated.is_some_and(|stated| stated != found);
    if differs(header.packed, packed) || differs(header.unpacked, unpacked) {
        return Err(damaged("a block's size"));
    }
    if let Some(offset) = header.branches {
        x86::undo(contents, offset);
    }
    let unpadded = (input.at - start) as u64 + check.size();
    input.padding(start)?;
    check.verify(input, contents)?;
    Ok(Record { unpadded, unpacked })
}

struct BlockHeader {
    packed: Option<u64>,
    unpacked: Option<u64>,
    /// The x86 filter is used, with this start offset.
    branches: Option<u32>,
    /// Size of LZMA2's dictionary.
    dictionary: u32,
}

impl BlockHeader {
    fn read(input: &mut Input<'_>, start: usize, size: u8) -> Result<Self, UnpackError> {
        let len = usize::from(size) * 4;
        input.at = start;
        let covered = input.take(len)?;
        if input.word()? != checksum(covered) {
            return Err(damaged("block header"));
        }
        let mut fields = Input {
            data: covered,
            at: 1,
        };
        // What runs over the header's end is damage, not a truncated file.
        let header = Self::parse(&mut fields).map_err(|error| match error {
            UnpackError::Truncated(_) => damaged("block header"),
            other => other,
        })?;
        if fields.rest().iter().any(|&byte| byte != 0) {
            return Err(lacking("unknown block header fields"));
        }
        Ok(header)
    }

    fn parse(fields: &mut Input<'_>) -> Result<Self, UnpackError> {
        let flags = fields.byte()?;
        if flags & 0x3c != 0 {
            return Err(lacking("unknown block flags"));
        }
        let packed = (flags & 0x40 != 0).then(|| fields.number()).transpose()?;
        let unpacked = (flags & 0x80 != 0).then(|| fields.number()).transpose()?;
        let mut branches = None;
        let count = (flags & (MAX_FILTERS - 1)) + 1;
        for place in 1..=count {
            let (filter, len) = (fields.number()?, fields.number()?);
            let len = usize::try_from(len).map_err(|_| damaged("block header"))?;
            let properties = fields.take(len)?;
            match (filter, properties) {
                (FILTER_X86, []) if place < count && branches.is_none() => branches = Some(0),
                (FILTER_X86, [_, _, _, _]) if place < count && branches.is_none() => {
                    branches = u32_at(properties, 0);
                }
                (FILTER_LZMA2, [size]) if place == count => {
                    return Ok(Self {
                        packed,
                        unpacked,
                        branches,
                        dictionary: dictionary(*size)?,
                    });
                }
                _ => return Err(lacking("filters other than x86 branches and LZMA2")),
            }
        }
        Err(lacking("a chain of filters that does not end in LZMA2"))
    }
}

/// The size of the dictionary from its code: 2 or 3 times a power of two.
fn dictionary(code: u8) -> Result<u32, UnpackError> {
    match code {
        0..40 => Ok((2 | u32::from(code & 1)) << (code / 2 + 11)),
        40 => Ok(u32::MAX),
        _ => Err(damaged("dictionary size")),
    }
}

/// The index, whose first byte has been read: the same blocks must have been found.
fn index(input: &mut Input<'_>, start: usize, blocks: &[Record]) -> Result<(), UnpackError> {
    if input.number()? != blocks.len() as u64 {
        return Err(damaged("index"));
    }
    for block in blocks {
        let (unpadded, unpacked) = (input.number()?, input.number()?);
        if *block != (Record { unpadded, unpacked }) {
            return Err(damaged("index"));
        }
    }
    input.padding(start)?;
    let covered = input.data.get(start..input.at).ok_or(TRUNCATED)?;
    if input.word()? != checksum(covered) {
        return Err(damaged("index"));
    }
    Ok(())
}

fn footer(input: &mut Input<'_>, flags: [u8; 2], index_len: usize) -> Result<(), UnpackError> {
    let footer = input.take(STREAM_HEADER)?;
    let good = u32_at(footer, 0) == Some(checksum(&footer[4..10]))
        && u32_at(footer, 4).map(|size| (u64::from(size) + 1) * 4) == Some(index_len as u64)
        && footer[8..10] == flags
        && footer[10..] == *FOOTER_MAGIC;
    good.then_some(()).ok_or(damaged("stream footer"))
}

fn translate(error: Error) -> UnpackError {
    match error {
        Error::Eof => TRUNCATED,
        Error::OutOfMemory(_) => UnpackError::NoWorkingMemory(Method::Xz),
        Error::Unsupported(what) => lacking(what),
        Error::InvalidData(what) | Error::InvalidInput(what) | Error::Other(what) => damaged(what),
        Error::Interrupted | Error::WriteZero(_) => damaged("stream"),
    }
}

#[cfg(test)]
mod tests;
