//! xz, with the filters that kernel builds use (x86 branches, LZMA2).

use lzma_rust2::{Error, Read, XzReader};

use super::output::Output;
use super::{Method, UnpackError};

/// Unpacks all streams of `data`; block checks are verified.
pub(super) fn decode(data: &[u8], output: &mut Output) -> Result<(), UnpackError> {
    let mut reader = XzReader::new(data, true);
    output.fill_from(|buffer| reader.read(buffer).map_err(translate))
}

fn translate(error: Error) -> UnpackError {
    match error {
        Error::Eof => UnpackError::Truncated(Method::Xz),
        Error::OutOfMemory(_) => UnpackError::NoWorkingMemory(Method::Xz),
        Error::Unsupported(what) => UnpackError::Feature(Method::Xz, what),
        Error::InvalidData(what) | Error::InvalidInput(what) | Error::Other(what) => {
            UnpackError::Damaged(Method::Xz, what)
        }
        Error::Interrupted | Error::WriteZero(_) => UnpackError::Damaged(Method::Xz, "stream"),
    }
}
