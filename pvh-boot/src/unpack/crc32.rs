//! CRC-32 as gzip uses it (polynomial 0xedb88320, reflected), eight bytes at a time.

const POLYNOMIAL: u32 = 0xedb8_8320;

/// `TABLES[k][b]`: the effect of byte `b` with `k` more bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0u32; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut byte = 0;
    while byte < 256 {
        let mut k = 1;
        while k < 8 {
            let before = tables[k - 1][byte];
            tables[k][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            k += 1;
        }
        byte += 1;
    }
    tables
}

/// The CRC-32 of `bytes`.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        let mut next = 0;
        for (i, &byte) in word.iter().enumerate() {
            let mixed = if i < 4 {
                byte ^ (crc >> (8 * i)) as u8
            } else {
                byte
            };
            next ^= TABLES[7 - i][usize::from(mixed)];
        }
        crc = next;
    }
    for &byte in words.remainder() {
        crc = (crc >> 8) ^ TABLES[0][usize::from(byte ^ crc as u8)];
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::checksum;

    #[test]
    fn known_values() {
        assert_eq!(checksum(b""), 0);
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(
            checksum(b"The quick brown fox jumps over the lazy dog"),
            0x414f_a339
        );
    }
}
