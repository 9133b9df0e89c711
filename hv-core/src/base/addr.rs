//! Addresses and frame numbers, one type for each address space so that they cannot be mixed.

/// log2 of the page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a page.
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

/// Defines a transparent `u64` newtype with the derives that all of them share.
macro_rules! newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(pub u64);

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl core::fmt::LowerHex for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

newtype!(
    /// Machine frame number: a 4 KiB page of the real machine.
    Mfn
);
newtype!(
    /// Guest frame number: a 4 KiB page as the guest counts them.
    Gfn
);
newtype!(
    /// Machine physical address in bytes.
    PhysAddr
);
newtype!(
    /// Linear address in a guest's address space, not yet checked.
    GuestVa
);

impl Mfn {
    /// The ABI's "no frame" (`INVALID_MFN`).
    pub const INVALID: Self = Self(!0);

    /// Physical address of the frame's first byte.
    #[must_use]
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }
}

impl PhysAddr {
    /// The frame that holds this address.
    #[must_use]
    pub const fn mfn(self) -> Mfn {
        Mfn(self.0 >> PAGE_SHIFT)
    }

    /// Offset inside the frame, in bytes.
    #[must_use]
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }
}

impl GuestVa {
    /// Offset inside the page, in bytes.
    #[must_use]
    pub const fn offset(self) -> usize {
        (self.0 & (PAGE_SIZE as u64 - 1)) as usize
    }

    /// Whether bits 63..47 are all equal (4-level paging; AMD APM vol. 2, 5.1).
    #[must_use]
    pub const fn is_canonical(self) -> bool {
        let top = (self.0 as i64) >> 47;
        top == 0 || top == -1
    }
}
