use super::*;
use proptest::prelude::*;

/// The same text, compressed by gzip, xz (x86 filter, CRC32), zstd and lz4 -l.
const SAMPLES: [(Method, &[u8]); 4] = [
    (Method::Gzip, include_bytes!("../../tests/data/sample.gz")),
    (Method::Xz, include_bytes!("../../tests/data/sample.xz")),
    (Method::Zstd, include_bytes!("../../tests/data/sample.zst")),
    (
        Method::Lz4Legacy,
        include_bytes!("../../tests/data/sample.lz4"),
    ),
];

/// The text: lines with numbers and bytes that look like x86 calls to the filter.
fn text() -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0u32..1500 {
        text.extend_from_slice(format!("line {i}: ").as_bytes());
        text.extend_from_slice(&[0xe8, (i % 251) as u8, 0, 0, 0]);
        let number = u64::from(i) * u64::from(i) * 7919 % 104_729;
        text.extend_from_slice(format!(" and {number}\n").as_bytes());
    }
    text
}

fn plain(bytes: &[u8]) -> Payload<'_> {
    Payload {
        bytes,
        trailer: SizeTrailer::Absent,
    }
}

/// A sample as Linux would append its size; gzip's own trailer is that size.
fn with_size(method: Method, sample: &[u8], size: u32) -> Vec<u8> {
    let mut bytes = sample.to_vec();
    if method != Method::Gzip {
        bytes.extend_from_slice(&size.to_le_bytes());
    }
    bytes
}

fn sized(bytes: &[u8]) -> Payload<'_> {
    Payload {
        bytes,
        trailer: SizeTrailer::Present,
    }
}

#[test]
fn samples_unpack_with_and_without_a_size() {
    let text = text();
    for (method, sample) in SAMPLES {
        assert_eq!(Method::detect(sample), Some(method));
        assert_eq!(unpack(plain(sample), 1 << 20).unwrap(), text, "{method:?}");
        let bytes = with_size(method, sample, text.len() as u32);
        let exact = unpack(sized(&bytes), text.len()).unwrap();
        assert_eq!(exact, text, "{method:?} with size");
    }
}

#[test]
fn the_limit_holds() {
    let size = text().len();
    for (method, sample) in SAMPLES {
        let limit = size - 1;
        let too_large = Err(UnpackError::TooLarge { limit });
        assert_eq!(unpack(plain(sample), limit), too_large, "{method:?}");
        let bytes = with_size(method, sample, size as u32);
        assert_eq!(unpack(sized(&bytes), limit), too_large, "{method:?}");
    }
}

#[test]
fn a_wrong_size_is_noticed() {
    let size = text().len() as u32;
    for (method, sample) in SAMPLES.into_iter().skip(1) {
        for announced in [size - 1, size + 1, 0] {
            let bytes = with_size(method, sample, announced);
            let result = unpack(sized(&bytes), 1 << 20);
            assert!(
                matches!(result, Err(UnpackError::SizeMismatch { .. })),
                "{method:?} {announced}: {result:?}"
            );
        }
    }
}

#[test]
fn every_truncation_is_noticed() {
    let size = text().len() as u32;
    for (method, sample) in SAMPLES {
        for cut in (4..sample.len()).step_by(61).chain([sample.len() - 1]) {
            assert!(unpack(plain(&sample[..cut]), 1 << 20).is_err() || method == Method::Lz4Legacy);
            let bytes = with_size(method, &sample[..cut], size);
            assert!(unpack(sized(&bytes), 1 << 20).is_err(), "{method:?} {cut}");
        }
    }
}

#[test]
fn gzip_header_fields_are_skipped() {
    let (_, sample) = SAMPLES[0];
    let mut file = sample[..10].to_vec();
    file[3] = 0x1e;
    file.extend_from_slice(b"\x03\0abcname\0comment\0\x12\x34");
    file.extend_from_slice(&sample[10..]);
    assert_eq!(unpack(plain(&file), 1 << 20).unwrap(), text());
    file[3] |= 0x80;
    assert_eq!(
        unpack(plain(&file), 1 << 20).unwrap_err().to_string(),
        "gzip data is damaged (reserved flags)"
    );
}

#[test]
fn a_wrong_checksum_is_named() {
    let (_, gzip) = SAMPLES[0];
    let mut file = gzip.to_vec();
    let at = file.len() - 8;
    file[at] ^= 1;
    assert_eq!(
        unpack(plain(&file), 1 << 20).unwrap_err().to_string(),
        "gzip data is damaged (checksum)"
    );
    let (_, zstd) = SAMPLES[2];
    let mut file = zstd.to_vec();
    let at = file.len() - 1;
    file[at] ^= 1;
    assert_eq!(
        unpack(plain(&file), 1 << 20).unwrap_err().to_string(),
        "zstd data is damaged (checksum)"
    );
}

#[test]
fn unsupported_methods_are_refused_by_name() {
    for (start, name) in [
        (&b"BZh91AY"[..], "bzip2"),
        (&b"\x5d\x00\x00\x80"[..], "lzma"),
        (&b"\x89LZO"[..], "lzo"),
    ] {
        let said = unpack(plain(start), 1 << 20).unwrap_err().to_string();
        assert_eq!(
            said,
            format!("compressed with {name}, which is not supported: use gzip, xz, zstd or lz4 -l")
        );
    }
    assert_eq!(
        unpack(plain(b"ab"), 1 << 20).unwrap_err().to_string(),
        "neither an ELF file nor compressed in a known way (it starts with 61620000)"
    );
}

#[test]
fn an_elf_file_is_borrowed() {
    let elf = b"\x7fELF...";
    assert!(matches!(unpack(plain(elf), 0), Ok(Cow::Borrowed(_))));
}

proptest! {
    /// Damage is an error or, where the format has no checksum, other bytes; never a panic.
    #[test]
    fn damaged_data_never_panics(
        which in 0usize..4,
        flips in prop::collection::vec((0.0f64..1.0, 0u8..8), 1..4),
        near_start: bool,
        size_known: bool,
    ) {
        let (method, sample) = SAMPLES[which];
        let mut bytes = sample.to_vec();
        let reach = if near_start { 64 } else { bytes.len() };
        for (at, bit) in flips {
            bytes[(at * reach as f64) as usize] ^= 1 << bit;
        }
        let bytes = with_size(method, &bytes, text().len() as u32);
        let payload = if size_known { sized(&bytes) } else { plain(&bytes) };
        if let Ok(unpacked) = unpack(payload, 1 << 20) {
            prop_assert!(method == Method::Lz4Legacy || unpacked == text());
        }
    }

    #[test]
    fn rubbish_behind_a_magic_number_never_panics(
        which in 0usize..4,
        rubbish in prop::collection::vec(any::<u8>(), 0..300),
        size_known: bool,
    ) {
        let mut bytes = SAMPLES[which].1[..6].to_vec();
        bytes.extend_from_slice(&rubbish);
        let payload = if size_known { sized(&bytes) } else { plain(&bytes) };
        let _ = unpack(payload, 1 << 16);
    }
}
