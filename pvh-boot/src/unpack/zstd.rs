//! Zstandard (RFC 8878): frames one after the other, content checksums verified.

use alloc::vec::Vec;

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::io::Read;

use super::output::Output;
use super::xxh64::checksum;
use super::{Method, UnpackError};

/// Bytes to decode between two copies into the result: large enough that the copies are long.
const STEP: usize = 1 << 20;

const fn damaged(what: &'static str) -> UnpackError {
    UnpackError::Damaged(Method::Zstd, what)
}

/// Largest window that a frame may ask for, in bytes: what `zstd -22 --ultra` uses.
const WINDOW_LIMIT: usize = 128 << 20;

/// Unpacks all frames of `data`.
pub(super) fn decode(mut data: &[u8], output: &mut Output) -> Result<(), UnpackError> {
    check_working_memory(output.announced().unwrap_or(0))?;
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(WINDOW_LIMIT as u64);
    while !data.is_empty() {
        match decoder.reset(&mut data) {
            Ok(()) => decode_frame(&mut decoder, &mut data, output)?,
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                data = data
                    .get(length as usize..)
                    .ok_or(UnpackError::Truncated(Method::Zstd))?;
            }
            Err(error) => return Err(translate_header(&error)),
        }
    }
    Ok(())
}

/// Tries whether the decoder will find the memory it needs, because it panics where it does not:
/// its window holds the whole result or [`WINDOW_LIMIT`] bytes, grows in powers of two, and lives
/// beside its predecessor while it grows.
fn check_working_memory(size: usize) -> Result<(), UnpackError> {
    let window = size.min(WINDOW_LIMIT).next_power_of_two();
    let mut trial: Vec<u8> = Vec::new();
    trial
        .try_reserve_exact(window + window / 2)
        .map_err(|_| UnpackError::NoWorkingMemory(Method::Zstd))
}

/// Unpacks the frame whose header was just read, and its checksum if it has one.
fn decode_frame(
    decoder: &mut FrameDecoder,
    data: &mut &[u8],
    output: &mut Output,
) -> Result<(), UnpackError> {
    let start = output.filled();
    output.fill_from(|buffer| {
        loop {
            let read = decoder
                .read(buffer)
                .map_err(|_| damaged("decoder's buffer"))?;
            if read > 0 || decoder.is_finished() {
                return Ok(read);
            }
            decoder
                .decode_blocks(&mut *data, BlockDecodingStrategy::UptoBytes(STEP))
                .map_err(|error| translate_block(&error))?;
        }
    })?;
    let Some(stored) = decoder.get_checksum_from_data() else {
        return Ok(());
    };
    let frame = output.as_slice().get(start..).unwrap_or_default();
    // The frame stores the low half of the hash.
    if checksum(frame) as u32 == stored {
        Ok(())
    } else {
        Err(damaged("checksum"))
    }
}

fn translate_header(error: &FrameDecoderError) -> UnpackError {
    match error {
        FrameDecoderError::WindowSizeTooBig { .. } | FrameDecoderError::FrameHeaderError(_) => {
            UnpackError::Feature(Method::Zstd, "a window of more than 128 MiB")
        }
        FrameDecoderError::DictNotProvided { .. } => {
            UnpackError::Feature(Method::Zstd, "a dictionary")
        }
        _ => damaged("frame header"),
    }
}

fn translate_block(error: &FrameDecoderError) -> UnpackError {
    match error {
        FrameDecoderError::FailedToReadBlockHeader(_) => damaged("block header"),
        FrameDecoderError::FailedToReadChecksum(_) => UnpackError::Truncated(Method::Zstd),
        _ => damaged("block"),
    }
}
