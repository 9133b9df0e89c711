//! Two things in the address space of a 32-bit caller that the caller does not have.

use core::ops::Range;

use xen_abi::errno::Errno;

/// Where the handler finds the structure. No 32-bit caller can name an address as high.
pub(super) const STRUCTURE: u64 = 1 << 48;
/// Where it finds the array.
pub(super) const ARRAY: u64 = 1 << 56;
/// Elements that fit into a 32-bit address space.
const ELEMENTS: u64 = 1 << 30;

/// Room for any of the structures.
pub(super) type Structure = [u8; 40];

/// What lies over the caller's memory: a structure of ours at [`STRUCTURE`], and at [`ARRAY`] words of the caller's as
/// 64-bit words. The host asks it at each copy while it has one ([`crate::hypercall::Host::lay_over`]).
pub struct Overlay {
    structure: Structure,
    /// Where the caller has the words.
    array: Option<u32>,
}

impl Overlay {
    /// Shows of the structure as much as there is room for.
    pub(super) fn new(structure: &[u8], array: Option<u32>) -> Self {
        let mut kept: Structure = [0; _];
        for (to, from) in kept.iter_mut().zip(structure) {
            *to = *from;
        }
        Self {
            structure: kept,
            array,
        }
    }

    /// The structure as it is now.
    pub(super) const fn structure(&self) -> &Structure {
        &self.structure
    }

    /// Copies from what is shown here; all else `below` copies, from the caller's own memory.
    ///
    /// # Errors
    /// `EFAULT`, and those of `below`.
    pub fn copy_in(
        &self,
        to: &mut [u8],
        from: u64,
        below: impl Fn(&mut [u8], u64) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if let Some(place) = self.in_array(from, to.len()) {
            for (word, at) in to.chunks_exact_mut(8).zip((place?..).step_by(4)) {
                let mut narrow = [0; 4];
                below(&mut narrow, at)?;
                word.copy_from_slice(&u64::from(u32::from_le_bytes(narrow)).to_le_bytes());
            }
            return Ok(());
        }
        if from >= STRUCTURE {
            let shown = in_structure(from, to.len()).and_then(|range| self.structure.get(range));
            to.copy_from_slice(shown.ok_or(Errno::EFAULT)?);
            return Ok(());
        }
        below(to, from)
    }

    /// Copies to what is shown here; all else `below` copies, to the caller's own memory.
    ///
    /// # Errors
    /// `EFAULT`, also for a word that has no 32 bits; and those of `below`.
    pub fn copy_out(
        &mut self,
        to: u64,
        from: &[u8],
        below: impl Fn(u64, &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if let Some(place) = self.in_array(to, from.len()) {
            for (word, at) in from.chunks_exact(8).zip((place?..).step_by(4)) {
                let wide = word.try_into().map_err(|_| Errno::EFAULT)?;
                let narrow = narrowed(u64::from_le_bytes(wide)).ok_or(Errno::EFAULT)?;
                below(at, &narrow.to_le_bytes())?;
            }
            return Ok(());
        }
        if to >= STRUCTURE {
            let range = in_structure(to, from.len());
            let shown = range.and_then(|range| self.structure.get_mut(range));
            shown.ok_or(Errno::EFAULT)?.copy_from_slice(from);
            return Ok(());
        }
        below(to, from)
    }

    /// The caller's address of the first word that an access to the array means, which is of whole
    /// elements; `None`: not in the array.
    fn in_array(&self, at: u64, length: usize) -> Option<Result<u64, Errno>> {
        let offset = at.checked_sub(ARRAY)?;
        let place = || {
            let (index, count) = (offset / 8, length as u64 / 8);
            let whole = offset.is_multiple_of(8) && length.is_multiple_of(8);
            let base = u64::from(self.array?);
            let end = base + (index.checked_add(count)?.min(ELEMENTS) * 4);
            (whole && index + count <= ELEMENTS && end <= 1 << 32).then_some(base + index * 4)
        };
        Some(place().ok_or(Errno::EFAULT))
    }
}

/// A word in 32 bits. All ones, which is the number of no frame, is that in any width.
fn narrowed(word: u64) -> Option<u32> {
    match word {
        u64::MAX => Some(u32::MAX),
        _ => u32::try_from(word).ok(),
    }
}

/// Which bytes of the structure an access means, if they are there.
fn in_structure(at: u64, length: usize) -> Option<Range<usize>> {
    let start = usize::try_from(at.checked_sub(STRUCTURE)?).ok()?;
    Some(start..start.checked_add(length)?)
}
