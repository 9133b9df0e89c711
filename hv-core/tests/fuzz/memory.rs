//! Physical memory in a file: pieces of a machine's, as it was when a loader had entered the image.
//!
//! The file: a magic number, the number of pieces, and the address of the structure (u32, u32, u64); then
//! address and length (u64 each) of each piece; then the pieces. Little-endian.

use hv_core::base::PhysAddr;
use hv_core::boot::PhysMem;

/// Most pieces that are looked at.
const MOST: usize = 24;

/// The file, read.
pub struct Memory<'a> {
    /// What the loader left in its register; 0 for no loader.
    pub magic: u32,
    /// Where the structure in question is.
    pub at: u64,
    pieces: Vec<(u64, &'a [u8])>,
}

impl<'a> Memory<'a> {
    /// Reads as much as there is; pieces that are cut short are short.
    pub fn read(file: &'a [u8]) -> Option<Self> {
        let word = |at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let first = word(0)?;
        let count = ((first >> 32) as usize).min(MOST);
        let mut rest = file.get(16 + count * 16..)?;
        let mut pieces = Vec::new();
        for index in 0..count {
            let (base, len) = (word(16 + index * 16)?, word(24 + index * 16)?);
            let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (piece, behind) = rest.split_at(len);
            pieces.push((base, piece));
            rest = behind;
        }
        Some(Self {
            magic: first as u32,
            at: word(8)?,
            pieces,
        })
    }

    /// The first piece.
    pub fn first(&self) -> &'a [u8] {
        self.pieces.first().map_or(&[], |piece| piece.1)
    }
}

/// Sets the checksums of the ACPI tables in a file right, where their lengths allow it.
pub fn seal_tables(file: &mut [u8]) {
    let word = |file: &[u8], at: usize| Some(u64::from_le_bytes(*file.get(at..)?.first_chunk()?));
    let count = ((word(file, 0).unwrap_or(0) >> 32) as usize).min(MOST);
    let mut at = 16 + count * 16;
    for index in 0..count {
        let len = word(file, 24 + index * 16).unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let end = at.saturating_add(len).min(file.len());
        let Some(piece) = file.get_mut(at..end) else {
            return;
        };
        at = end;
        // ACPI, "Root System Description Pointer" and "System Description Table Header".
        let (checksum, sealed) = if piece.starts_with(b"RSD PTR ") {
            (8, 20)
        } else if piece.starts_with(b"FACS") {
            continue;
        } else {
            (9, word(piece, 4).unwrap_or(0) as u32 as usize)
        };
        if let Some(bytes) = piece.get_mut(..sealed)
            && checksum < sealed
        {
            let sum = bytes.iter().fold(0_u8, |sum, &byte| sum.wrapping_add(byte));
            bytes[checksum] = bytes[checksum].wrapping_sub(sum);
        }
    }
}

impl PhysMem for Memory<'_> {
    fn read(&self, addr: PhysAddr, len: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(base, piece)| {
            let at = usize::try_from(addr.0.checked_sub(*base)?).ok()?;
            piece.get(at..at.checked_add(len)?)
        })
    }
}
