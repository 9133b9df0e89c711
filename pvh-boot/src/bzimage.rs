//! The Linux x86 boot image: where its payload is.
//!
//! Field offsets are those of the kernel's documented boot protocol
//! (Documentation/arch/x86/boot.rst); only the payload fields of protocol 2.08 and later are used.

use core::fmt;

use crate::fields::{slice_at, u16_at, u32_at};

const SECTOR: u64 = 512;
const SETUP_SECTS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const BOOT_FLAG_VALUE: u16 = 0xaa55;
const HEADER_MAGIC: usize = 0x202;
const HEADER_MAGIC_VALUE: u32 = u32::from_le_bytes(*b"HdrS");
const PROTOCOL: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol with the payload fields.
const PROTOCOL_WITH_PAYLOAD: u16 = 0x208;
/// What `setup_sects` = 0 stands for.
const SETUP_SECTS_DEFAULT: u64 = 4;

/// Whether the four bytes after the compressed data give its unpacked size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SizeTrailer {
    /// They do, as in the payload of a Linux boot image.
    Present,
    /// A plain file: nothing follows the data.
    Absent,
}

/// The bytes that hold the kernel's ELF file, compressed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The payload itself.
    pub bytes: &'a [u8],
    /// Whether its last four bytes are its unpacked size.
    pub trailer: SizeTrailer,
}

/// Why a boot image has no usable payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BzImageError {
    /// The file is empty.
    Empty,
    /// The boot protocol is too old to say where the payload is.
    OldProtocol(u16),
    /// The headers name no payload.
    NoPayload,
    /// The payload would lie beyond the end of the file.
    Truncated {
        /// First byte after the payload, as the headers say.
        needed: u64,
        /// Length of the file in bytes.
        present: u64,
    },
}

impl fmt::Display for BzImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the file is empty"),
            Self::OldProtocol(version) => write!(
                f,
                "its Linux boot protocol is {}.{:02}, but 2.08 or later is needed",
                version >> 8,
                version & 0xff
            ),
            Self::NoPayload => write!(f, "its Linux boot header names no payload"),
            Self::Truncated { needed, present } => write!(
                f,
                "the boot image is cut short: it needs {needed} bytes and has {present}"
            ),
        }
    }
}

impl core::error::Error for BzImageError {}

/// Finds the payload of a boot image; any other file is its own payload.
///
/// # Errors
/// The file is empty, or it is a Linux boot image whose payload cannot be found in it.
pub fn find_payload(file: &[u8]) -> Result<Payload<'_>, BzImageError> {
    if file.is_empty() {
        return Err(BzImageError::Empty);
    }
    if !is_boot_image(file) {
        return Ok(Payload {
            bytes: file,
            trailer: SizeTrailer::Absent,
        });
    }
    let truncated = |needed: u64| BzImageError::Truncated {
        needed,
        present: file.len() as u64,
    };
    let header_end = truncated(PAYLOAD_LENGTH as u64 + 4);
    let protocol = u16_at(file, PROTOCOL).ok_or(header_end)?;
    if protocol < PROTOCOL_WITH_PAYLOAD {
        return Err(BzImageError::OldProtocol(protocol));
    }
    let setup_sects = match file.get(SETUP_SECTS).copied().ok_or(header_end)? {
        0 => SETUP_SECTS_DEFAULT,
        n => u64::from(n),
    };
    let offset = u64::from(u32_at(file, PAYLOAD_OFFSET).ok_or(header_end)?);
    let length = u64::from(u32_at(file, PAYLOAD_LENGTH).ok_or(header_end)?);
    if length == 0 {
        return Err(BzImageError::NoPayload);
    }
    // One more sector than `setup_sects`: the legacy boot sector is not counted.
    let start = (setup_sects + 1) * SECTOR + offset;
    let bytes = slice_at(file, start, length).ok_or(truncated(start + length))?;
    Ok(Payload {
        bytes,
        trailer: SizeTrailer::Present,
    })
}

/// Whether the file carries the boot sector's and the setup header's magic numbers.
fn is_boot_image(file: &[u8]) -> bool {
    u16_at(file, BOOT_FLAG) == Some(BOOT_FLAG_VALUE)
        && u32_at(file, HEADER_MAGIC) == Some(HEADER_MAGIC_VALUE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A boot image with one setup sector and `payload` behind it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0u8; 1024];
        file[SETUP_SECTS] = 1;
        file[BOOT_FLAG..][..2].copy_from_slice(&BOOT_FLAG_VALUE.to_le_bytes());
        file[HEADER_MAGIC..][..4].copy_from_slice(b"HdrS");
        file[PROTOCOL..][..2].copy_from_slice(&0x20fu16.to_le_bytes());
        file[PAYLOAD_LENGTH..][..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file.extend_from_slice(payload);
        file
    }

    #[test]
    fn payload_of_a_boot_image_is_found() {
        let file = image(b"payload");
        let payload = find_payload(&file).unwrap();
        assert_eq!(payload.bytes, b"payload");
        assert_eq!(payload.trailer, SizeTrailer::Present);
    }

    #[test]
    fn zero_setup_sectors_mean_four() {
        let mut file = image(b"");
        file[SETUP_SECTS] = 0;
        file[PAYLOAD_LENGTH] = 3;
        file.resize(5 * 512, 0);
        file.extend_from_slice(b"abc");
        assert_eq!(find_payload(&file).unwrap().bytes, b"abc");
    }

    #[test]
    fn other_files_pass_through() {
        let payload = find_payload(b"\x7fELF").unwrap();
        assert_eq!(payload.bytes, b"\x7fELF");
        assert_eq!(payload.trailer, SizeTrailer::Absent);
        assert_eq!(find_payload(b""), Err(BzImageError::Empty));
    }

    #[test]
    fn old_protocol_and_short_file_are_refused_in_words() {
        let mut file = image(b"payload");
        file[PROTOCOL] = 7;
        file[PROTOCOL + 1] = 2;
        assert_eq!(
            find_payload(&file).unwrap_err().to_string(),
            "its Linux boot protocol is 2.07, but 2.08 or later is needed"
        );
        let file = image(b"payload");
        assert_eq!(
            find_payload(&file[..1030]).unwrap_err().to_string(),
            "the boot image is cut short: it needs 1031 bytes and has 1030"
        );
        assert_eq!(find_payload(&image(b"")), Err(BzImageError::NoPayload));
    }

    proptest! {
        #[test]
        fn damaged_headers_never_panic(
            cut in 0usize..1100, at in 0usize..0x260, value: u8
        ) {
            let mut file = image(b"payload");
            file[at] = value;
            file.truncate(cut);
            let _ = find_payload(&file);
        }
    }
}
