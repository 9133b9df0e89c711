//! Storage of a domain's ports: buckets that appear as the guest uses higher numbers.

use alloc::boxed::Box;
use alloc::vec::Vec;

use spin::Once;
use xen_abi::errno::Errno;
use xen_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;

use super::PortNumber;
use super::port::Port;

/// Ports in a bucket.
pub(super) const BUCKET_PORTS: usize = 128;
/// Buckets in a group.
const GROUP_BUCKETS: usize = 32;
/// Groups in a table.
const GROUPS: usize = EVTCHN_FIFO_NR_CHANNELS as usize / BUCKET_PORTS / GROUP_BUCKETS;

type Bucket<D> = Once<Box<[Port<D>]>>;
type Group<D> = Once<Box<[Bucket<D>]>>;

/// The ports of a domain. Lookup takes no lock; buckets stay until the domain goes.
pub(super) struct PortTable<D> {
    groups: [Group<D>; GROUPS],
}

impl<D> PortTable<D> {
    /// A table without any port.
    pub const fn new() -> Self {
        Self {
            groups: [const { Once::new() }; GROUPS],
        }
    }

    /// The port of that number, if its bucket exists.
    pub fn get(&self, number: PortNumber) -> Option<&Port<D>> {
        let number = number as usize;
        let bucket = number / BUCKET_PORTS;
        self.groups
            .get(bucket / GROUP_BUCKETS)?
            .get()?
            .get(bucket % GROUP_BUCKETS)?
            .get()?
            .get(number % BUCKET_PORTS)
    }

    /// Makes a bucket exist.
    ///
    /// # Errors
    ///
    /// `ENOSPC` beyond the last bucket, `ENOMEM`.
    pub fn grow(&self, bucket: usize) -> Result<(), Errno> {
        let group = self
            .groups
            .get(bucket / GROUP_BUCKETS)
            .ok_or(Errno::ENOSPC)?
            .try_call_once(|| boxed(GROUP_BUCKETS, Once::new))?;
        group
            .get(bucket % GROUP_BUCKETS)
            .ok_or(Errno::ENOSPC)?
            .try_call_once(|| boxed(BUCKET_PORTS, Port::new))?;
        Ok(())
    }
}

/// A slice of `count` fresh elements.
///
/// # Errors
///
/// `ENOMEM`.
pub(super) fn boxed<T>(count: usize, make: impl FnMut() -> T) -> Result<Box<[T]>, Errno> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
    list.resize_with(count, make);
    Ok(list.into_boxed_slice())
}
