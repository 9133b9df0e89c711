//! gzip (RFC 1952), inflated straight into the result.

use alloc::boxed::Box;
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

use super::crc32::checksum;
use super::output::Output;
use super::{Method, UnpackError};
use crate::fields::{u16_at, u32_at};

const HEADER_LEN: usize = 10;
const TRAILER_LEN: usize = 8;
const METHOD_DEFLATE: u8 = 8;
const FLAG_HEADER_CRC: u8 = 1 << 1;
const FLAG_EXTRA: u8 = 1 << 2;
const FLAG_NAME: u8 = 1 << 3;
const FLAG_COMMENT: u8 = 1 << 4;
const FLAGS_RESERVED: u8 = 0xe0;

const TRUNCATED: UnpackError = UnpackError::Truncated(Method::Gzip);

/// Unpacks one gzip member that fills `file`. Its trailer gives the size, so Linux adds no other.
pub(super) fn unpack(file: &[u8], limit: usize) -> Result<Vec<u8>, UnpackError> {
    let start = header_len(file)?;
    let end = file
        .len()
        .checked_sub(TRAILER_LEN)
        .filter(|&end| end >= start)
        .ok_or(TRUNCATED)?;
    let crc = u32_at(file, end).ok_or(TRUNCATED)?;
    let size = u32_at(file, end + 4).ok_or(TRUNCATED)? as usize;
    let deflated = file.get(start..end).ok_or(TRUNCATED)?;

    let mut output = Output::exact(size, limit)?;
    inflate(deflated, &mut output)?;
    let unpacked = output.finish()?;
    if checksum(&unpacked) != crc {
        return Err(UnpackError::Damaged(Method::Gzip, "checksum"));
    }
    Ok(unpacked)
}

/// Length of the member header with its optional fields.
fn header_len(file: &[u8]) -> Result<usize, UnpackError> {
    let header = file.get(..HEADER_LEN).ok_or(TRUNCATED)?;
    if header[2] != METHOD_DEFLATE {
        return Err(UnpackError::Feature(Method::Gzip, "an unknown method"));
    }
    let flags = header[3];
    if flags & FLAGS_RESERVED != 0 {
        return Err(UnpackError::Damaged(Method::Gzip, "reserved flags"));
    }
    let mut at = HEADER_LEN;
    if flags & FLAG_EXTRA != 0 {
        at += 2 + usize::from(u16_at(file, at).ok_or(TRUNCATED)?);
    }
    for text in [FLAG_NAME, FLAG_COMMENT] {
        if flags & text != 0 {
            let rest = file.get(at..).ok_or(TRUNCATED)?;
            at += 1 + rest.iter().position(|&byte| byte == 0).ok_or(TRUNCATED)?;
        }
    }
    if flags & FLAG_HEADER_CRC != 0 {
        at += 2;
    }
    Ok(at)
}

fn inflate(deflated: &[u8], output: &mut Output) -> Result<(), UnpackError> {
    let mut decoder = Box::<DecompressorOxide>::default();
    let size = output.announced().unwrap_or_default();
    // An empty result has no window to write to; one spare byte keeps the decoder's rules simple.
    let mut spare = [0u8; 1];
    let window = if size == 0 {
        &mut spare[..0]
    } else {
        output.window(size)?
    };
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) = decompress(&mut decoder, deflated, window, 0, flags);
    match status {
        TINFLStatus::Done if read == deflated.len() => {
            output.advance(written);
            Ok(())
        }
        TINFLStatus::Done => Err(UnpackError::Damaged(
            Method::Gzip,
            "something follows its end",
        )),
        TINFLStatus::HasMoreOutput => Err(output.overflow()),
        TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput => Err(TRUNCATED),
        _ => Err(UnpackError::Damaged(Method::Gzip, "deflate stream")),
    }
}
