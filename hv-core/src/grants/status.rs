//! Outcome of one element of a grant operation (`GNTST_*`, grant_table.h).

use xen_abi::grant_table as abi;

/// Why an element failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// Anything without a status of its own.
    General,
    /// No such domain.
    BadDomain,
    /// No such grant reference, or nothing asked of it.
    BadGntref,
    /// No such mapping.
    BadHandle,
    /// The address to map at is unusable.
    BadVirtAddr,
    /// The bus address is not that of the mapping.
    BadDevAddr,
    /// The I/O MMU is full.
    NoDeviceSpace,
    /// The caller may not do this.
    PermissionDenied,
    /// The frame cannot be used this way.
    BadPage,
    /// A copy would cross a page boundary.
    BadCopyArg,
    /// The frame number does not fit.
    AddressTooBig,
    /// In use: try again.
    Eagain,
    /// No handle is free.
    NoSpace,
}

impl GrantError {
    /// The ABI's number for it.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::General => abi::GNTST_general_error,
            Self::BadDomain => abi::GNTST_bad_domain,
            Self::BadGntref => abi::GNTST_bad_gntref,
            Self::BadHandle => abi::GNTST_bad_handle,
            Self::BadVirtAddr => abi::GNTST_bad_virt_addr,
            Self::BadDevAddr => abi::GNTST_bad_dev_addr,
            Self::NoDeviceSpace => abi::GNTST_no_device_space,
            Self::PermissionDenied => abi::GNTST_permission_denied,
            Self::BadPage => abi::GNTST_bad_page,
            Self::BadCopyArg => abi::GNTST_bad_copy_arg,
            Self::AddressTooBig => abi::GNTST_address_too_big,
            Self::Eagain => abi::GNTST_eagain,
            Self::NoSpace => abi::GNTST_no_space,
        }
    }
}

/// The `status` field for an element's result: `GNTST_okay` or the error's number.
#[must_use]
pub const fn code<T>(result: &Result<T, GrantError>) -> i16 {
    match result {
        Ok(_) => abi::GNTST_okay,
        Err(error) => error.code(),
    }
}
