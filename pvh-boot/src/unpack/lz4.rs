//! lz4's legacy frame (lz4 frame format, "Legacy frame"): a magic number, then blocks that each
//! start with their compressed size and unpack to 8 MiB, the last one to less.

use lz4_flex::block::{DecompressError, decompress_into};

use super::output::Output;
use super::{Method, UnpackError};
use crate::fields::{slice_at, u32_at};

const MAGIC: u32 = 0x184c_2102;
const WORD: usize = 4;
/// Most bytes a block unpacks to.
const BLOCK_SIZE: usize = 8 << 20;

const TRUNCATED: UnpackError = UnpackError::Truncated(Method::Lz4Legacy);

/// Unpacks the frame, and frames that follow it.
pub(super) fn decode(data: &[u8], output: &mut Output) -> Result<(), UnpackError> {
    let mut at = WORD;
    while at < data.len() {
        let word = u32_at(data, at).ok_or(TRUNCATED)?;
        at += WORD;
        if word == MAGIC {
            continue;
        }
        let block = slice_at(data, at as u64, u64::from(word)).ok_or(TRUNCATED)?;
        at += block.len();
        let written = match decompress_into(block, output.window(BLOCK_SIZE)?) {
            Ok(written) => written,
            Err(error) => return Err(translate(&error, output)),
        };
        output.advance(written);
    }
    Ok(())
}

fn translate(error: &DecompressError, output: &Output) -> UnpackError {
    match error {
        DecompressError::OutputTooSmall { .. } if output.is_near_end(BLOCK_SIZE) => {
            output.overflow()
        }
        _ => UnpackError::Damaged(Method::Lz4Legacy, "block"),
    }
}
