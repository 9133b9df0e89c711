use super::*;
use proptest::prelude::*;

fn plain(bytes: &[u8]) -> Payload<'_> {
    Payload {
        bytes,
        trailer: SizeTrailer::Absent,
    }
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
