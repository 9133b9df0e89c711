use std::vec::Vec;

use lzma_rust2::Read as _;
use lzma_rust2::filter::bcj::BcjReader;
use proptest::prelude::*;

use super::*;

/// The text of `unpack::tests` with the x86 filter and CRC-32, and in several blocks with their sizes, without it and
/// with CRC-64.
const FILTERED: &[u8] = include_bytes!("../../../tests/data/sample.xz");
const BLOCKS: &[u8] = include_bytes!("../../../tests/data/blocks.xz");

fn unpacked(data: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let mut output = Output::growing(1 << 16, 1 << 20)?;
    decode(data, &mut output)?;
    output.finish()
}

#[test]
fn blocks_and_streams_follow_each_other() {
    let text = unpacked(FILTERED).unwrap();
    assert_eq!(unpacked(BLOCKS).unwrap(), text);
    let twice = [FILTERED, &[0; 8], BLOCKS, &[0; 4]].concat();
    assert_eq!(unpacked(&twice).unwrap(), [&text[..], &text].concat());
    let cut = [FILTERED, &[0; 3]].concat();
    assert!(unpacked(&cut).is_err());
}

/// Every byte is covered by some check: a change is noticed, and never taken for a short file's end.
#[test]
fn every_changed_byte_is_noticed() {
    let text = unpacked(BLOCKS).unwrap();
    let end = BLOCKS.len();
    for at in (0..60)
        .chain((60..end - 80).step_by(37))
        .chain(end - 80..end)
    {
        let mut changed = BLOCKS.to_vec();
        changed[at] ^= 0x10;
        assert_ne!(unpacked(&changed), Ok(text.clone()), "byte {at}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let mut sha = FILTERED.to_vec();
    sha[7] = 10;
    let crc = checksum(&sha[6..8]);
    sha[8..12].copy_from_slice(&crc.to_le_bytes());
    let said = unpacked(&sha).unwrap_err().to_string();
    assert_eq!(said, "xz data uses a SHA-256 check, which is not supported");
    let mut filter = FILTERED.to_vec();
    // Block header: size, flags, then the filters; the ARM filter in place of x86's.
    assert_eq!(filter[14], FILTER_X86 as u8);
    filter[14] = 7;
    let len = usize::from(filter[12]) * 4;
    let crc = checksum(&filter[12..12 + len]);
    filter[12 + len..16 + len].copy_from_slice(&crc.to_le_bytes());
    let said = unpacked(&filter).unwrap_err().to_string();
    let expected = "xz data uses filters other than x86 branches and LZMA2, which is not supported";
    assert_eq!(said, expected);
}

#[test]
fn known_crc64() {
    assert_eq!(crc64::checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
}

fn library(bytes: &[u8], offset: u32) -> Vec<u8> {
    let mut filtered = vec![0; bytes.len()];
    let mut reader = BcjReader::new_x86(bytes, offset as usize);
    reader.read_exact(&mut filtered).unwrap();
    filtered
}

proptest! {
    /// Bytes that are often opcodes, signs or neither, as the library's filter leaves them.
    #[test]
    fn branches_are_those_of_the_library(
        bytes in prop::collection::vec(
            prop_oneof![Just(0xe8u8), Just(0xe9), Just(0), Just(0xff), any::<u8>()], 0..200),
        offset in prop_oneof![Just(0u32), any::<u32>()],
    ) {
        let mut ours = bytes.clone();
        x86::undo(&mut ours, offset);
        prop_assert_eq!(ours, library(&bytes, offset));
    }
}
