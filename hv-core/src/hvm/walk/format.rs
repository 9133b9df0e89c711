//! The formats of page tables: where entries lie and what their bits mean.

use super::{PagingMode, cr0, cr4, efer, entry};

/// Bits 51..12: the most that an address in a 64-bit entry can have.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// A format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Tables {
    /// Two levels of 1024 entries of 32 bits.
    Narrow,
    /// Four entries above two levels of 512 entries of 64 bits.
    Pae,
    /// This many levels of 512 entries of 64 bits.
    Long(u32),
}

/// Bits `from` to `to`, both included; none if `to` is lower.
const fn bits(from: u32, to: u32) -> u64 {
    if to < from {
        return 0;
    }
    (!0 >> (63 - (to - from))) << from
}

impl Tables {
    /// The one in use; `None` without paging.
    pub(super) const fn of(mode: &PagingMode) -> Option<Self> {
        if mode.cr0 & cr0::PG == 0 {
            None
        } else if mode.cr4 & cr4::PAE == 0 {
            Some(Self::Narrow)
        } else if mode.efer & efer::LMA == 0 {
            Some(Self::Pae)
        } else if mode.cr4 & cr4::LA57 == 0 {
            Some(Self::Long(4))
        } else {
            Some(Self::Long(5))
        }
    }

    pub(super) const fn levels(self) -> u32 {
        match self {
            Self::Narrow => 2,
            Self::Pae => 3,
            Self::Long(levels) => levels,
        }
    }

    /// The address as far as it counts; `None` if it is not canonical.
    pub(super) const fn linear(self, va: u64) -> Option<u64> {
        let Self::Long(levels) = self else {
            return Some(va & 0xffff_ffff);
        };
        let unused = 64 - (12 + 9 * levels);
        if (va << unused) as i64 >> unused == va as i64 {
            Some(va)
        } else {
            None
        }
    }

    /// Address of the root table.
    pub(super) const fn root(self, mode: &PagingMode) -> u64 {
        match self {
            Self::Narrow => mode.cr3 & 0xffff_f000,
            Self::Pae => mode.cr3 & 0xffff_ffe0,
            Self::Long(_) => mode.cr3 & ADDRESS,
        }
    }

    /// log2 of what one entry of this level spans.
    pub(super) const fn shift(self, level: u32) -> u32 {
        match self {
            Self::Narrow => 12 + 10 * (level - 1),
            Self::Pae | Self::Long(_) => 12 + 9 * (level - 1),
        }
    }

    /// Where in its table the entry lies, in bytes.
    pub(super) const fn slot_offset(self, level: u32, va: u64) -> u64 {
        let index = va >> self.shift(level);
        match self {
            Self::Narrow => (index & 0x3ff) * 4,
            Self::Pae if level == 3 => (index & 3) * 8,
            Self::Pae | Self::Long(_) => (index & 0x1ff) * 8,
        }
    }

    /// An entry out of a word whose lowest bits it is.
    pub(super) const fn cut(self, word: u64) -> u64 {
        match self {
            Self::Narrow => word & 0xffff_ffff,
            Self::Pae | Self::Long(_) => word,
        }
    }

    /// Whether entries of this level have permissions and an accessed bit: all but the four on top of PAE.
    pub(super) const fn has_rights(self, level: u32) -> bool {
        !(matches!(self, Self::Pae) && level == 3)
    }

    /// Whether an entry maps a page at a level above the last.
    pub(super) const fn is_large(self, mode: &PagingMode, level: u32, value: u64) -> bool {
        let possible = match self {
            Self::Narrow => level == 2 && mode.cr4 & cr4::PSE != 0,
            Self::Pae => level == 2,
            Self::Long(_) => level == 2 || level == 3,
        };
        possible && value & entry::LARGE != 0
    }

    /// The bits that must be zero in a present entry.
    pub(super) const fn reserved(self, mode: &PagingMode, level: u32, value: u64) -> u64 {
        let width = address_bits(mode);
        let nx = if mode.efer & efer::NXE == 0 {
            entry::NX
        } else {
            0
        };
        let large = self.is_large(mode, level, value);
        // Address bits below the page's size; bit 12 of a large page is part of its memory type.
        let inside = if large {
            bits(13, self.shift(level) - 1)
        } else {
            0
        };
        match self {
            // Bits 20..13 are bits 39..32 of the address.
            Self::Narrow if large => bits(21, 21) | bits(13 + width - 32, 20),
            Self::Narrow => 0,
            Self::Pae if level == 3 => bits(1, 2) | bits(5, 8) | bits(width, 63),
            Self::Pae => bits(width, 62) | nx | inside,
            Self::Long(_) => {
                let no_page = match level {
                    1 | 2 => 0,
                    3 if mode.gigabyte_pages => 0,
                    _ => entry::LARGE,
                };
                bits(width, 51) | nx | inside | no_page
            }
        }
    }

    /// Address of the page that an entry maps, with bits inside a large page to be cleared.
    pub(super) const fn page(self, mode: &PagingMode, level: u32, value: u64) -> u64 {
        match self {
            Self::Narrow if self.is_large(mode, level, value) => {
                value & 0xffc0_0000 | (value >> 13 & 0xff) << 32
            }
            _ => self.below(mode, value),
        }
    }

    /// Address of the table that an entry points to.
    pub(super) const fn below(self, mode: &PagingMode, value: u64) -> u64 {
        match self {
            Self::Narrow => value & 0xffff_f000,
            Self::Pae | Self::Long(_) => value & bits(12, address_bits(mode) - 1),
        }
    }

    /// Protection key of an entry that maps a page.
    pub(super) const fn key(self, value: u64) -> Option<u32> {
        match self {
            Self::Long(_) => Some((value >> 59 & 15) as u32),
            Self::Narrow | Self::Pae => None,
        }
    }
}

/// Width of a physical address, within the bounds that formats have.
const fn address_bits(mode: &PagingMode) -> u32 {
    match mode.address_bits {
        0..=31 => 32,
        52.. => 52,
        width => width as u32,
    }
}
