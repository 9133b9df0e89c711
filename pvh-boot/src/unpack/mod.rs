//! Decompressing a kernel payload into memory from the global allocator.
//!
//! The unpacked size is known beforehand wherever the format or Linux's size trailer tells it, so
//! the result is allocated once; it never exceeds the caller's limit. What a decoder needs beside
//! the result: gzip 11 KiB, lz4 nothing, xz up to one and a half times its dictionary, zstd up to
//! three times its window or the result, whichever is smaller.

use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;

use crate::bzimage::{Payload, SizeTrailer};
use crate::fields::u32_at;

mod crc32;
mod gzip;
mod lz4;
mod output;
mod xxh64;
mod xz;
mod zstd;

use output::Output;

/// A way to compress a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not compressed: an ELF file.
    Plain,
    /// gzip (RFC 1952).
    Gzip,
    /// xz, with or without the x86 branch filter.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
    /// lz4's legacy frame, as `lz4 -l` and the Linux build write it.
    Lz4Legacy,
    /// lz4's current frame; recognised only to be refused.
    Lz4Frame,
    /// bzip2; recognised only to be refused.
    Bzip2,
    /// The bare lzma format; recognised only to be refused.
    Lzma,
    /// lzop; recognised only to be refused.
    Lzo,
}

/// The first bytes that tell a method.
const MAGICS: [(&[u8], Method); 9] = [
    (b"\x7fELF", Method::Plain),
    (b"\x1f\x8b", Method::Gzip),
    (b"\xfd7zXZ\0", Method::Xz),
    (b"\x28\xb5\x2f\xfd", Method::Zstd),
    (b"\x02\x21\x4c\x18", Method::Lz4Legacy),
    (b"\x04\x22\x4d\x18", Method::Lz4Frame),
    (b"BZh", Method::Bzip2),
    (b"\x5d\x00\x00", Method::Lzma),
    (b"\x89LZO", Method::Lzo),
];

impl Method {
    /// Recognises the method by the payload's first bytes.
    #[must_use]
    pub fn detect(payload: &[u8]) -> Option<Self> {
        let known = MAGICS
            .iter()
            .find(|(magic, _)| payload.starts_with(magic))?;
        Some(known.1)
    }

    /// The name that messages use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain ELF",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4Legacy => "lz4",
            Self::Lz4Frame => "lz4's frame format (not the legacy one of lz4 -l)",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lzo => "lzo",
        }
    }
}

/// Why a payload could not be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpackError {
    /// Neither an ELF file nor any compression known; the first four bytes, big-endian.
    Unknown(u32),
    /// A compression that is known but not supported.
    Unsupported(Method),
    /// The compressed data is wrong.
    Damaged(Method, &'static str),
    /// The compressed data ends too early.
    Truncated(Method),
    /// The data is compressed in a way this decoder does not implement.
    Feature(Method, &'static str),
    /// The data unpacks to another size than the file announces.
    SizeMismatch {
        /// Bytes announced.
        announced: usize,
        /// Bytes found; for data longer than announced, where unpacking stopped.
        found: usize,
    },
    /// The result would exceed the caller's limit.
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// No memory for a result of so many bytes.
    OutOfMemory(usize),
    /// No memory for what the decoder itself needs.
    NoWorkingMemory(Method),
}

impl fmt::Display for UnpackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(magic) => write!(
                f,
                "neither an ELF file nor compressed in a known way (it starts with {magic:08x})"
            ),
            Self::Unsupported(method) => write!(
                f,
                "compressed with {}, which is not supported: use gzip, xz, zstd or lz4 -l",
                method.name()
            ),
            Self::Damaged(method, what) => {
                write!(f, "{} data is damaged ({what})", method.name())
            }
            Self::Truncated(method) => write!(f, "{} data is cut short", method.name()),
            Self::Feature(method, what) => {
                write!(
                    f,
                    "{} data uses {what}, which is not supported",
                    method.name()
                )
            }
            Self::SizeMismatch { announced, found } if found >= announced => {
                write!(f, "it unpacks to more than the {announced} bytes announced")
            }
            Self::SizeMismatch { announced, found } => {
                write!(
                    f,
                    "it unpacks to {found} bytes, not the {announced} announced"
                )
            }
            Self::TooLarge { limit } => {
                write!(f, "it unpacks to more than the {limit} bytes allowed")
            }
            Self::OutOfMemory(bytes) => {
                write!(f, "no memory to unpack it to {bytes} bytes")
            }
            Self::NoWorkingMemory(method) => {
                write!(
                    f,
                    "no memory for the dictionary of the {} decoder",
                    method.name()
                )
            }
        }
    }
}

impl core::error::Error for UnpackError {}

/// Unpacks a payload; one that is not compressed is borrowed.
///
/// # Errors
/// The compression is unknown or unsupported, the data is damaged, the result does not have the
/// announced size or exceeds `limit` bytes, or memory runs out.
pub fn unpack(payload: Payload<'_>, limit: usize) -> Result<Cow<'_, [u8]>, UnpackError> {
    let method = Method::detect(payload.bytes).ok_or_else(|| unknown(payload.bytes))?;
    match method {
        Method::Plain => Ok(Cow::Borrowed(payload.bytes)),
        Method::Gzip => gzip::unpack(payload.bytes, limit).map(Cow::Owned),
        Method::Xz => decode(payload, method, limit, xz::decode),
        Method::Zstd => decode(payload, method, limit, zstd::decode),
        Method::Lz4Legacy => decode(payload, method, limit, lz4::decode),
        Method::Lz4Frame | Method::Bzip2 | Method::Lzma | Method::Lzo => {
            Err(UnpackError::Unsupported(method))
        }
    }
}

fn unknown(payload: &[u8]) -> UnpackError {
    let mut first = [0; 4];
    for (to, from) in first.iter_mut().zip(payload) {
        *to = *from;
    }
    UnpackError::Unknown(u32::from_be_bytes(first))
}

/// Separates Linux's size trailer from the data and runs one decoder over the rest.
fn decode<'a>(
    payload: Payload<'a>,
    method: Method,
    limit: usize,
    decoder: fn(&[u8], &mut Output) -> Result<(), UnpackError>,
) -> Result<Cow<'a, [u8]>, UnpackError> {
    let (data, mut output) = match payload.trailer {
        SizeTrailer::Absent => (
            payload.bytes,
            Output::growing(payload.bytes.len().saturating_mul(4), limit)?,
        ),
        SizeTrailer::Present => {
            let split = payload.bytes.len().saturating_sub(4);
            let size = u32_at(payload.bytes, split).ok_or(UnpackError::Truncated(method))?;
            (
                payload.bytes.get(..split).unwrap_or_default(),
                Output::exact(size as usize, limit)?,
            )
        }
    };
    decoder(data, &mut output)?;
    let unpacked: Vec<u8> = output.finish()?;
    Ok(Cow::Owned(unpacked))
}

#[cfg(test)]
mod tests;
