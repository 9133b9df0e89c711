//! Guest pointers as they stand in ABI structures (`XEN_GUEST_HANDLE`, arch-x86/xen.h).

use core::fmt;
use core::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A guest virtual address that the guest says points at one or more `T` (arch-x86/xen.h).
///
/// Holding one grants no access: it is eight bytes chosen by the guest.
#[repr(transparent)]
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct GuestHandle<T> {
    address: u64,
    pointee: PhantomData<T>,
}

impl<T> GuestHandle<T> {
    /// The null handle, by which many operations ask "how many would there be?".
    pub const NULL: Self = Self::new(0);

    /// Makes a handle of a guest virtual address.
    pub const fn new(address: u64) -> Self {
        Self {
            address,
            pointee: PhantomData,
        }
    }

    /// The guest virtual address, unchecked.
    pub const fn address(self) -> u64 {
        self.address
    }

    /// Whether the guest passed no buffer.
    pub const fn is_null(self) -> bool {
        self.address == 0
    }
}

// Written out because derives would ask the same of `T`, which is never touched.
impl<T> Clone for GuestHandle<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for GuestHandle<T> {}

impl<T> Default for GuestHandle<T> {
    fn default() -> Self {
        Self::NULL
    }
}

impl<T> PartialEq for GuestHandle<T> {
    fn eq(&self, other: &Self) -> bool {
        self.address == other.address
    }
}

impl<T> Eq for GuestHandle<T> {}

impl<T> fmt::Debug for GuestHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestHandle({:#x})", self.address)
    }
}

/// Gives a structure whose arrays are too long for a derived `Default` an all-zero one.
macro_rules! zero_default {
    ($name:ty) => {
        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}
pub(crate) use zero_default;
