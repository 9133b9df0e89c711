//! Arguments of calls whose request is a header and a union (domctl, sysctl, platform_op, mca).

use xen_abi::errno::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The alternative `T` of a union. Bytes that it does not use are whatever the caller's stack held.
///
/// # Errors
/// `EINVAL` if the union were smaller than `T`, which the layouts of the ABI exclude.
pub fn argument<T: FromBytes>(union: &[u64]) -> Result<T, Errno> {
    let read = T::read_from_prefix(union.as_bytes());
    read.map(|(value, _)| value).map_err(|_| Errno::EINVAL)
}

/// Puts an alternative back into its union.
///
/// # Errors
/// As [`argument`].
pub fn store<T: IntoBytes + Immutable>(union: &mut [u64], value: &T) -> Result<(), Errno> {
    value
        .write_to_prefix(union.as_mut_bytes())
        .map_err(|_| Errno::EINVAL)
}

/// Changes an alternative where it stands.
///
/// # Errors
/// Those of `change`; the union is unchanged then.
pub fn edit<T: FromBytes + IntoBytes + Immutable>(
    union: &mut [u64],
    change: impl FnOnce(&mut T) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut value = argument(union)?;
    change(&mut value)?;
    store(union, &value)
}
