//! The x86-64 page-table entry as PV guests may write it (AMD APM vol. 2, 5.3; Intel SDM vol. 3, 4.5).
//!
//! A PV guest writes real entries with machine frame numbers. This module says which bits it may set at
//! each level and how a present entry is adjusted before the processor sees it:
//! - every present entry gets `USER`, because a 64-bit PV kernel runs at CPL 3;
//! - an L1 entry that came without `USER` is a mapping of the guest's kernel: software bit 52
//!   remembers that, and such an entry is never global;
//! - the other L1 entries are the guest's user mappings: they become global, so that a switch between
//!   the guest's kernel and user roots keeps them in the TLB (not everywhere, see [`Globals`]).
//!
//! Entries that are not present are the guest's own business and are stored as they come.

use crate::base::Mfn;

/// Entries in a table of any level.
pub const ENTRIES: usize = 512;
/// First L4 slot that belongs to the hypervisor (ABI: ffff8000'00000000).
pub const HYPERVISOR_SLOT_FIRST: usize = 256;
/// Number of L4 slots that belong to the hypervisor (up to ffff87ff'ffffffff).
pub const HYPERVISOR_SLOTS: usize = 16;

/// Whether an L4 slot belongs to the hypervisor.
#[must_use]
pub const fn is_hypervisor_slot(slot: usize) -> bool {
    slot >= HYPERVISOR_SLOT_FIRST && slot < HYPERVISOR_SLOT_FIRST + HYPERVISOR_SLOTS
}

/// Level of a page table; L4 is the root.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// Maps 4 KiB pages.
    L1 = 1,
    /// Points to L1 tables.
    L2 = 2,
    /// Points to L2 tables.
    L3 = 3,
    /// The root: points to L3 tables.
    L4 = 4,
}

impl Level {
    /// The level that entries of this one point to; `None` for L1, which maps pages.
    #[must_use]
    pub const fn below(self) -> Option<Self> {
        match self {
            Self::L1 => None,
            Self::L2 => Some(Self::L1),
            Self::L3 => Some(Self::L2),
            Self::L4 => Some(Self::L3),
        }
    }

    /// Index of the entry for a linear address in a table of this level.
    #[must_use]
    pub const fn slot(self, va: u64) -> usize {
        ((va >> (12 + 9 * (self as u32 - 1))) & 0x1ff) as usize
    }
}

/// Whether guest-user mappings become global.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Globals {
    /// User mappings stay in the TLB over a switch of the guest's roots.
    UserMappings,
    /// Nothing of the guest's is global (XPTI; where dropping global entries is dear).
    Nothing,
}

/// A page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Pte(pub u64);

impl core::fmt::Debug for Pte {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl Pte {
    /// Bit 0: the entry is in use.
    pub const PRESENT: u64 = 1 << 0;
    /// Bit 1: writes allowed.
    pub const RW: u64 = 1 << 1;
    /// Bit 2: usable at CPL 3.
    pub const USER: u64 = 1 << 2;
    /// Bit 5: set by the processor on use.
    pub const ACCESSED: u64 = 1 << 5;
    /// Bit 6: set by the processor on a write.
    pub const DIRTY: u64 = 1 << 6;
    /// Bit 8: survives a CR3 load.
    pub const GLOBAL: u64 = 1 << 8;
    /// Bit 52: one of the software bits; the guest's kernel owns this mapping.
    pub const GUEST_KERNEL: u64 = 1 << 52;
    /// Bit 63: no instruction fetch.
    pub const NX: u64 = 1 << 63;
    /// Bits 3 (PWT), 4 (PCD) and, in an L1 entry, 7 (PAT): the memory type. Zero is write-back.
    pub const CACHE: u64 = 1 << 3 | 1 << 4 | 1 << 7;
    /// Bits 51..12: the frame number.
    pub const MFN: u64 = 0x000f_ffff_ffff_f000;

    /// Bits 11..9 and 62..52, which the processor ignores.
    const SOFTWARE: u64 = 7 << 9 | 0x7ff << 52;
    const ALLOWED_UPPER: u64 = Self::PRESENT
        | Self::RW
        | Self::USER
        | Self::ACCESSED
        | Self::DIRTY
        | Self::SOFTWARE
        | Self::MFN
        | Self::NX;
    const ALLOWED_L1: u64 = Self::ALLOWED_UPPER | Self::GLOBAL | Self::CACHE;
    /// What decides the references that an L1 entry holds, and the memory type that was checked.
    const IDENTITY_L1: u64 = Self::PRESENT | Self::RW | Self::MFN | Self::CACHE;

    /// An entry for `mfn` with these flags.
    #[must_use]
    pub const fn new(mfn: Mfn, flags: u64) -> Self {
        Self((mfn.0 << 12) & Self::MFN | flags)
    }

    /// Whether the processor may use the entry.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    /// Whether the entry allows writes (also read when it is not present).
    #[must_use]
    pub const fn is_writable(self) -> bool {
        self.0 & Self::RW != 0
    }

    /// The frame that the entry names.
    #[must_use]
    pub const fn mfn(self) -> Mfn {
        Mfn((self.0 & Self::MFN) >> 12)
    }

    /// Whether the entry asks for a memory type other than write-back.
    #[must_use]
    pub const fn has_cache_bits(self) -> bool {
        self.0 & Self::CACHE != 0
    }

    /// The bits of a present entry that a guest may not set at this level; zero when all is well.
    #[must_use]
    pub const fn forbidden_bits(self, level: Level) -> u64 {
        self.0
            & !match level {
                Level::L1 => Self::ALLOWED_L1,
                Level::L2 | Level::L3 | Level::L4 => Self::ALLOWED_UPPER,
            }
    }

    /// The entry as the processor gets it; see the module's rules. Idempotent.
    #[must_use]
    pub const fn adjusted(self, level: Level, globals: Globals) -> Self {
        if !self.is_present() {
            return self;
        }
        let mut bits = self.0;
        if matches!(level, Level::L1) {
            if bits & Self::USER == 0 {
                bits |= Self::GUEST_KERNEL;
            }
            bits &= !Self::GLOBAL;
            if bits & Self::GUEST_KERNEL == 0 && matches!(globals, Globals::UserMappings) {
                bits |= Self::GLOBAL;
            }
        }
        Self(bits | Self::USER)
    }

    /// Whether two present L1 entries hold the same references, so that one may replace the other
    /// without touching any count.
    #[must_use]
    pub const fn is_same_mapping(self, other: Self) -> bool {
        self.is_present() && (self.0 ^ other.0) & Self::IDENTITY_L1 == 0
    }

    /// The same entry without write permission.
    #[must_use]
    pub const fn read_only(self) -> Self {
        Self(self.0 & !Self::RW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL_RW: u64 = Pte::PRESENT | Pte::RW;

    #[test]
    fn kernel_mapping_is_marked_and_never_global() {
        let e = Pte::new(Mfn(0x1234), KERNEL_RW | Pte::GLOBAL)
            .adjusted(Level::L1, Globals::UserMappings);
        assert_eq!(
            e.0,
            0x1234 << 12 | KERNEL_RW | Pte::USER | Pte::GUEST_KERNEL
        );
        assert_eq!(
            e.adjusted(Level::L1, Globals::UserMappings),
            e,
            "a guest writes back what it read"
        );
    }

    #[test]
    fn user_mapping_is_global_unless_roots_are_split() {
        let e = Pte::new(Mfn(5), KERNEL_RW | Pte::USER);
        assert_eq!(
            e.adjusted(Level::L1, Globals::UserMappings).0,
            e.0 | Pte::GLOBAL
        );
        assert_eq!(e.adjusted(Level::L1, Globals::Nothing), e);
        let global = Pte(e.0 | Pte::GLOBAL);
        assert_eq!(global.adjusted(Level::L1, Globals::Nothing), e);
    }

    #[test]
    fn upper_entries_get_user_only() {
        let e = Pte::new(Mfn(5), KERNEL_RW);
        for level in [Level::L2, Level::L3, Level::L4] {
            assert_eq!(e.adjusted(level, Globals::UserMappings).0, e.0 | Pte::USER);
        }
    }

    #[test]
    fn absent_entry_is_stored_as_it_comes() {
        let swap = Pte(0xdead_beef_0000_07fe);
        assert_eq!(swap.adjusted(Level::L1, Globals::UserMappings), swap);
    }

    #[test]
    fn large_pages_and_upper_cache_bits_are_forbidden() {
        for level in [Level::L2, Level::L3, Level::L4] {
            for bit in [3, 4, 7, 8] {
                assert_eq!(Pte(1 | 1 << bit).forbidden_bits(level), 1 << bit);
            }
        }
        assert_eq!(
            Pte(!0).forbidden_bits(Level::L1),
            0,
            "an L1 entry has no reserved bit left"
        );
        assert_eq!(Pte(1 | 1 << 58 | Pte::NX).forbidden_bits(Level::L2), 0);
    }

    #[test]
    fn slots_of_an_address() {
        let va = (3 << 39) | (7 << 30) | (511 << 21) | (1 << 12) | 0x123;
        assert_eq!(Level::L4.slot(va), 3);
        assert_eq!(Level::L3.slot(va), 7);
        assert_eq!(Level::L2.slot(va), 511);
        assert_eq!(Level::L1.slot(va), 1);
        assert!(is_hypervisor_slot(256) && is_hypervisor_slot(271));
        assert!(!is_hypervisor_slot(255) && !is_hypervisor_slot(272));
    }
}
