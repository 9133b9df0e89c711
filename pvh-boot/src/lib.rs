//! Loading a guest kernel: from the file a boot loader hands over to a domain ready to run.
//!
//! The steps, each a module and each usable alone:
//!
//! 1. [`bzimage`] finds the compressed payload in a Linux boot image (a bare ELF passes through).
//! 2. [`unpack`] decompresses it: gzip, xz, zstd or lz4.
//! 3. [`elf`] checks the ELF file and reads its Xen notes.
//! 4. [`pv`] plans and writes the start of day of a 64-bit PV domain.
//!
//! Nothing here touches the machine: input is byte slices, output goes through
//! [`pv::DomainMemory`]. The input is not trusted: damage is an error in words, never a panic.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::borrow::Cow;
use core::fmt;

pub mod bzimage;
pub mod elf;
pub mod pv;
pub mod unpack;

mod fields;

/// Why a file does not become an ELF kernel in memory. Displayed in words, without a subject:
/// print it as `"dom0 kernel: {error}"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnwrapError {
    /// The boot image's own headers are wrong.
    BzImage(bzimage::BzImageError),
    /// The payload cannot be decompressed.
    Unpack(unpack::UnpackError),
}

impl fmt::Display for UnwrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BzImage(error) => error.fmt(f),
            Self::Unpack(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for UnwrapError {}

impl From<bzimage::BzImageError> for UnwrapError {
    fn from(error: bzimage::BzImageError) -> Self {
        Self::BzImage(error)
    }
}

impl From<unpack::UnpackError> for UnwrapError {
    fn from(error: unpack::UnpackError) -> Self {
        Self::Unpack(error)
    }
}

/// Turns a kernel file (bzImage, compressed ELF or plain ELF) into the bytes of its ELF file.
///
/// A file that is not compressed is borrowed, not copied. `limit` is the most bytes that the
/// unpacked kernel may take.
///
/// # Errors
/// See [`bzimage::find_payload`] and [`unpack::unpack`].
pub fn unwrap_kernel(file: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, UnwrapError> {
    let payload = bzimage::find_payload(file)?;
    Ok(unpack::unpack(payload, limit)?)
}
