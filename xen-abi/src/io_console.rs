//! The console ring, shared live by a guest and its console backend (io/console.h).

use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::handle::zero_default;

/// The console page (io/console.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct XenconsInterface {
    /// Bytes typed, a ring.
    pub r#in: [u8; 1024],
    /// Bytes printed, a ring.
    pub out: [u8; 2048],
    /// Input read by the guest.
    pub in_cons: u32,
    /// Input written by the backend.
    pub in_prod: u32,
    /// Output read by the backend.
    pub out_cons: u32,
    /// Output written by the guest.
    pub out_prod: u32,
}

zero_default!(XenconsInterface);

/// Offset of the input ring (io/console.h).
pub const XENCONS_IN: usize = offset_of!(XenconsInterface, r#in);
/// Offset of the output ring (io/console.h).
pub const XENCONS_OUT: usize = offset_of!(XenconsInterface, out);
/// Size in bytes of the input ring, a power of two (io/console.h).
pub const XENCONS_IN_SIZE: usize = XENCONS_OUT - XENCONS_IN;
/// Size in bytes of the output ring, a power of two (io/console.h).
pub const XENCONS_OUT_SIZE: usize = XENCONS_IN_CONS - XENCONS_OUT;
/// Offset of `in_cons` (io/console.h); four bytes.
pub const XENCONS_IN_CONS: usize = offset_of!(XenconsInterface, in_cons);
/// Offset of `in_prod` (io/console.h); four bytes.
pub const XENCONS_IN_PROD: usize = offset_of!(XenconsInterface, in_prod);
/// Offset of `out_cons` (io/console.h); four bytes.
pub const XENCONS_OUT_CONS: usize = offset_of!(XenconsInterface, out_cons);
/// Offset of `out_prod` (io/console.h); four bytes.
pub const XENCONS_OUT_PROD: usize = offset_of!(XenconsInterface, out_prod);
